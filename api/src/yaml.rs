//! YAML and JSON documents in and out: the only module that knows a YAML library.
//!
//! Reading is strict: duplicate keys, anchors that explode and non-string keys are refused with their place. Merge
//! keys (`<<`) are expanded and plain words mean what they mean to kubectl (`yes` is true). What is written reads the same with YAML 1.1 (kubectl) and 1.2: `y`,
//! `no`, `1:20` and the like are quoted.

mod older;
mod places;

pub use places::line_of;

use serde::Deserialize as _;
use serde_json::{Map, Number, Value};

/// Longest text that is read, in bytes: what calicoctl takes as one document.
pub const TEXT_LEN_MAX: usize = 10 * 1024 * 1024;

/// Up to here a float holds every whole number.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Text that is not a sequence of YAML or JSON documents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// The text is longer than [`TEXT_LEN_MAX`].
    #[error("the text has {0} bytes; at most {TEXT_LEN_MAX} are read: split it into several files")]
    TooLong(usize),
    /// A document cannot be read; the message says where.
    #[error("document {document}: {message}")]
    Document {
        /// Which document of the text, from 1.
        document: usize,
        /// What is wrong, with line and column.
        message: String,
    },
}

/// A value that could not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be written as YAML: {0}")]
pub struct WriteError(String);

/// Reads all documents of a text; empty ones are left out. JSON is YAML.
///
/// # Errors
/// The first document that cannot be read, or a text that is too long.
pub fn documents(text: &str) -> Result<Vec<Value>, YamlError> {
    if text.len() > TEXT_LEN_MAX {
        return Err(YamlError::TooLong(text.len()));
    }
    let mut documents = Vec::new();
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let failed = |error: serde_yaml::Error| YamlError::Document {
            document: index + 1,
            message: error.to_string(),
        };
        let mut value = serde_yaml::Value::deserialize(document).map_err(failed)?;
        value.apply_merge().map_err(failed)?;
        let value = to_json(value).map_err(|message| YamlError::Document {
            document: index + 1,
            message,
        })?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    older::reread(text, &mut documents);
    Ok(documents)
}

/// Reads a text that must hold one document.
///
/// # Errors
/// As [`documents`], or when there is none or more than one.
pub fn document(text: &str) -> Result<Value, YamlError> {
    let mut all = documents(text)?;
    match (all.pop(), all.is_empty()) {
        (Some(value), true) => Ok(value),
        (None, _) => Err(YamlError::Document {
            document: 1,
            message: "the text is empty; one document is expected".to_owned(),
        }),
        (Some(_), false) => Err(YamlError::Document {
            document: 2,
            message: "one document is expected, and there are more".to_owned(),
        }),
    }
}

/// Writes one document, keys in alphabetical order, with a line end.
///
/// # Errors
/// Only for values that YAML has no form for.
pub fn to_string(value: &Value) -> Result<String, WriteError> {
    let mut text = serde_saphyr::to_string(value).map_err(|error| WriteError(error.to_string()))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn to_json(value: serde_yaml::Value) -> Result<Value, String> {
    Ok(match value {
        serde_yaml::Value::Null => Value::Null,
        serde_yaml::Value::Bool(value) => Value::Bool(value),
        serde_yaml::Value::Number(number) => Value::Number(number_to_json(&number)?),
        serde_yaml::Value::String(text) => Value::String(text),
        serde_yaml::Value::Sequence(items) => {
            Value::Array(items.into_iter().map(to_json).collect::<Result<_, _>>()?)
        }
        serde_yaml::Value::Mapping(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                let key = key_to_json(key)?;
                map.insert(key, to_json(value)?);
            }
            Value::Object(map)
        }
        serde_yaml::Value::Tagged(tagged) => {
            return Err(format!("the tag {} has no meaning here; remove it", tagged.tag));
        }
    })
}

fn number_to_json(number: &serde_yaml::Number) -> Result<Number, String> {
    if let Some(value) = number.as_u64() {
        return Ok(value.into());
    }
    if let Some(value) = number.as_i64() {
        return Ok(value.into());
    }
    number
        .as_f64()
        .and_then(float_to_json)
        .ok_or_else(|| format!("{number} is no number that JSON has; write a finite one"))
}

/// A float as JSON; 1e3 is 1000 in the JSON that kubectl sends.
fn float_to_json(float: f64) -> Option<Number> {
    if float.fract() == 0.0 && float.abs() < WHOLE_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
        return Some((float as i64).into());
    }
    Number::from_f64(float)
}

fn key_to_json(key: serde_yaml::Value) -> Result<String, String> {
    match key {
        serde_yaml::Value::String(text) => Ok(text),
        serde_yaml::Value::Bool(value) => Ok(value.to_string()),
        serde_yaml::Value::Number(number) => Ok(number.to_string()),
        serde_yaml::Value::Null
        | serde_yaml::Value::Sequence(_)
        | serde_yaml::Value::Mapping(_)
        | serde_yaml::Value::Tagged(_) => Err("a key must be a plain text; quote it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_split_and_empty_ones_left_out() {
        let text = "---\na: 1\n---\n# nothing\n---\n{\"b\": [true, null]}\n";
        assert_eq!(
            documents(text).unwrap(),
            [json!({"a": 1}), json!({"b": [true, null]})]
        );
        assert_eq!(documents("").unwrap(), Vec::<Value>::new());
    }

    #[test]
    fn merge_keys_are_expanded() {
        let text = "base: &base {x: 1, y: 2}\nderived: {<<: *base, y: 3}\n";
        assert_eq!(document(text).unwrap()["derived"], json!({"x": 1, "y": 3}));
    }

    #[test]
    fn what_is_ambiguous_or_hostile_is_refused_with_its_place() {
        let bomb = (1..12).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
            let last = n - 1;
            format!(
                "{text}a{n}: &a{n} [{}]\n",
                vec![format!("*a{last}"); 12].join(",")
            )
        });
        for (text, part) in [
            ("a: 1\na: 2\n", "duplicate"),
            ("a: [1\n", "line"),
            ("? [1, 2]\n: 3\n", "key"),
            ("a: !secret 1\n", "tag"),
            (bomb.as_str(), "limit"),
        ] {
            let message = documents(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text:.40}: {message}");
        }
    }

    #[test]
    fn texts_that_older_readers_take_for_something_else_are_quoted() {
        for text in [
            "y", "no", "on", "1:20", "null", "0777", "1e3", "~", "", "a: b", "- x", "#x", " x", "x ", "*a",
            "&a", "true",
        ] {
            let written = to_string(&json!({"label": text})).unwrap();
            assert!(
                written.contains('"') || written.contains('\''),
                "{text:?} is written as {written}"
            );
            assert_eq!(document(&written).unwrap(), json!({"label": text}), "{written}");
        }
    }

    #[test]
    fn plain_words_mean_what_they_mean_to_kubectl_and_quoted_ones_are_texts() {
        let text = "a: yes\nb: \"yes\"\nc: [Off, 'off', 0777, '0777', 1_000, 0o17]\nd: {n: 1:20, e: 'no', f: nope}\n---\ng: y\n";
        assert_eq!(
            documents(text).unwrap(),
            [
                json!({"a": true, "b": "yes", "c": [false, "off", 511, "0777", 1000, 15],
                    "d": {"n": "1:20", "e": "no", "f": "nope"}}),
                json!({"g": true})
            ]
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        let value =
            json!({"a": {"b": [1, 2.5, -3, "x\ny", {"c": null}], "empty": {}, "none": []}, "t": true});
        assert_eq!(document(&to_string(&value).unwrap()).unwrap(), value);
    }
}

//! Reading typed fields of a JSON document, with errors that name the path, the value and what would be right.
//!
//! A missing field and `null` are the same. Unknown fields are the business of whoever wrote them: a configuration
//! is shared by several plugins.

use serde_json::{Map, Value};

use crate::error::{Code, Error, Result};

/// Longest piece of a wrong value that an error shows.
const SHOWN_LEN_MAX: usize = 80;

/// An object of a document and the path to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    path: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The root of a document.
    pub(crate) fn root(map: &'a Map<String, Value>) -> Self {
        Self { path: "", map }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            return key.to_owned();
        }
        format!("{}.{key}", self.path)
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// True when the field is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The error for a field that has a wrong value.
    pub(crate) fn wrong(&self, key: &str, right: &str) -> Error {
        let value = self.get(key).map(shown).unwrap_or_default();
        Error::new(
            Code::InvalidConfig,
            format!("network configuration: {} is {value}", self.path_of(key)),
        )
        .hint(format!("write {right}"))
    }

    /// A text; empty when missing.
    pub(crate) fn text(&self, key: &str) -> Result<String> {
        match self.get(key) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(self.wrong(key, "a string")),
        }
    }

    /// A truth value; false when missing.
    pub(crate) fn flag(&self, key: &str) -> Result<bool> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// A truth value in Calico's form, the strings `"true"` and `"false"`; plain truth values are taken too.
    pub(crate) fn text_flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text.is_empty() => Ok(default),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            Some(_) => Err(self.wrong(key, "\"true\" or \"false\"")),
        }
    }

    /// A whole number in a range; `None` when missing.
    pub(crate) fn number(&self, key: &str, min: u64, max: u64) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = value.as_u64().filter(|number| (min..=max).contains(number));
        number
            .map(Some)
            .ok_or_else(|| self.wrong(key, &format!("a whole number from {min} to {max}")))
    }

    /// A list of texts; empty when missing.
    pub(crate) fn texts(&self, key: &str) -> Result<Vec<String>> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let texts = value.as_array().and_then(|values| {
            let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<String>>>()
        });
        texts.ok_or_else(|| self.wrong(key, "a list of strings"))
    }

    /// Runs a reader over an object field; over an empty one when missing.
    pub(crate) fn object<T>(&self, key: &str, read: impl FnOnce(Fields<'_>) -> Result<T>) -> Result<T> {
        let path = self.path_of(key);
        match self.get(key) {
            None => read(Fields {
                path: &path,
                map: &Map::new(),
            }),
            Some(Value::Object(map)) => read(Fields { path: &path, map }),
            Some(_) => Err(self.wrong(key, "an object, { … }")),
        }
    }

    /// Runs a reader over each object of a list; an empty list when missing.
    pub(crate) fn objects<T>(
        &self,
        key: &str,
        mut read: impl FnMut(Fields<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let values = match self.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(_) => return Err(self.wrong(key, "a list of objects")),
        };
        let mut items = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(key));
            let Value::Object(map) = value else {
                return Err(self.wrong(key, "a list of objects"));
            };
            items.push(read(Fields { path: &path, map })?);
        }
        Ok(items)
    }

    /// A text parsed into a type; `None` when missing or empty.
    pub(crate) fn parsed<T: std::str::FromStr>(&self, key: &str, right: &str) -> Result<Option<T>> {
        let text = match self.get(key) {
            None => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => text,
            Some(_) => return Err(self.wrong(key, right)),
        };
        text.parse().map(Some).map_err(|_| self.wrong(key, right))
    }
}

/// A value, short enough to be read.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let mut end = text.len().min(SHOWN_LEN_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    match text.get(..end) {
        Some(start) if start.len() < text.len() => format!("{start}…"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with<T>(document: Value, read: impl FnOnce(Fields<'_>) -> T) -> T {
        let Value::Object(map) = document else {
            panic!("an object");
        };
        read(Fields::root(&map))
    }

    #[test]
    fn errors_name_path_value_and_remedy() {
        let document = json!({"ipam": {"pools": ["a", 1]}, "ips": [{}, {"address": "10.0.0.1/33"}]});
        let error = with(document.clone(), |root| {
            root.object("ipam", |ipam| ipam.texts("pools"))
        })
        .unwrap_err();
        assert_eq!(error.message, "network configuration: ipam.pools is [\"a\",1]");
        assert_eq!(error.details, "write a list of strings");
        let error = with(document, |root| {
            root.objects("ips", |ip| {
                ip.parsed::<ipnet::IpNet>("address", "an address with a mask")
            })
        })
        .unwrap_err();
        assert_eq!(
            error.message,
            "network configuration: ips[1].address is \"10.0.0.1/33\""
        );
    }

    #[test]
    fn missing_and_null_are_the_same() {
        for document in [json!({}), json!({"x": null})] {
            with(document, |root| {
                assert_eq!(root.text("x").unwrap(), "");
                assert!(!root.flag("x").unwrap());
                assert!(root.text_flag("x", true).unwrap());
                assert_eq!(root.number("x", 0, 9).unwrap(), None);
                assert!(root.texts("x").unwrap().is_empty());
                assert!(root.object("x", |x| x.flag("y")).is_ok());
                assert!(root.objects("x", |_| Ok(())).unwrap().is_empty());
            });
        }
    }

    #[test]
    fn truth_in_calico_form_is_text() {
        let read = |value: Value| with(json!({"x": value}), |root| root.text_flag("x", true));
        assert!(!read(json!("false")).unwrap());
        assert!(read(json!("true")).unwrap());
        assert!(!read(json!(false)).unwrap());
        assert!(read(json!("yes")).is_err());
        assert!(read(json!(0)).is_err());
    }

    #[test]
    fn numbers_have_a_range() {
        let read = |value: Value| with(json!({"x": value}), |root| root.number("x", 68, 65535));
        assert_eq!(read(json!(1500)).unwrap(), Some(1500));
        for bad in [json!(67), json!(65536), json!(-1), json!(1.5), json!("1500")] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn long_values_are_cut() {
        let error = with(json!({"x": ["ä".repeat(500)]}), |root| root.text("x")).unwrap_err();
        assert!(error.message.len() < 200, "{error}");
    }
}

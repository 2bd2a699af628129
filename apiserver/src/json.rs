//! Bodies as values: JSON with the fields that are there twice, and YAML.
//!
//! Owns the wording of what cannot be read. Source: the strict JSON decoding of Kubernetes.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How much of a body refusals show.
const SHOWN_MAX: usize = 30;

/// A body as a value, and the paths of fields that it holds more than once (the last one counts).
pub(crate) fn read(body: &[u8]) -> Result<(Value, Vec<String>), serde_json::Error> {
    let mut twice = Vec::new();
    let mut path = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let seed = Seed {
        path: &mut path,
        twice: &mut twice,
    };
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, twice))
}

/// The start of a body, as refusals show it.
pub(crate) fn summary(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    match text.char_indices().nth(SHOWN_MAX) {
        _ if text.is_empty() => "<empty>".to_owned(),
        None => text.into_owned(),
        Some((end, _)) => format!("{} ...", text.get(..end).unwrap_or_default()),
    }
}

/// What is wrong with a body, as Kubernetes says it where that says the same.
pub(crate) fn worded(error: &serde_json::Error) -> String {
    if error.is_eof() {
        "unexpected end of JSON input".to_owned()
    } else {
        error.to_string()
    }
}

/// JSON as Kubernetes prints it within messages: characters of markup are escaped.
pub(crate) fn shown(value: &Value) -> String {
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

enum Step {
    Field(String),
    Item(usize),
}

struct Seed<'a> {
    path: &'a mut Vec<Step>,
    twice: &'a mut Vec<String>,
}

fn shown_path(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Field(name) if text.is_empty() => text.clone_from(name),
            Step::Field(name) => text = format!("{text}.{name}"),
            Step::Item(index) => text = format!("{text}[{index}]"),
        }
    }
    text
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, found: bool) -> Result<Value, E> {
        Ok(found.into())
    }

    fn visit_i64<E>(self, found: i64) -> Result<Value, E> {
        Ok(found.into())
    }

    fn visit_u64<E>(self, found: u64) -> Result<Value, E> {
        Ok(found.into())
    }

    fn visit_f64<E: serde::de::Error>(self, found: f64) -> Result<Value, E> {
        Number::from_f64(found)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, found: &str) -> Result<Value, E> {
        Ok(found.into())
    }

    fn visit_string<E>(self, found: String) -> Result<Value, E> {
        Ok(found.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let Self { path, twice } = self;
        let mut list = Vec::new();
        loop {
            path.push(Step::Item(list.len()));
            let seed = Seed {
                path: &mut *path,
                twice: &mut *twice,
            };
            let item = items.next_element_seed(seed)?;
            path.pop();
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let Self { path, twice } = self;
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            path.push(Step::Field(name.clone()));
            if map.contains_key(&name) {
                twice.push(shown_path(path));
            }
            let seed = Seed {
                path: &mut *path,
                twice: &mut *twice,
            };
            let value = entries.next_value_seed(seed)?;
            path.pop();
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_equal_fields_counts_and_all_are_named() {
        let (value, twice) = read(br#"{"a": {"b": [{"c": 1, "c": 2}]}, "a2": 1.5, "a2": null}"#).unwrap();
        assert_eq!(value, serde_json::json!({"a": {"b": [{"c": 2}]}, "a2": null}));
        assert_eq!(twice, ["a.b[0].c", "a2"]);
        assert!(read(b"{} x").is_err() && read(b"").is_err());
        let deep = "[".repeat(100_000);
        assert!(read(deep.as_bytes()).is_err());
        assert_eq!(summary(b""), "<empty>");
        assert_eq!(summary(&[b'x'; 31]), format!("{} ...", "x".repeat(30)));
    }
}

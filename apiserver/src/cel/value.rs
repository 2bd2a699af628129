//! From JSON to the values of CEL, typed by the schema as Kubernetes types them.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use kube_cel::cel::Value as CelValue;
use kube_cel::cel::objects::{Key, Map};
use serde_json::{Number, Value};

/// Words of the language; fields of that name are written `__name__` in rules.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// How rules write the name of a field.
pub(super) fn escaped(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}

fn is_map(schema: Option<&Value>) -> bool {
    schema
        .and_then(|schema| schema.get("additionalProperties"))
        .is_some_and(|below| *below != Value::Bool(false))
}

/// The value of CEL. Of the metadata of a root, rules see the names only.
pub(super) fn of(value: &Value, schema: Option<&Value>, root: bool) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(flag) => CelValue::Bool(*flag),
        Value::Number(found) => number(found, schema),
        Value::String(found) => string(found, schema),
        Value::Array(items) => {
            let below = schema.and_then(|schema| schema.get("items"));
            CelValue::List(Arc::new(
                items.iter().map(|item| of(item, below, false)).collect(),
            ))
        }
        Value::Object(fields) => {
            let keys_are_data = is_map(schema);
            let property = |name: &str| schema?.get("properties")?.get(name);
            let other = || {
                schema?
                    .get("additionalProperties")
                    .filter(|below| below.is_object())
            };
            let mut map = HashMap::with_capacity(fields.len());
            for (name, value) in fields {
                let converted = if root && name == "metadata" {
                    names_of(value)
                } else {
                    of(value, property(name).or_else(other), false)
                };
                let key = if keys_are_data {
                    name.clone()
                } else {
                    escaped(name)
                };
                map.insert(Key::String(Arc::new(key)), converted);
            }
            CelValue::Map(Map { map: Arc::new(map) })
        }
    }
}

fn names_of(metadata: &Value) -> CelValue {
    let mut map = HashMap::new();
    for key in ["name", "generateName"] {
        if let Some(name) = metadata.get(key) {
            map.insert(Key::String(Arc::new(key.to_owned())), of(name, None, false));
        }
    }
    CelValue::Map(Map { map: Arc::new(map) })
}

fn number(found: &Number, schema: Option<&Value>) -> CelValue {
    let kind = schema
        .and_then(|schema| schema.get("type"))
        .and_then(Value::as_str);
    let float = found.as_f64().unwrap_or(f64::NAN);
    if kind == Some("number") {
        return CelValue::Float(float);
    }
    match (found.as_i64(), found.as_u64()) {
        (Some(number), _) => CelValue::Int(number),
        (None, Some(number)) => CelValue::UInt(number),
        #[expect(clippy::cast_possible_truncation, reason = "it has no fraction and fits")]
        (None, None) if kind == Some("integer") && float.fract() == 0.0 && float.abs() < 9e18 => {
            CelValue::Int(float as i64)
        }
        (None, None) => CelValue::Float(float),
    }
}

fn string(found: &str, schema: Option<&Value>) -> CelValue {
    let format = schema
        .and_then(|schema| schema.get("format"))
        .and_then(Value::as_str);
    let typed = match format {
        Some("date-time" | "datetime") => chrono_time(found),
        Some("duration") => chrono_duration(found),
        Some("byte") => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(found);
            decoded.ok().map(|bytes| CelValue::Bytes(Arc::new(bytes)))
        }
        _ => None,
    };
    typed.unwrap_or_else(|| CelValue::String(Arc::new(found.to_owned())))
}

/// Times and durations are made by the language itself, from their text.
fn chrono_time(found: &str) -> Option<CelValue> {
    super::expression::constant("timestamp", found)
}

fn chrono_duration(found: &str) -> Option<CelValue> {
    super::expression::constant("duration", found)
}

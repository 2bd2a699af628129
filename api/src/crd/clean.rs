//! From what a Rust type's derive says to what a structural schema may say.

use serde_json::{Map, Value};

/// Cleans a schema and what is below it. `name` is the property that the schema is of.
pub(super) fn schema(schema: &mut Value, name: &str) {
    let Value::Object(schema) = schema else { return };
    keywords(schema);
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for (property, schema) in properties {
            self::schema(schema, property);
        }
    }
    for below in ["items", "additionalProperties"] {
        if let Some(schema) = schema.get_mut(below) {
            self::schema(schema, below);
        }
    }
    // The only list with holes: a free address has no attributes.
    if name == "allocations"
        && let Some(Value::Object(items)) = schema.get_mut("items")
    {
        items.insert("nullable".to_owned(), Value::Bool(true));
    }
}

fn keywords(schema: &mut Map<String, Value>) {
    schema.remove("nullable");
    schema.remove("title");
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    // Empty defaults come from the Rust types; wanted ones are written at the field and are never empty.
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(value) => value.is_empty(),
        Value::Array(value) => value.is_empty(),
        Value::Object(value) => value.is_empty(),
        Value::Number(_) => false,
    };
    if schema.get("default").is_some_and(is_empty) {
        schema.remove("default");
    }
    if schema.contains_key("x-kubernetes-int-or-string") {
        schema.remove("anyOf");
    }
    match schema.get("format").and_then(Value::as_str) {
        Some("uint64") => drop(schema.insert("format".to_owned(), "int64".into())),
        Some("uint8" | "uint16" | "uint32" | "double") => drop(schema.remove("format")),
        _ => {}
    }
}

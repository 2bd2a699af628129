//! Values of built-in kinds whose type is another one, worded as the decoder of Kubernetes words them.

use serde_json::Value;

use super::{flag, has_type, join, schema_of};
use crate::builtin::resolve;

/// A value whose type is not the one that a built-in kind has there, as Kubernetes words it.
pub(crate) fn mistyped(value: &Value, schema: &Value, owner: &str, path: &str) -> Option<String> {
    let (owner, schema) = match referenced(schema) {
        Some(name) => (name, resolve(schema)),
        None => (owner.to_owned(), schema),
    };
    // Kubernetes decodes null as absent, and quantities from any number.
    if value.is_null() || value.is_number() && flag(schema, "x-kubernetes-int-or-string") {
        return None;
    }
    match value {
        _ if !has_type(value, schema) => Some(go_type(schema)).map(|wanted| {
            let found = match value {
                Value::Bool(_) => "bool",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) | Value::Null => "object",
            };
            format!("json: cannot unmarshal {found} into Go struct field {path} of type {wanted}")
        }),
        Value::Object(fields) => fields.iter().find_map(|(name, below)| {
            let property = schema.get("properties").and_then(|all| all.get(name));
            match property {
                Some(property) => {
                    let steps = path.split_once('.').map_or("", |(_, steps)| steps);
                    let steps = join(steps, name);
                    typed(below, property, &owner, &format!("{owner}.{steps}"))
                }
                // Keys of maps are data: the place is the map.
                None => mistyped(below, schema_of(schema, name)??, &owner, path),
            }
        }),
        Value::Array(items) => {
            let schema = schema.get("items")?;
            items.iter().find_map(|item| typed(item, schema, &owner, path))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// As `mistyped`; the type of a reference is named by it.
fn typed(value: &Value, schema: &Value, owner: &str, path: &str) -> Option<String> {
    let found = mistyped(value, schema, owner, path)?;
    match (referenced(schema), found.strip_suffix(" of type struct")) {
        (Some(name), Some(text)) => Some(format!("{text} of type v1.{name}")),
        _ => Some(found),
    }
}

/// The last part of the name that a schema refers to.
fn referenced(schema: &Value) -> Option<String> {
    let reference = schema
        .get("$ref")
        .or_else(|| schema.pointer("/allOf/0/$ref"))?
        .as_str()?;
    reference.rsplit('.').next().map(str::to_owned)
}

fn go_type(schema: &Value) -> String {
    let below = |key: &str| {
        let schema = schema.get(key).filter(|schema| schema.is_object());
        schema.map_or_else(
            || "interface {}".to_owned(),
            |schema| referenced(schema).map_or_else(|| go_type(schema), |name| format!("v1.{name}")),
        )
    };
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    match (text("type"), text("format")) {
        ("integer", "") => "int64".to_owned(),
        ("integer", format) => format.to_owned(),
        ("number", _) => "float64".to_owned(),
        ("boolean", _) => "bool".to_owned(),
        ("string", _) => "string".to_owned(),
        ("array", _) => format!("[]{}", below("items")),
        ("object", _) if schema.get("additionalProperties").is_some() => {
            format!("map[string]{}", below("additionalProperties"))
        }
        _ => "struct".to_owned(),
    }
}

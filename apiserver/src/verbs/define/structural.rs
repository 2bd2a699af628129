//! Whether a schema is structural: every value has a type, and none is described twice in ways that differ.
//!
//! Source: the structural schema rules of Kubernetes (KEP-1002).

use serde_json::Value;

use crate::status::FieldError;

const DEPTH_MAX: usize = 256;
/// Which part of its parent a schema describes.
#[derive(Clone, Copy)]
enum Part {
    Root,
    Field,
    Item,
    Value,
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).is_some_and(|set| set == true)
}

/// What keeps a schema from being structural.
pub(super) fn faults(schema: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(schema, path, Part::Root, 0, &mut errors);
    errors
}

fn walk(schema: &Value, path: &str, part: Part, depth: usize, errors: &mut Vec<FieldError>) {
    if depth > DEPTH_MAX {
        errors.push(FieldError::forbidden(path, "schemas may not be nested that deep"));
        return;
    }
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    let untyped =
        flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
    let at = |key: &str| format!("{path}.{key}");
    match (kind, part) {
        ("object", Part::Root) => {}
        ("", Part::Root) => errors.push(FieldError::required(&at("type"), "must not be empty at the root")),
        (found, Part::Root) => {
            errors.push(FieldError::invalid(
                &at("type"),
                &found.into(),
                "must be object at the root",
            ));
        }
        ("", _) if untyped => {}
        ("", Part::Field) => {
            errors.push(FieldError::required(
                &at("type"),
                "must not be empty for specified object fields",
            ));
        }
        ("", Part::Item) => {
            errors.push(FieldError::required(
                &at("type"),
                "must not be empty for specified array items",
            ));
        }
        ("", Part::Value) => {
            errors.push(FieldError::required(
                &at("type"),
                "must not be empty for specified object fields",
            ));
        }
        ("array" | "boolean" | "integer" | "number" | "object" | "string", _) => {}
        (found, _) => {
            let known = ["array", "boolean", "integer", "number", "object", "string"].map(str::to_owned);
            errors.push(FieldError::not_supported(&at("type"), &found.into(), &known));
        }
    }
    if kind == "array" && schema.get("items").is_none() {
        errors.push(FieldError::required(&at("items"), "must be specified"));
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    let values = schema
        .get("additionalProperties")
        .filter(|values| values.is_object());
    if properties.is_some_and(|all| !all.is_empty()) && values.is_some() {
        let why = "additionalProperties and properties are mutual exclusive";
        errors.push(FieldError::forbidden(&at("additionalProperties"), why));
    }
    for (name, below) in properties.into_iter().flatten() {
        // What every object has is not the definition's to describe.
        if matches!(part, Part::Root) && name == "metadata" {
            continue;
        }
        walk(
            below,
            &format!("{path}.properties[{name}]"),
            Part::Field,
            depth + 1,
            errors,
        );
    }
    if let Some(items) = schema.get("items") {
        walk(items, &at("items"), Part::Item, depth + 1, errors);
    }
    if let Some(values) = values {
        walk(
            values,
            &at("additionalProperties"),
            Part::Value,
            depth + 1,
            errors,
        );
    }
}

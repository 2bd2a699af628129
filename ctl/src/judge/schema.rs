//! What every object has beside its kind's own fields: metadata; and the defaults of a kind's schema.

use caracal_api::validate::{FieldError, Layer, NO_FIELD, remedy_of_unknown};
use serde_json::Value;

/// Metadata that Kubernetes gives to every object.
const METADATA: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// What is wrong with the metadata of an object.
pub(super) fn metadata(value: &Value, findings: &mut Vec<FieldError>) {
    let Value::Object(fields) = value else {
        findings.push(finding(
            "metadata",
            value,
            "is no object",
            "write it as name: NAME",
        ));
        return;
    };
    for (name, value) in fields {
        let path = join("metadata", name);
        if !METADATA.contains(&name.as_str()) {
            findings.push(unknown(&path, METADATA.iter().copied()));
            continue;
        }
        if matches!(name.as_str(), "labels" | "annotations") {
            for (key, value) in value.as_object().into_iter().flatten() {
                if !value.is_string() {
                    let path = join(&path, key);
                    findings.push(finding(&path, value, "is no text", "put it in quotes"));
                }
            }
        }
    }
}

/// Gives absent fields their default.
pub(super) fn fill_in(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, schema) in properties.into_iter().flatten() {
                if let (None, Some(default)) = (fields.get(name), schema.get("default")) {
                    fields.insert(name.clone(), default.clone());
                }
                if let Some(value) = fields.get_mut(name) {
                    fill_in(value, schema);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| fill_in(item, schema));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The path of a field.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        return name.to_owned();
    }
    format!("{path}.{name}")
}

/// The finding about a field that is none.
pub(super) fn unknown<'a>(path: &str, known: impl Iterator<Item = &'a str>) -> FieldError {
    let name = path.rsplit('.').next().unwrap_or(path);
    FieldError {
        layer: Layer::Schema,
        field: path.to_owned(),
        value: String::new(),
        problem: NO_FIELD.to_owned(),
        remedy: remedy_of_unknown(name, known),
    }
}

fn finding(path: &str, value: &Value, problem: &str, remedy: &str) -> FieldError {
    FieldError {
        layer: Layer::Schema,
        field: path.to_owned(),
        value: value.to_string(),
        problem: problem.to_owned(),
        remedy: remedy.to_owned(),
    }
}

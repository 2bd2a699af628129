//! Whether an object is one that a server would take, before it is sent: fields and types by the schema of its kind,
//! values by the checks of the resource model.

mod schema;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use caracal_api::admission::{self, Operation};
use caracal_api::crd;
use caracal_api::kinds::{Kind, Storage};
use caracal_api::validate::{self, FieldError};
use caracal_api::virtual_::{node, profile, workload_endpoint};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::input::Resource;

/// The schemas of all kinds that are stored.
static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let definitions = crd::all().into_iter().filter_map(|definition| {
        let kind = definition.spec.names.kind;
        let version = definition.spec.versions.into_iter().next()?;
        let schema = version.schema?.open_api_v3_schema?;
        Some((kind, serde_json::to_value(schema).ok()?))
    });
    definitions.collect()
});

/// The schema of a kind, if it is stored.
pub(crate) fn schema_of(kind: &str) -> Option<&'static Value> {
    SCHEMAS.get(kind)
}

/// Fills in what a server would: by its admission policies, and the defaults of the schema.
pub(crate) fn fill_in(kind: &Kind, object: &mut Value, is_new: bool) {
    let operation = if is_new {
        Operation::Create
    } else {
        Operation::Update
    };
    admission::mutate(operation, object);
    if let Some(schema) = schema_of(kind.kind) {
        schema::fill_in(object, schema);
    }
}

/// Everything that is wrong with an object.
pub(crate) fn findings(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut findings = Vec::new();
    schema::metadata(object.get("metadata").unwrap_or(&Value::Null), &mut findings);
    match (kind.storage, kind.kind) {
        (Storage::CustomResource, _) => findings.extend(validate::manifest(object)),
        (Storage::Derived, "Node") => findings.extend(by_type::<node::Node>(object)),
        (Storage::Derived, "Profile") => findings.extend(by_type::<profile::Profile>(object)),
        (Storage::Derived, _) => findings.extend(by_type::<workload_endpoint::WorkloadEndpoint>(object)),
    }
    findings
}

/// What is wrong with a resource of a file, as calicoctl lists fields.
pub(crate) fn refusal(resource: &Resource) -> Option<String> {
    refusal_of(resource.kind, &resource.object)
}

/// What is wrong with an object that is in no file.
pub(crate) fn refusal_of(kind: &Kind, object: &Value) -> Option<String> {
    text(&findings(kind, object), |_| String::new())
}

/// The same as [`refusal`] with the place of each field in its file.
pub(crate) fn refusal_with_places(resource: &Resource) -> Option<String> {
    text(&findings(resource.kind, &resource.object), |field| {
        format!("{}: ", resource.origin.of_field(field))
    })
}

fn text(findings: &[FieldError], place: impl Fn(&str) -> String) -> Option<String> {
    let one = |finding: &FieldError| {
        let unknown = finding.problem == validate::NO_FIELD;
        if unknown {
            return format!(
                "field in document is not recognized or is in the wrong location: {} ({})",
                finding.field, finding.remedy
            );
        }
        format!(
            "{} = '{}' ({}; {})",
            finding.field,
            finding.value.trim_matches('"'),
            finding.problem,
            finding.remedy
        )
    };
    match findings {
        [] => None,
        [finding] if finding.problem == validate::NO_FIELD => {
            Some(format!("{}{}", place(&finding.field), one(finding)))
        }
        [finding] => Some(format!(
            "{}error with field {}",
            place(&finding.field),
            one(finding)
        )),
        several => Some(
            several
                .iter()
                .fold("error with the following fields:".to_owned(), |text, finding| {
                    format!("{text}\n-  {}{}", place(&finding.field), one(finding))
                }),
        ),
    }
}

/// Checks an object that has no schema by reading and writing it: what is lost on the way is no field.
fn by_type<T: DeserializeOwned + Serialize>(object: &Value) -> Vec<FieldError> {
    let mut object = object.clone();
    if let Value::Object(map) = &mut object {
        map.remove("apiVersion");
        map.remove("kind");
        map.remove("status");
        map.entry("spec").or_insert_with(|| serde_json::json!({}));
    }
    match serde_json::from_value::<T>(object.clone()) {
        Ok(typed) => lost_fields(&object, &typed),
        Err(error) => vec![unreadable(error.to_string())],
    }
}

/// What of an object got lost when it was read as its type.
pub(crate) fn lost_fields<T: Serialize>(object: &Value, typed: &T) -> Vec<FieldError> {
    let mut findings = Vec::new();
    match serde_json::to_value(typed) {
        Ok(known) => lost(object, &known, "", &mut findings),
        Err(error) => findings.push(unreadable(error.to_string())),
    }
    findings
}

fn unreadable(problem: String) -> FieldError {
    FieldError {
        layer: validate::Layer::Schema,
        field: "spec".to_owned(),
        value: String::new(),
        problem,
        remedy: "correct the field that it names".to_owned(),
    }
}

fn lost(given: &Value, known: &Value, path: &str, findings: &mut Vec<FieldError>) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (key, value) in given {
                let path = schema::join(path, key);
                match known.get(key) {
                    Some(known) => lost(value, known, &path, findings),
                    // What is empty is not written, whether it is a field or not.
                    None if is_empty(value) => {}
                    None => findings.push(schema::unknown(&path, known.keys().map(String::as_str))),
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (index, (given, known)) in given.iter().zip(known).enumerate() {
                lost(given, known, &format!("{path}[{index}]"), findings);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_api::kinds;
    use serde_json::json;

    fn problems(object: &Value) -> Vec<String> {
        let kind = kinds::of_manifest(object["kind"].as_str().unwrap()).unwrap();
        findings(kind, object)
            .iter()
            .map(|finding| format!("{}: {}", finding.field, finding.problem))
            .collect()
    }

    #[test]
    fn nodes_are_judged_by_their_type() {
        let node = |spec: Value| json!({"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": "n"}, "spec": spec});
        assert_eq!(
            problems(&node(
                json!({"bgp": {"ipv4Address": "10.0.0.1/24", "asNumber": 64512}})
            )),
            Vec::<String>::new()
        );
        assert_eq!(
            problems(&node(json!({"bgp": {"ipv4Adress": "10.0.0.1/24"}}))),
            ["spec.bgp.ipv4Adress: is not a field"]
        );
        assert!(problems(&node(json!({"bgp": {"asNumber": [1]}})))[0].starts_with("spec: "));
    }

    #[test]
    fn metadata_shape_and_values_are_judged() {
        let pool = |metadata: Value, spec: Value| json!({"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": metadata, "spec": spec});
        assert_eq!(
            problems(&pool(
                json!({"name": "p", "lables": {}, "labels": {"a": 1}}),
                json!({"cidr": "10.0.0.1/16", "natOutgoin": true})
            )),
            [
                "metadata.labels.a: is no text",
                "metadata.lables: is not a field",
                "spec.natOutgoin: is not a field"
            ]
        );
    }
}

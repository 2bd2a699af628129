//! What the server fills in and checks of built-in kinds.
//!
//! Defaults of Kubernetes that clients see. What Calico's admission policies do is `caracal_api::admission`.

mod meta;
mod network;
mod workloads;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::resource::Resource;
use crate::status::FieldError;

/// The data of a configuration together, in bytes.
const DATA_MAX: usize = 1 << 20;

/// The object at `key`, made when it is not one.
fn object<'a>(value: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let slot = value.entry(key).or_insert_with(|| json!({}));
    if !slot.is_object() {
        *slot = json!({});
    }
    #[expect(clippy::expect_used, reason = "the lines above made it an object")]
    slot.as_object_mut().expect("an object")
}

/// What was given as text becomes data.
fn secret(value: &mut Map<String, Value>) {
    fill(value, "type", "Opaque");
    let Some(Value::Object(texts)) = value.remove("stringData") else {
        return;
    };
    let data = object(value, "data");
    for (key, text) in texts {
        if let Some(text) = text.as_str() {
            data.insert(key, STANDARD.encode(text).into());
        }
    }
}

/// What the first form of events has for the second one.
fn event(value: &mut Map<String, Value>) {
    fill(value, "eventTime", Value::Null);
    fill(value, "reportingComponent", "");
    fill(value, "reportingInstance", "");
}

/// Where bytes that are to be base64 are none, as Go counts: the first byte that cannot stand there.
pub(crate) fn not_base64(text: &str) -> Option<usize> {
    let plain: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    if STANDARD.decode(&plain).is_ok() {
        return None;
    }
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let first = plain.iter().position(|byte| !allowed(byte));
    Some(first.unwrap_or(plain.len() / 4 * 4))
}

/// Keys of configuration are names of files.
fn check_data(value: &Value, errors: &mut Vec<FieldError>) {
    const DETAIL: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut size = 0;
    for part in ["data", "binaryData"] {
        for (key, value) in value.get(part).and_then(Value::as_object).into_iter().flatten() {
            size += value.as_str().map_or(0, str::len);
            let path = format!("{part}[{key}]");
            if key.is_empty() || !key.chars().all(allowed) {
                errors.push(FieldError::invalid(&path, &key.as_str().into(), DETAIL));
            } else if key.len() > 253 {
                errors.push(FieldError::too_long(&path, 253));
            }
        }
    }
    if size > DATA_MAX {
        errors.push(FieldError::too_long(
            "[]",
            u64::try_from(DATA_MAX).unwrap_or(u64::MAX),
        ));
    }
}

/// Events are where what they are about is.
fn check_event(value: &Value, errors: &mut Vec<FieldError>) {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (about, own) = (text("/involvedObject/namespace"), text("/metadata/namespace"));
    let fits = if about.is_empty() {
        own == "default" || own.is_empty()
    } else {
        about == own
    };
    if !fits {
        let detail = "does not match event.namespace";
        errors.push(FieldError::invalid(
            "involvedObject.namespace",
            &about.into(),
            detail,
        ));
    }
}

fn fill(fields: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    fields.entry(key).or_insert_with(|| value.into());
}

/// Fills in what is absent.
pub(crate) fn default(resource: &Resource, value: &mut Map<String, Value>) {
    // What has the wrong type is left to validation, which names it.
    let wrong = |found: Option<&Value>| found.is_some_and(|found| !found.is_object());
    let labels = value.get("metadata").and_then(|metadata| metadata.get("labels"));
    if wrong(labels)
        || ["metadata", "spec", "status"]
            .iter()
            .any(|key| wrong(value.get(*key)))
    {
        return;
    }
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace") => namespace(value),
        ("", "Pod") => workloads::pod(value),
        ("", "Node") => workloads::node(value),
        ("apps", kind @ ("Deployment" | "DaemonSet" | "ReplicaSet")) => workloads::set(kind, value),
        ("", "Service") => network::service(value),
        ("", "Endpoints") => network::endpoints(value),
        ("", "Secret") => secret(value),
        ("", "ResourceQuota") => drop(object(value, "status")),
        ("discovery.k8s.io", "EndpointSlice") => network::slice(value),
        ("networking.k8s.io", "NetworkPolicy") => network::policy(value),
        _ => {}
    }
}

fn namespace(value: &mut Map<String, Value>) {
    let name = value
        .get("metadata")
        .and_then(|m| m.get("name"))
        .cloned()
        .unwrap_or_default();
    object(object(value, "metadata"), "labels").insert("kubernetes.io/metadata.name".to_owned(), name);
    fill(object(value, "status"), "phase", "Active");
}

/// What Kubernetes' own admission adds to an object.
pub(crate) fn mutate(resource: &Resource, value: &mut Map<String, Value>) {
    if value.get("spec").is_some_and(|spec| !spec.is_object()) {
        return;
    }
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace") => fill(object(value, "spec"), "finalizers", json!(["kubernetes"])),
        ("", "Pod") => workloads::admit_pod(value),
        ("", "Service") => network::admit_service(value),
        ("", "Event") => event(value),
        _ => {}
    }
}

/// Checks what a change may not do.
pub(crate) fn validate_change(resource: &Resource, old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    meta::check_change(old, new, errors);
    workloads::validate_change(resource, old, new, errors);
}

/// Checks what every object has, and what users notice of built-in kinds.
pub(crate) fn validate(resource: &Resource, value: &Value, errors: &mut Vec<FieldError>) {
    meta::check(resource, value, errors);
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => workloads::check_pod(&value["spec"], "spec", errors),
        ("apps", "Deployment" | "DaemonSet" | "ReplicaSet") => workloads::check_set(value, errors),
        ("", "Service") => network::check_service(value, errors),
        ("networking.k8s.io", "NetworkPolicy") => network::check_policy(value, errors),
        ("", "ConfigMap" | "Secret") => check_data(value, errors),
        ("", "Event") => check_event(value, errors),
        _ => {}
    }
}

/// What Calico's components make nothing of, although the definition allows it: told, not refused, as on a server of
/// Kubernetes that knows the definition only.
pub(crate) fn calico_warnings(resource: &Resource, value: &Value) -> Vec<String> {
    if resource.group != caracal_api::v3::GROUP {
        return Vec::new();
    }
    let findings = caracal_api::validate::values(value).into_iter();
    let shown = findings.map(|finding| {
        format!(
            "{}: {} {}; {}",
            finding.field, finding.value, finding.problem, finding.remedy
        )
    });
    shown.collect()
}

//! What every object has: its name, labels, annotations, finalizers and owners.

use serde_json::Value;

use crate::names;
use crate::resource::Resource;
use crate::status::FieldError;

/// All annotations of an object together, in bytes.
const ANNOTATIONS_MAX: usize = 256 << 10;

/// The entries of the map at a pointer.
fn entries<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    value
        .pointer(pointer)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

/// Checks the metadata of an object.
pub(super) fn check(resource: &Resource, value: &Value, errors: &mut Vec<FieldError>) {
    check_name(resource, value, errors);
    for (path, wanted) in [
        ("/metadata/labels", "metadata.labels"),
        ("/metadata/annotations", "metadata.annotations"),
        ("/spec", "spec"),
    ] {
        if let Some(found) = value.pointer(path).filter(|found| !found.is_object())
            && (path != "/spec" || !resource.is_custom())
        {
            errors.push(FieldError::wrong_type(wanted, found, "object"));
        }
    }
    check_labels(value, errors);
    check_annotations(value, errors);
    check_owners(value, errors);
    for finalizer in value
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if let Err(why) = names::qualified(finalizer.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid("metadata.finalizers", finalizer, why));
        }
    }
}

fn check_name(resource: &Resource, value: &Value, errors: &mut Vec<FieldError>) {
    let name = value
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let allowed = match resource.kind.as_str() {
        "Namespace" => names::namespace(name),
        "Service" => names::label(name),
        _ => names::subdomain(name),
    };
    if name.is_empty() {
        let why = "name or generateName is required";
        errors.push(FieldError::required("metadata.name", why));
    } else if let Err(why) = allowed {
        errors.push(FieldError::invalid("metadata.name", &name.into(), why));
    }
}

fn check_labels(value: &Value, errors: &mut Vec<FieldError>) {
    for (key, value) in entries(value, "/metadata/labels") {
        if let Err(why) = names::qualified(key) {
            errors.push(FieldError::invalid("metadata.labels", &key.as_str().into(), why));
        }
        match value.as_str().map(names::label_value) {
            Some(Ok(())) => {}
            Some(Err(why)) => errors.push(FieldError::invalid("metadata.labels", value, why)),
            None => errors.push(FieldError::wrong_type("metadata.labels", value, "string")),
        }
    }
}

fn check_annotations(value: &Value, errors: &mut Vec<FieldError>) {
    let mut bytes = 0;
    for (key, value) in entries(value, "/metadata/annotations") {
        bytes += key.len() + value.as_str().unwrap_or_default().len();
        if let Err(why) = names::qualified(&key.to_lowercase()) {
            let key = key.as_str().into();
            errors.push(FieldError::invalid("metadata.annotations", &key, why));
        }
        if !value.is_string() {
            errors.push(FieldError::wrong_type("metadata.annotations", value, "string"));
        }
    }
    if bytes > ANNOTATIONS_MAX {
        let limit = u64::try_from(ANNOTATIONS_MAX).unwrap_or(u64::MAX);
        errors.push(FieldError::too_long("metadata.annotations", limit));
    }
}

fn check_owners(value: &Value, errors: &mut Vec<FieldError>) {
    let owners = value
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    for (index, owner) in owners.into_iter().flatten().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .is_empty()
            {
                let path = format!("metadata.ownerReferences[{index}].{field}");
                errors.push(FieldError::required(&path, "must not be empty"));
            }
        }
    }
}

/// Checks what a change may not do to metadata.
pub(super) fn check_change(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let list = |value: &Value| -> Vec<String> {
        let list = value.pointer("/metadata/finalizers").and_then(Value::as_array);
        let names = list.into_iter().flatten().filter_map(Value::as_str);
        names.map(str::to_owned).collect()
    };
    if old.pointer("/metadata/deletionTimestamp").is_none() {
        return;
    }
    let before = list(old);
    let more: Vec<String> = list(new)
        .into_iter()
        .filter(|name| !before.contains(name))
        .map(|name| format!("\"{name}\""))
        .collect();
    if !more.is_empty() {
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            more.join(", ")
        );
        errors.push(FieldError::forbidden("metadata.finalizers", &why));
    }
}

//! Definitions of custom resources: checked and established when they are created.

mod structural;

use serde_json::{Value, json};

use super::write::now;
use crate::status::{ApiError, FieldError};

/// What a definition says of itself in the answer that creates it: it is served a moment later.
pub(super) fn not_established(value: &mut Value) {
    if let Some(status) = value.get_mut("status").and_then(Value::as_object_mut) {
        status.insert("acceptedNames".to_owned(), json!({"kind": "", "plural": ""}));
        status.insert("conditions".to_owned(), Value::Null);
    }
}

/// Fills in what definitions say of themselves by default.
pub(super) fn default(value: &mut Value) {
    let kind = value.pointer("/spec/names/kind").and_then(Value::as_str);
    let kind = kind.unwrap_or_default().to_owned();
    if let Some(names) = value.pointer_mut("/spec/names").and_then(Value::as_object_mut) {
        names
            .entry("listKind")
            .or_insert_with(|| format!("{kind}List").into());
        names
            .entry("singular")
            .or_insert_with(|| kind.to_lowercase().into());
    }
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        spec.entry("conversion")
            .or_insert_with(|| json!({"strategy": "None"}));
    }
}

/// Checks a definition and says that it is served.
pub(super) fn establish(value: &mut Value) -> Result<(), ApiError> {
    let text = |pointer: &str| {
        value
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (group, plural, kind) = (
        text("/spec/group"),
        text("/spec/names/plural"),
        text("/spec/names/kind"),
    );
    let (name, scope) = (text("/metadata/name"), text("/spec/scope"));
    let mut errors = Vec::new();
    for (path, found) in [
        ("spec.group", &group),
        ("spec.names.plural", &plural),
        ("spec.names.kind", &kind),
    ] {
        if found.is_empty() {
            errors.push(FieldError::required(path, ""));
        }
    }
    if !group.is_empty() && !group.contains('.') {
        let why = "should be a domain with at least one dot";
        errors.push(FieldError::invalid("spec.group", &group.as_str().into(), why));
    }
    if name != format!("{plural}.{group}") {
        errors.push(FieldError::invalid(
            "metadata.name",
            &name.as_str().into(),
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    if !matches!(scope.as_str(), "Namespaced" | "Cluster") {
        let supported = ["Cluster".to_owned(), "Namespaced".to_owned()];
        errors.push(FieldError::not_supported("spec.scope", &scope.into(), &supported));
    }
    let versions = value
        .pointer("/spec/versions")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let stored: Vec<Value> = versions
        .iter()
        .filter(|v| v["storage"] == true)
        .map(|v| v["name"].clone())
        .collect();
    if stored.len() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(
            "spec.versions",
            &Value::Array(versions.clone()),
            detail,
        ));
    }
    let single = versions.len() == 1;
    for (index, version) in versions.iter().enumerate() {
        let Some(schema) = version.pointer("/schema/openAPIV3Schema") else {
            let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
            errors.push(FieldError::required(&path, ""));
            continue;
        };
        let path = if single {
            "spec.validation.openAPIV3Schema".to_owned()
        } else {
            format!("spec.versions[{index}].schema.openAPIV3Schema")
        };
        errors.extend(structural::faults(schema, &path));
        errors.extend(crate::cel::faults(schema, &path));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid(
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            &name,
            &errors,
        ));
    }
    let names = value.pointer("/spec/names").cloned().unwrap_or_default();
    let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now()});
    value["status"] = json!({"acceptedNames": names, "storedVersions": stored, "conditions": [
        condition("NamesAccepted", "NoConflicts", "no conflicts found"),
        condition("Established", "InitialNamesAccepted", "the initial names have been accepted")]});
    Ok(())
}

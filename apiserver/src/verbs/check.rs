//! Whether an object is one of its kind, and what is filled in before it is stored: first defaults, which are their
//! writer's, then what admission adds, which is not.

use caracal_api::admission::Operation;
use serde_json::Value;

use super::write::metadata;
use crate::request::Query;
use crate::resource::{DEFINITIONS, Resource};
use crate::status::{ApiError, FieldError};
use crate::{admission, builtin, schema};

/// Removes what the kind does not have; with strict validation that is refused, and wrong types always are.
pub(super) fn unknown_fields(
    resource: &Resource,
    value: &mut Value,
    query: &Query,
    patched: bool,
) -> Result<(), ApiError> {
    let strict = query.get("fieldValidation") == "Strict";
    let before = (patched && strict).then(|| value.to_string());
    let (kind, version) = (&resource.kind, &resource.version);
    let refused = |value: &Value, why: String| {
        if !patched {
            return Err(ApiError::bad_request(format!(
                "{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
            )));
        }
        // Of a patch, what came of it is refused.
        let whole = before.clone().unwrap_or_else(|| value.to_string());
        let error = FieldError::invalid("patch", &whole.into(), why);
        Err(ApiError::invalid("", "", "", &[error]))
    };
    let built_in = builtin::schema(&builtin::schema_name(resource));
    let Some(schema) = resource.schema.as_deref().or(built_in) else {
        return Ok(());
    };
    let mut unknown = schema::prune(value, schema, "", true);
    if let Some(schema) = builtin::schema(builtin::OBJECT_META) {
        let path = if resource.is_custom() {
            "ObjectMeta"
        } else {
            "ObjectMeta.metadata"
        };
        let wrong = value
            .get("metadata")
            .and_then(|metadata| schema::mistyped(metadata, schema, "ObjectMeta", path));
        if let Some(why) = wrong {
            return refused(value, why);
        }
        if let Some(metadata) = value.get_mut("metadata") {
            unknown.extend(schema::prune(metadata, schema, "metadata", false));
        }
    }
    if !resource.is_custom()
        && let Some(why) = schema::mistyped(value, schema, kind, kind)
    {
        return refused(value, why);
    }
    if &*resource.storage == "secrets"
        && let Some(at) = bad_bytes(value)
    {
        return refused(value, format!("illegal base64 data at input byte {at}"));
    }
    unknown.sort();
    let twice = query
        .twice
        .iter()
        .map(|path| format!("duplicate field \"{path}\""));
    let unknown = unknown.iter().map(|path| format!("unknown field \"{path}\""));
    let list: Vec<String> = twice.chain(unknown).collect();
    match query.get("fieldValidation") {
        _ if list.is_empty() => return Ok(()),
        "Strict" => {}
        "Ignore" => return Ok(()),
        _ => {
            list.into_iter().for_each(|one| query.warn(one));
            return Ok(());
        }
    }
    refused(value, format!("strict decoding error: {}", list.join(", ")))
}

/// Where the data of a secret are not base64.
fn bad_bytes(secret: &Value) -> Option<usize> {
    let data = secret.get("data")?.as_object()?;
    data.values()
        .find_map(|value| admission::not_base64(value.as_str().unwrap_or_default()))
}

/// Runs the rules of a definition, unless what is known already keeps them from being meaningful.
fn rules(
    resource: &Resource,
    schema: &Value,
    value: &Value,
    old: Option<&Value>,
    errors: &mut Vec<FieldError>,
) {
    let rules = resource.rules();
    if rules.is_empty() {
        return;
    }
    let blocking = [
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    ];
    if errors.iter().any(|error| blocking.contains(&error.reason)) {
        let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        errors.push(FieldError::invalid("<nil>", &Value::Null, why));
    } else {
        rules.check(schema, value, old, errors);
    }
}

/// Fills in what a kind has by itself: the defaults of its schema, and those of Kubernetes.
pub(super) fn fill(resource: &Resource, value: &mut Value) {
    if let Some(schema) = &resource.schema {
        schema::default(value, schema);
    }
    if &*resource.storage == DEFINITIONS {
        super::define::default(value);
    }
    if let Some(fields) = value.as_object_mut() {
        admission::default(resource, fields);
    }
}

/// What admission makes of an object: none of it is the writer's. `old` is what it replaces.
pub(super) fn mutate(resource: &Resource, value: &mut Value, old: Option<&Value>) {
    if resource.group == caracal_api::v3::GROUP {
        let operation = if old.is_some() {
            Operation::Update
        } else {
            Operation::Create
        };
        caracal_api::admission::mutate(operation, value);
    }
    if let Some(fields) = value.as_object_mut() {
        admission::mutate(resource, fields);
    }
}

/// Checks an object that is filled in; `old` is what it replaces.
pub(super) fn judge(
    resource: &Resource,
    value: &Value,
    old: Option<&Value>,
    query: &Query,
) -> Result<(), ApiError> {
    let mut errors: Vec<FieldError> = Vec::new();
    admission::validate(resource, value, &mut errors);
    if let Some(schema) = &resource.schema {
        schema::validate(value, old, schema, "", &mut errors);
        rules(resource, schema, value, old, &mut errors);
    }
    if let Some(old) = old {
        admission::validate_change(resource, old, value, &mut errors);
    }
    if !errors.is_empty() {
        let name = metadata(value, "name");
        return Err(ApiError::invalid(
            &resource.group,
            &resource.kind,
            name.as_str().unwrap_or_default(),
            &errors,
        ));
    }
    if old.is_none_or(|old| old.get("spec") != value.get("spec")) {
        admission::calico_warnings(resource, value)
            .into_iter()
            .for_each(|one| query.warn(one));
    }
    Ok(())
}

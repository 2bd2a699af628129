//! What an object is after a change, and what no change may touch.

use serde_json::Value;

use super::Change;
use super::write::{metadata, now, set_metadata};
use crate::builtin;
use crate::resource::Resource;
use crate::status::{ApiError, FieldError};

/// The object after the change, and the version that it must be at now.
pub(super) fn changed(
    resource: &Resource,
    old: &Value,
    change: &Change,
    name: &str,
    status: bool,
) -> Result<(Value, Option<String>), ApiError> {
    let version = |value: &Value| {
        metadata(value, "resourceVersion")
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let (new, must_be) = match change {
        Change::Replace(new) => {
            same_name(new, name, true)?;
            let must_be = version(new);
            if must_be.is_none() && !resource.updates_unconditionally() {
                let why = "must be specified for an update";
                let error = FieldError::invalid("metadata.resourceVersion", &0.into(), why);
                return Err(ApiError::invalid(
                    &resource.group,
                    &resource.plural,
                    name,
                    &[error],
                ));
            }
            (new.clone(), must_be)
        }
        Change::Merge(patch) => {
            let mut new = old.clone();
            json_patch::merge(&mut new, patch);
            (new, version(patch))
        }
        Change::Strategic(patch) => {
            let mut new = old.clone();
            let schema = builtin::schema(&builtin::schema_name(resource));
            crate::strategic::apply(&mut new, patch, schema).map_err(ApiError::bad_request)?;
            (new, version(patch))
        }
        Change::Apply(applied) => {
            let new = crate::apply::apply(resource, status, old, applied, &now())?;
            (new, version(&applied.value))
        }
        Change::Json(patch) => {
            let mut new = old.clone();
            super::patching::apply_json(&mut new, patch)?;
            let must_be = version(&new).filter(|wanted| Some(wanted) != version(old).as_ref());
            (new, must_be)
        }
    };
    same_name(&new, name, matches!(change, Change::Replace(_)))?;
    if let Change::Replace(new) = change
        && let (Some(uid), Some(own)) = (metadata(new, "uid").as_str(), metadata(old, "uid").as_str())
        && !uid.is_empty()
        && uid != own
    {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {own}");
        return Err(ApiError::conflict(&resource.group, &resource.plural, name, &why));
    }
    same_identity(resource, old, &new, name)?;
    Ok((new, must_be))
}

/// Checks that a change leaves alone what tells an object from others.
fn same_identity(resource: &Resource, old: &Value, new: &Value, name: &str) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    for key in ["uid", "creationTimestamp"] {
        let given = metadata(new, key);
        let is_given = given.as_str().is_some_and(|text| !text.is_empty());
        if is_given && given != metadata(old, key) {
            let field = format!("metadata.{key}");
            errors.push(FieldError::invalid(&field, &given, "field is immutable"));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(&resource.group, &resource.kind, name, &errors))
}

pub(super) fn same_name(value: &Value, name: &str, may_be_absent: bool) -> Result<(), ApiError> {
    let found = metadata(value, "name");
    let found = found.as_str().unwrap_or_default();
    if found == name || found.is_empty() && may_be_absent {
        return Ok(());
    }
    let message = format!("the name of the object ({found}) does not match the name on the URL ({name})");
    Err(ApiError::bad_request(message))
}

/// Keeps what this way of writing may not change.
pub(super) fn keep(resource: &Resource, status: bool, old: &Value, new: &mut Value) -> Result<(), ApiError> {
    let managed = new
        .pointer("/metadata/managedFields")
        .cloned()
        .unwrap_or_default();
    let Some(fields) = new.as_object_mut() else {
        return Err(ApiError::bad_request("not an object"));
    };
    if status {
        let written = fields.remove("status");
        let metadata = fields.remove("metadata");
        *fields = old.as_object().cloned().unwrap_or_default();
        fields.remove("status");
        fields.extend(written.map(|status| ("status".to_owned(), status)));
        // Labels and annotations of built-in kinds may come with the status: CNI plugins write theirs so.
        if let Some(metadata) = metadata.filter(|_| !resource.is_custom()) {
            fields.insert("metadata".to_owned(), metadata);
        }
    } else if resource.has_status {
        fields.remove("status");
        fields.extend(
            old.get("status")
                .map(|status| ("status".to_owned(), status.clone())),
        );
    }
    let kept = [
        "name",
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "resourceVersion",
        "generateName",
    ];
    for key in kept {
        set_metadata(new, key, metadata(old, key));
    }
    set_metadata(new, "managedFields", managed);
    set_metadata(new, "selfLink", Value::Null);
    Ok(())
}

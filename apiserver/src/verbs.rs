//! The verbs of the API, and how bodies of requests are understood.

mod addresses;
mod bind;
pub(crate) mod body;
mod change;
mod check;
mod define;
mod delete;
mod foreground;
mod grace;
pub(crate) mod options;
mod patching;
mod read;
pub(crate) mod scale;
mod watch;
mod write;

use serde_json::Value;
pub(crate) use write::now;

use crate::apply::Applied;
use crate::request::Query;
use crate::resource::Resource;
use crate::status::{ApiError, FieldError};

/// How an object is to change.
pub(crate) enum Change {
    Replace(Value),
    Merge(Value),
    Strategic(Value),
    Json(json_patch::Patch),
    Apply(Applied),
}

impl Change {
    /// Changes the form of what it changes.
    pub(crate) fn convert(&mut self, convert: impl Fn(&mut Value)) -> Result<(), ApiError> {
        match self {
            Self::Replace(value) | Self::Merge(value) | Self::Strategic(value) => convert(value),
            Self::Apply(applied) => convert(&mut applied.value),
            Self::Json(patch) => {
                let internal = |error: serde_json::Error| ApiError::internal(error.to_string());
                let mut value = serde_json::to_value(&*patch).map_err(internal)?;
                convert(&mut value);
                *patch = serde_json::from_value(value).map_err(internal)?;
            }
        }
        Ok(())
    }
}

/// A body as a value.
pub(crate) fn decode(body: &[u8]) -> Result<Value, ApiError> {
    if crate::protobuf::is_protobuf(body) {
        return crate::protobuf::decode(body).map_err(|why| {
            let mut error = ApiError::unsupported_media_type("application/json");
            error.message = format!("{}: {why}", error.message);
            error
        });
    }
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body of the request is not JSON: {error}")))
}

/// A patch, by its media type. Strategic merges are for built-in kinds only.
pub(crate) fn patch(
    resource: &Resource,
    media_type: &str,
    body: &[u8],
    query: &Query,
) -> Result<Change, ApiError> {
    match media_type.split(';').next().unwrap_or_default().trim() {
        "application/merge-patch+json" => patching::merge(body).map(Change::Merge),
        "application/json-patch+json" => patching::json(body).map(Change::Json),
        "application/apply-patch+yaml" => applied(resource, body, query).map(Change::Apply),
        "application/strategic-merge-patch+json" if !resource.is_custom() => {
            patching::strategic(body).map(Change::Strategic)
        }
        _ if resource.is_custom() => Err(ApiError::unsupported_media_type(
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        )),
        _ => Err(ApiError::new(415, "UnsupportedMediaType", "415: Unsupported Media Type").with_details()),
    }
}

/// What is applied may name fields of its kind only.
fn known_fields(resource: &Resource, value: &Value) -> Result<(), ApiError> {
    let name = crate::builtin::schema_name(resource);
    let Some(schema) = resource
        .schema
        .as_deref()
        .or_else(|| crate::builtin::schema(&name))
    else {
        return Ok(());
    };
    let unknown = crate::schema::prune(&mut value.clone(), schema, "", true);
    let faults: Vec<String> = unknown
        .iter()
        .map(|path| format!(".{path}: field not declared in schema"))
        .collect();
    let fault = match faults.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    let text = |key: &str| value.pointer(key).and_then(Value::as_str).unwrap_or_default();
    let place = format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"));
    let (group, version, kind) = (&resource.group, &resource.version, &resource.kind);
    let message =
        format!("failed to create typed patch object ({place}; {group}/{version}, Kind={kind}): {fault}");
    Err(ApiError::new(500, "", message))
}

fn applied(resource: &Resource, body: &[u8], query: &Query) -> Result<Applied, ApiError> {
    let bad = |why: String| ApiError::bad_request(format!("error decoding YAML: {why}"));
    let text = std::str::from_utf8(body).map_err(|error| bad(error.to_string()))?;
    let value = caracal_api::yaml::document(text).map_err(|error| bad(error.to_string()))?;
    let manager = query.get("fieldManager").to_owned();
    if manager.is_empty() {
        let error = FieldError::required("fieldManager", "is required for apply patch");
        return Err(ApiError::bad_options("PatchOptions", &[error]));
    }
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if version.is_empty() || kind.is_empty() {
        let version = if version.contains('/') {
            version.to_owned()
        } else {
            format!("/{version}")
        };
        return Err(ApiError::bad_request(format!(
            "invalid object type: {version}, Kind={kind}"
        )));
    }
    known_fields(resource, &value)?;
    let managed = value.pointer("/metadata/managedFields").and_then(Value::as_array);
    if managed.is_some_and(|list| !list.is_empty()) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    Ok(Applied {
        value,
        manager,
        force: query.is_true("force"),
    })
}

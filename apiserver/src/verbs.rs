//! The verbs of the API, and how bodies of requests are understood.

pub(crate) mod body;
mod change;
mod check;
mod define;
mod delete;
mod grace;
pub(crate) mod options;
mod read;
mod watch;
mod write;

use serde_json::Value;
pub(crate) use write::now;

use crate::apply::Applied;
use crate::request::Query;
use crate::resource::Resource;
use crate::status::ApiError;

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
        "application/merge-patch+json" => Ok(Change::Merge(decode(body)?)),
        "application/json-patch+json" => serde_json::from_slice(body)
            .map(Change::Json)
            .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}"))),
        "application/apply-patch+yaml" => applied(body, query).map(Change::Apply),
        "application/strategic-merge-patch+json" if !resource.is_custom() => {
            Ok(Change::Strategic(decode(body)?))
        }
        _ if resource.is_custom() => Err(ApiError::unsupported_media_type(
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        )),
        _ => Err(ApiError::unsupported_media_type(
            "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
        )),
    }
}

fn applied(body: &[u8], query: &Query) -> Result<Applied, ApiError> {
    let bad = |why: String| ApiError::bad_request(format!("error decoding YAML: {why}"));
    let text = std::str::from_utf8(body).map_err(|error| bad(error.to_string()))?;
    let value = caracal_api::yaml::document(text).map_err(|error| bad(error.to_string()))?;
    let manager = query.get("fieldManager").to_owned();
    if manager.is_empty() {
        let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
        return Err(ApiError::new(422, "Invalid", message));
    }
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

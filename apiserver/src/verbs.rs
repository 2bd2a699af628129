//! The verbs of the API, and how bodies of requests are understood.

mod change;
mod define;
mod delete;
mod grace;
mod read;
mod watch;
mod write;

use serde_json::Value;

use crate::resource::Resource;
use crate::status::ApiError;

/// How an object is to change.
pub(crate) enum Change {
    Replace(Value),
    Merge(Value),
    Strategic(Value),
    Json(json_patch::Patch),
}

/// A body as a value.
pub(crate) fn decode(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body of the request is not JSON: {error}")))
}

/// A patch, by its media type. Strategic merges are for built-in kinds only.
pub(crate) fn patch(resource: &Resource, media_type: &str, body: &[u8]) -> Result<Change, ApiError> {
    match media_type.split(';').next().unwrap_or_default().trim() {
        "application/merge-patch+json" => Ok(Change::Merge(decode(body)?)),
        "application/json-patch+json" => serde_json::from_slice(body)
            .map(Change::Json)
            .map_err(|error| ApiError::bad_request(format!("the body is not a JSON patch: {error}"))),
        "application/strategic-merge-patch+json" if !resource.is_custom() => {
            Ok(Change::Strategic(decode(body)?))
        }
        _ if resource.is_custom() => Err(ApiError::unsupported_media_type(
            "application/json-patch+json, application/merge-patch+json",
        )),
        _ => Err(ApiError::unsupported_media_type(
            "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json",
        )),
    }
}

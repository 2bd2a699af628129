//! Bodies of requests as objects: which encoding, and whether it is an object of the kind that the path names.

use http::{HeaderMap, header};
use serde_json::Value;

use crate::request::Query;
use crate::resource::Resource;
use crate::status::{ApiError, FieldError};

/// What bodies may be in.
const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// The object in the body of a create or an update. Fields that are there twice are told to the query.
pub(crate) fn object(
    resource: &Resource,
    headers: &HeaderMap,
    body: &[u8],
    query: &mut Query,
) -> Result<Value, ApiError> {
    let unrecognized = |why: &str| {
        let (kind, start) = (&resource.kind, crate::json::summary(body));
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({start})"
        ))
    };
    let content = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let content = content
        .unwrap_or("application/json")
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    let value = match content {
        _ if crate::protobuf::is_protobuf(body) => super::decode(body)?,
        "application/json" | "" => {
            let (value, twice) = crate::json::read(body).map_err(|error| {
                let why = crate::json::worded(&error);
                unrecognized(&format!("couldn't get version/kind; json parse error: {why}"))
            })?;
            query.twice = twice;
            value
        }
        "application/yaml" => {
            let text = std::str::from_utf8(body).map_err(|error| unrecognized(&error.to_string()))?;
            caracal_api::yaml::document(text).map_err(|error| unrecognized(&error.to_string()))?
        }
        _ => return Err(ApiError::unsupported_media_type(ACCEPTED)),
    };
    if resource.is_custom() {
        names_itself(resource, &value, body, &unrecognized)?;
    }
    Ok(value)
}

/// Custom resources have to say what they are.
fn names_itself(
    resource: &Resource,
    value: &Value,
    body: &[u8],
    unrecognized: &dyn Fn(&str) -> ApiError,
) -> Result<(), ApiError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (kind, version) = (text("kind"), text("apiVersion"));
    if kind.is_empty() {
        let all = String::from_utf8_lossy(body);
        return Err(unrecognized(&format!("Object 'Kind' is missing in '{all}'")));
    }
    let served = resource.api_version();
    if version != served && !version.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({served})"
        )));
    }
    if kind == resource.kind {
        return Ok(());
    }
    let name = value
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let why = format!("must be {}", resource.kind);
    let error = FieldError::invalid("kind", &kind.into(), why);
    Err(ApiError::invalid(&resource.group, kind, name, &[error]))
}

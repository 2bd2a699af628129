//! Patches as they come: read by their media type, and JSON patches applied operation by operation.
//!
//! Pure. Source: RFC 6902 and RFC 7386. Other than the first says, a value that is to be replaced and is not there is
//! added: kube-apiserver does so, and clients count on it.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use crate::status::{ApiError, type_name};

/// JSON patches are no longer than this.
const OPERATIONS_MAX: usize = 10_000;

/// The Go name of what was found where a map had to be.
fn found(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        other => type_name(other),
    }
}

/// The body of a merge patch: an object, in any other case it is none.
pub(super) fn merge(body: &[u8]) -> Result<Value, ApiError> {
    let patch = super::decode(body)?;
    if patch.is_object() {
        return Ok(patch);
    }
    let why = format!(
        "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
        found(&patch)
    );
    Err(ApiError::bad_request(why))
}

/// The body of a strategic merge patch.
pub(super) fn strategic(body: &[u8]) -> Result<Value, ApiError> {
    let patch = super::decode(body)?;
    if patch.is_object() {
        return Ok(patch);
    }
    let why = format!(
        "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
        found(&patch)
    );
    Err(ApiError::bad_request(why))
}

fn rejected() -> ApiError {
    let message = "the server rejected our request due to an error in our request";
    ApiError::new(422, "Invalid", message)
}

/// The body of a JSON patch: a list of operations.
pub(super) fn json(body: &[u8]) -> Result<Patch, ApiError> {
    let patch = super::decode(body)?;
    let Some(list) = patch.as_array() else {
        let why = format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type []handlers.jsonPatchOp",
            found(&patch)
        );
        return Err(ApiError::bad_request(why));
    };
    if list.len() > OPERATIONS_MAX {
        let why = format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            list.len()
        );
        return Err(ApiError::new(413, "RequestEntityTooLarge", why));
    }
    serde_json::from_value(patch).map_err(|error| {
        tracing::debug!(%error, "a JSON patch has an operation that is none");
        rejected()
    })
}

/// Is there an object at the parent of `path` that does not have its last part?
fn absent(value: &Value, path: &str) -> bool {
    let Some((parent, key)) = path.rsplit_once('/') else {
        return false;
    };
    let key = key.replace("~1", "/").replace("~0", "~");
    value
        .pointer(parent)
        .and_then(Value::as_object)
        .is_some_and(|fields| !fields.contains_key(&key))
}

/// Applies a JSON patch.
pub(super) fn apply_json(value: &mut Value, patch: &Patch) -> Result<(), ApiError> {
    for operation in patch.iter() {
        let operation = match operation {
            PatchOperation::Replace(replace) if absent(value, replace.path.as_str()) => {
                PatchOperation::Add(json_patch::AddOperation {
                    path: replace.path.clone(),
                    value: replace.value.clone(),
                })
            }
            other => other.clone(),
        };
        json_patch::patch(value, &[operation]).map_err(|error| {
            tracing::debug!(%error, "a JSON patch does not apply");
            rejected()
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn applied(patch: Value) -> Result<Value, ApiError> {
        let mut value = json!({"labels": {"a": "1"}, "list": [1]});
        apply_json(&mut value, &json(patch.to_string().as_bytes())?)?;
        Ok(value)
    }

    #[test]
    fn what_is_not_there_is_added_but_not_removed() {
        let new = applied(json!([{"op": "replace", "path": "/labels/b~1c", "value": "2"}]));
        assert_eq!(new.unwrap()["labels"], json!({"a": "1", "b/c": "2"}));
        for bad in [
            json!([{"op": "test", "path": "/labels/a", "value": "2"}]),
            json!([{"op": "paint", "path": "/labels/a"}]),
            json!([{"op": "remove", "path": "/labels/none"}]),
            json!([{"op": "remove", "path": "/none/a"}]),
            json!([{"op": "replace", "path": "/list/7", "value": 1}]),
        ] {
            assert_eq!(applied(bad.clone()).unwrap_err().code, 422, "{bad}");
        }
        assert_eq!(applied(json!({"op": "remove"})).unwrap_err().code, 400);
        assert!(
            merge(b"[1]")
                .unwrap_err()
                .message
                .contains("cannot unmarshal array")
        );
    }
}

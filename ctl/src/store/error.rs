//! Requests that failed, in the words of calicoctl's library.

use caracal_api::kinds::Kind;
use serde_json::Value;

/// A request that failed, by class. `id` is `Kind(name)` or `Kind(namespace/name)`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// No such object.
    #[error("resource does not exist: {id} with error: {message}")]
    NotFound {
        /// The object.
        id: String,
        /// What the server said.
        message: String,
    },
    /// There is one already.
    #[error("resource already exists: {id} with error: {message}")]
    Exists {
        /// The object.
        id: String,
        /// What the server said.
        message: String,
    },
    /// It changed since it was read.
    #[error("update conflict: {id}")]
    Conflict {
        /// The object.
        id: String,
    },
    /// The kind does not allow it.
    #[error("operation {verb} is not supported on {id}{}", reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Unsupported {
        /// What was asked for.
        verb: &'static str,
        /// The object.
        id: String,
        /// Why.
        reason: Option<String>,
    },
    /// The server does not know or does not trust the user.
    #[error("connection is unauthorized: {0}")]
    Unauthorized(String),
    /// Anything else, as the server says it.
    #[error("{0}")]
    Other(String),
}

/// An object in a message.
pub(crate) fn id(kind: &Kind, namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{}({namespace}/{name})", kind.kind),
        None => format!("{}({name})", kind.kind),
    }
}

/// The class of a failed request.
pub(crate) fn classify(kind: &Kind, namespace: Option<&str>, name: &str, error: &kube::Error) -> StoreError {
    let id = id(kind, namespace, name);
    let kube::Error::Api(status) = error else {
        return StoreError::Other(format!(
            "{}; check that the API server runs and that the address and credentials in the kubeconfig are its own",
            chain(error)
        ));
    };
    let message = status.message.clone();
    match (status.code, status.reason.as_str()) {
        (404, _) if is_unknown_kind(status) => StoreError::Other(format!(
            "the server does not serve {}: install the CRDs (charts/caracal-crds)",
            kind.kind
        )),
        (404, _) => StoreError::NotFound { id, message },
        (409, "AlreadyExists") => StoreError::Exists { id, message },
        (409, _) => StoreError::Conflict { id },
        (401 | 403, _) => StoreError::Unauthorized(message),
        _ => StoreError::Other(rewritten(&message).unwrap_or(message)),
    }
}

/// True for the answer about a path that nobody serves, which names no object.
fn is_unknown_kind(status: &kube::core::Status) -> bool {
    let named = status
        .details
        .as_ref()
        .is_some_and(|details| !details.name.is_empty());
    !named && status.message.contains("could not find the requested resource")
}

/// The text for a field that the server does not know, as calicoctl puts it.
pub(crate) fn rewritten(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("unknown field \"")?;
    let (field, _) = rest.split_once('"')?;
    Some(format!(
        "field in document is not recognized or is in the wrong location: {field}"
    ))
}

/// An error with everything below it that says more.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        below = cause.source();
    }
    text
}

/// The name of an object.
pub(crate) fn name_of(object: &Value) -> &str {
    text_at(object, "/metadata/name")
}

/// A text in an object, empty when it is absent.
pub(crate) fn text_at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_is_named() {
        let message =
            "IPPool in version \"v3\" cannot be handled: strict decoding error: unknown field \"spec.cider\"";
        assert_eq!(
            rewritten(message).unwrap(),
            "field in document is not recognized or is in the wrong location: spec.cider"
        );
    }
}

//! What the server answers when it refuses: the `Status` object, worded as clients of Kubernetes know it.
//!
//! Owns codes, reasons and messages. Never decides whether something is refused.

use serde_json::{Map, Value, json};

/// One thing that is wrong with a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FieldError {
    pub(crate) field: String,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl FieldError {
    pub(crate) fn invalid(field: &str, value: &Value, detail: impl AsRef<str>) -> Self {
        let message = format!("Invalid value: {}: {}", shown(value), detail.as_ref());
        Self {
            field: field.to_owned(),
            reason: "FieldValueInvalid",
            message,
        }
    }

    /// As `invalid`, without the value: it is long, or the message says it.
    pub(crate) fn invalid_somehow(field: &str, detail: impl AsRef<str>) -> Self {
        Self {
            field: field.to_owned(),
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {}", detail.as_ref()),
        }
    }

    /// As `invalid`, with the value as it is to be shown.
    pub(crate) fn invalid_shown(field: &str, shown: &str, detail: impl AsRef<str>) -> Self {
        Self {
            field: field.to_owned(),
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {shown}: {}", detail.as_ref()),
        }
    }

    pub(crate) fn wrong_type(field: &str, value: &Value, wanted: &str) -> Self {
        let found = type_name(value);
        let message =
            format!("Invalid value: \"{found}\": {field} in body must be of type {wanted}: \"{found}\"");
        Self {
            field: field.to_owned(),
            reason: "FieldValueTypeInvalid",
            message,
        }
    }

    pub(crate) fn required(field: &str, detail: &str) -> Self {
        let message = if detail.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {detail}")
        };
        Self {
            field: field.to_owned(),
            reason: "FieldValueRequired",
            message,
        }
    }

    pub(crate) fn forbidden(field: &str, detail: &str) -> Self {
        Self {
            field: field.to_owned(),
            reason: "FieldValueForbidden",
            message: format!("Forbidden: {detail}"),
        }
    }

    pub(crate) fn duplicate(field: &str, value: &Value) -> Self {
        let message = format!("Duplicate value: {}", shown(value));
        Self {
            field: field.to_owned(),
            reason: "FieldValueDuplicate",
            message,
        }
    }

    pub(crate) fn not_supported(field: &str, value: &Value, supported: &[String]) -> Self {
        let supported: Vec<String> = supported.iter().map(|value| format!("\"{value}\"")).collect();
        let message = format!(
            "Unsupported value: {}: supported values: {}",
            shown(value),
            supported.join(", ")
        );
        Self {
            field: field.to_owned(),
            reason: "FieldValueNotSupported",
            message,
        }
    }

    pub(crate) fn too_many(field: &str, count: usize, limit: u64) -> Self {
        let message = format!("Too many: {count}: must have at most {limit} items");
        Self {
            field: field.to_owned(),
            reason: "FieldValueTooMany",
            message,
        }
    }

    pub(crate) fn too_long(field: &str, limit: u64) -> Self {
        let message = format!("Too long: may not be more than {limit} bytes");
        Self {
            field: field.to_owned(),
            reason: "FieldValueTooLong",
            message,
        }
    }
}

/// A value as messages show it: text in quotes, the rest as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => crate::json::shown(value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A refusal, on its way to being a `Status`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Map<String, Value>,
    /// The details are told although there are none.
    has_details: bool,
}

/// Group and resource as messages name them: `pods`, `ippools.projectcalico.org`.
pub(crate) fn qualified(group: &str, name: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

impl ApiError {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Map::new(),
            has_details: matches!(code, 404 | 405) || reason == "Invalid",
        }
    }

    /// Tells details, also when there are none.
    pub(crate) const fn with_details(mut self) -> Self {
        self.has_details = true;
        self
    }

    pub(crate) fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
            if !value.is_empty() {
                self.details.insert(key.to_owned(), value.into());
            }
        }
        self
    }

    /// Adds causes to the details.
    pub(crate) fn causes(mut self, causes: Vec<Value>) -> Self {
        self.details.insert("causes".to_owned(), Value::Array(causes));
        self
    }

    /// Says after how many seconds the client may try again.
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.details
            .insert("retryAfterSeconds".to_owned(), seconds.into());
        self
    }

    pub(crate) fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", qualified(group, resource));
        Self::new(404, "NotFound", message).about(group, resource, name)
    }

    pub(crate) fn no_such_path() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    pub(crate) fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", qualified(group, resource));
        Self::new(409, "AlreadyExists", message).about(group, resource, name)
    }

    pub(crate) fn deleting_already_exists(group: &str, resource: &str, name: &str) -> Self {
        let mut error = Self::already_exists(group, resource, name);
        error.message = format!("object is being deleted: {}", error.message);
        error
    }

    pub(crate) fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            qualified(group, resource)
        );
        Self::new(409, "Conflict", message).about(group, resource, name)
    }

    pub(crate) fn modified(group: &str, resource: &str, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, why)
    }

    pub(crate) fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is forbidden: {why}", qualified(group, resource));
        Self::new(403, "Forbidden", message).about(group, resource, name)
    }

    pub(crate) fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let lines: Vec<String> = errors
            .iter()
            .map(|error| format!("{}: {}", error.field, error.message))
            .collect();
        let list = if lines.len() == 1 {
            lines.concat()
        } else {
            format!("[{}]", lines.join(", "))
        };
        let causes = errors
            .iter()
            .map(|error| json!({"reason": error.reason, "message": error.message, "field": error.field}))
            .collect();
        let message = format!("{} \"{name}\" is invalid: {list}", qualified(group, kind));
        Self::new(422, "Invalid", message)
            .about(group, kind, name)
            .causes(causes)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// A refusal of what a request says of itself.
    pub(crate) fn bad_options(kind: &str, errors: &[FieldError]) -> Self {
        Self::invalid("meta.k8s.io", kind, "", errors)
    }

    /// The client accepts no form that there is.
    pub(crate) fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message)
    }

    pub(crate) fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit}"),
        )
    }

    /// An object that the store does not take, as the store of Kubernetes says it.
    pub(crate) fn object_too_large() -> Self {
        Self::new(500, "", "etcdserver: request is too large")
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {}", message.into()),
        )
    }

    /// The `Status` object.
    pub(crate) fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_empty() || self.has_details {
            status["details"] = Value::Object(self.details.clone());
        }
        if let Some(fields) = status.as_object_mut().filter(|_| self.reason.is_empty()) {
            fields.remove("reason");
        }
        status
    }
}

/// The `Status` that tells a deletion is done.
pub(crate) fn deleted(group: &str, resource: &str, name: &str, uid: &str) -> Value {
    let mut details = json!({"name": name, "kind": resource, "uid": uid});
    if !group.is_empty() {
        details["group"] = group.into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

//! What requests say of themselves: options of lists, watches and writes, checked before anything is done.

use http::Method;

use crate::request::Query;
use crate::status::{ApiError, FieldError};

const MATCH: &str = "resourceVersionMatch";

fn supported(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// Checks the options of a list or, with `watch`, of a watch.
pub(crate) fn reading(query: &Query, watch: bool) -> Result<(), ApiError> {
    if !query.get("continue").is_empty() && !matches!(query.get("resourceVersion"), "" | "0") {
        let message = "specifying resource version is not allowed when using continue";
        return Err(ApiError::bad_request(message));
    }
    let (wanted, version) = (query.get(MATCH), query.get("resourceVersion"));
    let initial = !query.get("sendInitialEvents").is_empty();
    let mut errors = Vec::new();
    let mut forbid = |field: &str, why: &str| errors.push(FieldError::forbidden(field, why));
    if watch && initial && wanted != "NotOlderThan" {
        forbid(
            MATCH,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
    }
    if !wanted.is_empty() {
        if watch && !initial {
            forbid(
                MATCH,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        if !watch && version.is_empty() {
            forbid(
                MATCH,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        if !query.get("continue").is_empty() {
            forbid(
                MATCH,
                "resourceVersionMatch is forbidden when continue is provided",
            );
        }
        if wanted == "Exact" && version == "0" {
            forbid(
                MATCH,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            );
        }
        let known: &[&str] = if watch {
            &["NotOlderThan"]
        } else {
            &["Exact", "NotOlderThan", ""]
        };
        if !known.contains(&wanted) {
            errors.push(FieldError::not_supported(
                MATCH,
                &wanted.into(),
                &supported(known),
            ));
        }
    }
    if initial && !watch {
        errors.push(FieldError::forbidden(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        ));
    }
    refuse("ListOptions", &errors)
}

/// Checks the options of a write.
pub(crate) fn writing(query: &Query, method: &Method) -> Result<(), ApiError> {
    let kind = match *method {
        Method::POST => "CreateOptions",
        Method::PUT => "UpdateOptions",
        Method::PATCH => "PatchOptions",
        Method::DELETE => "DeleteOptions",
        _ => return Ok(()),
    };
    let mut errors = Vec::new();
    let dry_run = query.get("dryRun");
    if !matches!(dry_run, "" | "All") {
        errors.push(FieldError::not_supported(
            "dryRun",
            &serde_json::json!([dry_run]),
            &supported(&["All"]),
        ));
    }
    if *method != Method::DELETE {
        let known = ["", "Ignore", "Strict", "Warn"];
        let found = query.get("fieldValidation");
        if !known.contains(&found) {
            errors.push(FieldError::not_supported(
                "fieldValidation",
                &found.into(),
                &supported(&known),
            ));
        }
        let manager = query.get("fieldManager");
        if manager.len() > 128 {
            errors.push(FieldError::too_long("fieldManager", 128));
        }
        if manager.chars().any(char::is_control) {
            let why = "should only contain printable characters";
            errors.push(FieldError::invalid("fieldManager", &manager.into(), why));
        }
    }
    refuse(kind, &errors)
}

fn refuse(kind: &str, errors: &[FieldError]) -> Result<(), ApiError> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::bad_options(kind, errors))
    }
}

//! Pods end gracefully: one that runs on a node stays, marked, until its node deletes it with a grace of 0.
//!
//! Source: the deletion strategy of pods and the rules of graceful deletion of Kubernetes.

use serde_json::Value;

use super::write::{metadata, set_metadata};
use crate::request::Query;
use crate::resource::Resource;
use crate::status::ApiError;

/// The grace that a request asks for, if it does.
fn requested(options: &Value, query: &Query) -> Result<Option<u64>, ApiError> {
    match options.get("gracePeriodSeconds") {
        None | Some(Value::Null) => query.number("gracePeriodSeconds"),
        Some(found) => found.as_u64().map(Some).ok_or_else(|| {
            ApiError::bad_request(format!(
                "gracePeriodSeconds: Invalid value: {found}: must be a number that is not negative"
            ))
        }),
    }
}

/// How long a pod may go on; 0 for everything else.
pub(super) fn of(
    resource: &Resource,
    value: &Value,
    options: &Value,
    query: &Query,
) -> Result<u64, ApiError> {
    let requested = requested(options, query)?;
    if &*resource.storage != "pods" {
        return Ok(0);
    }
    let text = |pointer| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    // Nobody runs it: there is nobody to wait for.
    if text("/spec/nodeName").is_empty() || matches!(text("/status/phase"), "Succeeded" | "Failed") {
        return Ok(0);
    }
    let own = value
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_u64);
    Ok(requested.or(own).unwrap_or(30))
}

/// Marks a pod; `false` when it is marked with this grace or a shorter one already.
pub(super) fn mark(value: &mut Value, grace: u64) -> bool {
    let before = metadata(value, "deletionGracePeriodSeconds").as_u64();
    let marked = metadata(value, "deletionTimestamp");
    let marked: Option<jiff::Timestamp> = marked.as_str().and_then(|text| text.parse().ok());
    let asked = match (marked, before) {
        (Some(_), Some(before)) if before <= grace => return false,
        // The time of the first request counts.
        (Some(end), Some(before)) => end.as_second() - i64::try_from(before).unwrap_or(0),
        _ => jiff::Timestamp::now().as_second(),
    };
    let end = asked.saturating_add(i64::try_from(grace).unwrap_or(i64::MAX));
    let end = jiff::Timestamp::from_second(end).unwrap_or(jiff::Timestamp::MAX);
    set_metadata(value, "deletionTimestamp", end.to_string().into());
    set_metadata(value, "deletionGracePeriodSeconds", grace.into());
    let generation = metadata(value, "generation").as_u64().unwrap_or(0) + 1;
    set_metadata(value, "generation", generation.into());
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_shorter_grace_counts_from_the_first_request() {
        let mut pod = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:01:00Z",
            "deletionGracePeriodSeconds": 60, "generation": 2}});
        assert!(!mark(&mut pod, 60) && !mark(&mut pod, 90));
        assert!(mark(&mut pod, 10));
        assert_eq!(pod["metadata"]["deletionTimestamp"], "2026-01-01T00:00:10Z");
        assert_eq!(pod["metadata"]["generation"], 3);
    }
}

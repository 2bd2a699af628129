//! The row of an event.

use serde_json::Value;

use super::{name, since, text_or};

/// How often it happened.
fn event_count(object: &Value) -> i64 {
    let at = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_i64)
            .filter(|count| *count > 0)
    };
    at("/series/count").or_else(|| at("/count")).unwrap_or(1)
}

pub(super) fn cells(object: &Value) -> Vec<Value> {
    let at = |keys: &[&str]| {
        let found = keys
            .iter()
            .find_map(|key| object.get(*key).and_then(Value::as_str));
        found.map_or_else(|| "<unknown>".to_owned(), since)
    };
    let kind = text_or(object, "/involvedObject/kind", "").to_lowercase();
    let about = format!("{kind}/{}", text_or(object, "/involvedObject/name", ""));
    let either = |first: &str, second: &str| text_or(object, first, &text_or(object, second, ""));
    let component = either("/source/component", "/reportingComponent");
    let source = match either("/source/host", "/reportingInstance") {
        none if none.is_empty() => component,
        host => format!("{component}, {host}"),
    };
    vec![
        at(&["lastTimestamp", "eventTime", "firstTimestamp"]).into(),
        text_or(object, "/type", "").into(),
        text_or(object, "/reason", "").into(),
        about.into(),
        text_or(object, "/involvedObject/fieldPath", "").into(),
        source.into(),
        text_or(object, "/message", "").trim().into(),
        at(&["firstTimestamp", "eventTime"]).into(),
        event_count(object).into(),
        name(object),
    ]
}

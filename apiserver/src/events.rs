//! Events in both of their forms: stored as `v1`, read and written as `events.k8s.io/v1` too, and forgotten in time.
//!
//! Owns the names of fields in the two forms and how long events stay. Source: the Event types of Kubernetes and the
//! one hour that its API server keeps events for.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::resource::Resource;
use crate::server::ApiServer;
use crate::status::ApiError;

/// Where events are stored.
pub(crate) const EVENTS: &str = "events";
/// The group of the other form.
pub(crate) const GROUP: &str = "events.k8s.io";
/// How long an event stays after it was written last.
const KEPT_FOR: Duration = Duration::from_secs(3600);
/// More events than this are not kept: the ones that were written first go.
const KEPT_MAX: usize = 20_000;

/// How often events are looked through when new ones come.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Names of fields in `events.k8s.io/v1` and in `v1`.
const FIELDS: [(&str, &str); 8] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
    ("apiVersion", "apiVersion"),
];

/// Is this the form that is not stored?
pub(crate) fn is_other_form(resource: &Resource) -> bool {
    resource.group == GROUP
}

fn renamed(fields: &mut Map<String, Value>, to_stored: bool) {
    for (other, stored) in FIELDS {
        let (from, to) = if to_stored {
            (other, stored)
        } else {
            (stored, other)
        };
        if from != to
            && let Some(value) = fields.remove(from)
        {
            fields.insert(to.to_owned(), value);
        }
    }
}

fn version(value: &mut Value, from: &str, to: &str) {
    if let Some(found) = value.get_mut("apiVersion").filter(|found| **found == from) {
        *found = to.into();
    }
}

/// From `events.k8s.io/v1`, whole or as a patch, to what is stored.
pub(crate) fn to_stored(value: &mut Value) {
    version(value, "events.k8s.io/v1", "v1");
    match value {
        Value::Object(fields) => renamed(fields, true),
        // A JSON patch: its paths begin with names of fields.
        Value::Array(operations) => {
            for operation in operations.iter_mut().filter_map(Value::as_object_mut) {
                for key in ["path", "from"] {
                    if let Some(Value::String(path)) = operation.get_mut(key) {
                        *path = stored_path(path);
                    }
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn stored_path(path: &str) -> String {
    let rest = path.strip_prefix('/').unwrap_or(path);
    let (first, rest) = rest
        .split_once('/')
        .map_or((rest, None), |(first, rest)| (first, Some(rest)));
    let first = FIELDS
        .iter()
        .find(|(other, _)| *other == first)
        .map_or(first, |(_, stored)| stored);
    rest.map_or_else(|| format!("/{first}"), |rest| format!("/{first}/{rest}"))
}

/// From what is stored to `events.k8s.io/v1`.
pub(crate) fn from_stored(value: &mut Value) {
    version(value, "v1", "events.k8s.io/v1");
    if let Some(fields) = value.as_object_mut() {
        renamed(fields, false);
    }
}

/// A field selector in terms of what is stored.
pub(crate) fn selector(text: &str) -> String {
    text.replace("regarding.", "involvedObject.")
        .replace("reportingController", "reportingComponent")
}

impl ApiServer {
    /// Removes events that are an hour old. A program calls this now and then; a server without one removes them when
    /// new ones come.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn expire_events(&self) -> Result<(), ExpireError> {
        self.expire(KEPT_FOR).await.map_err(ExpireError)
    }

    /// The resource that events are stored as.
    pub(crate) fn events(&self) -> Result<Arc<Resource>, ApiError> {
        let resources = self.resources();
        let found = resources
            .iter()
            .find(|known| &*known.storage == EVENTS && !is_other_form(known));
        found.cloned().ok_or_else(ApiError::no_such_path)
    }

    pub(crate) async fn expire_now_and_then(&self) {
        {
            let mut swept = self.shared.swept.lock().unwrap_or_else(PoisonError::into_inner);
            if swept.elapsed() < SWEEP_INTERVAL {
                return;
            }
            *swept = Instant::now();
        }
        if let Err(error) = self.expire(KEPT_FOR).await {
            tracing::debug!(%error, "old events could not be removed");
        }
    }

    pub(crate) async fn expire(&self, kept_for: Duration) -> Result<(), ApiError> {
        let resource = self.events()?;
        let mut events = self.store().list(&resource.storage, None).objects;
        events.sort_by_key(|event| event.written);
        let too_many = events.len().saturating_sub(KEPT_MAX);
        for (index, event) in events.iter().enumerate() {
            if index >= too_many && event.written.elapsed() < kept_for {
                break;
            }
            match self.remove(&resource, event, event.value()).await {
                Ok(_) => {}
                // It was written again, or went by itself.
                Err(error) if error.code == 409 || error.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Why old events could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ExpireError(#[source] ApiError);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_two_forms_are_one_event() {
        let other = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "regarding": {"name": "p"}, "note": "n",
            "reportingController": "c", "deprecatedCount": 2, "action": "a"});
        let mut value = other.clone();
        to_stored(&mut value);
        assert_eq!(
            value,
            json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "p"}, "message": "n",
                "reportingComponent": "c", "count": 2, "action": "a"})
        );
        from_stored(&mut value);
        assert_eq!(value, other);
        let mut patch = json!([{"op": "replace", "path": "/note", "value": "x"}, {"op": "copy", "from": "/regarding/name", "path": "/action"}]);
        to_stored(&mut patch);
        assert_eq!(patch[0]["path"], "/message");
        assert_eq!(patch[1]["from"], "/involvedObject/name");
        assert_eq!(
            selector("regarding.name=p,type=Normal"),
            "involvedObject.name=p,type=Normal"
        );
    }

    #[tokio::test]
    async fn old_events_go_and_young_ones_stay() {
        let server = ApiServer::in_memory();
        let event = |name: &str| {
            json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "r", "type": "Normal"})
        };
        server.add(event("a")).await.unwrap();
        server.expire(Duration::from_secs(60)).await.unwrap();
        assert_eq!(server.store().list(&EVENTS.into(), None).objects.len(), 1);
        server.expire(Duration::ZERO).await.unwrap();
        assert!(server.store().list(&EVENTS.into(), None).objects.is_empty());
    }
}

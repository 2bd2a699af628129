//! Tells the API how a pod is doing: the status when it differs from what was told last, and events.

use std::time::Duration;

use caracal_datastore::Client;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, DeleteParams, Preconditions};
use serde_json::{Value, json};

use super::container::timestamp;
use super::status::{Known, status as compute};

/// How soon a status that could not be told is told again.
const RETRY: Duration = Duration::from_secs(1);

/// Speaks for one pod.
pub(super) struct Reporter {
    client: Client,
    pod: Pod,
    told: Value,
    last_event: String,
}

impl Reporter {
    pub(super) const fn new(client: Client, pod: Pod) -> Self {
        Self {
            client,
            pod,
            told: Value::Null,
            last_event: String::new(),
        }
    }

    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// Tells the status if it is news. `Some` is the time after which to try again.
    pub(super) async fn tell(&mut self, known: &Known) -> Option<Duration> {
        let status = compute(&self.pod, known, &timestamp());
        if status == self.told {
            return None;
        }
        let patch = json!({"metadata": {"uid": self.pod.metadata.uid}, "status": status});
        let result = self
            .client
            .patch_status::<Pod>(Some(self.namespace()), self.name(), &patch)
            .await;
        match result {
            Ok(pod) => {
                // The conditions as stored: their times are kept while nothing changes.
                self.pod.status = pod.status;
                self.told = compute(&self.pod, known, "");
                None
            }
            // The pod is gone: its watch will say so.
            Err(error) if error.is_not_found() => None,
            Err(error) => {
                tracing::warn!(pod = %self.name(), namespace = %self.namespace(), error = %error,
                    "pod status not told");
                Some(RETRY)
            }
        }
    }

    /// Tells that something went wrong. The same text is told once.
    pub(super) async fn warn(&mut self, reason: &str, message: &str) {
        if self.last_event == message {
            return;
        }
        message.clone_into(&mut self.last_event);
        let now = timestamp();
        let meta = &self.pod.metadata;
        let nanos = jiff::Timestamp::now().as_nanosecond();
        let event = json!({
            "metadata": {"namespace": meta.namespace, "name": format!("{}.{nanos:x}", self.name())},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": meta.namespace, "name": meta.name,
                "uid": meta.uid},
            "type": "Warning", "reason": reason, "message": message, "count": 1,
            "firstTimestamp": now, "lastTimestamp": now,
            "source": {"component": "caracal-lab"},
        });
        let Ok(event) = serde_json::from_value::<Event>(event) else {
            return;
        };
        // The condition carries the same text: an event that is lost is no loss.
        if let Err(error) = self.client.create(&event).await {
            tracing::debug!(pod = %self.name(), error = %error, "event not told");
        }
    }

    /// Removes the pod's object, which its user has deleted, without a further grace. `false`: try again.
    pub(super) async fn delete_object(client: &Client, pod: &Pod) -> bool {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(client.kube().clone(), namespace);
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: pod.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match pods.delete(name, &params).await {
            Ok(_) => true,
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => true,
            Err(error) => {
                tracing::warn!(pod = %name, namespace = %namespace, error = %error, "pod object not removed");
                false
            }
        }
    }
}

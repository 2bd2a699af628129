//! A trivial scheduler: a pod without a node gets the ready node with the fewest pods.
//!
//! Honours `nodeSelector` and `unschedulable`, and nothing else that a real scheduler weighs.

use std::collections::BTreeMap;
use std::time::Duration;

use caracal_datastore::{Client, Event, Key, WatchScope};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, PostParams};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How soon a pod that could not be placed is tried again without news.
const RETRY: Duration = Duration::from_secs(1);

/// A scheduler at work; dropping it ends it.
#[derive(Debug)]
pub struct Scheduler {
    task: JoinHandle<()>,
}

impl Scheduler {
    /// Starts placing pods. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(client: Client) -> Self {
        Self {
            task: tokio::spawn(place_pods(client)),
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the scheduler knows of the cluster.
#[derive(Debug, Default)]
struct Cluster {
    nodes: BTreeMap<String, Node>,
    pods: BTreeMap<Key, Pod>,
}

impl Cluster {
    fn on_pod(&mut self, event: Event<Pod>) {
        match event {
            Event::Applied(pod) => {
                self.pods.insert(Key::of(&pod), pod);
            }
            Event::Deleted(key) => {
                self.pods.remove(&key);
            }
            Event::InSync | Event::Trouble(_) => {}
        }
    }

    fn on_node(&mut self, event: Event<Node>) {
        match event {
            Event::Applied(node) => {
                self.nodes.insert(Key::of(&node).name, node);
            }
            Event::Deleted(key) => {
                self.nodes.remove(&key.name);
            }
            Event::InSync | Event::Trouble(_) => {}
        }
    }

    fn unplaced(&self) -> Vec<Key> {
        let waits = |pod: &Pod| {
            node_of(pod).is_empty() && pod.metadata.deletion_timestamp.is_none() && !finished(pod)
        };
        self.pods
            .iter()
            .filter(|(_, pod)| waits(pod))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// The ready node with the fewest pods that a pod may run on, the first by name among equals.
    fn choose(&self, pod: &Pod) -> Option<String> {
        let mut counts: BTreeMap<&str, usize> = self
            .nodes
            .iter()
            .filter(|(_, node)| takes_pods(node) && selected(pod, node))
            .map(|(name, _)| (name.as_str(), 0))
            .collect();
        for other in self.pods.values().filter(|other| !finished(other)) {
            if let Some(count) = counts.get_mut(node_of(other)) {
                *count += 1;
            }
        }
        counts
            .into_iter()
            .min_by_key(|(_, count)| *count)
            .map(|(name, _)| name.to_owned())
    }
}

fn node_of(pod: &Pod) -> &str {
    let name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    name.unwrap_or_default()
}

fn finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn takes_pods(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let closed = node
        .spec
        .as_ref()
        .and_then(|spec| spec.unschedulable)
        .unwrap_or(false);
    ready && !closed && node.metadata.deletion_timestamp.is_none()
}

fn selected(pod: &Pod, node: &Node) -> bool {
    let wanted = pod.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
    let labels = node.metadata.labels.as_ref();
    wanted
        .into_iter()
        .flatten()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

async fn place_pods(client: Client) {
    let mut cluster = Cluster::default();
    let mut pods = Box::pin(client.watch::<Pod>(WatchScope::default()));
    let mut nodes = Box::pin(client.watch::<Node>(WatchScope::default()));
    loop {
        let waiting = cluster.unplaced();
        tokio::select! {
            Some(event) = pods.next() => cluster.on_pod(event),
            Some(event) = nodes.next() => cluster.on_node(event),
            () = sleep(RETRY), if !waiting.is_empty() => {}
        }
        for key in cluster.unplaced() {
            place(&client, &mut cluster, &key).await;
        }
    }
}

async fn place(client: &Client, cluster: &mut Cluster, key: &Key) {
    let Some(pod) = cluster.pods.get(key) else { return };
    let Some(node) = cluster.choose(pod) else {
        if let Err(error) = tell_unplaced(client, pod).await {
            tracing::debug!(pod = %key, error = %error, "pod condition not told");
        }
        return;
    };
    match bind(client, key, &node).await {
        // The watch tells the same later; until then the pod counts as placed.
        Ok(()) => {
            if let Some(spec) = cluster.pods.get_mut(key).and_then(|pod| pod.spec.as_mut()) {
                spec.node_name = Some(node);
            }
        }
        Err(error) => tracing::warn!(pod = %key, node = %node, error = %error, "pod not placed"),
    }
}

/// Binds a pod to a node; servers without the subresource get the field written.
async fn bind(
    client: &Client,
    key: &Key,
    node: &str,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let namespace = key.namespace.as_deref().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.kube().clone(), namespace);
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": key.name, "namespace": namespace},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let result: Result<serde_json::Value, _> = pods
        .create_subresource("binding", &key.name, &PostParams::default(), &binding)
        .await;
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 405 | 501) => {
            let patch = json!({"spec": {"nodeName": node}});
            client
                .patch_merge::<Pod>(Some(namespace), &key.name, &patch)
                .await?;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Says in the pod's status that no node takes it. Once: the condition stays until the pod is placed.
async fn tell_unplaced(client: &Client, pod: &Pod) -> caracal_datastore::Result<()> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    if conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "PodScheduled")
    {
        return Ok(());
    }
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let patch = json!({"status": {"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": now,
        "message": "no node is Ready, schedulable and matches the pod's nodeSelector",
    }]}});
    let key = Key::of(pod);
    client
        .patch_status::<Pod>(key.namespace.as_deref(), &key.name, &patch)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_apiserver::ApiServer;
    use serde_json::Value;

    fn node(name: &str, spec: Value, ready: &str) -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": name, "labels": {"name": name}}, "spec": spec,
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
        )
        .unwrap()
    }

    fn pod(name: &str, spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([{"name": "c", "image": "none"}]);
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn the_ready_node_with_the_fewest_pods_is_chosen() {
        let mut cluster = Cluster::default();
        cluster.on_node(Event::Applied(node("a", json!({}), "True")));
        cluster.on_node(Event::Applied(node("b", json!({}), "True")));
        cluster.on_node(Event::Applied(node("c", json!({}), "False")));
        cluster.on_node(Event::Applied(node("d", json!({"unschedulable": true}), "True")));
        let new = pod("new", json!({}));
        assert_eq!(cluster.choose(&new).as_deref(), Some("a"));
        cluster.on_pod(Event::Applied(pod("x", json!({"nodeName": "a"}))));
        assert_eq!(cluster.choose(&new).as_deref(), Some("b"));
        let picky = pod("picky", json!({"nodeSelector": {"name": "a"}}));
        assert_eq!(cluster.choose(&picky).as_deref(), Some("a"));
        let picky = pod("picky", json!({"nodeSelector": {"name": "c"}}));
        assert_eq!(cluster.choose(&picky), None);
    }

    #[tokio::test]
    async fn pods_are_spread_and_those_that_fit_nowhere_say_so() {
        let client = Client::from_service(ApiServer::in_memory().service(), "default");
        let _scheduler = Scheduler::start(client.clone());
        client.create(&pod("early", json!({}))).await.unwrap();
        let scheduled = async |name: &str| loop {
            let pod = client.get::<Pod>(Some("default"), name).await.unwrap().unwrap();
            let told = pod.status.clone().and_then(|status| status.conditions).is_some();
            if told || !node_of(&pod).is_empty() {
                return node_of(&pod).to_owned();
            }
            sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(scheduled("early").await, "");
        for name in ["node-1", "node-2"] {
            let made = node(name, json!({}), "True");
            client.create(&made).await.unwrap();
            let status = json!({"status": made.status});
            client.patch_status::<Node>(None, name, &status).await.unwrap();
        }
        for name in ["p1", "p2", "p3"] {
            client.create(&pod(name, json!({}))).await.unwrap();
        }
        let mut places = Vec::new();
        for name in ["p1", "p2", "p3"] {
            places.push(scheduled(name).await);
        }
        while node_of(
            &client
                .get::<Pod>(Some("default"), "early")
                .await
                .unwrap()
                .unwrap(),
        )
        .is_empty()
        {
            sleep(Duration::from_millis(20)).await;
        }
        let early = client
            .get::<Pod>(Some("default"), "early")
            .await
            .unwrap()
            .unwrap();
        places.push(node_of(&early).to_owned());
        assert_eq!(
            places.iter().filter(|place| *place == "node-1").count(),
            2,
            "{places:?}"
        );
        assert_eq!(
            places.iter().filter(|place| *place == "node-2").count(),
            2,
            "{places:?}"
        );
    }
}

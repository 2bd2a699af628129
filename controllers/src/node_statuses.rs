//! Answers of nodes that are gone: the status of their CalicoNodeStatus is emptied, so that nobody takes it for news.
//!
//! # Ownership
//! Nothing for good: the status is the node's. The question itself is the user's, and is answered again when a node of
//! that name comes back.

use caracal_api::v3::CalicoNodeStatus;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::cluster::{Cluster, Kind};
use crate::context::{Again, Context, Controller};
use crate::lease::Error;

/// The questions whose answer is to be emptied: name, node and version.
#[must_use]
pub fn plan(cluster: &Cluster) -> Vec<(String, String, Option<String>)> {
    cluster
        .node_statuses
        .iter()
        .filter(|(_, question)| !cluster.nodes.contains_key(&question.spec.node))
        .filter(|(_, question)| {
            let status = question.status.clone().unwrap_or_default();
            status.last_updated.is_some()
                || status.agent.is_some()
                || status.bgp.is_some()
                || status.routes.is_some()
        })
        .map(|(name, question)| {
            let version = question.metadata.resource_version.clone();
            (name.clone(), question.spec.node.clone(), version)
        })
        .collect()
}

/// The controller.
#[derive(Debug, Default)]
pub struct NodeStatuses;

impl Controller for NodeStatuses {
    fn name(&self) -> &'static str {
        "nodestatus"
    }

    fn wakes(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Node | Kind::NodeStatus)
    }

    fn run<'a>(&'a mut self, context: &'a Context<'a>) -> BoxFuture<'a, Result<Again, Error>> {
        async move {
            for (name, node, version) in plan(context.cluster) {
                if context.client.get::<Node>(None, &node).await?.is_some() {
                    continue;
                }
                let empty = json!({"lastUpdated": null, "agent": null, "bgp": null, "routes": null});
                let emptied = context
                    .patch_status::<CalicoNodeStatus>(&name, version.as_deref(), empty)
                    .await?;
                if emptied {
                    tracing::info!(question = name, node, "status emptied, its node is gone");
                }
            }
            Ok(None)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_of_nodes_that_are_gone_are_emptied() {
        let mut cluster = Cluster::default();
        cluster.nodes.insert("here".to_owned(), Node::default());
        for (name, node, status) in [
            ("a", "here", json!({"lastUpdated": "2026-01-01T00:00:00Z"})),
            ("b", "gone", json!({"lastUpdated": "2026-01-01T00:00:00Z"})),
            ("c", "gone", json!({})),
        ] {
            let object = json!({"metadata": {"name": name}, "spec": {"node": node}, "status": status,
                "apiVersion": "projectcalico.org/v3", "kind": "CalicoNodeStatus"});
            cluster
                .node_statuses
                .insert(name.to_owned(), serde_json::from_value(object).unwrap());
        }
        let names: Vec<String> = plan(&cluster).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["b"]);
    }
}

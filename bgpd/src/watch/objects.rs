//! Nodes and Pods as far as they matter.

use std::collections::BTreeMap;

use caracal_api::virtual_::node::{self, Node};
use caracal_api::virtual_::workload_endpoint;
use caracal_bgpd_compile::{DRAIN, Workload};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node as KubernetesNode, Pod};

/// A node; of its annotations the one that says that its speaker is about to go, which a taint of that name says too.
pub(super) fn node(object: &KubernetesNode) -> Option<Node> {
    let mut node = node::from_k8s(object)?;
    let annotations = object.metadata.annotations.as_ref();
    let annotated = annotations
        .and_then(|annotations| annotations.get(DRAIN))
        .cloned();
    let taints = object.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let is_tainted = taints.is_some_and(|taints| taints.iter().any(|taint| taint.key == DRAIN));
    let drain = if is_tainted {
        Some("true".to_owned())
    } else {
        annotated
    };
    node.metadata.annotations = drain.map(|drain| BTreeMap::from([(DRAIN.to_owned(), drain)]));
    Some(node)
}

/// The workload in a pod; none for pods of the host's network and such as have finished.
pub(super) fn workload(pod: &Pod) -> Option<Workload> {
    let endpoint = workload_endpoint::from_pod(pod).ok().flatten()?;
    let nets = endpoint.spec.ip_networks.iter();
    Some(Workload {
        labels: endpoint.metadata.labels.unwrap_or_default(),
        addresses: nets
            .filter_map(|net| net.parse::<IpNet>().ok())
            .map(|net| net.addr())
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn drains(spec: serde_json::Value, annotations: serde_json::Value) -> Option<String> {
        let object = json!({"metadata": {"name": "a", "annotations": annotations}, "spec": spec});
        let node = node(&serde_json::from_value(object).unwrap()).unwrap();
        node.metadata.annotations?.remove(DRAIN)
    }

    #[test]
    fn annotation_and_taint_say_that_a_speaker_is_about_to_go() {
        assert_eq!(drains(json!({}), json!({"other": "true"})), None);
        assert_eq!(
            drains(json!({}), json!({DRAIN: "false"})).as_deref(),
            Some("false")
        );
        let taints = json!({"taints": [{"key": DRAIN, "effect": "NoSchedule"}]});
        assert_eq!(drains(taints, json!({DRAIN: "false"})).as_deref(), Some("true"));
    }

    #[test]
    fn pods_with_addresses_are_workloads() {
        let pod = |more: serde_json::Value| {
            let mut value = json!({"metadata": {"name": "p", "namespace": "d", "labels": {"app": "x"}},
                "spec": {"nodeName": "a", "containers": []}, "status": {"podIP": "10.65.0.5", "podIPs": [{"ip": "10.65.0.5"}]}});
            for (key, field) in more.as_object().unwrap() {
                value["spec"][key] = field.clone();
            }
            workload(&serde_json::from_value(value).unwrap())
        };
        let found = pod(json!({})).unwrap();
        assert_eq!(
            found.addresses,
            ["10.65.0.5".parse::<std::net::IpAddr>().unwrap()]
        );
        assert_eq!(found.labels.get("app").map(String::as_str), Some("x"));
        assert_eq!(pod(json!({"hostNetwork": true})), None);
    }
}

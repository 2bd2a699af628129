//! The way back: what an update of a node writes on its Kubernetes Node.
//!
//! Source: `libcalico-go/lib/backend/k8s/resources/node.go`. An empty value removes its annotation. What belongs to
//! Kubernetes (its labels, addresses, pod CIDRs) is never written.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node as KubernetesNode;
use serde::Serialize;

use super::{Node, NodeBgpSpec, NodeWireguardSpec};
use crate::meta;

/// The annotations that store a node, each with its value; `None` = the annotation has to go.
#[must_use]
pub fn annotations(node: &Node, stored: &KubernetesNode) -> BTreeMap<&'static str, Option<String>> {
    let no_bgp = NodeBgpSpec::default();
    let bgp = node.spec.bgp.as_ref().unwrap_or(&no_bgp);
    let no_wireguard = NodeWireguardSpec::default();
    let wireguard = node.spec.wireguard.as_ref().unwrap_or(&no_wireguard);
    let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
    BTreeMap::from([
        (meta::NODE_IPV4_ADDRESS, text(&bgp.ipv4_address)),
        (meta::NODE_IPV6_ADDRESS, text(&bgp.ipv6_address)),
        (
            meta::NODE_AS_NUMBER,
            bgp.as_number.map(|number| number.to_string()),
        ),
        (
            meta::NODE_ROUTE_REFLECTOR_CLUSTER_ID,
            text(&bgp.route_reflector_cluster_id),
        ),
        (meta::NODE_IPV4_IPIP_TUNNEL_ADDR, text(&bgp.ipv4_ipip_tunnel_addr)),
        (
            meta::NODE_IPV4_VXLAN_TUNNEL_ADDR,
            text(&node.spec.ipv4_vxlan_tunnel_addr),
        ),
        (
            meta::NODE_IPV6_VXLAN_TUNNEL_ADDR,
            text(&node.spec.ipv6_vxlan_tunnel_addr),
        ),
        (
            meta::NODE_VXLAN_TUNNEL_MAC_ADDR,
            text(&node.spec.vxlan_tunnel_mac_addr),
        ),
        (
            meta::NODE_VXLAN_TUNNEL_MAC_ADDR_V6,
            text(&node.spec.vxlan_tunnel_mac_addr_v6),
        ),
        (
            meta::NODE_IPV4_WIREGUARD_INTERFACE_ADDR,
            text(&wireguard.interface_ipv4_address),
        ),
        (
            meta::NODE_IPV6_WIREGUARD_INTERFACE_ADDR,
            text(&wireguard.interface_ipv6_address),
        ),
        (
            meta::NODE_WIREGUARD_PUBLIC_KEY,
            text(&node.status.wireguard_public_key),
        ),
        (
            meta::NODE_WIREGUARD_PUBLIC_KEY_V6,
            text(&node.status.wireguard_public_key_v6),
        ),
        (
            meta::NODE_INTERFACES,
            json(&node.spec.interfaces, node.spec.interfaces.is_empty()),
        ),
        (meta::NODE_LABELS, own_labels(node, stored)),
        (meta::NODE_ANNOTATIONS, own_annotations(node)),
    ])
}

fn json<T: Serialize>(value: &T, is_empty: bool) -> Option<String> {
    if is_empty {
        return None;
    }
    serde_json::to_string(value).ok()
}

/// The labels that Kubernetes does not have: neither now, nor when the object was read.
fn own_labels(node: &Node, stored: &KubernetesNode) -> Option<String> {
    let read: BTreeMap<String, String> = node
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(meta::NODE_KUBE_LABELS))
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let kubernetes = stored.metadata.labels.as_ref();
    let own: BTreeMap<&String, &String> = node
        .metadata
        .labels
        .iter()
        .flatten()
        .filter(|(key, value)| {
            read.get(*key) != Some(*value) && kubernetes.is_none_or(|labels| !labels.contains_key(*key))
        })
        .collect();
    json(&own, own.is_empty())
}

fn own_annotations(node: &Node) -> Option<String> {
    let own: BTreeMap<&String, &String> = node
        .metadata
        .annotations
        .iter()
        .flatten()
        .filter(|(key, _)| key.as_str() != meta::NODE_KUBE_LABELS)
        .collect();
    json(&own, own.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::from_k8s;
    use super::*;
    use serde_json::json;

    fn kubernetes() -> KubernetesNode {
        serde_json::from_value(json!({"metadata": {
            "name": "n", "labels": {"zone": "a"},
            "annotations": {
                "projectcalico.org/IPv4Address": "10.0.0.1/24", "projectcalico.org/ASNumber": "64513",
                "projectcalico.org/IPv4VXLANTunnelAddr": "10.65.0.1",
                "projectcalico.org/Interfaces": "[{\"name\":\"eth0\",\"addresses\":[\"10.0.0.1\"]}]",
                "projectcalico.org/labels": "{\"rack\":\"1\"}", "other": "kept"
            }
        }}))
        .unwrap()
    }

    #[test]
    fn what_was_read_is_written_back_unchanged() {
        let stored = kubernetes();
        let written = annotations(&from_k8s(&stored).unwrap(), &stored);
        let kept: BTreeMap<_, _> = written
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect();
        let mut own = stored.metadata.annotations.unwrap();
        own.remove("other");
        assert_eq!(kept, own);
    }

    #[test]
    fn an_empty_value_removes_its_annotation_and_labels_of_kubernetes_stay_there() {
        let stored = kubernetes();
        let mut node = from_k8s(&stored).unwrap();
        node.spec.bgp = None;
        node.metadata.labels = Some(BTreeMap::from([("zone".to_owned(), "a".to_owned())]));
        let written = annotations(&node, &stored);
        assert_eq!(written[meta::NODE_IPV4_ADDRESS], None);
        assert_eq!(written[meta::NODE_AS_NUMBER], None);
        assert_eq!(written[meta::NODE_LABELS], None);
    }
}

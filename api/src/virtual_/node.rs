//! Nodes: what we know of a Kubernetes Node, most of it in its annotations.

mod annotations;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

pub use annotations::annotations;

use crate::meta;
use crate::v3::AsNumber;

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Name, labels and annotations; labels are ours overlaid by those of Kubernetes.
    pub metadata: ObjectMeta,
    /// What is known of the node.
    pub spec: NodeSpec,
    /// What the node has announced.
    #[serde(default)]
    pub status: NodeStatus,
}

/// What is known of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// BGP settings; present when the node has an address or a tunnel address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp: Option<NodeBgpSpec>,
    /// Address of the IPv4 VXLAN device.
    #[serde(rename = "ipv4VXLANTunnelAddr", skip_serializing_if = "String::is_empty")]
    pub ipv4_vxlan_tunnel_addr: String,
    /// Hardware address of the IPv4 VXLAN device.
    #[serde(rename = "vxlanTunnelMACAddr", skip_serializing_if = "String::is_empty")]
    pub vxlan_tunnel_mac_addr: String,
    /// Address of the IPv6 VXLAN device.
    #[serde(rename = "ipv6VXLANTunnelAddr", skip_serializing_if = "String::is_empty")]
    pub ipv6_vxlan_tunnel_addr: String,
    /// Hardware address of the IPv6 VXLAN device.
    #[serde(rename = "vxlanTunnelMACAddrV6", skip_serializing_if = "String::is_empty")]
    pub vxlan_tunnel_mac_addr_v6: String,
    /// The orchestrator's name of the node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub orch_refs: Vec<OrchRef>,
    /// WireGuard settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard: Option<NodeWireguardSpec>,
    /// Addresses of the node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NodeAddress>,
    /// Interfaces of the node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<NodeInterface>,
}

/// BGP settings of a node. Addresses are texts that have been checked to parse.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeBgpSpec {
    /// AS number, if the node has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// IPv4 address with the mask of its network.
    #[serde(rename = "ipv4Address", skip_serializing_if = "String::is_empty")]
    pub ipv4_address: String,
    /// IPv6 address with the mask of its network.
    #[serde(rename = "ipv6Address", skip_serializing_if = "String::is_empty")]
    pub ipv6_address: String,
    /// Address of the IP-in-IP device.
    #[serde(rename = "ipv4IPIPTunnelAddr", skip_serializing_if = "String::is_empty")]
    pub ipv4_ipip_tunnel_addr: String,
    /// Cluster id of a route reflector.
    #[serde(rename = "routeReflectorClusterID", skip_serializing_if = "String::is_empty")]
    pub route_reflector_cluster_id: String,
}

/// The orchestrator's name of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OrchRef {
    /// Name of the node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    /// Name of the orchestrator.
    pub orchestrator: String,
}

/// WireGuard settings of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeWireguardSpec {
    /// Address of the IPv4 device.
    #[serde(rename = "interfaceIPv4Address", skip_serializing_if = "String::is_empty")]
    pub interface_ipv4_address: String,
    /// Address of the IPv6 device.
    #[serde(rename = "interfaceIPv6Address", skip_serializing_if = "String::is_empty")]
    pub interface_ipv6_address: String,
}

/// An address of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// The address, with a mask when that is known.
    pub address: String,
    /// `CalicoNodeIP`, `InternalIP` or `ExternalIP`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub type_: String,
}

/// An interface of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeInterface {
    /// Name of the interface.
    pub name: String,
    /// Its addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

/// What a node has announced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Public key of the IPv4 WireGuard device.
    #[serde(rename = "wireguardPublicKey", skip_serializing_if = "String::is_empty")]
    pub wireguard_public_key: String,
    /// Public key of the IPv6 WireGuard device.
    #[serde(rename = "wireguardPublicKeyV6", skip_serializing_if = "String::is_empty")]
    pub wireguard_public_key_v6: String,
    /// CIDRs that Kubernetes gave the node for pods.
    #[serde(rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<String>,
}

impl Node {
    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The IPv4 BGP address with the prefix length of its network (32 when the annotation has none).
    #[must_use]
    pub fn ipv4(&self) -> Option<IpNet> {
        self.spec
            .bgp
            .as_ref()
            .and_then(|bgp| parse_cidr_or_address(&bgp.ipv4_address))
    }

    /// The IPv6 BGP address with the prefix length of its network (128 when the annotation has none).
    #[must_use]
    pub fn ipv6(&self) -> Option<IpNet> {
        self.spec
            .bgp
            .as_ref()
            .and_then(|bgp| parse_cidr_or_address(&bgp.ipv6_address))
    }

    /// The node's own AS number.
    #[must_use]
    pub fn as_number(&self) -> Option<AsNumber> {
        self.spec.bgp.as_ref().and_then(|bgp| bgp.as_number)
    }

    /// The cluster id, if the node is a route reflector.
    #[must_use]
    pub fn route_reflector_cluster_id(&self) -> Option<Ipv4Addr> {
        self.spec
            .bgp
            .as_ref()
            .and_then(|bgp| bgp.route_reflector_cluster_id.parse().ok())
    }
}

fn parse_cidr_or_address(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse::<IpNet>()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Annotations with a check; values that fail it are ignored.
struct Annotations<'a>(Option<&'a BTreeMap<String, String>>);

impl Annotations<'_> {
    fn text(&self, key: &str) -> String {
        self.0.and_then(|all| all.get(key)).cloned().unwrap_or_default()
    }

    fn checked(&self, key: &str, is_valid: impl Fn(&str) -> bool) -> String {
        Some(self.text(key))
            .filter(|text| is_valid(text))
            .unwrap_or_default()
    }

    fn ipv4(&self, key: &str) -> String {
        self.checked(key, |text| text.parse::<Ipv4Addr>().is_ok())
    }

    fn ipv6(&self, key: &str) -> String {
        self.checked(key, |text| matches!(text.parse(), Ok(IpAddr::V6(_))))
    }

    fn json<T: for<'de> Deserialize<'de> + Default>(&self, key: &str) -> T {
        serde_json::from_str(&self.text(key)).unwrap_or_default()
    }
}

/// The node behind a Kubernetes Node. `None` for an object without a name.
#[must_use]
pub fn from_k8s(node: &KubernetesNode) -> Option<Node> {
    let name = node.metadata.name.clone()?;
    let annotations = Annotations(node.metadata.annotations.as_ref());
    let bgp = bgp_spec(&annotations);
    let wireguard = NodeWireguardSpec {
        interface_ipv4_address: annotations.ipv4(meta::NODE_IPV4_WIREGUARD_INTERFACE_ADDR),
        interface_ipv6_address: annotations.ipv6(meta::NODE_IPV6_WIREGUARD_INTERFACE_ADDR),
    };
    let spec = NodeSpec {
        addresses: addresses(node, &bgp),
        bgp: Some(bgp).filter(|bgp| *bgp != NodeBgpSpec::default()),
        ipv4_vxlan_tunnel_addr: annotations.ipv4(meta::NODE_IPV4_VXLAN_TUNNEL_ADDR),
        ipv6_vxlan_tunnel_addr: annotations.ipv6(meta::NODE_IPV6_VXLAN_TUNNEL_ADDR),
        vxlan_tunnel_mac_addr: annotations.text(meta::NODE_VXLAN_TUNNEL_MAC_ADDR),
        vxlan_tunnel_mac_addr_v6: annotations.text(meta::NODE_VXLAN_TUNNEL_MAC_ADDR_V6),
        orch_refs: vec![OrchRef {
            node_name: name.clone(),
            orchestrator: meta::ORCHESTRATOR_K8S.to_owned(),
        }],
        wireguard: Some(wireguard).filter(|wireguard| *wireguard != NodeWireguardSpec::default()),
        interfaces: annotations.json(meta::NODE_INTERFACES),
    };
    let status = NodeStatus {
        wireguard_public_key: annotations.text(meta::NODE_WIREGUARD_PUBLIC_KEY),
        wireguard_public_key_v6: annotations.text(meta::NODE_WIREGUARD_PUBLIC_KEY_V6),
        pod_cidrs: node
            .spec
            .as_ref()
            .and_then(|spec| spec.pod_cidrs.clone())
            .unwrap_or_default(),
    };
    Some(Node {
        metadata: metadata(node, name, &annotations),
        spec,
        status,
    })
}

fn metadata(node: &KubernetesNode, name: String, annotations: &Annotations<'_>) -> ObjectMeta {
    let kubernetes_labels = node.metadata.labels.clone().unwrap_or_default();
    let mut labels: BTreeMap<String, String> = annotations.json(meta::NODE_LABELS);
    labels.extend(kubernetes_labels.clone());
    let mut own: BTreeMap<String, String> = annotations.json(meta::NODE_ANNOTATIONS);
    if let Ok(text) = serde_json::to_string(&kubernetes_labels) {
        own.insert(meta::NODE_KUBE_LABELS.to_owned(), text);
    }
    ObjectMeta {
        name: Some(name),
        uid: node.metadata.uid.clone(),
        resource_version: node.metadata.resource_version.clone(),
        creation_timestamp: node.metadata.creation_timestamp.clone(),
        labels: Some(labels),
        annotations: Some(own),
        ..ObjectMeta::default()
    }
}

fn bgp_spec(annotations: &Annotations<'_>) -> NodeBgpSpec {
    let is_ipv4 = |text: &str| parse_cidr_or_address(text).is_some_and(|net| net.addr().is_ipv4());
    let is_ipv6 = |text: &str| parse_cidr_or_address(text).is_some_and(|net| net.addr().is_ipv6());
    NodeBgpSpec {
        as_number: annotations.text(meta::NODE_AS_NUMBER).parse().ok(),
        ipv4_address: annotations.checked(meta::NODE_IPV4_ADDRESS, is_ipv4),
        ipv6_address: annotations.checked(meta::NODE_IPV6_ADDRESS, is_ipv6),
        ipv4_ipip_tunnel_addr: annotations.ipv4(meta::NODE_IPV4_IPIP_TUNNEL_ADDR),
        route_reflector_cluster_id: annotations.ipv4(meta::NODE_ROUTE_REFLECTOR_CLUSTER_ID),
    }
}

/// BGP addresses, then what Kubernetes lists as internal and external, each address once.
fn addresses(node: &KubernetesNode, bgp: &NodeBgpSpec) -> Vec<NodeAddress> {
    let own = [&bgp.ipv4_address, &bgp.ipv6_address]
        .into_iter()
        .filter(|address| !address.is_empty())
        .map(|address| NodeAddress {
            address: address.clone(),
            type_: "CalicoNodeIP".to_owned(),
        });
    let listed = node
        .status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten());
    let kubernetes = ["InternalIP", "ExternalIP"].into_iter().flat_map(|type_| {
        listed
            .clone()
            .filter(move |address| address.type_ == type_)
            .map(move |address| NodeAddress {
                address: address.address.clone(),
                type_: type_.to_owned(),
            })
    });
    let mut addresses: Vec<NodeAddress> = Vec::new();
    for address in own.chain(kubernetes) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

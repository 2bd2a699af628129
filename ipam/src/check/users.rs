//! Who uses addresses: pods, the tunnels of nodes, and services.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use caracal_api::meta::{POD_IP, POD_IPS};
use caracal_api::net::parse_cidr_or_address;
use caracal_api::virtual_::{node, workload_endpoint};
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use serde::{Deserialize, Serialize};

/// A user of an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum User {
    /// A pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its node.
        node: String,
    },
    /// A tunnel device of a node.
    Tunnel {
        /// The node.
        node: String,
        /// The allocation's `type`, such as `ipipTunnelAddress`.
        device: String,
    },
    /// A Service of type LoadBalancer.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod {
                namespace,
                name,
                node,
            } => write!(f, "pod {namespace}/{name} on node {node}"),
            Self::Tunnel { node, device } => write!(f, "{device} of node {node}"),
            Self::Service { namespace, name } => write!(f, "service {namespace}/{name}"),
        }
    }
}

/// An address of a user, and since when the user exists.
#[derive(Clone, Debug)]
pub(super) struct Use {
    pub(super) user: User,
    pub(super) since: Option<Timestamp>,
}

/// The users of all addresses.
pub(super) fn users(nodes: &[Node], pods: &[Pod], services: &[Service]) -> BTreeMap<IpAddr, Vec<Use>> {
    let mut users: BTreeMap<IpAddr, Vec<Use>> = BTreeMap::new();
    let found = pods
        .iter()
        .flat_map(of_pod)
        .chain(nodes.iter().flat_map(of_node))
        .chain(services.iter().flat_map(of_service));
    for (address, one) in found {
        let all = users.entry(address).or_default();
        if !all.iter().any(|other| other.user == one.user) {
            all.push(one);
        }
    }
    users
}

/// The addresses of a pod that runs; `None` when they cannot be read, because an annotation is malformed.
pub(super) fn pod_addresses(pod: &Pod) -> Option<Vec<IpAddr>> {
    let endpoint = workload_endpoint::from_pod(pod).ok()?;
    let mut addresses: Vec<IpAddr> = endpoint
        .iter()
        .flat_map(|endpoint| &endpoint.spec.ip_networks)
        .filter_map(|text| Some(parse_cidr_or_address(text)?.addr()))
        .collect();
    if endpoint.is_some() && !workload_endpoint::is_finished(pod) {
        addresses.extend(annotated(pod));
    }
    Some(addresses)
}

/// What the CNI plugin wrote; it may be ahead of the pod's status, or the status ahead of it.
fn annotated(pod: &Pod) -> Vec<IpAddr> {
    let annotations = pod.metadata.annotations.as_ref();
    let text = |name: &str| {
        annotations
            .and_then(|all| all.get(name))
            .cloned()
            .unwrap_or_default()
    };
    format!("{},{}", text(POD_IP), text(POD_IPS))
        .split(',')
        .filter_map(parse_cidr_or_address)
        .filter(IpNet::is_single)
        .map(|net| net.addr())
        .collect()
}

trait IsSingle {
    fn is_single(&self) -> bool;
}

impl IsSingle for IpNet {
    fn is_single(&self) -> bool {
        self.prefix_len() == self.max_prefix_len()
    }
}

fn of_pod(pod: &Pod) -> Vec<(IpAddr, Use)> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let user = User::Pod {
        namespace: text(&pod.metadata.namespace),
        name: text(&pod.metadata.name),
        node: text(&pod.spec.as_ref().and_then(|spec| spec.node_name.clone())),
    };
    let since = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let addresses = pod_addresses(pod).unwrap_or_default();
    addresses
        .into_iter()
        .map(|address| {
            (
                address,
                Use {
                    user: user.clone(),
                    since,
                },
            )
        })
        .collect()
}

/// The tunnel addresses of a node, with the allocation's `type`.
pub(super) fn tunnels(stored: &Node) -> Vec<(IpAddr, &'static str)> {
    let Some(read) = node::from_k8s(stored) else {
        return Vec::new();
    };
    let spec = read.spec;
    let wireguard = spec.wireguard.unwrap_or_default();
    [
        (
            spec.bgp.unwrap_or_default().ipv4_ipip_tunnel_addr,
            "ipipTunnelAddress",
        ),
        (spec.ipv4_vxlan_tunnel_addr, "vxlanTunnelAddress"),
        (spec.ipv6_vxlan_tunnel_addr, "vxlanV6TunnelAddress"),
        (wireguard.interface_ipv4_address, "wireguardTunnelAddress"),
        (wireguard.interface_ipv6_address, "wireguardV6TunnelAddress"),
    ]
    .into_iter()
    .filter_map(|(text, device)| Some((text.parse().ok()?, device)))
    .collect()
}

fn of_node(node: &Node) -> Vec<(IpAddr, Use)> {
    let name = node.metadata.name.clone().unwrap_or_default();
    tunnels(node)
        .into_iter()
        .map(|(address, device)| {
            let user = User::Tunnel {
                node: name.clone(),
                device: device.to_owned(),
            };
            (address, Use { user, since: None })
        })
        .collect()
}

/// The addresses that a Service of type LoadBalancer has been given.
fn of_service(service: &Service) -> Vec<(IpAddr, Use)> {
    if !is_load_balancer(service) {
        return Vec::new();
    }
    let user = User::Service {
        namespace: service.metadata.namespace.clone().unwrap_or_default(),
        name: service.metadata.name.clone().unwrap_or_default(),
    };
    let since = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let status = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = status
        .and_then(|status| status.ingress.as_deref())
        .unwrap_or_default();
    ingress
        .iter()
        .filter_map(|one| one.ip.as_ref()?.parse().ok())
        .map(|address| {
            (
                address,
                Use {
                    user: user.clone(),
                    since,
                },
            )
        })
        .collect()
}

pub(super) fn is_load_balancer(service: &Service) -> bool {
    let type_ = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
    type_ == Some("LoadBalancer")
}

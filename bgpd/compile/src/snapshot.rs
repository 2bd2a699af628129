//! The objects that decide what a node's speaker is, by name.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use caracal_api::v3::{
    BGPConfigurationSpec, BGPFilterSpec, BGPPeerSpec, BlockAffinitySpec, FelixConfigurationSpec, IPPoolSpec,
};
use caracal_api::virtual_::node::Node;
use caracal_bgpd_core::config::Password;

use crate::selection::Selected;
use crate::services::Service;
use crate::workloads::Workload;

/// Everything that is known. Maps are keyed by object name unless stated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// All nodes.
    pub nodes: BTreeMap<String, Node>,
    /// `default` and `node.<name>`.
    pub configurations: BTreeMap<String, BGPConfigurationSpec>,
    /// Peers.
    pub peers: BTreeMap<String, BGPPeerSpec>,
    /// Filters.
    pub filters: BTreeMap<String, BGPFilterSpec>,
    /// Pools.
    pub pools: BTreeMap<String, IPPoolSpec>,
    /// Affinities; those of other nodes may be left out.
    pub affinities: BTreeMap<String, BlockAffinitySpec>,
    /// `default` and `node.<name>`, for `programClusterRoutes`.
    pub felix: BTreeMap<String, FelixConfigurationSpec>,
    /// Passwords that peers refer to, by Secret name and key.
    pub passwords: BTreeMap<(String, String), Password>,
    /// Services with their endpoints, by `namespace/name`; empty unless service addresses are advertised.
    pub services: BTreeMap<String, Service>,
    /// Ranges of cluster addresses that the environment sets over BGPConfiguration.
    pub cluster_ips_override: Option<Vec<String>>,
    /// Where the BGP Identifier comes from.
    pub router_id: RouterIdRule,
    /// Workloads of the node, by name; empty unless a peer selects any.
    pub workloads: BTreeMap<String, Workload>,
    /// Where the node's default routes lead, IPv4 and IPv6.
    pub gateways: [Option<IpAddr>; 2],
    /// What selectors last meant (`Compiled::selected`).
    pub selected: Selected,
}

/// Annotation of a Node whose speaker is about to go (RFC 8326): `true` or `false`.
pub const DRAIN: &str = "caracal.dev/bgp-drain";

/// Where the BGP Identifier comes from (`CALICO_ROUTER_ID`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RouterIdRule {
    /// The node's IPv4 address; a node without one takes the hash.
    #[default]
    NodeAddress,
    /// Hash of the node's name.
    Hash,
    /// This one.
    Literal(Ipv4Addr),
}

impl RouterIdRule {
    /// Reads the environment variable's text: empty, `hash`, or an IPv4 address. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "" => Some(Self::NodeAddress),
            "hash" => Some(Self::Hash),
            other => other.parse().ok().map(Self::Literal),
        }
    }
}

impl Snapshot {
    /// Secrets and keys that peers and the mesh refer to: what must be watched for passwords.
    #[must_use]
    pub fn secret_references(&self) -> Vec<(String, String)> {
        let peers = self.peers.values().map(|peer| peer.password.as_ref());
        let mesh = self
            .configurations
            .get("default")
            .map(|spec| spec.node_mesh_password.as_ref());
        let mut references: Vec<(String, String)> = peers
            .chain(mesh)
            .flatten()
            .filter_map(|password| password.secret_key_ref.as_ref())
            .map(|key| (key.name.clone(), key.key.clone()))
            .collect();
        references.sort();
        references.dedup();
        references
    }

    /// Whether peers are workloads, so that those of the node matter.
    #[must_use]
    pub fn peers_with_workloads(&self) -> bool {
        let mut peers = self.peers.values();
        peers.any(|peer| !peer.local_workload_selector.is_empty())
    }

    /// Whether addresses of Services are advertised, so that Services and their endpoints matter.
    #[must_use]
    pub fn advertises_services(&self) -> bool {
        let env = self
            .cluster_ips_override
            .as_ref()
            .is_some_and(|list| !list.is_empty());
        env || self.configurations.get("default").is_some_and(|spec| {
            !spec.service_cluster_ips.is_empty()
                || !spec.service_external_ips.is_empty()
                || !spec.service_load_balancer_ips.is_empty()
        })
    }
}

//! What the watches told: the snapshot from which every controller plans.
//!
//! Owns no rule. Of pods only what matters for addresses is kept, because there are many of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use caracal_api::meta::TIER_DEFAULT;
use caracal_api::v3::{
    BlockAffinity, CalicoNodeStatus, ClusterInformation, HostEndpoint, IPAMBlock, IPAMConfiguration, IPPool,
    IPReservation, KubeControllersConfiguration, Tier,
};
use caracal_api::virtual_::workload_endpoint::{self, has_address, is_finished};
use caracal_datastore::Key;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod};

/// Kinds whose changes controllers ask to be woken by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Pods.
    Pod,
    /// Nodes.
    Node,
    /// Blocks of addresses.
    Block,
    /// Claims of blocks.
    Affinity,
    /// Pools.
    Pool,
    /// Reservations.
    Reservation,
    /// Address management's settings.
    IpamConfiguration,
    /// Host endpoints.
    HostEndpoint,
    /// Tiers.
    Tier,
    /// Policies of every kind.
    Policy,
    /// Questions to nodes.
    NodeStatus,
    /// Facts about the cluster.
    ClusterInformation,
    /// The controllers' own settings.
    Configuration,
}

/// What matters of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// The node that it runs on; empty while it waits for one.
    pub node: String,
    /// It has an address, or had one.
    pub has_address: bool,
    /// It was evicted: its object remains, its sandbox does not.
    pub evicted: bool,
    /// Its addresses; `None` when they cannot be read, so that nothing is concluded from them.
    pub addresses: Option<BTreeSet<IpAddr>>,
}

impl PodView {
    /// The view of a pod.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let failed = status.and_then(|status| status.phase.as_deref()) == Some("Failed");
        let reason = status.and_then(|status| status.reason.as_deref());
        Self {
            node: pod
                .spec
                .as_ref()
                .and_then(|spec| spec.node_name.clone())
                .unwrap_or_default(),
            has_address: has_address(pod),
            evicted: failed && reason == Some("Evicted"),
            addresses: addresses(pod),
        }
    }
}

/// The addresses that a pod holds: those of its endpoint, and those of its status for pods that are none.
fn addresses(pod: &Pod) -> Option<BTreeSet<IpAddr>> {
    if is_finished(pod) {
        return Some(BTreeSet::new());
    }
    let endpoint = workload_endpoint::from_pod(pod).ok()?;
    let networks = endpoint
        .into_iter()
        .flat_map(|endpoint| endpoint.spec.ip_networks);
    let status = pod.status.as_ref();
    let listed = status
        .iter()
        .flat_map(|status| status.pod_ips.iter().flatten())
        .map(|ip| ip.ip.clone());
    let single = status.and_then(|status| status.pod_ip.clone());
    Some(
        networks
            .chain(listed)
            .chain(single)
            .filter_map(|text| address_of(&text))
            .collect(),
    )
}

/// The address of a text with or without a mask.
pub(crate) fn address_of(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    text.split_once('/')
        .map_or(text, |(address, _)| address)
        .parse()
        .ok()
}

/// Names a policy of any kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyKey {
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace and name.
    pub key: Key,
}

/// All that was told.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Pods.
    pub pods: BTreeMap<Key, PodView>,
    /// Nodes.
    pub nodes: BTreeMap<String, Node>,
    /// Blocks by object name.
    pub blocks: BTreeMap<String, IPAMBlock>,
    /// Claims by object name.
    pub affinities: BTreeMap<String, BlockAffinity>,
    /// Pools.
    pub pools: BTreeMap<String, IPPool>,
    /// Reservations.
    pub reservations: BTreeMap<String, IPReservation>,
    /// Address management's settings.
    pub ipam_configuration: Option<IPAMConfiguration>,
    /// Host endpoints.
    pub host_endpoints: BTreeMap<String, HostEndpoint>,
    /// Tiers.
    pub tiers: BTreeMap<String, Tier>,
    /// The tier of each policy.
    pub policies: BTreeMap<PolicyKey, String>,
    /// Questions to nodes.
    pub node_statuses: BTreeMap<String, CalicoNodeStatus>,
    /// Facts about the cluster.
    pub cluster_information: Option<ClusterInformation>,
    /// The controllers' settings.
    pub configuration: Option<KubeControllersConfiguration>,
}

impl Cluster {
    /// Blocks that are not marked for deletion and whose prefix can be read.
    pub fn live_blocks(&self) -> impl Iterator<Item = (IpNet, &IPAMBlock)> {
        self.blocks
            .values()
            .filter(|block| !block.spec.deleted)
            .filter_map(|block| Some((block.spec.cidr.parse::<IpNet>().ok()?.trunc(), block)))
    }

    /// True while the datastore may be used: a migration or restore locks it.
    #[must_use]
    pub fn datastore_ready(&self) -> bool {
        self.cluster_information
            .as_ref()
            .and_then(|information| information.spec.datastore_ready)
            .unwrap_or(true)
    }
}

/// The tier that a policy names.
#[must_use]
pub fn tier_of(tier: &str) -> String {
    if tier.is_empty() {
        TIER_DEFAULT.to_owned()
    } else {
        tier.to_owned()
    }
}

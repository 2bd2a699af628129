//! A snapshot, arranged for questions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use caracal_api::v3::{AllocationAttribute, IPAMBlock};
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};

use super::claimant::{Claimant, LeakReason, judge_pod, made_at};
use super::snapshot::Snapshot;
use super::users::{Use, is_load_balancer, tunnels, users};
use crate::affinities::owner_of_affinity;
use crate::block::Block;
use crate::pools::{self, Pool};

/// What is younger may be under way.
const UNDER_WAY_SECONDS: i64 = 60;

pub(super) struct Index<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Blocks that can be read, by address.
    pub(super) blocks: BTreeMap<IpNet, Block>,
    /// Blocks that cannot, with the problem.
    pub(super) damaged: Vec<(&'a IPAMBlock, String)>,
    /// All pools.
    pub(super) pools: Vec<Pool>,
    /// Those that addresses are assigned from.
    pub(super) enabled: Vec<Pool>,
    pub(super) reserved: Vec<IpNet>,
    pub(super) users: BTreeMap<IpAddr, Vec<Use>>,
    /// Addresses that somebody holds; not those that cool down.
    pub(super) allocated: BTreeSet<IpAddr>,
    /// Owners and blocks of all affinities.
    pub(super) claims: BTreeSet<(String, IpNet)>,
    pods: BTreeMap<(&'a str, &'a str), &'a Pod>,
    nodes: BTreeMap<&'a str, &'a Node>,
    services: BTreeMap<(&'a str, &'a str), &'a Service>,
}

impl<'a> Index<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Self {
        let mut blocks: BTreeMap<IpNet, Block> = BTreeMap::new();
        let mut damaged = Vec::new();
        for stored in snapshot.blocks.iter().filter(|block| !block.spec.deleted) {
            match Block::from_spec(stored.spec.clone()) {
                Ok(block) => {
                    blocks.insert(block.cidr(), block);
                }
                Err(error) => damaged.push((stored, error.to_string())),
            }
        }
        let allocated = blocks
            .values()
            .flat_map(|block| block.assignments())
            .filter(|(_, attribute)| attribute.released_at.is_none())
            .map(|(address, _)| address)
            .collect();
        Self {
            snapshot,
            allocated,
            blocks,
            damaged,
            pools: snapshot.pools.iter().filter_map(pools::with_network).collect(),
            enabled: pools::enabled(&snapshot.pools),
            reserved: IpNet::aggregate(&pools::reserved(&snapshot.reservations)),
            users: users(&snapshot.nodes, &snapshot.pods, &snapshot.services),
            claims: claims(snapshot),
            pods: snapshot
                .pods
                .iter()
                .map(|pod| (key(&pod.metadata), pod))
                .collect(),
            nodes: snapshot
                .nodes
                .iter()
                .map(|node| (key(&node.metadata).1, node))
                .collect(),
            services: snapshot
                .services
                .iter()
                .map(|service| (key(&service.metadata), service))
                .collect(),
        }
    }

    /// All allocations that can be read, cooling ones too.
    pub(super) fn allocations(&self) -> impl Iterator<Item = (&Block, IpAddr, &AllocationAttribute)> {
        self.blocks.values().flat_map(|block| {
            let assignments = block.assignments();
            assignments.map(move |(address, attribute)| (block, address, attribute))
        })
    }

    /// The node of an allocation; without that attribute, the block's node.
    pub(super) fn node_of<'b>(block: &'b Block, attribute: &'b AllocationAttribute) -> Option<&'b str> {
        let named = attribute.secondary.get("node").map(String::as_str);
        let affinity = || block.spec().affinity.as_deref()?.strip_prefix("host:");
        named.filter(|node| !node.is_empty()).or_else(affinity)
    }

    pub(super) fn has_node(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    /// True for a block that cannot be read and has the address.
    pub(super) fn is_unreadable(&self, address: IpAddr) -> bool {
        self.damaged.iter().any(|(stored, _)| {
            let cidr = stored.spec.cidr.parse::<IpNet>();
            cidr.is_ok_and(|cidr| cidr.contains(&address))
        })
    }

    /// True when a time is so near that what was made then may not be complete.
    pub(super) fn is_recent(&self, at: Option<Timestamp>) -> bool {
        at.is_some_and(|at| self.snapshot.now.as_second() - at.as_second() < UNDER_WAY_SECONDS)
    }

    /// True when somebody uses the address.
    pub(super) fn is_used(&self, address: IpAddr) -> bool {
        self.users.contains_key(&address)
    }

    /// Why an allocation is of nobody; `None` when it is, or may be, of somebody.
    pub(super) fn leak(
        &self,
        address: IpAddr,
        block: &Block,
        attribute: &AllocationAttribute,
    ) -> Option<LeakReason> {
        if self.is_used(address) || self.is_recent(made_at(attribute)) {
            return None;
        }
        let node = Self::node_of(block, attribute);
        let node_gone = || {
            node.filter(|name| !self.has_node(name))
                .map(|_| LeakReason::NodeGone)
        };
        match Claimant::of(attribute) {
            Claimant::Pod { namespace, name } => {
                let pod = self.pods.get(&(namespace.as_str(), name.as_str())).copied();
                let named = attribute.secondary.get("node").map(String::as_str);
                judge_pod(pod, named, address)
            }
            Claimant::Tunnel { device } => node_gone().or_else(|| {
                let node = self.nodes.get(node?)?;
                let has = tunnels(node).contains(&(address, device.as_str()));
                (!has).then_some(LeakReason::TunnelUnused)
            }),
            Claimant::Service { namespace, name } => {
                let service = self.services.get(&(namespace.as_str(), name.as_str()));
                let there = service.is_some_and(|service| is_load_balancer(service));
                (!there).then_some(LeakReason::ServiceGone)
            }
            Claimant::Reserve => node_gone(),
            Claimant::Machine { .. } | Claimant::Windows | Claimant::Unknown => None,
        }
    }

    /// The names of the nodes of all allocations that nobody may be said to have lost.
    pub(super) fn nodes_in_use(&self) -> BTreeSet<&str> {
        self.allocations()
            .filter(|(_, _, attribute)| attribute.released_at.is_none())
            .filter(|(_, _, attribute)| {
                !matches!(
                    Claimant::of(attribute),
                    Claimant::Tunnel { .. } | Claimant::Windows
                )
            })
            .filter(|(block, address, attribute)| self.leak(*address, block, attribute).is_none())
            .filter_map(|(block, _, attribute)| Self::node_of(block, attribute))
            .collect()
    }
}

fn key(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> (&str, &str) {
    (
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    )
}

fn claims(snapshot: &Snapshot) -> BTreeSet<(String, IpNet)> {
    let live = snapshot
        .affinities
        .iter()
        .filter(|affinity| !affinity.spec.deleted);
    live.filter_map(|affinity| {
        let cidr = affinity.spec.cidr.parse::<IpNet>().ok()?;
        Some((owner_of_affinity(affinity).0, cidr.trunc()))
    })
    .collect()
}

//! Allocations that nobody has any more, by handle: what a garbage collector watches, confirms and releases.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::claimant::{Claimant, LeakReason, made_at};
use super::index::Index;
use super::snapshot::Snapshot;
use crate::block::{Release, handle_of};

/// A handle with addresses that nobody has.
///
/// A collector that sees the same leak for its grace period, and has asked the node if the node exists, gives
/// [`Leak::releases`] to `Ipam::release_ips`; an address that was assigned anew meanwhile is then left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leak {
    /// The handle; `None` when the allocation has none.
    pub handle: Option<String>,
    /// Its addresses that nobody has.
    pub ips: Vec<LeakedAddress>,
    /// The node of the allocation.
    pub node: Option<String>,
    /// True when that node is not in the cluster: nobody is left to ask, and no time needs to pass.
    pub node_gone: bool,
    /// For whom the allocation was made.
    pub claimant: Claimant,
    /// Namespace and name of the pod, if it was one.
    pub pod: Option<(String, String)>,
    /// Why nobody has it.
    pub reason: LeakReason,
    /// True when the handle has no other addresses. One of a handle that still has some is not to be released.
    pub whole: bool,
}

/// One address of a leak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeakedAddress {
    /// The address.
    pub address: IpAddr,
    /// Its block.
    pub block: IpNet,
    /// The sequence number that it was assigned with.
    pub sequence_number: u64,
    /// When it was assigned, if that is stored.
    pub since: Option<Timestamp>,
}

impl Leak {
    /// The release of exactly these allocations.
    #[must_use]
    pub fn releases(&self) -> Vec<Release> {
        self.ips
            .iter()
            .map(|leaked| Release {
                address: leaked.address,
                handle: self.handle.clone(),
                sequence_number: Some(leaked.sequence_number),
            })
            .collect()
    }
}

/// The allocations that nobody has, by handle and node, ordered by node and handle.
///
/// Those of services are not among them: who manages services knows better. A tunnel's is, when its node is gone with
/// everything else on it. What was assigned within the last minute is left out.
#[must_use]
pub fn leaks(snapshot: &Snapshot) -> Vec<Leak> {
    let index = Index::new(snapshot);
    let in_use = index.nodes_in_use();
    let mut found: BTreeMap<(Option<String>, Option<String>, IpNet), Leak> = BTreeMap::new();
    let mut held: BTreeSet<String> = BTreeSet::new();
    for (block, address, attribute) in index.allocations() {
        if attribute.released_at.is_some() {
            continue;
        }
        let handle = handle_of(attribute).map(ToOwned::to_owned);
        let node = Index::node_of(block, attribute).map(ToOwned::to_owned);
        let node_gone = node.as_deref().is_some_and(|node| !index.has_node(node));
        let claimant = Claimant::of(attribute);
        let kept = match &claimant {
            Claimant::Service { .. } => true,
            Claimant::Tunnel { .. } => {
                !node_gone || node.as_deref().is_some_and(|node| in_use.contains(node))
            }
            _ => false,
        };
        let reason = index.leak(address, block, attribute).filter(|_| !kept);
        let Some(reason) = reason else {
            held.extend(handle);
            continue;
        };
        // Without a handle nothing says which addresses belong together.
        let apart = handle.is_none().then(|| IpNet::from(address));
        let key = (node.clone(), handle.clone(), apart.unwrap_or_default());
        let leak = found.entry(key).or_insert_with(|| Leak {
            handle,
            ips: Vec::new(),
            node,
            node_gone,
            pod: match &claimant {
                Claimant::Pod { namespace, name } => Some((namespace.clone(), name.clone())),
                _ => None,
            },
            claimant,
            reason,
            whole: true,
        });
        leak.ips.push(LeakedAddress {
            address,
            block: block.cidr(),
            sequence_number: block.assigned_at(address).unwrap_or_default(),
            since: made_at(attribute),
        });
    }
    let mut leaks: Vec<Leak> = found.into_values().collect();
    for leak in &mut leaks {
        leak.whole = leak.handle.as_ref().is_none_or(|handle| !held.contains(handle));
    }
    leaks
}

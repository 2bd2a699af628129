//! How many addresses a pool has, and how many a node can still get. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use caracal_api::net::size;
use caracal_api::selector::Selector;
use caracal_api::v3::{IPPool, IPPoolAllowedUse};
use caracal_api::virtual_::node;
use caracal_ipam::{PoolUsage, Utilization};

use crate::cluster::Cluster;

/// Most blocks of a family that a node has when nothing else is configured.
const BLOCKS_MAX: u128 = 20;

/// Of what a forecast is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A pool.
    Pool(String),
    /// A node, of the family in which it is shorter.
    Node(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(name) => write!(f, "IPPool {name}"),
            Self::Node(name) => write!(f, "Node {name}"),
        }
    }
}

/// Addresses: all, those in use, those free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// All that can be assigned.
    pub capacity: u128,
    /// Assigned or cooling down.
    pub in_use: u128,
    /// Neither in use nor reserved.
    pub free: u128,
}

/// The room of every pool that assigns, and of every node that owns a block.
#[must_use]
pub fn rooms(cluster: &Cluster) -> Vec<(Subject, Room)> {
    let pools: Vec<IPPool> = cluster.pools.values().cloned().collect();
    let blocks: Vec<_> = cluster.blocks.values().cloned().collect();
    let reservations: Vec<_> = cluster.reservations.values().cloned().collect();
    let usage = Utilization::compute(&pools, &blocks, &reservations);
    let active: BTreeSet<&str> = cluster
        .pools
        .iter()
        .filter(|(_, pool)| assigns(pool))
        .map(|(name, _)| name.as_str())
        .collect();
    let mut rooms: Vec<(Subject, Room)> = usage
        .pools
        .iter()
        .filter(|pool| active.contains(pool.name.as_str()))
        .map(|pool| {
            let room = Room {
                capacity: pool.usage.capacity.saturating_sub(pool.usage.reserved),
                in_use: pool.usage.in_use,
                free: pool.usage.free,
            };
            (Subject::Pool(pool.name.clone()), room)
        })
        .collect();
    rooms.extend(node_rooms(cluster, &usage, &active));
    rooms
}

fn assigns(pool: &IPPool) -> bool {
    let conditions = pool.status.iter().flat_map(|status| &status.conditions);
    let refused = conditions
        .into_iter()
        .any(|condition| condition.type_ == "Allocatable" && condition.status == "False");
    pool.metadata.deletion_timestamp.is_none() && !pool.spec.disabled && !refused
}

/// Settings of address management that bound what a node can get.
struct Rules {
    strict: bool,
    claims: bool,
    limit: u128,
}

fn node_rooms(cluster: &Cluster, usage: &Utilization, active: &BTreeSet<&str>) -> Vec<(Subject, Room)> {
    let spec = cluster
        .ipam_configuration
        .as_ref()
        .map(|configuration| &configuration.spec);
    let limit = spec.map_or(0, |spec| spec.max_blocks_per_host);
    let rules = Rules {
        strict: spec.is_some_and(|spec| spec.strict_affinity),
        claims: spec.is_none_or(|spec| spec.auto_allocate_blocks),
        limit: u128::try_from(limit)
            .ok()
            .filter(|limit| *limit > 0)
            .unwrap_or(BLOCKS_MAX),
    };
    let selectors: BTreeMap<&str, Selector> = cluster
        .pools
        .iter()
        .filter(|(name, pool)| {
            active.contains(name.as_str()) && pool.spec.allows(&IPPoolAllowedUse::Workload)
        })
        .filter_map(|(name, pool)| {
            Some((
                name.as_str(),
                Selector::parse(pool.spec.effective_node_selector()).ok()?,
            ))
        })
        .collect();
    let mut rooms = Vec::new();
    for stored in cluster.nodes.values() {
        let Some(node) = node::from_k8s(stored) else {
            continue;
        };
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let pools = usage.pools.iter().filter(|pool| {
            let selector = selectors.get(pool.name.as_str());
            selector.is_some_and(|selector| selector.matches(&labels))
        });
        let (four, six): (Vec<&PoolUsage>, Vec<&PoolUsage>) =
            pools.partition(|pool| pool.cidr.addr().is_ipv4());
        let owner = format!("host:{}", node.name());
        let rooms_of_node = [four, six]
            .into_iter()
            .filter_map(|pools| family(cluster, &pools, &owner, &rules));
        // A pod of two families needs both.
        if let Some(room) = rooms_of_node.min_by_key(|room| room.free) {
            rooms.push((Subject::Node(node.name().to_owned()), room));
        }
    }
    rooms
}

/// What a node has and can get of one family; `None` for a node without a block.
fn family(cluster: &Cluster, pools: &[&PoolUsage], owner: &str, rules: &Rules) -> Option<Room> {
    let mut room = Room::default();
    let mut owned = 0u128;
    // Blocks that nobody has claimed, and the free addresses of all, by pool.
    let (mut unclaimed, mut shared) = (0u128, 0u128);
    let mut largest = 0u128;
    for pool in pools {
        let prefix = cluster.pools.get(&pool.name)?.spec.effective_block_size()?;
        let bits = u32::from(pool.cidr.max_prefix_len().saturating_sub(prefix));
        let block_size = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
        largest = largest.max(block_size);
        for block in pool
            .blocks
            .iter()
            .filter(|block| block.affinity.as_deref() == Some(owner))
        {
            owned += 1;
            room.in_use += block.usage.in_use;
            room.free += block.usage.free;
            room.capacity += block.usage.capacity.saturating_sub(block.usage.reserved);
        }
        let blocks = size(&pool.cidr).unwrap_or(u128::MAX) / block_size.max(1);
        let existing = u128::try_from(pool.blocks.len()).unwrap_or(u128::MAX);
        unclaimed = unclaimed.saturating_add(blocks.saturating_sub(existing));
        shared = shared.saturating_add(pool.usage.free);
    }
    if owned == 0 {
        return None;
    }
    let may_claim = rules.limit.saturating_sub(owned);
    if rules.claims {
        let more = may_claim.min(unclaimed).saturating_mul(largest).min(shared);
        room.free = room.free.saturating_add(more);
        room.capacity = room.capacity.saturating_add(more);
    }
    // With blocks left to claim within the limit, or none left anywhere, a node borrows: it is as well off as its pools.
    // At its limit it does not.
    if !rules.strict && may_claim > 0 && shared > room.free {
        room.capacity = room.capacity.saturating_add(shared - room.free);
        room.free = shared;
    }
    Some(room)
}

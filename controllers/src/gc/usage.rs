//! Metrics of pools, blocks and addresses, with the names and labels of Calico's `kube-controllers`.

use std::collections::BTreeMap;

use caracal_daemon::metrics::IntGaugeVec;
use caracal_ipam::Utilization;
use ipnet::IpNet;

use super::allocations::{Allocation, host_of};
use super::plan::Memory;
use crate::cluster::Cluster;
use crate::metrics::Metrics;

/// Label of blocks that are in no pool.
const NO_POOL: &str = "no_ippool";
/// Label of blocks that belong to no node.
const NO_AFFINITY: &str = "no_affinity";
/// Label of addresses that name no node.
const UNKNOWN_NODE: &str = "unknown_node";

/// Counts by pool and node.
#[derive(Default)]
struct Counts(BTreeMap<(String, String), i64>);

impl Counts {
    fn add(&mut self, pool: &str, node: &str) {
        *self.0.entry((pool.to_owned(), node.to_owned())).or_default() += 1;
    }

    fn export(&self, metric: &IntGaugeVec, by_node: Option<&IntGaugeVec>) {
        metric.reset();
        let mut nodes: BTreeMap<&str, i64> = BTreeMap::new();
        for ((pool, node), count) in &self.0 {
            metric
                .with_label_values(&[pool.as_str(), node.as_str()])
                .set(*count);
            *nodes.entry(node).or_default() += count;
        }
        if let Some(by_node) = by_node {
            by_node.reset();
            for (node, count) in nodes {
                by_node.with_label_values(&[node]).set(count);
            }
        }
    }
}

/// The name of the pool that a block is in.
pub(super) fn pool_of(cluster: &Cluster, block: &IpNet) -> String {
    cluster
        .pools
        .iter()
        .filter_map(|(name, pool)| Some((name, pool.spec.network()?)))
        .filter(|(_, net)| net.contains(block))
        .max_by_key(|(_, net)| net.prefix_len())
        .map_or(NO_POOL, |(name, _)| name.as_str())
        .to_owned()
}

/// A node's name as a label.
pub(super) fn node_label(node: &str) -> &str {
    if node.is_empty() { UNKNOWN_NODE } else { node }
}

/// Brings the metrics up to date.
pub(super) fn export(cluster: &Cluster, allocations: &[Allocation], memory: &Memory, metrics: &Metrics) {
    export_pools(cluster, metrics);
    let mut pools: BTreeMap<IpNet, String> = BTreeMap::new();
    let mut blocks = Counts::default();
    for (cidr, stored) in cluster.live_blocks() {
        let pool = pool_of(cluster, &cidr);
        let node = stored.spec.affinity.as_deref().map_or(NO_AFFINITY, |owner| {
            host_of(owner).unwrap_or_else(|| owner.split_once(':').map_or(owner, |(_, name)| name))
        });
        blocks.add(&pool, node);
        pools.insert(cidr, pool);
    }
    let (mut in_use, mut borrowed, mut candidates) =
        (Counts::default(), Counts::default(), Counts::default());
    for allocation in allocations {
        let pool = pools.get(&allocation.block).map_or(NO_POOL, String::as_str);
        let node = node_label(&allocation.node);
        in_use.add(pool, node);
        let own = allocation.block_node.as_deref() == Some(allocation.node.as_str());
        if !allocation.node.is_empty() && !own {
            borrowed.add(pool, node);
        }
    }
    for suspect in memory.suspects.values() {
        let pool = pools.get(&suspect.block).map_or(NO_POOL, String::as_str);
        candidates.add(pool, node_label(&suspect.node));
    }
    in_use.export(&metrics.allocations, Some(&metrics.allocations_per_node));
    borrowed.export(&metrics.borrowed, Some(&metrics.borrowed_per_node));
    blocks.export(&metrics.blocks, Some(&metrics.blocks_per_node));
    candidates.export(&metrics.gc_candidates, None);
    metrics.unconfirmed.reset();
    for (node, waiting) in memory.unanswered(cluster) {
        metrics.unconfirmed.with_label_values(&[node]).set(waiting);
    }
}

fn export_pools(cluster: &Cluster, metrics: &Metrics) {
    let pools: Vec<_> = cluster.pools.values().cloned().collect();
    let reservations: Vec<_> = cluster.reservations.values().cloned().collect();
    metrics.pool_size.reset();
    metrics.pool_reserved.reset();
    // Neither depends on blocks.
    for pool in Utilization::compute(&pools, &[], &reservations).pools {
        let number = |value: u128| i64::try_from(value).unwrap_or(i64::MAX);
        let name = [pool.name.as_str()];
        metrics
            .pool_size
            .with_label_values(&name)
            .set(number(pool.usage.capacity));
        metrics
            .pool_reserved
            .with_label_values(&name)
            .set(number(pool.usage.reserved));
    }
}

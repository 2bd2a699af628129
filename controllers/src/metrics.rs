//! The controllers' metrics. Those that begin with `ipam_` have the names and labels of Calico's `kube-controllers`.

use caracal_daemon::metrics::{Error, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

const BY_POOL_AND_NODE: &[&str] = &["ippool", "node"];

/// All metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// 1 while this process acts.
    pub leader: IntGaugeVec,
    /// Runs by controller and outcome.
    pub runs: IntCounterVec,
    /// Values of the KubeControllersConfiguration that cannot be used.
    pub problems: IntGauge,
    /// Pools by name and reason of the Allocatable condition.
    pub pools: IntGaugeVec,
    /// Addresses of a pool.
    pub pool_size: IntGaugeVec,
    /// Reserved addresses of a pool.
    pub pool_reserved: IntGaugeVec,
    /// Addresses in use by pool and node.
    pub allocations: IntGaugeVec,
    /// Addresses in use from blocks of others.
    pub borrowed: IntGaugeVec,
    /// Blocks by pool and owner.
    pub blocks: IntGaugeVec,
    /// Addresses that seem to be nobody's.
    pub gc_candidates: IntGaugeVec,
    /// Addresses that were freed.
    pub gc_reclamations: IntCounterVec,
    /// Addresses in use by node.
    pub allocations_per_node: IntGaugeVec,
    /// Addresses in use from blocks of others by node.
    pub borrowed_per_node: IntGaugeVec,
    /// Blocks by owner.
    pub blocks_per_node: IntGaugeVec,
    /// Addresses that wait for their node's answer.
    pub unconfirmed: IntGaugeVec,
    /// Remains of programs that died half-way, mended.
    pub mended: IntCounter,
    /// Free addresses of a pool.
    pub pool_free: IntGaugeVec,
    /// Seconds until a pool has no free address.
    pub pool_exhaustion: IntGaugeVec,
    /// Addresses that a node has free or can still get.
    pub node_free: IntGaugeVec,
    /// Seconds until a node has none.
    pub node_exhaustion: IntGaugeVec,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// Never in practice: the names are fixed.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        Ok(Self {
            leader: registry.int_gauge_vec(
                "leader_election_master_status",
                "1 while this process holds the Lease and acts.",
                &["name"],
            )?,
            runs: registry.int_counter_vec(
                "caracal_controllers_runs_total",
                "Runs of each controller by outcome: ok, failed, not_leader.",
                &["controller", "outcome"],
            )?,
            problems: registry.int_gauge(
                "caracal_controllers_configuration_problems",
                "Values of the KubeControllersConfiguration or the environment that cannot be used.",
            )?,
            pools: registry.int_gauge_vec(
                "caracal_ippool_allocatable",
                "1 when addresses are assigned from the pool, else 0 with the reason.",
                &["ippool", "reason"],
            )?,
            pool_size: registry.int_gauge_vec("ipam_ippool_size", "Addresses of the pool.", &["ippool"])?,
            pool_reserved: registry.int_gauge_vec(
                "ipam_ippool_reserved",
                "Addresses of the pool under an IPReservation.",
                &["ippool"],
            )?,
            allocations: registry.int_gauge_vec(
                "ipam_allocations_in_use",
                "Addresses in use by the node that they were assigned on.",
                BY_POOL_AND_NODE,
            )?,
            borrowed: registry.int_gauge_vec(
                "ipam_allocations_borrowed",
                "Addresses in use by a node from a block that is not its own.",
                BY_POOL_AND_NODE,
            )?,
            blocks: registry.int_gauge_vec("ipam_blocks", "Blocks by their owner.", BY_POOL_AND_NODE)?,
            gc_candidates: registry.int_gauge_vec(
                "ipam_allocations_gc_candidates",
                "Addresses that seem to be nobody's.",
                BY_POOL_AND_NODE,
            )?,
            gc_reclamations: registry.int_counter_vec(
                "ipam_allocations_gc_reclamations",
                "Addresses that were freed because they were nobody's.",
                BY_POOL_AND_NODE,
            )?,
            allocations_per_node: registry.int_gauge_vec(
                "ipam_allocations_per_node",
                "Addresses in use; ipam_allocations_in_use says the same by pool.",
                &["node"],
            )?,
            borrowed_per_node: registry.int_gauge_vec(
                "ipam_allocations_borrowed_per_node",
                "Borrowed addresses; ipam_allocations_borrowed says the same by pool.",
                &["node"],
            )?,
            blocks_per_node: registry.int_gauge_vec(
                "ipam_blocks_per_node",
                "Blocks; ipam_blocks says the same by pool.",
                &["node"],
            )?,
            unconfirmed: registry.int_gauge_vec(
                "caracal_ipam_gc_unconfirmed",
                "Leaked addresses that stay until their node says that it does not have them.",
                &["node"],
            )?,
            mended: registry.int_counter(
                "caracal_ipam_mended_total",
                "Remains of programs that died half-way in address management's objects, mended.",
            )?,
            pool_free: registry.int_gauge_vec(
                "caracal_ipam_pool_free",
                "Addresses of the pool that are neither in use nor reserved.",
                &["ippool"],
            )?,
            pool_exhaustion: registry.int_gauge_vec(
                "caracal_ipam_pool_exhaustion_seconds",
                "Seconds until the pool has no free address at the growth of the last hour; absent without growth.",
                &["ippool"],
            )?,
            node_free: registry.int_gauge_vec(
                "caracal_ipam_node_free",
                "Addresses that are free in the node's blocks or that it can still get.",
                &["node"],
            )?,
            node_exhaustion: registry.int_gauge_vec(
                "caracal_ipam_node_exhaustion_seconds",
                "Seconds until the node has no free address at the growth of the last hour; absent without growth.",
                &["node"],
            )?,
        })
    }
}

//! The controllers' metrics. Those that begin with `ipam_` have the names and labels of Calico's `kube-controllers`.

use caracal_daemon::metrics::{Error, IntCounterVec, IntGauge, IntGaugeVec, Registry};

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
        })
    }
}

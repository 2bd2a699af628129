//! Collection of what nobody uses any more: addresses whose pod is gone, what nodes that are gone had, empty blocks.
//!
//! An address is freed when its pod no longer has it, after the grace period, and after its node has said that it does
//! not have it either ([`caracal_api::confirmation`]); a node that is there and silent keeps it. Of a node that is gone
//! everything is freed at once. Pod and node are read anew right before, and the release names handle and sequence
//! number, so that an address that was assigned anew meanwhile is left alone.
//! Of a node's empty blocks one of each family stays. Marks are kept in memory only: a new leader begins the grace
//! period anew. Source: Calico's `kube-controllers/pkg/controllers/node/ipam.go`.

mod allocations;
mod apply;
mod plan;
mod usage;
mod verdict;

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;

pub use allocations::{Allocation, Holder, Id, allocations};
pub use plan::{Ask, Memory, Plan, Reclaim};
pub use verdict::{Verdict, verdict};

use crate::cluster::Kind;
use crate::context::{Again, Context, Controller};
use crate::lease::Error;

/// Period of full looks when addresses are not collected by age.
const PERIOD_WITHOUT_GRACE: Duration = Duration::from_secs(5 * 60);

/// The controller.
#[derive(Debug, Default)]
pub struct Collector {
    memory: Memory,
}

impl Controller for Collector {
    fn name(&self) -> &'static str {
        "ipam"
    }

    fn wakes(&self, kind: Kind) -> bool {
        matches!(
            kind,
            Kind::Block
                | Kind::Pod
                | Kind::Node
                | Kind::Affinity
                | Kind::Pool
                | Kind::Reservation
                | Kind::IpamConfiguration
        )
    }

    fn pause(&self) -> Duration {
        // A look goes over every address of the cluster.
        Duration::from_secs(1)
    }

    fn run<'a>(&'a mut self, context: &'a Context<'a>) -> BoxFuture<'a, Result<Again, Error>> {
        async move {
            let Some(node) = &context.effective.settings.node else {
                self.memory = Memory::default();
                return Ok(None);
            };
            let all = allocations(context.cluster);
            let plan = self
                .memory
                .plan(context.cluster, &all, node.leak_grace, context.now, context.wall);
            usage::export(context.cluster, &all, &self.memory, context.metrics);
            let period = node.leak_grace.map_or(PERIOD_WITHOUT_GRACE, |grace| grace / 2);
            let again = plan.again.map_or(period, |again| again.min(period));
            let complete = Box::pin(apply::apply(context, &mut self.memory, plan)).await?;
            Ok(Some(if complete { again } else { Duration::ZERO }))
        }
        .boxed()
    }
}

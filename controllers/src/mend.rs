//! What programs that died half-way left in the stored state of address management: completed or taken back.
//!
//! Handles that count other addresses than the blocks have, objects that are marked as deleted, claims and releases of
//! blocks that stopped in the middle. Found by two looks of [`caracal_ipam::check`], mended after a third. What a
//! person should decide, and what the collector of leaks frees with its node's word, is left to them.

use std::time::Duration;

use caracal_ipam::check::{Code, Finding, Outcome};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::cluster::Kind;
use crate::context::{Again, Context, Controller};
use crate::lease::Error;

/// Shortest and, without a grace period of leaks, usual time between two looks.
const PERIOD_MIN: Duration = Duration::from_secs(2);
const PERIOD: Duration = Duration::from_secs(5 * 60);

/// Whether a finding is mended without asking anybody.
#[must_use]
pub const fn is_mended(code: Code) -> bool {
    matches!(
        code,
        Code::HandleEmpty
            | Code::HandleCount
            | Code::HandleMissing
            | Code::DeletionUnfinished
            | Code::AffinityStale
            | Code::AffinityPendingDeletion
            | Code::BlockForgotten
            | Code::BlockWithoutAffinity
    )
}

/// The controller.
#[derive(Debug, Default)]
pub struct Mender {
    looked: bool,
}

impl Controller for Mender {
    fn name(&self) -> &'static str {
        "ipam-mend"
    }

    fn wakes(&self, _: Kind) -> bool {
        false
    }

    fn run<'a>(&'a mut self, context: &'a Context<'a>) -> BoxFuture<'a, Result<Again, Error>> {
        async move {
            let Some(node) = &context.effective.settings.node else {
                return Ok(None);
            };
            let period = node.leak_grace.map_or(PERIOD, |grace| grace / 2).max(PERIOD_MIN);
            // Not at once: a new leader has what matters more to do.
            if !std::mem::replace(&mut self.looked, true) {
                return Ok(Some(period));
            }
            let report = Box::pin(context.ipam.check()).await?;
            let findings: Vec<Finding> = report
                .findings
                .into_iter()
                .filter(|finding| finding.fix.is_some() && is_mended(finding.code))
                .collect();
            if findings.is_empty() {
                return Ok(Some(period));
            }
            context.fence.confirm().await?;
            let outcomes = context.fence.write(context.ipam.fix(&findings)).await?;
            for (finding, outcome) in outcomes {
                match outcome {
                    Outcome::Done => {
                        context.metrics.mended.inc();
                        tracing::info!(finding, "mended");
                    }
                    Outcome::Gone | Outcome::ByHand => {}
                    Outcome::Failed { problem } => tracing::warn!(finding, error = problem, "not mended"),
                }
            }
            Ok(Some(period))
        }
        .boxed()
    }
}

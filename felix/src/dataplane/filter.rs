//! What packets are filtered with: iptables with IP sets, or nftables.
//!
//! Owns the choice and what both have in common; each keeps its own appointments.

use std::time::{Duration, Instant};

use caracal_api::v3::{FelixConfigurationSpec, GoDuration};
use caracal_felix_core::desired::{Desired, Dirty, IpVersion};
use caracal_linux::Result;
use caracal_linux::ipset::IpSets;
use caracal_linux::nftables::Heard;

use super::nftables::Nftables;
use super::sets::Sets;
use super::tables::Tables;
use crate::exec::CommandRunner;
use crate::features::{FilterKind, Variant};
use crate::metrics::Metrics;

/// How often tables and sets are compared as a whole.
const IPTABLES_REFRESH: Duration = Duration::from_secs(90);
/// The same, where what others do is heard of.
const NFTABLES_REFRESH: Duration = Duration::from_secs(180);

/// One of the two.
#[derive(Debug)]
pub(super) enum Filter {
    /// iptables and IP sets.
    Iptables(Box<(Sets, Tables)>),
    /// nftables.
    Nftables(Box<Nftables>),
}

impl Filter {
    /// Connects to what is needed; nothing is written yet.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub(super) fn open(kind: FilterKind, desired: &Desired) -> Result<Self> {
        Ok(match kind {
            FilterKind::Iptables(programs) => {
                let sets = Sets::new(IpSets::open()?, programs.v6.is_some());
                Self::Iptables(Box::new((sets, Tables::new(programs))))
            }
            FilterKind::Nftables { has_v6 } => Self::Nftables(Box::new(Nftables::open(has_v6, desired)?)),
        })
    }

    /// Takes another configuration of the same kind; gives it back when it is of the other kind.
    pub(super) fn reconfigure(&mut self, kind: FilterKind, desired: &Desired) -> Option<FilterKind> {
        match (self, kind) {
            (Self::Iptables(parts), FilterKind::Iptables(programs)) => {
                let (sets, tables) = &mut **parts;
                sets.set_has_v6(programs.v6.is_some(), desired);
                tables.set_programs(programs);
                tables.mark(desired, &Dirty::default());
                None
            }
            (Self::Nftables(nftables), FilterKind::Nftables { has_v6 }) => {
                nftables.set_has_v6(has_v6, desired);
                None
            }
            (_, other) => Some(other),
        }
    }

    /// The variant of iptables that is written.
    #[must_use]
    pub(super) const fn variant(&self) -> Option<Variant> {
        match self {
            Self::Iptables(parts) => Some(parts.1.variant()),
            Self::Nftables(_) => None,
        }
    }

    /// True when the nftables table of a family is written.
    #[must_use]
    pub(super) fn has_nftables(&self, version: IpVersion) -> bool {
        match self {
            Self::Iptables(_) => false,
            Self::Nftables(nftables) => nftables.has(version),
        }
    }

    /// Takes in what changed of what is wanted.
    pub(super) fn mark(&mut self, desired: &Desired, dirty: &Dirty) {
        match self {
            Self::Iptables(parts) => {
                parts.0.mark(desired, dirty);
                parts.1.mark(desired, dirty);
            }
            Self::Nftables(nftables) => nftables.mark(desired, dirty),
        }
    }

    /// Looks, cheaply, for what others changed.
    pub(super) fn check(&mut self, desired: &Desired, now: Instant) {
        match self {
            Self::Iptables(parts) => {
                parts.0.check(desired);
                parts.1.check(now);
            }
            Self::Nftables(nftables) => nftables.check(),
        }
    }

    /// True when a change costs so little that there is no use in collecting many.
    #[must_use]
    pub(super) const fn is_quick(&self) -> bool {
        matches!(self, Self::Nftables(_))
    }

    /// Waits until others change something; for ever where that is not told.
    pub(super) async fn heard(&mut self) -> Heard {
        match self {
            Self::Iptables(_) => std::future::pending().await,
            Self::Nftables(nftables) => nftables.heard().await,
        }
    }

    /// Takes in what others changed.
    pub(super) fn on_heard(&mut self, heard: Heard) {
        if let Self::Nftables(nftables) = self {
            nftables.on_heard(heard);
            nftables.check();
        }
    }

    /// How often everything is to be compared, whatever notifications said; none = never.
    #[must_use]
    pub(super) fn refresh_interval(&self, configuration: &FelixConfigurationSpec) -> Option<Duration> {
        let (configured, default) = match self {
            Self::Iptables(_) => (None, IPTABLES_REFRESH),
            Self::Nftables(_) => (configuration.nftables_refresh_interval.as_ref(), NFTABLES_REFRESH),
        };
        let interval = configured.and_then(GoDuration::duration).unwrap_or(default);
        (!interval.is_zero()).then_some(interval)
    }

    /// Compares everything.
    pub(super) fn request_all(&mut self, desired: &Desired) {
        match self {
            Self::Iptables(parts) => {
                parts.0.request_all(desired);
                parts.1.request_all();
            }
            Self::Nftables(nftables) => nftables.request_all(),
        }
    }

    /// True when something is not as wanted, or is not known to be.
    #[must_use]
    pub(super) fn is_pending(&self) -> bool {
        match self {
            Self::Iptables(parts) => parts.0.is_pending() || parts.1.is_pending(),
            Self::Nftables(nftables) => nftables.is_pending(),
        }
    }

    /// When something is to be done next.
    #[must_use]
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Iptables(parts) => [parts.0.next(now), parts.1.next(now)].into_iter().flatten().min(),
            Self::Nftables(nftables) => nftables.next(now),
        }
    }

    /// Brings rules and sets to what is wanted.
    pub(super) async fn apply(&mut self, desired: &Desired, runner: &impl CommandRunner, metrics: &Metrics) {
        match self {
            Self::Iptables(parts) => {
                parts.0.write(desired, metrics);
                parts.1.apply(runner, metrics).await;
            }
            Self::Nftables(nftables) => nftables.apply(desired, metrics),
        }
    }

    /// Removes what no rule needs any more.
    pub(super) fn sweep(&mut self, desired: &Desired) {
        match self {
            Self::Iptables(parts) => parts.0.sweep(desired),
            // Goes in the transaction that makes it unneeded.
            Self::Nftables(_) => {}
        }
    }
}

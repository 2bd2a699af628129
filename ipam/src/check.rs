//! Consistency of what is stored with what is in use: findings, each with a reason, a remedy and, where a program may
//! act, a fix.
//!
//! [`check`] and [`leaks`] are pure: a snapshot in, findings out. A snapshot is read by several requests, so what is
//! under way may look wrong in it; [`Ipam::check`] therefore looks twice and reports what was wrong both times. A fix
//! looks a third time, at the objects that it is about, and writes by compare-and-swap.
//! Never decides on a grace period of days or minutes: who collects garbage counts time himself.
//! Source: `calicoctl/calicoctl/commands/ipam/check.go`, `kube-controllers/pkg/controllers/node/ipam.go`.

mod addresses;
mod affinities;
mod blocks;
mod claimant;
mod finding;
mod fix;
mod handles;
mod index;
mod leaks;
mod repair;
mod report;
mod snapshot;
mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

pub use claimant::{Claimant, LeakReason};
pub use finding::{Code, Finding, Fix, Severity};
pub use fix::Outcome;
pub use leaks::{Leak, LeakedAddress, leaks};
pub use report::{Allocation, LeakedHandle, Report, Totals};
pub use snapshot::Snapshot;
pub use users::User;

use crate::client::Ipam;
use crate::clock;
use crate::error::Result;
use index::Index;

/// Time between the two looks of [`Ipam::check`]: longer than one assignment takes.
const SECOND_LOOK: Duration = Duration::from_millis(500);

/// Compares what is stored with what is in use.
#[must_use]
pub fn check(snapshot: &Snapshot) -> Report {
    let index = Index::new(snapshot);
    let mut report = Report::new(&index);
    let found = &mut report.findings;
    blocks::check(&index, found);
    addresses::check(&index, found);
    affinities::check(&index, found);
    handles::check(&index, found);
    found.sort_by(|a, b| (a.severity, a.code, &a.subject).cmp(&(b.severity, b.code, &b.subject)));
    report
}

/// Who uses which address.
#[must_use]
pub fn users_of(snapshot: &Snapshot) -> BTreeMap<IpAddr, Vec<User>> {
    let users = users::users(&snapshot.nodes, &snapshot.pods, &snapshot.services);
    users
        .into_iter()
        .map(|(address, users)| (address, users.into_iter().map(|one| one.user).collect()))
        .collect()
}

impl Ipam {
    /// Reads everything and compares it; what seems wrong is looked at a second time half a second later.
    ///
    /// # Errors
    ///
    /// Any failed request. A damaged object is a finding.
    pub async fn check(&self) -> Result<Report> {
        let first = check(&Snapshot::load(&self.store.client).await?);
        if first.findings.is_empty() {
            return Ok(first);
        }
        clock::pause(SECOND_LOOK).await;
        let mut second = check(&Snapshot::load(&self.store.client).await?);
        let seen: BTreeSet<String> = first.findings.iter().map(Finding::id).collect();
        second.findings.retain(|finding| seen.contains(&finding.id()));
        Ok(second)
    }
}

#[cfg(test)]
mod tests;

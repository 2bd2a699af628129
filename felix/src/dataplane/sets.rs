//! IP sets: created and extended before the tables that name them, destroyed after.
//!
//! Owns which sets must be looked at. The kernel's headers (names and numbers of members) are compared every second;
//! members are read only when a header differs, a change failed, or the slow refresh comes around.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use caracal_felix_core::desired::{Desired, Dirty, IpSet, IpSetChange, IpSetMember, IpVersion};
use caracal_linux::ipset::{IpSets, Member};

use crate::drivers::ipsets::{Driver, member};
use crate::metrics::Metrics;
use crate::retry::Retry;

/// Programs the IP sets.
#[derive(Debug)]
pub(super) struct Sets {
    driver: Driver,
    /// Members to add and to remove without reading the set.
    changes: BTreeMap<String, (Vec<Member>, Vec<Member>)>,
    /// Sets to be compared as a whole.
    suspects: BTreeSet<String>,
    writes: Retry,
    /// Sets that are not wanted may be there.
    sweep: Retry,
    has_v6: bool,
}

impl Sets {
    /// Nothing known of the kernel: everything will be compared, and left-overs swept.
    #[must_use]
    pub(super) fn new(sets: IpSets, has_v6: bool) -> Self {
        let seed = u64::from(std::process::id());
        let mut sweep = Retry::new(seed);
        sweep.request();
        Self {
            driver: Driver::new(sets),
            changes: BTreeMap::new(),
            suspects: BTreeSet::new(),
            writes: Retry::new(seed),
            sweep,
            has_v6,
        }
    }

    /// Whether sets of IPv6 are programmed too.
    pub(super) fn set_has_v6(&mut self, has_v6: bool, desired: &Desired) {
        if self.has_v6 != has_v6 {
            self.has_v6 = has_v6;
            self.request_all(desired);
        }
    }

    fn is_wanted(&self, set: &IpSet) -> bool {
        self.has_v6 || set.version == IpVersion::V4
    }

    /// Takes in what changed of what is wanted.
    pub(super) fn mark(&mut self, desired: &Desired, dirty: &Dirty) {
        for (name, change) in &dirty.ip_sets {
            let Some(_) = desired.ip_sets.get(name).filter(|set| self.is_wanted(set)) else {
                self.changes.remove(name);
                self.suspects.remove(name);
                self.sweep.request();
                continue;
            };
            self.writes.request();
            match change {
                IpSetChange::Members { added, removed }
                    if !self.suspects.contains(name) && !self.changes.contains_key(name) =>
                {
                    self.changes
                        .insert(name.clone(), (members(added), members(removed)));
                }
                _ => self.suspect(name),
            }
        }
    }

    fn suspect(&mut self, name: &str) {
        self.changes.remove(name);
        self.suspects.insert(name.to_owned());
        self.writes.request();
    }

    /// Compares all sets as a whole, and sweeps.
    pub(super) fn request_all(&mut self, desired: &Desired) {
        for (name, set) in &desired.ip_sets {
            if self.is_wanted(set) {
                self.suspect(name);
            }
        }
        self.sweep.request();
    }

    /// Asks, cheaply, whether somebody changed the sets.
    pub(super) fn check(&mut self, desired: &Desired) {
        if self.writes.is_pending() || self.sweep.is_pending() {
            return;
        }
        let headers = match self.driver.headers() {
            Ok(headers) => headers,
            Err(error) => {
                tracing::debug!(error = %error, "IP sets cannot be listed");
                return;
            }
        };
        for (name, set) in &desired.ip_sets {
            let is_same = headers.get(name).is_some_and(|header| {
                header.type_name == set.kind.as_str()
                    && header.max_elements == set.max_members
                    && usize::try_from(header.elements).is_ok_and(|count| count == set.members.len())
            });
            if self.is_wanted(set) && !is_same {
                tracing::info!(set = name, "somebody changed an IP set, it is put right");
                self.suspect(name);
            }
        }
        if headers
            .keys()
            .any(|name| desired.ip_sets.get(name).is_none_or(|set| !self.is_wanted(set)))
        {
            self.sweep.request();
        }
    }

    /// True when some set is not as wanted.
    #[must_use]
    pub(super) const fn is_pending(&self) -> bool {
        self.writes.is_pending()
    }

    /// When something is to be done next.
    #[must_use]
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        [self.writes.at(now), self.sweep.at(now)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Creates and changes sets.
    pub(super) fn write(&mut self, desired: &Desired, metrics: &Metrics) {
        let now = Instant::now();
        if !self.writes.is_due(now) {
            return;
        }
        for (name, (added, removed)) in std::mem::take(&mut self.changes) {
            metrics.ipset_calls.inc();
            match self.driver.change(&name, &added, &removed) {
                Ok(count) => count_lines(metrics, count),
                Err(error) => {
                    tracing::info!(set = name, error = %error, "members not changed, the set is compared");
                    self.suspects.insert(name);
                }
            }
        }
        let mut failed = BTreeSet::new();
        for name in std::mem::take(&mut self.suspects) {
            let Some(set) = desired.ip_sets.get(&name) else {
                continue;
            };
            metrics.ipset_calls.inc();
            match self.driver.ensure(&name, set) {
                Ok(count) => count_lines(metrics, count),
                Err(error) => {
                    metrics.ipset_errors.inc();
                    tracing::warn!(set = name, error = %error, "IP set not programmed, it stays pending");
                    failed.insert(name);
                }
            }
        }
        self.suspects = failed;
        self.writes.done(self.suspects.is_empty(), Instant::now());
        for version in [IpVersion::V4, IpVersion::V6] {
            let count = desired
                .ip_sets
                .values()
                .filter(|set| set.version == version)
                .count();
            metrics
                .ipsets
                .with_label_values(&[super::tables::version_digit(version)])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Destroys sets that are not wanted. Rules that name them must be gone.
    pub(super) fn sweep(&mut self, desired: &Desired) {
        let now = Instant::now();
        if !self.sweep.is_due(now) {
            return;
        }
        let headers = match self.driver.headers() {
            Ok(headers) => headers,
            Err(error) => {
                tracing::warn!(error = %error, "IP sets cannot be listed");
                return self.sweep.done(false, now);
            }
        };
        let mut succeeded = true;
        for name in headers.keys() {
            if desired.ip_sets.get(name).is_some_and(|set| self.is_wanted(set)) {
                continue;
            }
            if let Err(error) = self.driver.destroy(name) {
                // The kernel lets go of a set a moment after the last rule that names it.
                tracing::debug!(set = name, error = %error, "IP set not destroyed yet");
                succeeded = false;
            }
        }
        self.sweep.done(succeeded, Instant::now());
    }
}

fn members(wanted: &BTreeSet<IpSetMember>) -> Vec<Member> {
    wanted.iter().map(member).collect()
}

fn count_lines(metrics: &Metrics, count: usize) {
    metrics
        .ipset_lines
        .inc_by(u64::try_from(count).unwrap_or(u64::MAX));
}

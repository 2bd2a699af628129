//! Kernel parameters of the node and of workload interfaces: read, and written where they differ.
//!
//! A changed parameter sends no notification, so each check reads some of them, taking turns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use caracal_felix_core::desired::{Desired, Dirty, Sysctl};
use caracal_linux::netlink::{Event, Link};

use crate::drivers::sysctls;
use crate::metrics::Metrics;
use crate::retry::Retry;

/// Interfaces read at each check.
const INTERFACES_PER_CHECK: usize = 32;

/// Programs kernel parameters.
#[derive(Debug)]
pub(super) struct Parameters {
    is_node_due: bool,
    interfaces: BTreeSet<String>,
    /// The interface at which the last check ended.
    turn: String,
    retry: Retry,
}

impl Parameters {
    /// Nothing set yet.
    #[must_use]
    pub(super) fn new() -> Self {
        Self {
            is_node_due: false,
            interfaces: BTreeSet::new(),
            turn: String::new(),
            retry: Retry::new(u64::from(std::process::id())),
        }
    }

    /// Takes in what changed of what is wanted.
    pub(super) fn mark(&mut self, dirty: &Dirty) {
        self.is_node_due |= dirty.sysctls;
        self.interfaces.extend(dirty.interfaces.iter().cloned());
        if dirty.sysctls || !dirty.interfaces.is_empty() {
            self.retry.request();
        }
    }

    /// An interface that appeared or came up has the kernel's defaults.
    pub(super) fn on_event(&mut self, event: &Event, desired: &Desired) {
        match event {
            Event::Link(link) if desired.interfaces.contains_key(&link.name) => {
                self.interfaces.insert(link.name.clone());
                self.retry.request();
            }
            Event::Resync => self.request_all(desired),
            _ => {}
        }
    }

    /// Reads all of them again.
    pub(super) fn request_all(&mut self, desired: &Desired) {
        self.is_node_due = true;
        self.interfaces.extend(desired.interfaces.keys().cloned());
        self.retry.request();
    }

    /// Reads those whose turn it is.
    pub(super) fn check(&mut self, desired: &Desired) {
        if self.retry.is_failing() {
            return;
        }
        self.is_node_due = true;
        let after = (
            std::ops::Bound::Excluded(self.turn.as_str()),
            std::ops::Bound::Unbounded,
        );
        let names = desired.interfaces.range::<str, _>(after).map(|(name, _)| name);
        let names: Vec<String> = names.take(INTERFACES_PER_CHECK).cloned().collect();
        self.turn = if names.len() == INTERFACES_PER_CHECK {
            names.last().cloned().unwrap_or_default()
        } else {
            String::new()
        };
        self.interfaces.extend(names);
        self.retry.request();
    }

    /// When something is to be done next.
    #[must_use]
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.retry.at(now)
    }

    /// A round could not even begin.
    pub(super) fn put_off(&mut self, now: Instant) {
        if self.retry.is_due(now) {
            self.retry.done(false, now);
        }
    }

    /// True when a parameter is not as wanted.
    #[must_use]
    pub(super) fn is_failing(&self) -> bool {
        self.retry.is_failing()
    }

    /// Sets those that are due. Interfaces that are absent wait for their appearance.
    pub(super) fn apply(&mut self, desired: &Desired, links: &BTreeMap<String, Link>, metrics: &Metrics) {
        let now = Instant::now();
        if !self.retry.is_due(now) {
            return;
        }
        if std::mem::take(&mut self.is_node_due) {
            self.is_node_due = !ensure_all(&desired.sysctls, metrics);
        }
        let mut failed = BTreeSet::new();
        for name in std::mem::take(&mut self.interfaces) {
            let Some(interface) = desired.interfaces.get(&name) else {
                continue;
            };
            if links.contains_key(&name) && !ensure_all(&interface.sysctls, metrics) {
                failed.insert(name);
            }
        }
        self.interfaces = failed;
        let succeeded = self.interfaces.is_empty() && !self.is_node_due;
        self.retry.done(succeeded, Instant::now());
    }
}

impl Default for Parameters {
    fn default() -> Self {
        Self::new()
    }
}

/// One that fails does not stop the others.
fn ensure_all(wanted: &[Sysctl], metrics: &Metrics) -> bool {
    let mut succeeded = true;
    for sysctl in wanted {
        match sysctls::ensure(sysctl) {
            Ok(_) => {}
            // The interface went away meanwhile; its parameters come back with it.
            Err(error)
                if error.is_not_found()
                    && sysctl.path.iter().any(|part| part == "conf" || part == "neigh") =>
            {
                tracing::debug!(error = %error, "parameter of an interface that is gone");
            }
            Err(error) => {
                metrics.failures.with_label_values(&["parameter"]).inc();
                tracing::warn!(error = %error, "kernel parameter not set, it stays pending");
                succeeded = false;
            }
        }
    }
    succeeded
}

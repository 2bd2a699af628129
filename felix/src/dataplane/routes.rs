//! Routes: wanted ones are resolved to interfaces that are up, compared with the kernel's, and written.
//!
//! Every round lists anew, so that nothing is assumed of the kernel; notifications say when a round is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use caracal_felix_core::Config;
use caracal_felix_core::desired::{Desired, RouteTarget};
use caracal_linux::Result;
use caracal_linux::netlink::{Event, Link, Netlink, Route};
use caracal_reconcile::Reconciler;

use crate::drivers::routes::{Key, Routes as Driver, key, resolve};
use crate::metrics::Metrics;
use crate::retry::Retry;

/// Programs the routes of the main table.
#[derive(Debug)]
pub(super) struct Routes {
    driver: Driver,
    reconciler: Reconciler<Key, Route>,
    retry: Retry,
}

impl Routes {
    /// Nothing known yet.
    #[must_use]
    pub(super) fn new(netlink: Netlink, config: &Config) -> Self {
        Self {
            driver: Driver::new(netlink, config.route_protocol),
            reconciler: Reconciler::default(),
            retry: Retry::new(u64::from(std::process::id())),
        }
    }

    /// Something may be different: a round is needed.
    pub(super) fn request(&mut self) {
        self.retry.request();
    }

    /// Requests a round if a notification shows something else than we know.
    pub(super) fn on_event(&mut self, event: &Event, config: &Config) {
        let tracker = self.reconciler.tracker();
        let news = match event {
            Event::Link(link) | Event::LinkGone(link) => is_of_interest(link, config),
            Event::Route(route) => {
                self.driver.owns(route) && tracker.observed().get(&key(route)) != Some(route)
            }
            // A deletion does not repeat everything about the route, so its key decides.
            Event::RouteGone(route) => tracker.desired().contains_key(&key(route)),
            Event::Resync => true,
            // A route may wait for the interface that has the node's address.
            Event::Address(_) | Event::AddressGone(_) => self.retry.is_failing(),
        };
        if news {
            self.retry.request();
        }
    }

    /// True when some route is not as wanted.
    #[must_use]
    pub(super) const fn is_pending(&self) -> bool {
        self.retry.is_pending()
    }

    /// When something is to be done next.
    #[must_use]
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        [self.retry.at(now), self.driver.grace_ends()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Is there something to do now?
    #[must_use]
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next(now).is_some_and(|at| at <= now)
    }

    /// A round could not even begin.
    pub(super) fn put_off(&mut self, now: Instant) {
        if self.is_due(now) {
            self.retry.done(false, now);
        }
    }

    /// Does a round.
    pub(super) async fn apply(
        &mut self,
        desired: &Desired,
        config: &Config,
        links: &BTreeMap<String, Link>,
        metrics: &Metrics,
    ) {
        let succeeded = match self.round(desired, config, links, metrics).await {
            Ok(succeeded) => succeeded,
            Err(error) => {
                tracing::warn!(error = %error, "routes not programmed, they stay pending");
                false
            }
        };
        if !succeeded {
            metrics.failures.with_label_values(&["route"]).inc();
        }
        self.retry.done(succeeded, Instant::now());
    }

    async fn round(
        &mut self,
        desired: &Desired,
        config: &Config,
        links: &BTreeMap<String, Link>,
        metrics: &Metrics,
    ) -> Result<bool> {
        let needs_address =
            |route: &caracal_felix_core::desired::Route| matches!(route.target, RouteTarget::ViaNode { .. });
        let addresses = if desired.routes.values().any(needs_address) {
            self.driver.netlink().addresses().await?
        } else {
            Vec::new()
        };
        let own_interface = |wanted: IpAddr| {
            let found = addresses.iter().find(|own| own.address.addr() == wanted);
            found.map(|own| own.index)
        };
        let mut wanted = BTreeMap::new();
        let mut waiting = 0_usize;
        for (destination, route) in &desired.routes {
            match resolve(*destination, route, links, own_interface) {
                Some(route) => drop(wanted.insert(key(&route), route)),
                None => waiting += 1,
            }
        }
        if waiting > 0 {
            tracing::debug!(waiting, "routes wait for their interfaces");
        }
        let is_workload = |link: &&Link| is_of_workload(link, config);
        let workload_links = links.values().filter(is_workload).map(|link| link.index);
        let keys: BTreeSet<Key> = wanted.keys().copied().collect();
        self.driver
            .prepare(config.route_protocol, workload_links.collect(), keys);
        self.reconciler.tracker_mut().replace_desired(wanted);
        self.reconciler.invalidate();
        let outcome = self.reconciler.round(&mut self.driver, true).await?;
        metrics
            .route_changes
            .inc_by(u64::try_from(outcome.applied).unwrap_or(u64::MAX));
        Ok(outcome.failed == 0)
    }
}

fn is_of_workload(link: &Link, config: &Config) -> bool {
    let prefixes = &config.interface_prefixes;
    prefixes
        .iter()
        .any(|prefix| link.name.starts_with(prefix.as_str()))
}

/// Workload interfaces and tunnel devices.
fn is_of_interest(link: &Link, config: &Config) -> bool {
    is_of_workload(link, config) || matches!(link.name.as_str(), "tunl0" | "vxlan.calico" | "vxlan-v6.calico")
}

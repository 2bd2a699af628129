//! The kernel state of this node, kept as the calculation wants it.
//!
//! Owns the order: sets are created and extended, then tables written, then parameters and routes, then what is not
//! wanted any more goes, then status files tell the world. Each part keeps what failed and tries it again after a
//! pause of its own; none stops its neighbours. When felix ends, everything stays in the kernel as it is.

mod filter;
mod leftovers;
mod nftables;
mod parameters;
mod routes;
mod sets;
mod statuses;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use caracal_felix_core::desired::{Dirty, IpSetChange, RouteTarget};
use caracal_felix_core::{Core, Desired};
use caracal_linux::conntrack::Conntrack;
use caracal_linux::netlink::{Event, Link, Netlink};
use caracal_linux::nftables::Heard;

use crate::exec::CommandRunner;
use crate::features::FilterKind;
use crate::metrics::Metrics;

/// Where status files of endpoints go unless configured.
const STATUS_PREFIX: &str = "/var/run/calico";
/// How often all but packet filters is compared as a whole, whatever notifications said.
const REFRESH_INTERVAL: Duration = Duration::from_secs(90);

/// Programs the kernel, in the network namespace of the thread that made it.
#[derive(Debug)]
pub struct Dataplane<R> {
    runner: R,
    netlink: Netlink,
    conntrack: Conntrack,
    filter: filter::Filter,
    leftovers: leftovers::Leftovers,
    routes: routes::Routes,
    parameters: parameters::Parameters,
    statuses: statuses::Statuses,
    /// Addresses whose tracked connections must go.
    released: BTreeSet<IpAddr>,
    refreshed: Instant,
    filter_refreshed: Instant,
    metrics: Metrics,
}

impl<R: CommandRunner> Dataplane<R> {
    /// Connects to the kernel; nothing is changed yet. The core must have been flushed, for its configuration.
    ///
    /// # Errors
    /// When a netlink socket cannot be opened.
    pub fn new(runner: R, kind: FilterKind, core: &Core, metrics: Metrics) -> caracal_linux::Result<Self> {
        let netlink = Netlink::open()?;
        let prefix = core.configuration().endpoint_status_path_prefix.as_deref();
        Ok(Self {
            runner,
            conntrack: Conntrack::open()?,
            filter: filter::Filter::open(kind, core.desired())?,
            leftovers: leftovers::Leftovers::new(),
            routes: routes::Routes::new(netlink.clone(), core.config()),
            netlink,
            parameters: parameters::Parameters::new(),
            statuses: statuses::Statuses::new(prefix.unwrap_or(STATUS_PREFIX)),
            released: BTreeSet::new(),
            refreshed: Instant::now(),
            filter_refreshed: Instant::now(),
            metrics,
        })
    }

    /// How programs are run.
    pub const fn runner(&self) -> &R {
        &self.runner
    }

    /// Filters with something else from now on. The other backend writes everything before what the former one wrote
    /// goes. The core must have been flushed for it.
    ///
    /// # Errors
    /// When a socket cannot be opened; everything is then as before.
    pub fn set_filter(&mut self, kind: FilterKind, desired: &Desired) -> caracal_linux::Result<()> {
        if let Some(kind) = self.filter.reconfigure(kind, desired) {
            self.filter = filter::Filter::open(kind, desired)?;
            // Everything is new to it.
            let replaced = desired
                .ip_sets
                .keys()
                .map(|name| (name.clone(), IpSetChange::Replaced));
            let dirty = Dirty {
                ip_sets: replaced.collect(),
                ..Dirty::default()
            };
            self.filter.mark(desired, &dirty);
        }
        self.leftovers.request();
        Ok(())
    }

    /// True when a round costs so little that changes need not wait for others.
    #[must_use]
    pub const fn is_quick(&self) -> bool {
        self.filter.is_quick()
    }

    /// Waits until others change what packets are filtered with.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn heard(&mut self) -> Heard {
        self.filter.heard().await
    }

    /// Takes in what [`heard`](Self::heard) gave.
    pub fn on_heard(&mut self, heard: Heard) {
        self.filter.on_heard(heard);
    }

    /// Takes in what a flush of the core changed.
    pub fn mark(&mut self, desired: &Desired, dirty: &Dirty) {
        self.filter.mark(desired, dirty);
        self.parameters.mark(dirty);
        if !dirty.routes.is_empty() || !dirty.interfaces.is_empty() || dirty.configuration {
            self.routes.request();
        }
        self.released.extend(&dirty.released_addresses);
    }

    /// Takes in a notification of the kernel.
    pub fn on_event(&mut self, event: &Event, core: &Core) {
        self.routes.on_event(event, core.config());
        self.parameters.on_event(event, core.desired());
    }

    /// Looks, cheaply, for what others changed without a notification. To be called about once a second.
    pub fn check(&mut self, core: &Core, now: Instant) {
        let desired = core.desired();
        let interval = self.filter.refresh_interval(core.configuration());
        if interval.is_some_and(|interval| now.saturating_duration_since(self.filter_refreshed) >= interval) {
            self.filter_refreshed = now;
            self.filter.request_all(desired);
        }
        if now.saturating_duration_since(self.refreshed) >= REFRESH_INTERVAL {
            self.refreshed = now;
            self.routes.request();
            self.parameters.request_all(desired);
            return;
        }
        self.filter.check(desired, now);
        self.parameters.check(desired);
    }

    /// When something is to be done next, if at all.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<Instant> {
        [
            self.filter.next(now),
            self.leftovers.next(now).filter(|_| !self.filter.is_pending()),
            self.parameters.next(now),
            self.routes.next(now),
            self.statuses.next(now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// True when everything is in the kernel.
    #[must_use]
    pub fn is_programmed(&self) -> bool {
        !(self.filter.is_pending() || self.routes.is_pending() || self.parameters.is_failing())
    }

    /// True when every rule and set is in the kernel, so that the policy of every endpoint holds.
    #[must_use]
    pub fn policy_holds(&self) -> bool {
        !self.filter.is_pending()
    }

    /// Does what is due.
    pub async fn apply(&mut self, core: &Core) {
        let started = Instant::now();
        let desired = core.desired();
        // An address that moves to another interface: its old connections go before packets take the new way.
        self.forget_connections(|address| is_routed(desired, address));
        self.filter.apply(desired, &self.runner, &self.metrics).await;
        match self.links().await {
            Ok(links) => {
                self.parameters.apply(desired, &links, &self.metrics);
                if self.routes.is_due(Instant::now()) {
                    self.routes
                        .apply(desired, core.config(), &links, &self.metrics)
                        .await;
                }
                let is_programmed = self.is_programmed();
                self.statuses.apply(desired, &links, is_programmed);
            }
            Err(error) => {
                let now = Instant::now();
                self.routes.put_off(now);
                self.parameters.put_off(now);
                tracing::warn!(error = %error, "interfaces cannot be listed");
            }
        }
        self.forget_connections(|_| true);
        self.filter.sweep(desired);
        if self.leftovers.is_pending() && !self.filter.is_pending() {
            self.leftovers.apply(&self.filter, &self.runner).await;
        }
        self.metrics
            .active_endpoints
            .set(i64::try_from(desired.interfaces.len()).unwrap_or(i64::MAX));
        self.metrics.apply_time.observe(started.elapsed().as_secs_f64());
    }

    async fn links(&self) -> caracal_linux::Result<BTreeMap<String, Link>> {
        let links = self.netlink.links().await?;
        Ok(links.into_iter().map(|link| (link.name.clone(), link)).collect())
    }

    fn forget_connections(&mut self, is_picked: impl Fn(IpAddr) -> bool) {
        let picked: BTreeSet<IpAddr> = self.released.iter().copied().filter(|a| is_picked(*a)).collect();
        self.released.retain(|address| !picked.contains(address));
        for v6 in [false, true] {
            if !picked.iter().any(|address| address.is_ipv6() == v6) {
                continue;
            }
            let involves =
                |flow: &caracal_linux::conntrack::Flow| picked.iter().any(|address| flow.involves(*address));
            match self.conntrack.delete_where(v6, involves) {
                Ok(count) => tracing::debug!(count, "tracked connections of released addresses removed"),
                // They end by themselves; a kernel without the interface is no reason to hold up the rest.
                Err(error) => {
                    tracing::warn!(error = %error, "tracked connections of released addresses not removed");
                }
            }
        }
    }
}

fn is_routed(desired: &Desired, address: IpAddr) -> bool {
    let route = desired.routes.get(&address.into());
    route.is_some_and(|route| matches!(route.target, RouteTarget::Interface(_)))
}

//! The kernel state of this node, kept as the calculation wants it.
//!
//! Owns the order: sets are created and extended, then tables written, then parameters and routes, then what is not
//! wanted any more goes, then status files tell the world. Each part keeps what failed and tries it again after a
//! pause of its own; none stops its neighbours. When felix ends, everything stays in the kernel as it is.

mod parameters;
mod routes;
mod sets;
mod statuses;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use caracal_felix_core::desired::{Dirty, RouteTarget};
use caracal_felix_core::{Core, Desired};
use caracal_linux::conntrack::Conntrack;
use caracal_linux::ipset::IpSets;
use caracal_linux::netlink::{Event, Link, Netlink};

use crate::exec::CommandRunner;
use crate::features::Programs;
use crate::metrics::Metrics;

/// Where status files of endpoints go unless configured.
const STATUS_PREFIX: &str = "/var/run/calico";
/// How often everything is compared as a whole, whatever notifications said.
const REFRESH_INTERVAL: Duration = Duration::from_secs(90);

/// Programs the kernel, in the network namespace of the thread that made it.
#[derive(Debug)]
pub struct Dataplane<R> {
    runner: R,
    netlink: Netlink,
    conntrack: Conntrack,
    sets: sets::Sets,
    tables: tables::Tables,
    routes: routes::Routes,
    parameters: parameters::Parameters,
    statuses: statuses::Statuses,
    /// Addresses whose tracked connections must go.
    released: BTreeSet<IpAddr>,
    refreshed: Instant,
    metrics: Metrics,
}

impl<R: CommandRunner> Dataplane<R> {
    /// Connects to the kernel; nothing is changed yet. The core must have been flushed, for its configuration.
    ///
    /// # Errors
    /// When a netlink socket cannot be opened.
    pub fn new(runner: R, programs: Programs, core: &Core, metrics: Metrics) -> caracal_linux::Result<Self> {
        let netlink = Netlink::open()?;
        let prefix = core.configuration().endpoint_status_path_prefix.as_deref();
        Ok(Self {
            runner,
            conntrack: Conntrack::open()?,
            sets: sets::Sets::new(IpSets::open()?, programs.v6.is_some()),
            tables: tables::Tables::new(programs),
            routes: routes::Routes::new(netlink.clone(), core.config()),
            netlink,
            parameters: parameters::Parameters::new(),
            statuses: statuses::Statuses::new(prefix.unwrap_or(STATUS_PREFIX)),
            released: BTreeSet::new(),
            refreshed: Instant::now(),
            metrics,
        })
    }

    /// How programs are run.
    pub const fn runner(&self) -> &R {
        &self.runner
    }

    /// Takes other table programs from now on.
    pub fn set_programs(&mut self, programs: Programs, desired: &Desired) {
        self.sets.set_has_v6(programs.v6.is_some(), desired);
        self.tables.set_programs(programs);
        self.tables.mark(desired, &Dirty::default());
    }

    /// Takes in what a flush of the core changed.
    pub fn mark(&mut self, desired: &Desired, dirty: &Dirty) {
        self.sets.mark(desired, dirty);
        self.tables.mark(desired, dirty);
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
        if now.saturating_duration_since(self.refreshed) >= REFRESH_INTERVAL {
            self.refreshed = now;
            self.sets.request_all(desired);
            self.tables.request_all();
            self.routes.request();
            self.parameters.request_all(desired);
            return;
        }
        self.sets.check(desired);
        self.tables.check(now);
        self.parameters.check(desired);
    }

    /// When something is to be done next, if at all.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<Instant> {
        [
            self.sets.next(now),
            self.tables.next(now),
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
        !(self.sets.is_pending()
            || self.tables.is_pending()
            || self.routes.is_pending()
            || self.parameters.is_failing())
    }

    /// True when every rule and set is in the kernel, so that the policy of every endpoint holds.
    #[must_use]
    pub fn policy_holds(&self) -> bool {
        !(self.sets.is_pending() || self.tables.is_pending())
    }

    /// Does what is due.
    pub async fn apply(&mut self, core: &Core) {
        let started = Instant::now();
        let desired = core.desired();
        // An address that moves to another interface: its old connections go before packets take the new way.
        self.forget_connections(|address| is_routed(desired, address));
        self.sets.write(desired, &self.metrics);
        self.tables.apply(&self.runner, &self.metrics).await;
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
        self.sets.sweep(desired);
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

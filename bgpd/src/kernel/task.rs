//! The kernel task: orders in, notifications in, changes and reports out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use caracal_bgpd_core::input::Resolution;
use caracal_linux::Result;
use caracal_linux::netlink::{Event, Monitor, Netlink, Route, RouteBatch};
use caracal_reconcile::{Backoff, Reconciler};
use ipnet::IpNet;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::export::{Key, Pool, Routes, Value, resolve, resolve_static};
use super::host::Host;
use super::mailbox::{Mailbox, Orders};
use super::wanted::Wanted;
use super::{Refused, Report, Settings};

/// Changes that come together are looked at together.
const SETTLE: Duration = Duration::from_millis(100);
/// However much changes, everything is read again no more often than this.
const RELIST_MIN: Duration = Duration::from_millis(500);
/// And at least this often, for what nobody reports.
const RELIST_MAX: Duration = Duration::from_secs(60);
/// Waits between attempts at what the kernel refused.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

pub(super) struct Task {
    netlink: Netlink,
    monitor: Monitor,
    mailbox: Mailbox,
    reports: mpsc::Sender<Report>,
    driver: Routes,
    reconciler: Reconciler<Key, Value>,
    host: Host,
    wanted: Wanted,
    statics: BTreeMap<IpNet, IpAddr>,
    pool: Pool,
    /// Next hops that the speaker asked for, with what it was told.
    watched: BTreeMap<IpAddr, Option<Resolution>>,
    /// Those of them that it has not been told about.
    untold: BTreeSet<IpAddr>,
    may_write: bool,
    may_delete: bool,
    found_routes: usize,
    backoff: Backoff,
    /// Prefixes of the host's routes that changed.
    changed: BTreeSet<IpNet>,
    /// When to read everything again.
    relist_at: Instant,
    listed_at: Instant,
    /// When to look at changes, or to try again.
    work_at: Option<Instant>,
    last_counts: Option<Report>,
    /// What the kernel refuses, as the owner was told.
    refused: Vec<Refused>,
    /// Where default routes lead, as the owner was told.
    gateways: [Option<IpAddr>; 2],
}

impl Task {
    pub(super) async fn new(
        settings: Settings,
        mailbox: Mailbox,
        reports: mpsc::Sender<Report>,
    ) -> Result<Self> {
        let monitor = Netlink::monitor()?;
        let netlink = Netlink::open()?;
        let batch = RouteBatch::open()?;
        // Without the filter own changes come back as news, which costs time only.
        if let Err(error) = monitor.ignore_port(batch.port()) {
            tracing::debug!(error = %error, "own route changes are reported to this process too");
        }
        let mut task = Self {
            driver: Routes::new(netlink.clone(), batch, settings.protocol),
            netlink,
            monitor,
            mailbox,
            reports,
            reconciler: Reconciler::default(),
            host: Host::new(settings.protocol),
            wanted: Wanted::default(),
            statics: BTreeMap::new(),
            pool: Pool::default(),
            watched: BTreeMap::new(),
            untold: BTreeSet::new(),
            may_write: false,
            may_delete: false,
            found_routes: 0,
            backoff: Backoff::new(RETRY_MIN, RETRY_MAX, u64::from(std::process::id())),
            changed: BTreeSet::new(),
            relist_at: Instant::now(),
            listed_at: Instant::now(),
            work_at: None,
            last_counts: None,
            refused: Vec::new(),
            gateways: [None; 2],
        };
        task.relist().await?;
        task.work_at = Some(Instant::now());
        Ok(task)
    }

    pub(super) fn found_routes(&self) -> usize {
        self.found_routes
    }

    /// Runs until the owner is gone or the kernel cannot be heard any more.
    pub(super) async fn run(mut self) {
        loop {
            let work_at = self.work_at.map_or(self.relist_at, |at| at.min(self.relist_at));
            tokio::select! {
                orders = self.mailbox.take() => self.take(orders),
                event = self.monitor.next() => match event {
                    Ok(event) => self.on_event(event),
                    Err(error) => {
                        tracing::error!(error = %error, "kernel notifications ended");
                        return;
                    }
                },
                () = tokio::time::sleep_until(work_at) => {}
            }
            if self.work().await.is_none() {
                return;
            }
        }
    }

    fn take(&mut self, orders: Orders) {
        if orders.write && !self.may_write {
            // What was listed at the start is old by now.
            self.may_write = true;
            self.driver.forget_listing();
        }
        self.may_delete |= orders.sweep;
        if let Some(patterns) = orders.ignored_interfaces
            && self.host.ignore(patterns)
        {
            self.schedule_relist();
        }
        for (address, on) in orders.watches {
            if on {
                self.watched.insert(address, None);
                self.untold.insert(address);
            } else {
                self.watched.remove(&address);
                self.untold.remove(&address);
            }
        }
        if let Some(routes) = orders.static_routes {
            let before: Vec<IpNet> = self.statics.keys().copied().collect();
            self.statics = routes.into_iter().collect();
            let now: Vec<IpNet> = self.statics.keys().copied().collect();
            for prefix in before.into_iter().chain(now) {
                self.place(prefix);
            }
        }
        for (prefix, route) in orders.routes {
            self.wanted.want(prefix, route);
            self.place(prefix);
        }
        self.work_at = Some(Instant::now());
    }

    /// Brings the reconciler's wanted side up to date for one prefix.
    fn place(&mut self, prefix: IpNet) {
        let wanted = match (self.wanted.route(&prefix), self.statics.get(&prefix)) {
            (Some(route), _) => resolve(prefix, route, &self.host),
            (None, Some(gateway)) => resolve_static(prefix, *gateway, &self.host),
            (None, None) => None,
        };
        let tracker = self.reconciler.tracker_mut();
        let metric = wanted.as_ref().map(|(key, _)| key.metric);
        if let Some(before) = self.wanted.place(prefix, metric)
            && metric != Some(before)
        {
            let key = Key {
                prefix,
                metric: before,
            };
            tracker.remove_desired(&key);
        }
        if let Some((key, value)) = wanted {
            tracker.set_desired(key, self.pool.share(value));
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Link(link) => {
                if self.host.link(link) {
                    self.schedule_relist();
                }
            }
            Event::LinkGone(link) => {
                self.host.link_gone(link.index);
                self.schedule_relist();
            }
            // Routes that go with an address are not all reported.
            Event::Address(_) | Event::AddressGone(_) | Event::Resync => self.schedule_relist(),
            Event::Route(route) => self.on_route(&route),
            Event::RouteGone(route) => self.on_route_gone(&route),
        }
    }

    fn on_route(&mut self, route: &Route) {
        if self.driver.is_ours(route) {
            let wanted = self.reconciler.tracker().desired().get(&Key::of(route));
            if wanted.is_some() && wanted != Value::of(route).as_ref() {
                self.schedule_relist();
            }
        } else if self.host.route(route) {
            self.note(route);
        }
    }

    fn on_route_gone(&mut self, route: &Route) {
        let is_wanted = self.reconciler.tracker().desired().contains_key(&Key::of(route));
        if self.driver.is_ours(route) && is_wanted {
            self.schedule_relist();
        } else if self.host.route_gone(route) {
            self.note(route);
        }
    }

    /// A route of others changed.
    fn note(&mut self, route: &Route) {
        // It may stand where one of ours stood or could not be put.
        if self.reconciler.tracker().desired().contains_key(&Key::of(route)) {
            self.schedule_relist();
        }
        self.changed.insert(route.destination);
        let at = Instant::now() + SETTLE / 10;
        self.work_at = Some(self.work_at.map_or(at, |before| before.min(at)));
    }

    fn schedule_relist(&mut self) {
        let at = (Instant::now() + SETTLE).max(self.listed_at + RELIST_MIN);
        self.relist_at = self.relist_at.min(at);
    }

    /// Does what is due. `None` when the owner is gone.
    async fn work(&mut self) -> Option<()> {
        let now = Instant::now();
        let mut all = false;
        if now >= self.relist_at {
            all = true;
            if let Err(error) = self.relist().await {
                tracing::warn!(error = %error, "the kernel's routes could not be listed");
                self.relist_at = Instant::now() + RETRY_MIN;
            }
        } else if self.work_at.is_none_or(|at| now < at) {
            return Some(());
        }
        self.work_at = None;
        self.report_host(all).await?;
        self.write().await;
        self.report_counts().await
    }

    async fn relist(&mut self) -> Result<()> {
        let links = self.netlink.links().await?;
        let routes = self.netlink.routes().await?;
        self.host.replace(links, &routes);
        self.found_routes = routes.iter().filter(|route| self.driver.is_ours(route)).count();
        self.driver.prefetch(routes);
        self.reconciler.invalidate();
        self.listed_at = Instant::now();
        self.relist_at = self.listed_at + RELIST_MAX;
        Ok(())
    }

    /// Tells the speaker what changed, and looks up again what depends on it.
    async fn report_host(&mut self, all: bool) -> Option<()> {
        let changed = std::mem::take(&mut self.changed);
        let first = self.last_counts.is_none();
        let news = self.host.news(if all || first { None } else { Some(&changed) });
        if !news.is_empty() {
            self.reports.send(Report::Local(news)).await.ok()?;
        }
        let gateways = self.host.gateways();
        if first || gateways != self.gateways {
            self.gateways = gateways;
            self.reports.send(Report::Gateways(gateways)).await.ok()?;
        }
        let mut moved = Vec::new();
        let mut has_new = false;
        for (address, told) in &mut self.watched {
            let way = self.host.resolve(*address);
            // A watch begins with what is the case, also when that is nothing.
            let is_untold = self.untold.remove(address);
            if way != *told || is_untold {
                has_new |= way != *told;
                told.clone_from(&way);
                moved.push((*address, way));
            }
        }
        if !moved.is_empty() {
            self.reports.send(Report::NextHops(moved)).await.ok()?;
        }
        if has_new || all {
            let prefixes: Vec<IpNet> = self
                .wanted
                .prefixes()
                .chain(self.statics.keys().copied())
                .collect();
            for prefix in prefixes {
                self.place(prefix);
            }
        }
        Some(())
    }

    async fn write(&mut self) {
        if !self.may_write {
            return;
        }
        match self.reconciler.round(&mut self.driver, self.may_delete).await {
            Ok(outcome) if outcome.failed > 0 => self.retry(),
            Ok(_) => self.backoff.reset(),
            Err(error) => {
                tracing::warn!(error = %error, "the kernel's routes could not be listed");
                self.retry();
            }
        }
    }

    fn retry(&mut self) {
        self.work_at = Some(Instant::now() + self.backoff.next_delay());
    }

    async fn report_counts(&mut self) -> Option<()> {
        let desired = self.reconciler.tracker().desired();
        let refused = self.driver.refused(|key| desired.contains_key(key));
        let refused: Vec<Refused> = refused
            .into_iter()
            .map(|(key, reason)| Refused {
                prefix: key.prefix,
                metric: key.metric,
                reason,
            })
            .collect();
        if refused != self.refused {
            self.refused.clone_from(&refused);
            self.reports.send(Report::Refused(refused)).await.ok()?;
        }
        let tracker = self.reconciler.tracker();
        let wanted = self.wanted.len() + self.statics.len();
        let pending = tracker.pending_updates().count();
        let counts = Report::Counts {
            wanted,
            installed: tracker.observed().len(),
            failed: if self.may_write {
                wanted.saturating_sub(self.wanted.placed()) + pending
            } else {
                0
            },
        };
        if self.last_counts.as_ref() != Some(&counts) {
            self.last_counts = Some(counts.clone());
            self.reports.send(counts).await.ok()?;
        }
        Some(())
    }
}

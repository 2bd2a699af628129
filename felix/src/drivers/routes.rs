//! Routes of the main table: to workloads, and blackholes of the node's blocks.
//!
//! # Ownership
//! A route of the main table with our protocol number, or on an interface with a workload prefix, is ours; except
//! multipath routes and the kernel's own, which we never make. No other route is changed. A route on a workload
//! interface that was never wanted may be one that a CNI plugin just made for a pod we have not heard of: for a grace
//! period it counts as not ours yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use caracal_felix_core::desired::{Route as Wanted, RouteTarget};
use caracal_linux::ipnet::IpNet;
use caracal_linux::netlink::{Link, Netlink, Route, RouteKind, SCOPE_LINK, SCOPE_UNIVERSE, TABLE_MAIN};
use caracal_linux::{Error, Result};
use caracal_reconcile::{Delta, Driver, Verdicts};

/// The kernel's metric of an IPv6 route without one.
const IPV6_DEFAULT_METRIC: u32 = 1024;
/// How long a route that a CNI plugin made is left alone.
pub const GRACE_PERIOD: Duration = Duration::from_secs(10);
/// Route protocol of routes that the kernel makes by itself.
const PROTOCOL_KERNEL: u8 = 2;

/// What tells a route from all others of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    /// Destination.
    pub destination: IpNet,
    /// Metric.
    pub metric: u32,
}

/// Programs routes.
#[derive(Debug)]
pub struct Routes {
    netlink: Netlink,
    protocol: u8,
    workload_links: BTreeSet<u32>,
    wanted: BTreeSet<Key>,
    /// Were wanted and are no longer: these go at once.
    forsaken: BTreeSet<Key>,
    /// Were never wanted, and when each was first seen.
    strangers: BTreeMap<Key, Instant>,
    /// Routes of others, as of the last listing.
    foreign: BTreeSet<Key>,
}

impl Routes {
    /// A driver of the routes behind a connection.
    pub fn new(netlink: Netlink, protocol: u8) -> Self {
        Self {
            netlink,
            protocol,
            workload_links: BTreeSet::new(),
            wanted: BTreeSet::new(),
            forsaken: BTreeSet::new(),
            strangers: BTreeMap::new(),
            foreign: BTreeSet::new(),
        }
    }

    /// Takes note of what is wanted and which interfaces are those of workloads, before a listing.
    pub fn prepare(&mut self, protocol: u8, workload_links: BTreeSet<u32>, wanted: BTreeSet<Key>) {
        self.protocol = protocol;
        self.workload_links = workload_links;
        self.forsaken.extend(self.wanted.difference(&wanted).copied());
        self.forsaken.retain(|key| !wanted.contains(key));
        self.wanted = wanted;
    }

    /// The connection.
    pub fn netlink(&self) -> &Netlink {
        &self.netlink
    }

    /// When the first grace period ends.
    pub fn grace_ends(&self) -> Option<Instant> {
        self.strangers.values().min().map(|seen| *seen + GRACE_PERIOD)
    }

    /// Whether a route is ours by its looks.
    pub fn owns(&self, route: &Route) -> bool {
        let on_workload = route
            .oif
            .is_some_and(|index| self.workload_links.contains(&index));
        route.table == TABLE_MAIN
            && route.next_hops.is_empty()
            && (route.protocol == self.protocol || on_workload)
            && route.protocol != PROTOCOL_KERNEL
    }

    /// Splits the routes of the main table into ours, strangers in their grace period, and those of others.
    fn sort(&mut self, routes: Vec<Route>, now: Instant) -> BTreeMap<Key, Route> {
        let mut ours = BTreeMap::new();
        let mut strangers = BTreeMap::new();
        self.foreign.clear();
        for route in routes.into_iter().filter(|route| route.table == TABLE_MAIN) {
            let key = key(&route);
            if !self.owns(&route) {
                self.foreign.insert(key);
                continue;
            }
            // A second route to a destination that is wanted is of a pod we know: ours takes its place.
            let is_known = self.wants(&key.destination) || self.forsaken.contains(&key);
            if is_known || route.oif.is_none() || route.kind != RouteKind::Unicast {
                ours.insert(key, route);
                continue;
            }
            let seen = self.strangers.get(&key).copied().unwrap_or(now);
            if now.saturating_duration_since(seen) < GRACE_PERIOD {
                strangers.insert(key, seen);
            } else {
                ours.insert(key, route);
            }
        }
        self.strangers = strangers;
        self.forsaken.retain(|key| ours.contains_key(key));
        ours
    }

    fn wants(&self, destination: &IpNet) -> bool {
        let with_metric = |metric| Key {
            destination: *destination,
            metric,
        };
        let same = with_metric(0)..=with_metric(u32::MAX);
        self.wanted.range(same).next().is_some()
    }

    async fn update(&self, key: &Key, route: &Route) -> Result<()> {
        // Replacing does not look at the owner, so we do.
        if self.foreign.contains(key) {
            return Err(foreign(key));
        }
        self.netlink.replace_route(route).await
    }
}

fn foreign(key: &Key) -> Error {
    Error::Invalid {
        what: format!("route {} with metric {}", key.destination, key.metric),
        problem: "is taken by a route that is not ours; remove that one".to_owned(),
    }
}

impl Driver for Routes {
    type Key = Key;
    type Value = Route;
    type Error = Error;

    async fn list(&mut self) -> Result<BTreeMap<Key, Route>> {
        let routes = self.netlink.routes().await?;
        Ok(self.sort(routes, Instant::now()))
    }

    async fn apply(&mut self, delta: &Delta<Key, Route>) -> Verdicts<Key, Error> {
        let mut verdicts = Vec::new();
        // New routes first: a workload whose route changes its metric is never without one.
        for (key, route) in &delta.updates {
            verdicts.push((*key, self.update(key, route).await));
        }
        for (key, route) in &delta.deletions {
            let verdict = match self.netlink.delete_route(route).await {
                Err(error) if error.is_not_found() => Ok(()),
                result => result,
            };
            verdicts.push((*key, verdict));
        }
        verdicts
    }
}

/// What identifies a route.
pub fn key(route: &Route) -> Key {
    Key {
        destination: route.destination,
        metric: route.metric,
    }
}

/// A wanted route with indexes in place of names; `None` while its interface is absent or down, because the kernel
/// would refuse it. `own_interface` finds the interface that has an address of this node.
pub fn resolve(
    destination: IpNet,
    wanted: &Wanted,
    links: &BTreeMap<String, Link>,
    own_interface: impl Fn(std::net::IpAddr) -> Option<u32>,
) -> Option<Route> {
    let up = |name: &str| links.get(name).filter(|link| link.up).map(|link| link.index);
    let v6 = destination.addr().is_ipv6();
    let link_scope = if v6 { SCOPE_UNIVERSE } else { SCOPE_LINK };
    let mut route = match &wanted.target {
        RouteTarget::Interface(name) => Route::unicast(destination).dev(up(name)?).scope(link_scope),
        RouteTarget::Blackhole => Route::blackhole(destination),
        RouteTarget::ViaNode { gateway, own_address } => Route::unicast(destination)
            .via(*gateway)
            .dev(own_interface(*own_address)?)
            .onlink(),
        RouteTarget::ViaTunnel { gateway, device } => Route::unicast(destination)
            .via(*gateway)
            .dev(up(device)?)
            .onlink(),
    };
    route.protocol = wanted.protocol;
    let default = if v6 { IPV6_DEFAULT_METRIC } else { 0 };
    route.metric = wanted.metric.unwrap_or(default);
    route.source = wanted.source;
    debug_assert!(matches!(route.kind, RouteKind::Unicast | RouteKind::Blackhole));
    Some(route)
}

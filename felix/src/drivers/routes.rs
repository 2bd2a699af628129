//! Routes of the main table: to workloads, and blackholes of the node's blocks.
//!
//! # Ownership
//! A route of the main table with our protocol number, or on an interface with a workload prefix, is ours; except
//! multipath routes, which we never make. No other route is changed.

use std::collections::BTreeMap;

use caracal_felix_core::desired::{Route as Wanted, RouteTarget};
use caracal_linux::ipnet::IpNet;
use caracal_linux::netlink::{Link, Netlink, Route, RouteKind, SCOPE_LINK, SCOPE_UNIVERSE, TABLE_MAIN};
use caracal_linux::{Error, Result};
use caracal_reconcile::{Delta, Driver, Verdicts};

/// The kernel's metric of an IPv6 route without one.
const IPV6_DEFAULT_METRIC: u32 = 1024;

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
    prefixes: Vec<String>,
}

impl Routes {
    /// A driver of the routes behind a connection.
    pub fn new(netlink: Netlink, protocol: u8, prefixes: Vec<String>) -> Self {
        Self {
            netlink,
            protocol,
            prefixes,
        }
    }

    fn owns(&self, route: &Route, workload_links: &[u32]) -> bool {
        route.table == TABLE_MAIN
            && route.next_hops.is_empty()
            && (route.protocol == self.protocol
                || route.oif.is_some_and(|index| workload_links.contains(&index)))
            // The kernel's own link-local routes come and go with IPv6 on the interface.
            && route.protocol != 2
    }

    async fn update(&self, key: &Key, route: &Route) -> Result<()> {
        let present = self.netlink.routes_of(key.destination.addr().is_ipv6()).await?;
        let links = self.workload_links().await?;
        let in_the_way = present.iter().find(|other| {
            other.table == TABLE_MAIN && other.destination == key.destination && other.metric == key.metric
        });
        // Replacing does not look at the owner, so we do.
        if in_the_way.is_some_and(|other| !self.owns(other, &links)) {
            return Err(foreign(key));
        }
        self.netlink.replace_route(route).await
    }

    async fn workload_links(&self) -> Result<Vec<u32>> {
        let links = self.netlink.links().await?;
        let ours = |link: &&Link| {
            self.prefixes
                .iter()
                .any(|prefix| link.name.starts_with(prefix.as_str()))
        };
        Ok(links.iter().filter(ours).map(|link| link.index).collect())
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
        let links = self.workload_links().await?;
        let routes = self.netlink.routes().await?;
        let ours = routes.into_iter().filter(|route| self.owns(route, &links));
        Ok(ours.map(|route| (key(&route), route)).collect())
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

fn key(route: &Route) -> Key {
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

//! Best routes as kernel routes: what the main table should have under our protocol number, and the driver for it.
//!
//! # Ownership
//! A route of the main table with our protocol number is ours. A prefix and metric that somebody else's route has is
//! left alone and reported; only a route that was listed as ours, or added by us, is ever replaced.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use caracal_bgpd_core::output::{KernelRoute, Target};
use caracal_linux::netlink::{Netlink, NextHop, Route, RouteBatch, RouteChange, RouteKind, TABLE_MAIN};
use caracal_reconcile::{Delta, Driver, Verdicts};
use ipnet::IpNet;

use super::DEFAULT_METRIC;
use super::host::Host;

/// What the kernel tells routes of one table apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) prefix: IpNet,
    pub(super) metric: u32,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Value {
    Blackhole,
    /// Sorted, each once, at least one; shared between routes that lead the same way.
    Hops(Arc<[Hop]>),
}

/// One way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Hop {
    gateway: Option<IpAddr>,
    oif: Option<u32>,
    onlink: bool,
}

impl Key {
    pub(super) fn of(route: &Route) -> Self {
        Self {
            prefix: route.destination,
            metric: route.metric,
        }
    }
}

impl Value {
    /// A route as it would be compared; `None` for kinds that we never make.
    pub(super) fn of(route: &Route) -> Option<Self> {
        match route.kind {
            RouteKind::Blackhole => Some(Self::Blackhole),
            RouteKind::Unicast if route.next_hops.is_empty() => Some(Self::Hops(Arc::new([Hop {
                gateway: route.gateway,
                oif: route.oif,
                onlink: route.onlink,
            }]))),
            RouteKind::Unicast => Some(Self::hops(route.next_hops.iter().map(|hop| Hop {
                gateway: hop.gateway,
                oif: hop.oif,
                onlink: hop.onlink,
            }))),
            _ => None,
        }
    }

    fn hops(hops: impl Iterator<Item = Hop>) -> Self {
        Self::Hops(hops.collect::<BTreeSet<_>>().into_iter().collect())
    }
}

/// The kernel route for a wanted one, with its next hops looked up. `None` when there is no way to any of them.
pub(super) fn resolve(prefix: IpNet, route: &KernelRoute, host: &Host) -> Option<(Key, Value)> {
    let key = Key {
        prefix,
        metric: route.metric.unwrap_or(DEFAULT_METRIC),
    };
    let value = match &route.target {
        Target::Blackhole => Value::Blackhole,
        Target::NextHops(hops) => Value::hops(hops.iter().filter_map(|hop| match &hop.device {
            Some(device) => Some(Hop {
                gateway: Some(hop.address),
                oif: Some(host.index_of(device)?),
                onlink: true,
            }),
            None => way(hop.address, host),
        })),
    };
    match value {
        Value::Hops(hops) if hops.is_empty() => None,
        value => Some((key, value)),
    }
}

/// The way through a gateway that the configuration names.
pub(super) fn resolve_static(prefix: IpNet, gateway: IpAddr, host: &Host) -> Option<(Key, Value)> {
    let key = Key {
        prefix,
        metric: DEFAULT_METRIC,
    };
    Some((key, Value::Hops(Arc::new([way(gateway, host)?]))))
}

fn way(address: IpAddr, host: &Host) -> Option<Hop> {
    let way = host.way_to(address)?;
    Some(Hop {
        gateway: Some(way.gateway.unwrap_or(address)),
        oif: way.oif,
        onlink: way.onlink,
    })
}

/// Values, each kept once: a table of many routes leads few ways.
#[derive(Debug, Default)]
pub(super) struct Pool {
    known: HashSet<Arc<[Hop]>>,
    tidy_at: usize,
}

/// Ways that may be in the pool before those that nobody uses are looked for.
const POOL_MIN: usize = 1024;

impl Pool {
    /// The value, in the form that equal ones share.
    pub(super) fn share(&mut self, value: Value) -> Value {
        let Value::Hops(hops) = value else { return value };
        if let Some(known) = self.known.get(&hops) {
            return Value::Hops(Arc::clone(known));
        }
        if self.known.len() >= self.tidy_at.max(POOL_MIN) {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.tidy_at = 2 * self.known.len();
        }
        self.known.insert(Arc::clone(&hops));
        Value::Hops(hops)
    }
}

/// Why a route could not be programmed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Kernel(#[from] caracal_linux::Error),
    #[error(
        "another program (routing protocol {protocol}) has a route for this prefix and metric; remove it, or give ours \
         another metric"
    )]
    Occupied { protocol: u8 },
}

/// Routes that the kernel refuses, of those that people are told.
const REFUSED_MAX: usize = 50;

/// Routes written before other tasks have their turn.
const PORTION: usize = 1024;

/// Our routes in the main table.
#[derive(Debug)]
pub(super) struct Routes {
    netlink: Netlink,
    batch: RouteBatch,
    protocol: u8,
    /// A listing that was taken just now for another purpose.
    listing: Option<Vec<Route>>,
    /// Keys that are known to be ours.
    ours: BTreeSet<Key>,
    /// What the last attempt at a key failed with.
    refused: BTreeMap<Key, String>,
}

impl Routes {
    pub(super) fn new(netlink: Netlink, batch: RouteBatch, protocol: u8) -> Self {
        Self {
            netlink,
            batch,
            protocol,
            listing: None,
            ours: BTreeSet::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Hands over a listing, to save taking another one.
    pub(super) fn prefetch(&mut self, listing: Vec<Route>) {
        self.listing = Some(listing);
    }

    /// Lists anew when asked next.
    pub(super) fn forget_listing(&mut self) {
        self.listing = None;
    }

    /// What could not be put into the kernel, with the reason, as far as it is still wanted.
    pub(super) fn refused(&mut self, is_wanted: impl Fn(&Key) -> bool) -> Vec<(Key, String)> {
        self.refused.retain(|key, _| is_wanted(key));
        let refused = self.refused.iter().take(REFUSED_MAX);
        refused.map(|(key, reason)| (*key, reason.clone())).collect()
    }

    pub(super) fn is_ours(&self, route: &Route) -> bool {
        route.table == TABLE_MAIN && route.protocol == self.protocol
    }

    fn route(&self, key: Key, value: &Value) -> Route {
        let mut route = match value {
            Value::Blackhole => Route::blackhole(key.prefix),
            Value::Hops(_) => Route::unicast(key.prefix),
        };
        route = route.protocol(self.protocol).metric(key.metric);
        match value {
            Value::Blackhole => {}
            Value::Hops(hops) => match &**hops {
                [hop] => {
                    route.gateway = hop.gateway;
                    route.oif = hop.oif;
                    route.onlink = hop.onlink;
                }
                hops => {
                    route.next_hops = hops
                        .iter()
                        .map(|hop| NextHop {
                            gateway: hop.gateway,
                            oif: hop.oif,
                            weight: 1,
                            onlink: hop.onlink,
                        })
                        .collect();
                }
            },
        }
        route
    }

    /// Puts a route where one stands that was not listed: ours, or somebody else's.
    async fn take_over(&mut self, key: Key, route: &Route) -> Result<(), Error> {
        let there = self.netlink.routes_of(key.prefix.addr().is_ipv6()).await?;
        let same = there
            .iter()
            .find(|route| route.table == TABLE_MAIN && Key::of(route) == key);
        match same {
            Some(foreign) if foreign.protocol != self.protocol => Err(Error::Occupied {
                protocol: foreign.protocol,
            }),
            _ => Ok(self.netlink.replace_route(route).await?),
        }
    }

    async fn update(&mut self, updates: &[(Key, Value)]) -> Verdicts<Key, Error> {
        let routes: Vec<Route> = updates
            .iter()
            .map(|(key, value)| self.route(*key, value))
            .collect();
        let pairs = updates.iter().map(|(key, _)| key).zip(&routes);
        let changes: Vec<RouteChange<'_>> = pairs
            .map(|(key, route)| {
                if self.ours.contains(key) {
                    RouteChange::Replace(route)
                } else {
                    RouteChange::Add(route)
                }
            })
            .collect();
        let answers = self.batch.apply(&changes);
        let mut verdicts = Vec::with_capacity(updates.len());
        for (((key, _), route), answer) in updates.iter().zip(&routes).zip(answers) {
            let verdict = match answer {
                Err(error) if error.is_exists() => self.take_over(*key, route).await,
                answer => answer.map_err(Error::from),
            };
            match &verdict {
                Ok(()) => {
                    self.ours.insert(*key);
                    self.refused.remove(key);
                }
                Err(error) => drop(self.refused.insert(*key, error.to_string())),
            }
            verdicts.push((*key, verdict));
        }
        verdicts
    }

    fn delete(&mut self, deletions: &[(Key, Value)]) -> Verdicts<Key, Error> {
        let routes: Vec<Route> = deletions
            .iter()
            .map(|(key, value)| self.route(*key, value))
            .collect();
        let changes: Vec<RouteChange<'_>> = routes.iter().map(RouteChange::Delete).collect();
        let answers = self.batch.apply(&changes);
        let mut verdicts = Vec::with_capacity(deletions.len());
        for ((key, _), answer) in deletions.iter().zip(answers) {
            let verdict = match answer {
                Err(error) if error.is_not_found() => Ok(()),
                answer => answer.map_err(Error::from),
            };
            if verdict.is_ok() {
                self.ours.remove(key);
            }
            verdicts.push((*key, verdict));
        }
        verdicts
    }
}

impl Driver for Routes {
    type Key = Key;
    type Value = Value;
    type Error = Error;

    async fn list(&mut self) -> Result<BTreeMap<Key, Value>, Error> {
        let routes = match self.listing.take() {
            Some(routes) => routes,
            None => self.netlink.routes().await?,
        };
        let mut pool = Pool::default();
        let listed: BTreeMap<Key, Value> = routes
            .iter()
            .filter(|route| self.is_ours(route))
            .filter_map(|route| Some((Key::of(route), pool.share(Value::of(route)?))))
            .collect();
        self.ours = listed.keys().copied().collect();
        Ok(listed)
    }

    async fn apply(&mut self, delta: &Delta<Key, Value>) -> Verdicts<Key, Error> {
        let mut verdicts = Vec::new();
        for updates in delta.updates.chunks(PORTION) {
            verdicts.extend(self.update(updates).await);
            tokio::task::yield_now().await;
        }
        for deletions in delta.deletions.chunks(PORTION) {
            verdicts.extend(self.delete(deletions));
            tokio::task::yield_now().await;
        }
        verdicts
    }
}

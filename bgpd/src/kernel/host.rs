//! What others have put into the main table: the host's routes for the speaker, and the way to next hops.
//!
//! A mirror, read once and kept up to date by notifications. Own routes never get in: a next hop is not looked up in
//! what was learned from BGP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use caracal_bgpd_core::input::{LocalDelta, LocalRoute, Resolution};
use caracal_bgpd_core::policy::Source;
use caracal_linux::netlink::{Link, Route, RouteKind, TABLE_MAIN};
use ipnet::IpNet;

/// `RTPROT_KERNEL`: routes of addresses on interfaces.
const PROTOCOL_KERNEL: u8 = 2;
/// Interfaces whose networks are never the host's own: workloads and service addresses.
const NEVER_DIRECT: [&str; 2] = ["cali*", "kube-ipvs*"];

/// How packets to an address leave the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) oif: Option<u32>,
    pub(super) gateway: Option<IpAddr>,
    pub(super) onlink: bool,
    pub(super) metric: u32,
}

/// The mirror.
#[derive(Debug, Default)]
pub(super) struct Host {
    protocol: u8,
    links: BTreeMap<u32, Link>,
    /// Routes of others by prefix, then metric: the first is the one in use.
    routes: BTreeMap<IpNet, BTreeMap<u32, Route>>,
    ignored: Vec<String>,
    /// What the speaker was told.
    told: BTreeMap<IpNet, LocalRoute>,
}

impl Host {
    pub(super) fn new(protocol: u8) -> Self {
        Self {
            protocol,
            ..Self::default()
        }
    }

    /// Takes what is there in place of what was known.
    pub(super) fn replace(&mut self, links: Vec<Link>, routes: &[Route]) {
        self.links = links.into_iter().map(|link| (link.index, link)).collect();
        self.routes.clear();
        for route in routes {
            self.route(route);
        }
    }

    /// Sets the patterns of interfaces to ignore; true when they changed.
    pub(super) fn ignore(&mut self, patterns: Vec<String>) -> bool {
        let changed = self.ignored != patterns;
        self.ignored = patterns;
        changed
    }

    /// Notes a device; true when what is known of routes has to be read again.
    pub(super) fn link(&mut self, link: Link) -> bool {
        let before = self.links.insert(link.index, link.clone());
        // The kernel drops routes of a device that goes down without a word.
        before.is_none_or(|before| before.up != link.up || before.name != link.name)
    }

    pub(super) fn link_gone(&mut self, index: u32) {
        self.links.remove(&index);
    }

    /// Index of a device by its name.
    pub(super) fn index_of(&self, name: &str) -> Option<u32> {
        self.links
            .values()
            .find(|link| link.name == name && link.up)
            .map(|link| link.index)
    }

    /// Notes a route of others. True when it is one.
    pub(super) fn route(&mut self, route: &Route) -> bool {
        let counts = self.counts(route);
        if counts {
            self.routes
                .entry(route.destination)
                .or_default()
                .insert(route.metric, route.clone());
        }
        counts
    }

    /// Notes that a route of others is gone. True when it was known.
    pub(super) fn route_gone(&mut self, route: &Route) -> bool {
        let Some(of_prefix) = self
            .routes
            .get_mut(&route.destination)
            .filter(|_| route.table == TABLE_MAIN)
        else {
            return false;
        };
        // A replaced route is reported as new only; what goes must be what we have.
        let known = of_prefix
            .get(&route.metric)
            .is_some_and(|known| known.protocol == route.protocol);
        if known && route.protocol != self.protocol {
            of_prefix.remove(&route.metric);
        }
        if of_prefix.is_empty() {
            self.routes.remove(&route.destination);
        }
        known
    }

    fn counts(&self, route: &Route) -> bool {
        route.table == TABLE_MAIN
            && route.protocol != self.protocol
            && route.kind == RouteKind::Unicast
            && !is_special(&route.destination)
    }

    /// The way to an address by the longest prefix: on a connected network, or through a gateway on one.
    pub(super) fn way_to(&self, address: IpAddr) -> Option<Way> {
        for length in (0..=IpNet::from(address).max_prefix_len()).rev() {
            let net = IpNet::new(address, length).ok()?.trunc();
            let Some((metric, route)) = self.routes.get(&net).and_then(BTreeMap::first_key_value) else {
                continue;
            };
            let hop = route.next_hops.first();
            let oif = route.oif.or_else(|| hop.and_then(|hop| hop.oif));
            if oif.is_some_and(|index| self.links.get(&index).is_some_and(|link| !link.up)) {
                continue;
            }
            return Some(Way {
                oif,
                gateway: route.gateway.or_else(|| hop.and_then(|hop| hop.gateway)),
                onlink: route.onlink || hop.is_some_and(|hop| hop.onlink),
                metric: *metric,
            });
        }
        None
    }

    /// The way to a next hop in the speaker's terms.
    pub(super) fn resolve(&self, address: IpAddr) -> Option<Resolution> {
        let way = self.way_to(address)?;
        Some(Resolution {
            metric: way.metric,
            gateway: way.gateway,
            interface: way
                .oif
                .and_then(|index| self.links.get(&index))
                .map(|link| link.name.clone()),
        })
    }

    /// The gateways of the default routes, IPv4 and IPv6.
    pub(super) fn gateways(&self) -> [Option<IpAddr>; 2] {
        let of = |address: IpAddr| {
            let default = IpNet::new(address, 0).ok()?;
            let (_, route) = self.routes.get(&default)?.first_key_value()?;
            let hop = route.next_hops.first();
            route.gateway.or_else(|| hop.and_then(|hop| hop.gateway))
        };
        [of(Ipv4Addr::UNSPECIFIED.into()), of(Ipv6Addr::UNSPECIFIED.into())]
    }

    /// What changed for the speaker since the last call, for these prefixes or for all.
    pub(super) fn news(&mut self, prefixes: Option<&BTreeSet<IpNet>>) -> Vec<LocalDelta> {
        let all: BTreeSet<IpNet>;
        let prefixes = match prefixes {
            Some(prefixes) => prefixes,
            None => {
                all = self.told.keys().chain(self.routes.keys()).copied().collect();
                &all
            }
        };
        let mut news = Vec::new();
        for prefix in prefixes {
            let route = self.local(prefix);
            if self.told.get(prefix) == route.as_ref() {
                continue;
            }
            match &route {
                Some(route) => drop(self.told.insert(*prefix, route.clone())),
                None => drop(self.told.remove(prefix)),
            }
            news.push(LocalDelta {
                prefix: *prefix,
                route,
            });
        }
        news
    }

    /// The host's route for a prefix, as far as it is the speaker's business. The default route is not: it would keep
    /// one that a router announces out of the kernel, where both have their place by metric.
    fn local(&self, prefix: &IpNet) -> Option<LocalRoute> {
        let (_, route) = self
            .routes
            .get(prefix)
            .filter(|_| prefix.prefix_len() > 0)?
            .first_key_value()?;
        let hop = route.next_hops.first();
        let oif = route.oif.or_else(|| hop.and_then(|hop| hop.oif));
        let link = oif.and_then(|index| self.links.get(&index));
        let name = link.map(|link| link.name.clone()).unwrap_or_default();
        let is_direct = route.protocol == PROTOCOL_KERNEL;
        let is_ignored = || {
            let patterns = self.ignored.iter().map(String::as_str).chain(NEVER_DIRECT);
            patterns.into_iter().any(|pattern| glob(pattern, &name))
        };
        if link.is_some_and(|link| link.loopback) || (is_direct && is_ignored()) {
            return None;
        }
        Some(LocalRoute {
            source: if is_direct { Source::Direct } else { Source::Kernel },
            next_hop: route.gateway.or_else(|| hop.and_then(|hop| hop.gateway)),
            interface: Some(name).filter(|name| !name.is_empty()),
            metric: Some(route.metric).filter(|metric| *metric != 0),
        })
    }
}

/// Link-local and multicast prefixes are nobody's routes.
fn is_special(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.addr().is_link_local() || net.addr().is_multicast(),
        IpNet::V6(net) => net.addr().is_unicast_link_local() || net.addr().is_multicast(),
    }
}

/// Whether a name fits a pattern in which `*` stands for any text.
fn glob(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(name) = name.strip_prefix(head) else {
        return false;
    };
    rest.is_empty()
        || (0..=name.len())
            .filter_map(|at| name.get(at..))
            .any(|tail| glob(rest, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(routes: &[Route]) -> Host {
        let link = |index: u32, name: &str| Link {
            index,
            name: name.to_owned(),
            kind: None,
            mac: None,
            mtu: 1500,
            up: true,
            running: true,
            master: None,
            peer: None,
            loopback: false,
        };
        let mut host = Host::new(12);
        host.replace(vec![link(2, "eth0"), link(3, "cali1")], routes);
        host
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn next_hops_are_found_by_the_longest_prefix_and_never_in_own_routes() {
        let host = host(&[
            Route::unicast(net("10.0.0.0/24")).dev(2).protocol(2),
            Route::unicast(net("10.1.0.0/16"))
                .via(ip("10.0.0.9"))
                .dev(2)
                .protocol(4)
                .metric(7),
            Route::unicast(net("10.1.2.0/24"))
                .via(ip("10.0.0.8"))
                .dev(2)
                .protocol(12),
        ]);
        let direct = host.way_to(ip("10.0.0.7")).unwrap();
        assert_eq!((direct.oif, direct.gateway), (Some(2), None));
        let through = host.resolve(ip("10.1.2.3")).unwrap();
        assert_eq!((through.gateway, through.metric), (Some(ip("10.0.0.9")), 7));
        assert_eq!(host.way_to(ip("10.2.0.1")), None);
    }

    #[test]
    fn the_speaker_hears_of_each_change_once() {
        let pod = Route::unicast(net("10.244.0.5/32")).dev(3).protocol(80);
        let mut host = host(&[
            Route::unicast(net("0.0.0.0/0")).via(ip("10.0.0.1")).dev(2),
            Route::unicast(net("10.0.0.0/24")).dev(2).protocol(2),
            Route::unicast(net("10.9.0.0/24")).dev(3).protocol(2),
            pod.clone(),
        ]);
        let told: Vec<(IpNet, Source)> = host
            .news(None)
            .into_iter()
            .filter_map(|delta| Some((delta.prefix, delta.route?.source)))
            .collect();
        assert_eq!(
            told,
            [
                (net("10.0.0.0/24"), Source::Direct),
                (net("10.244.0.5/32"), Source::Kernel)
            ]
        );
        assert_eq!(host.gateways(), [Some(ip("10.0.0.1")), None]);
        assert_eq!(host.news(None), []);
        assert!(host.route_gone(&pod));
        assert_eq!(
            host.news(None),
            [LocalDelta {
                prefix: net("10.244.0.5/32"),
                route: None
            }]
        );
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, fits) in [
            ("cali*", "cali123", true),
            ("cali*", "eth0", false),
            ("*.cali", "vxlan.cali", true),
            ("e*0", "eth0", true),
            ("e*0", "eth1", false),
            ("*", "", true),
            ("eth0", "eth01", false),
        ] {
            assert_eq!(glob(pattern, name), fits, "{pattern} {name}");
        }
    }
}

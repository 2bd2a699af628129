//! Routes: list, add, replace, delete.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, NextHop, Route, RouteKind};
use crate::Result;

impl Netlink {
    /// All routes of both families in all tables, without cached ones.
    ///
    /// # Errors
    /// When the listing fails.
    pub async fn routes(&self) -> Result<Vec<Route>> {
        let mut routes = self.routes_of(false).await?;
        match self.routes_of(true).await {
            Ok(v6) => routes.extend(v6),
            // A kernel with IPv6 switched off.
            Err(error) if error.is_unsupported() => {}
            Err(error) => return Err(error),
        }
        Ok(routes)
    }

    /// All routes of one family in all tables, without cached ones.
    ///
    /// # Errors
    /// When the listing fails.
    pub async fn routes_of(&self, v6: bool) -> Result<Vec<Route>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(v6);
        let request = RouteNetlinkMessage::GetRoute(message);
        self.dump_as("list routes", request, |message| match message {
            RouteNetlinkMessage::NewRoute(route) => route_from(&route),
            _ => None,
        })
        .await
    }

    /// Adds a route.
    ///
    /// # Errors
    /// `is_exists` when the table has one with this prefix and metric; `is_down` when its device is down.
    pub async fn add_route(&self, route: &Route) -> Result<()> {
        self.new_route("add", route, NLM_F_CREATE | NLM_F_EXCL).await
    }

    /// Adds a route, or replaces the one with the same prefix and metric, whoever made it: look before.
    ///
    /// # Errors
    /// `is_down` when its device is down.
    pub async fn replace_route(&self, route: &Route) -> Result<()> {
        self.new_route("replace", route, NLM_F_CREATE | NLM_F_REPLACE)
            .await
    }

    async fn new_route(&self, verb: &str, route: &Route, flags: u16) -> Result<()> {
        let what = || format!("{verb} route {} in table {}", route.destination, route.table);
        self.request(what, RouteNetlinkMessage::NewRoute(route_message(route)), flags)
            .await
    }

    /// Deletes exactly this route: prefix, metric, table, protocol, type and next hop must agree.
    ///
    /// # Errors
    /// `is_not_found` when there is none.
    pub async fn delete_route(&self, route: &Route) -> Result<()> {
        self.request(
            || format!("delete route {} in table {}", route.destination, route.table),
            RouteNetlinkMessage::DelRoute(route_message(route)),
            0,
        )
        .await
    }

    /// The route that a packet to an address would take.
    ///
    /// # Errors
    /// `is_down` when there is none.
    pub async fn route_to(&self, address: IpAddr) -> Result<Route> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(address.is_ipv6());
        message.header.destination_prefix_length = if address.is_ipv6() { 128 } else { 32 };
        message
            .attributes
            .push(RouteAttribute::Destination(address.into()));
        let what = format!("look up the route to {address}");
        match self.get(&what, RouteNetlinkMessage::GetRoute(message)).await? {
            RouteNetlinkMessage::NewRoute(mut route) => {
                route.header.flags.remove(RouteFlags::Cloned);
                route_from(&route).ok_or_else(|| crate::Error::protocol(what, "the answer is not a route"))
            }
            _ => Err(crate::Error::protocol(what, "the answer is not a route")),
        }
    }
}

pub(super) fn family(v6: bool) -> AddressFamily {
    if v6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}

pub(super) fn route_message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(route.destination.addr().is_ipv6());
    header.destination_prefix_length = route.destination.prefix_len();
    header.protocol = route.protocol.into();
    header.scope = route.scope.into();
    header.kind = kind_to(route.kind);
    // The header has one byte for the table; larger numbers travel in the attribute only.
    header.table = u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    if route.onlink {
        header.flags |= RouteFlags::Onlink;
    }
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(route.table));
    if route.destination.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(route.destination.addr().into()));
    }
    if route.metric > 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    if let Some(source) = route.source {
        attributes.push(RouteAttribute::PrefSource(source.into()));
    }
    if let Some(mtu) = route.mtu {
        attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    }
    if route.next_hops.is_empty() {
        if let Some(oif) = route.oif {
            attributes.push(RouteAttribute::Oif(oif));
        }
        attributes.extend(
            route
                .gateway
                .map(|gateway| gateway_to(&route.destination, gateway)),
        );
    } else {
        let hops = route
            .next_hops
            .iter()
            .map(|hop| hop_to(&route.destination, hop))
            .collect();
        attributes.push(RouteAttribute::MultiPath(hops));
    }
    message
}

fn gateway_to(destination: &IpNet, gateway: IpAddr) -> RouteAttribute {
    match (destination, gateway) {
        (IpNet::V4(_), IpAddr::V6(gateway)) => RouteAttribute::Via(RouteVia::Inet6(gateway)),
        (_, gateway) => RouteAttribute::Gateway(gateway.into()),
    }
}

fn hop_to(destination: &IpNet, hop: &NextHop) -> RouteNextHop {
    let mut message = RouteNextHop::default();
    message.interface_index = hop.oif.unwrap_or(0);
    // The kernel counts from zero: 0 means weight 1.
    message.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    if hop.onlink {
        message.flags |= RouteNextHopFlags::Onlink;
    }
    message
        .attributes
        .extend(hop.gateway.map(|gateway| gateway_to(destination, gateway)));
    message
}

/// A route as plain data; `None` for cached clones and families that are not IP.
pub(super) fn route_from(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let v6 = match header.address_family {
        AddressFamily::Inet => false,
        AddressFamily::Inet6 => true,
        _ => return None,
    };
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let any: IpAddr = if v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    let mut route = Route {
        destination: IpNet::new(any, header.destination_prefix_length).ok()?,
        table: u32::from(header.table),
        protocol: header.protocol.into(),
        metric: 0,
        scope: header.scope.into(),
        kind: kind_from(header.kind),
        oif: None,
        gateway: None,
        onlink: header.flags.contains(RouteFlags::Onlink),
        next_hops: Vec::new(),
        source: None,
        mtu: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                let address = address_from(address)?;
                route.destination = IpNet::new(address, header.destination_prefix_length)
                    .ok()?
                    .trunc();
            }
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Oif(index) => route.oif = Some(*index),
            RouteAttribute::PrefSource(address) => route.source = address_from(address),
            RouteAttribute::MultiPath(hops) => route.next_hops = hops.iter().map(hop_from).collect(),
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            other => route.gateway = gateway_from(other).or(route.gateway),
        }
    }
    // The kernel reports IPv6 routes that cannot forward as routes of the loopback device.
    if !matches!(
        route.kind,
        RouteKind::Unicast
            | RouteKind::Local
            | RouteKind::Anycast
            | RouteKind::Broadcast
            | RouteKind::Multicast
    ) {
        route.oif = None;
    }
    Some(route)
}

fn hop_from(hop: &RouteNextHop) -> NextHop {
    NextHop {
        gateway: hop.attributes.iter().find_map(gateway_from),
        oif: Some(hop.interface_index).filter(|index| *index != 0),
        weight: u16::from(hop.hops) + 1,
        onlink: hop.flags.contains(RouteNextHopFlags::Onlink),
    }
}

fn gateway_from(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => address_from(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    }
}

fn address_from(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn kind_to(kind: RouteKind) -> RouteType {
    match kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Local => RouteType::Local,
        RouteKind::Broadcast => RouteType::Broadcast,
        RouteKind::Anycast => RouteType::Anycast,
        RouteKind::Multicast => RouteType::Multicast,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Prohibit => RouteType::Prohibit,
        RouteKind::Throw => RouteType::Throw,
        RouteKind::Other(number) => RouteType::from(number),
    }
}

fn kind_from(kind: RouteType) -> RouteKind {
    match kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::Broadcast => RouteKind::Broadcast,
        RouteType::Anycast => RouteKind::Anycast,
        RouteType::Multicast => RouteKind::Multicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        RouteType::Throw => RouteKind::Throw,
        other => RouteKind::Other(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_survive_the_way_to_the_kernel_and_back() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut multipath = Route::unicast(net("10.1.0.0/16")).protocol(12);
        multipath.next_hops = vec![
            NextHop {
                gateway: Some(ip("10.0.0.1")),
                oif: Some(2),
                weight: 1,
                onlink: false,
            },
            NextHop {
                gateway: Some(ip("10.0.0.2")),
                oif: Some(3),
                weight: 256,
                onlink: true,
            },
        ];
        let mut with_mtu = Route::unicast(net("fd00::/64")).via(ip("fe80::1")).dev(4);
        with_mtu.mtu = Some(1450);
        with_mtu.source = Some(ip("fd00::9"));
        for route in [
            Route::unicast(net("0.0.0.0/0"))
                .via(ip("10.0.0.1"))
                .dev(2)
                .protocol(3),
            Route::unicast(net("10.244.0.1/32"))
                .dev(7)
                .scope(253)
                .metric(1024)
                .protocol(80),
            Route::unicast(net("10.2.0.0/24"))
                .via(ip("fe80::1"))
                .dev(2)
                .table(1000)
                .onlink(),
            Route::blackhole(net("10.244.0.0/26")).protocol(80),
            Route {
                kind: RouteKind::Throw,
                ..Route::unicast(net("10.9.0.0/16"))
            },
            multipath,
            with_mtu,
        ] {
            assert_eq!(route_from(&route_message(&route)).as_ref(), Some(&route));
        }
    }
}

//! Plain data: what the kernel's objects are to the rest of the project. No netlink types leak from here.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::Error;
use crate::netns::NetNs;

/// The main routing table.
pub const TABLE_MAIN: u32 = 254;
/// The table of local and broadcast addresses.
pub const TABLE_LOCAL: u32 = 255;
/// Scope of routes through a gateway.
pub const SCOPE_UNIVERSE: u8 = 0;
/// Scope of destinations on the link itself.
pub const SCOPE_LINK: u8 = 253;
/// Scope of own addresses.
pub const SCOPE_HOST: u8 = 254;

/// A hardware address of six bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || {
            Error::invalid(
                format!("hardware address {text:?}"),
                "must be six hexadecimal bytes, as ee:ee:ee:ee:ee:ee",
            )
        };
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(refused)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| refused())?;
        }
        if parts.next().is_some() {
            return Err(refused());
        }
        Ok(Self(bytes))
    }
}

/// A network device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Interface index. Reused by the kernel after a deletion.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// `veth`, `bridge`, `vxlan`, ...; none for physical devices and `lo`.
    pub kind: Option<String>,
    /// Hardware address.
    pub mac: Option<MacAddr>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Administratively up, with a carrier, and ready to send.
    pub running: bool,
    /// Index of the bridge (or other master) it belongs to.
    pub master: Option<u32>,
    /// Index of the lower device or veth peer, in the peer's namespace.
    pub peer: Option<u32>,
    /// The device is `lo`.
    pub loopback: bool,
}

/// One end of a veth pair to be made.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// Interface name, 1 to 15 bytes.
    pub name: &'a str,
    /// Hardware address; the kernel draws one if absent.
    pub mac: Option<MacAddr>,
    /// Largest packet in bytes; the kernel's 1500 if absent.
    pub mtu: Option<u32>,
    /// Namespace the end is made in; the connection's own if absent.
    pub netns: Option<&'a NetNs>,
    /// Queues in each direction; the kernel's choice if absent.
    pub queues: Option<u32>,
}

impl<'a> VethEnd<'a> {
    /// An end with the kernel's defaults, in the connection's namespace.
    pub fn named(name: &'a str) -> Self {
        Self {
            name,
            mac: None,
            mtu: None,
            netns: None,
            queues: None,
        }
    }
}

/// An address on a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// Interface index.
    pub index: u32,
    /// The address with its prefix length (host bits kept).
    pub address: IpNet,
    /// Scope, one of the `SCOPE_` constants.
    pub scope: u8,
    /// Still under duplicate address detection (IPv6): cannot be bound yet.
    pub tentative: bool,
    /// Configured by somebody, not learned from router advertisements.
    pub permanent: bool,
}

/// What a route does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RouteKind {
    /// Forwards to the next hops.
    Unicast,
    /// Delivers to this host.
    Local,
    /// Broadcast address.
    Broadcast,
    /// Anycast address of this host.
    Anycast,
    /// Multicast.
    Multicast,
    /// Drops silently.
    Blackhole,
    /// Drops with ICMP unreachable.
    Unreachable,
    /// Drops with ICMP prohibited.
    Prohibit,
    /// Continues with the next rule.
    Throw,
    /// Any other type, by number.
    Other(u8),
}

/// One way out of a multipath route.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NextHop {
    /// Neighbour to send to; none means the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Outgoing interface index.
    pub oif: Option<u32>,
    /// Share of flows, 1 to 256.
    pub weight: u16,
    /// The gateway is on the link even if no address says so.
    pub onlink: bool,
}

/// A route in one table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Route {
    /// Destination prefix, host bits zero.
    pub destination: IpNet,
    /// Routing table.
    pub table: u32,
    /// Who made it (`rtproto`).
    pub protocol: u8,
    /// Priority; lower wins. The kernel makes 1024 of an IPv6 route's 0.
    pub metric: u32,
    /// Scope, one of the `SCOPE_` constants; always universe for IPv6.
    pub scope: u8,
    /// What it does.
    pub kind: RouteKind,
    /// Outgoing interface index (single next hop).
    pub oif: Option<u32>,
    /// Gateway (single next hop); an IPv4 route may have an IPv6 one.
    pub gateway: Option<IpAddr>,
    /// The gateway is on the link even if no address says so (single next hop).
    pub onlink: bool,
    /// Next hops of a multipath route; then `oif`, `gateway` and `onlink` are unset.
    pub next_hops: Vec<NextHop>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Path MTU of this route.
    pub mtu: Option<u32>,
}

impl Route {
    /// A unicast route in the main table; the destination's host bits are cleared.
    pub fn unicast(destination: IpNet) -> Self {
        Self {
            destination: destination.trunc(),
            table: TABLE_MAIN,
            protocol: 0,
            metric: 0,
            scope: SCOPE_UNIVERSE,
            kind: RouteKind::Unicast,
            oif: None,
            gateway: None,
            onlink: false,
            next_hops: Vec::new(),
            source: None,
            mtu: None,
        }
    }

    /// A route in the main table that drops silently.
    pub fn blackhole(destination: IpNet) -> Self {
        Self {
            kind: RouteKind::Blackhole,
            ..Self::unicast(destination)
        }
    }

    /// Through a gateway.
    #[must_use]
    pub fn via(mut self, gateway: IpAddr) -> Self {
        self.gateway = Some(gateway);
        self
    }

    /// Through a device. Without a gateway the destination is on the link.
    #[must_use]
    pub fn dev(mut self, index: u32) -> Self {
        self.oif = Some(index);
        self
    }

    /// With a protocol number.
    #[must_use]
    pub fn protocol(mut self, protocol: u8) -> Self {
        self.protocol = protocol;
        self
    }

    /// With a priority.
    #[must_use]
    pub fn metric(mut self, metric: u32) -> Self {
        self.metric = metric;
        self
    }

    /// With a scope.
    #[must_use]
    pub fn scope(mut self, scope: u8) -> Self {
        self.scope = scope;
        self
    }

    /// In another table.
    #[must_use]
    pub fn table(mut self, table: u32) -> Self {
        self.table = table;
        self
    }

    /// With the gateway taken as on the link.
    #[must_use]
    pub fn onlink(mut self) -> Self {
        self.onlink = true;
        self
    }
}

/// What a routing rule does with a packet it matches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RuleTarget {
    /// Looks up a table.
    Table(u32),
    /// Drops.
    Blackhole,
    /// Any other action, by number.
    Other(u8),
}

/// A routing rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rule {
    /// IPv6 rule.
    pub v6: bool,
    /// Order; lower first.
    pub priority: u32,
    /// Source prefix.
    pub from: Option<IpNet>,
    /// Destination prefix.
    pub to: Option<IpNet>,
    /// Mark and mask.
    pub mark: Option<(u32, u32)>,
    /// The match is inverted.
    pub invert: bool,
    /// Incoming interface name.
    pub iif: Option<String>,
    /// What happens.
    pub target: RuleTarget,
    /// Who made it (`rtproto`).
    pub protocol: u8,
}

impl Rule {
    /// A rule that matches everything and looks up a table.
    pub fn lookup(table: u32, priority: u32, v6: bool) -> Self {
        Self {
            v6,
            priority,
            from: None,
            to: None,
            mark: None,
            invert: false,
            iif: None,
            target: RuleTarget::Table(table),
            protocol: 0,
        }
    }
}

/// An entry of the neighbour (ARP, NDP) table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Neighbour {
    /// Interface index.
    pub index: u32,
    /// Address of the neighbour.
    pub address: IpAddr,
    /// Its hardware address, if known.
    pub mac: Option<MacAddr>,
    /// Set by somebody, never expires.
    pub permanent: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_round_trip() {
        for text in ["ee:ee:ee:ee:ee:ee", "00:01:02:0a:0b:ff"] {
            assert_eq!(text.parse::<MacAddr>().unwrap().to_string(), text);
        }
        assert_eq!(
            "EE-EE-EE-EE-EE-EE".parse::<MacAddr>().unwrap().to_string(),
            "ee:ee:ee:ee:ee:ee"
        );
        for bad in [
            "",
            "ee:ee:ee:ee:ee",
            "ee:ee:ee:ee:ee:ee:ee",
            "e:ee:ee:ee:ee:ee:e",
            "gg:ee:ee:ee:ee:ee",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_route_has_no_host_bits() {
        let route = Route::unicast("10.0.0.5/24".parse().unwrap());
        assert_eq!(route.destination.to_string(), "10.0.0.0/24");
    }
}

//! MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760 §3, §4), next hops of both families (RFC 2545 §3, RFC 8950 §3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::cursor::Cursor;
use super::nlri::Nlri;
use crate::family::Family;

/// A next hop: an address, and for IPv6 the link-local address that may come with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// The address that is resolved.
    pub address: IpAddr,
    /// Link-local address on a shared link (RFC 2545 §3).
    pub link_local: Option<Ipv6Addr>,
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            link_local: None,
        }
    }
}

impl NextHop {
    /// Appends length and address as MP_REACH_NLRI has them.
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        match (self.address, self.link_local) {
            (IpAddr::V4(address), _) => {
                out.push(4);
                out.extend(address.octets());
            }
            (IpAddr::V6(address), None) => {
                out.push(16);
                out.extend(address.octets());
            }
            (IpAddr::V6(address), Some(link_local)) => {
                out.push(32);
                out.extend(address.octets());
                out.extend(link_local.octets());
            }
        }
    }

    fn parse(octets: &[u8], family: Family, extended: bool) -> Option<Self> {
        if family == Family::Ipv4 && octets.len() == 4 {
            let octets: [u8; 4] = octets.try_into().ok()?;
            return Some(IpAddr::V4(Ipv4Addr::from(octets)).into());
        }
        // RFC 8950 §4: IPv4 routes with an IPv6 next hop only after the capability was exchanged.
        if family == Family::Ipv4 && !extended {
            return None;
        }
        let mut cursor = Cursor::new(octets);
        let first = Ipv6Addr::from(cursor.array::<16>()?);
        if cursor.is_empty() {
            return Some(IpAddr::V6(first).into());
        }
        let second = Ipv6Addr::from(cursor.array::<16>()?);
        if !cursor.is_empty() {
            return None;
        }
        let link_local = second.is_unicast_link_local().then_some(second);
        // BIRD sends `::` and the link-local address on unnumbered sessions, FRR the link-local one twice.
        let address = match link_local {
            Some(second) if first.is_unspecified() => second,
            _ => first,
        };
        Some(Self {
            address: IpAddr::V6(address),
            link_local: link_local.filter(|second| *second != address),
        })
    }
}

/// A well-formed MP_REACH_NLRI of a family that is carried here.
#[derive(Clone, Copy, Debug)]
pub struct MpReach<'a> {
    /// Next hop of all its prefixes.
    pub next_hop: NextHop,
    /// The prefixes.
    pub nlri: Nlri<'a>,
}

/// What is wrong with an MP attribute. Each is a reason to reset the session (RFC 7606 §5.3, §7.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MpError {
    /// Its fields do not fit its length, or the next hop has none of the lengths allowed.
    Structure,
    /// A prefix is too long.
    InvalidNetworkField,
}

/// What the session has agreed on for MP attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MpContext {
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// The peer sends path identifiers with IPv4, with IPv6.
    pub add_path: [bool; 2],
}

impl MpContext {
    /// Whether the peer sends path identifiers with prefixes of this family.
    pub fn add_path(self, family: Family) -> bool {
        let [v4, v6] = self.add_path;
        match family {
            Family::Ipv4 => v4,
            Family::Ipv6 => v6,
        }
    }
}

/// Parses the value of an MP_REACH_NLRI. `None` is a family that is not carried here.
///
/// # Errors
/// What is wrong with it.
pub fn parse_reach(value: &[u8], context: MpContext) -> Result<Option<MpReach<'_>>, MpError> {
    let mut cursor = Cursor::new(value);
    let structure = MpError::Structure;
    let afi = cursor.u16().ok_or(structure)?;
    let safi = cursor.u8().ok_or(structure)?;
    let length = cursor.u8().ok_or(structure)?;
    let next_hop = cursor.take(usize::from(length)).ok_or(structure)?;
    // RFC 4760 §3: a reserved octet, once the number of SNPAs, which nobody sends.
    cursor.u8().ok_or(structure)?;
    let Some(family) = Family::from_afi_safi(afi, safi) else {
        return Ok(None);
    };
    let next_hop = NextHop::parse(next_hop, family, context.extended_next_hop).ok_or(structure)?;
    let nlri = Nlri::parse(cursor.rest(), family, context.add_path(family))
        .map_err(|_| MpError::InvalidNetworkField)?;
    Ok(Some(MpReach { next_hop, nlri }))
}

/// Parses the value of an MP_UNREACH_NLRI. `None` is a family that is not carried here.
///
/// # Errors
/// What is wrong with it.
pub fn parse_unreach(value: &[u8], context: MpContext) -> Result<Option<Nlri<'_>>, MpError> {
    let mut cursor = Cursor::new(value);
    let afi = cursor.u16().ok_or(MpError::Structure)?;
    let safi = cursor.u8().ok_or(MpError::Structure)?;
    let Some(family) = Family::from_afi_safi(afi, safi) else {
        return Ok(None);
    };
    Nlri::parse(cursor.rest(), family, context.add_path(family))
        .map(Some)
        .map_err(|_| MpError::InvalidNetworkField)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: MpContext = MpContext {
        extended_next_hop: true,
        add_path: [false; 2],
    };

    fn reach(afi: u8, next_hop: &[u8]) -> Vec<u8> {
        let mut value = vec![0, afi, 1, u8::try_from(next_hop.len()).unwrap()];
        value.extend(next_hop);
        value.push(0);
        value
    }

    fn address(text: &str) -> [u8; 16] {
        text.parse::<Ipv6Addr>().unwrap().octets()
    }

    // RFC 8950 §3: 16 and 32 octets for AFI 1, and only when agreed.
    #[test]
    fn ipv4_routes_may_have_ipv6_next_hops() {
        let value = reach(1, &address("2001:db8::1"));
        let parsed = parse_reach(&value, CONTEXT).unwrap().unwrap();
        assert_eq!(parsed.next_hop.address.to_string(), "2001:db8::1");
        let without = MpContext {
            extended_next_hop: false,
            ..CONTEXT
        };
        assert_eq!(parse_reach(&value, without).err(), Some(MpError::Structure));
    }

    // RFC 2545 §3 and what peers make of it.
    #[test]
    fn link_local_next_hops_come_in_three_forms() {
        let cases = [
            ("2001:db8::1", "fe80::1", "2001:db8::1", Some("fe80::1")),
            ("::", "fe80::1", "fe80::1", None),
            ("fe80::1", "fe80::1", "fe80::1", None),
        ];
        for (global, second, expected, link_local) in cases {
            let octets = [address(global), address(second)].concat();
            let value = reach(2, &octets);
            let next_hop = parse_reach(&value, CONTEXT).unwrap().unwrap().next_hop;
            assert_eq!(next_hop.address.to_string(), expected);
            assert_eq!(
                next_hop.link_local.map(|address| address.to_string()).as_deref(),
                link_local
            );
        }
    }

    // RFC 7606 §7.11.
    #[test]
    fn other_lengths_are_refused_and_other_families_ignored() {
        for length in [0, 5, 15, 17, 24, 33] {
            let value = reach(2, &vec![0x20; length]);
            assert_eq!(parse_reach(&value, CONTEXT).err(), Some(MpError::Structure));
        }
        assert!(parse_reach(&reach(25, &[1; 7]), CONTEXT).unwrap().is_none());
    }
}

//! Addresses: what is needed of them beyond `ipnet`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// Reads a CIDR or a bare address (as a prefix of full length), without host bits.
#[must_use]
pub fn parse_cidr_or_address(text: &str) -> Option<IpNet> {
    let text = text.trim();
    let cidr = text.parse::<IpNet>().map(|net| net.trunc());
    cidr.or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()
}

/// Number of an address, as the unsigned integer of its bits.
#[must_use]
pub const fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits() as u128,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Position of an address within a prefix (0 = network address); `None` when it is outside.
#[must_use]
pub fn ordinal(net: &IpNet, address: IpAddr) -> Option<u128> {
    net.contains(&address)
        .then(|| to_bits(address) - to_bits(net.network()))
}

/// The address at a position of a prefix; `None` beyond its end.
#[must_use]
pub fn address_at(net: &IpNet, ordinal: u128) -> Option<IpAddr> {
    if size(net).is_some_and(|size| ordinal >= size) {
        return None;
    }
    match net.network() {
        IpAddr::V4(first) => {
            let bits = u128::from(first.to_bits()) + ordinal;
            Some(Ipv4Addr::from_bits(u32::try_from(bits).ok()?).into())
        }
        IpAddr::V6(first) => Some(Ipv6Addr::from_bits(first.to_bits().checked_add(ordinal)?).into()),
    }
}

/// Number of addresses of a prefix; `None` for `::/0`, which has one more than fits.
#[must_use]
pub fn size(net: &IpNet) -> Option<u128> {
    1u128.checked_shl(u32::from(net.max_prefix_len() - net.prefix_len()))
}

/// The prefix of a given length that an address is in; `None` for an impossible length.
#[must_use]
pub fn block_of(address: IpAddr, prefix_len: u8) -> Option<IpNet> {
    IpNet::new(address, prefix_len).ok().map(|net| net.trunc())
}

/// True for `0.0.0.0/0` and `::/0`.
#[must_use]
pub fn is_catch_all(net: &IpNet) -> bool {
    net.prefix_len() == 0
}

/// True when two prefixes share an address.
#[must_use]
pub fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

/// Text that is no hardware address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hardware address: write six pairs of hexadecimal digits with colons between them")]
pub struct MacAddressError(String);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || MacAddressError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_and_addresses_are_inverse() {
        for (net, ordinal, address) in [
            ("10.0.0.64/26", 0, Some("10.0.0.64")),
            ("10.0.0.64/26", 63, Some("10.0.0.127")),
            ("10.0.0.64/26", 64, None),
            ("fd00::/122", 63, Some("fd00::3f")),
            ("0.0.0.0/0", 0xffff_ffff, Some("255.255.255.255")),
            ("::/0", u128::MAX, Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
        ] {
            let net: IpNet = net.parse().unwrap();
            let address: Option<IpAddr> = address.map(|text| text.parse().unwrap());
            assert_eq!(address_at(&net, ordinal), address, "{net} {ordinal}");
            if let Some(address) = address {
                assert_eq!(super::ordinal(&net, address), Some(ordinal), "{net} {address}");
            }
        }
    }

    #[test]
    fn hardware_addresses_round_trip() {
        let text = "ee:ee:ee:00:0a:ff";
        assert_eq!(text.parse::<MacAddress>().unwrap().to_string(), text);
        for bad in [
            "",
            "ee",
            "ee:ee:ee:ee:ee",
            "ee:ee:ee:ee:ee:ee:ee",
            "ee:ee:ee:ee:ee:e",
            "zz:ee:ee:ee:ee:ee",
        ] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }
}

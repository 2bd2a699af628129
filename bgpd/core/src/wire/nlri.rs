//! Fields of prefixes: a view that is checked once and then iterated (RFC 4271 §4.3, RFC 4760 §5, RFC 7911 §3).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::cursor::Cursor;
use crate::family::Family;

/// A well-formed field of prefixes.
#[derive(Clone, Copy, Debug)]
pub struct Nlri<'a> {
    cursor: Cursor<'a>,
    family: Family,
    add_path: bool,
}

/// A prefix that is longer than its family allows or than the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidNetworkField;

impl<'a> Nlri<'a> {
    /// Checks a field.
    ///
    /// # Errors
    /// When a prefix is too long or runs over the end.
    pub fn parse(bytes: &'a [u8], family: Family, add_path: bool) -> Result<Self, InvalidNetworkField> {
        let view = Self {
            cursor: Cursor::new(bytes),
            family,
            add_path,
        };
        let mut check = view;
        while !check.cursor.is_empty() {
            check.step().ok_or(InvalidNetworkField)?;
        }
        Ok(view)
    }

    /// Returns the field without a prefix.
    pub fn empty(family: Family) -> Self {
        Self {
            cursor: Cursor::new(&[]),
            family,
            add_path: false,
        }
    }

    /// Whether there is no prefix.
    pub fn is_empty(self) -> bool {
        self.cursor.is_empty()
    }

    /// Returns the family of the prefixes.
    pub fn family(self) -> Family {
        self.family
    }

    fn step(&mut self) -> Option<(u32, IpNet)> {
        let path_id = if self.add_path { self.cursor.u32()? } else { 0 };
        let length = self.cursor.u8()?;
        if length > self.family.max_prefix_len() {
            return None;
        }
        let octets = self.cursor.take(usize::from(length).div_ceil(8))?;
        let prefix = match self.family {
            Family::Ipv4 => {
                let address = Ipv4Addr::from(padded::<4>(octets)?);
                IpNet::V4(Ipv4Net::new(address, length).ok()?.trunc())
            }
            Family::Ipv6 => {
                let address = Ipv6Addr::from(padded::<16>(octets)?);
                IpNet::V6(Ipv6Net::new(address, length).ok()?.trunc())
            }
        };
        Some((path_id, prefix))
    }
}

fn padded<const N: usize>(octets: &[u8]) -> Option<[u8; N]> {
    let mut address = [0; N];
    address.get_mut(..octets.len())?.copy_from_slice(octets);
    Some(address)
}

/// Yields path identifier (0 without add-path) and prefix, host bits cleared (RFC 4271 §4.3: they have no meaning).
impl Iterator for Nlri<'_> {
    type Item = (u32, IpNet);

    fn next(&mut self) -> Option<Self::Item> {
        self.step()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_and_host_bits_cleared() {
        let field = [20, 10, 1, 255, 0, 32, 192, 0, 2, 1];
        let all: Vec<String> = Nlri::parse(&field, Family::Ipv4, false)
            .unwrap()
            .map(|(_, prefix)| prefix.to_string())
            .collect();
        assert_eq!(all, ["10.1.240.0/20", "0.0.0.0/0", "192.0.2.1/32"]);
    }

    // RFC 7911 §3.
    #[test]
    fn path_identifiers_stand_before_each_prefix() {
        let field = [0, 0, 0, 7, 8, 10, 0, 0, 1, 0, 0];
        let all: Vec<_> = Nlri::parse(&field, Family::Ipv4, true)
            .unwrap()
            .map(|(id, prefix)| (id, prefix.to_string()))
            .collect();
        assert_eq!(all, [(7, "10.0.0.0/8".to_owned()), (256, "0.0.0.0/0".to_owned())]);
    }

    #[test]
    fn too_long_prefixes_are_refused() {
        for (field, family) in [
            (&[33, 1, 2, 3, 4, 5][..], Family::Ipv4),
            (&[24, 1, 2], Family::Ipv4),
            (&[129], Family::Ipv6),
            (&[64, 0x20, 1], Family::Ipv6),
        ] {
            assert!(Nlri::parse(field, family, false).is_err(), "{field:?}");
        }
    }
}

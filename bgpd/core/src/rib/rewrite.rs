//! Changes of a set of attributes on its way out, and its form for peers with two-octet AS numbers (RFC 6793 §4.2.2).

use std::borrow::Cow;
use std::net::Ipv4Addr;

use crate::policy::Community;
use crate::wire::as_path;
use crate::wire::attribute::{self, FLAG_EXTENDED_LENGTH, FLAG_OPTIONAL, FLAG_PARTIAL, FLAG_TRANSITIVE};
use crate::wire::encode;
use crate::wire::open::AS_TRANS;

/// What becomes of one attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Change<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It has this value.
    Set(T),
    /// It goes.
    Remove,
}

impl<T> From<Option<T>> for Change<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Keep, Self::Set)
    }
}

/// A change of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rewrite {
    /// Numbers to put in front of the AS_PATH, the first leftmost.
    pub(crate) prepend: Vec<u32>,
    pub(crate) local_pref: Change<u32>,
    pub(crate) med: Change<u32>,
    /// Communities to add where they are not there.
    pub(crate) communities: Vec<Community>,
    pub(crate) originator: Change<Ipv4Addr>,
    /// `Set` puts the ID in front of the CLUSTER_LIST.
    pub(crate) cluster: Change<Ipv4Addr>,
    /// ONLY_TO_CUSTOMER.
    pub(crate) only_to_customer: Change<u32>,
}

impl Rewrite {
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the changed block.
    pub(crate) fn apply(&self, block: &[u8]) -> Vec<u8> {
        let mut parts = Parts::of(block);
        if !self.prepend.is_empty() {
            let path = as_path::prepend(parts.value(attribute::AS_PATH), &self.prepend);
            parts.set(attribute::AS_PATH, path);
        }
        let octets = |change: Change<u32>| match change {
            Change::Keep => Change::Keep,
            Change::Set(value) => Change::Set(value.to_be_bytes().to_vec()),
            Change::Remove => Change::Remove,
        };
        parts.change(attribute::MULTI_EXIT_DISC, octets(self.med));
        parts.change(attribute::LOCAL_PREF, octets(self.local_pref));
        let originator = match self.originator {
            Change::Keep => Change::Keep,
            Change::Set(id) => Change::Set(id.octets().to_vec()),
            Change::Remove => Change::Remove,
        };
        parts.change(attribute::ORIGINATOR_ID, originator);
        let cluster = match self.cluster {
            Change::Keep => Change::Keep,
            Change::Set(id) => {
                let mut list = id.octets().to_vec();
                list.extend(parts.value(attribute::CLUSTER_LIST));
                Change::Set(list)
            }
            Change::Remove => Change::Remove,
        };
        parts.change(attribute::CLUSTER_LIST, cluster);
        parts.change(attribute::ONLY_TO_CUSTOMER, octets(self.only_to_customer));
        self.add_communities(&mut parts);
        parts.encode()
    }

    fn add_communities(&self, parts: &mut Parts<'_>) {
        for community in &self.communities {
            let (kind, octets) = match community {
                Community::Standard(value) => (attribute::COMMUNITIES, value.to_be_bytes().to_vec()),
                Community::Large(a, b, c) => {
                    let numbers = [a, b, c].map(|number| number.to_be_bytes());
                    (attribute::LARGE_COMMUNITY, numbers.concat())
                }
            };
            let value = parts.value(kind);
            if !value.chunks(octets.len()).any(|found| found == octets) {
                let mut value = value.to_vec();
                value.extend(octets);
                parts.set(kind, value);
            }
        }
    }
}

struct Part<'a> {
    kind: u8,
    flags: u8,
    value: Cow<'a, [u8]>,
}

/// A block taken apart.
struct Parts<'a>(Vec<Part<'a>>);

impl<'a> Parts<'a> {
    fn of(block: &'a [u8]) -> Self {
        let part = |found: attribute::Attribute<'a>| Part {
            kind: found.kind,
            flags: found.flags & !FLAG_EXTENDED_LENGTH,
            value: Cow::Borrowed(found.value),
        };
        Self(attribute::walk(block).map_while(Result::ok).map(part).collect())
    }

    fn value(&self, kind: u8) -> &[u8] {
        let found = self.0.iter().find(|part| part.kind == kind);
        found.map_or(&[], |part| &part.value)
    }

    fn set(&mut self, kind: u8, value: Vec<u8>) {
        let value = Cow::Owned(value);
        match self.0.iter_mut().find(|part| part.kind == kind) {
            Some(part) => part.value = value,
            None => self.0.push(Part {
                kind,
                flags: attribute::category(kind).unwrap_or(FLAG_OPTIONAL | FLAG_TRANSITIVE),
                value,
            }),
        }
    }

    fn change(&mut self, kind: u8, change: Change<Vec<u8>>) {
        match change {
            Change::Keep => {}
            Change::Set(value) => self.set(kind, value),
            Change::Remove => self.0.retain(|part| part.kind != kind),
        }
    }

    fn encode(mut self) -> Vec<u8> {
        self.0.sort_by_key(|part| part.kind);
        let mut out = Vec::new();
        for part in &self.0 {
            encode::attribute(&mut out, part.flags, part.kind, &part.value);
        }
        out
    }
}

/// Returns the block as a peer without four-octet AS numbers reads it.
pub(crate) fn narrow(block: &[u8]) -> Vec<u8> {
    let mut parts = Parts::of(block);
    let long = parts.value(attribute::AS_PATH).to_vec();
    let (short, replaced) = as_path::narrow(&long);
    parts.set(attribute::AS_PATH, short);
    if replaced {
        parts.set(attribute::AS4_PATH, long);
    }
    if let Ok([a, b, c, d, address @ ..]) = <[u8; 8]>::try_from(parts.value(attribute::AGGREGATOR)) {
        let number = u32::from_be_bytes([a, b, c, d]);
        let short = u16::try_from(number);
        if short.is_err() {
            let long = [&number.to_be_bytes()[..], &address].concat();
            parts.set(attribute::AS4_AGGREGATOR, long);
        }
        let [high, low] = short.unwrap_or(AS_TRANS).to_be_bytes();
        parts.set(attribute::AGGREGATOR, [&[high, low][..], &address].concat());
    }
    // RFC 6793 §4.2.2: what was partial stays so; nothing else is.
    for part in &mut parts.0 {
        if matches!(part.kind, attribute::AS4_PATH | attribute::AS4_AGGREGATOR) {
            part.flags &= !FLAG_PARTIAL;
        }
    }
    parts.encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: [u8; 20] = [
        0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 1, 0, 0, 0x40, 5, 4, 0, 0, 0, 100,
    ];

    #[test]
    fn ebgp_rewrite_prepends_and_drops_local_pref() {
        let rewrite = Rewrite {
            prepend: vec![65000],
            local_pref: Change::Remove,
            communities: vec![Community::Standard(7), Community::Standard(7)],
            ..Rewrite::default()
        };
        let expected = [
            0x40, 1, 1, 0, 0x40, 2, 10, 2, 2, 0, 0, 0xfd, 0xe8, 0, 1, 0, 0, 0xc0, 8, 4, 0, 0, 0, 7,
        ];
        assert_eq!(rewrite.apply(&BLOCK), expected);
        assert_eq!(Rewrite::default().apply(&BLOCK), BLOCK);
    }

    #[test]
    fn two_octet_form_carries_the_long_numbers_aside() {
        let expected = [
            0x40, 1, 1, 0, 0x40, 2, 4, 2, 1, 0x5b, 0xa0, 0x40, 5, 4, 0, 0, 0, 100, 0xc0, 17, 6, 2, 1, 0, 1,
            0, 0,
        ];
        assert_eq!(narrow(&BLOCK), expected);
    }
}

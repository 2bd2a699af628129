//! Members of IP sets, port ranges and dispatch entries as elements of nftables sets. Pure.
//!
//! Sets of prefixes are interval sets, which may not hold one interval within another: only the outermost prefixes are
//! written ([`Cover`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use caracal_felix_core::cover::Cover;
use caracal_felix_core::desired::TableName;
use caracal_felix_core::desired::{IpSet, IpSetKind, IpSetMember, IpVersion};
use caracal_felix_core::render::nftables::chain_name;
use caracal_felix_core::rules::PortRange;
use caracal_linux::nftables::{Element, Key, SetSpec, Verdict};
use ipnet::IpNet;

use super::lower::{interface_key, octets};

/// Numbers by which the `nft` program knows types of keys.
mod types {
    pub(super) const IPV4: u32 = 7;
    pub(super) const IPV6: u32 = 8;
    pub(super) const PROTOCOL: u32 = 12;
    pub(super) const SERVICE: u32 = 13;
    pub(super) const INTERFACE: u32 = 41;
    /// Bits of one type in the number of a concatenation.
    pub(super) const BITS: u32 = 6;
}

/// The set that holds an IP set's members.
#[must_use]
pub fn spec(kind: IpSetKind, version: IpVersion) -> SetSpec {
    let (address, len) = match version {
        IpVersion::V4 => (types::IPV4, 4),
        IpVersion::V6 => (types::IPV6, 16),
    };
    let has_port = matches!(kind, IpSetKind::HashIpPort | IpSetKind::HashNetPort);
    let with_port = ((address << types::BITS | types::PROTOCOL) << types::BITS) | types::SERVICE;
    SetSpec {
        key_type: if has_port { with_port } else { address },
        key_len: if has_port { len + 8 } else { len },
        fields: if has_port { vec![len, 1, 2] } else { Vec::new() },
        is_interval: matches!(kind, IpSetKind::HashNet | IpSetKind::HashNetPort),
        is_verdict_map: false,
    }
}

/// The set that holds port ranges.
#[must_use]
pub const fn ports_spec() -> SetSpec {
    SetSpec {
        key_type: types::SERVICE,
        key_len: 2,
        fields: Vec::new(),
        is_interval: true,
        is_verdict_map: false,
    }
}

/// The map from interfaces to chains.
#[must_use]
pub const fn map_spec() -> SetSpec {
    SetSpec {
        key_type: types::INTERFACE,
        key_len: 16,
        fields: Vec::new(),
        is_interval: false,
        is_verdict_map: true,
    }
}

/// Elements of a map.
#[must_use]
pub fn of_map(table: TableName, entries: &BTreeMap<String, String>) -> BTreeSet<Element> {
    let element = |(interface, chain): (&String, &String)| {
        let key = Key::new(&interface_key(interface))?;
        let verdict = Some(Verdict::Goto(chain_name(table, chain)));
        Some(Element {
            verdict,
            ..Element::of(key)
        })
    };
    entries.iter().filter_map(element).collect()
}

/// Elements of a set of port ranges, which are sorted and apart.
#[must_use]
pub fn of_ports(ranges: &[PortRange]) -> BTreeSet<Element> {
    let elements = ranges.iter().flat_map(|range| {
        let first = Key::new(&range.min.to_be_bytes()).map(Element::of);
        let behind = range.max.checked_add(1);
        let end = behind.and_then(|port| Key::new(&port.to_be_bytes())).map(end);
        [first, end]
    });
    elements.flatten().collect()
}

fn end(key: Key) -> Element {
    Element {
        is_end: true,
        ..Element::of(key)
    }
}

/// What is to be written to a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// To be taken out first.
    pub removed: BTreeSet<Element>,
    /// To be put in then.
    pub added: BTreeSet<Element>,
}

impl Changes {
    /// True without changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// One more element; one that was taken out just stays.
    fn add(&mut self, element: Element) {
        if !self.removed.remove(&element) {
            self.added.insert(element);
        }
    }

    /// One less; one that was put in just is not.
    fn remove(&mut self, element: Element) {
        if !self.added.remove(&element) {
            self.removed.insert(element);
        }
    }
}

/// Protocol and port of a member.
type Service = (u8, u16);

/// What of an IP set's members is written: everything, or the outermost prefixes.
#[derive(Clone, Debug)]
pub struct Written {
    kind: IpSetKind,
    /// For sets of prefixes: by service, or under none.
    covers: BTreeMap<Option<Service>, Cover>,
}

impl Written {
    /// Of a set with its members.
    #[must_use]
    pub fn of(set: &IpSet) -> Self {
        let mut written = Self {
            kind: set.kind,
            covers: BTreeMap::new(),
        };
        if matches!(set.kind, IpSetKind::HashNet | IpSetKind::HashNetPort) {
            for member in &set.members {
                let (net, service) = parts(member);
                written.covers.entry(service).or_default().insert(net);
            }
        }
        written
    }

    /// Takes in a change of the members, and adds what follows from it to what is to be written.
    pub fn change(
        &mut self,
        removed: &BTreeSet<IpSetMember>,
        added: &BTreeSet<IpSetMember>,
        changes: &mut Changes,
    ) {
        let is_plain = matches!(self.kind, IpSetKind::HashIp | IpSetKind::HashIpPort);
        for (members, is_added) in [(removed, false), (added, true)] {
            for member in members {
                let (net, service) = parts(member);
                if is_plain {
                    let element = elements(net, service, true).next();
                    if let (Some(element), true) = (element.clone(), is_added) {
                        changes.add(element);
                    } else if let Some(element) = element {
                        changes.remove(element);
                    }
                    continue;
                }
                let cover = self.covers.entry(service).or_default();
                let effect = if is_added {
                    cover.insert(net)
                } else {
                    cover.remove(net)
                };
                let all = |nets: Vec<IpNet>| {
                    nets.into_iter()
                        .flat_map(move |net| elements(net, service, false))
                };
                all(effect.removed).for_each(|element| changes.remove(element));
                all(effect.added).for_each(|element| changes.add(element));
            }
        }
        self.covers.retain(|_, cover| cover.outermost().next().is_some());
    }

    /// All elements that are to be in the set.
    #[must_use]
    pub fn all(&self, set: &IpSet) -> BTreeSet<Element> {
        if matches!(self.kind, IpSetKind::HashIp | IpSetKind::HashIpPort) {
            let of = |member| {
                let (net, service) = parts(member);
                elements(net, service, true)
            };
            return set.members.iter().flat_map(of).collect();
        }
        let of = |(service, cover): (&Option<Service>, &Cover)| {
            let nets: Vec<IpNet> = cover.outermost().copied().collect();
            let service = *service;
            nets.into_iter()
                .flat_map(move |net| elements(net, service, false))
        };
        self.covers.iter().flat_map(of).collect()
    }
}

fn parts(member: &IpSetMember) -> (IpNet, Option<Service>) {
    match *member {
        IpSetMember::Ip(address) => (address.into(), None),
        IpSetMember::Net(net) => (net.trunc(), None),
        IpSetMember::IpPort {
            address,
            protocol,
            port,
        } => (address.into(), Some((protocol, port))),
        IpSetMember::NetPort { net, protocol, port } => (net.trunc(), Some((protocol, port))),
    }
}

/// The elements of one member: one for a key or a concatenated interval, otherwise an interval's beginning and end.
fn elements(net: IpNet, service: Option<Service>, is_plain: bool) -> impl Iterator<Item = Element> {
    let first = key(net.network(), service);
    let pair = match (is_plain, service) {
        (true, _) => [first.map(Element::of), None],
        (false, Some(_)) => {
            let last = key(net.broadcast(), service);
            let interval = first.map(|key| Element {
                key_end: last,
                ..Element::of(key)
            });
            [interval, None]
        }
        (false, None) => {
            let behind = behind(net.broadcast()).and_then(|address| key(address, None));
            [first.map(Element::of), behind.map(end)]
        }
    };
    pair.into_iter().flatten()
}

fn key(address: IpAddr, service: Option<Service>) -> Option<Key> {
    let mut bytes = octets(address);
    if let Some((protocol, port)) = service {
        let [high, low] = port.to_be_bytes();
        bytes.extend([protocol, 0, 0, 0, high, low, 0, 0]);
    }
    Key::new(&bytes)
}

/// The address after this one; none after the last.
fn behind(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => u32::from(address)
            .checked_add(1)
            .map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(address) => u128::from(address)
            .checked_add(1)
            .map(|next| IpAddr::V6(next.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(kind: IpSetKind, members: BTreeSet<IpSetMember>) -> IpSet {
        IpSet {
            kind,
            version: IpVersion::V4,
            max_members: 9,
            members,
        }
    }

    fn net(text: &str) -> IpSetMember {
        IpSetMember::Net(text.parse().unwrap())
    }

    #[test]
    fn what_is_written_step_by_step_is_what_is_written_at_once() {
        let steps: [(&[&str], &[&str]); 5] = [
            (&[], &["10.0.0.0/24", "10.0.0.7/32", "10.0.1.0/24"]),
            (&["10.0.0.0/24"], &["255.255.255.0/24"]),
            (&["10.0.0.7/32"], &["0.0.0.0/1"]),
            (&["0.0.0.0/1", "10.0.1.0/24"], &["10.0.0.0/24", "10.0.1.0/24"]),
            (&["10.0.1.0/24"], &[]),
        ];
        let mut present = set(IpSetKind::HashNet, BTreeSet::new());
        let mut written = Written::of(&present);
        let mut kernel = BTreeSet::new();
        for (removed, added) in steps {
            let removed: BTreeSet<_> = removed.iter().map(|text| net(text)).collect();
            let added: BTreeSet<_> = added.iter().map(|text| net(text)).collect();
            present.members = &present.members - &removed;
            present.members.extend(&added);
            let mut changes = Changes::default();
            written.change(&removed, &added, &mut changes);
            for element in &changes.removed {
                assert!(kernel.remove(element));
            }
            for element in changes.added {
                assert!(kernel.insert(element));
            }
            assert_eq!(kernel, Written::of(&present).all(&present));
        }
    }

    #[test]
    fn an_interval_up_to_the_last_value_has_no_end() {
        let last = set(IpSetKind::HashNet, BTreeSet::from([net("255.255.255.255/32")]));
        assert_eq!(Written::of(&last).all(&last).len(), 1);
        let range = |min, max| PortRange { min, max };
        assert_eq!(of_ports(&[range(1, 2), range(65_000, 65_535)]).len(), 3);
    }
}

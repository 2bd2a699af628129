//! Sets that merge others, with ports where the rules have them.
//!
//! A packet is in a merged set exactly when it is in one of its parts. Many rules of one verdict then cost one lookup.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::super::model::SetSpec;
use super::halves;
use crate::desired::{IpSetKind, IpSetMember};

/// A member appeared in (true) or went from (false) a set; `None` when only its count changed.
pub(super) type Transition = Option<(IpSetMember, bool)>;

/// Addresses of a part.
#[derive(Clone, Debug, PartialEq)]
pub enum Base {
    /// A set.
    Set(Arc<SetSpec>),
    /// A prefix.
    Net(IpNet),
}

/// What is merged.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Addresses.
    pub base: Base,
    /// Protocols and ports that go with them; none in sets without ports.
    pub ports: Vec<(u8, u16)>,
}

impl Part {
    /// The set that the addresses come from.
    #[must_use]
    pub const fn spec(&self) -> Option<&Arc<SetSpec>> {
        match &self.base {
            Base::Set(spec) => Some(spec),
            Base::Net(_) => None,
        }
    }

    fn key(&self) -> PartKey {
        let base = match &self.base {
            Base::Set(spec) => BaseKey::Set(spec.id.clone()),
            Base::Net(net) => BaseKey::Net(*net),
        };
        (base, self.ports.clone())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum BaseKey {
    Set(String),
    Net(IpNet),
}

type PartKey = (BaseKey, Vec<(u8, u16)>);

#[derive(Debug)]
struct Union {
    kind: IpSetKind,
    parts: Vec<Part>,
    keys: BTreeSet<PartKey>,
    members: BTreeMap<IpSetMember, u32>,
}

/// All merged sets.
#[derive(Debug, Default)]
pub(super) struct Unions {
    unions: BTreeMap<String, Union>,
    users: BTreeMap<String, BTreeSet<String>>,
}

impl Unions {
    pub(super) fn contains(&self, id: &str) -> bool {
        self.unions.contains_key(id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &String> {
        self.unions.keys()
    }

    pub(super) fn get(&self, id: &str) -> Option<(IpSetKind, &BTreeMap<IpSetMember, u32>)> {
        self.unions.get(id).map(|union| (union.kind, &union.members))
    }

    /// Sets the parts of a union; `members` gives those of a set. Returns what that changed, and the parts before.
    pub(super) fn set(
        &mut self,
        id: &str,
        kind: IpSetKind,
        parts: Vec<Part>,
        members: impl Fn(&str) -> Vec<IpSetMember>,
    ) -> (Vec<Transition>, Vec<Part>) {
        let union = self.unions.entry(id.to_owned()).or_insert_with(|| Union {
            kind,
            parts: Vec::new(),
            keys: BTreeSet::new(),
            members: BTreeMap::new(),
        });
        let keys: BTreeSet<PartKey> = parts.iter().map(Part::key).collect();
        let mut transitions = Vec::new();
        let mut change = |key: &PartKey, is_added| {
            let bases = match &key.0 {
                BaseKey::Set(id) => members(id),
                BaseKey::Net(net) => halves(*net).into_iter().map(IpSetMember::Net).collect(),
            };
            for base in bases {
                let expanded = expand(base, &key.1);
                transitions.extend(expanded.map(|member| count(&mut union.members, member, is_added)));
            }
        };
        keys.difference(&union.keys).for_each(|key| change(key, true));
        union.keys.difference(&keys).for_each(|key| change(key, false));
        let sets = |keys: &BTreeSet<PartKey>| -> BTreeSet<String> {
            let ids = keys.iter().filter_map(|(base, _)| match base {
                BaseKey::Set(id) => Some(id.clone()),
                BaseKey::Net(_) => None,
            });
            ids.collect()
        };
        let (old, new) = (sets(&union.keys), sets(&keys));
        union.keys = keys;
        let before = std::mem::replace(&mut union.parts, parts);
        self.forget(id, old.difference(&new));
        for set in new {
            self.users.entry(set).or_default().insert(id.to_owned());
        }
        (transitions, before)
    }

    /// Removes a union; returns its parts.
    pub(super) fn remove(&mut self, id: &str) -> Vec<Part> {
        let Some(union) = self.unions.remove(id) else {
            return Vec::new();
        };
        let sets: Vec<String> = union
            .parts
            .iter()
            .filter_map(|part| Some(part.spec()?.id.clone()))
            .collect();
        self.forget(id, sets.iter());
        union.parts
    }

    fn forget<'a>(&mut self, id: &str, sets: impl Iterator<Item = &'a String>) {
        for set in sets {
            if let Some(users) = self.users.get_mut(set) {
                users.remove(id);
                if users.is_empty() {
                    self.users.remove(set);
                }
            }
        }
    }

    /// A member of a set appeared or went: what that changes in the unions that merge the set.
    pub(super) fn member_changed(
        &mut self,
        set: &str,
        member: IpSetMember,
        is_added: bool,
    ) -> Vec<(String, Vec<Transition>)> {
        let mut changed = Vec::new();
        for id in self.users.get(set).into_iter().flatten() {
            let Some(union) = self.unions.get_mut(id) else {
                continue;
            };
            let from = (BaseKey::Set(set.to_owned()), Vec::new());
            let mut transitions = Vec::new();
            for (base, ports) in union.keys.range(from..) {
                if !matches!(base, BaseKey::Set(id) if id == set) {
                    break;
                }
                let expanded = expand(member, ports);
                transitions.extend(expanded.map(|member| count(&mut union.members, member, is_added)));
            }
            changed.push((id.clone(), transitions));
        }
        changed
    }
}

/// A member with each of the ports; as it is without ports.
fn expand(member: IpSetMember, ports: &[(u8, u16)]) -> impl Iterator<Item = IpSetMember> {
    let net = match member {
        IpSetMember::Net(net) => Some(net),
        IpSetMember::Ip(address) => Some(IpNet::from(address)),
        IpSetMember::IpPort { .. } | IpSetMember::NetPort { .. } => None,
    };
    let with_port = move |(protocol, port): &(u8, u16)| {
        net.map(|net| IpSetMember::NetPort {
            net,
            protocol: *protocol,
            port: *port,
        })
    };
    let plain = ports.is_empty().then_some(member);
    plain.into_iter().chain(ports.iter().filter_map(with_port))
}

/// Counts one more or one less of a member.
pub(super) fn count(
    members: &mut BTreeMap<IpSetMember, u32>,
    member: IpSetMember,
    is_added: bool,
) -> Transition {
    let users = members.entry(member).or_default();
    if is_added {
        *users = users.saturating_add(1);
        return (*users == 1).then_some((member, true));
    }
    *users = users.saturating_sub(1);
    if *users > 0 {
        return None;
    }
    members.remove(&member);
    Some((member, false))
}

//! The wanted state while it is being changed, and what of it changed since it was last handed over.
//!
//! Owns [`Desired`]: every write goes through here, and remembers what was there before the first write of a flush.
//! Work is in proportion to what is written, never to what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use caracal_api::names;
use ipnet::IpNet;

use crate::calc::sets::Sets;
use crate::desired::{
    Backend, Desired, Dirty, EndpointStatus, Interface, IpSet, IpSetChange, IpSetKind, IpSetMember,
    IpVersion, KernelChain, Route, RouteTarget, Sysctl, TableKey, TableName, port_set_name,
};
use crate::rules::{Match, PortRange, Rule};

type Before<K, V> = BTreeMap<K, Option<V>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Output {
    desired: Desired,
    chains: Before<(TableKey, String), Vec<Rule>>,
    kernel_chains: Before<(TableKey, String), KernelChain>,
    map_entries: Before<(TableKey, String, String), String>,
    port_sets: Before<String, Vec<PortRange>>,
    port_set_users: BTreeMap<String, usize>,
    routes: Before<IpNet, Route>,
    interfaces: Before<String, Interface>,
    statuses: Before<String, EndpointStatus>,
    sysctls: Option<Vec<Sysctl>>,
    ip_sets: BTreeMap<String, IpSetChange>,
    /// Versions that are programmed.
    pub(super) versions: Vec<IpVersion>,
    /// What the tables are written with.
    pub(super) backend: Backend,
    /// Most members of a set.
    pub(super) max_members: u32,
}

/// Writes one entry of a map; the value before the first write is kept.
fn put<K: Ord + Clone, V: PartialEq>(
    map: &mut BTreeMap<K, V>,
    before: &mut Before<K, V>,
    key: K,
    value: Option<V>,
) {
    if map.get(&key) == value.as_ref() {
        return;
    }
    let old = match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(&key),
    };
    before.entry(key).or_insert(old);
}

/// Keys whose value differs from what it was before.
fn changed<K: Ord + Clone, V: PartialEq>(map: &BTreeMap<K, V>, before: Before<K, V>) -> BTreeSet<K> {
    let differing = before
        .into_iter()
        .filter(|(key, old)| map.get(key) != old.as_ref());
    differing.map(|(key, _)| key).collect()
}

impl Output {
    pub(super) const fn desired(&self) -> &Desired {
        &self.desired
    }

    /// Writes or removes a chain in the tables of all versions.
    pub(super) fn chain(&mut self, table: TableName, name: &str, rules: Option<&[Rule]>) {
        for version in self.versions.clone() {
            self.chain_of(
                TableKey { version, name: table },
                name,
                rules.map(<[Rule]>::to_vec),
            );
        }
    }

    /// Writes or removes a chain of one table.
    pub(super) fn chain_of(&mut self, key: TableKey, name: &str, rules: Option<Vec<Rule>>) {
        let table = self.desired.tables.entry(key).or_default();
        if table.chains.get(name) == rules.as_ref() {
            return;
        }
        if self.backend == Backend::Nftables {
            let old = table.chains.get(name).into_iter().flatten();
            let old: Vec<Vec<PortRange>> = old.flat_map(port_lists).collect();
            let new: Vec<Vec<PortRange>> = rules.iter().flatten().flat_map(port_lists).collect();
            new.into_iter().for_each(|ranges| self.use_ports(ranges, true));
            old.into_iter().for_each(|ranges| self.use_ports(ranges, false));
        }
        let table = self.desired.tables.entry(key).or_default();
        let old = match rules {
            Some(rules) => table.chains.insert(name.to_owned(), rules),
            None => table.chains.remove(name),
        };
        self.chains.entry((key, name.to_owned())).or_insert(old);
    }

    fn use_ports(&mut self, ranges: Vec<PortRange>, is_added: bool) {
        let name = port_set_name(&ranges);
        let users = self.port_set_users.entry(name.clone()).or_default();
        *users = if is_added {
            *users + 1
        } else {
            users.saturating_sub(1)
        };
        let value = (*users > 0).then_some(ranges);
        if value.is_none() {
            self.port_set_users.remove(&name);
        }
        put(&mut self.desired.port_sets, &mut self.port_sets, name, value);
    }

    pub(super) fn kernel_chain(&mut self, key: TableKey, name: &str, chain: Option<KernelChain>) {
        let table = self.desired.tables.entry(key).or_default();
        if table.kernel_chains.get(name) == chain.as_ref() {
            return;
        }
        let old = match chain {
            Some(chain) => table.kernel_chains.insert(name.to_owned(), chain),
            None => table.kernel_chains.remove(name),
        };
        self.kernel_chains.entry((key, name.to_owned())).or_insert(old);
    }

    /// Makes a map of a table, in all versions, have exactly these entries.
    pub(super) fn map(&mut self, table: TableName, map: &str, wanted: &BTreeMap<String, String>) {
        for version in self.versions.clone() {
            let key = TableKey { version, name: table };
            let entries = self.desired.tables.entry(key).or_default();
            let entries = entries.maps.entry(map.to_owned()).or_default();
            let gone = entries
                .keys()
                .filter(|interface| !wanted.contains_key(*interface));
            let gone: Vec<String> = gone.cloned().collect();
            for interface in gone {
                let old = entries.remove(&interface);
                self.map_entries
                    .entry((key, map.to_owned(), interface))
                    .or_insert(old);
            }
            for (interface, chain) in wanted {
                if entries.get(interface) != Some(chain) {
                    let old = entries.insert(interface.clone(), chain.clone());
                    self.map_entries
                        .entry((key, map.to_owned(), interface.clone()))
                        .or_insert(old);
                }
            }
        }
    }

    pub(super) fn route(&mut self, net: IpNet, route: Option<Route>) {
        put(&mut self.desired.routes, &mut self.routes, net, route);
    }

    pub(super) fn interface(&mut self, name: &str, interface: Option<Interface>) {
        put(
            &mut self.desired.interfaces,
            &mut self.interfaces,
            name.to_owned(),
            interface,
        );
    }

    pub(super) fn status(&mut self, name: &str, status: Option<EndpointStatus>) {
        put(
            &mut self.desired.endpoint_statuses,
            &mut self.statuses,
            name.to_owned(),
            status,
        );
    }

    pub(super) fn sysctls(&mut self, sysctls: Vec<Sysctl>) {
        if self.desired.sysctls != sysctls {
            let old = std::mem::replace(&mut self.desired.sysctls, sysctls);
            self.sysctls.get_or_insert(old);
        }
    }

    /// Takes over what changed in the sets that rules name.
    pub(super) fn take_sets(&mut self, sets: &mut Sets) {
        for (id, delta) in sets.take_changed() {
            for version in [IpVersion::V4, IpVersion::V6] {
                let name = names::ip_set_name(version, &id);
                let found = sets.get(&id).filter(|_| self.versions.contains(&version));
                let Some((kind, members)) = found else {
                    self.remove_set(&name);
                    continue;
                };
                if delta.is_new || !self.desired.ip_sets.contains_key(&name) {
                    let members = members.filter(|member| member.version() == version);
                    self.replace_set(name, kind, version, members.collect());
                    continue;
                }
                let own = delta
                    .members
                    .iter()
                    .filter(|(member, _)| member.version() == version);
                own.for_each(|(member, is_present)| self.member(&name, *member, *is_present));
            }
        }
    }

    /// Makes a set have exactly these members.
    pub(super) fn replace_set(
        &mut self,
        name: String,
        kind: IpSetKind,
        version: IpVersion,
        members: BTreeSet<IpSetMember>,
    ) {
        let max_members = self.max_members;
        let set = IpSet {
            kind,
            version,
            max_members,
            members,
        };
        match self.desired.ip_sets.get(&name) {
            Some(old) if *old == set => {}
            Some(old) if (old.kind, old.max_members) == (kind, max_members) => {
                let added: Vec<IpSetMember> = set.members.difference(&old.members).copied().collect();
                let removed: Vec<IpSetMember> = old.members.difference(&set.members).copied().collect();
                added
                    .into_iter()
                    .for_each(|member| self.member(&name, member, true));
                removed
                    .into_iter()
                    .for_each(|member| self.member(&name, member, false));
            }
            Some(_) | None => {
                self.desired.ip_sets.insert(name.clone(), set);
                self.ip_sets.insert(name, IpSetChange::Replaced);
            }
        }
    }

    pub(super) fn remove_set(&mut self, name: &str) {
        if self.desired.ip_sets.remove(name).is_some() {
            self.ip_sets.insert(name.to_owned(), IpSetChange::Removed);
        }
    }

    fn member(&mut self, name: &str, member: IpSetMember, is_present: bool) {
        let Some(set) = self.desired.ip_sets.get_mut(name) else {
            return;
        };
        let is_changed = if is_present {
            set.members.insert(member)
        } else {
            set.members.remove(&member)
        };
        if !is_changed {
            return;
        }
        let change = self
            .ip_sets
            .entry(name.to_owned())
            .or_insert_with(|| IpSetChange::Members {
                added: BTreeSet::new(),
                removed: BTreeSet::new(),
            });
        if let IpSetChange::Members { added, removed } = change {
            let (to, from) = if is_present {
                (added, removed)
            } else {
                (removed, added)
            };
            if !from.remove(&member) {
                to.insert(member);
            }
        }
    }

    /// Says what changed since the last call.
    pub(super) fn take_dirty(&mut self) -> Dirty {
        let mut dirty = Dirty::default();
        let tables = &self.desired.tables;
        for ((key, name), old) in std::mem::take(&mut self.chains) {
            let new = tables.get(&key).and_then(|table| table.chains.get(&name));
            if new != old.as_ref() {
                dirty.chains.entry(key).or_default().insert(name);
            }
        }
        for ((key, name), old) in std::mem::take(&mut self.kernel_chains) {
            let new = tables.get(&key).and_then(|table| table.kernel_chains.get(&name));
            if new != old.as_ref() {
                dirty.kernel_chains.entry(key).or_default().insert(name);
            }
        }
        for ((key, map, interface), old) in std::mem::take(&mut self.map_entries) {
            let entries = tables.get(&key).and_then(|table| table.maps.get(&map));
            if entries.and_then(|entries| entries.get(&interface)) != old.as_ref() {
                let maps = dirty.maps.entry(key).or_default();
                maps.entry(map).or_default().insert(interface);
            }
        }
        dirty.port_sets = changed(&self.desired.port_sets, std::mem::take(&mut self.port_sets));
        let routes = std::mem::take(&mut self.routes);
        dirty.released_addresses = released(&self.desired.routes, &routes);
        dirty.routes = changed(&self.desired.routes, routes);
        dirty.interfaces = changed(&self.desired.interfaces, std::mem::take(&mut self.interfaces));
        dirty.endpoint_statuses = changed(
            &self.desired.endpoint_statuses,
            std::mem::take(&mut self.statuses),
        );
        let sysctls = self.sysctls.take();
        dirty.sysctls = sysctls.is_some_and(|old| old != self.desired.sysctls);
        dirty.ip_sets = std::mem::take(&mut self.ip_sets);
        let is_empty = |change: &IpSetChange| matches!(change, IpSetChange::Members { added, removed } if added.is_empty() && removed.is_empty());
        dirty.ip_sets.retain(|_, change| !is_empty(change));
        dirty
    }

    /// Begins anew for other versions or another backend. What was there counts as changed where it is not the same
    /// again in the end.
    pub(super) fn restart(&mut self, versions: Vec<IpVersion>, backend: Backend, max_members: u32) {
        let before = std::mem::take(self);
        self.versions = versions;
        self.backend = backend;
        self.max_members = max_members;
        for version in &self.versions {
            for name in TableName::ALL {
                let key = TableKey {
                    version: *version,
                    name,
                };
                self.desired.tables.entry(key).or_default();
            }
        }
        let Desired {
            ip_sets,
            port_sets,
            tables,
            routes,
            neighbours: _,
            interfaces,
            sysctls,
            endpoint_statuses,
        } = before.desired;
        self.ip_sets = ip_sets
            .into_keys()
            .map(|name| (name, IpSetChange::Removed))
            .collect();
        self.port_sets = some(port_sets);
        self.routes = some(routes);
        self.interfaces = some(interfaces);
        self.statuses = some(endpoint_statuses);
        self.sysctls = Some(sysctls);
        for (key, table) in tables {
            let named = |name: String| (key, name);
            let chains = table.chains.into_iter();
            self.chains
                .extend(chains.map(|(name, rules)| (named(name), Some(rules))));
            let chains = table.kernel_chains.into_iter();
            self.kernel_chains
                .extend(chains.map(|(name, chain)| (named(name), Some(chain))));
            for (map, entries) in table.maps {
                let entries = entries.into_iter();
                self.map_entries
                    .extend(entries.map(|(interface, chain)| ((key, map.clone(), interface), Some(chain))));
            }
        }
    }
}

fn some<K: Ord, V>(map: BTreeMap<K, V>) -> Before<K, V> {
    map.into_iter().map(|(key, value)| (key, Some(value))).collect()
}

/// Addresses that no longer belong to the interface of ours that they were routed to.
fn released(routes: &BTreeMap<IpNet, Route>, before: &Before<IpNet, Route>) -> BTreeSet<IpAddr> {
    let mut released = BTreeSet::new();
    for (net, old) in before {
        let Some(RouteTarget::Interface(interface)) = old.as_ref().map(|route| &route.target) else {
            continue;
        };
        let stays = routes
            .get(net)
            .is_some_and(|route| route.target == RouteTarget::Interface(interface.clone()));
        if !stays {
            released.insert(net.addr());
        }
    }
    released
}

fn port_lists(rule: &Rule) -> impl Iterator<Item = Vec<PortRange>> {
    rule.matches.iter().filter_map(|criterion| match criterion {
        Match::Ports { ports, .. } if ports.len() > 1 => Some(ports.clone()),
        _ => None,
    })
}

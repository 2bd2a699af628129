//! Members of the IP sets that rules refer to, with reference counts on sets and members.
//!
//! Owns which sets are in use and what is in them, and for each what changed since it was last asked: a change of one
//! address costs what that address costs, however large the set is. Sets that merge others are in [`unions`].

mod change;
mod unions;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use caracal_api::selector::Selector;
use ipnet::IpNet;

use super::label_index::{Change, LabelIndex, LabelMap};
use super::model::{SetSource, SetSpec};
use crate::desired::{IpSetKind, IpSetMember};
use crate::update::Key;

pub use unions::{Base, Part};
use unions::{Transition, Unions};

/// A thing with labels and addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// A pod.
    Pod(Key),
    /// A workload endpoint without a pod.
    Workload(Key),
    /// A host endpoint.
    Host(Key),
    /// A NetworkSet (in a namespace) or GlobalNetworkSet.
    NetworkSet(Key),
}

/// Addresses and named ports of an item.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Addresses {
    /// Prefixes.
    pub nets: Vec<IpNet>,
    /// Name, IP protocol and number of ports.
    pub ports: Vec<(String, u8, u16)>,
}

/// What became of a set since it was last asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// It is new, or was gone in between: all of it counts.
    pub is_new: bool,
    /// Members that appeared (true) or went (false).
    pub members: BTreeMap<IpSetMember, bool>,
}

impl Delta {
    fn note(&mut self, transition: Transition) {
        let Some((member, is_present)) = transition else {
            return;
        };
        // One that goes and comes back has not changed.
        if self.members.get(&member) == Some(&!is_present) {
            self.members.remove(&member);
        } else {
            self.members.insert(member, is_present);
        }
    }
}

#[derive(Debug)]
struct Active {
    spec: Arc<SetSpec>,
    /// Rules that name it. Without any it is only here for what merges it.
    rules: usize,
    /// Merged sets that it is part of.
    unions: usize,
    members: BTreeMap<IpSetMember, u32>,
}

/// The sets in use.
#[derive(Debug, Default)]
pub struct Sets {
    index: LabelIndex<Item, String>,
    addresses: BTreeMap<Item, Arc<Addresses>>,
    active: BTreeMap<String, Active>,
    unions: Unions,
    services: BTreeMap<Key, BTreeMap<Key, Addresses>>,
    by_service: BTreeMap<Key, BTreeSet<String>>,
    changed: BTreeMap<String, Delta>,
    is_size_crossed: bool,
}

/// Sets with more members are large: they are not written out once for each port.
const LARGE: usize = 1_024;

impl Sets {
    /// Adds or changes an item.
    pub fn set_item(&mut self, item: &Item, labels: LabelMap, parents: Vec<String>, addresses: Addresses) {
        let before = self.addresses.get(item).cloned();
        let addresses = Arc::new(addresses);
        if before.as_ref().is_some_and(|before| *before != addresses) {
            self.change_addresses(item, before.as_deref(), &addresses);
        }
        self.addresses.insert(item.clone(), addresses);
        let changes = self.index.set_item(item, labels, parents);
        self.apply(&changes);
    }

    /// Removes an item.
    pub fn remove_item(&mut self, item: &Item) {
        let changes = self.index.remove_item(item);
        self.apply(&changes);
        self.addresses.remove(item);
    }

    /// Sets the labels that items inherit from a profile.
    pub fn set_parent(&mut self, name: &str, labels: LabelMap) {
        let changes = self.index.set_parent(name, labels);
        self.apply(&changes);
    }

    /// Sets what one slice says about the endpoints of a Service.
    pub fn set_service(&mut self, service: &Key, slice: &Key, addresses: Option<Addresses>) {
        let slices = self.services.entry(service.clone()).or_default();
        match addresses {
            Some(addresses) => slices.insert(slice.clone(), addresses),
            None => slices.remove(slice),
        };
        if slices.is_empty() {
            self.services.remove(service);
        }
        for id in self.by_service.get(service).cloned().unwrap_or_default() {
            self.fill_service(&id);
        }
    }

    /// One more rule names a set.
    pub fn acquire(&mut self, spec: &Arc<SetSpec>) {
        self.activate(spec);
        let Some(set) = self.active.get_mut(&spec.id) else {
            return;
        };
        set.rules += 1;
        if set.rules == 1 {
            self.changed.entry(spec.id.clone()).or_default().is_new = true;
        }
    }

    /// One rule less names a set; a set that nobody names goes.
    pub fn release(&mut self, id: &str) {
        let Some(set) = self.active.get_mut(id) else {
            return;
        };
        set.rules = set.rules.saturating_sub(1);
        if set.rules == 0 {
            self.changed.entry(id.to_owned()).or_default();
        }
        self.drop_unused(id);
    }

    /// Adds a merged set or changes what it merges. Members are those of all parts.
    pub fn set_union(&mut self, id: &str, kind: IpSetKind, parts: Vec<Part>) {
        for spec in parts.iter().filter_map(Part::spec) {
            self.hold(spec);
        }
        let active = &self.active;
        let members = |id: &str| {
            let set = active.get(id).into_iter();
            set.flat_map(|set| set.members.keys().copied()).collect()
        };
        let is_new = !self.unions.contains(id);
        let (transitions, before) = self.unions.set(id, kind, parts, members);
        self.note(id, is_new, transitions);
        self.leave(&before);
    }

    /// Removes a merged set.
    pub fn remove_union(&mut self, id: &str) {
        let before = self.unions.remove(id);
        self.changed.entry(id.to_owned()).or_default();
        self.leave(&before);
    }

    /// Keeps a set up to date without a rule that names it.
    pub fn hold(&mut self, spec: &Arc<SetSpec>) {
        self.activate(spec);
        if let Some(set) = self.active.get_mut(&spec.id) {
            set.unions += 1;
        }
    }

    /// Ends one [`hold`](Self::hold).
    pub fn let_go(&mut self, id: &str) {
        if let Some(set) = self.active.get_mut(id) {
            set.unions = set.unions.saturating_sub(1);
        }
        self.drop_unused(id);
    }

    /// True for a set in use with many members.
    #[must_use]
    pub fn is_large(&self, id: &str) -> bool {
        self.active.get(id).is_some_and(|set| set.members.len() > LARGE)
    }

    /// True when some set became large or ceased to be since the last call.
    pub fn take_size_crossed(&mut self) -> bool {
        std::mem::take(&mut self.is_size_crossed)
    }

    /// No rule names any set any more.
    pub fn clear_uses(&mut self) {
        let unions: Vec<String> = self.unions.ids().cloned().collect();
        unions.iter().for_each(|id| self.remove_union(id));
        let ids: Vec<String> = self.active.keys().cloned().collect();
        for id in ids {
            if let Some(set) = self.active.get_mut(&id) {
                (set.rules, set.unions) = (0, 0);
            }
            self.drop_unused(&id);
            self.changed.entry(id).or_default();
        }
    }

    /// The sets that changed since the last call, with what became of them. One that is no longer there is gone.
    pub fn take_changed(&mut self) -> BTreeMap<String, Delta> {
        std::mem::take(&mut self.changed)
    }

    /// True when some set changed since it was last asked.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// A set that rules name: its kind and members.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<(IpSetKind, impl Iterator<Item = IpSetMember>)> {
        let own = self.active.get(id).filter(|set| set.rules > 0);
        let found = own.map(|set| (set.spec.kind(), &set.members));
        let (kind, members) = found.or_else(|| self.unions.get(id))?;
        Some((kind, members.keys().copied()))
    }

    /// Ids of all sets that rules name.
    pub fn ids(&self) -> impl Iterator<Item = &String> {
        let own = self.active.iter().filter(|(_, set)| set.rules > 0);
        own.map(|(id, _)| id).chain(self.unions.ids())
    }

    /// Number of selectors in use.
    #[must_use]
    pub fn selector_count(&self) -> usize {
        self.active.len()
    }

    /// Items whose addresses contain this one.
    pub(crate) fn items_with(&self, address: IpAddr) -> Vec<&Item> {
        let holds = |addresses: &Addresses| addresses.nets.iter().any(|net| net.contains(&address));
        let found = self.addresses.iter().filter(|(_, addresses)| holds(addresses));
        found.map(|(item, _)| item).collect()
    }

    /// For each of some addresses, the items whose addresses contain it: one look at everything for all of them.
    pub(crate) fn items_at(&self, wanted: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Vec<&Item>> {
        let mut found: BTreeMap<IpAddr, Vec<&Item>> = BTreeMap::new();
        for (item, addresses) in &self.addresses {
            for net in &addresses.nets {
                if net.prefix_len() == net.max_prefix_len() {
                    if wanted.contains(&net.addr()) {
                        found.entry(net.addr()).or_default().push(item);
                    }
                    continue;
                }
                for address in wanted.range(net.network()..=net.broadcast()) {
                    let items = found.entry(*address).or_default();
                    if items.last() != Some(&item) {
                        items.push(item);
                    }
                }
            }
        }
        found
    }

    /// An item's addresses.
    pub(crate) fn addresses_of(&self, item: &Item) -> Option<&Addresses> {
        self.addresses.get(item).map(Arc::as_ref)
    }

    /// True when a selector selects an item, whether or not it is in use.
    pub(crate) fn is_selected(&self, item: &Item, selector: &Selector) -> bool {
        self.index.is_selected(item, selector)
    }

    /// What a selector selects, whether or not it is in use.
    pub(crate) fn selected(&self, selector: &Selector) -> BTreeSet<Item> {
        self.index.selected(selector)
    }

    /// All items.
    pub(crate) fn items(&self) -> impl Iterator<Item = &Item> {
        self.addresses.keys()
    }

    /// Profiles of an item, in order.
    pub(crate) fn parents_of(&self, item: &Item) -> &[String] {
        self.index.parents_of(item)
    }

    /// What the slices of a Service say.
    pub(crate) fn service(&self, service: &Key) -> impl Iterator<Item = &Addresses> {
        self.services.get(service).into_iter().flat_map(BTreeMap::values)
    }

    fn activate(&mut self, spec: &Arc<SetSpec>) {
        if self.active.contains_key(&spec.id) {
            return;
        }
        let mut set = Active {
            spec: Arc::clone(spec),
            rules: 0,
            unions: 0,
            members: BTreeMap::new(),
        };
        if let SetSource::Nets(nets) = &spec.source {
            let members = nets.iter().copied().flat_map(halves).map(IpSetMember::Net);
            set.members = members.map(|member| (member, 1)).collect();
        }
        self.active.insert(spec.id.clone(), set);
        match &spec.source {
            SetSource::Selector(selector) | SetSource::NamedPort { selector, .. } => {
                let changes = self.index.set_selector(&spec.id, selector.clone());
                self.apply(&changes);
            }
            SetSource::Service { service, .. } => {
                self.by_service
                    .entry(service.clone())
                    .or_default()
                    .insert(spec.id.clone());
                self.fill_service(&spec.id);
            }
            SetSource::Nets(_) => {}
        }
    }

    fn leave(&mut self, parts: &[Part]) {
        for spec in parts.iter().filter_map(Part::spec) {
            self.let_go(&spec.id);
        }
    }

    fn drop_unused(&mut self, id: &str) {
        if self.active.get(id).is_none_or(|set| set.rules + set.unions > 0) {
            return;
        }
        let Some(set) = self.active.remove(id) else { return };
        self.index.remove_selector(&id.to_owned());
        if let SetSource::Service { service, .. } = &set.spec.source
            && let Some(ids) = self.by_service.get_mut(service)
        {
            ids.remove(id);
            if ids.is_empty() {
                self.by_service.remove(service);
            }
        }
    }

    fn note(&mut self, id: &str, is_new: bool, transitions: impl IntoIterator<Item = Transition>) {
        let mut transitions = transitions.into_iter().flatten().peekable();
        if !is_new && transitions.peek().is_none() {
            return;
        }
        let delta = self.changed.entry(id.to_owned()).or_default();
        delta.is_new |= is_new;
        transitions.for_each(|transition| delta.note(Some(transition)));
    }

    /// Counts one more or one less of a member of a set, here and in what merges the set.
    fn count(&mut self, id: &str, member: IpSetMember, is_added: bool) {
        let Some(set) = self.active.get_mut(id) else {
            return;
        };
        let transition = unions::count(&mut set.members, member, is_added);
        if transition.is_none() {
            return;
        }
        let crossing = if is_added { LARGE + 1 } else { LARGE };
        self.is_size_crossed |= set.members.len() == crossing;
        if set.rules > 0 {
            self.changed.entry(id.to_owned()).or_default().note(transition);
        }
        if set.unions > 0 {
            for (union, transitions) in self.unions.member_changed(id, member, is_added) {
                self.note(&union, false, transitions);
            }
        }
    }

    fn fill_service(&mut self, id: &str) {
        let Some(set) = self.active.get(id) else { return };
        let SetSource::Service { service, with_ports } = &set.spec.source else {
            return;
        };
        let mut wanted = BTreeSet::new();
        for addresses in self.service(service) {
            if *with_ports {
                wanted.extend(port_members(addresses, |_, _| true));
            } else {
                wanted.extend(net_members(addresses));
            }
        }
        let present: BTreeSet<IpSetMember> = set.members.keys().copied().collect();
        for member in wanted.difference(&present) {
            self.count(id, *member, true);
        }
        for member in present.difference(&wanted) {
            self.count(id, *member, false);
        }
    }

    /// An item that stays selected by what selects it has other addresses.
    fn change_addresses(&mut self, item: &Item, before: Option<&Addresses>, after: &Addresses) {
        let selectors: Vec<String> = self.index.selectors_of(item).cloned().collect();
        let none = Addresses::default();
        let before = before.unwrap_or(&none);
        let (old, new) = change::changed(before, after);
        for id in selectors {
            let Some(set) = self.active.get(&id) else { continue };
            let old: BTreeSet<IpSetMember> = members_of(&set.spec, &old).into_iter().collect();
            let new: BTreeSet<IpSetMember> = members_of(&set.spec, &new).into_iter().collect();
            for member in new.difference(&old) {
                self.count(&id, *member, true);
            }
            for member in old.difference(&new) {
                self.count(&id, *member, false);
            }
        }
    }

    fn apply(&mut self, changes: &[Change<Item, String>]) {
        for change in changes {
            let (Some(set), Some(addresses)) = (
                self.active.get(&change.selector),
                self.addresses.get(&change.item),
            ) else {
                continue;
            };
            let members: BTreeSet<IpSetMember> = members_of(&set.spec, addresses).into_iter().collect();
            for member in members {
                self.count(&change.selector, member, change.is_match);
            }
        }
    }
}

/// Prefixes as members; the kernel refuses length 0, so two halves stand for everything.
pub fn halves(net: IpNet) -> Vec<IpNet> {
    if net.prefix_len() > 0 {
        return vec![net];
    }
    net.subnets(1).map(Iterator::collect).unwrap_or_default()
}

/// What an item that is selected puts into a set.
fn members_of(spec: &SetSpec, addresses: &Addresses) -> Vec<IpSetMember> {
    match &spec.source {
        SetSource::Selector(_) => net_members(addresses),
        SetSource::NamedPort { protocol, port, .. } => {
            port_members(addresses, |name, number| name == port && number == *protocol)
        }
        SetSource::Service { .. } | SetSource::Nets(_) => Vec::new(),
    }
}

fn net_members(addresses: &Addresses) -> Vec<IpSetMember> {
    let nets = addresses.nets.iter().copied().flat_map(halves);
    nets.map(IpSetMember::Net).collect()
}

fn port_members(addresses: &Addresses, is_wanted: impl Fn(&str, u8) -> bool) -> Vec<IpSetMember> {
    let mut members = Vec::new();
    for address in addresses.nets.iter().map(IpNet::addr) {
        for (name, protocol, port) in &addresses.ports {
            if is_wanted(name, *protocol) {
                members.push(IpSetMember::IpPort {
                    address,
                    protocol: *protocol,
                    port: *port,
                });
            }
        }
    }
    members
}

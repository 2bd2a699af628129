//! Members of the IP sets that rules refer to, with reference counts on sets and members.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::label_index::{Change, LabelIndex, LabelMap};
use super::model::{SetSource, SetSpec};
use crate::desired::IpSetMember;
use crate::update::Key;

/// A thing with labels and addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// A pod.
    Pod(Key),
    /// A workload endpoint without a pod.
    Workload(Key),
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

#[derive(Debug)]
struct Active {
    spec: Arc<SetSpec>,
    users: usize,
    members: BTreeMap<IpSetMember, usize>,
}

/// The sets in use.
#[derive(Debug, Default)]
pub struct Sets {
    index: LabelIndex<Item, String>,
    addresses: BTreeMap<Item, Addresses>,
    active: BTreeMap<String, Active>,
    services: BTreeMap<Key, BTreeMap<Key, Addresses>>,
    changed: BTreeSet<String>,
}

impl Sets {
    /// Adds or changes an item.
    pub fn set_item(&mut self, item: &Item, labels: LabelMap, parents: Vec<String>, addresses: Addresses) {
        let changes = self.index.remove_item(item);
        self.apply(&changes);
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
        let concerned: Vec<String> = self
            .active
            .iter()
            .filter(|(_, set)| {
                matches!(&set.spec.source, SetSource::Service { service: own, .. } if own == service)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in concerned {
            self.fill_service(&id);
        }
    }

    /// One more user of a set.
    pub fn acquire(&mut self, spec: &Arc<SetSpec>) {
        if let Some(set) = self.active.get_mut(&spec.id) {
            set.users += 1;
            return;
        }
        let set = Active {
            spec: Arc::clone(spec),
            users: 1,
            members: BTreeMap::new(),
        };
        self.active.insert(spec.id.clone(), set);
        self.changed.insert(spec.id.clone());
        match &spec.source {
            SetSource::Selector(selector) | SetSource::NamedPort { selector, .. } => {
                let changes = self.index.set_selector(&spec.id, selector.clone());
                self.apply(&changes);
            }
            SetSource::Service { .. } => self.fill_service(&spec.id),
        }
    }

    /// One user less; a set without users goes.
    pub fn release(&mut self, spec: &Arc<SetSpec>) {
        let Some(set) = self.active.get_mut(&spec.id) else {
            return;
        };
        set.users = set.users.saturating_sub(1);
        if set.users == 0 {
            self.active.remove(&spec.id);
            self.index.remove_selector(&spec.id);
            self.changed.insert(spec.id.clone());
        }
    }

    /// The sets that changed since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    /// A set in use: where it comes from, and its members.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<(&SetSpec, impl Iterator<Item = IpSetMember>)> {
        let set = self.active.get(id)?;
        Some((set.spec.as_ref(), set.members.keys().copied()))
    }

    fn fill_service(&mut self, id: &str) {
        let Some(set) = self.active.get_mut(id) else {
            return;
        };
        let SetSource::Service { service, with_ports } = &set.spec.source else {
            return;
        };
        set.members.clear();
        for addresses in self.services.get(service).into_iter().flat_map(BTreeMap::values) {
            let members = if *with_ports {
                port_members(addresses, |_, _| true)
            } else {
                net_members(addresses)
            };
            for member in members {
                *set.members.entry(member).or_default() += 1;
            }
        }
        self.changed.insert(id.to_owned());
    }

    fn apply(&mut self, changes: &[Change<Item, String>]) {
        for change in changes {
            let (Some(set), Some(addresses)) = (
                self.active.get_mut(&change.selector),
                self.addresses.get(&change.item),
            ) else {
                continue;
            };
            let members = match &set.spec.source {
                SetSource::Selector(_) => net_members(addresses),
                SetSource::NamedPort { protocol, port, .. } => {
                    port_members(addresses, |name, number| name == port && number == *protocol)
                }
                SetSource::Service { .. } => continue,
            };
            for member in members {
                let count = set.members.entry(member).or_default();
                if change.is_match {
                    *count += 1;
                } else {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        set.members.remove(&member);
                    }
                }
            }
            self.changed.insert(change.selector.clone());
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

fn net_members(addresses: &Addresses) -> Vec<IpSetMember> {
    let nets = addresses.nets.iter().copied().flat_map(halves);
    nets.map(IpSetMember::Net).collect()
}

fn port_members(addresses: &Addresses, is_wanted: impl Fn(&str, u8) -> bool) -> Vec<IpSetMember> {
    let mut members = Vec::new();
    for address in addresses.nets.iter().map(IpNet::addr) {
        for (name, protocol, port) in &addresses.ports {
            if is_wanted(name, *protocol) {
                let (protocol, port): (u8, u16) = (*protocol, *port);
                let address: IpAddr = address;
                members.push(IpSetMember::IpPort {
                    address,
                    protocol,
                    port,
                });
            }
        }
    }
    members
}

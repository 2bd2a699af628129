//! The chains that lead to those of endpoints, and those that are about all endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::cluster::Local;
use super::endpoints::{ANY, chain_interface};
use super::output::Output;
use crate::calc::model::{Direction, version_of};
use crate::calc::sets::Item;
use crate::config::Config;
use crate::desired::{Backend, IpVersion, TableKey, TableName};
use crate::rules::dispatch::{Dispatch, host_end, interface_match, workload_end};
use crate::rules::{Action, End, Match, Rule, endpoint};

/// Interfaces with chains, and what chains that are about all endpoints say of each.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    workloads: BTreeMap<Item, String>,
    hosts: BTreeMap<Item, String>,
    floating: BTreeMap<Item, Vec<(IpAddr, IpAddr)>>,
    spoofing: BTreeMap<Item, (String, Vec<IpNet>)>,
    before: Option<(BTreeSet<String>, BTreeSet<String>)>,
    had_extras: bool,
    is_changed: bool,
}

impl Interfaces {
    pub(super) fn insert(&mut self, item: &Item, interface: &str, local: &Local) {
        let interfaces = if local.is_host {
            &mut self.hosts
        } else {
            &mut self.workloads
        };
        interfaces.insert(item.clone(), interface.to_owned());
        if !local.floating.is_empty() {
            self.floating.insert(item.clone(), local.floating.clone());
        }
        if !local.source_prefixes.is_empty() {
            let entry = (interface.to_owned(), local.source_prefixes.clone());
            self.spoofing.insert(item.clone(), entry);
        }
        self.is_changed = true;
    }

    pub(super) fn remove(&mut self, item: &Item) {
        let is_known = self.workloads.remove(item).is_some() || self.hosts.remove(item).is_some();
        self.floating.remove(item);
        self.spoofing.remove(item);
        self.is_changed |= is_known;
    }

    /// True when something is to be written since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        if !std::mem::take(&mut self.is_changed) {
            return false;
        }
        let names = |map: &BTreeMap<Item, String>| map.values().cloned().collect();
        let now = (names(&self.workloads), names(&self.hosts));
        let is_same = self.before.as_ref() == Some(&now);
        let has_extras = !self.floating.is_empty() || !self.spoofing.is_empty();
        let had_extras = std::mem::replace(&mut self.had_extras, has_extras);
        self.before = Some(now);
        !is_same || has_extras || had_extras
    }

    /// The chains that lead to endpoints. Entries of maps are written at once.
    pub(super) fn chains(&self, config: &Config, output: &mut Output) -> Vec<(TableName, String, Vec<Rule>)> {
        let mut chains = Vec::new();
        for direction in Direction::ALL {
            self.workload_dispatch(direction, config, output, &mut chains);
            self.host_dispatch(direction, config, &mut chains);
        }
        self.floating_chains(config, output);
        let skip = self.spoofing_rules(config);
        for version in output.versions.clone() {
            let key = TableKey {
                version,
                name: TableName::Raw,
            };
            let own = skip.iter().filter(|(net, _)| version_of(net) == version);
            let rules = own.map(|(_, rule)| rule.clone()).collect();
            output.chain_of(key, "cali-rpf-skip", Some(rules));
        }
        chains
    }

    fn workload_dispatch(
        &self,
        direction: Direction,
        config: &Config,
        output: &mut Output,
        chains: &mut Vec<(TableName, String, Vec<Rule>)>,
    ) {
        let root = match direction {
            Direction::Ingress => "cali-to-wl-dispatch",
            Direction::Egress => "cali-from-wl-dispatch",
        };
        let targets: BTreeMap<String, String> = self
            .workloads
            .values()
            .map(|name| {
                let chain = endpoint::workload_chain(config.backend, direction, name);
                (name.clone(), chain)
            })
            .collect();
        let dispatch = Dispatch {
            root,
            end: workload_end(direction),
            chains: &targets,
            first: Vec::new(),
            last: vec![Rule::new([], config.deny()).comment("Unknown interface")],
        };
        if config.backend == Backend::Nftables {
            output.map(TableName::Filter, root, &targets);
            chains.push((TableName::Filter, root.to_owned(), dispatch.by_map()));
            return;
        }
        let tree = dispatch.tree().into_iter();
        chains.extend(tree.map(|(name, rules)| (TableName::Filter, name, rules)));
    }

    fn host_dispatch(
        &self,
        direction: Direction,
        config: &Config,
        chains: &mut Vec<(TableName, String, Vec<Rule>)>,
    ) {
        let (root, forward) = match direction {
            Direction::Ingress => ("cali-from-host-endpoint", "cali-from-hep-forward"),
            Direction::Egress => ("cali-to-host-endpoint", "cali-to-hep-forward"),
        };
        let places = [
            (TableName::Filter, root, false),
            (TableName::Mangle, root, false),
            (TableName::Raw, root, false),
            (TableName::Filter, forward, true),
        ];
        for (table, root, is_forward) in places {
            let chain_of = |interface: &str| {
                let interface = chain_interface(interface);
                if is_forward {
                    endpoint::host_forward_chain(config.backend, direction, interface)
                } else {
                    endpoint::host_chain(config.backend, direction, interface)
                }
            };
            let named = self.hosts.values().filter(|name| *name != ANY);
            let targets: BTreeMap<String, String> =
                named.map(|name| (name.clone(), chain_of(name))).collect();
            let mut last = Vec::new();
            if self.hosts.values().any(|name| name == ANY) {
                // All interfaces means all of the host. Before translation also what comes from workloads.
                let is_pre_dnat = table == TableName::Mangle && direction == Direction::Ingress;
                let skipped = config.interface_prefixes.iter().filter(|_| !is_pre_dnat);
                last.extend(skipped.map(|prefix| {
                    let criterion = interface_match(host_end(direction), format!("{prefix}+"));
                    Rule::new([criterion], Action::Return)
                }));
                last.push(Rule::new([], Action::Goto(chain_of(ANY))));
            }
            let dispatch = Dispatch {
                root,
                end: host_end(direction),
                chains: &targets,
                first: Vec::new(),
                last,
            };
            let tree = dispatch.tree().into_iter();
            chains.extend(tree.map(|(name, rules)| (table, name, rules)));
        }
    }

    /// Prefixes that a workload may send from beside its addresses.
    fn spoofing_rules(&self, config: &Config) -> Vec<(IpNet, Rule)> {
        if !config.spoofing_allowed {
            return Vec::new();
        }
        let mut rules = Vec::new();
        for (interface, nets) in self.spoofing.values() {
            for net in nets {
                let from = Match::Nets {
                    end: End::Source,
                    nets: vec![*net],
                    negated: false,
                };
                let came_in = interface_match(End::Source, interface.clone());
                rules.push((*net, Rule::new([came_in, from], Action::Accept)));
            }
        }
        rules
    }

    /// Translation of floating addresses. Of several that claim one, the first by key has it.
    fn floating_chains(&self, config: &Config, output: &mut Output) {
        let mut pairs: BTreeMap<IpAddr, IpAddr> = BTreeMap::new();
        for (external, internal) in self.floating.values().flatten().filter(|_| config.floating_ips) {
            pairs.entry(*external).or_insert(*internal);
        }
        let host = |end, address: IpAddr| Match::Nets {
            end,
            nets: vec![IpNet::from(address)],
            negated: false,
        };
        for version in output.versions.clone() {
            let own = |address: &IpAddr| address.is_ipv4() == (version == IpVersion::V4);
            let own: Vec<(IpAddr, IpAddr)> = pairs
                .iter()
                .filter(|(external, _)| own(external))
                .map(|(external, internal)| (*external, *internal))
                .collect();
            let dnat = own.iter().map(|(external, internal)| {
                let to = *internal;
                Rule::new([host(End::Destination, *external)], Action::Dnat { to })
            });
            // A workload that reaches itself by its floating address must see that address as the source.
            let mut sources = BTreeSet::new();
            let first_of_each = own.iter().filter(|(_, internal)| sources.insert(*internal));
            let snat = first_of_each.map(|(external, internal)| {
                let criteria = [host(End::Source, *internal), host(End::Destination, *internal)];
                let (to, ports) = (*external, None);
                Rule::new(criteria, Action::Snat { to, ports })
            });
            let key = TableKey {
                version,
                name: TableName::Nat,
            };
            output.chain_of(key, "cali-fip-dnat", Some(dnat.collect()));
            output.chain_of(key, "cali-fip-snat", Some(snat.collect()));
        }
    }
}

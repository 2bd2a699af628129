//! The chains of endpoints, and those that lead to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::cluster::{Cluster, Local};
use super::lists::{self, BundleId, Place, Scope, TierList};
use super::output::Output;
use super::owners::{Owner, Use};
use super::plan::Lists;
use crate::calc::model::{Direction, PolicyId, version_of};
use crate::calc::sets::Item;
use crate::config::Config;
use crate::desired::{Backend, IpVersion, TableKey, TableName};
use crate::rules::dispatch::{Dispatch, host_end, interface_match, workload_end};
use crate::rules::endpoint::{self, Limits, Step, TierChains};
use crate::rules::{Action, End, Match, Rule};

/// Interface name of a host endpoint that is all interfaces.
const ANY: &str = "*";
/// What stands for it in names of chains.
const ANY_CHAIN: &str = "any-interface-at-all";

/// What was written for an endpoint.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) interface: String,
    pub(super) is_host: bool,
    pub(super) chains: Vec<(TableName, String, Vec<Rule>)>,
    pub(super) uses: Vec<Use>,
    pub(super) status: Option<String>,
}

/// The interface of an endpoint. A host endpoint without one has the interface with one of its addresses.
pub(super) fn interface_of(cluster: &Cluster, local: &Local) -> Option<String> {
    if !local.interface.is_empty() {
        return Some(local.interface.clone());
    }
    let is_own = |addresses: &Vec<IpAddr>| {
        let own = |net: &IpNet| addresses.contains(&net.addr());
        local.nets.iter().any(own)
    };
    let mut interfaces = cluster.host_addresses.iter();
    let found = interfaces.find(|(_, addresses)| is_own(addresses));
    found.map(|(name, _)| name.clone())
}

/// All lists of policies of an endpoint.
pub(super) fn lists(cluster: &Cluster, item: &Item) -> Lists {
    let is_host = matches!(item, Item::Host(_));
    let mut lists = Lists::new();
    for direction in Direction::ALL {
        let mut scopes = vec![Scope::Own];
        if is_host {
            scopes.extend([Scope::Forward, Scope::Untracked]);
            if direction == Direction::Ingress {
                scopes.push(Scope::PreDnat);
            }
        }
        for scope in scopes {
            let tiers = lists::tiers(cluster, item, direction, scope);
            lists.insert((direction, scope), tiers);
        }
    }
    lists
}

/// The lists that are merged.
pub(super) fn merged_lists(lists: &Lists) -> Vec<(Place, Arc<[PolicyId]>)> {
    let mut merged = Vec::new();
    for ((direction, scope), tiers) in lists {
        for tier in tiers.iter().filter(|tier| tier.is_merged()) {
            let place = Place {
                direction: *direction,
                scope: *scope,
                tier: tier.name.clone(),
            };
            merged.push((place, tier.enforced().cloned().collect()));
        }
    }
    merged
}

/// Works out the chains of an endpoint.
pub(super) fn written(
    local: &Local,
    interface: &str,
    lists: &Lists,
    name_of: &dyn Fn(&Place) -> Option<BundleId>,
    config: &Config,
) -> Written {
    let mut writer = Writer {
        lists,
        name_of,
        config,
        out: Written {
            interface: interface.to_owned(),
            is_host: local.is_host,
            ..Written::default()
        },
    };
    for direction in Direction::ALL {
        if local.is_host {
            writer.host(direction, local, interface);
        } else {
            writer.workload(direction, local, interface);
        }
    }
    writer.out
}

struct Writer<'a> {
    lists: &'a Lists,
    name_of: &'a dyn Fn(&Place) -> Option<BundleId>,
    config: &'a Config,
    out: Written,
}

impl Writer<'_> {
    fn workload(&mut self, direction: Direction, local: &Local, interface: &str) {
        let tiers = self.tiers(direction, Scope::Own, &[TableName::Filter]);
        let profiles = self.profiles(direction, &local.profiles, &[TableName::Filter]);
        let limits = limits(direction, local);
        let rules = endpoint::workload(direction, interface, &tiers, &profiles, limits, self.config);
        let name = endpoint::workload_chain(self.config.backend, direction, interface);
        self.out.chains.push((TableName::Filter, name, rules));
    }

    fn host(&mut self, direction: Direction, local: &Local, interface: &str) {
        let config = self.config;
        let interface = chain_interface(interface);
        let name = endpoint::host_chain(config.backend, direction, interface);
        // Packets of local processes whose destination is translated are met once more, after that.
        let tables: &[TableName] = match direction {
            Direction::Ingress => &[TableName::Filter],
            Direction::Egress => &[TableName::Filter, TableName::Mangle],
        };
        let tiers = self.tiers(direction, Scope::Own, tables);
        let profiles = self.profiles(direction, &local.profiles, tables);
        for table in tables {
            let allow = match table {
                TableName::Mangle => config.mangle_allow(),
                TableName::Filter | TableName::Raw | TableName::Nat => config.filter_allow(),
            };
            let rules = endpoint::host(direction, &tiers, &profiles, allow, config);
            self.out.chains.push((*table, name.clone(), rules));
        }
        let tiers = self.tiers(direction, Scope::Forward, &[TableName::Filter]);
        let forward = endpoint::host_forward_chain(config.backend, direction, interface);
        let rules = endpoint::host_forward(&tiers, config);
        self.out.chains.push((TableName::Filter, forward, rules));
        let tiers = self.tiers(direction, Scope::Untracked, &[TableName::Raw]);
        let rules = endpoint::host_untracked(direction, &tiers, config);
        self.out.chains.push((TableName::Raw, name.clone(), rules));
        if direction == Direction::Ingress {
            let tiers = self.tiers(direction, Scope::PreDnat, &[TableName::Mangle]);
            let rules = endpoint::host_pre_dnat(&tiers, config);
            self.out.chains.push((TableName::Mangle, name, rules));
        }
    }

    /// Chains of the tiers, and the jumps to them from these tables.
    fn tiers(&mut self, direction: Direction, scope: Scope, tables: &[TableName]) -> Vec<TierChains> {
        let lists = self.lists.get(&(direction, scope));
        let lists = lists.map_or(&[][..], Vec::as_slice);
        let tiers = lists.iter().map(|tier| TierChains {
            name: tier.name.clone(),
            is_deny_default: tier.is_deny_default,
            steps: self.steps(tier, direction, scope, tables),
        });
        tiers.collect()
    }
}

impl Writer<'_> {
    fn steps(
        &mut self,
        tier: &TierList,
        direction: Direction,
        scope: Scope,
        tables: &[TableName],
    ) -> Vec<Step> {
        let place = Place {
            direction,
            scope,
            tier: tier.name.clone(),
        };
        let bundle = if tier.is_merged() {
            (self.name_of)(&place)
        } else {
            None
        };
        let mut owners: Vec<(Owner, bool)> = Vec::new();
        for id in &tier.policies {
            let is_staged = id.kind.is_staged();
            // What is merged comes at the end of the tier's own chains.
            if is_staged || bundle.is_none() {
                owners.push((Owner::Policy(direction, id.clone()), is_staged));
            }
        }
        owners.extend(bundle.map(|id| (Owner::Bundle(id), false)));
        let mut steps = Vec::new();
        for (owner, is_staged) in owners {
            steps.push(Step {
                chain: owner.chain(self.config),
                is_staged,
            });
            let uses = tables.iter().map(|table| (owner.clone(), *table));
            self.out.uses.extend(uses);
        }
        steps
    }

    fn profiles(&mut self, direction: Direction, names: &[String], tables: &[TableName]) -> Vec<String> {
        let mut chains = Vec::new();
        for name in names {
            let owner = Owner::Profile(direction, name.clone());
            chains.push(owner.chain(self.config));
            let uses = tables.iter().map(|table| (owner.clone(), *table));
            self.out.uses.extend(uses);
        }
        chains
    }
}

fn chain_interface(interface: &str) -> &str {
    if interface == ANY { ANY_CHAIN } else { interface }
}

fn limits(direction: Direction, local: &Local) -> Limits {
    let Some(qos) = &local.qos else {
        return Limits::default();
    };
    let number = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    let (rate, burst, connections) = match direction {
        Direction::Ingress => (
            qos.ingress_packet_rate,
            qos.ingress_packet_burst,
            qos.ingress_max_connections,
        ),
        Direction::Egress => (
            qos.egress_packet_rate,
            qos.egress_packet_burst,
            qos.egress_max_connections,
        ),
    };
    let rate = number(rate).filter(|rate| *rate > 0);
    Limits {
        packets: rate.map(|rate| (rate, number(burst).unwrap_or(5).max(1))),
        connections: number(connections),
    }
}

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

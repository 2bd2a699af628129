//! The chains of endpoints.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::cluster::{Cluster, Local};
use super::lists::{self, BundleId, MergedList, Place, Scope, TierList};
use super::owners::{Owner, Use};
use super::plan::Lists;
use crate::calc::model::{Direction, PolicyId};
use crate::calc::sets::Item;
use crate::config::Config;
use crate::desired::TableName;
use crate::rules::Rule;
use crate::rules::endpoint::{self, Limits, Step, TierChains};

/// Interface name of a host endpoint that is all interfaces.
pub(super) const ANY: &str = "*";
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
fn lists(cluster: &Cluster, item: &Item) -> Lists {
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

/// The lists of an endpoint, and those of them that are merged.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) lists: Lists,
    pub(super) merged: Vec<MergedList>,
}

/// Lists that were put in order: endpoints that the same policies select have the same, and to see that costs less than
/// to sort a thousand policies once more.
#[derive(Default)]
pub(super) struct Orders<'a> {
    known: Vec<(bool, &'a BTreeSet<PolicyId>, Arc<Ordered>)>,
}

/// Lists that are remembered.
const ORDERS_MAX: usize = 64;

impl<'a> Orders<'a> {
    /// The lists of an endpoint.
    pub(super) fn of(&mut self, cluster: &'a Cluster, item: &Item) -> Arc<Ordered> {
        let is_host = matches!(item, Item::Host(_));
        let matched = cluster.local_index.matched(item);
        let is_same = |(own, set, _): &&(bool, &BTreeSet<PolicyId>, Arc<Ordered>)| {
            *own == is_host && Some(*set) == matched
        };
        if let Some((_, _, known)) = self.known.iter().find(is_same) {
            return Arc::clone(known);
        }
        let lists = lists(cluster, item);
        let merged = merged_lists(&lists);
        let ordered = Arc::new(Ordered { lists, merged });
        if let Some(matched) = matched.filter(|_| self.known.len() < ORDERS_MAX) {
            self.known.push((is_host, matched, Arc::clone(&ordered)));
        }
        ordered
    }
}

/// The lists that are merged.
fn merged_lists(lists: &Lists) -> Vec<MergedList> {
    let mut merged = Vec::new();
    for ((direction, scope), tiers) in lists {
        for tier in tiers.iter().filter(|tier| tier.is_merged()) {
            let place = Place {
                direction: *direction,
                scope: *scope,
                tier: tier.name.clone(),
            };
            merged.push(MergedList::new(place, tier.enforced().cloned().collect()));
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
        let rules = endpoint::host_forward(direction, &tiers, config);
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

pub(super) fn chain_interface(interface: &str) -> &str {
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

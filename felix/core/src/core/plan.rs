//! What endpoints of this node need: chains, routes, interfaces, status files.
//!
//! Owns who has an interface, an address or a chain when several claim it: the first by key. Each endpoint is written
//! by itself, so that a change costs what the endpoint costs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::cluster::{Changes, Cluster, Local};
use super::endpoints::{self, Ordered, Orders, Written};
use super::interfaces::Interfaces;
use super::lists::{Bundles, Scope, TierList};
use super::network;
use super::output::Output;
use super::owners::{Owner, Owners};
use crate::calc::model::Direction;
use crate::calc::sets::Item;
use crate::config::Config;
use crate::desired::{Route, TableName};

/// Lists of policies by direction and scope.
pub(super) type Lists = BTreeMap<(Direction, Scope), Vec<TierList>>;

/// Who claims a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    /// An endpoint.
    Endpoint(Item),
    /// The blocks of the node and of others.
    Blocks,
}

/// Routes by destination, and who claims them: the first has it.
#[derive(Debug, Default)]
pub(super) struct Claims {
    by_net: BTreeMap<IpNet, BTreeMap<Claim, Route>>,
    by_claim: BTreeMap<Claim, BTreeSet<IpNet>>,
}

impl Claims {
    /// Sets all routes that one claims.
    pub(super) fn set(&mut self, claim: Claim, routes: BTreeMap<IpNet, Route>, output: &mut Output) {
        let nets: BTreeSet<IpNet> = routes.keys().copied().collect();
        let before = self.by_claim.remove(&claim).unwrap_or_default();
        if !nets.is_empty() {
            self.by_claim.insert(claim.clone(), nets);
        }
        for net in before.iter().filter(|net| !routes.contains_key(*net)) {
            if let Some(claims) = self.by_net.get_mut(net) {
                claims.remove(&claim);
                if claims.is_empty() {
                    self.by_net.remove(net);
                }
            }
            output.route(*net, self.first(net));
        }
        for (net, route) in routes {
            self.by_net.entry(net).or_default().insert(claim.clone(), route);
            output.route(net, self.first(&net));
        }
    }

    fn first(&self, net: &IpNet) -> Option<Route> {
        let claims = self.by_net.get(net)?;
        claims.first_key_value().map(|(_, route)| route.clone())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Plan {
    endpoints: BTreeMap<Item, Written>,
    /// Who claims an interface; host endpoints apart from workloads.
    claims: BTreeMap<(bool, String), BTreeSet<Item>>,
    claimed: BTreeMap<Item, (bool, String)>,
    pub(super) routes: Claims,
    pub(super) owners: Owners,
    pub(super) bundles: Bundles,
    dispatched: BTreeSet<(TableName, String)>,
    dispatch: Interfaces,
}

impl Plan {
    /// Number of endpoints that are programmed.
    pub(super) fn endpoint_count(&self) -> usize {
        self.endpoints.len()
    }

    /// Writes what changes mean for endpoints.
    pub(super) fn write(
        &mut self,
        cluster: &mut Cluster,
        changes: &Changes,
        is_all: bool,
        config: &Config,
        output: &mut Output,
    ) {
        let mut items = changes.items.clone();
        if is_all || changes.endpoints {
            items.extend(cluster.locals.keys().cloned());
            items.extend(self.claimed.keys().cloned());
        }
        self.claim(cluster, &mut items);
        self.mark(cluster, changes, is_all);
        let mut orders = Orders::default();
        let mut lists: BTreeMap<Item, Arc<Ordered>> = BTreeMap::new();
        for item in &items {
            let found = self.owned(cluster, item).map(|_| orders.of(cluster, item));
            let merged = found.as_ref().map(|found| found.merged.as_slice());
            self.bundles.set(item, merged.unwrap_or_default());
            lists.extend(found.map(|found| (item.clone(), found)));
        }
        let settled = self.bundles.settle();
        for id in settled.bundles {
            self.owners.mark(Owner::Bundle(id));
        }
        for item in settled.items {
            if items.insert(item.clone()) {
                lists.insert(item.clone(), orders.of(cluster, &item));
            }
        }
        for item in &items {
            let lists = lists.get(item).map(|ordered| &ordered.lists);
            self.write_endpoint(cluster, item, lists, config, output);
        }
        self.owners.write(cluster, &self.bundles, config, output);
        self.write_dispatch(is_all, config, output);
    }

    /// Brings up to date who claims what; whom that concerns is written too.
    fn claim(&mut self, cluster: &Cluster, items: &mut BTreeSet<Item>) {
        let mut concerned = BTreeSet::new();
        for item in &*items {
            let wanted = cluster.locals.get(item).and_then(|local| {
                let interface = endpoints::interface_of(cluster, local)?;
                Some((local.is_host, interface))
            });
            let before = self.claimed.get(item).cloned();
            if before == wanted {
                continue;
            }
            for (key, is_gone) in [(before, true), (wanted.clone(), false)] {
                let Some(key) = key else { continue };
                let claims = self.claims.entry(key.clone()).or_default();
                concerned.extend(claims.iter().cloned());
                if is_gone {
                    claims.remove(item);
                } else {
                    claims.insert(item.clone());
                }
                if claims.is_empty() {
                    self.claims.remove(&key);
                }
            }
            match wanted {
                Some(wanted) => self.claimed.insert(item.clone(), wanted),
                None => self.claimed.remove(item),
            };
        }
        items.extend(concerned);
    }

    /// The endpoint, if it is here and has its interface.
    fn owned<'a>(&self, cluster: &'a Cluster, item: &Item) -> Option<(&'a Local, String)> {
        let local = cluster.locals.get(item)?;
        let key = self.claimed.get(item)?;
        let is_first = self.claims.get(key)?.first() == Some(item);
        is_first.then(|| (local, key.1.clone()))
    }

    /// Marks chains of policies and profiles whose content changed.
    fn mark(&mut self, cluster: &mut Cluster, changes: &Changes, is_all: bool) {
        if is_all {
            self.owners.mark_all();
        }
        for id in &changes.policies {
            for direction in Direction::ALL {
                self.owners.mark(Owner::Policy(direction, id.clone()));
            }
            for item in cluster.local_index.items_of(id) {
                let ids: Vec<_> = self.bundles.ids_of(item).collect();
                ids.into_iter().for_each(|id| self.owners.mark(Owner::Bundle(id)));
            }
        }
        for name in &changes.profiles {
            for direction in Direction::ALL {
                self.owners.mark(Owner::Profile(direction, name.clone()));
            }
        }
        if cluster.sets.take_size_crossed() {
            let ids: Vec<_> = self.bundles.ids().cloned().collect();
            ids.into_iter().for_each(|id| self.owners.mark(Owner::Bundle(id)));
        }
    }

    fn write_endpoint(
        &mut self,
        cluster: &Cluster,
        item: &Item,
        lists: Option<&Lists>,
        config: &Config,
        output: &mut Output,
    ) {
        let before = self.endpoints.remove(item).unwrap_or_default();
        let found = self.owned(cluster, item).zip(lists);
        let written = found.map(|((local, interface), lists)| {
            let name_of = |place: &super::lists::Place| self.bundles.id_of(item, place);
            endpoints::written(local, &interface, lists, &name_of, config)
        });
        let (chains, uses) = written.as_ref().map_or((&[][..], &[][..]), |written| {
            (written.chains.as_slice(), written.uses.as_slice())
        });
        self.owners.change_uses(&before.uses, uses);
        let names: BTreeSet<(TableName, &String)> =
            chains.iter().map(|(table, name, _)| (*table, name)).collect();
        for (table, name, _) in &before.chains {
            if !names.contains(&(*table, name)) {
                output.chain(*table, name, None);
            }
        }
        for (table, name, rules) in chains {
            output.chain(*table, name, Some(rules));
        }
        let is_workload = |written: &Written| !written.is_host && !written.interface.is_empty();
        let network = written
            .as_ref()
            .filter(|written| is_workload(written))
            .and_then(|written| {
                let local = cluster.locals.get(item)?;
                Some(network::endpoint(&written.interface, local, config))
            });
        let network = network.unwrap_or_default();
        self.routes
            .set(Claim::Endpoint(item.clone()), network.routes, output);
        let status = network.status.as_ref().map(|(name, _)| name.clone());
        if is_workload(&before) {
            let is_moved = written
                .as_ref()
                .is_none_or(|new| new.interface != before.interface);
            let is_taken = self.claims.contains_key(&(false, before.interface.clone()));
            if is_moved && !is_taken {
                output.interface(&before.interface, None);
            }
            if let Some(name) = before.status.filter(|name| status.as_ref() != Some(name)) {
                output.status(&name, None);
            }
        }
        self.dispatch.remove(item);
        let Some(mut written) = written else { return };
        if let Some(interface) = network.interface {
            output.interface(&written.interface, Some(interface));
        }
        if let Some((name, status)) = network.status {
            output.status(&name, Some(status));
        }
        written.status = status;
        if let Some(local) = cluster.locals.get(item) {
            self.dispatch.insert(item, &written.interface, local);
        }
        // Compared by name alone from here on.
        written.chains.iter_mut().for_each(|(_, _, rules)| {
            rules.clear();
            rules.shrink_to_fit();
        });
        self.endpoints.insert(item.clone(), written);
    }

    /// Writes the chains that lead to those of endpoints.
    fn write_dispatch(&mut self, is_all: bool, config: &Config, output: &mut Output) {
        if !self.dispatch.take_changed() && !is_all {
            return;
        }
        let mut written = BTreeSet::new();
        for (table, name, rules) in self.dispatch.chains(config, output) {
            output.chain(table, &name, Some(&rules));
            written.insert((table, name));
        }
        for (table, name) in self.dispatched.difference(&written) {
            output.chain(*table, name, None);
        }
        self.dispatched = written;
    }
}

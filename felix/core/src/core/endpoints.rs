//! The chains of the filter table that depend on endpoints and policies.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{Cluster, Local};
use crate::calc::model::{Direction, Policy, PolicyId, compare_orders};
use crate::calc::sets::Item;
use crate::config::Config;
use crate::desired::IpVersion;
use crate::rules::endpoint::{self, EndpointTier, policy_chain, profile_chain, workload_chain};
use crate::rules::{Rule, dispatch, policy};

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// Endpoints of this node by interface. Should two claim one interface, the first by key has it.
pub(super) fn by_interface(cluster: &Cluster) -> BTreeMap<&str, (&Item, &Local)> {
    let mut found = BTreeMap::new();
    for (item, local) in &cluster.locals {
        found.entry(local.interface.as_str()).or_insert((item, local));
    }
    found
}

pub(super) fn filter_chains(
    cluster: &Cluster,
    version: IpVersion,
    config: &Config,
) -> BTreeMap<String, Vec<Rule>> {
    let mut chains = BTreeMap::new();
    let endpoints = by_interface(cluster);
    let interfaces: BTreeSet<String> = endpoints.keys().map(|name| (*name).to_owned()).collect();
    for direction in DIRECTIONS {
        chains.extend(dispatch::workloads(direction, &interfaces, config));
        for (interface, (item, local)) in &endpoints {
            let tiers = tiers(cluster, item, direction);
            let rules = endpoint::workload(direction, &tiers, &local.profiles, config);
            chains.insert(workload_chain(direction, interface), rules);
        }
        let word = match direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        for id in cluster.active_policies() {
            let rules = cluster
                .policies
                .get(id)
                .and_then(|policy| policy.rules(direction));
            let Some(rules) = rules else { continue };
            let title = format!("Policy {} {word}", id.shown());
            let rules = policy::chain(rules, version, config, &title);
            chains.insert(policy_chain(direction, &id.text()), rules);
        }
        let profiles: BTreeSet<&String> = endpoints
            .values()
            .flat_map(|(_, local)| &local.profiles)
            .collect();
        for name in profiles {
            // A profile that is not there allows nothing.
            let rules = cluster.profiles.get(name).map(|profile| match direction {
                Direction::Ingress => profile.ingress.as_slice(),
                Direction::Egress => profile.egress.as_slice(),
            });
            let title = format!("Profile {name} {word}");
            let rules = policy::chain(rules.unwrap_or_default(), version, config, &title);
            chains.insert(profile_chain(direction, name), rules);
        }
    }
    chains
}

/// The tiers with policies that have a say about an endpoint in one direction, in order.
pub(super) fn tiers(cluster: &Cluster, item: &Item, direction: Direction) -> Vec<EndpointTier> {
    let with_policy = |id| cluster.policies.get(id).map(|policy| (id, policy));
    let selected = cluster.local_index.selectors_of(item).filter_map(with_policy);
    let mut selected: Vec<(&PolicyId, &Policy)> = selected
        .filter(|(_, policy)| policy.rules(direction).is_some())
        .collect();
    selected.sort_by(|(a_id, a), (b_id, b)| {
        let tier_order = |policy: &Policy| cluster.tier(&policy.tier).0;
        let names = |id: &PolicyId| (id.key.name.clone(), id.key.namespace.clone(), id.kind);
        compare_orders(tier_order(a), tier_order(b))
            .then_with(|| a.tier.cmp(&b.tier))
            .then_with(|| compare_orders(a.order, b.order))
            .then_with(|| names(a_id).cmp(&names(b_id)))
    });
    let mut tiers: Vec<EndpointTier> = Vec::new();
    for (id, policy) in selected {
        if tiers.last().is_none_or(|tier| tier.name != policy.tier) {
            tiers.push(EndpointTier {
                name: policy.tier.clone(),
                is_deny_default: cluster.tier(&policy.tier).1,
                policies: Vec::new(),
            });
        }
        if let Some(tier) = tiers.last_mut() {
            tier.policies.push(id.text());
        }
    }
    tiers
}

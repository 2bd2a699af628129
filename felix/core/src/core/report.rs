//! The report about all policies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Core;
use super::questions::wanted;
use crate::calc::model::{Direction, Policy, PolicyId, RuleModel, SetSource, SetSpec};
use crate::calc::sets::Item;
use crate::eval::Criterion;
use crate::report::{Finding, PolicyReport, Report, covers};

/// Rules of policies for the same endpoints that are compared with each other; with more, each policy stands alone.
const COMPARED_MAX: usize = 2_000;

impl Core {
    /// Whom each policy selects, on all nodes, and what of it does nothing.
    #[must_use]
    pub fn report(&self) -> Report {
        let cluster = &self.cluster;
        let ids = self.ids_in_order();
        let mut policies: BTreeMap<&PolicyId, PolicyReport> = BTreeMap::new();
        let mut ruled: BTreeSet<(Item, Direction)> = BTreeSet::new();
        for id in &ids {
            let Some(policy) = cluster.policies.get(id) else {
                continue;
            };
            let selected = cluster.sets.selected(&policy.selector).into_iter();
            let endpoints: Vec<Item> = selected
                .filter(|item| !matches!(item, Item::NetworkSet(_)))
                .collect();
            let directions = Direction::ALL.into_iter();
            let directions: Vec<Direction> = directions
                .filter(|direction| policy.rules(*direction).is_some())
                .collect();
            if !id.kind.is_staged() {
                let own = endpoints
                    .iter()
                    .flat_map(|item| directions.iter().map(|d| (item.clone(), *d)));
                ruled.extend(own);
            }
            let mut findings = Vec::new();
            if endpoints.is_empty() {
                findings.push(Finding::Unused);
            }
            self.find_empty(policy, &mut findings);
            let report = PolicyReport {
                id: id.clone(),
                tier: policy.tier.clone(),
                order: policy.order,
                selector: policy.selector.canonical().to_owned(),
                directions,
                endpoints,
                findings,
            };
            policies.insert(id, report);
        }
        for (id, finding) in self.shadowed(&ids) {
            if let Some(report) = policies.get_mut(&id) {
                report.findings.push(finding);
            }
        }
        let workloads = cluster
            .sets
            .items()
            .filter(|item| matches!(item, Item::Pod(_) | Item::Workload(_)));
        let sides = workloads.flat_map(|item| Direction::ALL.map(|direction| (item.clone(), direction)));
        Report {
            unselected: sides.filter(|side| !ruled.contains(side)).collect(),
            policies: ids.iter().filter_map(|id| policies.remove(id)).collect(),
        }
    }

    /// All policies, by tier and order.
    fn ids_in_order(&self) -> Vec<PolicyId> {
        let mut policies: Vec<(&PolicyId, &Policy)> = self.cluster.policies.iter().collect();
        let order_of = |order: Option<f64>| order.map_or((1, 0), |order| (0, sortable(order)));
        policies.sort_by_cached_key(|(id, policy)| {
            let tier = (order_of(self.cluster.tier(&policy.tier).0), &policy.tier);
            let key = &id.key;
            (tier, order_of(policy.order), &key.name, &key.namespace, id.kind)
        });
        policies.into_iter().map(|(id, _)| id.clone()).collect()
    }

    fn find_empty(&self, policy: &Policy, findings: &mut Vec<Finding>) {
        for direction in Direction::ALL {
            for rule in policy.rules(direction).unwrap_or_default() {
                let ends = [
                    (Criterion::Source, Criterion::SourcePort, &rule.source),
                    (
                        Criterion::Destination,
                        Criterion::DestinationPort,
                        &rule.destination,
                    ),
                ];
                for (at, port, peer) in ends {
                    let is_nobody = peer.sets.iter().any(|set| self.is_empty_set(set));
                    let is_no_port = peer.ports.is_empty()
                        && !peer.named_ports.is_empty()
                        && peer.named_ports.iter().all(|set| self.is_empty_set(set));
                    for (end, is_empty) in [(at, is_nobody), (port, is_no_port)] {
                        if is_empty {
                            let (rule_number, wanted) = (rule.index, wanted(rule, end));
                            findings.push(Finding::Empty {
                                direction,
                                rule: rule_number,
                                end,
                                wanted,
                            });
                        }
                    }
                }
            }
        }
    }

    /// Nothing is in a set, wherever one looks.
    fn is_empty_set(&self, set: &Arc<SetSpec>) -> bool {
        let sets = &self.cluster.sets;
        match &set.source {
            SetSource::Selector(selector) => sets.selected(selector).is_empty(),
            SetSource::NamedPort {
                selector,
                protocol,
                port,
            } => {
                let has_port = |item: &Item| {
                    let ports = sets
                        .addresses_of(item)
                        .map(|addresses| addresses.ports.as_slice());
                    let mut ports = ports.unwrap_or_default().iter();
                    ports.any(|(name, number, _)| name == port && number == protocol)
                };
                !sets.selected(selector).iter().any(has_port)
            }
            SetSource::Nets(nets) => nets.is_empty(),
            SetSource::Service { service, .. } => sets.service(service).all(|slice| slice.nets.is_empty()),
        }
    }

    /// Rules that come after others which match all that they do: within a policy, and among policies of one tier
    /// for the same endpoints.
    fn shadowed(&self, ids: &[PolicyId]) -> Vec<(PolicyId, Finding)> {
        type Numbered<'a> = (&'a PolicyId, &'a RuleModel);
        let mut found = Vec::new();
        for direction in Direction::ALL {
            let mut groups: BTreeMap<_, Vec<Numbered<'_>>> = BTreeMap::new();
            for id in ids {
                let Some(policy) = self.cluster.policies.get(id) else {
                    continue;
                };
                let alone = id.kind.is_staged().then_some(id);
                let place = (policy.tier.as_str(), policy.selector.canonical(), policy.stage);
                let place = (place, policy.is_applied_on_forward, alone);
                let rules = policy.rules(direction).unwrap_or_default().iter();
                groups
                    .entry(place)
                    .or_default()
                    .extend(rules.map(|rule| (id, rule)));
            }
            for rules in groups.into_values() {
                let is_many = rules.len() > COMPARED_MAX;
                for (place, (id, rule)) in rules.iter().enumerate() {
                    let mut earlier = rules
                        .iter()
                        .take(place)
                        .filter(|(other, _)| !is_many || other == id);
                    let Some((by, by_rule)) = earlier.find(|(_, earlier)| covers(earlier, rule)) else {
                        continue;
                    };
                    let finding = Finding::Shadowed {
                        direction,
                        rule: rule.index,
                        by: (*by).clone(),
                        by_rule: by_rule.index,
                    };
                    found.push(((*id).clone(), finding));
                }
            }
        }
        found
    }
}

/// A number that sorts as the float does.
const fn sortable(order: f64) -> i64 {
    let bits = order.to_bits().cast_signed();
    bits ^ (((bits >> 63).cast_unsigned()) >> 1).cast_signed()
}

//! What to ask, to free and to take away, from the snapshot and what was noticed before. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use caracal_api::confirmation::{ADDRESSES_MAX, Answer, Question};
use caracal_api::meta::LABEL_AFFINITY_TYPE;
use caracal_api::names::veth_name;
use caracal_ipam::Block;
use ipnet::IpNet;
use jiff::Timestamp;

use super::allocations::{Allocation, Holder, Id, host_of};
use super::verdict::{Verdict, verdict};
use crate::cluster::Cluster;

/// A question that was not answered for so long is put again, with what has come up meanwhile.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// What is remembered between looks.
#[derive(Debug, Default)]
pub struct Memory {
    /// Addresses that were nobody's at the last look.
    pub(super) suspects: BTreeMap<Id, Suspect>,
    /// Questions put by this process, by node.
    pub(super) asked: BTreeMap<String, Asked>,
    /// Blocks that were empty at the last look.
    empty: BTreeMap<IpNet, Empty>,
}

/// An address that seems to be nobody's.
#[derive(Clone, Debug)]
pub(super) struct Suspect {
    pub(super) node: String,
    pub(super) block: IpNet,
    since: Instant,
    /// The question about it, if one was put after its grace period.
    question: Option<String>,
}

/// A question that was put.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    id: String,
    at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Empty {
    since: Instant,
    looks: u32,
}

/// A question for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The node.
    pub node: String,
    /// The addresses with their interfaces; none takes the question away.
    pub addresses: BTreeMap<IpAddr, String>,
}

/// All addresses of one handle that are to be freed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaim {
    /// The addresses.
    pub allocations: Vec<Allocation>,
    /// Why.
    pub reason: &'static str,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Questions for nodes.
    pub ask: Vec<Ask>,
    /// Addresses to free.
    pub reclaim: Vec<Reclaim>,
    /// Blocks with addresses whose cooldown is over.
    pub cooled: Vec<IpNet>,
    /// Empty blocks to take from their nodes.
    pub empty: Vec<(IpNet, String)>,
    /// Nodes that are gone and have nothing left but blocks.
    pub nodes: Vec<String>,
    /// Nodes whose claims lack the labels by which they are found.
    pub unlabelled: BTreeSet<String>,
    /// When something is to be looked at again, if nothing changes.
    pub again: Option<Duration>,
}

impl Plan {
    fn again_in(&mut self, delay: Duration) {
        self.again = Some(self.again.map_or(delay, |again| again.min(delay)));
    }
}

/// What is found about the allocations of one node.
#[derive(Default)]
struct OfNode<'a> {
    keeps: bool,
    tunnels: Vec<&'a Allocation>,
    leaked: Vec<(&'a Allocation, &'static str)>,
}

impl Memory {
    /// What is to be done now. `grace` is how long an address without owner is kept while its node is there; `None` =
    /// for ever.
    pub fn plan(
        &mut self,
        cluster: &Cluster,
        allocations: &[Allocation],
        grace: Option<Duration>,
        now: Instant,
        wall: Timestamp,
    ) -> Plan {
        let mut plan = Plan::default();
        let nodes = by_node(cluster, allocations);
        self.note(&nodes, now);
        let free = self.freed(cluster, &nodes, grace, now, &mut plan);
        plan.reclaim = by_handle(allocations, &free);
        plan_cooled(cluster, wall, &mut plan);
        self.plan_empty(cluster, grace, now, &mut plan);
        plan.nodes = gone_nodes(cluster, &nodes);
        plan.unlabelled = unlabelled(cluster);
        plan
    }

    /// A question was put, about these addresses of a node.
    pub(super) fn was_asked(&mut self, ask: &Ask, id: &str, now: Instant) {
        if ask.addresses.is_empty() {
            self.asked.remove(&ask.node);
            return;
        }
        for (suspect_id, suspect) in &mut self.suspects {
            if suspect.node == ask.node && ask.addresses.contains_key(&suspect_id.address) {
                suspect.question = Some(id.to_owned());
            }
        }
        let asked = Asked {
            id: id.to_owned(),
            at: now,
        };
        self.asked.insert(ask.node.clone(), asked);
    }

    /// How many addresses of each node wait for its answer.
    pub(super) fn unanswered<'a>(&'a self, cluster: &Cluster) -> BTreeMap<&'a str, i64> {
        let mut waiting = BTreeMap::new();
        for suspect in self.suspects.values() {
            let annotations = cluster
                .nodes
                .get(&suspect.node)
                .and_then(|node| node.metadata.annotations.as_ref());
            let answered = Answer::of(annotations).map(|answer| answer.id);
            if suspect.question.is_some() && suspect.question != answered {
                *waiting.entry(suspect.node.as_str()).or_default() += 1;
            }
        }
        waiting
    }

    /// Notes new suspects, and forgets those that are somebody's again or gone.
    fn note(&mut self, nodes: &BTreeMap<&str, OfNode<'_>>, now: Instant) {
        let mut before = std::mem::take(&mut self.suspects);
        for of_node in nodes.values() {
            for (allocation, _) in &of_node.leaked {
                let suspect = before.remove(&allocation.id).unwrap_or_else(|| Suspect {
                    node: allocation.node.clone(),
                    block: allocation.block,
                    since: now,
                    question: None,
                });
                self.suspects.insert(allocation.id.clone(), suspect);
            }
        }
    }

    /// The addresses that may be freed, with the reason; questions go into the plan.
    fn freed(
        &mut self,
        cluster: &Cluster,
        nodes: &BTreeMap<&str, OfNode<'_>>,
        grace: Option<Duration>,
        now: Instant,
        plan: &mut Plan,
    ) -> BTreeMap<Id, &'static str> {
        let mut free = BTreeMap::new();
        for (name, of_node) in nodes {
            if !name.is_empty() && !cluster.nodes.contains_key(*name) {
                free.extend(
                    of_node
                        .leaked
                        .iter()
                        .map(|(leaked, reason)| (leaked.id.clone(), *reason)),
                );
                if !of_node.keeps {
                    let tunnels = of_node.tunnels.iter();
                    free.extend(tunnels.map(|tunnel| (tunnel.id.clone(), "the node does not exist")));
                }
            } else if let Some(grace) = grace {
                free.extend(self.confirmed(cluster, name, of_node, grace, now, plan));
            }
        }
        self.withdraw(cluster, nodes, grace, plan);
        free
    }

    /// The addresses of a node that is there which it has confirmed not to have; asks about the others.
    fn confirmed(
        &mut self,
        cluster: &Cluster,
        node: &str,
        of_node: &OfNode<'_>,
        grace: Duration,
        now: Instant,
        plan: &mut Plan,
    ) -> Vec<(Id, &'static str)> {
        let annotations = cluster
            .nodes
            .get(node)
            .and_then(|node| node.metadata.annotations.as_ref());
        let asked = self.asked.get(node).cloned();
        let answer = Answer::of(annotations)
            .filter(|answer| asked.as_ref().is_some_and(|asked| asked.id == answer.id));
        let mut free = Vec::new();
        let mut ask = BTreeMap::new();
        for (leaked, reason) in &of_node.leaked {
            let Some(suspect) = self.suspects.get_mut(&leaked.id) else {
                continue;
            };
            let age = now.saturating_duration_since(suspect.since);
            if age < grace {
                plan.again_in(grace - age);
                continue;
            }
            // Nobody can be asked where it was assigned.
            if node.is_empty() {
                free.push((leaked.id.clone(), *reason));
                continue;
            }
            match (&answer, &suspect.question) {
                (Some(answer), Some(question)) if *question == answer.id => {
                    if answer.held.contains(&leaked.id.address) {
                        // Its node has it: it is asked again after another grace period.
                        suspect.since = now;
                        suspect.question = None;
                        plan.again_in(grace);
                    } else {
                        free.push((leaked.id.clone(), *reason));
                    }
                }
                _ if ask.len() < ADDRESSES_MAX => {
                    ask.insert(leaked.id.address, interface_of(leaked));
                }
                _ => plan.again_in(ASK_AGAIN),
            }
        }
        let waits = asked
            .filter(|_| answer.is_none())
            .map(|asked| ASK_AGAIN.saturating_sub(now.saturating_duration_since(asked.at)))
            .filter(|wait| !wait.is_zero());
        match waits {
            _ if ask.is_empty() => {}
            Some(wait) => plan.again_in(wait),
            None => plan.ask.push(Ask {
                node: node.to_owned(),
                addresses: ask,
            }),
        }
        free
    }

    /// Takes questions away that no address is left for, those of an earlier leader too.
    fn withdraw(
        &mut self,
        cluster: &Cluster,
        nodes: &BTreeMap<&str, OfNode<'_>>,
        grace: Option<Duration>,
        plan: &mut Plan,
    ) {
        for (name, node) in &cluster.nodes {
            if Question::of(node.metadata.annotations.as_ref()).is_none() {
                continue;
            }
            let open = grace.is_some()
                && nodes
                    .get(name.as_str())
                    .is_some_and(|of_node| !of_node.leaked.is_empty());
            if !open {
                plan.ask.push(Ask {
                    node: name.clone(),
                    addresses: BTreeMap::new(),
                });
            }
        }
        self.asked.retain(|name, _| cluster.nodes.contains_key(name));
    }

    /// Empty blocks that have been so for the grace period and at least two looks; each node keeps one of each family.
    fn plan_empty(&mut self, cluster: &Cluster, grace: Option<Duration>, now: Instant, plan: &mut Plan) {
        let mut before = std::mem::take(&mut self.empty);
        let Some(grace) = grace else { return };
        let mut owned: BTreeMap<(&str, bool), Vec<(IpNet, bool)>> = BTreeMap::new();
        for (cidr, stored) in cluster.live_blocks() {
            let Some(node) = stored.spec.affinity.as_deref().and_then(host_of) else {
                continue;
            };
            let empty = is_empty(stored);
            let blocks = owned.entry((node, cidr.addr().is_ipv4())).or_default();
            blocks.push((cidr, empty));
            if empty {
                let seen = before.remove(&cidr).unwrap_or(Empty { since: now, looks: 0 });
                let looks = seen.looks.saturating_add(1);
                self.empty.insert(cidr, Empty { looks, ..seen });
            }
        }
        for ((node, _), mut blocks) in owned {
            blocks.sort_unstable();
            let mut left = blocks.len();
            for (cidr, _) in blocks.iter().filter(|(_, empty)| *empty) {
                let Some(seen) = self.empty.get(cidr) else {
                    continue;
                };
                let age = now.saturating_duration_since(seen.since);
                if left < 2 {
                    break;
                }
                if age < grace || seen.looks < 2 {
                    plan.again_in((grace.saturating_sub(age)).max(Duration::from_secs(1)));
                    continue;
                }
                left -= 1;
                plan.empty.push((*cidr, node.to_owned()));
            }
        }
    }
}

fn by_node<'a>(cluster: &Cluster, allocations: &'a [Allocation]) -> BTreeMap<&'a str, OfNode<'a>> {
    let mut nodes: BTreeMap<&str, OfNode<'_>> = BTreeMap::new();
    for allocation in allocations {
        let verdict = verdict(cluster, allocation);
        let of_node = nodes.entry(allocation.node.as_str()).or_default();
        match verdict {
            Verdict::Valid | Verdict::Unknown => of_node.keeps = true,
            Verdict::OfNode => of_node.tunnels.push(allocation),
            Verdict::Leaked(reason) => of_node.leaked.push((allocation, reason)),
            Verdict::Nobody => {}
        }
    }
    nodes
}

/// Groups what may be freed by handle; a handle of which one address is still somebody's stays whole.
fn by_handle(allocations: &[Allocation], free: &BTreeMap<Id, &'static str>) -> Vec<Reclaim> {
    let mut handles: BTreeMap<&str, Vec<&Allocation>> = BTreeMap::new();
    let mut reclaims = Vec::new();
    for allocation in allocations {
        match allocation.id.handle.as_deref() {
            Some(handle) => handles.entry(handle).or_default().push(allocation),
            None => {
                if let Some(reason) = free.get(&allocation.id) {
                    reclaims.push(Reclaim {
                        allocations: vec![allocation.clone()],
                        reason,
                    });
                }
            }
        }
    }
    for group in handles.into_values() {
        let reason = group.iter().find_map(|allocation| free.get(&allocation.id));
        if let Some(reason) = reason
            && group.iter().all(|allocation| free.contains_key(&allocation.id))
        {
            reclaims.push(Reclaim {
                allocations: group.into_iter().cloned().collect(),
                reason,
            });
        }
    }
    reclaims
}

/// Blocks with addresses whose cooldown is over: their object is written so that they can be assigned again.
fn plan_cooled(cluster: &Cluster, wall: Timestamp, plan: &mut Plan) {
    let cooldown = cluster.ipam_configuration.as_ref().map_or(0, |configuration| {
        i64::from(configuration.spec.ip_cooldown_seconds)
    });
    for (cidr, stored) in cluster.live_blocks() {
        let releases = stored
            .spec
            .attributes
            .iter()
            .filter_map(|attribute| attribute.released_at.as_deref());
        // A mark that cannot be read would keep its address for ever.
        let ends = releases.map(|at| {
            at.parse::<Timestamp>()
                .map_or(i64::MIN, |at| at.as_second().saturating_add(cooldown.max(0)))
        });
        let Some(first) = ends.min() else { continue };
        let left = first.saturating_sub(wall.as_second());
        if left < 0 {
            plan.cooled.push(cidr);
        } else {
            plan.again_in(Duration::from_secs(
                u64::try_from(left).unwrap_or(0).saturating_add(1),
            ));
        }
    }
}

/// Nodes that are gone, still have blocks, and nothing that would keep these.
fn gone_nodes(cluster: &Cluster, nodes: &BTreeMap<&str, OfNode<'_>>) -> Vec<String> {
    let owners: BTreeSet<&str> = cluster
        .affinities
        .values()
        .filter(|affinity| affinity.spec.type_ != "virtual" && !affinity.spec.node.is_empty())
        .map(|affinity| affinity.spec.node.as_str())
        .collect();
    owners
        .into_iter()
        .filter(|owner| !cluster.nodes.contains_key(*owner))
        .filter(|owner| nodes.get(owner).is_none_or(|of_node| !of_node.keeps))
        .map(ToOwned::to_owned)
        .collect()
}

fn unlabelled(cluster: &Cluster) -> BTreeSet<String> {
    cluster
        .affinities
        .values()
        .filter(|affinity| !affinity.spec.deleted && cluster.nodes.contains_key(&affinity.spec.node))
        .filter(|affinity| {
            let labels = affinity.metadata.labels.as_ref();
            labels.is_none_or(|labels| !labels.contains_key(LABEL_AFFINITY_TYPE))
        })
        .map(|affinity| affinity.spec.node.clone())
        .collect()
}

/// True for a block that has no address but those that Windows sets aside.
fn is_empty(stored: &caracal_api::v3::IPAMBlock) -> bool {
    Block::from_spec(stored.spec.clone()).is_ok_and(|block| {
        block.assignments().all(|(_, attribute)| {
            let handle = attribute.handle_id.as_deref().unwrap_or_default();
            handle.eq_ignore_ascii_case("windows-reserved-ipam-handle")
        })
    })
}

/// The host's end of a pod's interface, as the CNI plugin names it.
fn interface_of(allocation: &Allocation) -> String {
    match &allocation.holder {
        Holder::Pod { namespace, name } => veth_name(namespace, name),
        Holder::Node | Holder::Machine | Holder::Windows | Holder::Other => String::new(),
    }
}

#[cfg(test)]
mod tests;

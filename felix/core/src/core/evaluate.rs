//! Questions about packets, answered from what is known of the cluster.

use super::Core;
use super::cluster::Cluster;
use super::lists::{self, Scope, TierList};
use crate::calc::model::{Direction, PolicyId, RuleAction, version_of};
use crate::calc::sets::Item;
use crate::config::Config;
use crate::eval::{Evaluation, Explained, Packet, Place, Question, Reason, Step, Trace, Verdict};

impl Core {
    /// The workloads that have an address, on whatever node.
    #[must_use]
    pub fn workloads_at(&self, address: std::net::IpAddr) -> Vec<Item> {
        let items = self.cluster.sets.items_with(address).into_iter();
        let workloads = items.filter(|item| matches!(item, Item::Pod(_) | Item::Workload(_)));
        workloads.cloned().collect()
    }

    /// What the policies of an endpoint say about a packet in one direction. The endpoint may be on any node; one that
    /// is not known has no policies and no profiles, which denies. Host endpoints have a say at several places, workloads
    /// only at [`Place::Own`].
    #[must_use]
    pub fn evaluate(
        &self,
        endpoint: &Item,
        direction: Direction,
        place: Place,
        packet: &Packet,
    ) -> Evaluation {
        self.evaluate_with(&self.config, endpoint, direction, place, packet)
    }

    /// The same with the parameters of the endpoint's node, see [`config_of`](Self::config_of).
    #[must_use]
    pub fn evaluate_with(
        &self,
        config: &Config,
        endpoint: &Item,
        direction: Direction,
        place: Place,
        packet: &Packet,
    ) -> Evaluation {
        let question = Question::new(packet, &self.cluster.sets);
        self.answer(config, endpoint, direction, place, &question)
    }

    /// What this node knows of packets that its rules met: who has their addresses, and what the policies of its own
    /// endpoint say. Costs one look at all addresses, however many packets there are.
    #[must_use]
    pub fn explain(&self, packets: &[(Packet, Direction)]) -> Vec<Explained> {
        let ends = packets
            .iter()
            .flat_map(|(packet, _)| [packet.source, packet.destination]);
        let items = self.cluster.sets.items_at(&ends.collect());
        let at = |address| items.get(&address).cloned().unwrap_or_default();
        let explain = |(packet, direction): &(Packet, Direction)| {
            let (source, destination) = (at(packet.source), at(packet.destination));
            let own = match direction {
                Direction::Ingress => &destination,
                Direction::Egress => &source,
            };
            let local = own.iter().find(|item| self.cluster.locals.contains_key(**item));
            let question = Question::between(packet, &self.cluster.sets, source.clone(), destination.clone());
            let evaluation =
                local.map(|item| self.answer(&self.config, item, *direction, Place::Own, &question));
            let owned = |items: Vec<&Item>| items.into_iter().cloned().collect();
            Explained {
                evaluation,
                source: owned(source),
                destination: owned(destination),
            }
        };
        packets.iter().map(explain).collect()
    }

    fn answer(
        &self,
        config: &Config,
        endpoint: &Item,
        direction: Direction,
        place: Place,
        question: &Question<'_>,
    ) -> Evaluation {
        let packet = question.packet;
        let scope = scope_of(place);
        let mut steps = Vec::new();
        let is_host = matches!(endpoint, Item::Host(_));
        let early = early(is_host, direction, scope, packet, config);
        let (verdict, reason) = early.unwrap_or_else(|| {
            let tiers = tiers(&self.cluster, endpoint, direction, scope);
            decide(
                &self.cluster,
                endpoint,
                direction,
                scope,
                &tiers,
                question,
                &mut steps,
            )
        });
        Evaluation {
            endpoint: endpoint.clone(),
            direction,
            verdict,
            reason,
            steps,
        }
    }

    /// What the policies of both ends say about a packet between workloads, or between a workload and elsewhere. A
    /// workload that reaches its own address is never asked.
    #[must_use]
    pub fn trace(&self, packet: &Packet) -> Trace {
        let side = |address, direction| {
            let items = self.workloads_at(address);
            let item = items.first().filter(|_| packet.source != packet.destination)?;
            Some(self.evaluate(item, direction, Place::Own, packet))
        };
        let source = side(packet.source, Direction::Egress);
        let destination = side(packet.destination, Direction::Ingress);
        let denied = source
            .iter()
            .chain(&destination)
            .any(|side| side.verdict == Verdict::Deny);
        Trace {
            verdict: if denied { Verdict::Deny } else { Verdict::Allow },
            source,
            destination,
        }
    }
}

const fn scope_of(place: Place) -> Scope {
    match place {
        Place::Own => Scope::Own,
        Place::Forward => Scope::Forward,
        Place::PreDnat => Scope::PreDnat,
        Place::Untracked => Scope::Untracked,
    }
}

/// What is decided before any policy is asked.
fn early(
    is_host: bool,
    direction: Direction,
    scope: Scope,
    packet: &Packet,
    config: &Config,
) -> Option<(Verdict, Reason)> {
    if is_host {
        let ports = match direction {
            Direction::Ingress => &config.failsafe_inbound,
            Direction::Egress => &config.failsafe_outbound,
        };
        let far = match direction {
            Direction::Ingress => packet.source,
            Direction::Egress => packet.destination,
        };
        let is_open = ports.iter().any(|port| {
            let from = port
                .net
                .is_none_or(|net| version_of(&net) == packet.version() && net.contains(&far));
            from && (port.protocol, port.port) == (packet.protocol, packet.destination_port)
        });
        let is_asked = scope != Scope::Forward;
        return (is_asked && is_open).then_some((Verdict::Allow, Reason::Failsafe));
    }
    let is_vxlan = packet.protocol == 17
        && packet.destination_port == config.vxlan_port
        && !config.allow_vxlan_packets_from_workloads;
    let is_ipip = packet.protocol == 4 && !config.allow_ipip_packets_from_workloads;
    let is_denied = direction == Direction::Egress && (is_vxlan || is_ipip);
    is_denied.then_some((Verdict::Deny, Reason::Encapsulated))
}

/// The policies that apply to an endpoint, of this node or not.
fn tiers(cluster: &Cluster, endpoint: &Item, direction: Direction, scope: Scope) -> Vec<TierList> {
    if cluster.locals.contains_key(endpoint) {
        return lists::tiers(cluster, endpoint, direction, scope);
    }
    let selected = cluster
        .policies
        .iter()
        .filter(|(_, policy)| cluster.sets.is_selected(endpoint, &policy.selector));
    lists::order(cluster, selected, direction, scope)
}

fn decide(
    cluster: &Cluster,
    endpoint: &Item,
    direction: Direction,
    scope: Scope,
    tiers: &[TierList],
    question: &Question<'_>,
    steps: &mut Vec<Step>,
) -> (Verdict, Reason) {
    for tier in tiers {
        if let Some(decided) = ask_tier(cluster, direction, tier, question, steps) {
            match decided {
                Decided::Final(verdict, reason) => return (verdict, reason),
                Decided::Passed => continue,
            }
        }
        let is_enforced = tier.enforced().next().is_some();
        let has_end = matches!(scope, Scope::Own | Scope::Forward);
        if has_end && is_enforced && tier.is_deny_default {
            let tier = tier.name.clone();
            return (Verdict::Deny, Reason::EndOfTier { tier });
        }
    }
    if scope != Scope::Own {
        return (Verdict::Allow, Reason::NotConcerned);
    }
    for name in cluster.sets.parents_of(endpoint) {
        let rules = cluster.profiles.get(name).map(|profile| match direction {
            Direction::Ingress => profile.ingress.as_slice(),
            Direction::Egress => profile.egress.as_slice(),
        });
        let (rule, logged) = question.first(rules.unwrap_or_default());
        steps.push(Step {
            tier: None,
            policy: None,
            name: name.clone(),
            rule,
            logged,
            is_staged: false,
        });
        let decided = rule.and_then(|(rule, action)| Some((rule, final_verdict(action)?)));
        if let Some((rule, verdict)) = decided {
            let profile = name.clone();
            return (verdict, Reason::Profile { profile, rule });
        }
    }
    (Verdict::Deny, Reason::NoProfile)
}

enum Decided {
    Final(Verdict, Reason),
    Passed,
}

fn ask_tier(
    cluster: &Cluster,
    direction: Direction,
    tier: &TierList,
    question: &Question<'_>,
    steps: &mut Vec<Step>,
) -> Option<Decided> {
    for id in &tier.policies {
        let (rule, step) = ask_policy(cluster, direction, tier, id, question);
        steps.push(step);
        let Some((rule, action)) = rule.filter(|_| !id.kind.is_staged()) else {
            continue;
        };
        let reason = Reason::Policy {
            tier: tier.name.clone(),
            policy: id.clone(),
            rule,
        };
        return Some(
            final_verdict(action).map_or(Decided::Passed, |verdict| Decided::Final(verdict, reason)),
        );
    }
    None
}

fn ask_policy(
    cluster: &Cluster,
    direction: Direction,
    tier: &TierList,
    id: &PolicyId,
    question: &Question<'_>,
) -> (Option<(usize, RuleAction)>, Step) {
    let policy = cluster.policies.get(id);
    let rules = policy.and_then(|policy| policy.rules(direction));
    let (rule, logged) = question.first(rules.unwrap_or_default());
    let step = Step {
        tier: Some(tier.name.clone()),
        policy: Some(id.clone()),
        name: id.shown(),
        rule,
        logged,
        is_staged: id.kind.is_staged(),
    };
    (rule, step)
}

const fn final_verdict(action: RuleAction) -> Option<Verdict> {
    match action {
        RuleAction::Allow => Some(Verdict::Allow),
        RuleAction::Deny => Some(Verdict::Deny),
        RuleAction::Pass | RuleAction::Log => None,
    }
}

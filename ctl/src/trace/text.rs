//! The answer for one packet, for people and for programs.

use caracal_api::routing::RouteOwner;
use caracal_felix_core::calc::model::Direction;
use caracal_felix_core::eval::{Criterion, Evaluation, Place, Reason, Verdict};
use caracal_felix_core::way::Way;
use serde_json::{Value, json};

use super::ends::{Flow, Side, shown};
use super::hint::{self, Advice};
use super::path::{self, Hop, Path, Role};
use crate::snapshot::Snapshot;

/// A packet, its way, and what can be done about it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) flow: Flow,
    pub(crate) path: Path,
    /// For each hop.
    advice: Vec<Advice>,
}

impl Answer {
    pub(crate) fn new(snapshot: &Snapshot, flow: Flow) -> Self {
        let path = path::go(snapshot, &flow);
        let advice = path.hops.iter().map(|hop| match hop {
            Hop::Asked { evaluation, .. } if evaluation.verdict == Verdict::Deny => {
                hint::advise(snapshot, &flow, evaluation)
            }
            _ => Advice::default(),
        });
        Self {
            advice: advice.collect(),
            path,
            flow,
        }
    }

    /// Why and where, in one line.
    pub(crate) fn why(&self) -> String {
        let Some(hop) = self.path.denied_at() else {
            return "nothing denies it".to_owned();
        };
        let at = place_of(hop);
        match hop {
            Hop::Asked { evaluation, .. } => format!("denied at {at}: {}", evaluation.reason),
            Hop::ToHost { node, action, .. } => {
                format!("denied at {at}: defaultEndpointToHostAction is {action} on {node}")
            }
            Hop::Routed { .. } => format!("no route: {}", self.flow.destination.address),
            Hop::Free { why, .. } => why.clone(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if let Some(service) = &self.flow.service {
            let (to, port) = (&self.flow.destination, self.flow.packet.destination_port);
            text.push_str(&format!(
                "Service {service} -> {} {}:{port}\n",
                to.name, to.address
            ));
        }
        for (index, (hop, advice)) in self.path.hops.iter().zip(&self.advice).enumerate() {
            text.push_str(&format!("{} {}\n", index + 1, self.hop_line(hop)));
            let Hop::Asked { evaluation, .. } = hop else {
                continue;
            };
            for line in details(evaluation).into_iter().chain(advice_lines(advice)) {
                text.push_str(&format!("        {line}\n"));
            }
        }
        for note in &self.path.notes {
            text.push_str(&format!("note: {note}\n"));
        }
        let verdict = match self.path.denied_at() {
            None => "allowed".to_owned(),
            Some(hop) => format!("denied at {}", place_of(hop)),
        };
        text.push_str(&format!("VERDICT {verdict}\n"));
        text
    }

    fn hop_line(&self, hop: &Hop) -> String {
        match hop {
            Hop::Asked {
                role,
                place,
                evaluation,
                ..
            } => {
                let verdict = evaluation.verdict.to_string().to_uppercase();
                let direction = evaluation.direction.as_str();
                let who = match role {
                    Role::Source => side(&self.flow.source),
                    Role::Destination => side(&self.flow.destination),
                    Role::SourceHost | Role::DestinationHost => shown(&evaluation.endpoint),
                };
                let place = place_text(*place);
                format!("{:<5} {who}  {direction}{place} {verdict}", role_text(*role))
            }
            Hop::Free { role, why } => {
                let who = match role {
                    Role::Source | Role::SourceHost => side(&self.flow.source),
                    Role::Destination | Role::DestinationHost => side(&self.flow.destination),
                };
                format!("{:<5} {who}  {why}", role_text(*role))
            }
            Hop::Routed { node, way } => format!("route {node}: {}", way_text(way, &self.flow)),
            Hop::ToHost {
                node,
                action,
                verdict,
            } => {
                let verdict = verdict.to_string().to_uppercase();
                let to = side(&self.flow.destination);
                format!("host  {to}  {verdict} (defaultEndpointToHostAction of {node} is {action})")
            }
        }
    }

    pub(crate) fn json(&self) -> Value {
        let packet = &self.flow.packet;
        let end = |side: &Side| json!({"name": side.name, "address": side.address, "node": side.node});
        let hops = self.path.hops.iter().zip(&self.advice).map(|(hop, advice)| match hop {
            Hop::Asked { role, place, node, evaluation } => {
                let mut value = evaluation_json(evaluation);
                value["role"] = role_text(*role).into();
                value["place"] = format!("{place:?}").into();
                value["node"] = node.as_str().into();
                value["near"] = advice.near.iter().map(near_json).collect();
                value["allow"] = advice.lines.iter().map(|line| line.trim().to_owned()).collect();
                value
            }
            Hop::Free { role, why } => json!({"role": role_text(*role), "verdict": "allow", "reason": why}),
            Hop::Routed { node, way } => {
                json!({"role": "route", "node": node, "verdict": hop.verdict().to_string(), "route": way_json(way)})
            }
            Hop::ToHost { node, action, verdict } => json!({
                "role": "host", "node": node, "verdict": verdict.to_string(),
                "reason": format!("defaultEndpointToHostAction is {action}"),
            }),
        });
        json!({
            "verdict": self.path.verdict.to_string(),
            "why": self.why(),
            "service": self.flow.service,
            "source": end(&self.flow.source),
            "destination": end(&self.flow.destination),
            "protocol": packet.protocol,
            "port": Some(packet.destination_port).filter(|port| *port > 0),
            "hops": hops.collect::<Vec<Value>>(),
            "notes": self.path.notes,
        })
    }
}

fn side(side: &Side) -> String {
    let node = side.node.as_ref().filter(|_| side.item.is_some());
    let node = node.map(|node| format!(" on {node}")).unwrap_or_default();
    format!("{} {}{node}", side.name, side.address)
}

const fn role_text(role: Role) -> &'static str {
    match role {
        Role::Source => "src",
        Role::SourceHost => "host",
        Role::DestinationHost => "host",
        Role::Destination => "dst",
    }
}

const fn place_text(place: Place) -> &'static str {
    match place {
        Place::Own => "",
        Place::Forward => " (forwarded)",
        Place::PreDnat => " (preDNAT)",
        Place::Untracked => " (doNotTrack)",
    }
}

fn place_of(hop: &Hop) -> String {
    match hop {
        Hop::Asked { role, node, .. } => match role {
            Role::Source => "source".to_owned(),
            Role::Destination => "destination".to_owned(),
            Role::SourceHost | Role::DestinationHost => format!("host endpoint of {node}"),
        },
        Hop::Free { .. } => "source".to_owned(),
        Hop::Routed { node, .. } => format!("the routes of {node}"),
        Hop::ToHost { node, .. } => format!("node {node}"),
    }
}

fn way_text(way: &Way, flow: &Flow) -> String {
    let to = flow.destination.address;
    match way {
        Way::Local => format!("{to} is on the same node"),
        Way::Host => format!("{to} is this node's own"),
        Way::OtherHost { node } => format!("{to} of node {node}, by the network between nodes"),
        Way::Nowhere => format!("{to} is of an IPPool, and no workload has it: dropped where its block is"),
        Way::Outside { is_masqueraded: true } => {
            format!("{to} is outside of all pools; the source becomes the node's address (natOutgoing)")
        }
        Way::Outside { .. } => format!("{to} is outside of all pools: the node's default route"),
        Way::ToNode {
            node,
            block,
            lender,
            gateway,
            device,
            owner,
        } => {
            let what = block.map_or_else(|| format!("{to} (no block claimed)"), |block| block.to_string());
            let via = gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
            let device = device
                .as_ref()
                .map_or_else(String::new, |device| format!(" dev {device}"));
            let by = match owner {
                Some(RouteOwner::Felix) => ", written by felix",
                Some(RouteOwner::Bgp) => ", learned by BGP",
                Some(RouteOwner::Nobody) => ", written by nobody (programClusterRoutes)",
                None => ", of no IPPool",
            };
            let lender = lender
                .as_ref()
                .map_or_else(String::new, |lender| format!(" (borrowed of {lender})"));
            format!("{what} to {node}{via}{device}{by}{lender}")
        }
    }
}

fn way_json(way: &Way) -> Value {
    match way {
        Way::Local => json!({"kind": "local"}),
        Way::Host => json!({"kind": "host"}),
        Way::OtherHost { node } => json!({"kind": "node", "to": node}),
        Way::Nowhere => json!({"kind": "nowhere"}),
        Way::Outside { is_masqueraded } => json!({"kind": "outside", "natOutgoing": is_masqueraded}),
        Way::ToNode {
            node,
            block,
            lender,
            gateway,
            device,
            owner,
        } => json!({
            "kind": "block", "to": node, "block": block.map(|block| block.to_string()), "borrowedOf": lender,
            "via": gateway, "device": device,
            "owner": owner.map(|owner| format!("{owner:?}").to_lowercase()),
        }),
    }
}

/// What was asked and what it said.
fn details(evaluation: &Evaluation) -> Vec<String> {
    let mut lines = Vec::new();
    for step in evaluation.steps.iter().filter(|step| step.is_staged) {
        if let Some((rule, action)) = step.rule {
            lines.push(format!(
                "staged: {} would {} by rule {rule}",
                step.name,
                action_text(action)
            ));
        }
    }
    let is_asked = evaluation
        .steps
        .iter()
        .any(|step| step.tier.is_some() && !step.is_staged);
    let direction = evaluation.direction.as_str();
    lines.push(match &evaluation.reason {
        Reason::Profile { profile, .. } if !is_asked => {
            format!("no {direction} policy selects it; profile {profile} decides")
        }
        Reason::Policy { tier, policy, rule } => {
            format!("tier {tier} / {}: rule {rule} decides", policy.shown())
        }
        Reason::EndOfTier { tier } => {
            let steps = evaluation.steps.iter();
            let own = steps.filter(|step| step.tier.as_deref() == Some(tier) && !step.is_staged);
            let names: Vec<&str> = own.map(|step| step.name.as_str()).collect();
            format!("tier {tier} / {}: no rule matches -> implicit deny", some(&names))
        }
        other => other.to_string(),
    });
    lines
}

fn some(names: &[&str]) -> String {
    const SHOWN_MAX: usize = 3;
    let shown = names
        .iter()
        .take(SHOWN_MAX)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        rest => format!("{shown} and {rest} more"),
    }
}

const fn action_text(action: caracal_felix_core::calc::model::RuleAction) -> &'static str {
    use caracal_felix_core::calc::model::RuleAction;
    match action {
        RuleAction::Allow => "allow",
        RuleAction::Deny => "deny",
        RuleAction::Pass => "pass",
        RuleAction::Log => "log",
    }
}

const fn criterion_text(criterion: Criterion) -> &'static str {
    match criterion {
        Criterion::Version => "family",
        Criterion::Protocol => "protocol",
        Criterion::Icmp => "ICMP",
        Criterion::Source => "source",
        Criterion::SourcePort => "source port",
        Criterion::Destination => "destination",
        Criterion::DestinationPort => "port",
    }
}

fn advice_lines(advice: &Advice) -> Vec<String> {
    let near = advice.near.iter().map(|near| {
        let wanted = near.miss.wanted.iter();
        let wanted = wanted.map(|(criterion, text)| format!("{} {text}", criterion_text(*criterion)));
        let wanted: Vec<String> = wanted.collect();
        format!(
            "{}: rule {} wants {}",
            near.policy.shown(),
            near.miss.rule,
            wanted.join("; ")
        )
    });
    let mut lines: Vec<String> = near.collect();
    let mut is_first = true;
    for line in &advice.lines {
        let lead = if line.starts_with(' ') {
            "          "
        } else if is_first {
            "to allow: "
        } else {
            "      or: "
        };
        is_first = false;
        lines.push(format!("{lead}{}", line.trim_start()));
    }
    lines
}

fn near_json(near: &hint::Near) -> Value {
    let wanted = near.miss.wanted.iter();
    let wanted: Vec<Value> = wanted
        .map(|(criterion, text)| json!({"criterion": criterion_text(*criterion), "wanted": text}))
        .collect();
    json!({"policy": near.policy.shown(), "rule": near.miss.rule, "misses": wanted})
}

fn evaluation_json(evaluation: &Evaluation) -> Value {
    let steps = evaluation.steps.iter().map(|step| {
        json!({
            "tier": step.tier, "name": step.name, "staged": step.is_staged, "logs": step.logged,
            "rule": step.rule.map(|(rule, _)| rule),
            "action": step.rule.map(|(_, action)| action_text(action)),
        })
    });
    let (kind, rule) = match &evaluation.reason {
        Reason::Policy { tier, policy, rule } => (
            "policy",
            json!({"tier": tier, "policy": policy.shown(), "rule": rule}),
        ),
        Reason::Profile { profile, rule } => ("profile", json!({"profile": profile, "rule": rule})),
        Reason::EndOfTier { tier } => ("endOfTier", json!({"tier": tier})),
        Reason::NoProfile => ("noProfile", Value::Null),
        Reason::Failsafe => ("failsafe", Value::Null),
        Reason::Encapsulated => ("encapsulated", Value::Null),
        Reason::NotConcerned => ("notConcerned", Value::Null),
    };
    let direction = match evaluation.direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    json!({
        "endpoint": shown(&evaluation.endpoint),
        "direction": direction,
        "verdict": evaluation.verdict.to_string(),
        "reason": evaluation.reason.to_string(),
        "decidedBy": kind,
        "rule": rule,
        "steps": steps.collect::<Vec<Value>>(),
    })
}

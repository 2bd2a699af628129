//! How to allow what is denied: which rules came near, and the rule that is missing, ready to be copied.

use std::collections::BTreeMap;

use caracal_api::names::PolicyKind;
use caracal_api::v3::Protocol;
use caracal_felix_core::calc::model::{Direction, PolicyId, RuleAction};
use caracal_felix_core::calc::sets::Item;
use caracal_felix_core::eval::{Criterion, Evaluation, Miss, Reason};

use super::ends::{Flow, Side, shown};
use crate::snapshot::Snapshot;

/// Rules that came near, at most.
const NEAR_MAX: usize = 3;
/// Labels that say what a pod is, most telling first.
const TELLING: [&str; 4] = ["app.kubernetes.io/name", "app", "k8s-app", "run"];
/// Labels that controllers make up.
const MADE_UP: [&str; 6] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
];

/// An Allow rule of the deciding tier that did not match.
#[derive(Clone, Debug)]
pub(crate) struct Near {
    pub(crate) policy: PolicyId,
    pub(crate) miss: Miss,
}

/// What can be done about a denial.
#[derive(Clone, Debug, Default)]
pub(crate) struct Advice {
    pub(crate) near: Vec<Near>,
    /// What to do, one line after the other.
    pub(crate) lines: Vec<String>,
}

/// The policies of a tier that were asked and are enforced.
fn asked(evaluation: &Evaluation, tier: &str) -> Vec<PolicyId> {
    let steps = evaluation.steps.iter();
    let own = steps.filter(|step| step.tier.as_deref() == Some(tier) && !step.is_staged);
    own.filter_map(|step| step.policy.clone()).collect()
}

/// What can be done about a denial.
pub(crate) fn advise(snapshot: &Snapshot, flow: &Flow, evaluation: &Evaluation) -> Advice {
    let direction = evaluation.direction;
    let mut advice = Advice::default();
    match &evaluation.reason {
        Reason::EndOfTier { tier } => {
            let policies = asked(evaluation, tier);
            for id in &policies {
                let misses = snapshot.core.misses(id, direction, &flow.packet).into_iter();
                let near = misses.filter(|miss| miss.action == RuleAction::Allow);
                advice.near.extend(near.map(|miss| Near { policy: id.clone(), miss }));
            }
            advice.near.sort_by_key(|near| near.miss.wanted.len());
            advice.near.truncate(NEAR_MAX);
            let best = advice.near.first().map(|near| near.policy.clone());
            if let Some(policy) = best.or_else(|| policies.last().cloned()) {
                advice.lines.extend(labels_line(flow, direction, advice.near.first()));
                let key = direction.as_str();
                advice.lines.push(format!("add to spec.{key} of {}:", policy.shown()));
                advice.lines.push(format!("  {}", rule_text(snapshot, flow, direction, &policy)));
            }
        }
        Reason::Policy { tier, policy, rule } => {
            let text = format!(
                "narrow rule {rule} of {} ({}), or let an Allow come before it: a policy of tier {tier} with a smaller order",
                policy.shown(),
                direction.as_str()
            );
            advice.lines.push(text);
        }
        Reason::Profile { profile, rule } => {
            let text = format!("a policy that allows it is asked before rule {rule} of profile {profile}");
            advice.lines.push(text);
        }
        Reason::NoProfile => {
            let name = shown(&evaluation.endpoint);
            let text = format!(
                "nothing selects {name} and its namespace or service account is not known: check that they exist, or write a policy that selects it"
            );
            advice.lines.push(text);
        }
        Reason::Encapsulated => advice.lines.push(
            "set allowVXLANPacketsFromWorkloads or allowIPIPPacketsFromWorkloads in FelixConfiguration, if workloads may build tunnels"
                .to_owned(),
        ),
        Reason::Failsafe | Reason::NotConcerned => {}
    }
    advice
}

/// When only the far end's labels are wrong, that is one more way.
fn labels_line(flow: &Flow, direction: Direction, near: Option<&Near>) -> Option<String> {
    let near = near?;
    let (far, criterion) = match direction {
        Direction::Ingress => (&flow.source, Criterion::Source),
        Direction::Egress => (&flow.destination, Criterion::Destination),
    };
    let [(missed, wanted)] = near.miss.wanted.as_slice() else {
        return None;
    };
    let is_selector = *missed == criterion && wanted.contains("==");
    (is_selector && far.item.is_some()).then(|| format!("give {} labels that fit: {wanted}", far.name))
}

/// The rule that is missing, in the words of the policy's kind.
fn rule_text(snapshot: &Snapshot, flow: &Flow, direction: Direction, policy: &PolicyId) -> String {
    let far = match direction {
        Direction::Ingress => &flow.source,
        Direction::Egress => &flow.destination,
    };
    let protocol = Protocol::NAMES
        .iter()
        .find(|(_, number)| *number == flow.packet.protocol);
    let protocol = protocol.map_or_else(
        || flow.packet.protocol.to_string(),
        |(name, _)| (*name).to_owned(),
    );
    let port = flow.packet.destination_port;
    let (namespace, labels) = place(snapshot, far);
    let flow_map = |labels: &BTreeMap<String, String>| {
        let pairs = labels.iter().map(|(key, value)| format!("{key}: {:?}", value));
        format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
    };
    match policy.kind {
        PolicyKind::KubernetesNetworkPolicy | PolicyKind::StagedKubernetesNetworkPolicy => {
            let side = if direction == Direction::Ingress {
                "from"
            } else {
                "to"
            };
            let peer = match &namespace {
                Some(namespace) => {
                    let pods = format!("podSelector: {{matchLabels: {}}}", flow_map(&labels));
                    let own = *namespace == policy.key.namespace;
                    let name =
                        BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), namespace.clone())]);
                    let namespaces = format!("namespaceSelector: {{matchLabels: {}}}, ", flow_map(&name));
                    format!("{{{}{pods}}}", if own { String::new() } else { namespaces })
                }
                None => format!("{{ipBlock: {{cidr: {}}}}}", ipnet::IpNet::from(far.address)),
            };
            let ports = if port > 0 {
                format!(", ports: [{{protocol: {protocol}, port: {port}}}]")
            } else {
                String::new()
            };
            format!("- {{{side}: [{peer}]{ports}}}")
        }
        PolicyKind::KubernetesClusterNetworkPolicy
        | PolicyKind::KubernetesAdminNetworkPolicy
        | PolicyKind::KubernetesBaselineAdminNetworkPolicy => {
            format!("- a rule that accepts {} {protocol} {port}", far.name)
        }
        PolicyKind::NetworkPolicy
        | PolicyKind::GlobalNetworkPolicy
        | PolicyKind::StagedNetworkPolicy
        | PolicyKind::StagedGlobalNetworkPolicy => {
            let side = if direction == Direction::Ingress {
                "source"
            } else {
                "destination"
            };
            let selector: Vec<String> = labels
                .iter()
                .map(|(key, value)| format!("{key} == '{value}'"))
                .collect();
            let selector = if selector.is_empty() {
                "all()".to_owned()
            } else {
                selector.join(" && ")
            };
            let peer = match &namespace {
                Some(namespace) if *namespace == policy.key.namespace => format!("selector: \"{selector}\""),
                Some(namespace) => format!(
                    "selector: \"{selector}\", namespaceSelector: \"kubernetes.io/metadata.name == '{namespace}'\""
                ),
                None => format!("nets: [{}]", ipnet::IpNet::from(far.address)),
            };
            let ports = if port > 0 {
                format!("ports: [{port}]")
            } else {
                String::new()
            };
            let to = match (direction, port > 0) {
                (_, false) => format!("{side}: {{{peer}}}"),
                (Direction::Ingress, true) => format!("source: {{{peer}}}, destination: {{{ports}}}"),
                (Direction::Egress, true) => format!("destination: {{{peer}, {ports}}}"),
            };
            format!("- {{action: Allow, protocol: {protocol}, {to}}}")
        }
    }
}

/// Namespace and telling labels of a workload; none for what is no workload.
fn place(snapshot: &Snapshot, side: &Side) -> (Option<String>, BTreeMap<String, String>) {
    let Some(Item::Pod(key) | Item::Workload(key)) = &side.item else {
        return (None, BTreeMap::new());
    };
    let workload = side.item.as_ref().and_then(|item| snapshot.workloads.get(item));
    let labels = workload
        .map(|workload| workload.labels.clone())
        .unwrap_or_default();
    let telling = TELLING
        .into_iter()
        .find_map(|name| Some((name.to_owned(), labels.get(name)?.clone())));
    let labels = match telling {
        Some(one) => BTreeMap::from([one]),
        None => labels
            .into_iter()
            .filter(|(name, _)| !MADE_UP.contains(&name.as_str()))
            .collect(),
    };
    (Some(key.namespace.clone()), labels)
}

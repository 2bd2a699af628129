//! From policies as the API has them to policies with everything parsed; what cannot be parsed closes.
//!
//! A rule that cannot be understood: an Allow matches nothing, a Deny or Pass denies everything in its direction, a
//! Log is left out. A policy whose own selector cannot be understood denies everything in its reach (its namespace, or
//! all endpoints). Each is reported. Staged policies close nothing: they are never enforced.

mod peer;

use caracal_api::policy_selector;
use caracal_api::selector::Selector;
use caracal_api::v3::{
    Action, EntityRule, GlobalNetworkPolicy, GlobalNetworkPolicySpec, Icmp, NetworkPolicySpec, PolicyType,
    Rule, StagedAction, StagedGlobalNetworkPolicySpec, StagedKubernetesNetworkPolicySpec,
    StagedNetworkPolicySpec,
};
use caracal_api::{k8s_policy, meta};
use k8s_openapi::api::networking::v1::NetworkPolicySpec as KubernetesSpec;

use super::model::{Direction, Peer, Policy, RuleAction, RuleModel, Stage};
use crate::desired::IpVersion;
use peer::compile_peer;

/// A parsed policy, and what of it was closed.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    /// The policy.
    pub policy: Policy,
    /// One entry for each thing that could not be understood.
    pub problems: Vec<String>,
}

/// What all policy kinds have.
struct Parts<'a> {
    tier: &'a str,
    order: Option<f64>,
    types: &'a [PolicyType],
    ingress: &'a [Rule],
    egress: &'a [Rule],
    selector: Result<Selector, String>,
    namespace: &'a str,
    stage: Stage,
    is_applied_on_forward: bool,
}

/// Parses a NetworkPolicy.
#[must_use]
pub fn network_policy(spec: &NetworkPolicySpec, namespace: &str) -> Compiled {
    let selector = parse(&spec.selector)
        .and_then(|_| text(policy_selector::network_policy_selector(spec, namespace)))
        .and_then(|selector| parse(&selector));
    policy(Parts {
        tier: &spec.tier,
        order: spec.order,
        types: &spec.types,
        ingress: &spec.ingress,
        egress: &spec.egress,
        selector,
        namespace,
        stage: Stage::Normal,
        is_applied_on_forward: false,
    })
}

/// Parses a GlobalNetworkPolicy.
#[must_use]
pub fn global_network_policy(spec: &GlobalNetworkPolicySpec) -> Compiled {
    let selector = parse(&spec.selector)
        .and_then(|_| text(policy_selector::global_network_policy_selector(spec)))
        .and_then(|selector| parse(&selector));
    let stage = match (spec.do_not_track, spec.pre_dnat) {
        (true, _) => Stage::Untracked,
        (false, true) => Stage::PreDnat,
        (false, false) => Stage::Normal,
    };
    let mut compiled = policy(Parts {
        tier: &spec.tier,
        order: spec.order,
        types: &spec.types,
        ingress: &spec.ingress,
        egress: &spec.egress,
        selector,
        namespace: "",
        stage,
        is_applied_on_forward: spec.apply_on_forward,
    });
    if spec.do_not_track && spec.pre_dnat {
        compiled
            .problems
            .push("doNotTrack and preDNAT: only one of both; it counts as doNotTrack".to_owned());
    }
    compiled
}

/// Parses what Kubernetes' NetworkPolicy was converted to.
#[must_use]
pub fn kubernetes(source: &k8s_openapi::api::networking::v1::NetworkPolicy) -> Compiled {
    let converted = k8s_policy::from_network_policy(source);
    let namespace = source.metadata.namespace.as_deref().unwrap_or_default();
    let mut compiled = network_policy(&converted.policy.spec, namespace);
    compiled
        .problems
        .extend(converted.errors.iter().map(ToString::to_string));
    compiled
}

/// Parses a StagedNetworkPolicy; `None` for one that stands for no policy.
#[must_use]
pub fn staged_network_policy(spec: &StagedNetworkPolicySpec, namespace: &str) -> Option<Compiled> {
    is_set(spec.staged_action.as_ref()).then(|| {
        let spec = spec.clone();
        let spec = NetworkPolicySpec {
            tier: spec.tier,
            order: spec.order,
            ingress: spec.ingress,
            egress: spec.egress,
            selector: spec.selector,
            types: spec.types,
            service_account_selector: spec.service_account_selector,
            performance_hints: spec.performance_hints,
        };
        network_policy(&spec, namespace)
    })
}

/// Parses a StagedGlobalNetworkPolicy; `None` for one that stands for no policy.
#[must_use]
pub fn staged_global_network_policy(spec: &StagedGlobalNetworkPolicySpec) -> Option<Compiled> {
    is_set(spec.staged_action.as_ref()).then(|| {
        let spec = spec.clone();
        global_network_policy(&GlobalNetworkPolicySpec {
            tier: spec.tier,
            order: spec.order,
            ingress: spec.ingress,
            egress: spec.egress,
            selector: spec.selector,
            types: spec.types,
            do_not_track: spec.do_not_track,
            pre_dnat: spec.pre_dnat,
            apply_on_forward: spec.apply_on_forward,
            service_account_selector: spec.service_account_selector,
            namespace_selector: spec.namespace_selector,
            performance_hints: spec.performance_hints,
        })
    })
}

/// Parses a StagedKubernetesNetworkPolicy; `None` for one that stands for no policy.
#[must_use]
pub fn staged_kubernetes(spec: &StagedKubernetesNetworkPolicySpec, namespace: &str) -> Option<Compiled> {
    is_set(spec.staged_action.as_ref()).then(|| {
        let types = |types: &[PolicyType]| types.iter().map(|one| one.as_str().to_owned()).collect();
        let converted = k8s_policy::from_staged_spec(&KubernetesSpec {
            egress: Some(spec.egress.clone()).filter(|rules| !rules.is_empty()),
            ingress: Some(spec.ingress.clone()).filter(|rules| !rules.is_empty()),
            pod_selector: spec.pod_selector.clone(),
            policy_types: Some(types(&spec.policy_types)).filter(|types: &Vec<String>| !types.is_empty()),
        });
        let mut compiled = network_policy(&converted.policy, namespace);
        compiled
            .problems
            .extend(converted.errors.iter().map(ToString::to_string));
        compiled
    })
}

/// True when making the staged policy real creates or changes a policy: only then there are rules to evaluate.
fn is_set(action: Option<&StagedAction>) -> bool {
    action.is_none_or(|action| *action == StagedAction::Set || action.as_str().is_empty())
}

/// Parses what Kubernetes' ClusterNetworkPolicy was converted to.
#[must_use]
pub fn cluster_network_policy(mut converted: k8s_policy::Conversion<GlobalNetworkPolicy>) -> Compiled {
    let spec = &mut converted.policy.spec;
    for rule in spec.ingress.iter_mut().chain(&mut spec.egress) {
        // Peers are pods: without this a peer of namespaces would match their network sets too.
        let ends = [&mut rule.source, &mut rule.destination];
        for entity in ends.into_iter().flatten() {
            if !entity.namespace_selector.is_empty() && entity.selector.is_empty() {
                entity.selector = format!("{} == '{}'", meta::LABEL_ORCHESTRATOR, meta::ORCHESTRATOR_K8S);
            }
        }
    }
    let mut compiled = global_network_policy(spec);
    let errors = converted.errors.iter().map(ToString::to_string);
    compiled.problems.extend(errors);
    compiled
}

fn text<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

fn parse(selector: &str) -> Result<Selector, String> {
    text(Selector::parse(selector)).map_err(|error| format!("selector {selector:?}: {error}"))
}

fn policy(parts: Parts<'_>) -> Compiled {
    let mut problems = Vec::new();
    let tier = if parts.tier.is_empty() {
        meta::TIER_DEFAULT
    } else {
        parts.tier
    };
    let (selector, is_closed) = match parts.selector {
        Ok(selector) => (selector, false),
        Err(problem) => {
            problems.push(problem);
            (reach(parts.namespace), true)
        }
    };
    let mut rules = |direction: Direction, rules: &[Rule]| {
        if is_closed {
            return vec![RuleModel::any(0, RuleAction::Deny)];
        }
        compile_rules(direction, rules, parts.namespace, &mut problems)
    };
    let has = |wanted: &PolicyType, rules: &[Rule], other: &[Rule]| match parts.types {
        // Without types: what there are rules for, and Ingress when there are none at all.
        [] => !rules.is_empty() || (*wanted == PolicyType::Ingress && other.is_empty()),
        types => types.contains(wanted),
    };
    let ingress = has(&PolicyType::Ingress, parts.ingress, parts.egress)
        .then(|| rules(Direction::Ingress, parts.ingress));
    let egress =
        has(&PolicyType::Egress, parts.egress, parts.ingress).then(|| rules(Direction::Egress, parts.egress));
    Compiled {
        policy: Policy {
            tier: tier.to_owned(),
            order: parts.order,
            selector,
            stage: parts.stage,
            is_applied_on_forward: parts.is_applied_on_forward,
            ingress,
            egress,
        },
        problems,
    }
}

/// Everything that a policy of a namespace could select.
fn reach(namespace: &str) -> Selector {
    use caracal_api::selector::Node;
    Selector::from_node(if namespace.is_empty() {
        Node::All
    } else {
        Node::Equal(meta::LABEL_NAMESPACE.to_owned(), namespace.to_owned())
    })
}

/// Parses the rules of one direction.
pub fn compile_rules(
    direction: Direction,
    rules: &[Rule],
    namespace: &str,
    problems: &mut Vec<String>,
) -> Vec<RuleModel> {
    let mut compiled = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        match compile_rule(index, rule, namespace) {
            Ok(rule) => compiled.push(rule),
            Err(problem) => {
                problems.push(format!("{}[{index}]: {problem}", direction.as_str()));
                if !matches!(rule.action, Action::Allow | Action::Log) {
                    compiled.push(RuleModel::any(index, RuleAction::Deny));
                }
            }
        }
    }
    compiled
}

fn compile_rule(index: usize, rule: &Rule, namespace: &str) -> Result<RuleModel, String> {
    let action = match &rule.action {
        Action::Allow => RuleAction::Allow,
        Action::Deny => RuleAction::Deny,
        Action::Pass => RuleAction::Pass,
        Action::Log => RuleAction::Log,
        Action::Other(other) => {
            return Err(format!("action {other:?}: write Allow, Deny, Log or Pass"));
        }
    };
    if rule.http.is_some() && action == RuleAction::Allow {
        return Err("http: no application layer proxy is there to check it".to_owned());
    }
    let version = match rule.ip_version {
        None | Some(0) => None,
        Some(4) => Some(IpVersion::V4),
        Some(6) => Some(IpVersion::V6),
        Some(other) => return Err(format!("ipVersion {other}: write 4 or 6")),
    };
    let protocol = protocol("protocol", rule.protocol.as_ref())?;
    let not_protocol = self::protocol("notProtocol", rule.not_protocol.as_ref())?;
    if protocol.is_some() && protocol == not_protocol {
        return Err("notProtocol: excludes the protocol that the rule is for".to_owned());
    }
    let icmp = icmp("icmp", rule.icmp.as_ref())?;
    let not_icmp = self::icmp("notICMP", rule.not_icmp.as_ref())?;
    if (icmp.is_some() || not_icmp.is_some()) && !matches!(protocol, Some(1 | 58)) {
        return Err("icmp: needs protocol ICMP or ICMPv6".to_owned());
    }
    let peer = |end: &str, entity: Option<&EntityRule>| {
        entity.map_or_else(
            || Ok(Peer::default()),
            |entity| {
                compile_peer(entity, namespace, protocol, end == "destination")
                    .map_err(|problem| format!("{end}.{problem}"))
            },
        )
    };
    let rule = RuleModel {
        index,
        action,
        version,
        protocol,
        not_protocol,
        icmp,
        not_icmp,
        source: peer("source", rule.source.as_ref())?,
        destination: peer("destination", rule.destination.as_ref())?,
    };
    one_family(&rule)?;
    Ok(rule)
}

/// Prefixes of both families in one rule match nothing as a whole; which was meant cannot be known.
fn one_family(rule: &RuleModel) -> Result<(), String> {
    let ends = [&rule.source, &rule.destination];
    let mut families = ends.iter().filter_map(|peer| peer.version).chain(rule.version);
    let first = families.next();
    if families.any(|family| Some(family) != first) {
        return Err("nets: write one rule for each IP version".to_owned());
    }
    Ok(())
}

fn protocol(field: &str, protocol: Option<&caracal_api::v3::Protocol>) -> Result<Option<u8>, String> {
    let Some(protocol) = protocol else { return Ok(None) };
    protocol
        .number()
        .filter(|number| *number != 0)
        .map(Some)
        .ok_or_else(|| format!("{field} {protocol}: write a protocol's name or a number 1-255"))
}

fn icmp(field: &str, icmp: Option<&Icmp>) -> Result<Option<(u8, Option<u8>)>, String> {
    let Some(icmp) = icmp else { return Ok(None) };
    let byte = |value: i32| {
        u8::try_from(value).map_err(|_| format!("{field}: {value} is out of range: write 0-255"))
    };
    match (icmp.type_, icmp.code) {
        (None, None) => Ok(None),
        (None, Some(code)) => Err(format!("{field}: code {code} needs a type")),
        (Some(type_), code) => Ok(Some((byte(type_)?, code.map(byte).transpose()?))),
    }
}

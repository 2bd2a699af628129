//! From policies as the API has them to policies with everything parsed; what cannot be parsed closes.
//!
//! A rule that cannot be understood: an Allow matches nothing, a Deny or Pass denies everything in its direction, a
//! Log is left out. A policy whose own selector cannot be understood denies everything in its reach (its namespace, or
//! all endpoints). Each is reported.

use std::sync::Arc;

use caracal_api::policy_selector;
use caracal_api::selector::Selector;
use caracal_api::v3::{
    Action, EntityRule, GlobalNetworkPolicySpec, Icmp, NetworkPolicySpec, PolicyType, Port, Rule,
};
use caracal_api::{k8s_policy, meta, names, net};

use super::model::{Direction, Peer, Policy, RuleAction, RuleModel, SetSource, SetSpec};
use crate::desired::IpVersion;
use crate::rules::PortRange;
use crate::update::Key;

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
    })
}

/// Parses a GlobalNetworkPolicy.
#[must_use]
pub fn global_network_policy(spec: &GlobalNetworkPolicySpec) -> Compiled {
    let selector = parse(&spec.selector)
        .and_then(|_| text(policy_selector::global_network_policy_selector(spec)))
        .and_then(|selector| parse(&selector));
    policy(Parts {
        tier: &spec.tier,
        order: spec.order,
        types: &spec.types,
        ingress: &spec.ingress,
        egress: &spec.egress,
        selector,
        namespace: "",
    })
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
            return vec![RuleModel::any(RuleAction::Deny)];
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
        match compile_rule(rule, namespace) {
            Ok(rule) => compiled.push(rule),
            Err(problem) => {
                let direction = match direction {
                    Direction::Ingress => "ingress",
                    Direction::Egress => "egress",
                };
                problems.push(format!("{direction}[{index}]: {problem}"));
                if !matches!(rule.action, Action::Allow | Action::Log) {
                    compiled.push(RuleModel::any(RuleAction::Deny));
                }
            }
        }
    }
    compiled
}

fn compile_rule(rule: &Rule, namespace: &str) -> Result<RuleModel, String> {
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
    Ok(RuleModel {
        action,
        version,
        protocol,
        not_protocol,
        icmp,
        not_icmp,
        source: peer("source", rule.source.as_ref())?,
        destination: peer("destination", rule.destination.as_ref())?,
    })
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

fn nets(field: &str, texts: &[String]) -> Result<Vec<ipnet::IpNet>, String> {
    texts
        .iter()
        .map(|text| net::parse_cidr_or_address(text).ok_or_else(|| format!("{field}: {text:?} is no CIDR")))
        .collect()
}

fn compile_peer(
    entity: &EntityRule,
    namespace: &str,
    protocol: Option<u8>,
    with_ports: bool,
) -> Result<Peer, String> {
    let selector_text = text(policy_selector::entity_selector(entity, namespace))?;
    let selector = (!selector_text.is_empty())
        .then(|| parse(&selector_text))
        .transpose()?;
    if !entity.selector.is_empty() {
        parse(&entity.selector)?;
    }
    let set = |selector: Selector| {
        Arc::new(SetSpec {
            id: selector.unique_id(),
            source: SetSource::Selector(selector),
        })
    };
    let mut sets: Vec<Arc<SetSpec>> = selector.iter().cloned().map(set).collect();
    let not_sets = match entity.not_selector.as_str() {
        "" => Vec::new(),
        text => vec![set(parse(text)?)],
    };
    let port_selector = selector.map_or_else(|| parse(""), Ok)?;
    let (ports, mut named_ports) = compile_ports("ports", &entity.ports, &port_selector, protocol)?;
    let (not_ports, not_named_ports) =
        compile_ports("notPorts", &entity.not_ports, &port_selector, protocol)?;
    if let Some(service) = &entity.services {
        let owner = if service.namespace.is_empty() {
            namespace
        } else {
            &service.namespace
        };
        if owner.is_empty() || service.name.is_empty() {
            return Err("services: name and namespace are needed".to_owned());
        }
        let spec = Arc::new(SetSpec {
            id: names::service_ip_set_id(owner, &service.name, with_ports),
            source: SetSource::Service {
                service: Key::new(owner, &service.name),
                with_ports,
            },
        });
        // A destination is reached by a port of the Service; a source is any of its addresses.
        if with_ports {
            named_ports.push(spec)
        } else {
            sets.push(spec)
        }
    }
    Ok(Peer {
        nets: nets("nets", &entity.nets)?,
        not_nets: nets("notNets", &entity.not_nets)?,
        sets,
        not_sets,
        ports,
        named_ports,
        not_ports,
        not_named_ports,
    })
}

type Ports = (Vec<PortRange>, Vec<Arc<SetSpec>>);

fn compile_ports(
    field: &str,
    ports: &[Port],
    selector: &Selector,
    protocol: Option<u8>,
) -> Result<Ports, String> {
    let (mut ranges, mut named) = (Vec::new(), Vec::new());
    let Some(protocol) = protocol.filter(|number| matches!(number, 6 | 17 | 132 | 136)) else {
        return if ports.is_empty() {
            Ok((ranges, named))
        } else {
            Err(format!("{field}: need protocol TCP, UDP or SCTP"))
        };
    };
    let protocol_name = match protocol {
        6 => "tcp",
        17 => "udp",
        132 => "sctp",
        _ => "udplite",
    };
    for port in ports {
        match port {
            Port::Range { min, max } => ranges.push(PortRange { min: *min, max: *max }),
            Port::Named(name) => named.push(Arc::new(SetSpec {
                id: names::named_port_ip_set_id(selector.canonical(), protocol_name, name),
                source: SetSource::NamedPort {
                    selector: selector.clone(),
                    protocol,
                    port: name.clone(),
                },
            })),
            Port::Invalid(text) => return Err(format!("{field}: {text:?} is no port")),
        }
    }
    Ok((ranges, named))
}

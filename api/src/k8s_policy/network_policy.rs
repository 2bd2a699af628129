//! Kubernetes NetworkPolicy.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::ports::PortsByProtocol;
use super::{Conversion, ConversionError, metadata, namespace_selector, pod_selector};
use crate::meta;
use crate::v3::{self, Action, EntityRule, PolicyType, Port, Protocol, Rule};

/// Our NetworkPolicy for a Kubernetes NetworkPolicy: tier default, order 1000, the same name and namespace.
#[must_use]
pub fn from_network_policy(policy: &NetworkPolicy) -> Conversion<v3::NetworkPolicy> {
    let spec = policy.spec.clone().unwrap_or_default();
    let Conversion { policy: spec, errors } = from_staged_spec(&spec);
    let mut converted = v3::NetworkPolicy::new("", spec);
    converted.metadata = metadata(&policy.metadata);
    Conversion {
        policy: converted,
        errors,
    }
}

/// The spec of our NetworkPolicy for the spec of a Kubernetes NetworkPolicy, which a StagedKubernetesNetworkPolicy
/// has too.
#[must_use]
pub fn from_staged_spec(spec: &NetworkPolicySpec) -> Conversion<v3::NetworkPolicySpec> {
    let mut errors = Vec::new();
    let ingress = spec
        .ingress
        .iter()
        .flatten()
        .map(|rule| (&rule.from, &rule.ports));
    let ingress = rules(PolicyType::Ingress, ingress, &mut errors);
    let egress = spec.egress.iter().flatten().map(|rule| (&rule.to, &rule.ports));
    let egress = rules(PolicyType::Egress, egress, &mut errors);
    let policy = v3::NetworkPolicySpec {
        tier: meta::TIER_DEFAULT.to_owned(),
        order: Some(meta::KUBERNETES_POLICY_ORDER),
        ingress,
        egress,
        selector: pod_selector(spec.pod_selector.as_ref()),
        types: types(spec.policy_types.as_deref().unwrap_or_default()),
        ..v3::NetworkPolicySpec::default()
    };
    Conversion { policy, errors }
}

fn types(listed: &[String]) -> Vec<PolicyType> {
    let mut types: Vec<_> = [PolicyType::Ingress, PolicyType::Egress]
        .into_iter()
        .filter(|known| listed.iter().any(|name| name == known.as_str()))
        .collect();
    if types.is_empty() {
        types.push(PolicyType::Ingress);
    }
    types
}

type Peers = Option<Vec<NetworkPolicyPeer>>;
type Ports = Option<Vec<NetworkPolicyPort>>;

fn rules<'a>(
    direction: PolicyType,
    source: impl Iterator<Item = (&'a Peers, &'a Ports)>,
    errors: &mut Vec<ConversionError>,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (index, (peers, ports)) in source.enumerate() {
        let peers = peers.as_deref().unwrap_or_default();
        match rule(&direction, peers, ports.as_deref().unwrap_or_default()) {
            Ok(converted) => rules.extend(converted),
            Err(reason) => errors.push(ConversionError {
                direction: direction.clone(),
                index,
                reason,
            }),
        }
    }
    rules
}

/// One rule for each protocol and peer.
fn rule(
    direction: &PolicyType,
    peers: &[NetworkPolicyPeer],
    ports: &[NetworkPolicyPort],
) -> Result<Vec<Rule>, String> {
    let peers: Vec<EntityRule> = if peers.is_empty() {
        vec![EntityRule::default()]
    } else {
        peers.iter().map(peer).collect::<Result<_, _>>()?
    };
    let mut rules = Vec::new();
    for (protocol, ports) in ports_by_protocol(ports)?.into_groups() {
        for peer in &peers {
            rules.push(combine(direction, Action::Allow, &protocol, peer, &ports));
        }
    }
    Ok(rules)
}

/// A rule with the peer at the far end and the ports at the destination.
pub(super) fn combine(
    direction: &PolicyType,
    action: Action,
    protocol: &Option<Protocol>,
    peer: &EntityRule,
    ports: &[Port],
) -> Rule {
    let (source, destination) = if *direction == PolicyType::Egress {
        (
            EntityRule::default(),
            EntityRule {
                ports: ports.to_vec(),
                ..peer.clone()
            },
        )
    } else {
        (
            peer.clone(),
            EntityRule {
                ports: ports.to_vec(),
                ..EntityRule::default()
            },
        )
    };
    let unless_empty = |entity: EntityRule| (entity != EntityRule::default()).then_some(entity);
    Rule {
        action,
        protocol: protocol.clone(),
        source: unless_empty(source),
        destination: unless_empty(destination),
        ..Rule::default()
    }
}

fn ports_by_protocol(ports: &[NetworkPolicyPort]) -> Result<PortsByProtocol, String> {
    if ports.is_empty() {
        return Ok(PortsByProtocol::any());
    }
    let mut groups = PortsByProtocol::default();
    for entry in ports {
        let protocol = entry.protocol.as_deref().unwrap_or("TCP");
        let known = Protocol::NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(protocol));
        groups.add(known.map_or(protocol, |(name, _)| name), port(entry)?);
    }
    Ok(groups)
}

fn port(entry: &NetworkPolicyPort) -> Result<Option<Port>, String> {
    let Some(port) = &entry.port else { return Ok(None) };
    let first = match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    };
    let text = entry
        .end_port
        .map_or_else(|| first.clone(), |last| format!("{first}:{last}"));
    text.parse()
        .map(Some)
        .map_err(|error: v3::rule::PortError| error.to_string())
}

fn peer(peer: &NetworkPolicyPeer) -> Result<EntityRule, String> {
    if let Some(block) = &peer.ip_block {
        return networks(block);
    }
    Ok(EntityRule {
        selector: pod_selector(peer.pod_selector.as_ref()),
        namespace_selector: namespace_selector(peer.namespace_selector.as_ref()),
        ..EntityRule::default()
    })
}

fn networks(block: &IPBlock) -> Result<EntityRule, String> {
    Ok(EntityRule {
        nets: vec![network(&block.cidr)?],
        not_nets: block
            .except
            .iter()
            .flatten()
            .map(|cidr| network(cidr))
            .collect::<Result<_, _>>()?,
        ..EntityRule::default()
    })
}

/// A CIDR without host bits.
pub(super) fn network(cidr: &str) -> Result<String, String> {
    cidr.parse::<IpNet>()
        .map(|net| net.trunc().to_string())
        .map_err(|_| format!("{cidr:?} is no CIDR"))
}

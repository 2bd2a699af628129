//! ClusterNetworkPolicy (`policy.networking.k8s.io/v1alpha2`): its types, and what it becomes.
//!
//! The definition of the kind is not ours, so no CRD is made from these types. Peers with fields that are not listed
//! here convert to nothing, which fails the rule.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube_derive::CustomResource;
use serde::{Deserialize, Serialize};

use super::network_policy::{combine, network};
use super::ports::PortsByProtocol;
use super::{Conversion, ConversionError, metadata, namespace_selector, pod_selector};
use crate::meta;
use crate::v3::{
    Action, EntityRule, GlobalNetworkPolicy, GlobalNetworkPolicySpec, PolicyType, Port, Rule, RuleMetadata,
};

/// Annotation of a rule that has a name.
const RULE_NAME: &str = "name";

/// Spec of a ClusterNetworkPolicy.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "policy.networking.k8s.io",
    version = "v1alpha2",
    kind = "ClusterNetworkPolicy",
    plural = "clusternetworkpolicies",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default",
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicySpec {
    /// `Admin` or `Baseline`.
    pub tier: String,
    /// Place within the tier, lower first.
    pub priority: i32,
    /// The pods that the policy is about.
    pub subject: NetworkPolicySubject,
    /// Rules for traffic to the pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<NetworkPolicyRule>,
    /// Rules for traffic from the pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<NetworkPolicyRule>,
}

/// The pods that a policy is about: one of both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicySubject {
    /// All pods of these namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Pods by their own and their namespace's labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPods>,
}

/// Pods by their own and their namespace's labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamespacedPods {
    /// Labels of the namespace.
    pub namespace_selector: LabelSelector,
    /// Labels of the pod.
    pub pod_selector: LabelSelector,
}

/// A rule; ingress rules have `from`, egress rules `to`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyRule {
    /// Name of the rule.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `Accept`, `Deny` or `Pass`.
    pub action: String,
    /// Where the traffic comes from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<NetworkPolicyPeer>,
    /// Where the traffic goes to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<NetworkPolicyPeer>,
    /// Protocols and ports; none = all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<NetworkPolicyProtocol>,
}

/// One kind of peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyPeer {
    /// All pods of these namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Pods by their own and their namespace's labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPods>,
    /// CIDRs; egress only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
}

/// One protocol with its ports, or a named port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyProtocol {
    /// TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<NetworkPolicyProtocolPort>,
    /// UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<NetworkPolicyProtocolPort>,
    /// SCTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sctp: Option<NetworkPolicyProtocolPort>,
    /// A named port of the destination.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination_named_port: String,
}

/// Ports of a protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyProtocolPort {
    /// Port of the destination; none = all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<NetworkPolicyPort>,
}

/// A port or a range.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyPort {
    /// One port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i32>,
    /// A range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<NetworkPolicyPortRange>,
}

/// A range of ports, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyPortRange {
    /// First port.
    pub start: i32,
    /// Last port.
    pub end: i32,
}

/// Our GlobalNetworkPolicy for a ClusterNetworkPolicy. `None` for one without a known tier or without a subject: it
/// counts as absent.
#[must_use]
pub fn from_cluster_network_policy(policy: &ClusterNetworkPolicy) -> Option<Conversion<GlobalNetworkPolicy>> {
    let spec = &policy.spec;
    let tier = match spec.tier.as_str() {
        "Admin" => meta::TIER_KUBE_ADMIN,
        "Baseline" => meta::TIER_KUBE_BASELINE,
        _ => return None,
    };
    let (namespace_selector, selector) = match (&spec.subject.namespaces, &spec.subject.pods) {
        (Some(namespaces), _) => (namespace_selector(Some(namespaces)), pod_selector(None)),
        (None, Some(pods)) => (
            namespace_selector(Some(&pods.namespace_selector)),
            pod_selector(Some(&pods.pod_selector)),
        ),
        (None, None) => return None,
    };
    let mut errors = Vec::new();
    let ingress = rules(PolicyType::Ingress, &spec.ingress, &mut errors);
    let egress = rules(PolicyType::Egress, &spec.egress, &mut errors);
    // These tiers pass by default, so a direction without rules has nothing to say.
    let types = [(PolicyType::Ingress, &ingress), (PolicyType::Egress, &egress)];
    let types = types
        .into_iter()
        .filter(|(_, rules)| !rules.is_empty())
        .map(|(direction, _)| direction)
        .collect();
    let mut converted = GlobalNetworkPolicy::new(
        "",
        GlobalNetworkPolicySpec {
            tier: tier.to_owned(),
            order: Some(f64::from(spec.priority)),
            ingress,
            egress,
            selector,
            types,
            namespace_selector,
            ..GlobalNetworkPolicySpec::default()
        },
    );
    converted.metadata = metadata(&policy.metadata);
    Some(Conversion {
        policy: converted,
        errors,
    })
}

fn rules(
    direction: PolicyType,
    source: &[NetworkPolicyRule],
    errors: &mut Vec<ConversionError>,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (index, rule) in source.iter().enumerate() {
        match convert(&direction, rule) {
            Ok(converted) => rules.extend(converted),
            Err(reason) => {
                errors.push(ConversionError {
                    direction: direction.clone(),
                    index,
                    reason,
                });
                if matches!(rule.action.as_str(), "Deny" | "Pass") {
                    rules.push(Rule {
                        action: Action::Deny,
                        ..Rule::default()
                    });
                }
            }
        }
    }
    rules
}

/// One rule for each protocol and peer.
fn convert(direction: &PolicyType, rule: &NetworkPolicyRule) -> Result<Vec<Rule>, String> {
    let action = match rule.action.as_str() {
        "Accept" => Action::Allow,
        "Deny" => Action::Deny,
        "Pass" => Action::Pass,
        other => return Err(format!("action {other:?} is none of Accept, Deny, Pass")),
    };
    let peers = if *direction == PolicyType::Egress {
        &rule.to
    } else {
        &rule.from
    };
    let peers = peers
        .iter()
        .map(|far| peer(direction, far))
        .collect::<Result<Vec<_>, _>>()?;
    let metadata = (!rule.name.is_empty()).then(|| RuleMetadata {
        annotations: [(RULE_NAME.to_owned(), rule.name.clone())].into(),
    });
    let mut rules = Vec::new();
    for (protocol, ports) in ports_by_protocol(&rule.protocols)?.into_groups() {
        for peer in &peers {
            let combined = combine(direction, action.clone(), &protocol, peer, &ports);
            rules.push(Rule {
                metadata: metadata.clone(),
                ..combined
            });
        }
    }
    Ok(rules)
}

fn peer(direction: &PolicyType, peer: &NetworkPolicyPeer) -> Result<EntityRule, String> {
    let mut entity = EntityRule::default();
    if let Some(namespaces) = &peer.namespaces {
        entity.namespace_selector = namespace_selector(Some(namespaces));
    }
    if let Some(pods) = &peer.pods {
        entity.selector = pod_selector(Some(&pods.pod_selector));
        entity.namespace_selector = namespace_selector(Some(&pods.namespace_selector));
    }
    if *direction == PolicyType::Egress {
        entity.nets = peer
            .networks
            .iter()
            .map(|cidr| network(cidr))
            .collect::<Result<_, _>>()?;
    }
    if entity == EntityRule::default() {
        return Err("a peer has none of the fields namespaces, pods, networks (egress only)".to_owned());
    }
    Ok(entity)
}

fn ports_by_protocol(protocols: &[NetworkPolicyProtocol]) -> Result<PortsByProtocol, String> {
    if protocols.is_empty() {
        return Ok(PortsByProtocol::any());
    }
    let mut groups = PortsByProtocol::default();
    for entry in protocols {
        let listed = [("TCP", &entry.tcp), ("UDP", &entry.udp), ("SCTP", &entry.sctp)];
        match listed
            .into_iter()
            .find_map(|(name, ports)| Some((name, ports.as_ref()?)))
        {
            Some((name, ports)) => groups.add(name, port(ports.destination_port.as_ref())?),
            None if !entry.destination_named_port.is_empty() => {
                groups.add("", Some(Port::Named(entry.destination_named_port.clone())));
            }
            // An entry that says nothing allows everything, whatever else is listed.
            None => return Ok(PortsByProtocol::any()),
        }
    }
    Ok(groups)
}

fn port(port: Option<&NetworkPolicyPort>) -> Result<Option<Port>, String> {
    let Some(port) = port else { return Ok(None) };
    let number = |number: i32| u16::try_from(number).map_err(|_| format!("port {number} is out of range"));
    match (port.number.filter(|number| *number != 0), &port.range) {
        (Some(single), _) => Ok(Some(Port::single(number(single)?))),
        (None, Some(range)) => {
            let (min, max) = (number(range.start)?, number(range.end)?);
            if min > max {
                return Err(format!("port range {min}-{max} ends before it starts"));
            }
            Ok(Some(Port::Range { min, max }))
        }
        (None, None) => Ok(None),
    }
}

//! AdminNetworkPolicy and BaselineAdminNetworkPolicy (`policy.networking.k8s.io/v1alpha1`), the older kinds that
//! ClusterNetworkPolicy replaces: their types, and what they become.
//!
//! Each is first written as the ClusterNetworkPolicy that says the same, so that both have one conversion. What has no
//! counterpart there (peers by node or domain name) fails its rule, which then denies or is left out.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube_derive::CustomResource;
use serde::{Deserialize, Serialize};

use super::Conversion;
use super::cluster_network_policy::{
    ClusterNetworkPolicy, ClusterNetworkPolicySpec, NamespacedPods, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicyPortRange, NetworkPolicyProtocol, NetworkPolicyProtocolPort, NetworkPolicyRule,
    NetworkPolicySubject, from_cluster_network_policy,
};
use crate::v3::GlobalNetworkPolicy;

/// Place of the one BaselineAdminNetworkPolicy, which has no priority.
const BASELINE_PRIORITY: i32 = 1000;

/// Spec of an AdminNetworkPolicy.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "policy.networking.k8s.io",
    version = "v1alpha1",
    kind = "AdminNetworkPolicy",
    plural = "adminnetworkpolicies",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default",
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase", default)]
pub struct AdminNetworkPolicySpec {
    /// Place among the policies, lower first.
    pub priority: i32,
    /// The pods that the policy is about.
    pub subject: NetworkPolicySubject,
    /// Rules for traffic to the pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<AdminNetworkPolicyRule>,
    /// Rules for traffic from the pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<AdminNetworkPolicyRule>,
}

/// Spec of the BaselineAdminNetworkPolicy.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "policy.networking.k8s.io",
    version = "v1alpha1",
    kind = "BaselineAdminNetworkPolicy",
    plural = "baselineadminnetworkpolicies",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default",
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase", default)]
pub struct BaselineAdminNetworkPolicySpec {
    /// The pods that the policy is about.
    pub subject: NetworkPolicySubject,
    /// Rules for traffic to the pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<AdminNetworkPolicyRule>,
    /// Rules for traffic from the pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<AdminNetworkPolicyRule>,
}

/// A rule; ingress rules have `from`, egress rules `to`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdminNetworkPolicyRule {
    /// Name of the rule.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `Allow`, `Deny` or `Pass`.
    pub action: String,
    /// Where the traffic comes from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<AdminNetworkPolicyPeer>,
    /// Where the traffic goes to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<AdminNetworkPolicyPeer>,
    /// Ports; none = all traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<AdminNetworkPolicyPort>>,
}

/// One kind of peer. Fields that are not here make an empty peer, which converts to nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdminNetworkPolicyPeer {
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

/// A port, a range, or a named port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdminNetworkPolicyPort {
    /// One port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_number: Option<AdminNetworkPolicyPortNumber>,
    /// A named port of the destination.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub named_port: String,
    /// A range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_range: Option<AdminNetworkPolicyPortRange>,
}

/// One port of a protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdminNetworkPolicyPortNumber {
    /// `TCP` (also when empty), `UDP` or `SCTP`.
    pub protocol: String,
    /// The port.
    pub port: i32,
}

/// Ports of a protocol, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdminNetworkPolicyPortRange {
    /// `TCP` (also when empty), `UDP` or `SCTP`.
    pub protocol: String,
    /// First port.
    pub start: i32,
    /// Last port.
    pub end: i32,
}

/// Our GlobalNetworkPolicy for an AdminNetworkPolicy, in the tier of cluster policies of admins. `None` for one
/// without a subject: it counts as absent.
#[must_use]
pub fn from_admin_network_policy(policy: &AdminNetworkPolicy) -> Option<Conversion<GlobalNetworkPolicy>> {
    let spec = &policy.spec;
    convert(
        &policy.metadata,
        ClusterNetworkPolicySpec {
            tier: "Admin".to_owned(),
            priority: spec.priority,
            subject: spec.subject.clone(),
            ingress: rules(&spec.ingress),
            egress: rules(&spec.egress),
        },
    )
}

/// Our GlobalNetworkPolicy for the BaselineAdminNetworkPolicy, in the tier of baseline cluster policies. `None` for
/// one without a subject: it counts as absent.
#[must_use]
pub fn from_baseline_admin_network_policy(
    policy: &BaselineAdminNetworkPolicy,
) -> Option<Conversion<GlobalNetworkPolicy>> {
    let spec = &policy.spec;
    convert(
        &policy.metadata,
        ClusterNetworkPolicySpec {
            tier: "Baseline".to_owned(),
            priority: BASELINE_PRIORITY,
            subject: spec.subject.clone(),
            ingress: rules(&spec.ingress),
            egress: rules(&spec.egress),
        },
    )
}

fn convert(metadata: &ObjectMeta, spec: ClusterNetworkPolicySpec) -> Option<Conversion<GlobalNetworkPolicy>> {
    from_cluster_network_policy(&ClusterNetworkPolicy {
        metadata: metadata.clone(),
        spec,
    })
}

fn rules(source: &[AdminNetworkPolicyRule]) -> Vec<NetworkPolicyRule> {
    source
        .iter()
        .map(|rule| NetworkPolicyRule {
            name: rule.name.clone(),
            // The action of this kind is called otherwise; others fail there.
            action: match rule.action.as_str() {
                "Allow" => "Accept",
                "Accept" => "",
                other => other,
            }
            .to_owned(),
            from: rule.from.iter().map(peer).collect(),
            to: rule.to.iter().map(peer).collect(),
            protocols: rule.ports.iter().flatten().map(protocol).collect(),
        })
        .collect()
}

fn peer(peer: &AdminNetworkPolicyPeer) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespaces: peer.namespaces.clone(),
        pods: peer.pods.clone(),
        networks: peer.networks.clone(),
    }
}

fn protocol(port: &AdminNetworkPolicyPort) -> NetworkPolicyProtocol {
    let (name, wanted) = match (&port.port_number, &port.port_range) {
        (Some(single), _) => (
            single.protocol.as_str(),
            NetworkPolicyPort {
                // Zero would say all ports there; no port is below it.
                number: Some(if single.port == 0 { -1 } else { single.port }),
                range: None,
            },
        ),
        (None, Some(range)) => (
            range.protocol.as_str(),
            NetworkPolicyPort {
                number: None,
                range: Some(NetworkPolicyPortRange {
                    start: range.start,
                    end: range.end,
                }),
            },
        ),
        (None, None) => {
            return NetworkPolicyProtocol {
                destination_named_port: port.named_port.clone(),
                ..NetworkPolicyProtocol::default()
            };
        }
    };
    let ports = Some(NetworkPolicyProtocolPort {
        destination_port: Some(wanted),
    });
    let mut protocol = NetworkPolicyProtocol::default();
    match name {
        "UDP" => protocol.udp = ports,
        "SCTP" => protocol.sctp = ports,
        "TCP" | "" => protocol.tcp = ports,
        // No port of no protocol: the rule fails there.
        _ => {
            protocol.tcp = Some(NetworkPolicyProtocolPort {
                destination_port: Some(NetworkPolicyPort {
                    number: Some(-1),
                    range: None,
                }),
            });
        }
    }
    protocol
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn converted(spec: Value) -> (Value, usize) {
        let policy: AdminNetworkPolicy = serde_json::from_value(json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy",
            "metadata": {"name": "p"}, "spec": spec,
        }))
        .unwrap();
        let conversion = from_admin_network_policy(&policy).unwrap();
        (
            serde_json::to_value(&conversion.policy.spec).unwrap(),
            conversion.errors.len(),
        )
    }

    #[test]
    fn rules_keep_their_meaning() {
        let (spec, errors) = converted(
            json!({"priority": 7, "subject": {"namespaces": {"matchLabels": {"a": "b"}}},
            "ingress": [{"name": "r", "action": "Allow", "from": [{"namespaces": {}}],
                "ports": [{"portNumber": {"protocol": "UDP", "port": 53}}]}],
            "egress": [{"action": "Pass", "to": [{"networks": ["10.0.0.0/8"]}],
                "ports": [{"portRange": {"start": 80, "end": 90}}]}]}),
        );
        assert_eq!(errors, 0);
        assert_eq!(
            spec,
            json!({"tier": "kube-admin", "order": 7, "types": ["Ingress", "Egress"],
                "selector": "projectcalico.org/orchestrator == 'k8s'", "namespaceSelector": "a == 'b'",
                "ingress": [{"action": "Allow", "protocol": "UDP", "source": {"namespaceSelector": "all()"},
                    "destination": {"ports": [53]}, "metadata": {"annotations": {"name": "r"}}}],
                "egress": [{"action": "Pass", "protocol": "TCP",
                    "destination": {"nets": ["10.0.0.0/8"], "ports": ["80:90"]}}]})
        );
    }

    #[test]
    fn what_cannot_be_converted_denies_or_is_left_out() {
        for (rule, left) in [
            (
                json!({"action": "Deny", "to": [{"nodes": {}}]}),
                json!([{"action": "Deny"}]),
            ),
            (
                json!({"action": "Allow", "to": [{"domainNames": ["a.b"]}]}),
                Value::Null,
            ),
            (
                json!({"action": "Accept", "to": [{"namespaces": {}}]}),
                Value::Null,
            ),
            (
                json!({"action": "Pass", "to": [{"namespaces": {}}], "ports": [{"portNumber": {"protocol": "GRE", "port": 1}}]}),
                json!([{"action": "Deny"}]),
            ),
            (
                json!({"action": "Allow", "to": [{"namespaces": {}}], "ports": [{"portNumber": {"protocol": "TCP"}}]}),
                Value::Null,
            ),
        ] {
            let (spec, errors) = converted(json!({"subject": {"namespaces": {}}, "egress": [rule]}));
            assert_eq!((&spec["egress"], errors), (&left, 1), "{rule}");
        }
    }

    #[test]
    fn the_baseline_has_its_tier_and_a_policy_without_subject_is_absent() {
        let mut policy = BaselineAdminNetworkPolicy::default();
        assert!(from_baseline_admin_network_policy(&policy).is_none());
        policy.spec.subject.namespaces = Some(LabelSelector::default());
        let conversion = from_baseline_admin_network_policy(&policy).unwrap();
        assert_eq!(conversion.policy.spec.tier, "kube-baseline");
    }
}

//! Kubernetes NetworkPolicy, ClusterNetworkPolicy and its older forms in terms of our own policies.
//!
//! What cannot be converted never opens anything: an allowing rule is left out, a denying one denies everything. The
//! shape of the result is Calico's (`libcalico-go/lib/backend/k8s/conversion`), down to the text of selectors.

mod admin_network_policy;
mod cluster_network_policy;
mod network_policy;
mod ports;

pub use admin_network_policy::{
    AdminNetworkPolicy, AdminNetworkPolicyPeer, AdminNetworkPolicyPort, AdminNetworkPolicyPortNumber,
    AdminNetworkPolicyPortRange, AdminNetworkPolicyRule, AdminNetworkPolicySpec, BaselineAdminNetworkPolicy,
    BaselineAdminNetworkPolicySpec, from_admin_network_policy, from_baseline_admin_network_policy,
};
pub use cluster_network_policy::{
    ClusterNetworkPolicy, ClusterNetworkPolicySpec, NamespacedPods, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicyPortRange, NetworkPolicyProtocol, NetworkPolicyProtocolPort, NetworkPolicyRule,
    NetworkPolicySubject, from_cluster_network_policy,
};
pub use network_policy::{from_network_policy, from_staged_spec};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::meta;
use crate::names;
use crate::v3::PolicyType;

/// A converted policy, and what of the original could not be converted.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversion<P> {
    /// The policy; what it lacks has an entry in `errors`.
    pub policy: P,
    /// One entry for each rule that could not be converted.
    pub errors: Vec<ConversionError>,
}

/// A rule that could not be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{direction} rule {index}: {reason}")]
pub struct ConversionError {
    /// Direction of the rule.
    pub direction: PolicyType,
    /// Number of the rule within its direction, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// Metadata of the converted policy: the same name, a UID of its own.
fn metadata(source: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: source.name.clone(),
        namespace: source.namespace.clone(),
        uid: source.uid.as_deref().and_then(names::convert_uid),
        creation_timestamp: source.creation_timestamp.clone(),
        resource_version: source.resource_version.clone(),
        ..ObjectMeta::default()
    }
}

/// Selector of pods; `None` means all pods. Network sets and host endpoints lack the label and stay out.
fn pod_selector(selector: Option<&LabelSelector>) -> String {
    let mut terms = vec![format!(
        "{} == '{}'",
        meta::LABEL_ORCHESTRATOR,
        meta::ORCHESTRATOR_K8S
    )];
    terms.extend(selector.into_iter().flat_map(terms_of));
    terms.join(" && ")
}

/// Selector of namespaces; empty for `None`, `all()` for a selector without terms.
fn namespace_selector(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else {
        return String::new();
    };
    let terms = terms_of(selector);
    if terms.is_empty() {
        "all()".to_owned()
    } else {
        terms.join(" && ")
    }
}

fn terms_of(selector: &LabelSelector) -> Vec<String> {
    let labels = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(key, value)| format!("{key} == '{value}'"));
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let key = &expression.key;
        let values = || expression.values.as_deref().unwrap_or_default().join("', '");
        match expression.operator.as_str() {
            "In" => format!("{key} in {{ '{}' }}", values()),
            "NotIn" => format!("{key} not in {{ '{}' }}", values()),
            "Exists" => format!("has({key})"),
            "DoesNotExist" => format!("! has({key})"),
            // The API server admits no other. Should there be one, the term selects nothing.
            _ => "!all()".to_owned(),
        }
    });
    labels.chain(expressions).collect()
}

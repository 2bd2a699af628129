//! The staged kinds: policies that are evaluated and reported, never enforced.

use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyIngressRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::network_policy::{PolicyPerformanceHint, PolicyType};
use super::rule::Rule;

string_enum! {
    /// What making a staged policy real would do.
    pub enum StagedAction {
        /// Create or change the policy of the same name.
        Set = "Set",
        /// Delete the policy of the same name.
        Delete = "Delete",
        /// Learn what traffic there is.
        Learn = "Learn",
        /// Nothing.
        Ignore = "Ignore",
    }
}

resource! {
    #[kube(
        kind = "StagedNetworkPolicy",
        plural = "stagednetworkpolicies",
        shortname = "snp",
        shortname = "scnp",
        namespaced,
        selectable = ".spec.tier",
        doc = "A NetworkPolicy that is reported and not enforced."
    )]
    /// Spec of a StagedNetworkPolicy.
    pub struct StagedNetworkPolicySpec {
        /// What making it real would do (default Set).
        pub staged_action: Option<StagedAction>,
        /// Tier of the policy.
        #[schemars(extend("default" = "default"))]
        pub tier: String,
        /// Place within the tier: lower first, absent last, ties by name.
        #[serde(serialize_with = "super::model::serialize_order")]
        pub order: Option<f64>,
        /// Rules for traffic to the endpoints, first match wins.
        #[schemars(length(max = 1024))]
        pub ingress: Vec<Rule>,
        /// Rules for traffic from the endpoints, first match wins.
        #[schemars(length(max = 1024))]
        pub egress: Vec<Rule>,
        /// Endpoints of the namespace that the policy applies to; empty = all.
        #[schemars(length(max = 1024))]
        pub selector: String,
        /// Directions that the policy applies to.
        #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
        pub types: Vec<PolicyType>,
        /// Service accounts of the endpoints that the policy applies to.
        #[schemars(length(max = 1024))]
        pub service_account_selector: String,
        /// Hints for the implementation.
        #[schemars(extend("x-kubernetes-list-type" = "set"))]
        pub performance_hints: Vec<PolicyPerformanceHint>,
    }
}

resource! {
    #[kube(
        kind = "StagedGlobalNetworkPolicy",
        plural = "stagedglobalnetworkpolicies",
        shortname = "sgnp",
        selectable = ".spec.tier",
        doc = "A GlobalNetworkPolicy that is reported and not enforced."
    )]
    /// Spec of a StagedGlobalNetworkPolicy.
    pub struct StagedGlobalNetworkPolicySpec {
        /// What making it real would do (default Set).
        pub staged_action: Option<StagedAction>,
        /// Tier of the policy.
        #[schemars(extend("default" = "default"))]
        pub tier: String,
        /// Place within the tier: lower first, absent last, ties by name.
        #[serde(serialize_with = "super::model::serialize_order")]
        pub order: Option<f64>,
        /// Rules for traffic to the endpoints, first match wins.
        #[schemars(length(max = 1024))]
        pub ingress: Vec<Rule>,
        /// Rules for traffic from the endpoints, first match wins.
        #[schemars(length(max = 1024))]
        pub egress: Vec<Rule>,
        /// Endpoints that the policy applies to; empty = all.
        #[schemars(length(max = 1024))]
        pub selector: String,
        /// Directions that the policy applies to.
        #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
        pub types: Vec<PolicyType>,
        /// Host endpoints: apply before connection tracking, in both directions; needs applyOnForward.
        pub do_not_track: bool,
        /// Host endpoints: apply before destination translation, ingress only; needs applyOnForward.
        #[serde(rename = "preDNAT")]
        pub pre_dnat: bool,
        /// Host endpoints: apply to forwarded traffic too.
        pub apply_on_forward: bool,
        /// Service accounts of the endpoints that the policy applies to.
        #[schemars(length(max = 1024))]
        pub service_account_selector: String,
        /// Namespaces of the endpoints that the policy applies to.
        #[schemars(length(max = 1024))]
        pub namespace_selector: String,
        /// Hints for the implementation.
        #[schemars(extend("x-kubernetes-list-type" = "set"))]
        pub performance_hints: Vec<PolicyPerformanceHint>,
    }
}

resource! {
    #[kube(
        kind = "StagedKubernetesNetworkPolicy",
        plural = "stagedkubernetesnetworkpolicies",
        shortname = "sknp",
        namespaced,
        doc = "A Kubernetes NetworkPolicy that is reported and not enforced."
    )]
    /// Spec of a StagedKubernetesNetworkPolicy.
    pub struct StagedKubernetesNetworkPolicySpec {
        /// What making it real would do (default Set).
        pub staged_action: Option<StagedAction>,
        /// Pods of the namespace that the policy applies to.
        pub pod_selector: Option<LabelSelector>,
        /// Rules for traffic to the pods.
        pub ingress: Vec<NetworkPolicyIngressRule>,
        /// Rules for traffic from the pods.
        pub egress: Vec<NetworkPolicyEgressRule>,
        /// Directions that the policy applies to.
        pub policy_types: Vec<PolicyType>,
    }
}

//! NetworkPolicy and GlobalNetworkPolicy.

use super::rule::Rule;

string_enum! {
    /// A direction that a policy applies to.
    pub enum PolicyType {
        /// Traffic to the endpoint.
        Ingress = "Ingress",
        /// Traffic from the endpoint.
        Egress = "Egress",
    }
}

string_enum! {
    /// A hint that trades memory for latency.
    pub enum PolicyPerformanceHint {
        /// Program the policy on every node, also where it selects nothing yet.
        AssumeNeededOnEveryNode = "AssumeNeededOnEveryNode",
    }
}

resource! {
    #[kube(
        kind = "NetworkPolicy",
        plural = "networkpolicies",
        shortname = "cnp",
        shortname = "caliconetworkpolicy",
        namespaced,
        selectable = ".spec.tier",
        doc = "Policy for the endpoints of one namespace."
    )]
    /// Spec of a NetworkPolicy: policy for the endpoints of one namespace.
    pub struct NetworkPolicySpec {
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
        /// Directions that the policy applies to; by default those it has rules for, and Ingress without any rule.
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
        kind = "GlobalNetworkPolicy",
        plural = "globalnetworkpolicies",
        shortname = "gnp",
        shortname = "cgnp",
        selectable = ".spec.tier",
        doc = "Policy for endpoints of all namespaces and for host endpoints."
    )]
    /// Spec of a GlobalNetworkPolicy: policy for endpoints of all namespaces and for host endpoints.
    pub struct GlobalNetworkPolicySpec {
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
        /// Directions that the policy applies to; by default those it has rules for, and Ingress without any rule.
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

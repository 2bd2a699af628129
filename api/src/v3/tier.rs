//! Tier: an ordered group of policies.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::rule::Action;

resource! {
    #[kube(
        kind = "Tier",
        plural = "tiers",
        status = "TierStatus",
        doc = "An ordered group of policies."
    )]
    /// Spec of a Tier: an ordered group of policies.
    pub struct TierSpec {
        /// Place among the tiers: lower first, absent last, ties by name.
        #[serde(serialize_with = "super::model::serialize_order")]
        pub order: Option<f64>,
        /// What happens to traffic that policies of the tier select but no rule decides: Deny or Pass.
        #[schemars(extend("enum" = ["Pass", "Deny"], "default" = "Deny"))]
        pub default_action: Option<Action>,
    }
}

model! {
    /// Status of a Tier.
    pub struct TierStatus {
        /// Conditions; `Ready` is known.
        pub conditions: Vec<Condition>,
    }
}

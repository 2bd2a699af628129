//! What admission fills in and refuses of `projectcalico.org/v3` beyond schemas: the tier and its label, the types of
//! policies, the size of a pool's blocks, and the tiers that must stay.
//!
//! Owns the rules twice: as functions, for a server that runs them itself, and as [`manifests`] of admission policies
//! for a Kubernetes API server. Both give the same object; `tests/vectors/admission.json` lists cases for both. Never
//! says that a value is bad: a field of the wrong type is left as it is, for validation to name.
//!
//! Source: Calico `api/admission`. Schema defaults come before: a `null` is an absent field.

mod manifests;

use serde_json::{Map, Value, json};

use crate::{meta, v3};

pub use manifests::{manifests, name_of};

/// What a request does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Makes it, by POST or by a patch of what does not exist.
    Create,
    /// Changes it.
    Update,
}

/// A refusal, as a Kubernetes API server words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{resource} {name:?} is forbidden: ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: {reason}"
)]
pub struct Refusal {
    /// Resource and group, as `tiers.projectcalico.org`.
    pub resource: &'static str,
    /// Name of the object.
    pub name: String,
    /// The admission policy that says so.
    pub policy: &'static str,
    /// Why.
    pub reason: String,
}

impl Refusal {
    /// HTTP status of the answer.
    pub const CODE: u16 = 422;
    /// `reason` of the answer's Status.
    pub const REASON: &'static str = "Invalid";
}

/// Policy that fills in the directions of policies.
const POLICY_TYPES: &str = "policytypes.policy.projectcalico.org";
/// Policy that fills in tiers and their labels.
const TIER_LABEL: &str = "tierlabel.policy.projectcalico.org";
/// Policy that fills in the size of blocks.
const IP_POOL: &str = "ippool.policy.projectcalico.org";
/// Policy that keeps the tiers that everything relies on.
const BUILTIN_TIERS: &str = "protect-builtin-tiers.projectcalico.org";

/// Tiers that cannot be deleted.
const KEPT_TIERS: [&str; 3] = [
    meta::TIER_DEFAULT,
    meta::TIER_KUBE_ADMIN,
    meta::TIER_KUBE_BASELINE,
];

/// Fills in what admission policies fill in. Objects of other groups, and those without a spec, stay as they are.
pub fn mutate(operation: Operation, object: &mut Value) {
    let is_ours = object.get("apiVersion").and_then(Value::as_str) == Some(v3::API_VERSION);
    let Some(fields) = object.as_object_mut().filter(|_| is_ours) else {
        return;
    };
    let kind = fields
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let Some(spec) = fields.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    match kind.as_str() {
        "NetworkPolicy" | "GlobalNetworkPolicy" | "StagedNetworkPolicy" | "StagedGlobalNetworkPolicy" => {
            fill_types(spec, "types", false);
            if let Some(tier) = fill_tier(spec) {
                label_tier(fields, tier);
            }
        }
        "StagedKubernetesNetworkPolicy" => fill_types(spec, "policyTypes", true),
        "IPPool" if operation == Operation::Create => fill_block_size(spec),
        _ => {}
    }
}

/// Why an object may not be deleted, if so.
#[must_use]
pub fn refuse_deletion(kind: &str, name: &str) -> Option<Refusal> {
    (kind == "Tier" && KEPT_TIERS.contains(&name)).then(|| Refusal {
        resource: "tiers.projectcalico.org",
        name: name.to_owned(),
        policy: BUILTIN_TIERS,
        reason: format!("The built-in tier {name} cannot be deleted"),
    })
}

/// Present, as CEL's `has()` sees it: an empty list is.
fn has(fields: &Map<String, Value>, key: &str) -> bool {
    fields.get(key).is_some_and(|value| !value.is_null())
}

/// The directions that there are rules for; Ingress without any. Kubernetes' own policies with egress always mean
/// both.
fn fill_types(spec: &mut Map<String, Value>, key: &str, is_kubernetes: bool) {
    if has(spec, key) {
        return;
    }
    let types = match (has(spec, "ingress"), has(spec, "egress")) {
        (_, false) => json!(["Ingress"]),
        (false, true) if !is_kubernetes => json!(["Egress"]),
        (_, true) => json!(["Ingress", "Egress"]),
    };
    spec.insert(key.to_owned(), types);
}

/// The tier, filled in when empty; `None` when it is no text.
fn fill_tier(spec: &mut Map<String, Value>) -> Option<Value> {
    let is_text = |value: &Value| value.is_null() || value.is_string();
    if spec.get("tier").is_some_and(|tier| !is_text(tier)) {
        return None;
    }
    let tier = match spec.get("tier").and_then(Value::as_str) {
        None | Some("") => meta::TIER_DEFAULT.to_owned(),
        Some(tier) => tier.to_owned(),
    };
    spec.insert("tier".to_owned(), json!(tier));
    Some(tier.into())
}

fn label_tier(fields: &mut Map<String, Value>, tier: Value) {
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else {
        return;
    };
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if labels.is_null() {
        *labels = json!({});
    }
    if let Some(labels) = labels.as_object_mut() {
        labels.insert(meta::LABEL_TIER.to_owned(), tier);
    }
}

/// Only when a pool is made: the size cannot change, so a pool without one must not get another later.
fn fill_block_size(spec: &mut Map<String, Value>) {
    let is_unset = spec
        .get("blockSize")
        .is_none_or(|size| size.is_null() || size.as_f64() == Some(0.0));
    let network = spec
        .get("cidr")
        .and_then(Value::as_str)
        .and_then(|cidr| cidr.parse::<ipnet::IpNet>().ok());
    match network {
        Some(ipnet::IpNet::V4(_)) if is_unset => spec.insert("blockSize".to_owned(), json!(26)),
        // CEL's isCIDR() takes no IPv4 address in the clothes of IPv6.
        Some(ipnet::IpNet::V6(network)) if is_unset && network.addr().to_ipv4_mapped().is_none() => {
            spec.insert("blockSize".to_owned(), json!(122))
        }
        _ => None,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_tiers_cannot_be_deleted_and_others_can() {
        let refusal = refuse_deletion("Tier", "kube-admin").unwrap();
        assert_eq!(
            refusal.to_string(),
            "tiers.projectcalico.org \"kube-admin\" is forbidden: ValidatingAdmissionPolicy \
             'protect-builtin-tiers.projectcalico.org' with binding 'protect-builtin-tiers.projectcalico.org' \
             denied request: The built-in tier kube-admin cannot be deleted"
        );
        assert_eq!(refuse_deletion("Tier", "security"), None);
        assert_eq!(refuse_deletion("IPPool", "default"), None);
    }

    #[test]
    fn wrong_types_are_left_for_validation_to_name() {
        for object in [
            json!({"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "spec": "x"}),
            json!({"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy"}),
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {}}),
            json!({"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "spec": {"cidr": 7}}),
            json!([]),
        ] {
            let mut changed = object.clone();
            mutate(Operation::Create, &mut changed);
            assert_eq!(changed, object);
        }
        let mut object = json!({"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
            "metadata": {"labels": 3}, "spec": {"tier": 7, "types": "x"}});
        let before = object.clone();
        mutate(Operation::Update, &mut object);
        assert_eq!(object, before);
    }

    #[test]
    fn filling_in_twice_changes_nothing() {
        let mut once = json!({"apiVersion": "projectcalico.org/v3", "kind": "StagedNetworkPolicy",
            "metadata": {"name": "p"}, "spec": {"egress": []}});
        mutate(Operation::Create, &mut once);
        let mut twice = once.clone();
        mutate(Operation::Update, &mut twice);
        assert_eq!(once, twice);
    }
}

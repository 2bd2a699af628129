//! The admission policies of a Kubernetes API server, and their bindings.
//!
//! `admissionregistration.k8s.io/v1`, so Kubernetes 1.36 or newer. An expression that cannot be evaluated refuses the
//! request, so each looks before it touches.

use serde_json::{Value, json};

use super::{BUILTIN_TIERS, IP_POOL, KEPT_TIERS, POLICY_TYPES, TIER_LABEL};
use crate::{meta, v3};

const REGISTRATION: &str = "admissionregistration.k8s.io/v1";

/// Kinds with a tier.
const TIERED: [&str; 4] = [
    "networkpolicies",
    "globalnetworkpolicies",
    "stagednetworkpolicies",
    "stagedglobalnetworkpolicies",
];

const HAS_TYPES: &str = "has(object.spec.ingress) && has(object.spec.egress) ? ['Ingress', 'Egress'] : \
                         has(object.spec.egress) ? (variables.isKubernetes ? ['Ingress', 'Egress'] : ['Egress']) : \
                         ['Ingress']";

/// All policies, each followed by its binding.
#[must_use]
pub fn manifests() -> Vec<Value> {
    let mut all = vec![policy_types(), tier_label(), block_size()];
    let mut manifests: Vec<Value> = all
        .drain(..)
        .flat_map(|policy| {
            let binding = binding("MutatingAdmissionPolicyBinding", &name_of(&policy));
            [policy, binding]
        })
        .collect();
    let mut binding = binding("ValidatingAdmissionPolicyBinding", BUILTIN_TIERS);
    binding["spec"]["validationActions"] = json!(["Deny"]);
    manifests.extend([kept_tiers(), binding]);
    manifests
}

/// `metadata.name` of a manifest.
#[must_use]
pub fn name_of(manifest: &Value) -> String {
    manifest["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn binding(kind: &str, policy: &str) -> Value {
    json!({
        "apiVersion": REGISTRATION,
        "kind": kind,
        "metadata": {"name": policy},
        "spec": {"policyName": policy},
    })
}

/// Requests for resources of our group.
fn requests(operations: &[&str], resources: &[&str]) -> Value {
    json!({"resourceRules": [{
        "apiGroups": [v3::GROUP],
        "apiVersions": [v3::VERSION],
        "operations": operations,
        "resources": resources,
    }]})
}

/// A policy that adds to objects. `variables` are (name, expression), `patches` are lists of JSON patches.
fn mutating(
    name: &str,
    constraints: Value,
    condition: (&str, &str),
    variables: &[(&str, &str)],
    patches: &[String],
) -> Value {
    let variables: Vec<Value> = variables
        .iter()
        .map(|(name, expression)| json!({"name": name, "expression": expression}))
        .collect();
    let mutations: Vec<Value> = patches
        .iter()
        .map(|expression| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}))
        .collect();
    json!({
        "apiVersion": REGISTRATION,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
            "matchConstraints": constraints,
            "matchConditions": [{"name": condition.0, "expression": condition.1}],
            "variables": variables,
            "mutations": mutations,
        },
    })
}

fn policy_types() -> Value {
    let mut resources = TIERED.to_vec();
    resources.push("stagedkubernetesnetworkpolicies");
    let patch = "[JSONPatch{op: 'add', path: variables.isKubernetes ? '/spec/policyTypes' : '/spec/types', \
                 value: variables.types}]";
    mutating(
        POLICY_TYPES,
        requests(&["CREATE", "UPDATE"], &resources),
        (
            "types-are-missing",
            "has(object.spec) && (object.kind == 'StagedKubernetesNetworkPolicy' ? \
             !has(object.spec.policyTypes) : !has(object.spec.types))",
        ),
        &[
            ("isKubernetes", "object.kind == 'StagedKubernetesNetworkPolicy'"),
            ("types", HAS_TYPES),
        ],
        &[patch.to_owned()],
    )
}

fn tier_label() -> Value {
    let tier = format!(
        "has(object.spec.tier) && object.spec.tier != '' ? object.spec.tier : '{}'",
        meta::TIER_DEFAULT
    );
    // RFC 6901: a slash within a key is written ~1.
    let label = format!(
        "JSONPatch{{op: 'add', path: '/metadata/labels/{}', value: variables.tier}}",
        meta::LABEL_TIER.replace('/', "~1")
    );
    mutating(
        TIER_LABEL,
        requests(&["CREATE", "UPDATE"], &TIERED),
        (
            "tier-is-a-text",
            "has(object.spec) && (!has(object.spec.tier) || type(object.spec.tier) == string)",
        ),
        &[("tier", &tier)],
        &[
            "[JSONPatch{op: 'add', path: '/spec/tier', value: variables.tier}]".to_owned(),
            format!(
                "has(object.metadata.labels) ? [{label}] : \
                 [JSONPatch{{op: 'add', path: '/metadata/labels', value: {{}}}}, {label}]"
            ),
        ],
    )
}

fn block_size() -> Value {
    mutating(
        IP_POOL,
        requests(&["CREATE"], &["ippools"]),
        (
            "size-is-missing",
            "has(object.spec) && has(object.spec.cidr) && type(object.spec.cidr) == string && \
             isCIDR(object.spec.cidr) && (!has(object.spec.blockSize) || object.spec.blockSize == 0)",
        ),
        &[(
            "blockSize",
            "cidr(object.spec.cidr).ip().family() == 6 ? 122 : 26",
        )],
        &["[JSONPatch{op: 'add', path: '/spec/blockSize', value: variables.blockSize}]".to_owned()],
    )
}

fn kept_tiers() -> Value {
    let names = KEPT_TIERS.map(|name| format!("'{name}'")).join(", ");
    json!({
        "apiVersion": REGISTRATION,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": BUILTIN_TIERS},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": requests(&["DELETE"], &["tiers"]),
            "validations": [{
                "expression": format!("!(oldObject.metadata.name in [{names}])"),
                "messageExpression": "'The built-in tier ' + oldObject.metadata.name + ' cannot be deleted'",
            }],
        },
    })
}

//! Pods, Namespaces, ServiceAccounts and policies of Kubernetes to the model.

use caracal_api::k8s_policy::{self, ClusterNetworkPolicy};
use caracal_api::policy_selector;
use caracal_api::virtual_::{profile, workload_endpoint};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{check, text};

fn object<T: DeserializeOwned>(input: &Value) -> T {
    serde_json::from_value(input["object"].clone()).unwrap()
}

/// An object of ours as the vectors show it.
fn shown(kind: &str, object: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    value["apiVersion"] = json!("projectcalico.org/v3");
    value["kind"] = json!(kind);
    value
}

#[test]
fn network_policy_vectors() {
    check("knp", |input| {
        let source: NetworkPolicy = object(input);
        let converted = k8s_policy::from_network_policy(&source);
        let policy = &converted.policy;
        let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
        let mut out = json!({
            "object": shown("NetworkPolicy", policy),
            "key": {"kind": "KubernetesNetworkPolicy", "name": policy.metadata.name},
            "effectiveSelector": policy_selector::network_policy_selector(&policy.spec, namespace).unwrap(),
        });
        if !converted.errors.is_empty() {
            out["error"] = json!(true);
        }
        out
    });
}

#[test]
fn cluster_network_policy_vectors() {
    check("cnp", |input| {
        let source: ClusterNetworkPolicy = object(input);
        let Some(converted) = k8s_policy::from_cluster_network_policy(&source) else {
            return json!({});
        };
        let mut out = json!({"object": shown("GlobalNetworkPolicy", &converted.policy)});
        if !converted.errors.is_empty() {
            out["error"] = json!(true);
        }
        out
    });
}

/// The recorder gave objects without a UID one of its own, so that only its counterpart shows.
fn with_recorded_uid(input: &Value) -> Value {
    let mut input = input.clone();
    if input["object"]["metadata"]["uid"].is_null() {
        input["object"]["metadata"]["uid"] = json!("30316465-6365-4463-ad63-3564622d3638");
    }
    input
}

#[test]
fn namespace_vectors() {
    check("namespace", |input| {
        let source: Namespace = object(&with_recorded_uid(input));
        json!({"object": shown("Profile", &profile::from_namespace(&source).unwrap())})
    });
}

#[test]
fn service_account_vectors() {
    check("serviceaccount", |input| {
        let source: ServiceAccount = object(&with_recorded_uid(input));
        json!({"object": shown("Profile", &profile::from_service_account(&source).unwrap())})
    });
}

#[test]
fn pod_vectors() {
    check("pod", |input| {
        let pod: Pod = object(input);
        let mut out = json!({
            "valid": workload_endpoint::is_endpoint(&pod),
            "ready": workload_endpoint::is_endpoint(&pod) && workload_endpoint::has_address(&pod),
            "finished": workload_endpoint::is_finished(&pod),
        });
        match workload_endpoint::from_pod(&pod) {
            Err(_) => out["error"] = json!(true),
            Ok(None) => {}
            Ok(Some(endpoint)) => {
                let endpoint = shown("WorkloadEndpoint", &endpoint);
                out["name"] = json!(text(&endpoint["metadata"], "name"));
                out["object"] = endpoint;
            }
        }
        out
    });
}

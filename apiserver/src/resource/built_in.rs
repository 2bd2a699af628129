//! The kinds of Kubernetes' own that are served, as data.

use std::sync::Arc;

use super::{POLICIES, Resource, selectable_paths};
use crate::store::NAMESPACES;

/// (group, version, kind, plural, short names, namespaced, status)
type BuiltIn = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    bool,
    bool,
);

const BUILT_IN: &[BuiltIn] = &[
    ("", "v1", "Namespace", NAMESPACES, &["ns"], false, true),
    ("", "v1", "Pod", "pods", &["po"], true, true),
    ("", "v1", "Node", "nodes", &["no"], false, true),
    (
        "",
        "v1",
        "ServiceAccount",
        "serviceaccounts",
        &["sa"],
        true,
        false,
    ),
    ("", "v1", "ConfigMap", "configmaps", &["cm"], true, false),
    ("", "v1", "Secret", "secrets", &[], true, false),
    ("", "v1", "Service", "services", &["svc"], true, true),
    ("", "v1", "Endpoints", "endpoints", &["ep"], true, false),
    ("", "v1", "Event", "events", &["ev"], true, false),
    (
        "",
        "v1",
        "ResourceQuota",
        "resourcequotas",
        &["quota"],
        true,
        true,
    ),
    ("", "v1", "LimitRange", "limitranges", &["limits"], true, false),
    (
        "",
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        &["pvc"],
        true,
        true,
    ),
    (
        "",
        "v1",
        "PersistentVolume",
        "persistentvolumes",
        &["pv"],
        false,
        true,
    ),
    (
        "",
        "v1",
        "ReplicationController",
        "replicationcontrollers",
        &["rc"],
        true,
        true,
    ),
    ("apps", "v1", "StatefulSet", "statefulsets", &["sts"], true, true),
    ("batch", "v1", "Job", "jobs", &[], true, true),
    ("batch", "v1", "CronJob", "cronjobs", &["cj"], true, true),
    (
        "networking.k8s.io",
        "v1",
        "Ingress",
        "ingresses",
        &["ing"],
        true,
        true,
    ),
    ("events.k8s.io", "v1", "Event", "events", &["ev"], true, false),
    ("apps", "v1", "DaemonSet", "daemonsets", &["ds"], true, true),
    ("apps", "v1", "Deployment", "deployments", &["deploy"], true, true),
    ("apps", "v1", "ReplicaSet", "replicasets", &["rs"], true, true),
    (
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
        "networkpolicies",
        &["netpol"],
        true,
        false,
    ),
    (
        "discovery.k8s.io",
        "v1",
        "EndpointSlice",
        "endpointslices",
        &[],
        true,
        false,
    ),
    ("coordination.k8s.io", "v1", "Lease", "leases", &[], true, false),
    (
        POLICIES,
        "v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        &[],
        false,
        true,
    ),
    (
        POLICIES,
        "v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        &[],
        false,
        false,
    ),
    (
        POLICIES,
        "v1",
        "MutatingAdmissionPolicy",
        "mutatingadmissionpolicies",
        &[],
        false,
        false,
    ),
    (
        POLICIES,
        "v1",
        "MutatingAdmissionPolicyBinding",
        "mutatingadmissionpolicybindings",
        &[],
        false,
        false,
    ),
    (
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        &["crd", "crds"],
        false,
        true,
    ),
];

/// Is this group and version one of Kubernetes itself?
pub(crate) fn is_built_in(group: &str, version: &str) -> bool {
    BUILT_IN
        .iter()
        .any(|known| known.0 == group && known.1 == version)
}

/// What `kubectl get all` shows.
const ALL: [&str; 9] = [
    "pods",
    "services",
    "daemonsets",
    "deployments",
    "replicasets",
    "replicationcontrollers",
    "statefulsets",
    "jobs",
    "cronjobs",
];

/// The built-in resources.
pub(crate) fn built_in() -> Vec<Arc<Resource>> {
    let resource = |&(group, version, kind, plural, short, namespaced, has_status): &BuiltIn| {
        // Events have two forms and one store.
        let storage = match group {
            crate::events::GROUP => crate::events::EVENTS.to_owned(),
            group => crate::status::qualified(group, plural),
        };
        Arc::new(Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            singular: if plural == "endpoints" {
                plural.to_owned()
            } else {
                kind.to_lowercase()
            },
            short_names: short.iter().map(|name| (*name).to_owned()).collect(),
            categories: match group {
                POLICIES | "apiextensions.k8s.io" => vec!["api-extensions".to_owned()],
                _ if ALL.contains(&plural) => vec!["all".to_owned()],
                _ => Vec::new(),
            },
            namespaced,
            has_status,
            paths: selectable_paths(&storage).into(),
            storage: storage.into(),
            schema: None,
            rules: Arc::default(),
            columns: Arc::default(),
        })
    };
    BUILT_IN.iter().map(resource).collect()
}

//! Which resources are served: the built-in ones and those that CustomResourceDefinitions define.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::cel::Rules;
use crate::store::NAMESPACES;

/// Where definitions are stored.
pub(crate) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// One served version of a resource.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) has_status: bool,
    /// The name of its collection in the store.
    pub(crate) storage: Arc<str>,
    /// Paths of the fields that selectors may look at.
    pub(crate) paths: Arc<[String]>,
    /// The structural schema; built-in kinds have none.
    pub(crate) schema: Option<Arc<Value>>,
    /// The rules of that schema, compiled when they are needed first.
    rules: Arc<OnceLock<Rules>>,
    /// The definition's `additionalPrinterColumns`.
    pub(crate) columns: Arc<[Value]>,
}

impl Resource {
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The rules that objects keep to beyond the schema.
    pub(crate) fn rules(&self) -> &Rules {
        self.rules
            .get_or_init(|| self.schema.as_deref().map(Rules::of).unwrap_or_default())
    }

    pub(crate) fn is_custom(&self) -> bool {
        self.schema.is_some()
    }

    /// May an update name no version? It replaces whatever there is then.
    pub(crate) fn updates_unconditionally(&self) -> bool {
        !self.is_custom() && !matches!(self.kind.as_str(), "CustomResourceDefinition" | "Lease")
    }

    /// May all of them be deleted by one request? Namespaces may not.
    pub(crate) fn deletes_collections(&self) -> bool {
        &*self.storage != NAMESPACES
    }

    /// Kinds whose `metadata.generation` counts changes of what is wanted.
    pub(crate) fn counts_generations(&self) -> bool {
        self.is_custom()
            || &*self.storage == DEFINITIONS
            || matches!(
                self.kind.as_str(),
                "Deployment"
                    | "ReplicaSet"
                    | "DaemonSet"
                    | "StatefulSet"
                    | "Job"
                    | "CronJob"
                    | "Ingress"
                    | "NetworkPolicy"
                    | "Pod"
                    | "EndpointSlice"
            )
            || matches!(
                self.kind.as_str(),
                "ValidatingAdmissionPolicy"
                    | "ValidatingAdmissionPolicyBinding"
                    | "MutatingAdmissionPolicy"
                    | "MutatingAdmissionPolicyBinding"
            )
    }
}

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

/// The group of admission policies, which are stored and not run.
pub(crate) const POLICIES: &str = "admissionregistration.k8s.io";

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

/// Field selectors of the built-in kinds; `metadata.name` and `metadata.namespace` are everyone's.
pub(crate) fn selectable_paths(storage: &str) -> Vec<String> {
    let own: &[&str] = match storage {
        "pods" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "nodes" => &["spec.unschedulable"],
        NAMESPACES => &["status.phase"],
        "secrets" => &["type"],
        "services" => &["spec.clusterIP", "spec.type"],
        "events" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        // Every policy kind of Calico selects by its tier.
        other if other.ends_with("policies.projectcalico.org") => &["spec.tier"],
        _ => &[],
    };
    ["metadata.name", "metadata.namespace"]
        .iter()
        .chain(own)
        .map(|path| (*path).to_owned())
        .collect()
}

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

fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn texts(value: &Value, pointer: &str) -> Vec<String> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

/// The resources that a definition defines, one for each served version.
pub(crate) fn defined(definition: &Value) -> Vec<Arc<Resource>> {
    let group = text(definition, "/spec/group");
    let plural = text(definition, "/spec/names/plural");
    let kind = text(definition, "/spec/names/kind");
    let singular = match text(definition, "/spec/names/singular") {
        empty if empty.is_empty() => kind.to_lowercase(),
        singular => singular,
    };
    let storage: Arc<str> = crate::status::qualified(&group, &plural).into();
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let served = versions
        .into_iter()
        .flatten()
        .filter(|version| version["served"] == true);
    served
        .map(|version| {
            let mut paths = selectable_paths(&storage);
            for field in version["selectableFields"].as_array().into_iter().flatten() {
                let path = text(field, "/jsonPath").trim_start_matches('.').to_owned();
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
            let schema = version.pointer("/schema/openAPIV3Schema").cloned();
            Arc::new(Resource {
                group: group.clone(),
                version: text(version, "/name"),
                kind: kind.clone(),
                plural: plural.clone(),
                singular: singular.clone(),
                short_names: texts(definition, "/spec/names/shortNames"),
                categories: texts(definition, "/spec/names/categories"),
                namespaced: text(definition, "/spec/scope") == "Namespaced",
                has_status: version.pointer("/subresources/status").is_some(),
                storage: Arc::clone(&storage),
                paths: paths.into(),
                schema: Some(Arc::new(schema.unwrap_or_default())),
                rules: Arc::default(),
                columns: version["additionalPrinterColumns"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default()
                    .into(),
            })
        })
        .collect()
}

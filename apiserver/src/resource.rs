//! Which resources are served: the built-in ones and those that CustomResourceDefinitions define.

mod built_in;

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::cel::Rules;
use crate::store::NAMESPACES;
pub(crate) use built_in::{built_in, is_built_in};

/// Where definitions are stored.
pub(crate) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// The group of admission policies, which are stored and not run.
pub(crate) const POLICIES: &str = "admissionregistration.k8s.io";

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

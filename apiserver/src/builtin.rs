//! Schemas of the built-in kinds, from the types of Kubernetes, with the keys by which strategic merges join lists.
//!
//! Owns what is known of a field of a built-in kind. Never looks at objects.

use std::sync::LazyLock;

use k8s_openapi::api::{
    admissionregistration, apps, batch, coordination, core, discovery, events, networking,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::resource::Resource;

/// Where schemas refer to each other.
pub(crate) const REFERENCE: &str = "#/components/schemas/";
/// The schema of `metadata`.
pub(crate) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The schema of the metadata of lists.
pub(crate) const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// (schema, field, key of the items or nothing when they are plain values). Source: the patch strategies of the
/// types of Kubernetes 1.33.
const MERGED_LISTS: &[(&str, &str, &str)] = &[
    (OBJECT_META, "finalizers", ""),
    (OBJECT_META, "ownerReferences", "uid"),
    ("io.k8s.api.core.v1.PodSpec", "containers", "name"),
    ("io.k8s.api.core.v1.PodSpec", "ephemeralContainers", "name"),
    ("io.k8s.api.core.v1.PodSpec", "hostAliases", "ip"),
    ("io.k8s.api.core.v1.PodSpec", "imagePullSecrets", "name"),
    ("io.k8s.api.core.v1.PodSpec", "initContainers", "name"),
    ("io.k8s.api.core.v1.PodSpec", "resourceClaims", "name"),
    ("io.k8s.api.core.v1.PodSpec", "schedulingGates", "name"),
    (
        "io.k8s.api.core.v1.PodSpec",
        "topologySpreadConstraints",
        "topologyKey",
    ),
    ("io.k8s.api.core.v1.PodSpec", "volumes", "name"),
    ("io.k8s.api.core.v1.PodStatus", "conditions", "type"),
    ("io.k8s.api.core.v1.PodStatus", "hostIPs", "ip"),
    ("io.k8s.api.core.v1.PodStatus", "podIPs", "ip"),
    ("io.k8s.api.core.v1.PodStatus", "resourceClaimStatuses", "name"),
    ("io.k8s.api.core.v1.Container", "env", "name"),
    ("io.k8s.api.core.v1.Container", "ports", "containerPort"),
    ("io.k8s.api.core.v1.Container", "volumeDevices", "devicePath"),
    ("io.k8s.api.core.v1.Container", "volumeMounts", "mountPath"),
    ("io.k8s.api.core.v1.EphemeralContainer", "env", "name"),
    ("io.k8s.api.core.v1.EphemeralContainer", "ports", "containerPort"),
    (
        "io.k8s.api.core.v1.EphemeralContainer",
        "volumeDevices",
        "devicePath",
    ),
    (
        "io.k8s.api.core.v1.EphemeralContainer",
        "volumeMounts",
        "mountPath",
    ),
    ("io.k8s.api.core.v1.NamespaceStatus", "conditions", "type"),
    ("io.k8s.api.core.v1.NodeSpec", "podCIDRs", ""),
    ("io.k8s.api.core.v1.NodeStatus", "addresses", "type"),
    ("io.k8s.api.core.v1.NodeStatus", "conditions", "type"),
    ("io.k8s.api.core.v1.ServiceAccount", "secrets", "name"),
    ("io.k8s.api.core.v1.ServiceSpec", "ports", "port"),
    ("io.k8s.api.core.v1.ServiceStatus", "conditions", "type"),
    ("io.k8s.api.apps.v1.DaemonSetStatus", "conditions", "type"),
    ("io.k8s.api.apps.v1.DeploymentStatus", "conditions", "type"),
    ("io.k8s.api.apps.v1.ReplicaSetStatus", "conditions", "type"),
];
/// Values that may be anything, or one of several types.
const ANYTHING: [&str; 4] = [
    "JSON",
    "JSONSchemaPropsOrArray",
    "JSONSchemaPropsOrBool",
    "JSONSchemaPropsOrStringArray",
];
/// Fields whose value keeps only the keys that the patch names.
const RETAINING: &[(&str, &str)] = &[
    ("io.k8s.api.core.v1.PodSpec", "volumes"),
    ("io.k8s.api.core.v1.PodSpec", "resourceClaims"),
    ("io.k8s.api.core.v1.PodStatus", "resourceClaimStatuses"),
    ("io.k8s.api.apps.v1.DeploymentSpec", "strategy"),
];

/// Keys that tell items apart together with the one that merges go by, when that one is not enough.
const FURTHER_KEYS: &[(&str, &str)] = &[
    ("containerPort", "protocol"),
    ("port", "protocol"),
    ("topologyKey", "whenUnsatisfiable"),
];
/// Objects that have one owner as a whole.
const ATOMIC: &[&str] = &[
    "io.k8s.api.core.v1.ConfigMapKeySelector",
    "io.k8s.api.core.v1.LocalObjectReference",
    "io.k8s.api.core.v1.NodeSelector",
    "io.k8s.api.core.v1.NodeSelectorTerm",
    "io.k8s.api.core.v1.ObjectFieldSelector",
    "io.k8s.api.core.v1.ObjectReference",
    "io.k8s.api.core.v1.ResourceFieldSelector",
    "io.k8s.api.core.v1.SecretKeySelector",
    "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector",
    "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference",
];
const ATOMIC_FIELDS: &[(&str, &str)] = &[
    ("io.k8s.api.core.v1.PodSpec", "nodeSelector"),
    ("io.k8s.api.core.v1.ServiceSpec", "selector"),
];

/// Without descriptions, for checking and merging.
static SCHEMAS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let mut definitions = described();
    for schema in definitions.values_mut() {
        strip(schema);
    }
    definitions
});

/// All schemas with their descriptions, made anew: they are large and seldom asked for.
pub(crate) fn described() -> Map<String, Value> {
    let mut settings = SchemaSettings::openapi3();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    register(&mut generator);
    let mut definitions = generator.take_definitions(true);
    // The types of mutating policies are known by their first version; the later ones have the same fields.
    for kind in ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"] {
        let early = definitions
            .get(&format!("io.k8s.api.admissionregistration.v1alpha1.{kind}"))
            .cloned();
        definitions.extend(early.map(|early| (format!("io.k8s.api.admissionregistration.v1.{kind}"), early)));
    }
    // Objects without metadata are read, too.
    for schema in definitions.values_mut() {
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| name != "metadata");
        }
    }
    for name in ANYTHING {
        let name = format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.{name}");
        if let Some(fields) = definitions.get_mut(&name).and_then(Value::as_object_mut) {
            fields.retain(|key, _| key == "description");
        }
    }
    for (name, field, key) in MERGED_LISTS {
        if let Some(property) = property(&mut definitions, name, field) {
            let retains = RETAINING.contains(&(*name, *field));
            let strategy = if retains { "merge,retainKeys" } else { "merge" };
            property.insert("x-kubernetes-patch-strategy".to_owned(), strategy.into());
            let kind = if key.is_empty() { "set" } else { "map" };
            property.insert("x-kubernetes-list-type".to_owned(), kind.into());
            if !key.is_empty() {
                property.insert("x-kubernetes-patch-merge-key".to_owned(), (*key).into());
                let further = FURTHER_KEYS.iter().filter(|(first, _)| first == key);
                let keys: Vec<&str> = std::iter::once(*key)
                    .chain(further.map(|(_, key)| *key))
                    .collect();
                property.insert("x-kubernetes-list-map-keys".to_owned(), keys.into());
            }
        }
    }
    for (name, field) in ATOMIC_FIELDS {
        if let Some(property) = property(&mut definitions, name, field) {
            property.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
        }
    }
    for name in ATOMIC {
        if let Some(fields) = definitions.get_mut(*name).and_then(Value::as_object_mut) {
            fields.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
        }
    }
    if let Some(strategy) = property(&mut definitions, "io.k8s.api.apps.v1.DeploymentSpec", "strategy") {
        strategy.insert("x-kubernetes-patch-strategy".to_owned(), "retainKeys".into());
    }
    definitions
}

fn register(generator: &mut SchemaGenerator) {
    generator.subschema_for::<core::v1::Namespace>();
    generator.subschema_for::<core::v1::Pod>();
    generator.subschema_for::<core::v1::Node>();
    generator.subschema_for::<core::v1::ServiceAccount>();
    generator.subschema_for::<core::v1::ConfigMap>();
    generator.subschema_for::<core::v1::Secret>();
    generator.subschema_for::<core::v1::Service>();
    generator.subschema_for::<core::v1::Endpoints>();
    generator.subschema_for::<core::v1::Event>();
    generator.subschema_for::<events::v1::Event>();
    generator.subschema_for::<admissionregistration::v1::ValidatingAdmissionPolicy>();
    generator.subschema_for::<admissionregistration::v1::ValidatingAdmissionPolicyBinding>();
    generator.subschema_for::<admissionregistration::v1alpha1::MutatingAdmissionPolicy>();
    generator.subschema_for::<admissionregistration::v1alpha1::MutatingAdmissionPolicyBinding>();
    generator.subschema_for::<apps::v1::DaemonSet>();
    generator.subschema_for::<apps::v1::Deployment>();
    generator.subschema_for::<apps::v1::ReplicaSet>();
    generator.subschema_for::<apps::v1::StatefulSet>();
    generator.subschema_for::<batch::v1::Job>();
    generator.subschema_for::<batch::v1::CronJob>();
    generator.subschema_for::<core::v1::PersistentVolumeClaim>();
    generator.subschema_for::<core::v1::PersistentVolume>();
    generator.subschema_for::<core::v1::ReplicationController>();
    generator.subschema_for::<core::v1::ResourceQuota>();
    generator.subschema_for::<core::v1::LimitRange>();
    generator.subschema_for::<networking::v1::Ingress>();
    generator.subschema_for::<networking::v1::NetworkPolicy>();
    generator.subschema_for::<discovery::v1::EndpointSlice>();
    generator.subschema_for::<coordination::v1::Lease>();
    generator.subschema_for::<apiextensions::v1::CustomResourceDefinition>();
    generator.subschema_for::<meta::v1::ObjectMeta>();
    generator.subschema_for::<meta::v1::ListMeta>();
}

fn property<'a>(
    definitions: &'a mut Map<String, Value>,
    name: &str,
    field: &str,
) -> Option<&'a mut Map<String, Value>> {
    let properties = definitions.get_mut(name)?.get_mut("properties")?;
    properties.get_mut(field)?.as_object_mut()
}

/// Removes what only people read. An object of which nothing is said may hold anything.
fn strip(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    fields.remove("description");
    let said = ["properties", "additionalProperties", "$ref", "allOf"];
    if fields.get("type").is_none_or(|kind| kind == "object")
        && !said.iter().any(|key| fields.contains_key(*key))
    {
        fields.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
    }
    for (key, below) in fields.iter_mut() {
        match (key.as_str(), below) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(strip),
            ("allOf", Value::Array(all)) => all.iter_mut().for_each(strip),
            ("items" | "additionalProperties", below) => strip(below),
            _ => {}
        }
    }
}

/// The name of the schema of a served version.
pub(crate) fn schema_name(resource: &Resource) -> String {
    let (version, kind) = (&resource.version, &resource.kind);
    if resource.is_custom() {
        let group: Vec<&str> = resource.group.rsplit('.').collect();
        return format!("{}.{version}.{kind}", group.join("."));
    }
    match resource.group.as_str() {
        "" => format!("io.k8s.api.core.{version}.{kind}"),
        "apiextensions.k8s.io" => {
            format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{version}.{kind}")
        }
        group => {
            let short = group.split('.').next().unwrap_or_default();
            format!("io.k8s.api.{short}.{version}.{kind}")
        }
    }
}

/// The schema of a built-in kind or of a part of one.
pub(crate) fn schema(name: &str) -> Option<&'static Value> {
    SCHEMAS.get(name)
}

/// Follows a reference; a schema that is none is itself.
pub(crate) fn resolve(schema: &Value) -> &Value {
    let direct = schema.get("$ref");
    let wrapped = || schema.pointer("/allOf/0/$ref");
    let Some(reference) = direct.or_else(wrapped).and_then(Value::as_str) else {
        return schema;
    };
    let name = reference.strip_prefix(REFERENCE).unwrap_or(reference);
    SCHEMAS.get(name).unwrap_or(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_kind_has_a_schema_and_every_merge_key_a_field() {
        for resource in crate::resource::built_in() {
            let name = schema_name(&resource);
            assert!(schema(&name).is_some(), "{name}");
        }
        for (name, field, key) in MERGED_LISTS {
            let list = &schema(name).unwrap()["properties"][*field];
            assert_eq!(list["type"], "array", "{name} {field}");
            let items = resolve(&list["items"]);
            assert!(
                key.is_empty() || items["properties"][*key].is_object(),
                "{name} {field} {key} {items}"
            );
        }
        let text = serde_json::to_string(&*SCHEMAS).unwrap();
        assert!(
            !text.contains("#/$defs") && text.len() < 600_000,
            "{}",
            text.len()
        );
    }
}

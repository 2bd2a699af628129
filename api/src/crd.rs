//! The CustomResourceDefinitions of all kinds.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_core::CustomResourceExt as _;

use serde_json::{Map, Value};

use crate::v3;

/// The definitions of all kinds that are stored as custom resources, by name.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![
        v3::IPPool::crd(),
        v3::BlockAffinity::crd(),
        v3::IPAMBlock::crd(),
        v3::IPAMHandle::crd(),
        v3::IPAMConfiguration::crd(),
        v3::BGPConfiguration::crd(),
        v3::BGPPeer::crd(),
        v3::FelixConfiguration::crd(),
        v3::ClusterInformation::crd(),
        v3::NetworkPolicy::crd(),
        v3::GlobalNetworkPolicy::crd(),
        v3::Tier::crd(),
        v3::NetworkSet::crd(),
        v3::GlobalNetworkSet::crd(),
        v3::HostEndpoint::crd(),
        v3::IPReservation::crd(),
        v3::BGPFilter::crd(),
        v3::StagedNetworkPolicy::crd(),
        v3::StagedGlobalNetworkPolicy::crd(),
        v3::StagedKubernetesNetworkPolicy::crd(),
        v3::KubeControllersConfiguration::crd(),
        v3::CalicoNodeStatus::crd(),
    ];
    for definition in &mut definitions {
        normalize(definition);
    }
    definitions.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    definitions
}

/// Brings a derived definition into the form that an API server accepts and that says no more than it should.
fn normalize(definition: &mut CustomResourceDefinition) {
    for version in &mut definition.spec.versions {
        let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        else {
            continue;
        };
        let Ok(mut value) = serde_json::to_value(&*schema) else {
            continue;
        };
        clean(&mut value, "");
        if let Ok(cleaned) = serde_json::from_value(value) {
            *schema = cleaned;
        }
    }
}

/// Cleans a schema and what is below it. `name` is the property that the schema is of.
fn clean(schema: &mut Value, name: &str) {
    let Value::Object(schema) = schema else { return };
    clean_keywords(schema);
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for (property, schema) in properties {
            clean(schema, property);
        }
    }
    for below in ["items", "additionalProperties"] {
        if let Some(schema) = schema.get_mut(below) {
            clean(schema, below);
        }
    }
    // The only list with holes: a free address has no attributes.
    if name == "allocations"
        && let Some(Value::Object(items)) = schema.get_mut("items")
    {
        items.insert("nullable".to_owned(), Value::Bool(true));
    }
}

fn clean_keywords(schema: &mut Map<String, Value>) {
    schema.remove("nullable");
    schema.remove("title");
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    // Empty defaults come from the Rust types; wanted ones are written at the field and are never empty.
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(value) => value.is_empty(),
        Value::Array(value) => value.is_empty(),
        Value::Object(value) => value.is_empty(),
        Value::Number(_) => false,
    };
    if schema.get("default").is_some_and(is_empty) {
        schema.remove("default");
    }
    if schema.contains_key("x-kubernetes-int-or-string") {
        schema.remove("anyOf");
    }
    match schema.get("format").and_then(Value::as_str) {
        Some("uint64") => drop(schema.insert("format".to_owned(), "int64".into())),
        Some("uint8" | "uint16" | "uint32" | "double") => drop(schema.remove("format")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_kind_has_a_definition() {
        for crd in super::all() {
            assert_eq!(crd.spec.group, "projectcalico.org");
            println!("{}", serde_json::to_string(&crd).unwrap());
        }
    }
}

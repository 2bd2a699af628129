//! The CustomResourceDefinitions of all kinds: derived from the Rust types, and completed with what types do not say.
//!
//! Field types, enumerations and plain bounds stand at the fields of [`v3`]; defaults of zero, required fields, list
//! types, patterns and rules across fields in `amend`; printer columns in `columns`. Source: Calico `api/config/crd`.

mod amend;
mod clean;
mod columns;

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_core::CustomResourceExt as _;
use serde_json::Value;

use crate::v3;

/// The definitions of all kinds that are stored as custom resources, by name.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    static ALL: LazyLock<Vec<CustomResourceDefinition>> = LazyLock::new(derive_all);
    ALL.clone()
}

fn derive_all() -> Vec<CustomResourceDefinition> {
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
    let amendments = amend::all();
    for definition in &mut definitions {
        complete(definition, &amendments);
    }
    definitions.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    definitions
}

/// Brings a derived definition into the form that an API server accepts, and adds what types do not say.
fn complete(definition: &mut CustomResourceDefinition, amendments: &[amend::Amendment]) {
    let kind = definition.spec.names.kind.clone();
    for version in &mut definition.spec.versions {
        let columns = columns::of(&kind);
        version.additional_printer_columns = (!columns.is_empty()).then_some(columns);
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
        clean::schema(&mut value, "");
        amend::schema(&kind, &mut value, amendments);
        if let Ok(completed) = serde_json::from_value(value) {
            *schema = completed;
        }
    }
}

/// The schema of a kind's objects; `None` for kinds without a definition.
#[must_use]
pub fn schema_of(kind: &str) -> Option<Value> {
    let definition = all()
        .into_iter()
        .find(|definition| definition.spec.names.kind == kind)?;
    let version = definition.spec.versions.into_iter().next()?;
    serde_json::to_value(version.schema?.open_api_v3_schema?).ok()
}

#[cfg(test)]
mod tests;

//! Profiles: what endpoints inherit from their namespace and service account.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::meta;
use crate::names;
use crate::v3::{Action, Rule};

/// A profile: labels and rules for the endpoints that name it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Name, UID and revision; never stored.
    pub metadata: ObjectMeta,
    /// What the profile says.
    pub spec: ProfileSpec,
}

/// What a profile says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProfileSpec {
    /// Rules for traffic to the endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    /// Labels of the endpoint, unless it has them itself.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels_to_apply: BTreeMap<String, String>,
}

impl Profile {
    /// The profile's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
}

fn allow() -> Rule {
    Rule {
        action: Action::Allow,
        ..Rule::default()
    }
}

fn labels(prefix: &str, labels: Option<&BTreeMap<String, String>>, name: &str) -> BTreeMap<String, String> {
    let own = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| (format!("{prefix}{key}"), value.clone()));
    let mut labels: BTreeMap<_, _> = own.collect();
    labels.insert(format!("{prefix}{}", meta::LABEL_NAME), name.to_owned());
    labels
}

/// Metadata of a profile; `revision` is `<revision of the namespace>/<revision of the service account>`.
fn metadata(name: String, source: &ObjectMeta, revision: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        uid: source.uid.as_deref().and_then(names::convert_uid),
        creation_timestamp: source.creation_timestamp.clone(),
        resource_version: source.resource_version.as_ref().map(|_| revision),
        ..ObjectMeta::default()
    }
}

/// The profile of a namespace: its labels, and everything allowed. `None` for an object without a name.
#[must_use]
pub fn from_namespace(namespace: &Namespace) -> Option<Profile> {
    let name = namespace.metadata.name.as_deref()?;
    let revision = format!(
        "{}/",
        namespace.metadata.resource_version.as_deref().unwrap_or_default()
    );
    Some(Profile {
        metadata: metadata(
            format!("{}{name}", meta::NAMESPACE_PROFILE_PREFIX),
            &namespace.metadata,
            revision,
        ),
        spec: ProfileSpec {
            ingress: vec![allow()],
            egress: vec![allow()],
            labels_to_apply: labels(
                meta::NAMESPACE_LABEL_PREFIX,
                namespace.metadata.labels.as_ref(),
                name,
            ),
        },
    })
}

/// The profile of a service account: its labels, no rules. `None` for an object without name or namespace.
#[must_use]
pub fn from_service_account(account: &ServiceAccount) -> Option<Profile> {
    let name = account.metadata.name.as_deref()?;
    let namespace = account.metadata.namespace.as_deref()?;
    let revision = format!(
        "/{}",
        account.metadata.resource_version.as_deref().unwrap_or_default()
    );
    Some(Profile {
        metadata: metadata(
            format!("{}{namespace}.{name}", meta::SERVICE_ACCOUNT_PROFILE_PREFIX),
            &account.metadata,
            revision,
        ),
        spec: ProfileSpec {
            labels_to_apply: labels(
                meta::SERVICE_ACCOUNT_LABEL_PREFIX,
                account.metadata.labels.as_ref(),
                name,
            ),
            ..ProfileSpec::default()
        },
    })
}

/// The profile that allows everything, which endpoints may name although nobody stores it.
#[must_use]
pub fn default_allow() -> Profile {
    Profile {
        metadata: ObjectMeta {
            name: Some(meta::PROFILE_DEFAULT_ALLOW.to_owned()),
            ..ObjectMeta::default()
        },
        spec: ProfileSpec {
            ingress: vec![allow()],
            egress: vec![allow()],
            ..ProfileSpec::default()
        },
    }
}

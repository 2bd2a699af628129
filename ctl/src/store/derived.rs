//! Objects that are stored in no resource of their own: read from Pods, Nodes, Namespaces and ServiceAccounts, and
//! for nodes written back as annotations.

use std::collections::BTreeMap;

use caracal_api::kinds::Kind;
use caracal_api::meta;
use caracal_api::virtual_::{node, profile, workload_endpoint};
use caracal_datastore::ListOptions;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use serde::Serialize;
use serde_json::{Value, json};

use super::error::id;
use super::{Store, StoreError, label};

fn other(error: &caracal_datastore::Error) -> StoreError {
    StoreError::Other(error.to_string())
}

impl Store {
    /// One derived object.
    pub(super) async fn derived_one(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, StoreError> {
        let found = match kind.kind {
            "Node" => self
                .kubernetes_node(name)
                .await?
                .and_then(|node| node::from_k8s(&node))
                .map(|node| value(&node, kind.kind))
                .transpose()?,
            "Profile" => self.profile(name).await?,
            _ => self
                .derived_all(kind, namespace)
                .await?
                .into_iter()
                .find(|object| object.pointer("/metadata/name").and_then(Value::as_str) == Some(name)),
        };
        found.ok_or_else(|| StoreError::NotFound {
            id: id(kind, namespace, name),
            message: match kind.kind {
                "Node" => format!("nodes \"{name}\" not found"),
                "Profile" => format!("no Namespace or ServiceAccount has the profile \"{name}\""),
                _ => format!("no pod on a node has the endpoint \"{name}\""),
            },
        })
    }

    async fn kubernetes_node(&self, name: &str) -> Result<Option<Node>, StoreError> {
        self.client.get(None, name).await.map_err(|error| other(&error))
    }

    async fn profile(&self, name: &str) -> Result<Option<Value>, StoreError> {
        if name == meta::PROFILE_DEFAULT_ALLOW {
            return value(&profile::default_allow(), "Profile").map(Some);
        }
        if let Some(namespace) = name.strip_prefix(meta::NAMESPACE_PROFILE_PREFIX) {
            let found: Option<Namespace> = self
                .client
                .get(None, namespace)
                .await
                .map_err(|error| other(&error))?;
            return found
                .and_then(|namespace| profile::from_namespace(&namespace))
                .map(|profile| value(&profile, "Profile"))
                .transpose();
        }
        let account = name
            .strip_prefix(meta::SERVICE_ACCOUNT_PROFILE_PREFIX)
            .and_then(|rest| rest.split_once('.'));
        let Some((namespace, account)) = account else {
            return Ok(None);
        };
        let found: Option<ServiceAccount> = self
            .client
            .get(Some(namespace), account)
            .await
            .map_err(|error| other(&error))?;
        found
            .and_then(|account| profile::from_service_account(&account))
            .map(|profile| value(&profile, "Profile"))
            .transpose()
    }

    /// All derived objects of a kind.
    pub(super) async fn derived_all(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
    ) -> Result<Vec<Value>, StoreError> {
        let all = ListOptions::default();
        let mut objects = Vec::new();
        match kind.kind {
            "WorkloadEndpoint" => {
                let pods: Vec<Pod> = self
                    .client
                    .list(namespace, &all)
                    .await
                    .map_err(|error| other(&error))?;
                for pod in pods {
                    // A pod that is no endpoint, or cannot be one, has no row.
                    if let Ok(Some(endpoint)) = workload_endpoint::from_pod(&pod)
                        && workload_endpoint::has_address(&pod)
                    {
                        objects.push(value(&endpoint, kind.kind)?);
                    }
                }
            }
            "Node" => {
                let nodes: Vec<Node> = self
                    .client
                    .list(None, &all)
                    .await
                    .map_err(|error| other(&error))?;
                for node in nodes.iter().filter_map(node::from_k8s) {
                    objects.push(value(&node, kind.kind)?);
                }
            }
            "Profile" => {
                let (namespaces, accounts) = futures::try_join!(
                    self.client.list::<Namespace>(None, &all),
                    self.client.list::<ServiceAccount>(None, &all),
                )
                .map_err(|error| other(&error))?;
                objects.push(value(&profile::default_allow(), kind.kind)?);
                let of_namespaces = namespaces.iter().filter_map(profile::from_namespace);
                let of_accounts = accounts.iter().filter_map(profile::from_service_account);
                for profile in of_namespaces.chain(of_accounts) {
                    objects.push(value(&profile, kind.kind)?);
                }
            }
            unknown => {
                return Err(StoreError::Other(format!(
                    "{unknown} is not derived from anything known"
                )));
            }
        }
        Ok(objects)
    }

    /// Writes a node back: its annotations, by a merge patch of the status as Calico's client does.
    pub(super) async fn update_node(&self, kind: &Kind, object: &Value) -> Result<Value, StoreError> {
        let name = super::error::name_of(object);
        let read = |error: serde_json::Error| StoreError::Other(format!("node {name:?}: {error}"));
        let wanted: node::Node = serde_json::from_value(object.clone()).map_err(read)?;
        let Some(stored) = self.kubernetes_node(name).await? else {
            return Err(StoreError::NotFound {
                id: id(kind, None, name),
                message: format!("nodes \"{name}\" not found"),
            });
        };
        let version = wanted
            .metadata
            .resource_version
            .clone()
            .or_else(|| stored.metadata.resource_version.clone());
        let annotations: BTreeMap<&str, Option<String>> = node::annotations(&wanted, &stored);
        let patch = json!({"metadata": {"resourceVersion": version, "annotations": annotations}});
        let url = format!(
            "/api/v1/nodes/{}/status{}",
            super::escaped(name),
            self.query(false)
        );
        let written = self.send("PATCH", kind, &url, (None, name), Some(&patch)).await?;
        let written: Node = serde_json::from_value(written).map_err(read)?;
        node::from_k8s(&written).map_or(Ok(Value::Null), |node| value(&node, kind.kind))
    }
}

fn value<T: Serialize>(object: &T, kind: &str) -> Result<Value, StoreError> {
    let mut value = serde_json::to_value(object).map_err(|error| StoreError::Other(error.to_string()))?;
    label(&mut value, kind);
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        metadata.entry("creationTimestamp").or_insert(Value::Null);
    }
    Ok(value)
}

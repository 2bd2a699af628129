//! Objects of any kind as JSON: stored ones by requests, derived ones from Pods, Nodes, Namespaces and ServiceAccounts.

use caracal_api::kinds::{Kind, Storage};
use caracal_api::v3::API_VERSION;
use caracal_api::virtual_::{node, profile, workload_endpoint};
use caracal_datastore::{Client, ListOptions};
use http::Request;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use serde::Serialize;
use serde_json::{Value, json};

/// A request that failed, by class.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// No such object.
    #[error("resource does not exist: {kind}({name}) with error: {message}")]
    NotFound {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// What the server said.
        message: String,
    },
    /// There is one already.
    #[error("resource already exists: {kind}({name})")]
    Exists {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// It changed since it was read.
    #[error("update conflict: {kind}({name})")]
    Conflict {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The kind does not allow it.
    #[error("operation {verb} is not supported on {kind}({name})")]
    Unsupported {
        /// What was asked for.
        verb: &'static str,
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// Anything else, as the server says it.
    #[error("{0}")]
    Other(String),
}

/// Access to objects of all kinds.
pub(crate) struct Store {
    client: Client,
}

impl Store {
    /// Access through a client.
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Reads one object.
    pub(crate) async fn get(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, StoreError> {
        if kind.storage == Storage::CustomResource {
            return self
                .send("GET", kind, &url(kind, namespace, Some(name), ""), name, None)
                .await;
        }
        self.derived(kind, namespace)
            .await?
            .into_iter()
            .find(|object| object.pointer("/metadata/name").and_then(Value::as_str) == Some(name))
            .ok_or_else(|| StoreError::NotFound {
                kind: kind.kind.to_owned(),
                name: name.to_owned(),
                message: "not found".to_owned(),
            })
    }

    /// Reads all objects, of one namespace or of all, as a list object.
    pub(crate) async fn list(&self, kind: &Kind, namespace: Option<&str>) -> Result<Value, StoreError> {
        let mut list = if kind.storage == Storage::CustomResource {
            self.send("GET", kind, &url(kind, namespace, None, ""), "", None)
                .await?
        } else {
            json!({"metadata": {"resourceVersion": ""}, "items": self.derived(kind, namespace).await?})
        };
        // Items of a list need not say what they are.
        if let Some(Value::Array(items)) = list.get_mut("items") {
            for item in items {
                label(item, kind.kind);
            }
        }
        label(&mut list, &format!("{}List", kind.kind));
        Ok(list)
    }

    /// Creates an object.
    pub(crate) async fn create(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<(), StoreError> {
        let name = name_of(object);
        refuse_derived("Create", kind, name)?;
        let url = url(kind, namespace, None, "?fieldValidation=Strict");
        self.send("POST", kind, &url, name, Some(object)).await.map(drop)
    }

    /// Writes an object that was read before.
    pub(crate) async fn update(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<(), StoreError> {
        let name = name_of(object);
        refuse_derived("Update", kind, name)?;
        let url = url(kind, namespace, Some(name), "?fieldValidation=Strict");
        self.send("PUT", kind, &url, name, Some(object)).await.map(drop)
    }

    /// Deletes an object; with a resource version only that state of it.
    pub(crate) async fn delete(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        resource_version: Option<&str>,
    ) -> Result<(), StoreError> {
        refuse_derived("Delete", kind, name)?;
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(version) = resource_version {
            options["preconditions"] = json!({"resourceVersion": version});
        }
        self.send(
            "DELETE",
            kind,
            &url(kind, namespace, Some(name), ""),
            name,
            Some(&options),
        )
        .await
        .map(drop)
    }

    async fn send(
        &self,
        method: &str,
        kind: &Kind,
        url: &str,
        name: &str,
        body: Option<&Value>,
    ) -> Result<Value, StoreError> {
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("content-type", "application/json")
            .body(text.into_bytes())
            .map_err(|error| StoreError::Other(error.to_string()))?;
        self.client
            .kube()
            .request::<Value>(request)
            .await
            .map_err(|error| classify(kind, name, &error))
    }

    async fn derived(&self, kind: &Kind, namespace: Option<&str>) -> Result<Vec<Value>, StoreError> {
        let all = ListOptions::default();
        let other = |error: caracal_datastore::Error| StoreError::Other(error.to_string());
        let mut objects = Vec::new();
        match kind.kind {
            "WorkloadEndpoint" => {
                for pod in self.client.list::<Pod>(namespace, &all).await.map_err(other)? {
                    // A pod that is no endpoint, or cannot be one, has no row.
                    if let Ok(Some(endpoint)) = workload_endpoint::from_pod(&pod)
                        && workload_endpoint::has_address(&pod)
                    {
                        objects.push(value(&endpoint, kind.kind)?);
                    }
                }
            }
            "Node" => {
                for node in self.client.list::<Node>(None, &all).await.map_err(other)? {
                    if let Some(node) = node::from_k8s(&node) {
                        objects.push(value(&node, kind.kind)?);
                    }
                }
            }
            "Profile" => {
                objects.push(value(&profile::default_allow(), kind.kind)?);
                for namespace in self.client.list::<Namespace>(None, &all).await.map_err(other)? {
                    if let Some(profile) = profile::from_namespace(&namespace) {
                        objects.push(value(&profile, kind.kind)?);
                    }
                }
                for account in self
                    .client
                    .list::<ServiceAccount>(None, &all)
                    .await
                    .map_err(other)?
                {
                    if let Some(profile) = profile::from_service_account(&account) {
                        objects.push(value(&profile, kind.kind)?);
                    }
                }
            }
            other => {
                return Err(StoreError::Other(format!(
                    "{other} is not derived from anything known"
                )));
            }
        }
        Ok(objects)
    }
}

fn refuse_derived(verb: &'static str, kind: &Kind, name: &str) -> Result<(), StoreError> {
    if kind.storage == Storage::Derived {
        return Err(StoreError::Unsupported {
            verb,
            kind: kind.kind.to_owned(),
            name: name.to_owned(),
        });
    }
    Ok(())
}

fn value<T: Serialize>(object: &T, kind: &str) -> Result<Value, StoreError> {
    let mut value = serde_json::to_value(object).map_err(|error| StoreError::Other(error.to_string()))?;
    label(&mut value, kind);
    Ok(value)
}

fn label(object: &mut Value, kind: &str) {
    if let Value::Object(map) = object {
        map.insert("apiVersion".to_owned(), API_VERSION.into());
        map.insert("kind".to_owned(), kind.into());
    }
}

fn name_of(object: &Value) -> &str {
    object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn url(kind: &Kind, namespace: Option<&str>, name: Option<&str>, query: &str) -> String {
    let namespace = namespace
        .map(|namespace| format!("/namespaces/{}", escaped(namespace)))
        .unwrap_or_default();
    let name = name.map(|name| format!("/{}", escaped(name))).unwrap_or_default();
    format!("/apis/{API_VERSION}{namespace}/{}{name}{query}", kind.plural)
}

/// A name as a path segment: what is no letter, digit, dot, dash or underscore is written by its octets.
fn escaped(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn classify(kind: &Kind, name: &str, error: &kube::Error) -> StoreError {
    let (kind, name) = (kind.kind.to_owned(), name.to_owned());
    let kube::Error::Api(status) = error else {
        return StoreError::Other(format!(
            "{error}; check the address and the credentials in the kubeconfig"
        ));
    };
    match (status.code, status.reason.as_str()) {
        (404, _) if name.is_empty() => StoreError::Other(format!(
            "the server does not serve {kind}: install the CRDs (charts/caracal-crds)"
        )),
        (404, _) => StoreError::NotFound {
            kind,
            name,
            message: status.message.clone(),
        },
        (409, "AlreadyExists") => StoreError::Exists { kind, name },
        (409, _) => StoreError::Conflict { kind, name },
        _ => StoreError::Other(unknown_field(&status.message).unwrap_or_else(|| status.message.clone())),
    }
}

/// The text for a field that the server does not know.
fn unknown_field(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("unknown field \"")?;
    let (field, _) = rest.split_once('"')?;
    Some(format!(
        "field in document is not recognized or is in the wrong location: {field}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_api::kinds;

    #[test]
    fn paths_name_namespace_kind_and_object() {
        let policy = kinds::of_manifest("NetworkPolicy").unwrap();
        assert_eq!(
            url(policy, Some("shop"), Some("a/b"), "?x=1"),
            "/apis/projectcalico.org/v3/namespaces/shop/networkpolicies/a%2Fb?x=1"
        );
        assert_eq!(
            url(policy, None, None, ""),
            "/apis/projectcalico.org/v3/networkpolicies"
        );
    }

    #[test]
    fn an_unknown_field_is_named() {
        let message =
            "IPPool in version \"v3\" cannot be handled: strict decoding error: unknown field \"spec.cider\"";
        assert_eq!(
            unknown_field(message).unwrap(),
            "field in document is not recognized or is in the wrong location: spec.cider"
        );
    }
}

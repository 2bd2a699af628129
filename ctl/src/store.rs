//! Objects of any kind as JSON: stored ones by requests, derived ones from Pods, Nodes, Namespaces and ServiceAccounts.

mod derived;
mod error;

use caracal_api::kinds::{Kind, Storage};
use caracal_api::meta;
use caracal_api::v3::API_VERSION;
use caracal_datastore::Client;
use http::Request;
use serde_json::{Value, json};

pub(crate) use error::{StoreError, id, name_of, rewritten, text_at};

/// The kinds of policies that keep a tier.
const POLICY_PLURALS: &[&str] = &[
    "networkpolicies",
    "globalnetworkpolicies",
    "stagednetworkpolicies",
    "stagedglobalnetworkpolicies",
];

/// Access to objects of all kinds.
#[derive(Clone)]
pub(crate) struct Store {
    client: Client,
    /// The server checks and answers, and stores nothing.
    dry_run: bool,
}

impl Store {
    /// Access through a client.
    pub(crate) const fn new(client: Client) -> Self {
        Self {
            client,
            dry_run: false,
        }
    }

    /// The same access, on which the server only tries what is written.
    pub(crate) fn trying(&self) -> Self {
        Self {
            client: self.client.clone(),
            dry_run: true,
        }
    }

    /// The client below.
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// Reads one object.
    pub(crate) async fn get(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, StoreError> {
        if kind.storage == Storage::Derived {
            return self.derived_one(kind, namespace, name).await;
        }
        let url = url(kind, namespace, Some(name), "");
        self.send("GET", kind, &url, (namespace, name), None).await
    }

    /// Reads all objects, of one namespace or of all, as a list object.
    pub(crate) async fn list(&self, kind: &Kind, namespace: Option<&str>) -> Result<Value, StoreError> {
        let mut list = if kind.storage == Storage::CustomResource {
            let url = url(kind, namespace, None, "");
            self.send("GET", kind, &url, (None, ""), None).await?
        } else {
            json!({"metadata": {"resourceVersion": ""}, "items": self.derived_all(kind, namespace).await?})
        };
        // Items of a list need not say what they are.
        if let Some(Value::Array(items)) = list.get_mut("items") {
            for item in items {
                label(item, kind.kind);
            }
        }
        if let Some(Value::Object(metadata)) = list.get_mut("metadata") {
            metadata.retain(|key, _| key == "resourceVersion");
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
    ) -> Result<Value, StoreError> {
        let name = name_of(object);
        if kind.storage == Storage::Derived {
            return Err(unsupported("Create", kind, namespace, name));
        }
        let url = url(kind, namespace, None, &self.query(true));
        self.send("POST", kind, &url, (namespace, name), Some(object))
            .await
    }

    /// Writes an object that was read before.
    pub(crate) async fn update(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<Value, StoreError> {
        let name = name_of(object);
        if kind.kind == "Node" {
            return self.update_node(kind, object).await;
        }
        if kind.storage == Storage::Derived {
            return Err(unsupported("Update", kind, namespace, name));
        }
        let url = url(kind, namespace, Some(name), &self.query(true));
        self.send("PUT", kind, &url, (namespace, name), Some(object))
            .await
    }

    /// Deletes an object; with a resource version only that state of it.
    pub(crate) async fn delete(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        resource_version: Option<&str>,
    ) -> Result<(), StoreError> {
        if kind.storage == Storage::Derived {
            return Err(unsupported("Delete", kind, namespace, name));
        }
        if kind.kind == "Tier" {
            self.check_tier_is_free(kind, name).await?;
        }
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(version) = resource_version {
            options["preconditions"] = json!({"resourceVersion": version});
        }
        let url = url(kind, namespace, Some(name), &self.query(false));
        self.send("DELETE", kind, &url, (namespace, name), Some(&options))
            .await
            .map(drop)
    }

    /// Tiers of every cluster, and tiers with policies, stay.
    async fn check_tier_is_free(&self, kind: &Kind, name: &str) -> Result<(), StoreError> {
        let refuse = |reason: String| StoreError::Unsupported {
            verb: "delete",
            id: name.to_owned(),
            reason: Some(reason),
        };
        if [
            meta::TIER_DEFAULT,
            meta::TIER_KUBE_ADMIN,
            meta::TIER_KUBE_BASELINE,
        ]
        .contains(&name)
        {
            return Err(refuse(format!("Cannot delete {name} tier")));
        }
        for plural in POLICY_PLURALS {
            let query = format!(
                "?limit=1&labelSelector={}%3D{}",
                escaped(meta::LABEL_TIER),
                escaped(name)
            );
            let url = format!("/apis/{API_VERSION}/{plural}{query}");
            let policies = self.send("GET", kind, &url, (None, ""), None).await?;
            if policies.pointer("/items/0").is_some() {
                return Err(refuse("Cannot delete a non-empty tier".to_owned()));
            }
        }
        Ok(())
    }

    /// The query of a request that writes; `strict` refuses fields that the kind does not have.
    fn query(&self, strict: bool) -> String {
        let parts: Vec<&str> = [(strict, "fieldValidation=Strict"), (self.dry_run, "dryRun=All")]
            .into_iter()
            .filter_map(|(wanted, part)| wanted.then_some(part))
            .collect();
        if parts.is_empty() {
            return String::new();
        }
        format!("?{}", parts.join("&"))
    }

    async fn send(
        &self,
        method: &str,
        kind: &Kind,
        url: &str,
        (namespace, name): (Option<&str>, &str),
        body: Option<&Value>,
    ) -> Result<Value, StoreError> {
        let text = body.map(Value::to_string).unwrap_or_default();
        let content_type = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("content-type", content_type)
            .body(text.into_bytes())
            .map_err(|error| StoreError::Other(error.to_string()))?;
        self.client
            .kube()
            .request::<Value>(request)
            .await
            .map_err(|error| error::classify(kind, namespace, name, &error))
    }
}

/// What a derived kind answers to a verb that it has not.
fn unsupported(verb: &'static str, kind: &Kind, namespace: Option<&str>, name: &str) -> StoreError {
    let done = match verb {
        "Delete" => "deleted",
        _ => "updated",
    };
    let reason = match kind.kind {
        "Profile" if name == meta::PROFILE_DEFAULT_ALLOW => Some(format!(
            "The profile \"{name}\" is a default provided by Calico and cannot be {done}"
        )),
        "WorkloadEndpoint" => Some("it is derived from its Pod".to_owned()),
        _ => None,
    };
    StoreError::Unsupported {
        verb,
        id: id(kind, namespace, name),
        reason,
    }
}

/// Writes on an object what it is.
pub(crate) fn label(object: &mut Value, kind: &str) {
    if let Value::Object(map) = object {
        map.insert("apiVersion".to_owned(), API_VERSION.into());
        map.insert("kind".to_owned(), kind.into());
    }
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
    fn the_profile_of_every_cluster_says_that_it_stays() {
        let kind = kinds::of_manifest("Profile").unwrap();
        assert_eq!(
            unsupported("Delete", kind, None, "projectcalico-default-allow").to_string(),
            "operation Delete is not supported on Profile(projectcalico-default-allow): The profile \
             \"projectcalico-default-allow\" is a default provided by Calico and cannot be deleted"
        );
    }
}

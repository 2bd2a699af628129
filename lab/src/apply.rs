//! `apply`: creating or changing the objects of manifests, for machines without kubectl.
//!
//! Does what client-side `kubectl apply` does, with the same annotation, so that both can be used in turn; what it
//! does not have is strategic merging of lists: a list that changed is replaced as a whole.

mod input;
mod merge;

use std::collections::BTreeMap;

use caracal_datastore::Client;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIResource, APIResourceList};
use kube::api::{GetParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use serde::Serialize;
use serde_json::{Map, Value};

pub use input::read;

/// Where the manifest is kept that was applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// There was none.
    Created,
    /// It was changed.
    Configured,
    /// It was as wanted.
    Unchanged,
}

/// An object that was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace, for kinds that have one.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
}

impl Applied {
    /// As kubectl says it: `networkpolicy.networking.k8s.io/store created`.
    #[must_use]
    pub fn text(&self) -> String {
        let group = self
            .api_version
            .split_once('/')
            .map_or_else(String::new, |(group, _)| format!(".{group}"));
        let outcome = match self.outcome {
            Outcome::Created => "created",
            Outcome::Configured => "configured",
            Outcome::Unchanged => "unchanged",
        };
        format!("{}{group}/{} {outcome}", self.kind.to_lowercase(), self.name)
    }
}

/// Applies objects, one after the other.
#[derive(Debug)]
pub struct Applier {
    client: Client,
    /// What the server serves, by group and version.
    served: BTreeMap<String, Vec<APIResource>>,
}

/// The identity of an object in a manifest.
struct Target {
    api_version: String,
    kind: String,
    namespace: Option<String>,
    name: String,
    path: String,
}

impl Applier {
    /// Over a client.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self {
            client,
            served: BTreeMap::new(),
        }
    }

    /// Applies one object.
    ///
    /// # Errors
    /// A manifest that names no object, a kind that is not served, or the server's refusal; the text names the object.
    pub async fn apply(&mut self, manifest: &Value) -> Result<Applied, String> {
        let target = self.target(manifest).await?;
        let outcome = self
            .apply_to(&target, manifest)
            .await
            .map_err(|e| format!("{} {}: {e}", target.kind, target.name))?;
        Ok(Applied {
            api_version: target.api_version,
            kind: target.kind,
            namespace: target.namespace,
            name: target.name,
            outcome,
        })
    }

    async fn target(&mut self, manifest: &Value) -> Result<Target, String> {
        let kind = text(manifest, "/kind")
            .ok_or("kind: missing; an object needs apiVersion, kind and metadata.name")?;
        let api_version = text(manifest, "/apiVersion")
            .ok_or_else(|| format!("{kind}: apiVersion: missing; give it, as v1"))?;
        let name = text(manifest, "/metadata/name").ok_or_else(|| {
            format!("{kind}: metadata.name: missing; an object that is applied needs a name")
        })?;
        let resource = self.resource(api_version, kind).await?;
        let namespace = resource.namespaced.then(|| {
            text(manifest, "/metadata/namespace")
                .unwrap_or("default")
                .to_owned()
        });
        let root = if api_version.contains('/') {
            "/apis"
        } else {
            "/api"
        };
        let middle = namespace
            .as_ref()
            .map_or_else(String::new, |name| format!("/namespaces/{name}"));
        Ok(Target {
            path: format!("{root}/{api_version}{middle}/{}", resource.name),
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace,
            name: name.to_owned(),
        })
    }

    async fn resource(&mut self, api_version: &str, kind: &str) -> Result<APIResource, String> {
        if !self.served.contains_key(api_version) {
            let list = self
                .discover(api_version)
                .await
                .map_err(|e| format!("{kind}: apiVersion {api_version}: {e}"))?;
            self.served.insert(api_version.to_owned(), list.resources);
        }
        let served = self.served.get(api_version).map_or(&[][..], Vec::as_slice);
        served
            .iter()
            .find(|resource| resource.kind == kind && !resource.name.contains('/'))
            .cloned()
            .ok_or_else(|| format!("kind {kind}: the API server serves none in {api_version}; check both"))
    }

    async fn discover(&self, api_version: &str) -> Result<APIResourceList, kube::Error> {
        if api_version.contains('/') {
            self.client.kube().list_api_group_resources(api_version).await
        } else {
            self.client.kube().list_core_api_resources(api_version).await
        }
    }

    async fn apply_to(&self, target: &Target, manifest: &Value) -> Result<Outcome, String> {
        let request = Request::new(target.path.as_str());
        let modified = with_last_applied(manifest, target.namespace.as_deref());
        let get = request.get(&target.name, &GetParams::default());
        let live = match self.client.kube().request::<Value>(get.map_err(readable)?).await {
            Ok(live) => live,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let body = serde_json::to_vec(&modified).map_err(readable)?;
                let create = request.create(&PostParams::default(), body).map_err(readable)?;
                self.client
                    .kube()
                    .request::<Value>(create)
                    .await
                    .map_err(reason)?;
                return Ok(Outcome::Created);
            }
            Err(error) => return Err(reason(error)),
        };
        let patch = merge::patch(last_applied(&live).as_ref(), &modified, &live);
        if patch.is_empty() {
            return Ok(Outcome::Unchanged);
        }
        let patch = request
            .patch(
                &target.name,
                &PatchParams::default(),
                &Patch::Merge(Value::Object(patch)),
            )
            .map_err(readable)?;
        self.client.kube().request::<Value>(patch).await.map_err(reason)?;
        Ok(Outcome::Configured)
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

/// The manifest with itself as annotation, in the very form that kubectl writes.
fn with_last_applied(manifest: &Value, namespace: Option<&str>) -> Value {
    let mut object = manifest.clone();
    let metadata = entry(&mut object, "metadata");
    if let Some(namespace) = namespace {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    let annotations = metadata
        .entry("annotations")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(annotations) = annotations {
        annotations.remove(LAST_APPLIED);
    }
    let text = format!("{object}\n");
    let metadata = entry(&mut object, "metadata");
    entry_of(metadata, "annotations").insert(LAST_APPLIED.to_owned(), Value::String(text));
    object
}

/// An object's field as an object; what else was there is replaced.
fn entry<'a>(value: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    as_object(&mut value[field])
}

/// As [`entry`], of an object.
fn entry_of<'a>(map: &'a mut Map<String, Value>, field: &str) -> &'a mut Map<String, Value> {
    as_object(map.entry(field).or_insert(Value::Null))
}

fn as_object(place: &mut Value) -> &mut Map<String, Value> {
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    match place {
        Value::Object(map) => map,
        _ => unreachable!("made an object just now"),
    }
}

fn last_applied(live: &Value) -> Option<Value> {
    let annotations = live.pointer("/metadata/annotations")?;
    serde_json::from_str(annotations.get(LAST_APPLIED)?.as_str()?).ok()
}

fn readable(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The server's own words where there are any.
fn reason(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_apiserver::ApiServer;
    use serde_json::json;

    fn applier() -> Applier {
        Applier::new(Client::from_service(ApiServer::in_memory().service(), "default"))
    }

    fn policy(port: u16) -> Value {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "store", "namespace": "default", "labels": {"a": "b"}},
            "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": port}]}]},
        })
    }

    #[tokio::test]
    async fn objects_are_created_changed_and_left_alone() {
        let mut applier = applier();
        let first = applier.apply(&policy(80)).await.unwrap();
        assert_eq!(first.text(), "networkpolicy.networking.k8s.io/store created");
        assert_eq!(
            applier.apply(&policy(80)).await.unwrap().outcome,
            Outcome::Unchanged
        );
        let mut changed = policy(81);
        changed["metadata"].as_object_mut().unwrap().remove("labels");
        assert_eq!(
            applier.apply(&changed).await.unwrap().outcome,
            Outcome::Configured
        );
        let live: k8s_openapi::api::networking::v1::NetworkPolicy = applier
            .client
            .get(Some("default"), "store")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            live.metadata.labels.unwrap_or_default().len(),
            0,
            "what was applied once and no longer is"
        );
        assert_eq!(applier.apply(&changed).await.unwrap().outcome, Outcome::Unchanged);
    }

    #[test]
    fn the_annotation_is_kubectl_s() {
        let manifest = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "x"}});
        let object = with_last_applied(&manifest, Some("default"));
        assert_eq!(
            object["metadata"]["annotations"][LAST_APPLIED],
            "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"annotations\":{},\"name\":\"x\",\"namespace\":\"default\"}}\n"
        );
        assert_eq!(
            with_last_applied(&object, Some("default")),
            object,
            "never nested"
        );
    }

    #[tokio::test]
    async fn the_server_s_refusal_and_unknown_kinds_are_named() {
        let mut applier = applier();
        for (manifest, words) in [
            (json!({"apiVersion": "v1", "metadata": {"name": "x"}}), "kind"),
            (json!({"kind": "Pod", "metadata": {"name": "x"}}), "apiVersion"),
            (
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}}),
                "metadata.name",
            ),
            (
                json!({"apiVersion": "v1", "kind": "Cat", "metadata": {"name": "x"}}),
                "kind Cat",
            ),
            (
                json!({"apiVersion": "no.such/v1", "kind": "Cat", "metadata": {"name": "x"}}),
                "no.such/v1",
            ),
            (
                json!({"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "x"}, "spec": {"cidr": 5}}),
                "cidr",
            ),
        ] {
            let message = applier.apply(&manifest).await.unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }
}

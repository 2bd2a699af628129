//! The `scale` of kinds that make pods: how many, by itself. Source: `autoscaling/v1` of Kubernetes.

use http::{HeaderMap, Method, Response, header};
use serde_json::{Value, json};

use super::write::metadata;
use super::{Change, patching};
use crate::request::{Query, ResourcePath};
use crate::resource::Resource;
use crate::server::ApiServer;
use crate::service::{ResponseBody, json as answer};
use crate::status::{ApiError, FieldError};
use crate::store::ObjectKey;

/// Kinds that can be scaled.
pub(crate) fn has_scale(resource: &Resource) -> bool {
    matches!(
        &*resource.storage,
        "deployments.apps" | "replicasets.apps" | "statefulsets.apps" | "replicationcontrollers"
    )
}

/// The scale of an object.
fn of(object: &Value) -> Value {
    let mut about = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(found) = object.pointer(&format!("/metadata/{key}")) {
            about[key] = found.clone();
        }
    }
    let count = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let mut scale = json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": about,
        "spec": {}, "status": {"replicas": count("/status/replicas")}});
    if count("/spec/replicas") != 0 {
        scale["spec"]["replicas"] = count("/spec/replicas").into();
    }
    let selector = crate::table::selector_text(object);
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

impl ApiServer {
    /// Answers requests for the scale of an object.
    pub(crate) async fn scale(
        &self,
        resource: &Resource,
        path: &ResourcePath,
        (method, headers, body): (&Method, &HeaderMap, &[u8]),
        query: &Query,
    ) -> Result<Response<ResponseBody>, ApiError> {
        let namespace = path.namespace.as_deref().unwrap_or_default();
        let name = path.name.as_deref().unwrap_or_default();
        let current = self
            .store()
            .latest(&resource.storage, &ObjectKey::new(namespace, name))
            .ok_or_else(|| ApiError::not_found(&resource.group, &resource.plural, name))?;
        let old = of(&current.value());
        let wanted = match *method {
            Method::GET => return Ok(answer(200, &old)),
            Method::PUT => super::decode(body)?,
            Method::PATCH => patched(&old, headers, body)?,
            _ => return Err(ApiError::method_not_allowed()),
        };
        let replicas = wanted.pointer("/spec/replicas").map_or(Some(0), Value::as_i64);
        let Some(replicas) = replicas.filter(|count| *count >= 0) else {
            let found = wanted.pointer("/spec/replicas").cloned().unwrap_or_default();
            let error = FieldError::invalid("spec.replicas", &found, "must be greater than or equal to 0");
            return Err(ApiError::invalid("autoscaling", "Scale", name, &[error]));
        };
        let mut change = json!({"spec": {"replicas": replicas}});
        let version = metadata(&wanted, "resourceVersion");
        if version != metadata(&old, "resourceVersion")
            && version.as_str().is_some_and(|text| !text.is_empty())
        {
            change["metadata"]["resourceVersion"] = version;
        }
        let new = self
            .update(resource, namespace, name, false, Change::Merge(change), query)
            .await?;
        Ok(answer(200, &of(&new)))
    }
}

/// The scale after a patch.
fn patched(old: &Value, headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    let mut new = old.clone();
    match kind.split(';').next().unwrap_or_default().trim() {
        // A scale has no lists: both ways of merging are the same.
        "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
            json_patch::merge(&mut new, &patching::merge(body)?);
        }
        "application/json-patch+json" => patching::apply_json(&mut new, &patching::json(body)?)?,
        _ => {
            return Err(ApiError::unsupported_media_type(
                "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json",
            ));
        }
    }
    Ok(new)
}

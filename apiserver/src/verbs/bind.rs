//! The binding of a pod to its node: the only way in which a pod gets one after it was made.

use http::Response;
use serde_json::{Value, json};

use super::Change;
use super::write::now;
use crate::request::{Query, ResourcePath};
use crate::resource::Resource;
use crate::server::ApiServer;
use crate::service::{ResponseBody, json as answer};
use crate::status::ApiError;
use crate::store::{Expect, ObjectKey};

impl ApiServer {
    pub(crate) async fn bind(
        &self,
        resource: &Resource,
        namespace: &str,
        path: &ResourcePath,
        body: &[u8],
    ) -> Result<Response<ResponseBody>, ApiError> {
        let name = path.name.as_deref().unwrap_or_default();
        let binding = super::decode(body)?;
        let Some(node) = binding.pointer("/target/name").and_then(Value::as_str) else {
            return Err(ApiError::bad_request(
                "target.name: Required value: the node to bind the pod to",
            ));
        };
        let key = ObjectKey::new(namespace, name);
        let pod = self.store().latest(&resource.storage, &key);
        let bound = pod
            .map(|pod| pod.attributes.field("spec.nodeName").to_owned())
            .unwrap_or_default();
        if !bound.is_empty() {
            let why = format!("pod {name} is already assigned to node \"{bound}\"");
            return Err(ApiError::conflict("", "pods/binding", name, &why));
        }
        self.place_pod(resource, &key, node).await?;
        let query = Query::default();
        let scheduled = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "True",
            "lastProbeTime": null, "lastTransitionTime": now()}]}});
        let change = Change::Strategic(scheduled);
        self.update(resource, namespace, name, true, change, &query)
            .await?;
        Ok(answer(
            201,
            &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
        ))
    }

    /// Writes the node into the pod.
    async fn place_pod(&self, resource: &Resource, key: &ObjectKey, node: &str) -> Result<(), ApiError> {
        loop {
            let Some(current) = self.store().latest(&resource.storage, key) else {
                return Err(ApiError::not_found(&resource.group, &resource.plural, &key.name));
            };
            let mut pod = current.value();
            if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
                spec.insert("nodeName".to_owned(), node.into());
            }
            let expect = Expect::Revision(current.revision);
            match self.commit(resource, key.clone(), expect, pod, false).await {
                // Someone else was faster: the node comes on top of that.
                Err(error) if error.reason == "Conflict" => {}
                result => return result.map(drop),
            }
        }
    }
}

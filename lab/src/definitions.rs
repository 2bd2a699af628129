//! What makes a Kubernetes API one that knows our kinds: their definitions and the admission policies, as the chart
//! `caracal-crds` has them. The embedded server needs none of this.

use std::time::Duration;

use caracal_api::{admission, crd};
use caracal_datastore::Client;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

const MANAGER: &str = "caracal-lab";
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Applies all of them and waits until they are in force.
///
/// # Errors
/// The first request that is refused.
pub async fn install(client: &Client) -> Result<(), kube::Error> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.kube().clone());
    let params = PatchParams::apply(MANAGER).force();
    for definition in crd::all() {
        let name = definition.metadata.name.clone().unwrap_or_default();
        definitions
            .patch(&name, &params, &Patch::Apply(&definition))
            .await?;
    }
    for manifest in admission::manifests() {
        let resource = resource_of(&manifest);
        let policies: Api<DynamicObject> = Api::all_with(client.kube().clone(), &resource);
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
        policies.patch(name, &params, &Patch::Apply(&manifest)).await?;
    }
    for definition in crd::all() {
        let name = definition.metadata.name.unwrap_or_default();
        while !established(&definitions.get(&name).await?) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    while !in_force(client).await? {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn resource_of(manifest: &Value) -> ApiResource {
    let text = |key: &str| manifest[key].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or_default();
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")))
}

fn established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// Whether a policy that is tried without being made gets the label of its tier. Kubernetes puts policies in force a
/// moment after it has stored them.
async fn in_force(client: &Client) -> Result<bool, kube::Error> {
    let gvk = GroupVersionKind::gvk(caracal_api::v3::GROUP, "v3", "GlobalNetworkPolicy");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "globalnetworkpolicies");
    let policies: Api<DynamicObject> = Api::all_with(client.kube().clone(), &resource);
    let tried = DynamicObject::new("caracal-lab-tries", &resource).data(json!({"spec": {}}));
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match policies.create(&params, &tried).await {
        Ok(made) => Ok(made
            .metadata
            .labels
            .is_some_and(|labels| labels.contains_key("projectcalico.org/tier"))),
        // The kind is served a moment after it is established.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

//! `datastore migrate export`: everything of the locked datastore as one text.

use caracal_api::kinds;
use caracal_api::v3::{BlockAffinity, ClusterInformation, IPAMBlock, IPAMConfiguration, IPAMHandle};
use caracal_api::yaml;
use caracal_datastore::{Client, ListOptions, init};
use serde::Serialize;
use serde_json::Value;

use super::archive::{Addresses, Entry, ORDER, SEPARATOR};
use crate::error::Failure;
use crate::store::Store;
use crate::terminal::{Terminal, sorted};

/// Carries out the command.
pub(super) async fn run(terminal: &Terminal, client: &Client) -> Result<(), Failure> {
    if !super::is_locked(client).await? {
        return Err(Failure::new(
            "datastore is not locked. Run the `caracalctl datastore migrate lock` command in order to begin migration",
        ));
    }
    let information: Option<ClusterInformation> = client.get(None, init::CLUSTER_INFORMATION).await?;
    let resources = resources(&Store::new(client.clone())).await?;
    let addresses = addresses(client).await?;
    terminal.text(&resources);
    terminal.line(SEPARATOR);
    terminal.line(&json(&information)?);
    terminal.line(SEPARATOR);
    terminal.line(&json(&addresses)?);
    Ok(())
}

fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::new(format!("cannot be exported: {error}")))
}

/// The resources that users write, as YAML documents.
async fn resources(store: &Store) -> Result<String, Failure> {
    let mut documents = Vec::new();
    for kind in ORDER.iter().filter_map(|kind| kinds::of_manifest(kind)) {
        let list = store
            .list(kind, None)
            .await
            .map_err(|error| Failure::new(format!("{} cannot be exported: {error}", kind.plural)))?;
        for item in list.get("items").and_then(Value::as_array).into_iter().flatten() {
            let text =
                yaml::to_string(&sorted(portable(item))).map_err(|error| Failure::new(error.to_string()))?;
            documents.push(text);
        }
    }
    Ok(documents.join("---\n"))
}

/// An object without what the server of one cluster counts.
fn portable(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "labels" | "annotations"));
    }
    if let Value::Object(map) = &mut object
        && map.get("kind").and_then(Value::as_str) != Some("Node")
    {
        map.remove("status");
    }
    object
}

async fn addresses(client: &Client) -> Result<Addresses, Failure> {
    let all = ListOptions::default();
    let (affinities, blocks, handles) = futures::try_join!(
        client.list::<BlockAffinity>(None, &all),
        client.list::<IPAMBlock>(None, &all),
        client.list::<IPAMHandle>(None, &all),
    )?;
    let config: Option<IPAMConfiguration> = client.get(None, "default").await?;
    let entry = |key: String, value: Result<Value, serde_json::Error>| {
        value
            .map(|value| Entry { key, value, ttl: 0 })
            .map_err(|error| Failure::new(format!("cannot be exported: {error}")))
    };
    let version = |cidr: &str| if cidr.contains(':') { 6 } else { 4 };
    let in_key = |cidr: &str| cidr.replace('/', "-");
    Ok(Addresses {
        block_affinities: affinities
            .iter()
            .filter(|affinity| !affinity.spec.deleted)
            .map(|affinity| {
                let spec = &affinity.spec;
                let type_ = if spec.type_.is_empty() {
                    "host"
                } else {
                    &spec.type_
                };
                let (node, cidr) = (&spec.node, in_key(&spec.cidr));
                let key = format!(
                    "/calico/ipam/v2/{type_}/{node}/ipv{}/block/{cidr}",
                    version(&spec.cidr)
                );
                entry(key, serde_json::to_value(spec))
            })
            .collect::<Result<_, _>>()?,
        blocks: blocks
            .iter()
            .filter(|block| !block.spec.deleted)
            .map(|block| {
                let cidr = &block.spec.cidr;
                let key = format!(
                    "/calico/ipam/v2/assignment/ipv{}/block/{}",
                    version(cidr),
                    in_key(cidr)
                );
                entry(key, serde_json::to_value(&block.spec))
            })
            .collect::<Result<_, _>>()?,
        handles: handles
            .iter()
            .filter(|handle| !handle.spec.deleted)
            .map(|handle| {
                let key = format!("/calico/ipam/v2/handle/{}", handle.spec.handle_id);
                entry(key, serde_json::to_value(&handle.spec))
            })
            .collect::<Result<_, _>>()?,
        config: config
            .map(|config| {
                entry(
                    "/calico/ipam/v2/config".to_owned(),
                    serde_json::to_value(&config.spec),
                )
            })
            .transpose()?,
    })
}

//! `datastore migrate import`: an empty datastore filled with what was exported, and left locked.

use caracal_api::kinds::{self, Kind, Storage};
use caracal_api::meta::{LABEL_AFFINITY_TYPE, LABEL_HOSTNAME_HASH, LABEL_IP_VERSION};
use caracal_api::names::{affinity_name, block_name, handle_name, hostname_hash};
use caracal_api::v3::{
    BlockAffinity, BlockAffinitySpec, ClusterInformation, IPAMBlock, IPAMBlockSpec, IPAMConfiguration,
    IPAMConfigurationSpec, IPAMHandle, IPAMHandleSpec,
};
use caracal_api::{meta, yaml};
use caracal_datastore::{Client, Object, init};
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::archive::{Addresses, Entry, ORDER, affinity_of_key, sections};
use crate::args::Import;
use crate::error::Failure;
use crate::judge;
use crate::store::{Store, StoreError, name_of, text_at};
use crate::terminal::Terminal;

/// Carries out the command.
pub(super) async fn run(terminal: &Terminal, client: &Client, arguments: &Import) -> Result<(), Failure> {
    let file = &arguments.filename;
    let text = if file == "-" {
        terminal.input()
    } else {
        std::fs::read_to_string(file)
    }
    .map_err(|error| {
        Failure::new(format!(
            "cannot read {file}: {error}; name the file with --filename"
        ))
    })?;
    let malformed = |problem: &str| {
        Failure::new(format!(
            "imported file: {file} is improperly formatted. Try recreating with 'caracalctl datastore migrate export'{}{problem}",
            if problem.is_empty() { "" } else { ": " }
        ))
    };
    let sections = sections(&text).ok_or_else(|| malformed(""))?;
    let resources = yaml::documents(sections.resources).map_err(|error| malformed(&error.to_string()))?;
    let information: Option<ClusterInformation> =
        serde_json::from_str(sections.information).map_err(|error| malformed(&error.to_string()))?;
    let addresses: Addresses =
        serde_json::from_str(sections.addresses).map_err(|error| malformed(&error.to_string()))?;
    let store = Store::new(client.clone());
    judge_all(&resources)?;
    check_empty(&store).await?;
    init::ensure_defaults(client).await?;
    super::set_ready(client, false).await?;
    write_resources(terminal, &store, &resources).await?;
    if let Some(information) = &information {
        keep_identity(client, information).await?;
    }
    write_addresses(terminal, client, &addresses).await?;
    terminal.line(
        "The datastore is locked. When everything is as it should be: caracalctl datastore migrate unlock",
    );
    Ok(())
}

/// Nothing is written unless everything can be.
fn judge_all(resources: &[Value]) -> Result<(), Failure> {
    let mut problems = Vec::new();
    for object in resources {
        let kind = text_at(object, "/kind");
        match kinds::of_manifest(kind) {
            None => problems.push(format!("unknown resource type ({kind})")),
            Some(known) => {
                let refusal = judge::refusal_of(known, object);
                problems.extend(refusal.map(|text| format!("{kind}({}): {text}", name_of(object))));
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "nothing was imported, because of:\n{}",
        problems.join("\n")
    )))
}

/// True for what a new cluster has by itself.
fn is_initial(kind: &Kind, name: &str) -> bool {
    let tiers = [
        meta::TIER_DEFAULT,
        meta::TIER_KUBE_ADMIN,
        meta::TIER_KUBE_BASELINE,
    ];
    kind.storage == Storage::Derived
        || kind.kind == "KubeControllersConfiguration"
        || (kind.kind == "Tier" && tiers.contains(&name))
}

async fn check_empty(store: &Store) -> Result<(), Failure> {
    let further = ["IPAMBlock", "BlockAffinity", "IPAMHandle"];
    for kind in ORDER
        .iter()
        .chain(&further)
        .filter_map(|kind| kinds::of_manifest(kind))
    {
        if kind.storage == Storage::Derived {
            continue;
        }
        let list = store
            .list(kind, None)
            .await
            .map_err(|error| Failure::new(error.to_string()))?;
        let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
        if let Some(found) = items.map(name_of).find(|name| !is_initial(kind, name)) {
            return Err(Failure::new(format!(
                "datastore already has Calico resources: {}({found}). Clear out all Calico resources by deleting all \
                 Calico CRDs",
                kind.kind
            )));
        }
    }
    Ok(())
}

async fn write_resources(terminal: &Terminal, store: &Store, resources: &[Value]) -> Result<(), Failure> {
    let mut problems = Vec::new();
    for object in resources {
        let Some(kind) = kinds::of_manifest(text_at(object, "/kind")) else {
            continue;
        };
        let namespace = kind.namespaced.then(|| text_at(object, "/metadata/namespace"));
        let result = match store.create(kind, namespace, object).await {
            // Nodes, and what a new cluster has.
            Err(StoreError::Exists { .. } | StoreError::Unsupported { .. }) => {
                overwrite(store, kind, namespace, object).await
            }
            result => result.map(drop),
        };
        if let Err(error) = result {
            problems.push(error.to_string());
        }
    }
    let done = resources.len() - problems.len();
    terminal.line(&format!("Imported {done} of {} resources.", resources.len()));
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::new(problems.join("\n")))
}

async fn overwrite(
    store: &Store,
    kind: &Kind,
    namespace: Option<&str>,
    object: &Value,
) -> Result<(), StoreError> {
    let stored = store.get(kind, namespace, name_of(object)).await?;
    let mut object = object.clone();
    if let Some(version) = stored.pointer("/metadata/resourceVersion") {
        object["metadata"]["resourceVersion"] = version.clone();
    }
    store.update(kind, namespace, &object).await.map(drop)
}

/// The cluster stays the same one: its identity and version move along.
async fn keep_identity(client: &Client, old: &ClusterInformation) -> Result<(), Failure> {
    let patch = serde_json::json!({"spec": {
        "clusterGUID": old.spec.cluster_guid, "calicoVersion": old.spec.calico_version,
    }});
    client
        .patch_merge::<ClusterInformation>(None, init::CLUSTER_INFORMATION, &patch)
        .await?;
    Ok(())
}

async fn write_addresses(terminal: &Terminal, client: &Client, addresses: &Addresses) -> Result<(), Failure> {
    for entry in &addresses.blocks {
        let spec: IPAMBlockSpec = spec(entry)?;
        let block = IPAMBlock::new(&block_name(&cidr(&spec.cidr, entry)?), spec);
        create(client, &block).await?;
    }
    for entry in &addresses.handles {
        let mut spec: IPAMHandleSpec = spec(entry)?;
        if spec.handle_id.is_empty() {
            // etcd has the handle in the key alone.
            spec.handle_id = entry
                .key
                .rsplit_once("/handle/")
                .map_or("", |(_, id)| id)
                .to_owned();
        }
        create(client, &IPAMHandle::new(&handle_name(&spec.handle_id), spec)).await?;
    }
    for entry in &addresses.block_affinities {
        create(client, &affinity(entry)?).await?;
    }
    if let Some(entry) = &addresses.config {
        let spec: IPAMConfigurationSpec = spec(entry)?;
        create(client, &IPAMConfiguration::new("default", spec)).await?;
    }
    terminal.line(&format!(
        "Imported {} blocks, {} affinities and {} handles.",
        addresses.blocks.len(),
        addresses.block_affinities.len(),
        addresses.handles.len()
    ));
    Ok(())
}

fn affinity(entry: &Entry) -> Result<BlockAffinity, Failure> {
    let mut spec: BlockAffinitySpec = spec(entry)?;
    if let Some((host, block)) = affinity_of_key(&entry.key).filter(|_| spec.cidr.is_empty()) {
        (spec.node, spec.cidr) = (host, block);
    }
    let cidr = cidr(&spec.cidr, entry)?;
    let type_ = if spec.type_.is_empty() {
        "host".to_owned()
    } else {
        spec.type_.clone()
    };
    let version = if cidr.addr().is_ipv4() { "4" } else { "6" };
    let labels = [
        (LABEL_AFFINITY_TYPE, type_),
        (LABEL_HOSTNAME_HASH, hostname_hash(&spec.node)),
        (LABEL_IP_VERSION, version.to_owned()),
    ];
    let mut affinity = BlockAffinity::new(&affinity_name(&spec.node, &cidr), spec);
    affinity.metadata.labels = Some(labels.map(|(key, value)| (key.to_owned(), value)).into());
    Ok(affinity)
}

fn spec<T: DeserializeOwned>(entry: &Entry) -> Result<T, Failure> {
    serde_json::from_value(entry.value.clone())
        .map_err(|error| Failure::new(format!("{} cannot be imported: {error}", entry.key)))
}

fn cidr(text: &str, entry: &Entry) -> Result<IpNet, Failure> {
    text.parse().map_err(|error| {
        Failure::new(format!(
            "{} cannot be imported: its cidr {text:?}: {error}",
            entry.key
        ))
    })
}

async fn create<K: Object>(client: &Client, object: &K) -> Result<(), Failure> {
    match client.create(object).await {
        Ok(_) => Ok(()),
        // An earlier import was stopped on the way.
        Err(error) if error.is_already_exists() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

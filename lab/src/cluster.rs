//! What the lab puts into the API: the pool, BGP's settings, felix's settings, and its nodes.
//!
//! What exists is left as it is, except a node's addresses and its Ready condition, which a kubelet would report.

use caracal_api::meta;
use caracal_api::v3::{
    AsNumber, BGPConfiguration, BGPConfigurationSpec, BGPPeer, BGPPeerSpec, EncapsulationMode,
    FelixConfiguration, FelixConfigurationSpec, IPPool, IPPoolSpec,
};
use caracal_datastore::{Client, Object, init};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use crate::topology::{Backend, CLUSTER_AS, Machine, POD_POOL, Plan, TOR_AS, Tor, tor_address};

/// Name of the pod pool, as Calico's installer gives it.
pub const POOL_NAME: &str = "default-ipv4-ippool";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Most pods of a node, as a kubelet's default.
const PODS_MAX: &str = "110";

/// Puts everything there except the nodes.
///
/// # Errors
/// The first request that fails.
pub async fn ensure_settings(client: &Client, plan: &Plan) -> caracal_datastore::Result<()> {
    init::ensure_defaults(client).await?;
    ensure(client, &pool()).await?;
    ensure(client, &bgp_configuration()).await?;
    if plan.options.tor != Tor::None {
        ensure(client, &tor_peer()).await?;
    }
    ensure(client, &felix_configuration(plan.options.backend)).await
}

/// Makes a node, or brings the addresses of an existing one up to date. It is not ready yet.
///
/// # Errors
/// A request that fails.
pub async fn ensure_node(client: &Client, node: &Machine) -> caracal_datastore::Result<()> {
    let metadata = node_metadata(node);
    if client.get::<Node>(None, &node.name).await?.is_none() {
        let object: Node = decode(json!({"metadata": metadata, "spec": {}}));
        ensure(client, &object).await?;
    } else {
        client
            .patch_merge::<Node>(None, &node.name, &json!({"metadata": metadata}))
            .await?;
    }
    client
        .patch_status::<Node>(None, &node.name, &json!({"status": node_status(node)}))
        .await?;
    report_node(client, node, Err("starting")).await
}

/// Tells the API whether a node is ready; a reason why not.
///
/// # Errors
/// A request that fails.
pub async fn report_node(
    client: &Client,
    node: &Machine,
    ready: Result<(), &str>,
) -> caracal_datastore::Result<()> {
    let now = jiff::Timestamp::now();
    let status = json!({"status": {"conditions": [condition(ready, &seconds(now))]}});
    client
        .patch_status::<Node>(None, &node.name, &status)
        .await
        .map(drop)
}

async fn ensure<K: Object>(client: &Client, object: &K) -> caracal_datastore::Result<()> {
    match client.create(object).await {
        Err(error) if !error.is_already_exists() => Err(error),
        _ => Ok(()),
    }
}

fn pool() -> IPPool {
    IPPool::new(
        POOL_NAME,
        IPPoolSpec {
            cidr: POD_POOL.to_owned(),
            ipip_mode: Some(EncapsulationMode::Never),
            vxlan_mode: Some(EncapsulationMode::Never),
            nat_outgoing: false,
            block_size: Some(26),
            node_selector: "all()".to_owned(),
            ..IPPoolSpec::default()
        },
    )
}

fn bgp_configuration() -> BGPConfiguration {
    BGPConfiguration::new(
        "default",
        BGPConfigurationSpec {
            as_number: Some(AsNumber(CLUSTER_AS)),
            node_to_node_mesh_enabled: Some(true),
            ..BGPConfigurationSpec::default()
        },
    )
}

fn tor_peer() -> BGPPeer {
    BGPPeer::new(
        "tor",
        BGPPeerSpec {
            peer_ip: tor_address().to_string(),
            as_number: Some(AsNumber(TOR_AS)),
            ..BGPPeerSpec::default()
        },
    )
}

/// As Calico's manifest has it: after their policy, pods may talk to their node.
fn felix_configuration(backend: Backend) -> FelixConfiguration {
    FelixConfiguration::new(
        "default",
        FelixConfigurationSpec {
            default_endpoint_to_host_action: Some("Accept".to_owned()),
            // The default decides by kube-proxy, which a lab has not.
            nftables_mode: (backend == Backend::Nftables).then(|| "Enabled".to_owned()),
            ..FelixConfigurationSpec::default()
        },
    )
}

fn node_metadata(node: &Machine) -> Value {
    json!({
        "name": node.name,
        "labels": {HOSTNAME: node.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": arch()},
        "annotations": {meta::NODE_IPV4_ADDRESS: format!("{}/24", node.address)},
    })
}

fn node_status(node: &Machine) -> Value {
    let resources = json!({"pods": PODS_MAX});
    json!({
        "addresses": [
            {"type": "InternalIP", "address": node.address.to_string()},
            {"type": "Hostname", "address": node.name},
        ],
        "capacity": resources,
        "allocatable": resources,
        "nodeInfo": {
            "architecture": arch(),
            "bootID": "",
            "containerRuntimeVersion": concat!("caracal-lab://", env!("CARGO_PKG_VERSION")),
            "kernelVersion": kernel_version(),
            "kubeProxyVersion": "",
            "kubeletVersion": concat!("caracal-lab-v", env!("CARGO_PKG_VERSION")),
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": "Caracal lab",
            "systemUUID": "",
        },
    })
}

fn condition(ready: Result<(), &str>, now: &str) -> Value {
    let (status, reason, message) = match ready {
        Ok(()) => ("True", "LabReady", "the node's daemons are ready"),
        Err(message) => ("False", "LabNotReady", message),
    };
    json!({
        "type": "Ready", "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    })
}

/// Kubernetes' times have no fraction.
fn seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The processor's name as Kubernetes gives it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn kernel_version() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| String::new(), |text| text.trim().to_owned())
}

/// The literals of this module fit their types, as its tests show; a default would be refused by the server.
fn decode<T: serde::de::DeserializeOwned + Default>(value: Value) -> T {
    serde_json::from_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Options;
    use caracal_apiserver::ApiServer;
    use caracal_datastore::ListOptions;
    use std::path::Path;

    #[tokio::test]
    async fn the_cluster_is_filled_and_a_second_time_changes_nothing() {
        let client = Client::from_service(ApiServer::in_memory().service(), "default");
        let plan = Plan::new(Path::new("/run/x"), &Options::default()).unwrap();
        for _ in 0..2 {
            ensure_settings(&client, &plan).await.unwrap();
            for node in plan.nodes() {
                ensure_node(&client, node).await.unwrap();
            }
        }
        let pool: IPPool = client.get(None, POOL_NAME).await.unwrap().unwrap();
        assert_eq!(pool.spec.cidr, "10.244.0.0/16");
        assert!(!pool.spec.nat_outgoing);
        let peer: BGPPeer = client.get(None, "tor").await.unwrap().unwrap();
        assert_eq!(peer.spec.peer_ip, "172.30.0.1");
        assert_eq!(
            client
                .list::<Node>(None, &ListOptions::default())
                .await
                .unwrap()
                .len(),
            3
        );
        let node: Node = client.get(None, "node-2").await.unwrap().unwrap();
        assert_eq!(
            node.metadata.annotations.unwrap()["projectcalico.org/IPv4Address"],
            "172.30.0.12/24"
        );
        assert_eq!(node.status.unwrap().addresses.unwrap()[0].address, "172.30.0.12");
    }

    #[tokio::test]
    async fn a_node_is_ready_when_it_is_reported_so() {
        let client = Client::from_service(ApiServer::in_memory().service(), "default");
        let plan = Plan::new(Path::new("/run/x"), &Options::default()).unwrap();
        let machine = plan.machine("node-1").unwrap();
        let ready = async || {
            let node: Node = client.get(None, "node-1").await.unwrap().unwrap();
            node.status.unwrap().conditions.unwrap()[0].status.clone()
        };
        ensure_node(&client, machine).await.unwrap();
        assert_eq!(ready().await, "False");
        report_node(&client, machine, Ok(())).await.unwrap();
        assert_eq!(ready().await, "True");
    }

    #[tokio::test]
    async fn without_a_router_there_is_no_peer() {
        let client = Client::from_service(ApiServer::in_memory().service(), "default");
        let options = Options {
            tor: Tor::None,
            ..Options::default()
        };
        let plan = Plan::new(Path::new("/run/x"), &options).unwrap();
        ensure_settings(&client, &plan).await.unwrap();
        assert!(client.get::<BGPPeer>(None, "tor").await.unwrap().is_none());
    }
}

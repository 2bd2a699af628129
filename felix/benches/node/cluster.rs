//! An API server of its own, and what is in it.

use std::ops::Range;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use caracal_api::v3;
use caracal_datastore::{Client, ConnectOptions, Object};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

const GROUPS: usize = 100;
const NAMESPACES: usize = 10;
const AT_ONCE: usize = 32;
/// A pod outside of all policies.
pub(crate) const FREE_POD: &str = "free";
pub(crate) const FREE_ADDRESS: &str = "10.64.200.1";

pub(crate) struct Cluster {
    server: Child,
    pub(crate) client: Client,
    dir: tempfile::TempDir,
}

pub(crate) fn namespace(index: usize) -> String {
    format!("ns-{}", index % NAMESPACES)
}

pub(crate) fn pod_name(index: usize) -> String {
    format!("pod-{index}")
}

pub(crate) fn address(index: usize) -> String {
    format!("10.64.{}.{}", index / 250, index % 250 + 1)
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        let program =
            std::env::var("CARACAL_APISERVER").expect("CARACAL_APISERVER names the API server's program");
        let server = Command::new(program)
            .args(["--memory", "--listen", "127.0.0.1:0", "--kubeconfig-out"])
            .arg(&kubeconfig)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("server.log")).unwrap())
            .spawn()
            .unwrap();
        let limit = Instant::now() + Duration::from_secs(30);
        let client = loop {
            let options = ConnectOptions {
                kubeconfig: Some(kubeconfig.clone()),
                ..ConnectOptions::default()
            };
            if let Ok(client) = Client::connect(&options).await
                && client.get::<Namespace>(None, "default").await.is_ok()
            {
                break client;
            }
            assert!(Instant::now() < limit, "the API server does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let cluster = Self { server, client, dir };
        let names = (0..NAMESPACES).map(|index| json!({"metadata": {"name": namespace(index)}}));
        cluster.create::<Namespace>(names.collect()).await;
        cluster
            .create::<Node>(vec![json!({"metadata": {"name": "node-1"}})])
            .await;
        cluster
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) async fn create<K: Object>(&self, values: Vec<Value>) {
        let requests = values.into_iter().map(|value| async move {
            let object: K = serde_json::from_value(value).unwrap();
            self.client.create(&object).await.unwrap();
        });
        futures::stream::iter(requests)
            .buffer_unordered(AT_ONCE)
            .collect::<()>()
            .await;
    }

    /// Pods of this node that run.
    pub(crate) async fn pods(&self, count: usize) {
        self.create::<Pod>((0..count).map(pod).collect()).await;
    }

    /// One more pod, which no policy selects.
    pub(crate) async fn free_pod(&self) {
        let value = json!({
            "metadata": {"name": FREE_POD, "namespace": "default", "annotations": annotations(FREE_ADDRESS)},
            "spec": {"nodeName": "node-1", "serviceAccountName": "default", "containers": [{"name": "c", "image": "i"}]},
        });
        self.create::<Pod>(vec![value]).await;
    }

    /// Policies of namespaces for one application each: two peers and a port.
    pub(crate) async fn policies(&self, range: Range<usize>) {
        self.create::<NetworkPolicy>(range.map(|index| policy(index, 8_000)).collect())
            .await;
    }

    /// One port more in a policy of a pod of this node, so that the number of members of sets changes too.
    pub(crate) async fn change_policy(&self, round: usize) {
        let name = "changing";
        let mut value = policy(0, 0);
        value["metadata"]["name"] = name.into();
        let ports = (0..=round).map(|round| json!({"port": 9_000 + round}));
        value["spec"]["ingress"][0]["ports"] = ports.collect();
        let object: NetworkPolicy = serde_json::from_value(value).unwrap();
        if round == 0 {
            self.client.create(&object).await.unwrap();
            return;
        }
        let change = json!({"spec": object.spec});
        self.client
            .patch_merge::<NetworkPolicy>(Some(&namespace(0)), name, &change)
            .await
            .unwrap();
    }

    /// A set of this many prefixes, or one more.
    pub(crate) async fn network_set(&self, count: usize, is_more: bool) {
        let net = |index: usize| {
            format!(
                "{}.{}.{}.0/24",
                100 + index / 65_536,
                index / 256 % 256,
                index % 256
            )
        };
        let mut nets: Vec<String> = (0..count).map(net).collect();
        if !is_more {
            let value =
                json!({"metadata": {"name": "big", "labels": {"set": "big"}}, "spec": {"nets": nets}});
            return self.create::<v3::GlobalNetworkSet>(vec![value]).await;
        }
        nets.push("9.9.9.0/24".to_owned());
        let change = json!({"spec": {"nets": nets}});
        self.client
            .patch_merge::<v3::GlobalNetworkSet>(None, "big", &change)
            .await
            .unwrap();
    }

    /// A policy whose rule names the set.
    pub(crate) async fn use_network_set(&self) {
        let value = json!({"metadata": {"name": "big"}, "spec": {"selector": "has(app)", "order": 1, "types": ["Ingress"],
            "ingress": [{"action": "Deny", "source": {"selector": "set == 'big'"}}]}});
        self.create::<v3::GlobalNetworkPolicy>(vec![value]).await;
    }

    /// Policies that all select every pod, each with a prefix of its own; one of them lets pods pass.
    pub(crate) async fn selecting(&self, range: Range<usize>) {
        let value = |index: usize| {
            let source = if index == 0 {
                json!({"selector": "has(app)"})
            } else {
                json!({"nets": [format!("198.{}.{}.0/24", index / 256, index % 256)]})
            };
            json!({"metadata": {"name": format!("all-{index}")}, "spec": {
                "selector": "has(app)", "order": 100_000 - index, "types": ["Ingress"],
                "ingress": [{"action": "Allow", "protocol": "TCP", "source": source,
                    "destination": {"ports": [5_000 + index % 50, 7_000]}}]}})
        };
        self.create::<v3::GlobalNetworkPolicy>(range.map(value).collect())
            .await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// As a CNI plugin writes the address before the kubelet does.
fn annotations(address: &str) -> Value {
    json!({"cni.projectcalico.org/podIP": format!("{address}/32"), "cni.projectcalico.org/podIPs": format!("{address}/32")})
}

fn pod(index: usize) -> Value {
    json!({
        "metadata": {"name": pod_name(index), "namespace": namespace(index),
            "labels": {"app": format!("app-{}", index % GROUPS)},
            "annotations": annotations(&address(index))},
        "spec": {"nodeName": "node-1", "serviceAccountName": "default", "containers": [{"name": "c", "image": "i"}]},
    })
}

fn policy(index: usize, port: usize) -> Value {
    json!({
        "metadata": {"name": format!("policy-{index}"), "namespace": namespace(index)},
        "spec": {
            "podSelector": {"matchLabels": {"app": format!("app-{}", index % GROUPS)}},
            "ingress": [{
                "from": [
                    {"podSelector": {"matchLabels": {"app": format!("app-{}", (index + 1) % GROUPS)}}},
                    {"ipBlock": {"cidr": format!("192.{}.{}.0/24", index / 256 % 256, index % 256)}}],
                "ports": [{"port": port + index % 20}]}]},
    })
}

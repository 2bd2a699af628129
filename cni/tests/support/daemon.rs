//! A node with a daemon, and the plugin as a runtime calls it.

use std::time::Duration;

use caracal_api::v3::{IPAMBlock, IPAMHandle};
use caracal_cni::board::Board;
use caracal_cni::service::{Options, Service};
use caracal_datastore::{ConnectOptions, ListOptions};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{Container, Node, Outcome};

pub const SOCKET: &str = "cni.sock";

pub async fn start() -> Node {
    let node = Node::start().await;
    for (name, cidr, block_size) in [("blue", "10.244.0.0/24", 26), ("blue6", "fd00:244::/112", 122)] {
        node.create(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": name},
            "spec": {"cidr": cidr, "blockSize": block_size, "ipipMode": "Never", "vxlanMode": "Never",
                "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"]},
        }))
        .await;
    }
    node
}

pub fn options(node: &Node, board: Option<Board>) -> Options {
    Options {
        socket: node.path(SOCKET),
        node: "node-1".to_owned(),
        connect: ConnectOptions {
            kubeconfig: Some(node.path("kubeconfig")),
            ..ConnectOptions::default()
        },
        board,
        aside: None,
    }
}

/// A daemon in the node's network namespace, once it answers.
pub async fn serve(node: &Node, board: Option<Board>) -> Service {
    let options = options(node, board);
    let service = node.netns.run(move || Service::start(options)).unwrap().unwrap();
    let probe = Container::new("probe");
    for _ in 0..500 {
        // A CHECK of a container that is not there changes nothing; only who answers it matters.
        let outcome = node.calico("DEL", &probe, None, &conf(node)).await;
        if by_daemon(&outcome) {
            return service;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the service never answers");
}

pub fn conf(node: &Node) -> Value {
    let mut conf = node.conf(&json!({"type": "calico-ipam"}));
    conf["daemon_socket"] = json!(node.path(SOCKET));
    conf
}

/// The plugin says on standard error why it works itself.
pub fn by_daemon(outcome: &Outcome) -> bool {
    !outcome.stderr.contains("does not take the call")
}

pub async fn call(node: &Node, command: &str, container: &Container, pod: &str, conf: &Value) -> Outcome {
    let mut env = node.env(command, container, Some(pod));
    let stored: Option<Pod> = node.client.get(Some("default"), pod).await.unwrap();
    let uid = stored.and_then(|pod| pod.metadata.uid).unwrap_or_default();
    for (key, value) in &mut env {
        if key == "CNI_ARGS" {
            value.push_str(&format!(";K8S_POD_UID={uid}"));
        }
    }
    node.run(env!("CARGO_BIN_EXE_calico"), env, conf).await
}

pub async fn allocated(node: &Node) -> usize {
    let blocks: Vec<IPAMBlock> = node.client.list(None, &ListOptions::default()).await.unwrap();
    let count = |block: &IPAMBlock| block.spec.allocations.iter().flatten().count();
    blocks.iter().map(count).sum()
}

pub async fn is_clean(node: &Node) {
    assert_eq!(node.pod_devices().await, Vec::<String>::new());
    assert_eq!(allocated(node).await, 0);
    let handles: Vec<IPAMHandle> = node.client.list(None, &ListOptions::default()).await.unwrap();
    assert_eq!(handles.len(), 0, "{handles:?}");
}

//! Leaked addresses and nodes that go, with real watches.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use caracal_api::confirmation::{ANSWER_ANNOTATION, Answer, Question};
use caracal_api::v3::{
    BlockAffinity, CalicoNodeStatus, IPAMBlock, IPAMHandle, IPPool, KubeControllersConfiguration,
};
use caracal_ipam::AutoAssign;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use crate::cluster::{Cluster, stays, until};

/// A cluster whose grace period fits into a test.
pub(crate) async fn cluster(nodes: &[&str]) -> Cluster {
    over(Cluster::new(), nodes).await
}

pub(crate) async fn over(cluster: Cluster, nodes: &[&str]) -> Cluster {
    cluster
        .make::<KubeControllersConfiguration>(json!({
            "metadata": {"name": "default"},
            "spec": {"controllers": {"node": {"leakGracePeriod": "1s"}}},
        }))
        .await;
    for node in nodes {
        cluster.node(node, json!({})).await;
    }
    cluster
        .make::<IPPool>(json!({"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/16", "blockSize": 28}}))
        .await;
    cluster
}

/// Assigns an address for a pod, as the CNI plugin does.
pub(crate) async fn assign(cluster: &Cluster, node: &str, pod: &str) -> IpAddr {
    let mut request = AutoAssign::workload(node, &format!("k8s-pod-network.{pod}"));
    request.attributes = [("pod", pod), ("namespace", "default"), ("node", node)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    cluster.ipam.auto_assign(&request).await.unwrap().v4[0].addr()
}

pub(crate) async fn pod(cluster: &Cluster, node: &str, name: &str, address: IpAddr) {
    let value = json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
    });
    cluster.make::<Pod>(value).await;
    let text = address.to_string();
    let status = json!({"status": {"phase": "Running", "podIP": text, "podIPs": [{"ip": text}]}});
    cluster
        .client
        .patch_status::<Pod>(Some("default"), name, &status)
        .await
        .unwrap();
}

async fn question(cluster: &Cluster, node: &str) -> Option<Question> {
    let node: Node = cluster.get(node).await?;
    Question::of(node.metadata.annotations.as_ref())
}

async fn answer(cluster: &Cluster, node: &str, question: &Question, held: &[IpAddr]) {
    let answer = Answer {
        id: question.id.clone(),
        held: held.to_vec(),
    };
    let text = serde_json::to_string(&answer).unwrap();
    let patch = json!({"metadata": {"annotations": {ANSWER_ANNOTATION: text}}});
    cluster
        .client
        .patch_status::<Node>(None, node, &patch)
        .await
        .unwrap();
}

async fn is_assigned(cluster: &Cluster, address: IpAddr) -> bool {
    cluster.ipam.assignment_of(address).await.unwrap().is_some()
}

#[tokio::test]
async fn a_leaked_address_is_freed_when_its_node_says_so_and_not_before() {
    let cluster = cluster(&["node-1"]).await;
    let leaked = assign(&cluster, "node-1", "gone").await;
    let kept = assign(&cluster, "node-1", "there").await;
    pod(&cluster, "node-1", "there", kept).await;
    let process = cluster.start("one");
    let first = until("the question", async || question(&cluster, "node-1").await).await;
    assert_eq!(first.addresses.keys().copied().collect::<Vec<_>>(), [leaked]);
    stays("a silent node's address", Duration::from_secs(2), async || {
        is_assigned(&cluster, leaked).await
    })
    .await;
    answer(&cluster, "node-1", &first, &[leaked]).await;
    let second = until("the next question", async || {
        question(&cluster, "node-1")
            .await
            .filter(|next| next.id != first.id)
    })
    .await;
    assert!(is_assigned(&cluster, leaked).await, "its node has it");
    answer(&cluster, "node-1", &second, &[]).await;
    until("the end of the leak", async || {
        (!is_assigned(&cluster, leaked).await).then_some(())
    })
    .await;
    until("no question left", async || {
        question(&cluster, "node-1").await.is_none().then_some(())
    })
    .await;
    assert!(is_assigned(&cluster, kept).await);
    let handles: Vec<IPAMHandle> = cluster.all().await;
    assert_eq!(handles.len(), 1, "its handle went with it");
    process.stop().await;
    assert!(cluster.ipam.check().await.unwrap().is_clean());
}

#[tokio::test]
async fn everything_of_a_node_that_is_gone_comes_back() {
    let cluster = cluster(&["node-1", "node-2"]).await;
    let other = assign(&cluster, "node-2", "other").await;
    pod(&cluster, "node-2", "other", other).await;
    for name in ["a", "b"] {
        let address = assign(&cluster, "node-1", name).await;
        pod(&cluster, "node-1", name, address).await;
    }
    let mut tunnel = AutoAssign::workload("node-1", "ipip-tunnel-addr-node-1");
    tunnel.attributes = [
        ("node".to_owned(), "node-1".to_owned()),
        ("type".to_owned(), "ipipTunnelAddress".to_owned()),
    ]
    .into();
    tunnel.use_ = caracal_api::v3::IPPoolAllowedUse::Tunnel;
    let tunnel = cluster.ipam.auto_assign(&tunnel).await.unwrap().v4[0].addr();
    cluster
        .make::<CalicoNodeStatus>(json!({
            "metadata": {"name": "q"},
            "spec": {"node": "node-1", "classes": ["Agent"], "updatePeriodSeconds": 10},
        }))
        .await;
    let status = json!({"status": {"lastUpdated": "2026-01-01T00:00:00Z"}});
    cluster
        .client
        .patch_status::<CalicoNodeStatus>(None, "q", &status)
        .await
        .unwrap();
    let process = cluster.start("one");
    until("it acts", async || {
        cluster.get::<IPPool>("p").await?.status.map(drop)
    })
    .await;
    cluster.delete::<Node>(None, "node-1").await;
    // Its pods are still in the API: whoever collects them comes later.
    stays("what pods have", Duration::from_secs(2), async || {
        is_assigned(&cluster, tunnel).await
    })
    .await;
    for name in ["a", "b"] {
        cluster.force_delete_pod(name).await;
    }
    until("everything of it", async || {
        let blocks: Vec<IPAMBlock> = cluster.all().await;
        let owners: BTreeSet<_> = blocks.iter().map(|block| block.spec.affinity.clone()).collect();
        let claims: Vec<BlockAffinity> = cluster.all().await;
        (owners == [Some("host:node-2".to_owned())].into() && claims.len() == 1).then_some(())
    })
    .await;
    assert!(!is_assigned(&cluster, tunnel).await);
    assert!(is_assigned(&cluster, other).await);
    assert_eq!(cluster.all::<IPAMHandle>().await.len(), 1);
    until("the old answer", async || {
        let question: CalicoNodeStatus = cluster.get("q").await?;
        question
            .status
            .unwrap_or_default()
            .last_updated
            .is_none()
            .then_some(())
    })
    .await;
    process.stop().await;
    assert!(cluster.ipam.check().await.unwrap().is_clean());
}

#[tokio::test]
async fn of_empty_blocks_a_node_keeps_one() {
    let cluster = cluster(&["node-1"]).await;
    let mut request = AutoAssign::workload("node-1", "net.many");
    request.v4 = 40;
    cluster.ipam.auto_assign(&request).await.unwrap();
    cluster.ipam.release_by_handle("net.many").await.unwrap();
    assert_eq!(cluster.all::<IPAMBlock>().await.len(), 3);
    let process = cluster.start("one");
    until("one block", async || {
        (cluster.all::<IPAMBlock>().await.len() == 1).then_some(())
    })
    .await;
    stays("the last block", Duration::from_secs(3), async || {
        cluster.all::<IPAMBlock>().await.len() == 1
    })
    .await;
    assert_eq!(cluster.all::<BlockAffinity>().await.len(), 1);
    process.stop().await;
}

#[tokio::test]
async fn leaders_that_are_killed_lose_nothing_and_free_nothing_twice() {
    let cluster = cluster(&["node-1", "node-2"]).await;
    let mut live = Vec::new();
    for index in 0..20 {
        assign(&cluster, "node-1", &format!("gone-{index}")).await;
        let name = format!("there-{index}");
        let address = assign(&cluster, "node-2", &name).await;
        pod(&cluster, "node-2", &name, address).await;
        live.push(address);
    }
    cluster.delete::<Node>(None, "node-1").await;
    let mut waiting = cluster.start("0");
    // Each leader is killed as soon as it has freed something; the next goes on.
    for number in 1..3 {
        let before = cluster.all::<IPAMHandle>().await.len();
        let next = cluster.start(&number.to_string());
        until("something is freed", async || {
            let now = cluster.all::<IPAMHandle>().await.len();
            (now < before || now == 20).then_some(())
        })
        .await;
        waiting.kill().await;
        waiting = next;
    }
    until("everything is freed", async || {
        let left = cluster.all::<IPAMHandle>().await.len();
        let claims = cluster.all::<BlockAffinity>().await;
        (left == 20 && claims.iter().all(|claim| claim.spec.node == "node-2")).then_some(())
    })
    .await;
    waiting.stop().await;
    for address in live {
        assert!(is_assigned(&cluster, address).await);
    }
    let report = cluster.ipam.check().await.unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
}

//! A pool and a node whose addresses run out are told in time.

use caracal_api::v3::{IPAMConfiguration, IPPool};
use caracal_datastore::ListOptions;
use caracal_ipam::AutoAssign;
use k8s_openapi::api::core::v1::{Event, Node};
use serde_json::json;

use crate::cluster::{Cluster, until};

async fn pool_says(cluster: &Cluster) -> Option<(String, String)> {
    let pool: IPPool = cluster.get("p").await?;
    let condition = pool
        .status?
        .conditions
        .into_iter()
        .find(|one| one.type_ == "AddressesRunningOut")?;
    Some((condition.status, condition.reason))
}

#[tokio::test]
async fn a_shortage_is_a_condition_and_an_event_and_ends() {
    let cluster = Cluster::new();
    cluster.node("node-1", json!({})).await;
    let kubelets = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    cluster
        .client
        .patch_status::<Node>(None, "node-1", &kubelets)
        .await
        .unwrap();
    cluster
        .make::<IPPool>(json!({"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/27", "blockSize": 28}}))
        .await;
    cluster
        .make::<IPAMConfiguration>(json!({"metadata": {"name": "default"}, "spec":
            {"strictAffinity": true, "autoAllocateBlocks": true, "maxBlocksPerHost": 1}}))
        .await;
    let process = cluster.start("one");
    let mut request = AutoAssign::workload("node-1", "net.one");
    request.v4 = 16;
    cluster.ipam.auto_assign(&request).await.unwrap();
    let node: Node = until("the node's condition", async || {
        let node: Node = cluster.get("node-1").await?;
        let conditions = node.status.as_ref()?.conditions.as_ref()?;
        conditions
            .iter()
            .any(|one| one.type_ == "AddressesRunningOut" && one.status == "True")
            .then_some(node.clone())
    })
    .await;
    assert!(
        node.status
            .unwrap()
            .conditions
            .unwrap()
            .iter()
            .any(|one| one.type_ == "Ready"),
        "the kubelet's stays"
    );
    assert_eq!(pool_says(&cluster).await, None, "half of the pool is free");
    until("the Event", async || {
        let events: Vec<Event> = cluster
            .client
            .list(Some("default"), &ListOptions::default())
            .await
            .unwrap();
        events
            .iter()
            .any(|event| {
                event.involved_object.name.as_deref() == Some("node-1")
                    && event.type_.as_deref() == Some("Warning")
            })
            .then_some(())
    })
    .await;
    cluster.node("node-2", json!({})).await;
    let mut request = AutoAssign::workload("node-2", "net.two");
    request.v4 = 16;
    cluster.ipam.auto_assign(&request).await.unwrap();
    until("the pool's condition", async || {
        (pool_says(&cluster).await? == ("True".to_owned(), "Exhausted".to_owned())).then_some(())
    })
    .await;
    cluster.ipam.release_by_handle("net.one").await.unwrap();
    cluster.ipam.release_by_handle("net.two").await.unwrap();
    until("enough again", async || {
        (pool_says(&cluster).await? == ("False".to_owned(), "Sufficient".to_owned())).then_some(())
    })
    .await;
    process.stop().await;
}

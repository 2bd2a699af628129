//! Pools over their life.

use std::time::Duration;

use caracal_api::v3::{BlockAffinity, IPAMBlock, IPPool};
use caracal_ipam::AutoAssign;
use serde_json::json;

use crate::cluster::{Cluster, stays, until};

async fn reason(cluster: &Cluster, pool: &str) -> Option<String> {
    let pool: IPPool = cluster.get(pool).await?;
    let conditions = pool.status?.conditions;
    conditions
        .iter()
        .find(|one| one.type_ == "Allocatable")
        .map(|one| one.reason.clone())
}

async fn wait_for(cluster: &Cluster, pool: &str, wanted: &str) {
    until(&format!("{pool} {wanted}"), async || {
        (reason(cluster, pool).await? == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_deleted_pool_stays_until_its_last_address_is_released() {
    let cluster = Cluster::new();
    cluster.node("node-1", json!({})).await;
    cluster.node("node-2", json!({})).await;
    cluster
        .make::<IPPool>(json!({"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/24", "blockSize": 28}}))
        .await;
    let process = cluster.start("one");
    wait_for(&cluster, "p", "OK").await;
    until("the finalizer", async || {
        cluster.get::<IPPool>("p").await?.metadata.finalizers.map(drop)
    })
    .await;
    for node in ["node-1", "node-2"] {
        let request = AutoAssign::workload(node, &format!("net.{node}"));
        cluster.ipam.auto_assign(&request).await.unwrap();
    }
    cluster.ipam.release_by_handle("net.node-2").await.unwrap();
    cluster.delete::<IPPool>(None, "p").await;
    wait_for(&cluster, "p", "Terminating").await;
    until("one block without owner", async || {
        let blocks: Vec<IPAMBlock> = cluster.all().await;
        (blocks.len() == 1 && blocks[0].spec.affinity.is_none()).then_some(())
    })
    .await;
    until("no claims", async || {
        cluster.all::<BlockAffinity>().await.is_empty().then_some(())
    })
    .await;
    stays("the pool", Duration::from_millis(300), async || {
        cluster.get::<IPPool>("p").await.is_some()
    })
    .await;
    let refused = cluster
        .ipam
        .auto_assign(&AutoAssign::workload("node-1", "net.new"))
        .await;
    assert!(refused.is_err(), "a pool that is being deleted assigns nothing");
    cluster.ipam.release_by_handle("net.node-1").await.unwrap();
    until("the end of the pool", async || {
        cluster.get::<IPPool>("p").await.is_none().then_some(())
    })
    .await;
    assert!(cluster.all::<IPAMBlock>().await.is_empty());
    process.stop().await;
}

#[tokio::test]
async fn overlapping_pools_are_told_apart_and_the_loser_takes_over_later() {
    let cluster = Cluster::new();
    let process = cluster.start("one");
    let pool = |name: &str, cidr: &str| json!({"metadata": {"name": name}, "spec": {"cidr": cidr}});
    cluster.make::<IPPool>(pool("b", "10.0.0.0/16")).await;
    wait_for(&cluster, "b", "OK").await;
    cluster.make::<IPPool>(pool("a", "10.0.1.0/24")).await;
    wait_for(&cluster, "a", "CIDROverlap").await;
    assert_eq!(reason(&cluster, "b").await.unwrap(), "OK");
    cluster
        .client
        .patch_merge::<IPPool>(None, "b", &json!({"spec": {"disabled": true}}))
        .await
        .unwrap();
    wait_for(&cluster, "b", "PoolDisabled").await;
    assert_eq!(reason(&cluster, "a").await.unwrap(), "CIDROverlap");
    cluster.delete::<IPPool>(None, "b").await;
    wait_for(&cluster, "a", "OK").await;
    assert!(cluster.get::<IPPool>("b").await.is_none());
    process.stop().await;
}

//! The next block, claimed before the one in use is full.

use caracal_api::v3::{BlockAffinity, IPAMBlock, IPAMConfigurationSpec, IPPool};
use caracal_ipam::{AutoAssign, Express, Known, Quick, Snapshot};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::cluster::Cluster;

async fn known(cluster: &Cluster) -> Known {
    let snapshot = Snapshot {
        pools: cluster.all::<IPPool>().await,
        affinities: cluster.all::<BlockAffinity>().await,
        node: cluster.client.get::<Node>(None, "node-1").await.unwrap().unwrap(),
        ..Snapshot::default()
    };
    Known::new("node-1", &snapshot)
}

async fn scene() -> (Cluster, Express) {
    let cluster = Cluster::new(&["node-1", "node-2"]).await;
    cluster
        .pool("p", json!({"cidr": "10.0.0.0/27", "blockSize": 28}))
        .await;
    let first = AutoAssign::workload("node-1", "net.0");
    cluster.ipam.auto_assign(&first).await.unwrap();
    let express = Express::new(cluster.ipam.clone());
    (cluster, express)
}

#[tokio::test]
async fn the_next_block_is_claimed_when_an_eighth_is_left_and_nobody_has_it() {
    let (cluster, express) = scene().await;
    let known = known(&cluster).await;
    for index in 1..16 {
        let request = AutoAssign::workload("node-1", &format!("net.{index}"));
        let quick = express.assign(&known, &request).await;
        assert!(matches!(quick, Quick::Assigned(_)), "{index}: {quick:?}");
        assert_eq!(
            express.runs_short(&known, &request, false),
            index >= 13,
            "{index}"
        );
    }
    let request = AutoAssign::workload("node-1", "net.16");
    let claimed = cluster.ipam.claim_ahead(&request, false).await.unwrap();
    assert!(claimed.is_some());
    assert_eq!(cluster.all::<IPAMBlock>().await.len(), 2);
    let affinities = cluster.all::<BlockAffinity>().await;
    assert!(
        affinities
            .iter()
            .all(|one| one.spec.node == "node-1" && one.spec.state.is_confirmed())
    );
    // The pool has no third.
    assert_eq!(cluster.ipam.claim_ahead(&request, false).await.unwrap(), None);
}

#[tokio::test]
async fn neither_limits_nor_blocks_of_others_are_overstepped() {
    let (cluster, _) = scene().await;
    let request = AutoAssign::workload("node-1", "net.1");
    let limited = AutoAssign {
        max_blocks_per_host: Some(1),
        ..request.clone()
    };
    assert_eq!(cluster.ipam.claim_ahead(&limited, false).await.unwrap(), None);
    cluster
        .configure(IPAMConfigurationSpec {
            strict_affinity: true,
            auto_allocate_blocks: false,
            ..IPAMConfigurationSpec::default()
        })
        .await;
    assert_eq!(cluster.ipam.claim_ahead(&request, false).await.unwrap(), None);
    cluster.configure(IPAMConfigurationSpec::default()).await;
    let other = AutoAssign::workload("node-2", "net.2");
    cluster.ipam.auto_assign(&other).await.unwrap();
    cluster.ipam.release_by_handle("net.2").await.unwrap();
    // The other node's block is empty, and stays its own.
    assert_eq!(cluster.ipam.claim_ahead(&request, false).await.unwrap(), None);
    let affinities = cluster.all::<BlockAffinity>().await;
    assert_eq!(
        affinities.iter().filter(|one| one.spec.node == "node-2").count(),
        1
    );
}

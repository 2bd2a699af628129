//! How full pools are said to be.

use caracal_ipam::{AutoAssign, Usage};
use serde_json::json;

use crate::cluster::Cluster;

fn usage(capacity: u128, in_use: u128, reserved: u128, free: u128) -> Usage {
    Usage {
        capacity,
        in_use,
        reserved,
        free,
    }
}

#[tokio::test]
async fn pools_blocks_orphans_and_borrowed_addresses_are_counted() {
    let cluster = Cluster::new(&["node-1", "node-2"]).await;
    cluster
        .pool("a", json!({"cidr": "10.0.0.0/29", "blockSize": 30}))
        .await;
    cluster.pool("b", json!({"cidr": "fd00::/64"})).await;
    for (index, (node, count)) in [("node-1", 4), ("node-2", 3), ("node-1", 1)]
        .into_iter()
        .enumerate()
    {
        let mut request = AutoAssign::workload(node, &format!("net.{index}"));
        request.v4 = count;
        request.v4_pools = vec!["a".to_owned()];
        for (key, value) in [("node", node), ("namespace", "default"), ("pod", "web")] {
            request.attributes.insert(key.to_owned(), value.to_owned());
        }
        cluster.ipam.auto_assign(&request).await.unwrap();
    }
    // Two reservations that overlap; one address of them is in use, the block of node-1 being wholly assigned.
    cluster.reserve(&["10.0.0.0", "10.0.0.0/31", "fd00::/72"]).await;
    let found = cluster.ipam.utilization().await.unwrap();
    let [a, b] = &found.pools[..] else {
        panic!("{found:?}")
    };
    assert_eq!((a.name.as_str(), a.usage), ("a", usage(8, 8, 2, 0)));
    assert_eq!(a.blocks.len(), 2);
    assert!(
        a.blocks
            .iter()
            .all(|block| block.usage.in_use == 4 && block.usage.capacity == 4)
    );
    assert_eq!(b.usage, usage(1 << 64, 0, 1 << 56, (1 << 64) - (1 << 56)));
    let [borrowed] = &found.borrowed[..] else {
        panic!("{:?}", found.borrowed)
    };
    assert_eq!(
        (borrowed.node.as_str(), borrowed.block_owner.as_str()),
        ("node-1", "node-2")
    );
    assert_eq!(
        (borrowed.kind.as_str(), borrowed.allocated_to.as_str()),
        ("pod", "default/web")
    );

    // A block outlives its pool.
    cluster
        .client
        .delete::<caracal_api::v3::IPPool>(None, "a", Default::default())
        .await
        .unwrap();
    let found = cluster.ipam.utilization().await.unwrap();
    assert_eq!((found.pools.len(), found.orphans.len()), (1, 2));
    cluster.ipam.release_by_handle("net.0").await.unwrap();
    let kept = cluster
        .ipam
        .release_host_affinities("node-2", true)
        .await
        .unwrap()
        .kept;
    assert!(kept[0].1.to_string().contains("is not empty"), "{kept:?}");
    let released = cluster
        .ipam
        .release_host_affinities("node-1", true)
        .await
        .unwrap();
    assert_eq!((released.released.len(), released.kept.len()), (1, 0));
    assert_eq!(cluster.ipam.utilization().await.unwrap().orphans.len(), 1);
}

#[tokio::test]
async fn affinities_without_labels_are_found_after_the_upgrade() {
    let cluster = Cluster::new(&["node-1"]).await;
    cluster
        .pool("a", json!({"cidr": "10.0.0.0/24", "blockSize": 28}))
        .await;
    let first = cluster
        .ipam
        .auto_assign(&AutoAssign::workload("node-1", "net.1"))
        .await
        .unwrap();
    let mut affinity = cluster.all::<caracal_api::v3::BlockAffinity>().await.remove(0);
    affinity.metadata.labels = None;
    cluster.client.update(&affinity).await.unwrap();
    assert_eq!(cluster.ipam.upgrade_host("node-2").await.unwrap(), 0);
    assert_eq!(cluster.ipam.upgrade_host("node-1").await.unwrap(), 1);
    let second = cluster
        .ipam
        .auto_assign(&AutoAssign::workload("node-1", "net.2"))
        .await
        .unwrap();
    assert_eq!(first.v4[0].trunc(), second.v4[0].trunc());
}

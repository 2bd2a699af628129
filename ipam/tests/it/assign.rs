//! Assigning and releasing against the embedded API server.

use std::net::IpAddr;

use crate::cluster::Cluster;
use caracal_api::v3::{
    AffinityState, BlockAffinity, IPAMBlock, IPAMConfigurationSpec, IPAMHandle, IPPoolAllowedUse,
};
use caracal_ipam::{AssignIp, AutoAssign, Error, Family, Release};
use serde_json::json;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn an_address_comes_from_a_block_that_the_node_claims() {
    let cluster = Cluster::new(&["node-1"]).await;
    cluster.pool("p", json!({"cidr": "10.65.0.0/16"})).await;
    let mut request = AutoAssign::workload("node-1", "k8s-pod-network.ABC");
    request.attributes.insert("pod".into(), "web".into());
    let assigned = cluster.ipam.auto_assign(&request).await.unwrap();
    let [net] = assigned.v4[..] else {
        panic!("{assigned:?}")
    };
    assert_eq!(net.prefix_len(), 26, "an address carries its block's mask");
    let block = net.trunc();
    assert_eq!(net.addr(), block.addr(), "the network address is assigned first");

    let stored: Vec<IPAMBlock> = cluster.all().await;
    let [stored] = &stored[..] else {
        panic!("{stored:?}")
    };
    assert_eq!(
        stored.metadata.name.as_deref().unwrap(),
        block.to_string().replace(['.', '/'], "-")
    );
    assert_eq!(stored.spec.affinity.as_deref(), Some("host:node-1"));
    assert!(stored.spec.affinity_claim_time.is_some());
    assert_eq!(stored.spec.allocations[0], Some(0));
    assert_eq!(
        stored.spec.attributes[0].handle_id.as_deref(),
        Some("k8s-pod-network.ABC")
    );
    assert_eq!(
        stored.spec.sequence_number_for_allocation["0"] + 1,
        stored.spec.sequence_number
    );

    let affinities: Vec<BlockAffinity> = cluster.all().await;
    let [affinity] = &affinities[..] else {
        panic!("{affinities:?}")
    };
    assert_eq!(affinity.spec.state, AffinityState::Confirmed);
    assert_eq!(
        (affinity.spec.node.as_str(), affinity.spec.type_.as_str()),
        ("node-1", "host")
    );
    let labels = affinity.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["projectcalico.org/affinity-type"], "host");
    assert_eq!(labels["projectcalico.org/ip-version"], "4");
    assert_eq!(labels["projectcalico.org/hostname-hash"].len(), 52);

    let handles: Vec<IPAMHandle> = cluster.all().await;
    assert_eq!(handles[0].metadata.name.as_deref(), Some("k8s-pod-network.abc"));
    assert_eq!(handles[0].spec.handle_id, "k8s-pod-network.ABC");
    assert_eq!(handles[0].spec.block[&block.to_string()], 1);

    assert_eq!(
        cluster.ipam.ips_by_handle("k8s-pod-network.ABC").await.unwrap(),
        [net.addr()]
    );
    let owner = cluster.ipam.assignment_of(net.addr()).await.unwrap().unwrap();
    assert_eq!(owner.attributes["pod"], "web");

    cluster
        .ipam
        .release_by_handle("k8s-pod-network.ABC")
        .await
        .unwrap();
    assert!(cluster.all::<IPAMHandle>().await.is_empty());
    assert!(cluster.ipam.assignment_of(net.addr()).await.unwrap().is_none());
    let again = cluster
        .ipam
        .release_by_handle("k8s-pod-network.ABC")
        .await
        .unwrap_err();
    assert!(again.is_not_found(), "{again}");
    // The freed address goes to the end of the queue.
    let next = cluster.ipam.auto_assign(&request).await.unwrap();
    assert_eq!(next.v4[0].trunc(), block);
    assert_ne!(next.v4[0].addr(), net.addr());
}

#[tokio::test]
async fn both_families_are_assigned_or_none() {
    let cluster = Cluster::new(&["node-1"]).await;
    cluster.pool("four", json!({"cidr": "10.65.0.0/24"})).await;
    let mut request = AutoAssign::workload("node-1", "net.1");
    request.v6 = 1;
    let error = cluster.ipam.auto_assign(&request).await.unwrap_err();
    assert!(matches!(error, Error::NoPools { family: Family::V6 }), "{error}");
    assert!(
        cluster.all::<IPAMHandle>().await.is_empty(),
        "the IPv4 address was given back"
    );
    cluster.pool("six", json!({"cidr": "fd00::/64"})).await;
    let assigned = cluster.ipam.auto_assign(&request).await.unwrap();
    assert_eq!((assigned.v4.len(), assigned.v6.len()), (1, 1));
    assert_eq!(assigned.v6[0].prefix_len(), 122);
}

#[tokio::test]
async fn a_full_pool_says_which_and_how_full() {
    let cluster = Cluster::new(&["node-1", "node-2"]).await;
    cluster
        .pool("tiny", json!({"cidr": "10.0.0.0/29", "blockSize": 30}))
        .await;
    for index in 0..8 {
        let node = if index % 2 == 0 { "node-1" } else { "node-2" };
        let handle = format!("net.{index}");
        cluster
            .ipam
            .auto_assign(&AutoAssign::workload(node, &handle))
            .await
            .unwrap();
    }
    let error = cluster
        .ipam
        .auto_assign(&AutoAssign::workload("node-1", "net.9"))
        .await
        .unwrap_err();
    assert!(error.is_exhausted());
    let text = error.to_string();
    for part in [
        "Assigned 0 out of 1 requested IPv4 addresses",
        "No IPs available in pools: [10.0.0.0/29]",
        "pool tiny (10.0.0.0/29): 8 of 8 addresses in use",
        "add an IPPool",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    // More than is left of another pool: nothing stays behind.
    cluster
        .pool("zwei", json!({"cidr": "10.0.1.0/30", "blockSize": 30}))
        .await;
    let mut request = AutoAssign::workload("node-2", "net.10");
    request.v4 = 5;
    let text = cluster.ipam.auto_assign(&request).await.unwrap_err().to_string();
    assert!(text.contains("Assigned 4 out of 5"), "{text}");
    assert!(
        cluster
            .ipam
            .ips_by_handle("net.10")
            .await
            .unwrap_err()
            .is_not_found()
    );
    request.v4 = 4;
    assert_eq!(cluster.ipam.auto_assign(&request).await.unwrap().v4.len(), 4);
}

#[tokio::test]
async fn strict_affinity_does_not_borrow_and_limits_hold() {
    let cluster = Cluster::new(&["node-1", "node-2"]).await;
    cluster
        .pool("p", json!({"cidr": "10.0.0.0/29", "blockSize": 30}))
        .await;
    let strict = IPAMConfigurationSpec {
        strict_affinity: true,
        ..IPAMConfigurationSpec::default()
    };
    cluster.configure(strict.clone()).await;
    for (node, count) in [("node-1", 4), ("node-2", 2)] {
        for index in 0..count {
            let handle = format!("{node}.{index}");
            cluster
                .ipam
                .auto_assign(&AutoAssign::workload(node, &handle))
                .await
                .unwrap();
        }
    }
    let one_more = AutoAssign::workload("node-1", "node-1.more");
    let text = cluster.ipam.auto_assign(&one_more).await.unwrap_err().to_string();
    assert!(
        text.contains("No more free affine blocks and strict affinity enabled"),
        "{text}"
    );
    assert!(text.contains("6 of 8 addresses in use"), "{text}");
    // A certain address of the other node's block is refused as well, and not when it may be borrowed.
    let blocks: Vec<IPAMBlock> = cluster.all().await;
    let other = blocks
        .iter()
        .find(|block| block.spec.affinity.as_deref() == Some("host:node-2"))
        .unwrap();
    let net: ipnet::IpNet = other.spec.cidr.parse().unwrap();
    let request = AssignIp {
        address: net.broadcast(),
        host: "node-1".into(),
        handle: Some("node-1.certain".into()),
        attributes: std::collections::BTreeMap::new(),
        use_: Some(IPPoolAllowedUse::Workload),
    };
    let error = cluster.ipam.assign_ip(&request).await.unwrap_err();
    assert!(matches!(error, Error::WrongAffinity { .. }), "{error}");
    cluster
        .configure(IPAMConfigurationSpec {
            max_blocks_per_host: 1,
            ..strict
        })
        .await;
    let error = cluster.ipam.auto_assign(&one_more).await.unwrap_err();
    assert!(matches!(error, Error::BlockLimit { limit: 1, .. }), "{error}");
    cluster.configure(IPAMConfigurationSpec::default()).await;
    assert_eq!(cluster.ipam.assign_ip(&request).await.unwrap().prefix_len(), 32);
    let borrowed = cluster.ipam.auto_assign(&one_more).await.unwrap();
    assert!(net.contains(&borrowed.v4[0].addr()));
}

#[tokio::test]
async fn certain_addresses_are_checked() {
    let cluster = Cluster::new(&["node-1"]).await;
    cluster.pool("p", json!({"cidr": "10.0.0.0/24"})).await;
    cluster
        .pool(
            "lb",
            json!({"cidr": "10.1.0.0/24", "allowedUses": ["LoadBalancer"]}),
        )
        .await;
    cluster.reserve(&["10.0.0.7", "10.0.0.64/26"]).await;
    let request = |text: &str| AssignIp {
        address: address(text),
        host: "node-1".into(),
        handle: Some(format!("net.{text}")),
        attributes: std::collections::BTreeMap::new(),
        use_: Some(IPPoolAllowedUse::Workload),
    };
    // Who names a reserved address means it.
    assert_eq!(
        cluster
            .ipam
            .assign_ip(&request("10.0.0.7"))
            .await
            .unwrap()
            .to_string(),
        "10.0.0.7/32"
    );
    for (text, part) in [
        ("10.0.0.7", "already assigned in block 10.0.0.0/26"),
        (
            "10.9.0.1",
            "is not in a configured pool; the enabled ones are: lb (10.1.0.0/24), p (10.0.0.0/24)",
        ),
        (
            "10.1.0.1",
            "is in IP pool \"lb\", which is not allowed for use Workload (allowedUses: LoadBalancer)",
        ),
    ] {
        let error = cluster
            .ipam
            .assign_ip(&request(text))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    // Automatic assignment leaves reserved addresses and blocks alone.
    let mut many = AutoAssign::workload("node-1", "net.many");
    many.v4 = 256 - 64 - 1;
    let all = cluster.ipam.auto_assign(&many).await.unwrap();
    let reserved: ipnet::IpNet = "10.0.0.64/26".parse().unwrap();
    assert!(all.v4.iter().all(|net| !reserved.contains(&net.addr())));
    many.v4 = 1;
    let text = cluster.ipam.auto_assign(&many).await.unwrap_err().to_string();
    assert!(text.contains("some reserved"), "{text}");
}

#[tokio::test]
async fn a_release_names_what_it_means() {
    let cluster = Cluster::new(&["node-1"]).await;
    cluster.pool("p", json!({"cidr": "10.0.0.0/24"})).await;
    let mut request = AutoAssign::workload("node-1", "net.1");
    request.v4 = 2;
    let assigned = cluster.ipam.auto_assign(&request).await.unwrap();
    let (first, second) = (assigned.v4[0].addr(), assigned.v4[1].addr());
    let release = |address, handle: &str, sequence_number| Release {
        address,
        handle: Some(handle.to_owned()),
        sequence_number,
    };
    let wrong = cluster
        .ipam
        .release_ips(&[release(first, "net.2", None)])
        .await
        .unwrap_err();
    assert!(matches!(wrong, Error::BadHandle { .. }), "{wrong}");
    let old = cluster
        .ipam
        .release_ips(&[release(first, "net.1", Some(7))])
        .await
        .unwrap_err();
    assert!(matches!(old, Error::BadSequenceNumber { .. }), "{old}");
    let number = cluster
        .ipam
        .assignment_of(first)
        .await
        .unwrap()
        .unwrap()
        .sequence_number;
    let foreign = address("192.0.2.1");
    let done = cluster
        .ipam
        .release_ips(&[
            release(first, "net.1", Some(number)),
            release(foreign, "net.1", None),
        ])
        .await
        .unwrap();
    assert_eq!((done.released, done.not_allocated), (vec![first], vec![foreign]));
    let handles: Vec<IPAMHandle> = cluster.all().await;
    assert_eq!(handles[0].spec.block.values().copied().collect::<Vec<_>>(), [1]);
    let twice = cluster
        .ipam
        .release_ips(&[release(first, "net.1", None)])
        .await
        .unwrap();
    assert_eq!((twice.released, twice.not_allocated), (vec![], vec![first]));
    cluster
        .ipam
        .release_ips(&[release(second, "net.1", None)])
        .await
        .unwrap();
    assert!(cluster.all::<IPAMHandle>().await.is_empty());
}

#[tokio::test]
async fn a_released_address_cools_down() {
    let cluster = Cluster::new(&["node-1"]).await;
    cluster
        .pool("p", json!({"cidr": "10.0.0.0/30", "blockSize": 30}))
        .await;
    cluster
        .configure(IPAMConfigurationSpec {
            ip_cooldown_seconds: 600,
            ..IPAMConfigurationSpec::default()
        })
        .await;
    let mut request = AutoAssign::workload("node-1", "net.1");
    request.v4 = 4;
    cluster.ipam.auto_assign(&request).await.unwrap();
    cluster.ipam.release_by_handle("net.1").await.unwrap();
    request.v4 = 1;
    assert!(
        cluster
            .ipam
            .auto_assign(&request)
            .await
            .unwrap_err()
            .is_exhausted()
    );
    let owner = cluster
        .ipam
        .assignment_of(address("10.0.0.1"))
        .await
        .unwrap()
        .unwrap();
    assert!(owner.released_at.is_some() && owner.handle.is_none());
    cluster.configure(IPAMConfigurationSpec::default()).await;
    cluster.ipam.auto_assign(&request).await.unwrap();
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let cluster = Cluster::new(&["node-1"]).await;
    let error = cluster
        .ipam
        .auto_assign(&AutoAssign::workload("nowhere", "net.1"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::UnknownNode { .. }), "{error}");
    let error = cluster
        .ipam
        .auto_assign(&AutoAssign::workload("node-1", "net.1"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NoPools { family: Family::V4 }), "{error}");
    assert!(
        cluster
            .ipam
            .release_by_handle("never.was")
            .await
            .unwrap_err()
            .is_not_found()
    );
}

#[tokio::test]
async fn half_made_claims_and_half_done_deletes_are_completed() {
    let cluster = Cluster::new(&["node-1", "node-2"]).await;
    cluster.pool("p", json!({"cidr": "10.0.0.0/26"})).await;
    // A claim that stopped after its first step, and one that lost: the block is of node-1.
    cluster.pending_affinity("node-1", "10.0.0.0/26").await;
    cluster
        .ipam
        .auto_assign(&AutoAssign::workload("node-1", "net.1"))
        .await
        .unwrap();
    cluster.pending_affinity("node-2", "10.0.0.0/26").await;
    let borrowed = cluster
        .ipam
        .auto_assign(&AutoAssign::workload("node-2", "net.2"))
        .await
        .unwrap();
    assert_eq!(borrowed.v4.len(), 1);
    let affinities: Vec<BlockAffinity> = cluster.all().await;
    assert_eq!(affinities.len(), 1, "{affinities:?}");
    assert_eq!(affinities[0].spec.state, AffinityState::Confirmed);
    // A handle that was marked and not deleted is none.
    let mut handle = cluster.all::<IPAMHandle>().await.remove(0);
    handle.spec.deleted = true;
    cluster.client.update(&handle).await.unwrap();
    assert!(
        cluster
            .ipam
            .release_by_handle("net.1")
            .await
            .unwrap_err()
            .is_not_found()
    );
    assert_eq!(cluster.all::<IPAMHandle>().await.len(), 1);
}

#[tokio::test]
async fn a_damaged_block_is_passed_over_and_named() {
    let cluster = Cluster::new(&["node-1"]).await;
    cluster.pool("p", json!({"cidr": "10.0.0.0/25"})).await;
    cluster
        .ipam
        .auto_assign(&AutoAssign::workload("node-1", "net.1"))
        .await
        .unwrap();
    let mut block = cluster.all::<IPAMBlock>().await.remove(0);
    block.spec.unallocated.push(0);
    let damaged: ipnet::IpNet = block.spec.cidr.parse().unwrap();
    cluster.client.update(&block).await.unwrap();
    let mut request = AutoAssign::workload("node-1", "net.2");
    request.v4 = 64;
    let assigned = cluster.ipam.auto_assign(&request).await.unwrap();
    assert!(assigned.v4.iter().all(|net| !damaged.contains(&net.addr())));
    request.v4 = 1;
    let text = cluster.ipam.auto_assign(&request).await.unwrap_err().to_string();
    assert!(
        text.contains(&format!("block \"{damaged}\" is damaged")),
        "{text}"
    );
}

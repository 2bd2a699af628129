//! Checking and fixing against the embedded API server: whatever was damaged by hand or left by a crash is clean
//! afterwards, and what is in use stays.

use std::net::IpAddr;

use caracal_api::v3::{BlockAffinity, IPAMBlock, IPAMHandle};
use caracal_ipam::AutoAssign;
use caracal_ipam::check::{Code, Outcome};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use serde_json::json;

use crate::cluster::Cluster;

impl Cluster {
    /// A pod that took an address as the plugin does; its annotation too.
    pub(crate) async fn start_pod(&self, name: &str, node: &str) -> IpAddr {
        let mut request = AutoAssign::workload(node, &format!("net.{name}"));
        for (key, value) in [("namespace", "ns"), ("pod", name), ("node", node)] {
            request.attributes.insert(key.to_owned(), value.to_owned());
        }
        let address = self.ipam.auto_assign(&request).await.unwrap().v4[0].addr();
        self.show_pod(name, node, address).await;
        address
    }

    pub(crate) async fn show_pod(&self, name: &str, node: &str, address: IpAddr) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "annotations": {"cni.projectcalico.org/podIP": address}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        }))
        .unwrap();
        self.client.create(&pod).await.unwrap();
    }

    /// As the kubelet does once the containers are gone.
    pub(crate) async fn delete_pod(&self, name: &str) {
        let pods: kube::Api<Pod> = kube::Api::namespaced(self.client.kube().clone(), "ns");
        let at_once = kube::api::DeleteParams::default().grace_period(0);
        pods.delete(name, &at_once).await.unwrap();
    }

    async fn change_block(&self, change: impl Fn(&mut IPAMBlock)) {
        for mut block in self.all::<IPAMBlock>().await {
            change(&mut block);
            self.client.update(&block).await.unwrap();
        }
    }

    /// Fixes until nothing can be fixed; returns the outcomes that are not `Done`.
    pub(crate) async fn fix_all(&self) -> Vec<(String, Outcome)> {
        let mut left = Vec::new();
        for _ in 0..5 {
            let report = self.ipam.check().await.unwrap();
            if report.findings.iter().all(|finding| finding.fix.is_none()) {
                break;
            }
            let outcomes = self.ipam.fix(&report.findings).await.unwrap();
            left = outcomes
                .into_iter()
                .filter(|(_, outcome)| *outcome != Outcome::Done)
                .collect();
        }
        left
    }

    pub(crate) async fn assert_clean(&self, what: &str) {
        let report = self.ipam.check().await.unwrap();
        assert!(report.is_clean(), "{what}: {:#?}", report.findings);
    }
}

async fn scene() -> (Cluster, IpAddr) {
    let cluster = Cluster::new(&["node-1", "node-2"]).await;
    cluster
        .pool("p", json!({"cidr": "10.0.0.0/28", "blockSize": 30}))
        .await;
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "ns"}})).unwrap();
    cluster.client.create(&namespace).await.unwrap();
    let address = cluster.start_pod("kept", "node-1").await;
    cluster.assert_clean("a pod").await;
    (cluster, address)
}

#[tokio::test]
async fn a_leak_is_released_and_what_is_in_use_stays() {
    let (cluster, kept) = scene().await;
    let gone = cluster.start_pod("gone", "node-1").await;
    cluster.delete_pod("gone").await;
    let report = cluster.ipam.check().await.unwrap();
    let ids: Vec<String> = report.findings.iter().map(|finding| finding.id()).collect();
    assert_eq!(ids, [format!("ipam-address-leaked:{gone}")]);
    // Somebody else gets the address before the fix runs: it is left alone.
    cluster.ipam.release_by_handle("net.gone").await.unwrap();
    let outcomes = cluster.ipam.fix(&report.findings).await.unwrap();
    assert_eq!(outcomes[0].1, Outcome::Gone);
    let gone = cluster.start_pod("gone", "node-1").await;
    cluster.delete_pod("gone").await;
    assert_eq!(cluster.fix_all().await, []);
    cluster.assert_clean("after the fix").await;
    assert!(cluster.ipam.assignment_of(gone).await.unwrap().is_none());
    assert!(cluster.ipam.assignment_of(kept).await.unwrap().is_some());
    assert_eq!(cluster.all::<IPAMHandle>().await.len(), 1);
}

#[tokio::test]
async fn a_node_that_is_gone_leaves_nothing() {
    let (cluster, _) = scene().await;
    cluster.start_pod("other", "node-2").await;
    for name in ["other"] {
        cluster.delete_pod(name).await;
    }
    cluster
        .client
        .delete::<Node>(None, "node-2", Default::default())
        .await
        .unwrap();
    assert_eq!(cluster.fix_all().await, []);
    cluster.assert_clean("node gone").await;
    let left: Vec<String> = cluster
        .all::<BlockAffinity>()
        .await
        .into_iter()
        .map(|affinity| affinity.spec.node)
        .collect();
    assert_eq!(left, ["node-1"]);
}

#[tokio::test]
async fn a_block_damaged_by_hand_is_repaired_and_frees_nothing_in_use() {
    type Damage = fn(&mut IPAMBlock);
    let damages: [(&str, Damage); 6] = [
        ("a free address that is assigned", |block| {
            block.spec.unallocated.push(0)
        }),
        ("an address neither free nor assigned", |block| {
            block.spec.unallocated.pop();
        }),
        ("attributes cut", |block| block.spec.attributes.clear()),
        ("allocations cut", |block| block.spec.allocations.truncate(1)),
        ("allocations cut to nothing", |block| {
            block.spec.allocations.clear()
        }),
        ("a free list with everything twice", |block| {
            let twice = block.spec.unallocated.clone();
            block.spec.unallocated.extend(twice);
        }),
    ];
    for (what, damage) in damages {
        let (cluster, kept) = scene().await;
        cluster.change_block(damage).await;
        let report = cluster.ipam.check().await.unwrap();
        assert_eq!(report.of(Code::BlockDamaged).count(), 1, "{what}: {report:#?}");
        let left = cluster.fix_all().await;
        assert!(
            left.iter().all(|(_, outcome)| *outcome != Outcome::Done),
            "{what}: {left:?}"
        );
        cluster.assert_clean(what).await;
        // Nobody else gets the address of the pod that runs.
        let mut all = AutoAssign::workload("node-1", "net.all");
        all.v4 = 15;
        let taken = cluster.ipam.auto_assign(&all).await;
        let taken = taken
            .map(|taken| taken.all().map(|net| net.addr()).collect())
            .unwrap_or_else(|_| Vec::new());
        assert!(!taken.contains(&kept), "{what}");
    }
}

#[tokio::test]
async fn handles_affinities_and_missing_allocations_are_mended() {
    let (cluster, kept) = scene().await;
    let delete = Default::default;
    for handle in cluster.all::<IPAMHandle>().await {
        let name = handle.metadata.name.unwrap();
        cluster
            .client
            .delete::<IPAMHandle>(None, &name, delete())
            .await
            .unwrap();
    }
    for affinity in cluster.all::<BlockAffinity>().await {
        let name = affinity.metadata.name.unwrap();
        cluster
            .client
            .delete::<BlockAffinity>(None, &name, delete())
            .await
            .unwrap();
    }
    let lost: IpAddr = "10.0.0.15".parse().unwrap();
    cluster.show_pod("lost", "node-2", lost).await;
    let mut empty = IPAMHandle::new("net.empty", Default::default());
    empty.spec.handle_id = "net.empty".to_owned();
    cluster.client.create(&empty).await.unwrap();
    let report = cluster.ipam.check().await.unwrap();
    for code in [Code::HandleMissing, Code::HandleEmpty, Code::BlockWithoutAffinity] {
        assert_eq!(report.of(code).count(), 1, "{code}: {report:#?}");
    }
    assert_eq!(cluster.fix_all().await, []);
    cluster.assert_clean("mended").await;
    assert_eq!(cluster.ipam.ips_by_handle("net.kept").await.unwrap(), [kept]);
}

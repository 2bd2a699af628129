//! Moving a datastore, and versions.

use crate::cluster::Cluster;
use caracal_ipam::{AssignIp, Ipam};
use serde_json::json;

const POOL: &str = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.65.0.0/24, blockSize: 28}\n---\n\
                    apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {selector: all()}\n";

async fn filled() -> Cluster {
    let cluster = Cluster::new();
    cluster
        .send("POST", "/api/v1/nodes", &json!({"metadata": {"name": "n1"}}))
        .await;
    cluster.done("apply -f -", POOL).await;
    Ipam::new(cluster.client.clone())
        .assign_ip(&AssignIp {
            address: "10.65.0.7".parse().unwrap(),
            host: "n1".to_owned(),
            handle: Some("Net.A".to_owned()),
            attributes: [("node".to_owned(), "n1".to_owned())].into(),
            use_: None,
        })
        .await
        .unwrap();
    cluster
}

#[tokio::test]
async fn what_is_exported_fills_an_empty_datastore() {
    let old = filled().await;
    let ran = old.run("datastore migrate export").await;
    assert!(
        ran.code == 1 && ran.err.starts_with("datastore is not locked."),
        "{}",
        ran.shown()
    );
    old.done("datastore migrate lock", "").await;
    let export = old.done("datastore migrate export", "").await;
    let new = Cluster::new();
    new.send("POST", "/api/v1/nodes", &json!({"metadata": {"name": "n1"}}))
        .await;
    let out = new.done("datastore migrate import -f -", &export).await;
    assert!(
        out.contains("Imported 1 blocks, 1 affinities and 1 handles."),
        "{out}"
    );
    for line in [
        "ipam show --ip=10.65.0.7",
        "ipam show --show-blocks",
        "get ippools -o wide",
        "get gnp -o wide",
    ] {
        assert_eq!(new.done(line, "").await, old.done(line, "").await, "{line}");
    }
    let guid = "get clusterinformation default -o jsonpath='{.spec.clusterGUID} {.spec.datastoreReady}'";
    assert_eq!(new.done(guid, "").await, old.done(guid, "").await);
    new.done("datastore migrate unlock", "").await;
    // What was moved can be used: the handle releases its address, and the node has its block.
    let ipam = Ipam::new(new.client.clone());
    ipam.release_by_handle("Net.A").await.unwrap();
    assert_eq!(
        new.done("ipam show --ip=10.65.0.7", "").await,
        "10.65.0.7 is not assigned\n"
    );
    assert!(new.done("ipam check", "").await.contains("found 0 problems"));
    // It is not empty any more.
    let ran = new.run_with("datastore migrate import -f -", &export).await;
    assert!(
        ran.err
            .starts_with("datastore already has Calico resources: IPPool(p)"),
        "{}",
        ran.shown()
    );
}

#[tokio::test]
async fn a_bad_export_changes_nothing() {
    let cluster = Cluster::new();
    for (text, part) in [
        ("", "improperly formatted"),
        ("a: 1\n===\n{}\n", "improperly formatted"),
        ("kind: X\n===\nnull\n===\n{}\n", "unknown resource type (X)"),
        ("{\n===\nnull\n===\n{}\n", "improperly formatted"),
    ] {
        let ran = cluster.run_with("datastore migrate import -f -", text).await;
        assert!(ran.code == 1 && ran.err.contains(part), "{text}: {}", ran.shown());
    }
    assert_eq!(cluster.done("get ippools -o name", "").await, "");
}

#[tokio::test]
async fn versions_of_program_and_cluster_are_shown() {
    let cluster = Cluster::new();
    let out = cluster.done("version", "").await;
    assert!(
        out.contains("Cluster Version:   unknown\nCluster Type:      unknown\n"),
        "{out}"
    );
    cluster.done("apply -f -", POOL).await;
    let out = cluster.done("version", "").await;
    let lines: Vec<&str> = out
        .lines()
        .map(|line| line.split(':').next().unwrap_or_default())
        .collect();
    assert_eq!(
        lines,
        ["Client Version", "Git commit", "Cluster Version", "Cluster Type"]
    );
    assert!(out.contains("Cluster Type:      k8s,kdd"), "{out}");
    assert_eq!(cluster.done("version --client", "").await.lines().count(), 2);
    let ran = cluster.run("version --poll=soon").await;
    assert!(ran.err.contains("10s"), "{}", ran.shown());
}

#[tokio::test]
async fn other_nodes_are_asked_over_their_status() {
    let cluster = Cluster::new();
    let ran = cluster.run("bgp peers --node n1").await;
    assert!(
        ran.code == 1 && ran.err.contains("kind: CalicoNodeStatus"),
        "{}",
        ran.shown()
    );
    let text = "apiVersion: projectcalico.org/v3\nkind: CalicoNodeStatus\nmetadata: {name: n1}\n\
                spec: {node: n1, classes: [BGP, Routes], updatePeriodSeconds: 10}\n";
    cluster.done("apply -f -", text).await;
    let ran = cluster.run("bgp peers --node n1").await;
    assert!(
        ran.code == 4 && ran.err.contains("no answer yet from n1"),
        "{}",
        ran.shown()
    );
    cluster
        .send(
            "PATCH",
            "/apis/projectcalico.org/v3/caliconodestatuses/n1/status",
            &json!({"status": {"lastUpdated": "2026-11-25T10:00:00Z", "bgp": {
                "numberEstablishedV4": 1, "numberNotEstablishedV4": 0, "numberEstablishedV6": 0, "numberNotEstablishedV6": 0,
                "peersV4": [{"peerIP": "10.0.0.254", "type": "GlobalPeer", "state": "Established", "since": "10:00:00"}]},
                "routes": {"routesV4": [
                    {"type": "FIB", "destination": "192.0.2.0/24", "gateway": "10.0.0.254", "interface": "eth0",
                     "learnedFrom": {"sourceType": "BGPPeer", "peerIP": "10.0.0.254"}},
                    {"type": "RIB", "destination": "198.51.100.0/24", "gateway": "10.0.0.254", "interface": "eth0"}]}}}),
        )
        .await;
    let mut shown = String::new();
    for line in [
        "bgp peers --node n1",
        "bgp routes --node all 192.0.2.0/24",
        "bgp routes --node n1 -o yaml",
    ] {
        let ran = cluster.run(line).await;
        shown.push_str(&format!("$ {line}\n{}", ran.shown()));
    }
    insta::assert_snapshot!(shown);
}

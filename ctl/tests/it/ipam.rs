//! The commands about addresses.

use std::collections::BTreeMap;

use crate::cluster::Cluster;
use caracal_ipam::{AssignIp, AutoAssign, Ipam};
use serde_json::{Value, json};

/// Two nodes, a pool, a pod with its address, and one address that nobody uses.
async fn filled() -> Cluster {
    let cluster = Cluster::new();
    for name in ["n1", "n2"] {
        cluster
            .send("POST", "/api/v1/nodes", &json!({"metadata": {"name": name}}))
            .await;
    }
    cluster
        .done(
            "apply -f -",
            "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.65.0.0/24, blockSize: 28}\n---\n\
             apiVersion: projectcalico.org/v3\nkind: IPReservation\nmetadata: {name: r}\nspec: {reservedCIDRs: [10.65.0.240/28]}\n",
        )
        .await;
    let pod = json!({"metadata": {"name": "web", "namespace": "default", "annotations": {
        "cni.projectcalico.org/podIP": "10.65.0.1/32", "cni.projectcalico.org/podIPs": "10.65.0.1/32"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
    cluster
        .send("POST", "/api/v1/namespaces/default/pods", &pod)
        .await;
    let ipam = Ipam::new(cluster.client.clone());
    for (address, node, pod, handle) in [
        ("10.65.0.1", "n1", "web", "k8s-pod-network.aaa"),
        ("10.65.0.2", "n1", "gone", "k8s-pod-network.bbb"),
        ("10.65.0.3", "n2", "lent", "k8s-pod-network.ccc"),
    ] {
        let attributes = [
            ("node", node),
            ("namespace", "default"),
            ("pod", pod),
            ("timestamp", "2026-08-01 10:00:00 +0000 UTC"),
        ];
        ipam.assign_ip(&AssignIp {
            address: address.parse().unwrap(),
            host: node.to_owned(),
            handle: Some(handle.to_owned()),
            attributes: attributes
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            use_: None,
        })
        .await
        .unwrap();
    }
    cluster
}

#[tokio::test]
async fn show_prints_calicoctls_tables() {
    let cluster = filled().await;
    let mut shown = String::new();
    for line in [
        "ipam show",
        "ipam show --show-blocks",
        "ipam show --show-borrowed",
        "ipam show --show-configuration",
        "ipam show --ip=10.65.0.1",
        "ipam show --ip=10.65.0.9",
        "ipam show --ip=nonsense",
        "ipam show --show-blocks -o json",
        "ipam show --show-borrowed -o yaml",
        "ipam show --show-configuration -o yaml",
        "ipam show --ip=10.65.0.1 -o yaml",
    ] {
        let ran = cluster.run(line).await;
        shown.push_str(&format!("$ {line}\n{}", ran.shown()));
    }
    insta::assert_snapshot!(shown);
}

#[tokio::test]
async fn check_finds_and_mends() {
    let cluster = filled().await;
    let mut shown = String::new();
    for line in [
        "ipam check",
        "ipam check --show-problem-ips",
        "ipam check --show-all-ips",
        "ipam check --fix",
        "ipam check --fix",
    ] {
        let ran = cluster.run(line).await;
        shown.push_str(&format!("$ {line}\n{}", ran.shown()));
    }
    insta::assert_snapshot!(shown);
    let report: Value = serde_json::from_str(&cluster.done("ipam check --format json", "").await).unwrap();
    assert_eq!(report["findings"], json!([]));
    assert_eq!(
        report["allocations"]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["10.65.0.1"]
    );
}

#[tokio::test]
async fn reports_release_what_leaked_only_with_the_datastore_locked() {
    let cluster = filled().await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (first, second) = (path("1.json"), path("2.json"));
    cluster.done(&format!("ipam check -o {first}"), "").await;
    let ran = cluster.run(&format!("ipam release --from-report={first}")).await;
    assert_eq!(
        ran.err,
        "data store is not locked. Either lock the data store, or re-run with --force\n"
    );
    assert_eq!(
        cluster.done("datastore migrate lock", "").await,
        "Datastore locked.\n"
    );
    let ran = cluster.run(&format!("ipam release --from-report={first}")).await;
    assert!(ran.err.contains("all stale"), "{}", ran.shown());
    cluster.done(&format!("ipam check -o {second}"), "").await;
    let file: Value = serde_json::from_str(&std::fs::read_to_string(&second).unwrap()).unwrap();
    assert_eq!(file["datastoreLocked"], true);
    assert_eq!(file["allocations"]["10.65.0.2"][0]["inUse"], false);
    let out = cluster
        .done(
            &format!("ipam release --from-report={first} --from-report={second}"),
            "",
        )
        .await;
    assert_eq!(
        out,
        "Releasing 2 old IPs...\nReleased 2 IPs successfully\nDeleting 0 handles...\n\
         Released 0 handles; 0 skipped; 0 errors.\nYou may now unlock the data store.\n"
    );
    assert_eq!(
        cluster.done("datastore migrate unlock", "").await,
        "Datastore unlocked.\n"
    );
    assert_eq!(
        cluster.done("ipam show --ip=10.65.0.2", "").await,
        "10.65.0.2 is not assigned\n"
    );
    assert!(
        cluster
            .done("ipam show --ip=10.65.0.1", "")
            .await
            .contains("is in use")
    );
    // Another cluster's report.
    let text = std::fs::read_to_string(&second).unwrap();
    std::fs::write(
        &first,
        text.replace("\"clusterGUID\": \"", "\"clusterGUID\": \"x"),
    )
    .unwrap();
    let ran = cluster.run(&format!("ipam release --from-report={first}")).await;
    assert!(
        ran.err.contains("mismatched cluster GUID. Refusing to release"),
        "{}",
        ran.shown()
    );
}

#[tokio::test]
async fn one_address_is_released_by_name() {
    let cluster = filled().await;
    assert_eq!(
        cluster.done("ipam release --ip=10.65.0.2", "").await,
        "Successfully released IP address 10.65.0.2\n"
    );
    let ran = cluster.run("ipam release --ip=10.65.0.2").await;
    assert_eq!(
        (ran.err.as_str(), ran.code),
        ("IP address 10.65.0.2 is not assigned\n", 1)
    );
    assert_eq!(cluster.done("ipam release", "").await, "");
    let ran = cluster.run("ipam release --from-report=/nonexistent").await;
    assert!(
        ran.err.contains("/nonexistent") && ran.err.contains("ipam check -o"),
        "{}",
        ran.shown()
    );
}

#[tokio::test]
async fn a_pool_is_split_under_the_lock() {
    let cluster = filled().await;
    let mut shown = String::new();
    for line in [
        "ipam split 2",
        "ipam split 3 --name=p",
        "ipam split 2 --name=none",
        "ipam split 32 --name=p",
        "ipam split 2 --name=p",
        "datastore migrate lock",
        "ipam split 32 --name=p",
        "ipam split 4 --cidr=10.65.0.0/24",
        "datastore migrate unlock",
        "get ippools -o wide",
        "ipam show --ip=10.65.0.1",
    ] {
        let ran = cluster.run(line).await;
        shown.push_str(&format!("$ {line}\n{}", ran.shown()));
    }
    insta::assert_snapshot!(shown);
}

#[tokio::test]
async fn settings_are_checked_and_said() {
    let cluster = Cluster::new();
    let mut shown = String::new();
    for line in [
        "ipam configure",
        "ipam configure --strictaffinity=maybe",
        "ipam configure --max-blocks-per-host=4",
        "ipam configure --strictaffinity=true --max-blocks-per-host=4",
        "ipam configure --strictaffinity=false",
        "ipam configure --max-blocks-per-host=-1",
        "ipam configure --kubevirt-ip-persistence=Enabled --ip-cooldown-seconds=30",
        "ipam configure --kubevirt-ip-persistence=on",
        "ipam configure --ip-cooldown-seconds=9999",
        "ipam show --show-configuration",
    ] {
        let ran = cluster.run(line).await;
        shown.push_str(&format!("$ {line}\n{}", ran.shown()));
    }
    insta::assert_snapshot!(shown);
}

#[tokio::test]
async fn addresses_of_host_local_are_taken_over_as_they_are() {
    let cluster = filled().await;
    let dir = tempfile::tempdir().unwrap();
    let network = dir.path().join("k8s-pod-network");
    std::fs::create_dir(&network).unwrap();
    for (name, text) in [
        ("10.65.0.1", "aaa\r\neth0"),
        ("10.65.0.20", "ddd\neth0"),
        ("last_reserved_ip.0", "10.65.0.20"),
        ("lock", ""),
    ] {
        std::fs::write(network.join(name), text).unwrap();
    }
    let state = dir.path().display();
    let mut shown = String::new();
    for line in [
        format!("ipam migrate --node n1 --state {state} --dry-run"),
        format!("ipam migrate --node n1 --state {state}"),
        format!("ipam migrate --node n1 --state {state}"),
        "ipam show --ip=10.65.0.20".to_owned(),
        format!("ipam migrate --node other --state {state}"),
        "ipam migrate --node n1 --state /nonexistent".to_owned(),
    ] {
        let ran = cluster.run(&line).await;
        shown.push_str(&format!("$ {line}\n{}", ran.shown()));
    }
    std::fs::write(network.join("10.65.0.2"), "other").unwrap();
    std::fs::write(network.join("10.9.0.2"), "foreign").unwrap();
    std::fs::write(network.join("10.65.0.30"), "").unwrap();
    let ran = cluster
        .run(&format!("ipam migrate --node n1 --state {state}"))
        .await;
    shown.push_str(&ran.shown());
    let shown = shown.replace(&state.to_string(), "<state>");
    let time = regex::Regex::new("timestamp: [0-9].*").unwrap();
    insta::assert_snapshot!(time.replace_all(&shown, "timestamp: <time>"));
    // Our plugin releases by the handle of the container.
    Ipam::new(cluster.client.clone())
        .release_by_handle("k8s-pod-network.ddd")
        .await
        .unwrap();
    assert_eq!(
        cluster.done("ipam show --ip=10.65.0.20", "").await,
        "10.65.0.20 is not assigned\n"
    );
}

#[tokio::test]
async fn the_answer_of_check_counts_every_kind_of_problem() {
    let cluster = filled().await;
    let ipam = Ipam::new(cluster.client.clone());
    ipam.auto_assign(&AutoAssign {
        attributes: BTreeMap::new(),
        ..AutoAssign::workload("n2", "mine")
    })
    .await
    .unwrap();
    // A handle that counts nothing, a block that contradicts itself, a pod outside of all pools.
    cluster.send("POST", "/apis/projectcalico.org/v3/ipamhandles", &json!({"apiVersion": "projectcalico.org/v3",
        "kind": "IPAMHandle", "metadata": {"name": "lost"}, "spec": {"handleID": "lost", "block": {}, "deleted": false}})).await;
    let block = cluster
        .send(
            "GET",
            "/apis/projectcalico.org/v3/ipamblocks/10-65-0-0-28",
            &Value::Null,
        )
        .await;
    let mut broken = block.clone();
    broken["spec"]["unallocated"][0] = json!(1);
    cluster
        .send(
            "PUT",
            "/apis/projectcalico.org/v3/ipamblocks/10-65-0-0-28",
            &broken,
        )
        .await;
    let out = cluster.done("ipam check --show-problem-ips", "").await;
    for part in [
        "Found 1 handles with no matching IPs",
        "Found 1 invalid IPAMBlocks.",
        "ipam-block-damaged",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let fixed = cluster.done("ipam check --fix", "").await;
    assert!(
        fixed.contains("ipam-block-damaged:10-65-0-0-28") && fixed.contains("fixed"),
        "{fixed}"
    );
    let after = cluster.done("ipam check", "").await;
    assert!(after.contains("Check complete; found 0 problems."), "{after}");
}

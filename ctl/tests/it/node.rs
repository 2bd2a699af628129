//! Nodes: read from Kubernetes and written back as annotations.

use crate::cluster::Cluster;
use serde_json::{Value, json};

async fn with_node() -> Cluster {
    let cluster = Cluster::new();
    let node = json!({"metadata": {"name": "n", "labels": {"zone": "a"}, "annotations": {"other": "kept",
        "projectcalico.org/IPv4Address": "10.0.0.1/24", "projectcalico.org/IPv4VXLANTunnelAddr": "10.65.0.1"}}});
    cluster.send("POST", "/api/v1/nodes", &node).await;
    cluster
}

async fn annotations(cluster: &Cluster) -> Value {
    cluster.send("GET", "/api/v1/nodes/n", &Value::Null).await["metadata"]["annotations"].clone()
}

#[tokio::test]
async fn applying_a_node_writes_its_annotations() {
    let cluster = with_node().await;
    let node = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: 'n', labels: {rack: r1}}\nspec: {bgp: {asNumber: 64513, \
                ipv4Address: 10.0.0.7/24, routeReflectorClusterID: 244.0.0.1}}\n";
    assert_eq!(
        cluster.done("apply -f -", node).await,
        "Successfully applied 1 'Node' resource(s)\n"
    );
    assert_eq!(
        annotations(&cluster).await,
        json!({
            "other": "kept",
            "projectcalico.org/ASNumber": "64513",
            "projectcalico.org/IPv4Address": "10.0.0.7/24",
            "projectcalico.org/RouteReflectorClusterID": "244.0.0.1",
            "projectcalico.org/labels": "{\"rack\":\"r1\"}",
        })
    );
    assert!(
        cluster
            .done("get node n -o wide", "")
            .await
            .contains("64513   10.0.0.7/24")
    );
}

#[tokio::test]
async fn a_node_that_was_printed_is_applied_unchanged() {
    let cluster = with_node().await;
    let before = annotations(&cluster).await;
    let printed = cluster.done("get node n -o yaml", "").await;
    cluster.done("replace -f -", &printed).await;
    assert_eq!(annotations(&cluster).await, before);
}

#[tokio::test]
async fn a_label_of_a_node_is_ours_and_those_of_kubernetes_stay() {
    let cluster = with_node().await;
    assert_eq!(
        cluster.done("label node n rack=r1", "").await,
        "Successfully set label rack on node n\n"
    );
    assert_eq!(
        annotations(&cluster).await["projectcalico.org/labels"],
        "{\"rack\":\"r1\"}"
    );
    let ran = cluster.run("label node n zone=b --overwrite").await;
    assert!(
        ran.code == 1 && ran.err.contains("kubectl label node n"),
        "{}",
        ran.shown()
    );
    cluster
        .done(
            "patch node n -p '{\"spec\":{\"bgp\":{\"routeReflectorClusterID\":\"1.2.3.4\"}}}'",
            "",
        )
        .await;
    assert_eq!(
        annotations(&cluster).await["projectcalico.org/RouteReflectorClusterID"],
        "1.2.3.4"
    );
    assert_eq!(
        annotations(&cluster).await["projectcalico.org/IPv4Address"],
        "10.0.0.1/24"
    );
    cluster.done("label node n rack --remove", "").await;
    assert_eq!(annotations(&cluster).await.get("projectcalico.org/labels"), None);
}

#[tokio::test]
async fn what_a_node_cannot_be_is_said() {
    let cluster = with_node().await;
    let absent = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: m}\n";
    let mut shown = String::new();
    for (line, input) in [
        ("create -f -", absent),
        ("apply -f -", absent),
        (
            "apply -f -",
            "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: 'n'}\nspec: {bgp: {ipv4Adress: 10.0.0.1}}\n",
        ),
        ("delete node n", ""),
        ("get node m", ""),
    ] {
        let ran = cluster.run_with(line, input).await;
        shown.push_str(&format!("$ {line}\n{}", ran.shown()));
    }
    insta::assert_snapshot!(shown);
}

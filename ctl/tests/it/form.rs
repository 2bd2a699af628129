//! What `get` prints, in every form.

use crate::cluster::Cluster;
use serde_json::json;

const OBJECTS: &str = include_str!("objects.yaml");

async fn filled() -> Cluster {
    let cluster = Cluster::new();
    for name in ["shop", "empty"] {
        let namespace = json!({"metadata": {"name": name, "labels": {"team": name}}});
        cluster.send("POST", "/api/v1/namespaces", &namespace).await;
    }
    let node = json!({"metadata": {"name": "node-1", "labels": {"zone": "a"}, "annotations": {
        "projectcalico.org/IPv4Address": "10.0.0.1/24", "projectcalico.org/IPv6Address": "fd00::1/64",
        "projectcalico.org/ASNumber": "64513"}}});
    cluster.send("POST", "/api/v1/nodes", &node).await;
    let node = json!({"metadata": {"name": "node-2", "annotations": {"projectcalico.org/IPv4Address": "10.0.0.2/24"}}});
    cluster.send("POST", "/api/v1/nodes", &node).await;
    let pod = json!({"metadata": {"name": "web-0", "namespace": "shop", "labels": {"app": "web"}, "annotations": {
        "cni.projectcalico.org/podIP": "10.244.0.5/32", "cni.projectcalico.org/podIPs": "10.244.0.5/32"}},
        "spec": {"nodeName": "node-1", "serviceAccountName": "default", "containers": [{"name": "c", "image": "i"}]}});
    cluster.send("POST", "/api/v1/namespaces/shop/pods", &pod).await;
    cluster
        .send(
            "PATCH",
            "/api/v1/namespaces/shop/pods/web-0/status",
            &json!({"status": {"phase": "Running",
        "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}]}}),
        )
        .await;
    cluster.done("apply -f -", OBJECTS).await;
    cluster
}

/// Every kind as a table, narrow and wide.
#[tokio::test]
async fn each_kind_has_its_columns() {
    let cluster = filled().await;
    let mut shown = String::new();
    for kind in [
        "bgpconfigurations",
        "bgpfilters",
        "bgppeers",
        "caliconodestatuses",
        "clusterinformations",
        "felixconfigurations",
        "globalnetworkpolicies",
        "globalnetworksets",
        "hostendpoints",
        "ipamconfigurations",
        "ippools",
        "ipreservations",
        "kubecontrollersconfigurations",
        "networkpolicies -A",
        "networksets -n shop",
        "nodes",
        "profiles",
        "stagedglobalnetworkpolicies",
        "stagedkubernetesnetworkpolicies -n shop",
        "stagednetworkpolicies -n shop",
        "tiers",
        "workloadendpoints -n shop",
    ] {
        for form in ["", " -o wide"] {
            let line = format!("get {kind}{form}");
            let ran = cluster.run(&line).await;
            shown.push_str(&format!("$ {line}\n{}", ran.shown()));
        }
    }
    let guid = regex::Regex::new("[0-9a-f]{32}").unwrap();
    insta::assert_snapshot!(guid.replace_all(&shown, "<guid>"));
}

#[tokio::test]
async fn other_forms_print_what_they_name() {
    let cluster = filled().await;
    let mut shown = String::new();
    for line in [
        "get ippools -o name",
        "get nodes -o name",
        "get ippools -o custom-columns=NAME,CIDR",
        "get ippools -o custom-columns=COLOUR",
        "get ippools -o custom-columns",
        "get ippool v4 -o jsonpath='{.spec.cidr}'",
        "get ippools -o jsonpath='{range .items[*]}{.metadata.name}{\"\\n\"}{end}'",
        "get ippools -o go-template='{{range .}}{{range .Items}}{{.ObjectMeta.Name}} {{.Spec.CIDR}}{{\"\\n\"}}{{end}}{{end}}'",
        "get ippool v4 v6 -o go-template='{{range .}}{{.Name}}={{.Spec.NATOutgoing}};{{end}}'",
        "get nodes -o go-template='{{range (index . 0).Items}}{{.Spec.BGP.IPv4Address}} {{end}}{{config \"asnumber\"}}'",
        "get ippools -o go-template='{{.x'",
        "get ippools -o go-template",
        "get ippools -o go-template-file=/nonexistent",
        "get ippools -o jsonpath",
        "get ippools -o xml",
        "get ippool v4 v6",
        "get ippool v4 none",
        "get nonsense",
        "get",
        "get networkpolicy web -A",
        "get networkpolicies -A -n shop",
        "get ippools -n shop",
        "get pol web -n shop -o name",
    ] {
        let ran = cluster.run(line).await;
        shown.push_str(&format!("$ {line}\n{}", ran.shown()));
    }
    insta::assert_snapshot!(shown);
}

#[tokio::test]
async fn yaml_and_json_are_sorted_and_whole() {
    let cluster = filled().await;
    let mut shown = String::new();
    for line in [
        "get ippool v4 -o yaml",
        "get ippool v4 -o json",
        "get ippool v4 v6 -o yaml --export",
        "get tiers -o yaml",
        "get node node-1 -o yaml",
        "get profile kns.shop -o yaml",
        "get workloadendpoints -n shop -o yaml",
        "get networkpolicy web -n shop -o yaml",
    ] {
        let ran = cluster.run(line).await;
        shown.push_str(&format!("$ {line}\n{}", ran.shown()));
    }
    for (pattern, with) in [
        (
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "<uid>",
        ),
        ("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "<time>"),
        ("(resourceVersion\"?: )\"[0-9]+\"", "$1<version>"),
    ] {
        shown = regex::Regex::new(pattern)
            .unwrap()
            .replace_all(&shown, with)
            .into_owned();
    }
    insta::assert_snapshot!(shown);
}

#[tokio::test]
async fn every_name_of_a_kind_finds_it() {
    let cluster = filled().await;
    for (names, line_count) in [
        ("ippool ippools IPPool IPP ipps pool pools", 3),
        ("node nodes no nos", 3),
        ("tier tiers", 5),
        ("bgppeer bgpp bp bgppeers bgpps bps", 4),
        ("hostendpoint hep heps", 2),
        ("gnp gnps globalnetworkpolicy", 2),
    ] {
        for name in names.split(' ') {
            let out = cluster.done(&format!("get {name}"), "").await;
            // The heading, the rows and an empty line.
            assert_eq!(out.lines().count(), line_count + 1, "{name}: {out}");
        }
    }
}

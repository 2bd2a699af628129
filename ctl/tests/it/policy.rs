//! `trace` and `policy`: what they answer about a shop of pods, Services and policies.

use serde_json::{Value, json};

use crate::cluster::Cluster;

async fn make(cluster: &Cluster, path: &str, object: Value) {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let path = path.replace("NS", namespace);
    let made = cluster.send("POST", &path, &object).await;
    if object["status"].is_object() {
        let name = made["metadata"]["name"].as_str().unwrap();
        let status = json!({"status": object["status"]});
        cluster
            .send("PATCH", &format!("{path}/{name}/status"), &status)
            .await;
    }
}

fn pod(namespace: &str, name: &str, node: &str, ip: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"nodeName": node, "serviceAccountName": "default", "containers": [
            {"name": "c", "image": "i", "ports": [{"name": "sql", "containerPort": 5432}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}})
}

fn knp(namespace: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

async fn shop() -> Cluster {
    let cluster = Cluster::new();
    for name in ["shop", "other"] {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        make(&cluster, "/api/v1/namespaces", object).await;
    }
    for (name, ip) in [("n1", "172.16.0.1"), ("n2", "172.16.0.2")] {
        let object = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "annotations": {"projectcalico.org/IPv4Address": format!("{ip}/24")}}});
        make(&cluster, "/api/v1/nodes", object).await;
    }
    let pods = [
        ("shop", "web", "n1", "10.244.1.2"),
        ("shop", "db", "n2", "10.244.2.2"),
        ("other", "web", "n1", "10.244.1.3"),
    ];
    for (namespace, name, node, ip) in pods {
        make(
            &cluster,
            "/api/v1/namespaces/NS/pods",
            pod(namespace, name, node, ip),
        )
        .await;
    }
    let policy = knp(
        "shop",
        "db",
        json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [
        {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]}]}),
    );
    make(
        &cluster,
        "/apis/networking.k8s.io/v1/namespaces/NS/networkpolicies",
        policy,
    )
    .await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"name": "sql", "port": 15432, "protocol": "TCP"}]}});
    make(&cluster, "/api/v1/namespaces/NS/services", service).await;
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "db-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
        "endpoints": [{"addresses": ["10.244.2.2"], "conditions": {"ready": true}}],
        "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]});
    make(
        &cluster,
        "/apis/discovery.k8s.io/v1/namespaces/NS/endpointslices",
        slice,
    )
    .await;
    let yaml = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: pods}\nspec: {cidr: 10.244.0.0/16, ipipMode: Always, natOutgoing: true}\n";
    cluster.done("create -f -", yaml).await;
    cluster
}

#[tokio::test]
async fn trace_names_the_policy_the_rule_and_the_way() {
    let cluster = shop().await;
    insta::assert_snapshot!(cluster.run("trace shop/web shop/db 5432").await.shown());
}

#[tokio::test]
async fn trace_says_who_denies_and_what_would_allow() {
    let cluster = shop().await;
    let port = cluster.run("trace pod/web -n shop --to pod/db --port 80").await;
    let labels = cluster.run("trace other/web shop/db sql").await;
    insta::assert_snapshot!(format!("{}\n{}", port.shown(), labels.shown()));
}

#[tokio::test]
async fn trace_goes_through_services_and_out_of_the_cluster() {
    let cluster = shop().await;
    let service = cluster.run("trace shop/web service/shop/db 15432").await;
    let by_address = cluster.run("trace other/web 10.96.0.9 15432").await;
    let outside = cluster.run("trace shop/db 192.0.2.1 443").await;
    let node = cluster.run("trace shop/web node/n1 22").await;
    let from_outside = cluster.run("trace 192.0.2.1 shop/db 5432 -o json").await;
    assert_eq!(from_outside.code, 1);
    let data: Value = serde_json::from_str(&from_outside.out).unwrap();
    assert_eq!(data["verdict"], "denied");
    assert_eq!(data["paths"][0]["hops"][1]["rule"]["tier"], "default");
    let all = [service, by_address, outside, node].map(|ran| ran.shown());
    insta::assert_snapshot!(all.join("\n"));
}

#[tokio::test]
async fn a_question_that_cannot_be_asked_says_why() {
    let cluster = shop().await;
    let lines = [
        "trace shop/web shop/db",
        "trace shop/web shop/dbx 5432",
        "trace shp/web shop/db 5432",
        "trace shop/web shop/db http",
        "trace shop/web shop/db 70000",
        "trace shop/web shop/db 80 -p tpc",
        "trace service/shop/db shop/web 80",
        "trace shop/web service/shop/db 80",
        "trace shop/web a/b/c/d 80",
        "trace shop/web shop/db 8 -p ICMP",
    ];
    let mut text = String::new();
    for line in lines {
        let ran = cluster.run(line).await;
        assert!(ran.code > 0 && ran.out.is_empty(), "{line}: {}", ran.shown());
        text.push_str(&format!("{line}\n  {} (exit {})\n", ran.err.trim_end(), ran.code));
    }
    insta::assert_snapshot!(text);
}

const FILES: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: sql}]
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: sql}]
  - from: [{podSelector: {matchLabels: {app: nobody}}}]
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: no-metadata}
spec:
  order: 10
  selector: all()
  types: [Egress]
  egress:
  - {action: Deny, destination: {nets: [169.254.169.254/32]}}
  - {action: Allow}
  - {action: Deny, protocol: TCP, destination: {ports: [25]}}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: unused, namespace: shop}
spec: {selector: app == 'gone', ingress: [{action: Allow}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c}]}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: x, namespace: shop}
"#;

fn write(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    (dir, path.display().to_string())
}

#[tokio::test]
async fn cases_are_tried_on_files_without_a_cluster() {
    let (_first, first) = write(
        "cases.yaml",
        "pods:\n- {name: shop/db, labels: {app: db}, ports: {sql: 5432}}\n- {name: other/web, labels: {app: web}}\ncases:\n\
         - {name: web reaches db, from: shop/web, to: shop/db, port: sql, expect: allow, by: NetworkPolicy shop/db}\n\
         - {from: other/web, to: shop/db, port: 5432, expect: deny}\n\
         - {from: 192.0.2.1, to: shop/db, port: 5432, expect: deny}\n\
         - {from: shop/web, to: 169.254.169.254, port: 80, expect: deny, by: GlobalNetworkPolicy no-metadata}\n\
         - {from: shop/web, to: 192.0.2.1, port: 53, protocol: UDP, expect: allow}\n",
    );
    let cluster = Cluster::new();
    let good = cluster
        .run_with(&format!("policy test - --cases {first}"), FILES)
        .await;
    let (_dir, cases) = write(
        "cases.yaml",
        "pods: [{name: shop/db, labels: {app: db}, ports: {sql: 5432}}]\ncases:\n\
         - {name: web must not, from: shop/web, to: shop/db, port: sql, expect: deny}\n\
         - {from: 192.0.2.1, to: shop/db, port: 5432, expect: allow}\n\
         - {from: shop/web, to: shop/db, port: 5432, expect: allow, by: profile kns.shop}\n",
    );
    let bad = cluster
        .run_with(&format!("policy test - --cases {cases}"), FILES)
        .await;
    let junit = cluster
        .run_with(&format!("policy test - --cases {cases} -o junit"), FILES)
        .await;
    let shown = [good, bad, junit].map(|ran| ran.shown()).join("\n");
    let shown = shown.replace(first.trim_end_matches("/cases.yaml"), "DIR");
    insta::assert_snapshot!(shown.replace(cases.trim_end_matches("/cases.yaml"), "DIR"));
}

#[tokio::test]
async fn a_file_of_cases_that_cannot_be_understood_says_where() {
    let cluster = Cluster::new();
    let files = [
        "cases:\n- {from: a, to: b, port: 1, expext: allow}\n",
        "cases:\n- {from: a, to: b, port: 1, expect: maybe}\n",
        "case: []\n",
        "cases: {}\n",
        "cases: []\n",
        "- 1\n",
        "cases:\n- {from: nobody, to: shop/web, port: 1, expect: deny}\n",
        "pods: [{name: a/b/c}]\ncases: [{from: a, to: b, port: 1, expect: deny}]\n",
        "pods: [{name: a, ports: {dns: x}}]\ncases: [{from: a, to: b, port: 1, expect: deny}]\n",
        "cases: [\n",
    ];
    let mut text = String::new();
    for file in files {
        let (_dir, path) = write("cases.yaml", file);
        let ran = cluster
            .run_with(&format!("policy test - --cases {path}"), FILES)
            .await;
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{file}: {}", ran.shown());
        let dir = path.trim_end_matches("/cases.yaml");
        let said = ran
            .err
            .replace(dir, "DIR")
            .replace("note: these have no say about packets: 1 ConfigMap\n", "");
        text.push_str(&format!("{file}  {}\n", said.trim_end()));
    }
    let ran = cluster.run("policy test /nowhere --cases /nowhere").await;
    text.push_str(&ran.err);
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: {podSelecter: {a: b}}\n";
    let (_dir, path) = write("cases.yaml", "cases: [{from: a, to: b, port: 1, expect: deny}]\n");
    let ran = cluster
        .run_with(&format!("policy test - --cases {path}"), policy)
        .await;
    text.push_str(&ran.err);
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn the_report_finds_what_does_nothing() {
    let cluster = Cluster::new();
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: db, namespace: shop, labels: {app: db}}\nspec: {containers: [{name: c, ports: [{name: sql, containerPort: 5432}]}]}\n";
    let ran = cluster
        .run_with("policy report -f -", &format!("{FILES}{pod}"))
        .await;
    let live = shop().await.run("policy report").await;
    insta::assert_snapshot!(format!("{}\n{}", ran.shown(), live.shown()));
}

#[tokio::test]
async fn denials_are_shown_with_who_denied() {
    let records = concat!(
        r#"{"time":"2026-01-02T03:04:05.006Z","node":"n1","count":3,"action":"deny","direction":"ingress","protocol":6,"#,
        r#""source":{"address":"10.244.1.3","port":40000,"endpoint":"other/web"},"#,
        r#""destination":{"address":"10.244.2.2","port":5432,"endpoint":"shop/db"},"#,
        r#""prefix":"DPI|default","tier":"default","policies":["KubernetesNetworkPolicy shop/db"],"reason":"no rule matches"}"#,
        "\n",
        r#"{"time":"2026-01-02T03:04:06Z","direction":"egress","protocol":1,"source":{"address":"10.0.0.1"},"destination":{"address":"10.0.0.2"},"reason":"x"}"#,
        "\n",
        r#"{"time":"2026-01-02T03:04:07Z","lost":7,"reason":"too fast"}"#,
        "\nno json\n",
    );
    let cluster = Cluster::new();
    let all = cluster.run_with("policy denials -f -", records).await;
    let own = cluster
        .run_with("policy denials -f - -n shop -o json", records)
        .await;
    assert_eq!(own.out.lines().count(), 1);
    let none = cluster.run_with("policy denials -f - --since 1m", records).await;
    let away = cluster.run("policy denials --socket /nowhere/denials.sock").await;
    let shown = [all, none, away].map(|ran| ran.shown());
    insta::assert_snapshot!(shown.join("\n"));
}

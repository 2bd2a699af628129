//! What is refused, and in which words.

use crate::cluster::Cluster;

#[tokio::test]
async fn objects_that_are_read_only_or_needed_stay() {
    let cluster = Cluster::new();
    let object = |kind: &str, name: &str| {
        format!("apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\n")
    };
    let tier = "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t}\nspec: {order: 5}\n---\n\
                apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: t.p}\n\
                spec: {tier: t, selector: all()}\n";
    cluster.done("apply -f -", tier).await;
    let mut shown = String::new();
    for (line, input) in [
        ("create -f -", object("Profile", "'n'")),
        ("delete profile projectcalico-default-allow", String::new()),
        ("apply -f -", object("ClusterInformation", "default")),
        ("delete clusterinformation default", String::new()),
        ("delete tier default", String::new()),
        ("delete tier t", String::new()),
        ("delete gnp t.p", String::new()),
        ("delete tier t", String::new()),
        ("delete ippool", String::new()),
        ("delete ippool ''", String::new()),
        (
            "patch clusterinformation default -p '{\"spec\":{\"clusterType\":\"x\"}}'",
            String::new(),
        ),
    ] {
        let ran = cluster.run_with(line, &input).await;
        shown.push_str(&format!("$ {line}\n{}", ran.shown()));
    }
    insta::assert_snapshot!(shown);
}

#[tokio::test]
async fn a_file_is_judged_with_line_document_and_field() {
    let cluster = Cluster::new();
    let good = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: good\nspec:\n  cidr: 10.0.0.0/16\n";
    let mut shown = String::new();
    for (name, input) in [
        ("unknown fields and types", "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: p\nspec:\n  cider: 10.0.0.0/16\n  natOutgoing: yes please\n".to_owned()),
        ("a value", format!("{good}---\n{}", good.replace("good", "bad").replace("10.0.0.0", "10.0.0.1"))),
        ("selector", "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: p}\nspec:\n  selector: a == \n  ingress:\n  - action: Allow\n    source:\n      nets:\n      - 10.0.0.0/33\n".to_owned()),
        ("duplicate key", "apiVersion: projectcalico.org/v3\nkind: IPPool\nkind: IPPool\n".to_owned()),
        ("no name", "apiVersion: projectcalico.org/v3\nkind: IPPool\nspec: {}\n".to_owned()),
        ("foreign", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n".to_owned()),
        ("namespace", good.replace("name: good", "name: good\n  namespace: x")),
        ("no YAML", "a: [\n".to_owned()),
        ("empty", String::new()),
    ] {
        let ran = cluster.run_with("validate -f -", &input).await;
        shown.push_str(&format!("# {name}\n{}", ran.shown()));
    }
    insta::assert_snapshot!(shown);
}

#[tokio::test]
async fn a_server_that_is_away_is_said_with_a_remedy() {
    use caracal_ctl::{Access, Terminal, args::Arguments, run};
    use clap::Parser as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kubeconfig");
    std::fs::write(
        &path,
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]\n\
         contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n",
    )
    .unwrap();
    let line = [
        "caracalctl",
        "--kubeconfig",
        path.to_str().unwrap(),
        "get",
        "ippools",
    ];
    let arguments = Arguments::try_parse_from(line).unwrap();
    let failure = run(arguments, &Terminal::in_memory(""), &Access::Environment)
        .await
        .unwrap_err();
    assert!(
        failure.to_string().contains("check that the API server runs"),
        "{failure}"
    );
    assert_eq!(failure.code(), 1);
}

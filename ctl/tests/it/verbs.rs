//! The verbs that change resources.

use crate::cluster::Cluster;
use serde_json::Value;

const POOL: &str = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p, labels: {a: x}}\n\
                    spec: {cidr: 10.1.0.0/16}\n";
const POLICIES: &str = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\n\
                        spec: {order: 10, selector: app == 'web', ingress: [{action: Allow}]}\n---\n\
                        apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: base}\n\
                        spec: {order: 100, selector: all(), egress: [{action: Allow}]}\n";

async fn pool(cluster: &Cluster) -> Value {
    serde_json::from_str(&cluster.done("get ippool p -o json", "").await).unwrap()
}

#[tokio::test]
async fn each_verb_says_what_it_did() {
    let cluster = Cluster::new();
    let mut shown = String::new();
    for (line, input) in [
        ("create -f -", POOL),
        ("create -f -", POOL),
        ("create -f - --skip-exists", POOL),
        ("apply -f -", POOL),
        ("replace -f -", POOL),
        ("apply -f -", POLICIES),
        ("validate -f -", POLICIES),
        ("patch ippool p -p '{\"spec\":{\"natOutgoing\":true}}'", ""),
        ("patch ippool none -p '{}'", ""),
        ("label ippool p team=a", ""),
        ("label ippool p team=b", ""),
        ("label ippool p team=b --overwrite", ""),
        ("label ippool p team --remove", ""),
        ("label ippool p team --remove", ""),
        ("label ippool p team", ""),
        ("label ippool none team=a", ""),
        ("delete networkpolicy web -n shop", ""),
        ("delete networkpolicy web -n shop", ""),
        ("delete networkpolicy web -n shop --skip-not-exists", ""),
        ("delete -f -", POOL),
        ("replace -f -", POOL),
        ("apply -f -", ""),
        ("apply -f - --skip-empty", ""),
    ] {
        let ran = cluster.run_with(line, input).await;
        shown.push_str(&format!("$ {line}\n{}", ran.shown()));
    }
    insta::assert_snapshot!(shown);
}

#[tokio::test]
async fn apply_replaces_labels_and_keeps_identity() {
    let cluster = Cluster::new();
    cluster.done("apply -f -", POOL).await;
    let first = pool(&cluster).await;
    let changed = POOL
        .replace("{cidr: 10.1.0.0/16}", "{cidr: 10.1.0.0/16, disabled: true}")
        .replace("a: x", "b: z");
    cluster.done("apply -f -", &changed).await;
    let stored = pool(&cluster).await;
    assert_eq!(stored["spec"]["disabled"], true);
    assert_eq!(stored["metadata"]["labels"], serde_json::json!({"b": "z"}));
    assert_eq!(stored["metadata"]["uid"], first["metadata"]["uid"]);
}

#[tokio::test]
async fn what_is_printed_as_yaml_is_applied_as_it_is() {
    let cluster = Cluster::new();
    cluster.done("apply -f -", POOL).await;
    let printed = cluster.done("get ippools -o yaml", "").await;
    assert_eq!(
        cluster.done("apply -f -", &printed).await,
        "Successfully applied 1 'IPPool' resource(s)\n"
    );
    let exported = cluster.done("get ippool p -o yaml --export", "").await;
    let other = Cluster::new();
    other.done("create -f -", &exported).await;
    assert_eq!(pool(&other).await["spec"], pool(&cluster).await["spec"]);
}

#[tokio::test]
async fn a_stale_resource_version_conflicts() {
    let cluster = Cluster::new();
    cluster.done("create -f -", POOL).await;
    let stale = POOL.replace("{name: p,", "{name: p, resourceVersion: \"1\",");
    for (verb, text) in [
        (
            "replace",
            "Partial success: replaced the first 1 out of 1 'IPPool' resources:\nhit error: update conflict: IPPool(p)\n",
        ),
        (
            "apply",
            "failed to apply 'IPPool' resource: [update conflict: IPPool(p)]\n",
        ),
    ] {
        let ran = cluster.run_with(&format!("{verb} -f -"), &stale).await;
        assert_eq!(format!("{}{}", ran.out, ran.err), text);
        assert_eq!(ran.code, 1);
    }
}

#[tokio::test]
async fn patches_of_all_types_change_the_object() {
    let cluster = Cluster::new();
    cluster.done("apply -f -", POOL).await;
    for line in [
        "patch ippool p -p 'spec: {natOutgoing: true}'",
        "patch ippool p -t merge -p '{\"metadata\":{\"labels\":{\"a\":null}}}'",
        "patch ippool p -t json -p '[{\"op\":\"add\",\"path\":\"/spec/disabled\",\"value\":true}]'",
    ] {
        cluster.done(line, "").await;
    }
    let stored = pool(&cluster).await;
    assert_eq!(
        (&stored["spec"]["natOutgoing"], &stored["spec"]["disabled"]),
        (&true.into(), &true.into())
    );
    assert_eq!(stored.pointer("/metadata/labels/a"), None);
    for (line, part) in [
        ("patch ippool p -p '{\"spec\":{\"cider\":1}}'", "not recognized"),
        (
            "patch ippool p -p '{\"metadata\":{\"name\":\"q\"}}'",
            "metadata.name",
        ),
        ("patch ippool p -p '{'", "cannot be read"),
        ("patch ippool p -t json -p '{}'", "list of operations"),
    ] {
        let ran = cluster.run(line).await;
        assert!(ran.code == 1 && ran.err.contains(part), "{line}: {}", ran.shown());
    }
}

#[tokio::test]
async fn a_trial_shows_the_difference_and_changes_nothing() {
    let cluster = Cluster::new();
    cluster.done("apply -f -", POOL).await;
    let before = pool(&cluster).await;
    let changed = POOL.replace("{cidr: 10.1.0.0/16}", "{cidr: 10.1.0.0/16, disabled: true}");
    let new = POOL.replace("name: p", "name: q").replace("10.1.", "10.2.");
    let mut shown = String::new();
    for (line, input) in [
        ("apply -f - --dry-run", changed.as_str()),
        ("apply -f - --dry-run=server", new.as_str()),
        ("replace -f - --dry-run=client", new.as_str()),
        (
            "patch ippool p -p '{\"spec\":{\"natOutgoing\":true}}' --dry-run=server",
            "",
        ),
        ("label ippool p x=y --dry-run", ""),
        ("delete ippool p --dry-run", ""),
        ("delete ippool p --dry-run=server", ""),
        ("delete ippool q --dry-run", ""),
        ("apply -f - --dry-run", POOL),
    ] {
        let ran = cluster.run_with(line, input).await;
        shown.push_str(&format!("$ {line}\n{}", ran.shown()));
    }
    assert_eq!(pool(&cluster).await, before);
    insta::assert_snapshot!(shown);
}

#[tokio::test]
async fn many_documents_keep_their_order_and_each_failure_is_listed() {
    let cluster = Cluster::new();
    let mut text = String::new();
    for n in 0..40 {
        let cidr = if n % 10 == 7 {
            "nonsense".to_owned()
        } else {
            format!("10.{n}.0.0/16")
        };
        text.push_str(&format!(
            "---\napiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: p{n}}}\nspec: {{cidr: {cidr}}}\n"
        ));
    }
    let ran = cluster.run_with("apply -f -", &text).await;
    assert_eq!(
        ran.out,
        "Partial success: applied the first 36 out of 40 'IPPool' resources:\n"
    );
    assert_eq!(
        ran.err.matches("error with field spec.cidr = 'nonsense'").count(),
        4,
        "{}",
        ran.err
    );
    assert_eq!(cluster.done("get ippools -o name", "").await.lines().count(), 36);
    // The same object twice: the second one is an update of the first.
    let twice = format!("{POOL}---\n{}", POOL.replace("a: x", "a: z"));
    cluster.done("apply -f -", &twice).await;
    assert_eq!(pool(&cluster).await["metadata"]["labels"]["a"], "z");
}

#[tokio::test]
async fn directories_are_read_in_order_and_deep_only_when_asked() {
    let cluster = Cluster::new();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::fs::write(dir.path().join("b.yml"), POOL).unwrap();
    std::fs::write(dir.path().join("notes.txt"), "not read").unwrap();
    std::fs::write(
        dir.path().join("sub/a.JSON"),
        r#"{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"t"},"spec":{"order":5}}"#,
    )
    .unwrap();
    let path = dir.path().display();
    assert_eq!(
        cluster.done(&format!("apply -f {path}"), "").await,
        "Successfully applied 1 'IPPool' resource(s)\n"
    );
    assert_eq!(
        cluster.done(&format!("apply -R -f {path}"), "").await,
        "Successfully applied 2 resource(s)\n"
    );
    let empty = tempfile::tempdir().unwrap();
    let ran = cluster.run(&format!("apply -f {}", empty.path().display())).await;
    assert_eq!(
        ran.err,
        format!("no resources specified in directory {}\n", empty.path().display())
    );
}

//! What is made from the parser's definitions.

use crate::cluster::Cluster;

#[tokio::test]
async fn the_reference_is_the_one_in_docs() {
    let made = Cluster::new().done("reference", "").await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        made == stored,
        "docs/cli.md is of another version: run `make docs-cli`"
    );
}

#[tokio::test]
async fn completions_and_pages_name_the_commands() {
    let cluster = Cluster::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = cluster.done(&format!("completion {shell}"), "").await;
        assert!(
            script.contains("custom-columns") || script.contains("networkpolicy") || script.contains("ipam"),
            "{shell}"
        );
    }
    assert!(cluster.done("man", "").await.contains(".TH"));
    let dir = tempfile::tempdir().unwrap();
    cluster
        .done(&format!("man --dir {}", dir.path().display()), "")
        .await;
    let page = std::fs::read_to_string(dir.path().join("caracalctl-ipam-check.1")).unwrap();
    assert!(page.contains("\\-\\-fix"), "{page}");
}

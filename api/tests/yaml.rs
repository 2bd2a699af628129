//! YAML that is hostile, careless or at its limits.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

use caracal_api::{validate, yaml};
use serde_json::{Value, json};

fn refused(text: &str) -> String {
    match yaml::documents(text) {
        Ok(documents) => panic!("{text:.60} is read as {documents:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_key_that_comes_twice_is_refused_at_every_depth() {
    for text in [
        "a: 1\na: 1\n",
        "spec:\n  cidr: 10.0.0.0/8\n  cidr: 10.0.0.0/16\n",
        "- {a: 1, a: 2}\n",
        "{\"a\": 1, \"a\": 2}",
    ] {
        assert!(refused(text).contains("duplicate"), "{text}: {}", refused(text));
    }
}

#[test]
fn anchors_are_expanded_and_do_not_explode() {
    let text = "one: &x {a: [1, 2]}\ntwo: *x\n";
    assert_eq!(yaml::document(text).unwrap()["two"], json!({"a": [1, 2]}));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    let begin = std::time::Instant::now();
    assert!(refused(&bomb).contains("limit"), "{}", refused(&bomb));
    assert!(begin.elapsed().as_secs() < 30);
    assert!(!refused("a: &a [*a]\n").is_empty());
    assert!(!refused("a: *nowhere\n").is_empty());
}

#[test]
fn deep_nesting_is_refused_instead_of_overflowing() {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let deep = format!("{}1{}", open.repeat(50_000), close.repeat(50_000));
        assert!(!refused(&deep).is_empty());
    }
    let steps: String = (0..2_000)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    assert!(!refused(&steps).is_empty());
    let shallow = format!("{}1{}", "[".repeat(60), "]".repeat(60));
    assert!(yaml::document(&shallow).is_ok());
}

#[test]
fn many_documents_are_read_and_the_bad_one_is_counted() {
    let mut text = "a: 1\n---\n".repeat(2_000);
    assert_eq!(yaml::documents(&text).unwrap().len(), 2_000);
    text.push_str("a: [\n");
    assert!(refused(&text).starts_with("document 2001:"), "{}", refused(&text));
}

#[test]
fn texts_that_are_too_long_are_refused_before_they_are_read() {
    let long = format!("a: {}\n", "x".repeat(yaml::TEXT_LEN_MAX));
    assert!(refused(&long).contains("split it"));
}

#[test]
fn names_end_at_their_limits() {
    let findings = |kind: &str, name: &str| {
        let object = json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name},
            "spec": {"nets": []}});
        validate::object(&object).len()
    };
    assert_eq!(findings("GlobalNetworkSet", &"a".repeat(253)), 0);
    assert_eq!(findings("GlobalNetworkSet", &"a".repeat(254)), 1);
    assert_eq!(findings("Tier", &"a".repeat(63)), 0);
    assert_eq!(findings("Tier", &"a".repeat(64)), 1);
    for bad in ["", "-a", "a-", "a..b", ".a", "A", "a_b", "a/b", "\u{e4}"] {
        assert_eq!(findings("GlobalNetworkSet", bad), 1, "{bad:?}");
    }
}

#[test]
fn wrong_types_are_named_with_their_field() {
    for (text, field) in [
        ("spec: []", "spec"),
        ("spec: {order: first}", "spec.order"),
        ("spec: {ingress: {}}", "spec.ingress"),
        ("spec: {ingress: [Allow]}", "spec.ingress[0]"),
        ("spec: {selector: 7}", "spec.selector"),
        ("spec: {ingress: [{action: true}]}", "spec.ingress[0].action"),
        (
            "spec: {ingress: [{action: Allow, source: {ports: [1.5]}}]}",
            "spec.ingress[0].source.ports[0]",
        ),
    ] {
        let mut object = yaml::document(text).unwrap();
        object["kind"] = json!("NetworkPolicy");
        object["metadata"] = json!({"name": "p"});
        let findings = validate::manifest(&object);
        assert!(
            findings.iter().any(|finding| finding.field == field),
            "{text}: {findings:?}"
        );
    }
}

#[test]
fn every_cut_of_a_manifest_is_read_or_refused() {
    let text = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: 'p', labels: {a: \"b\"}}\nspec:\n  order: 1.5\n  ingress:\n  - action: Allow\n    source: {nets: [10.0.0.0/8], ports: [80, '90:91']}\n";
    for end in 0..text.len() {
        for document in yaml::documents(&text[..end]).unwrap_or_default() {
            let _: Vec<validate::FieldError> = validate::manifest(&document);
        }
    }
    let whole: Value = yaml::document(text).unwrap();
    assert!(
        validate::manifest(&whole)
            .iter()
            .all(|finding| finding.field.contains("ports")),
        "{whole}"
    );
}

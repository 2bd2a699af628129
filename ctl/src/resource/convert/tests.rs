//! Old manifests in, new ones out.

use super::*;
use clap::Parser as _;

fn converted(text: &str) -> (String, String, Option<String>) {
    let terminal = Terminal::in_memory(text);
    let line = ["caracalctl", "convert", "-f", "-"];
    let arguments = crate::args::Arguments::try_parse_from(line).unwrap();
    let crate::args::Command::Convert(arguments) = arguments.command else {
        panic!()
    };
    let failure = run(&terminal, &arguments)
        .err()
        .map(|failure| failure.to_string());
    let (out, err) = terminal.into_texts();
    (out, err, failure)
}

#[test]
fn manifests_of_calico_2_become_v3() {
    let (out, err, failure) = converted(
        "apiVersion: v1\nkind: ipPool\nmetadata: {cidr: 10.1.0.0/16}\nspec: {ipip: {enabled: true, mode: cross-subnet}, \
         nat-outgoing: true}\n---\napiVersion: v1\nkind: bgpPeer\nmetadata: {scope: node, node: Rack_1, peerIP: 10.0.0.1}\n\
         spec: {asNumber: '1.10'}\n---\napiVersion: v1\nkind: policy\nmetadata: {name: allow}\nspec:\n  order: 10\n  \
         selector: role == 'db'\n  doNotTrack: true\n  ingress:\n  - {action: allow, protocol: tcp, source: {tag: web, \
         net: 10.0.0.0/8, selector: a == 'b'}, destination: {ports: [80, '443:445']}}\n",
    );
    assert_eq!(failure, None, "{err}");
    insta::assert_snapshot!(out);
    insta::assert_snapshot!(err);
}

#[test]
fn stored_objects_get_their_own_names_and_labels_back() {
    let (out, _, failure) = converted(
        "apiVersion: crd.projectcalico.org/v1\nkind: GlobalNetworkPolicy\nmetadata:\n  name: default.deny\n  annotations:\n    \
         projectcalico.org/metadata: '{\"labels\":{\"team\":\"a\"},\"creationTimestamp\":null}'\nspec: {selector: all(), types: [Ingress]}\n",
    );
    assert_eq!(failure, None);
    insta::assert_snapshot!(out);
}

#[test]
fn policies_of_kubernetes_become_ours() {
    let (out, _, failure) = converted(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  \
         podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{podSelector: {}}]\n    ports: [{protocol: TCP, port: 80}]\n",
    );
    assert_eq!(failure, None);
    insta::assert_snapshot!(out);
}

#[test]
fn what_cannot_be_converted_is_named_with_its_line() {
    for (text, part) in [
        (
            "apiVersion: v2\nkind: policy\n",
            "stdin:2 (document 1): unknown resource type (policy)",
        ),
        (
            "apiVersion: v1\nkind: ipPool\nmetadata: {}\n",
            "metadata.cidr is missing",
        ),
        (
            "apiVersion: v1\nkind: policy\nmetadata: {name: a}\nspec: {ingress: [{action: maybe}]}\n",
            "none of allow",
        ),
        ("apiVersion: v1\nkind: workloadEndpoint\n", "derived from pods"),
        (
            "apiVersion: crd.projectcalico.org/v1\nkind: IPAMBlock\n",
            "no form that users write",
        ),
        (
            "apiVersion: v1\nkind: ipPool\nmetadata: {cidr: 10.0.0.1/16}\n",
            "has host bits set",
        ),
    ] {
        let (_, _, failure) = converted(text);
        let failure = failure.unwrap();
        assert!(failure.contains(part), "{text}: {failure}");
    }
}

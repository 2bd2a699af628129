//! What resources mean in BGP, case by case.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests"
)]

mod changes;
mod extensions;
mod model;
mod peers;
mod routes;
mod services;

use std::collections::BTreeMap;

use caracal_api::v3;
use caracal_api::virtual_::node::{Node, NodeBgpSpec, NodeSpec};
use caracal_bgpd_compile::{Compiled, Snapshot, compile};
use caracal_bgpd_core::Config;
use caracal_bgpd_core::config::Peer;
use serde_json::{Value, json};

/// A spec from its JSON form, as users write it.
fn spec<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn node(name: &str, ipv4: &str, ipv6: &str) -> Node {
    let mut node = Node {
        spec: NodeSpec {
            bgp: Some(NodeBgpSpec {
                ipv4_address: ipv4.to_owned(),
                ipv6_address: ipv6.to_owned(),
                ..NodeBgpSpec::default()
            }),
            ..NodeSpec::default()
        },
        ..Node::default()
    };
    node.metadata.name = Some(name.to_owned());
    node.metadata.labels = Some(BTreeMap::from([("name".to_owned(), name.to_owned())]));
    node
}

/// Three nodes in one network, the second of them with IPv6 as well.
fn snapshot() -> Snapshot {
    let nodes = [
        node("node-1", "10.0.0.10/24", "fd00::10/64"),
        node("node-2", "10.0.0.9/24", "fd00::9/64"),
        node("node-3", "10.0.0.11/24", ""),
    ];
    Snapshot {
        nodes: nodes
            .into_iter()
            .map(|node| (node.name().to_owned(), node))
            .collect(),
        ..Snapshot::default()
    }
}

fn set_bgp(snapshot: &mut Snapshot, name: &str, change: impl FnOnce(&mut NodeBgpSpec)) {
    change(snapshot.nodes.get_mut(name).unwrap().spec.bgp.as_mut().unwrap());
}

fn compiled(snapshot: &Snapshot) -> Compiled {
    let compiled = compile(snapshot, "node-1");
    if let Some(config) = &compiled.config {
        config.validate().unwrap();
    }
    compiled
}

/// The configuration of node-1, of resources without a problem.
fn config(snapshot: &Snapshot) -> Config {
    let compiled = compiled(snapshot);
    assert_eq!(compiled.problems, []);
    compiled.config.unwrap()
}

fn peer<'a>(config: &'a Config, name: &str) -> &'a Peer {
    let names: Vec<&String> = config.peers.iter().map(|peer| &peer.name).collect();
    config
        .peers
        .iter()
        .find(|peer| peer.name == name)
        .unwrap_or_else(|| panic!("no peer {name} in {names:?}"))
}

fn names(config: &Config) -> Vec<&str> {
    config.peers.iter().map(|peer| peer.name.as_str()).collect()
}

fn configure(snapshot: &mut Snapshot, name: &str, value: Value) {
    snapshot
        .configurations
        .insert(name.to_owned(), spec::<v3::BGPConfigurationSpec>(value));
}

#[test]
fn an_unknown_node_is_a_problem_and_no_configuration() {
    let compiled = compile(&snapshot(), "node-9");
    assert_eq!(compiled.config, None);
    assert_eq!(compiled.problems[0].object, "Node node-9");
}

#[test]
fn a_node_without_addresses_holds_no_sessions_and_says_why() {
    let mut snapshot = snapshot();
    set_bgp(&mut snapshot, "node-1", |bgp| *bgp = NodeBgpSpec::default());
    let compiled = compiled(&snapshot);
    assert_eq!(compiled.config.unwrap().peers, []);
    assert!(
        compiled.problems[0]
            .to_string()
            .contains("projectcalico.org/IPv4Address"),
        "{:?}",
        compiled.problems
    );
}

#[test]
fn identity_comes_from_the_node_then_the_cluster_then_the_default() {
    let mut snapshot = snapshot();
    let identity = |snapshot: &Snapshot| {
        let config = config(snapshot);
        (config.local_as, config.router_id.to_string())
    };
    assert_eq!(identity(&snapshot), (64512, "10.0.0.10".to_owned()));
    configure(&mut snapshot, "default", json!({"asNumber": 65000}));
    assert_eq!(identity(&snapshot).0, 65000);
    set_bgp(&mut snapshot, "node-1", |bgp| {
        bgp.as_number = Some(v3::AsNumber(65010))
    });
    assert_eq!(identity(&snapshot).0, 65010);
    snapshot.router_id = caracal_bgpd_compile::RouterIdRule::parse("192.0.2.7").unwrap();
    assert_eq!(identity(&snapshot).1, "192.0.2.7");
    snapshot.router_id = caracal_bgpd_compile::RouterIdRule::parse("hash").unwrap();
    assert_ne!(identity(&snapshot).1, "10.0.0.10");
    assert_eq!(caracal_bgpd_compile::RouterIdRule::parse("x"), None);
}

#[test]
fn listening_follows_port_and_bind_mode() {
    let mut snapshot = snapshot();
    let listen = |snapshot: &Snapshot| -> Vec<String> {
        let config = config(snapshot);
        config
            .listen
            .iter()
            .map(|listen| format!("{} {}", listen.address, listen.port))
            .collect()
    };
    assert_eq!(listen(&snapshot), ["0.0.0.0 179", ":: 179"]);
    configure(
        &mut snapshot,
        "default",
        json!({"listenPort": 1179, "bindMode": "NodeIP"}),
    );
    assert_eq!(listen(&snapshot), ["10.0.0.10 1179", "fd00::10 1179"]);
    configure(&mut snapshot, "node.node-1", json!({"listenPort": 2179}));
    assert_eq!(listen(&snapshot), ["10.0.0.10 2179", "fd00::10 2179"]);
    configure(&mut snapshot, "node.node-2", json!({"listenPort": 3179}));
    let config = config(&snapshot);
    assert_eq!(peer(&config, "Mesh_10_0_0_9").port, 3179);
    assert_eq!(peer(&config, "Mesh_10_0_0_11").port, 1179);
}

#[test]
fn settings_of_all_nodes_are_refused_on_one() {
    let mut snapshot = snapshot();
    configure(
        &mut snapshot,
        "node.node-1",
        json!({"asNumber": 1, "nodeToNodeMeshEnabled": false, "nodeMeshMaxRestartTime": "9s"}),
    );
    let compiled = compiled(&snapshot);
    let fields: Vec<&str> = compiled
        .problems
        .iter()
        .map(|problem| problem.field.as_str())
        .collect();
    assert_eq!(
        fields,
        [
            "spec.asNumber",
            "spec.nodeToNodeMeshEnabled",
            "spec.nodeMeshMaxRestartTime"
        ]
    );
    assert_eq!(compiled.config.unwrap().local_as, 64512);
}

#[test]
fn the_same_objects_give_the_same_configuration() {
    assert_eq!(compile(&snapshot(), "node-1"), compile(&snapshot(), "node-1"));
}

//! Mesh, explicit peers, reflectors.

use std::net::Ipv4Addr;

use caracal_api::v3;
use caracal_bgpd_core::bfd::Mode;
use caracal_bgpd_core::config::{NextHopMode, Password};
use serde_json::json;

use super::*;

fn with_peer(snapshot: &mut Snapshot, name: &str, value: Value) {
    snapshot
        .peers
        .insert(name.to_owned(), spec::<v3::BGPPeerSpec>(value));
}

fn label(snapshot: &mut Snapshot, node: &str, key: &str, value: &str) {
    let labels = snapshot
        .nodes
        .get_mut(node)
        .unwrap()
        .metadata
        .labels
        .as_mut()
        .unwrap();
    labels.insert(key.to_owned(), value.to_owned());
}

#[test]
fn the_mesh_has_every_other_node_by_family_and_one_side_dials() {
    let config = config(&snapshot());
    assert_eq!(
        names(&config),
        ["Mesh_10_0_0_11", "Mesh_10_0_0_9", "Mesh_fd00__9"]
    );
    // Texts are compared: 10.0.0.9 is above 10.0.0.10, which is below 10.0.0.11.
    assert!(peer(&config, "Mesh_10_0_0_9").passive);
    assert!(peer(&config, "Mesh_10_0_0_11").passive);
    assert!(peer(&config, "Mesh_fd00__9").passive);
    let session = peer(&config, "Mesh_10_0_0_9");
    assert_eq!(session.local_address, Some("10.0.0.10".parse().unwrap()));
    assert_eq!(
        (session.remote_as, session.multihop, session.ttl_security_hops),
        (64512, true, None)
    );
    assert_eq!(
        (session.timers.hold_seconds, session.graceful_restart_seconds),
        (240, 120)
    );
    let other = compile(&snapshot(), "node-2").config.unwrap();
    assert!(!peer(&other, "Mesh_10_0_0_10").passive);
}

#[test]
fn the_mesh_can_be_turned_off_and_spares_reflectors() {
    let mut snapshot = snapshot();
    configure(&mut snapshot, "default", json!({"nodeToNodeMeshEnabled": false}));
    assert_eq!(names(&config(&snapshot)), [""; 0]);
    configure(
        &mut snapshot,
        "default",
        json!({"nodeMeshMaxRestartTime": "300s"}),
    );
    set_bgp(&mut snapshot, "node-2", |bgp| {
        bgp.route_reflector_cluster_id = "1.0.0.1".to_owned();
    });
    let of_client = config(&snapshot);
    assert_eq!(names(&of_client), ["Mesh_10_0_0_11"]);
    assert_eq!(of_client.peers[0].graceful_restart_seconds, 300);
    assert_eq!(compile(&snapshot, "node-2").config.unwrap().peers, []);
}

#[test]
fn a_mesh_node_without_an_as_number_has_this_nodes() {
    let mut snapshot = snapshot();
    set_bgp(&mut snapshot, "node-1", |bgp| {
        bgp.as_number = Some(v3::AsNumber(65010))
    });
    set_bgp(&mut snapshot, "node-3", |bgp| {
        bgp.as_number = Some(v3::AsNumber(65011))
    });
    let config = config(&snapshot);
    assert_eq!(peer(&config, "Mesh_10_0_0_9").remote_as, 65010);
    assert_eq!(peer(&config, "Mesh_10_0_0_11").remote_as, 65011);
}

#[test]
fn peers_by_address_are_global_or_of_a_node() {
    let mut snapshot = snapshot();
    with_peer(
        &mut snapshot,
        "a",
        json!({"peerIP": "192.0.2.1", "asNumber": 65001}),
    );
    with_peer(
        &mut snapshot,
        "b",
        json!({"peerIP": "192.0.2.2:1179", "asNumber": 65001, "node": "node-1"}),
    );
    with_peer(
        &mut snapshot,
        "c",
        json!({"peerIP": "192.0.2.3", "asNumber": 65001, "node": "node-2"}),
    );
    with_peer(
        &mut snapshot,
        "d",
        json!({"peerIP": "[2001:db8::4]:1179", "asNumber": 65001, "nodeSelector": "name == 'node-1'"}),
    );
    with_peer(
        &mut snapshot,
        "e",
        json!({"peerIP": "192.0.2.1", "asNumber": 65099, "node": "node-1"}),
    );
    let config = config(&snapshot);
    let explicit: Vec<&str> = names(&config)
        .into_iter()
        .filter(|name| !name.starts_with("Mesh"))
        .collect();
    assert_eq!(
        explicit,
        [
            "Global_192_0_2_1",
            "Node_192_0_2_2_port_1179",
            "Node_2001_db8__4_port_1179"
        ]
    );
    // The global peer wins over a node's for the same address.
    assert_eq!(peer(&config, "Global_192_0_2_1").remote_as, 65001);
    assert_eq!(peer(&config, "Node_192_0_2_2_port_1179").port, 1179);
    assert!(!peer(&config, "Global_192_0_2_1").passive);
}

#[test]
fn options_of_a_peer_reach_its_session() {
    let mut snapshot = snapshot();
    with_peer(
        &mut snapshot,
        "tor",
        json!({
            "peerIP": "192.0.2.1", "asNumber": 65001, "localASNumber": 65099, "sourceAddress": "None",
            "ttlSecurity": 1, "maxRestartTime": "60s", "keepaliveTime": "10s", "numAllowedLocalASNumbers": 2,
            "keepOriginalNextHop": true, "reachableBy": "10.0.0.254",
            "password": {"secretKeyRef": {"name": "bgp", "key": "tor"}},
        }),
    );
    snapshot
        .passwords
        .insert(("bgp".to_owned(), "tor".to_owned()), Password::new("secret"));
    let compiled = compiled(&snapshot);
    assert_eq!(compiled.problems, []);
    let config = compiled.config.unwrap();
    let session = peer(&config, "Global_192_0_2_1");
    assert_eq!((session.local_as, session.local_address), (Some(65099), None));
    assert_eq!(
        (session.ttl_security_hops, session.graceful_restart_seconds),
        (Some(1), 60)
    );
    assert_eq!(
        (session.timers.keepalive_seconds, session.allow_own_as),
        (Some(10), 2)
    );
    assert_eq!(session.next_hop, NextHopMode::Keep);
    assert_eq!(session.password, Some(Password::new("secret")));
    assert_eq!(compiled.host.static_routes[0].prefix.to_string(), "192.0.2.1/32");
    assert_eq!(compiled.host.static_routes[0].gateway.to_string(), "10.0.0.254");
}

#[test]
fn the_older_next_hop_field_holds_for_other_ases_only() {
    for (number, mode, keep, expected) in [
        (65001, json!(null), true, NextHopMode::Keep),
        (64512, json!(null), true, NextHopMode::Auto),
        (64512, json!("Keep"), false, NextHopMode::Keep),
        (65001, json!("Self"), false, NextHopMode::Own),
        (65001, json!("Auto"), false, NextHopMode::Auto),
    ] {
        let mut snapshot = snapshot();
        let value = json!({"peerIP": "192.0.2.1", "asNumber": number, "nextHopMode": mode, "keepOriginalNextHop": keep});
        with_peer(&mut snapshot, "tor", value);
        let config = config(&snapshot);
        assert_eq!(
            peer(&config, "Global_192_0_2_1").next_hop,
            expected,
            "{number} {mode} {keep}"
        );
    }
}

#[test]
fn bfd_is_for_peers_that_ask_for_it_in_calicos_words() {
    for (mode, expected) in [
        (json!("BFDIfDirectlyConnected"), Some(Mode::IfDirect)),
        (json!("None"), None),
        (json!(null), None),
    ] {
        let mut snapshot = snapshot();
        let value = json!({"peerIP": "192.0.2.1", "asNumber": 65001, "failureDetectionMode": mode});
        with_peer(&mut snapshot, "tor", value);
        let config = config(&snapshot);
        let bfd = peer(&config, "Global_192_0_2_1").bfd;
        assert_eq!(bfd.map(|bfd| bfd.mode), expected, "{mode}");
    }
}

#[test]
fn a_password_that_is_not_there_keeps_the_session_down() {
    let mut snapshot = snapshot();
    let value = json!({"peerIP": "192.0.2.1", "asNumber": 1, "password": {"secretKeyRef": {"name": "bgp", "key": "tor"}}});
    with_peer(&mut snapshot, "tor", value);
    assert_eq!(
        snapshot.secret_references(),
        [("bgp".to_owned(), "tor".to_owned())]
    );
    let compiled = compiled(&snapshot);
    assert_eq!(compiled.problems[0].object, "BGPPeer tor");
    assert_eq!(compiled.problems[0].value, "bgp/tor");
    assert!(peer(&compiled.config.unwrap(), "Global_192_0_2_1").shutdown);
}

/// node-2 and node-3 reflect for node-1; every node peers with what carries the label.
fn reflectors(ids: [&str; 2]) -> Snapshot {
    let mut snapshot = snapshot();
    configure(&mut snapshot, "default", json!({"nodeToNodeMeshEnabled": false}));
    for (node, id) in ["node-2", "node-3"].into_iter().zip(ids) {
        label(&mut snapshot, node, "route-reflector", "true");
        set_bgp(&mut snapshot, node, |bgp| {
            bgp.route_reflector_cluster_id = id.to_owned()
        });
    }
    let value = json!({"nodeSelector": "all()", "peerSelector": "route-reflector == 'true'"});
    with_peer(&mut snapshot, "reflectors", value);
    snapshot
}

#[test]
fn clients_peer_with_reflectors_and_reflectors_back() {
    let snapshot = reflectors(["1.0.0.1", "1.0.0.1"]);
    let client = config(&snapshot);
    assert_eq!(
        names(&client),
        ["Node_10_0_0_11", "Node_10_0_0_9", "Node_fd00__9"]
    );
    assert!(client.peers.iter().all(|peer| peer.reflector_client.is_none()));
    let reflector = compile(&snapshot, "node-2").config.unwrap();
    assert_eq!(
        names(&reflector),
        ["Node_10_0_0_10", "Node_10_0_0_11", "Node_fd00__10"]
    );
    let id: Ipv4Addr = "1.0.0.1".parse().unwrap();
    assert_eq!(peer(&reflector, "Node_10_0_0_10").reflector_client, Some(id));
    // Reflectors of one cluster are ordinary peers of one another.
    assert_eq!(peer(&reflector, "Node_10_0_0_11").reflector_client, None);
    let other = compile(&reflectors(["1.0.0.1", "1.0.0.2"]), "node-2")
        .config
        .unwrap();
    assert_eq!(peer(&other, "Node_10_0_0_11").reflector_client, Some(id));
}

#[test]
fn manual_reverse_peering_leaves_the_other_side_alone() {
    let mut snapshot = snapshot();
    configure(&mut snapshot, "default", json!({"nodeToNodeMeshEnabled": false}));
    let value = |reverse: &str| json!({"node": "node-2", "peerSelector": "name == 'node-1'", "reversePeering": reverse});
    with_peer(&mut snapshot, "p", value("Manual"));
    assert_eq!(names(&config(&snapshot)), [""; 0]);
    with_peer(&mut snapshot, "p", value("Auto"));
    assert_eq!(names(&config(&snapshot)), ["Node_10_0_0_9", "Node_fd00__9"]);
    // A node's address as peerIP gets the session back as well.
    snapshot.peers.clear();
    with_peer(
        &mut snapshot,
        "p",
        json!({"node": "node-3", "peerIP": "10.0.0.10", "asNumber": 64512}),
    );
    assert_eq!(names(&config(&snapshot)), ["Node_10_0_0_11"]);
}

#[test]
fn a_global_peer_that_is_a_node_is_dialled_from_one_side() {
    let mut snapshot = snapshot();
    with_peer(
        &mut snapshot,
        "p",
        json!({"peerIP": "10.0.0.9", "asNumber": 64512}),
    );
    let config = config(&snapshot);
    assert!(peer(&config, "Global_10_0_0_9").passive);
    assert!(
        !names(&config).contains(&"Mesh_10_0_0_9"),
        "explicit peers win over the mesh"
    );
}

#[test]
fn what_cannot_be_used_costs_its_own_session_only() {
    for (value, field) in [
        (json!({"peerIP": "tor", "asNumber": 65001}), "spec.peerIP"),
        (json!({"peerIP": "192.0.2.1"}), "spec.asNumber"),
        (
            json!({"peerIP": "192.0.2.1", "peerSelector": "all()"}),
            "spec.peerIP",
        ),
        (json!({"peerSelector": "name ="}), "spec.peerSelector"),
        (
            json!({"peerIP": "192.0.2.1", "asNumber": 1, "nodeSelector": "("}),
            "spec.nodeSelector",
        ),
        (
            json!({"localWorkloadSelector": "all(", "asNumber": 1}),
            "spec.localWorkloadSelector",
        ),
        (
            json!({"peerIP": "192.0.2.1", "asNumber": 1, "reachableBy": "fd00::1"}),
            "spec.reachableBy",
        ),
        (
            json!({"peerIP": "192.0.2.1", "asNumber": 1, "maxRestartTime": "2h"}),
            "spec.maxRestartTime",
        ),
        (
            json!({"peerIP": "192.0.2.1", "asNumber": 1, "numAllowedLocalASNumbers": -1}),
            "spec.numAllowedLocalASNumbers",
        ),
        (
            json!({"peerIP": "192.0.2.1", "asNumber": 1, "filters": ["gone"]}),
            "spec.filters",
        ),
        (
            json!({"peerIP": "192.0.2.1", "asNumber": 23456}),
            "peers[Global_192_0_2_1].remoteAs",
        ),
    ] {
        let mut snapshot = snapshot();
        with_peer(&mut snapshot, "bad", value.clone());
        let compiled = compiled(&snapshot);
        let fields: Vec<&str> = compiled
            .problems
            .iter()
            .map(|problem| problem.field.as_str())
            .collect();
        assert_eq!(fields, [field], "{value}");
        assert!(!compiled.problems[0].remedy.is_empty());
        assert!(
            names(&compiled.config.unwrap()).contains(&"Mesh_10_0_0_9"),
            "{value}"
        );
    }
}

//! Settings beside those of Calico's BGPPeer, sessions with workloads, a speaker that is about to go.

use caracal_api::v3;
use caracal_bgpd_compile::{DRAIN, Workload};
use caracal_bgpd_core::config::{AddPath, Role};
use serde_json::json;

use super::*;

fn with_peer(snapshot: &mut Snapshot, value: Value) {
    let spec = spec::<v3::BGPPeerSpec>(value);
    snapshot.peers.insert("tor".to_owned(), spec);
}

#[test]
fn settings_reach_the_session() {
    let mut snapshot = snapshot();
    let extensions = json!({
        "holdTime": "30s", "connectRetryTime": "2s", "sendHoldTime": "60s", "passive": "true", "prefixLimit": "1000",
        "addPath": "receive", "gracefulShutdown": "false", "longLivedStaleTime": "2h", "longLivedPartial": "true",
        "role": "customer", "strictRole": "true",
    });
    with_peer(
        &mut snapshot,
        json!({"peerIP": "192.0.2.1", "asNumber": 65001, "restartMode": "LongLivedGracefulRestart", "extensions": extensions}),
    );
    let config = config(&snapshot);
    let session = peer(&config, "Global_192_0_2_1");
    assert_eq!(session.timers.hold_seconds, 30);
    assert_eq!(session.timers.connect_retry_seconds, 2);
    assert_eq!(session.timers.send_hold_seconds, Some(60));
    assert!(
        session.passive && session.strict_role && session.long_lived_partial && !session.graceful_shutdown
    );
    assert_eq!(
        (session.prefix_limit, session.add_path),
        (Some(1000), AddPath::Receive)
    );
    assert_eq!(
        (session.long_lived_seconds, session.role),
        (Some(7200), Some(Role::Customer))
    );
}

#[test]
fn without_settings_a_session_is_as_calicos() {
    let mut snapshot = snapshot();
    with_peer(&mut snapshot, json!({"peerIP": "192.0.2.1", "asNumber": 65001}));
    let plain = config(&snapshot);
    let session = peer(&plain, "Global_192_0_2_1");
    assert_eq!(
        (session.add_path, session.long_lived_seconds, session.role),
        (AddPath::Both, None, None)
    );
    assert_eq!((session.timers.hold_seconds, session.prefix_limit), (240, None));
    with_peer(
        &mut snapshot,
        json!({"peerIP": "192.0.2.1", "asNumber": 65001, "restartMode": "LongLivedGracefulRestart"}),
    );
    assert_eq!(
        peer(&config(&snapshot), "Global_192_0_2_1").long_lived_seconds,
        Some(3600)
    );
}

#[test]
fn what_cannot_be_used_is_said_and_left_out() {
    for (name, value, remedy) in [
        ("holdTime", "2s", "use 0s (off) or 3s and more"),
        ("holdTime", "soon", "use 0s to 65535s"),
        ("holdTime", "40h", "use 0s to 65535s"),
        ("prefixLimit", "-1", "use a number from 1 on"),
        ("passive", "yes", "use true or false"),
        ("addPath", "all", "use off, receive, send, both"),
        (
            "role",
            "boss",
            "use provider, route-server, route-server-client, customer, peer",
        ),
        ("strictRole", "true", "set role too"),
        ("longLivedStaleTime", "1h", "set restartMode"),
        ("holdtime", "9s", "use one of addPath, connectRetryTime"),
    ] {
        let mut snapshot = snapshot();
        let extensions = json!({ name: value });
        with_peer(
            &mut snapshot,
            json!({"peerIP": "192.0.2.1", "asNumber": 65001, "extensions": extensions}),
        );
        let compiled = compiled(&snapshot);
        let said = compiled.problems[0].to_string();
        assert!(
            said.starts_with(&format!("BGPPeer tor: spec.extensions[{name}] \"{value}\"")),
            "{said}"
        );
        assert!(said.contains(remedy), "{said}");
        let config = compiled.config.unwrap();
        assert_eq!(peer(&config, "Global_192_0_2_1").timers.hold_seconds, 240);
    }
}

#[test]
fn peers_may_come_from_a_network() {
    let mut snapshot = snapshot();
    let extensions = json!({"listenRange": "10.1.0.0/16", "listenLimit": "500"});
    with_peer(
        &mut snapshot,
        json!({"asNumber": 65001, "nodeSelector": "name == 'node-1'", "extensions": extensions}),
    );
    let config = config(&snapshot);
    let range = peer(&config, "Range_10_1_0_0_16");
    assert_eq!(range.listen_range, Some("10.1.0.0/16".parse().unwrap()));
    assert_eq!((range.listen_limit, range.remote_as), (500, 65001));
    assert!(names(&config).contains(&"Mesh_10_0_0_9"));
    let other = compile(&snapshot, "node-2").config.unwrap();
    assert!(!names(&other).contains(&"Range_10_1_0_0_16"));
}

#[test]
fn the_default_gateway_may_be_the_peer() {
    let mut snapshot = snapshot();
    with_peer(
        &mut snapshot,
        json!({"asNumber": 65001, "extensions": {"peerDefaultGateway": "ipv4"}}),
    );
    let said = compiled(&snapshot).problems[0].to_string();
    assert!(said.contains("give the node a default route"), "{said}");
    snapshot.gateways[0] = Some("10.0.0.1".parse().unwrap());
    assert_eq!(peer(&config(&snapshot), "Global_10_0_0_1").remote_as, 65001);
}

#[test]
fn workloads_of_the_node_dial_and_are_not_dialled() {
    let mut snapshot = snapshot();
    with_peer(
        &mut snapshot,
        json!({"localWorkloadSelector": "app == 'router'", "asNumber": 65010, "ttlSecurity": 1}),
    );
    assert!(snapshot.peers_with_workloads());
    let workload = |app: &str, addresses: &[&str]| Workload {
        labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    };
    snapshot
        .workloads
        .insert("a".to_owned(), workload("router", &["10.65.0.5", "fd00:65::5"]));
    snapshot
        .workloads
        .insert("b".to_owned(), workload("web", &["10.65.0.6"]));
    let config = config(&snapshot);
    let own: Vec<&str> = names(&config)
        .into_iter()
        .filter(|name| name.starts_with("Local"))
        .collect();
    assert_eq!(own, ["Local_Workload_10_65_0_5", "Local_Workload_fd00_65__5"]);
    let session = peer(&config, own[0]);
    assert!(session.passive);
    assert_eq!(
        (
            session.local_address,
            session.ttl_security_hops,
            session.remote_as
        ),
        (None, None, 65010)
    );
}

#[test]
fn an_annotation_says_that_the_speaker_is_about_to_go() {
    let mut snapshot = snapshot();
    assert!(!config(&snapshot).drain);
    for (value, drain, problems) in [("true", true, 0), ("false", false, 0), ("soon", false, 1)] {
        let node = snapshot.nodes.get_mut("node-1").unwrap();
        node.metadata.annotations = Some(BTreeMap::from([(DRAIN.to_owned(), value.to_owned())]));
        let compiled = compiled(&snapshot);
        assert_eq!(compiled.problems.len(), problems, "{:?}", compiled.problems);
        assert_eq!(compiled.config.unwrap().drain, drain);
    }
}

//! What changes of objects do to sessions that are up: nothing, unless they are about the session.

use std::time::{Duration, Instant};

use caracal_api::v3;
use caracal_bgpd_compile::{Endpoint, Service};
use caracal_bgpd_core::input::ConnId;
use caracal_bgpd_core::snapshot::SessionState;
use caracal_bgpd_core::wire::capability::Capabilities;
use caracal_bgpd_core::wire::encode;
use caracal_bgpd_core::wire::open::Open;
use caracal_bgpd_core::{Family, Input, Output, Speaker};
use serde_json::json;

use super::*;

fn label(snapshot: &mut Snapshot, node: &str, value: Option<&str>) {
    let labels = snapshot
        .nodes
        .get_mut(node)
        .unwrap()
        .metadata
        .labels
        .as_mut()
        .unwrap();
    match value {
        Some(value) => labels.insert("route-reflector".to_owned(), value.to_owned()),
        None => labels.remove("route-reflector"),
    };
}

/// A speaker with all its sessions up, which counts what it closes and dials.
struct Running {
    speaker: Speaker,
    now: Instant,
    touched: usize,
    next: u64,
}

impl Running {
    fn new(config: &Config) -> Self {
        let now = Instant::now();
        let mut running = Self {
            speaker: Speaker::new(1, false, now),
            now,
            touched: 0,
            next: 1,
        };
        running.configure(config);
        for peer in &config.peers {
            running.bring_up(peer);
        }
        running.touched = 0;
        assert_eq!(running.up(), config.peers.len());
        running
    }

    fn input(&mut self, input: Input) {
        self.speaker.handle_input(self.now, input);
        while let Some(output) = self.speaker.poll_output() {
            self.touched += usize::from(matches!(output, Output::Close { .. } | Output::Connect { .. }));
        }
    }

    fn configure(&mut self, config: &Config) {
        self.input(Input::Config(Box::new(config.clone())));
    }

    fn bring_up(&mut self, peer: &Peer) {
        let conn = ConnId::Inbound(self.next);
        self.next += 1;
        let local = peer.local_address.unwrap();
        self.input(Input::Connected {
            conn,
            peer: peer.address,
            local,
        });
        let mut open = Vec::new();
        Open {
            as_number: peer.remote_as,
            hold_seconds: 0,
            router_id: std::net::Ipv4Addr::new(9, 9, 9, u8::try_from(self.next).unwrap()),
            capabilities: Capabilities {
                families: Family::ALL.to_vec(),
                as4: Some(peer.remote_as),
                ..Capabilities::default()
            },
        }
        .encode(&mut open);
        let mut keepalive = Vec::new();
        encode::keepalive(&mut keepalive);
        for bytes in [open, keepalive] {
            self.input(Input::Message {
                conn,
                bytes: bytes.into(),
            });
        }
    }

    fn up(&self) -> usize {
        let peers = self.speaker.status(self.now).peers;
        peers
            .iter()
            .filter(|peer| peer.state == SessionState::Established)
            .count()
    }
}

/// A snapshot in which everything that does not concern sessions can change: services, filters, pools, blocks.
fn base() -> Snapshot {
    let mut snapshot = snapshot();
    configure(
        &mut snapshot,
        "default",
        json!({"serviceClusterIPs": [{"cidr": "10.96.0.0/12"}], "serviceLoadBalancerIPs": [{"cidr": "192.0.2.0/24"}]}),
    );
    let peer = json!({"peerIP": "10.0.0.1", "asNumber": 65001, "filters": ["tor"]});
    snapshot
        .peers
        .insert("tor".to_owned(), spec::<v3::BGPPeerSpec>(peer));
    filter(&mut snapshot, 0);
    snapshot
}

fn filter(snapshot: &mut Snapshot, number: usize) {
    let cidr = format!("10.{}.0.0/16", number % 200);
    let rule = json!({"action": "Reject", "matchOperator": "In", "cidr": cidr});
    let value = json!({"importV4": [rule], "exportV4": [rule]});
    snapshot
        .filters
        .insert("tor".to_owned(), spec::<v3::BGPFilterSpec>(value));
}

fn service(snapshot: &mut Snapshot, number: usize) {
    let name = format!("default/web-{}", number % 100);
    if snapshot.services.remove(&name).is_some() {
        return;
    }
    let address = format!("10.96.0.{}", number % 100 + 1);
    let value = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {
        "type": "LoadBalancer", "clusterIP": address, "clusterIPs": [address], "externalTrafficPolicy": "Local",
        "ports": [{"port": 80}]}});
    let mut service = Service::from_k8s(&serde_json::from_value(value).unwrap());
    service.endpoints = vec![Endpoint {
        node: Some("node-1".to_owned()),
        is_ipv4: true,
    }];
    snapshot.services.insert(name, service);
}

fn block(snapshot: &mut Snapshot, number: usize) {
    let name = format!("node-1-{}", number % 100);
    if snapshot.affinities.remove(&name).is_none() {
        let cidr = format!("10.65.{}.0/26", number % 100);
        let value = json!({"cidr": cidr, "node": "node-1", "state": "confirmed", "deleted": false});
        snapshot
            .affinities
            .insert(name, spec::<v3::BlockAffinitySpec>(value));
    }
}

fn pool(snapshot: &mut Snapshot, number: usize) {
    let value = json!({"cidr": "10.65.0.0/16", "disableBGPExport": number.is_multiple_of(2)});
    snapshot
        .pools
        .insert("pods".to_owned(), spec::<v3::IPPoolSpec>(value));
}

#[test]
fn thousands_of_changes_of_services_and_policies_reset_no_session() {
    let mut snapshot = base();
    let mut running = Running::new(&config(&snapshot));
    let mut changed = 0;
    let mut before = config(&snapshot);
    for number in 0..2500 {
        match number % 4 {
            0 | 1 => service(&mut snapshot, number),
            2 => block(&mut snapshot, number),
            _ if number % 8 == 3 => filter(&mut snapshot, number),
            _ => pool(&mut snapshot, number / 8),
        }
        let after = config(&snapshot);
        changed += usize::from(after != before);
        running.now += Duration::from_millis(100);
        running.configure(&after);
        before = after;
    }
    assert!(changed > 2000, "{changed}");
    assert_eq!((running.touched, running.up()), (0, 4));
}

#[test]
fn a_change_of_a_session_resets_that_session_alone() {
    let mut snapshot = base();
    let mut running = Running::new(&config(&snapshot));
    snapshot.peers.get_mut("tor").unwrap().keepalive_time =
        Some(v3::GoDuration::from(Duration::from_secs(7)));
    running.configure(&config(&snapshot));
    assert_eq!(
        (running.touched, running.up()),
        (0, 4),
        "a keepalive interval needs no new session"
    );
    snapshot.peers.get_mut("tor").unwrap().ttl_security = Some(1);
    running.configure(&config(&snapshot));
    assert_eq!(running.up(), 3);
}

/// node-2 and node-3 reflect for node-1.
fn reflectors() -> Snapshot {
    let mut snapshot = snapshot();
    configure(&mut snapshot, "default", json!({"nodeToNodeMeshEnabled": false}));
    for node in ["node-2", "node-3"] {
        label(&mut snapshot, node, Some("true"));
        set_bgp(&mut snapshot, node, |bgp| {
            bgp.route_reflector_cluster_id = "1.0.0.1".to_owned()
        });
    }
    let value = json!({"nodeSelector": "all()", "peerSelector": "route-reflector == 'true'"});
    snapshot
        .peers
        .insert("reflectors".to_owned(), spec::<v3::BGPPeerSpec>(value));
    snapshot
}

#[test]
fn reflectors_that_lose_their_label_by_mistake_are_kept_and_it_is_said() {
    for node in ["node-1", "node-2"] {
        let mut snapshot = reflectors();
        let first = compile(&snapshot, node);
        assert_eq!(first.problems, []);
        let sessions = first.config.clone().unwrap().peers;
        assert!(!sessions.is_empty());
        snapshot.selected = first.selected;
        // One of them is no mistake.
        label(&mut snapshot, "node-3", None);
        let second = compile(&snapshot, node);
        assert!(second.problems.is_empty() && second.config.unwrap().peers.len() <= sessions.len());
        // All of them are.
        snapshot.selected = second.selected;
        label(&mut snapshot, "node-2", None);
        let third = compile(&snapshot, node);
        let said = third.problems[0].to_string();
        assert!(
            said.contains("selects no node any more") && said.contains("node-2"),
            "{said}"
        );
        assert!(!third.config.unwrap().peers.is_empty());
        // The label is back, or the peer is deleted, as one likes.
        snapshot.selected = third.selected;
        let mut healed = snapshot.clone();
        label(&mut healed, "node-2", Some("true"));
        assert_eq!(compile(&healed, node).problems, []);
        snapshot.peers.clear();
        let gone = compile(&snapshot, node);
        assert_eq!(
            (gone.problems, gone.config.unwrap().peers),
            (Vec::new(), Vec::new())
        );
    }
}

#[test]
fn a_reflector_whose_node_is_gone_is_not_kept() {
    let mut snapshot = reflectors();
    snapshot.selected = compile(&snapshot, "node-1").selected;
    snapshot.nodes.remove("node-2");
    snapshot.nodes.remove("node-3");
    let compiled = compile(&snapshot, "node-1");
    assert_eq!(
        (compiled.problems, compiled.config.unwrap().peers),
        (Vec::new(), Vec::new())
    );
}

#[test]
fn a_filter_that_matches_nothing_changes_nothing() {
    let mut snapshot = base();
    let with = |snapshot: &Snapshot| {
        let config = config(snapshot);
        let tor = peer(&config, "Global_10_0_0_1").clone();
        (config.policies.get("filter-tor-export").cloned(), tor.export)
    };
    snapshot
        .filters
        .insert("tor".to_owned(), v3::BGPFilterSpec::default());
    let (policy, export) = with(&snapshot);
    assert_eq!(policy.unwrap().terms, []);
    assert_eq!(export, ["priority", "filter-tor-export", "export-external"]);
}

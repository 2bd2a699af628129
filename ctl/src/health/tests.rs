//! A cluster that is well, and one fault at a time.

use serde_json::{Value, json};

use super::catalogue::CATALOGUE;
use super::findings::{Finding, findings};
use super::seen::Seen;
use super::{overview, rows, text};

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn agent(node: &str, is_ready: bool) -> Value {
    json!({
        "metadata": {"name": format!("caracal-node-{node}"), "namespace": "caracal-system"},
        "spec": {"nodeName": node, "containers": []},
        "status": {"conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" }}]},
    })
}

fn node(name: &str, address: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"rack": "r1"}, "annotations": {"projectcalico.org/IPv4Address": address}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn well() -> Seen {
    Seen {
        nodes: vec![object(node("a", "10.0.0.1/24")), object(node("b", "10.0.0.2/24"))],
        agents: vec![object(agent("a", true)), object(agent("b", true))],
        pools: vec![object(json!({
            "metadata": {"name": "pods"}, "spec": {"cidr": "10.244.0.0/16"},
            "status": {"conditions": [condition("Allocatable", "True", "OK")]},
        }))],
        statuses: vec![sessions("a", &["Established", "Established"])],
        tiers: vec![object(json!({"metadata": {"name": "default"}, "spec": {}}))],
        ..Seen::default()
    }
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "because", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn sessions(node: &str, states: &[&str]) -> caracal_api::v3::CalicoNodeStatus {
    let peers: Vec<Value> = states
        .iter()
        .enumerate()
        .map(|(index, state)| json!({"peerIP": format!("10.0.0.{}", 200 + index), "type": "NodePeer", "state": state, "since": "now"}))
        .collect();
    object(json!({
        "metadata": {"name": node},
        "spec": {"node": node, "classes": ["BGP"], "updatePeriodSeconds": 10},
        "status": {"bgp": {"peersV4": peers}},
    }))
}

fn only(seen: &Seen) -> Finding {
    let found = findings(seen);
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

#[track_caller]
fn names(id: &str, part: &str, change: impl FnOnce(&mut Seen)) {
    let mut seen = well();
    change(&mut seen);
    let finding = only(&seen);
    assert_eq!(finding.id, id);
    let said = format!("{}: {}", finding.subject, finding.reason);
    assert!(said.contains(part), "{said:?} lacks {part:?}");
    assert!(!finding.next.is_empty());
}

#[test]
fn a_cluster_that_is_well_has_no_findings() {
    assert_eq!(findings(&well()), []);
    assert_eq!(text(&[], &well()), " ok  2 nodes, 1 pools: nothing found\n");
}

#[test]
fn each_fault_is_named_by_its_own_identifier() {
    names("CRC-API-001", "definitions", |seen| seen.is_undefined = true);
    names("CRC-API-002", "datastoreReady", |seen| {
        seen.cluster = vec![object(
            json!({"metadata": {"name": "default"}, "spec": {"datastoreReady": false}}),
        )];
    });
    names("CRC-NODE-001", "node b", |seen| drop(seen.agents.pop()));
    names(
        "CRC-NODE-002",
        "node b: install-cni waits: ImagePullBackOff: no such image",
        |seen| {
            let mut pod = agent("b", false);
            pod["status"]["initContainerStatuses"] = json!([{"name": "install-cni", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]);
            seen.agents[1] = object(pod);
        },
    );
    names("CRC-NODE-003", "node b: no address", |seen| {
        seen.nodes[1].metadata.annotations = None
    });
    names("CRC-NODE-004", "a and b have one address", |seen| {
        seen.nodes[1] = object(node("b", "10.0.0.1/32"))
    });
    names("CRC-NODE-005", "node b: CaracalIsDown: because", |seen| {
        let mut value = node("b", "10.0.0.2/24");
        value["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}, condition("NetworkUnavailable", "True", "CaracalIsDown")]);
        seen.nodes[1] = object(value);
    });
    names("CRC-NODE-006", "node b: KubeletNotReady: because", |seen| {
        let mut value = node("b", "10.0.0.2/24");
        value["status"]["conditions"] = json!([condition("Ready", "False", "KubeletNotReady")]);
        seen.nodes[1] = object(value);
    });
    names("CRC-NODE-007", "node b: PeersAway: because", |seen| {
        let mut value = node("b", "10.0.0.2/24");
        value["status"]["conditions"] =
            json!([{"type": "Ready", "status": "True"}, condition("CaracalDegraded", "True", "PeersAway")]);
        seen.nodes[1] = object(value);
    });
    names("CRC-IPAM-001", "no IPPool", |seen| seen.pools.clear());
    names("CRC-IPAM-002", "pool twice: CIDROverlap", |seen| {
        seen.pools.push(object(
            json!({"metadata": {"name": "twice"}, "spec": {"cidr": "10.244.0.0/17"},
            "status": {"conditions": [condition("Allocatable", "False", "CIDROverlap")]}}),
        ));
    });
    names("CRC-IPAM-003", "pool pods: Exhausted", |seen| {
        seen.pools[0] = object(
            json!({"metadata": {"name": "pods"}, "spec": {"cidr": "10.244.0.0/16"},
            "status": {"conditions": [condition("AddressesRunningOut", "True", "Exhausted")]}}),
        );
    });
    names("CRC-BGP-001", "selects no node", |seen| {
        seen.peers = vec![object(
            json!({"metadata": {"name": "tor"}, "spec": {"nodeSelector": "rack == 'r9'", "peerIP": "10.0.0.254", "asNumber": 64601}}),
        )];
    });
    names("CRC-BGP-001", "node c is not there", |seen| {
        seen.peers = vec![object(
            json!({"metadata": {"name": "tor"}, "spec": {"node": "c", "peerIP": "10.0.0.254", "asNumber": 64601}}),
        )];
    });
    names(
        "CRC-BGP-002",
        "node a: 0 of 2 BGP sessions are up; not up: 10.0.0.200, 10.0.0.201",
        |seen| {
            seen.statuses = vec![sessions("a", &["Active", "Connect"])];
        },
    );
    names("CRC-BGP-003", "node a: 1 of 2", |seen| {
        seen.statuses = vec![sessions("a", &["Established", "Idle"])]
    });
    names("CRC-BGP-004", "do not learn", |seen| {
        seen.bgp = vec![object(
            json!({"metadata": {"name": "default"}, "spec": {"nodeToNodeMeshEnabled": false}}),
        )];
    });
    names(
        "CRC-POL-001",
        "NetworkPolicy shop/web: its tier security",
        |seen| {
            seen.policies = vec![object(
                json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"tier": "security"}}),
            )];
        },
    );
}

#[test]
fn addresses_that_do_not_agree_are_counted() {
    use caracal_ipam::check::{Snapshot, check};
    // A handle that counts an address which no block has.
    let handle = json!({"metadata": {"name": "net.x"}, "spec": {"handleID": "net.x", "block": {"10.244.0.0/26": 1}, "deleted": false}});
    let snapshot = Snapshot {
        handles: vec![object(handle)],
        ..Snapshot::default()
    };
    names("CRC-IPAM-004", "1 problems", |seen| {
        seen.addresses = Some(check(&snapshot))
    });
}

#[test]
fn what_may_not_be_read_is_not_taken_for_missing() {
    let mut seen = well();
    seen.pools.clear();
    seen.not_seen.push("ippools (forbidden)".to_owned());
    assert_eq!(findings(&seen), []);
    assert!(text(&[], &seen).contains("not looked at: ippools"));
}

#[test]
fn the_overview_has_a_line_for_each_node() {
    let mut seen = well();
    seen.agents.pop();
    let found = findings(&seen);
    let shown = overview(&rows(&seen, &found), &found);
    assert!(shown.starts_with("2 nodes: 1 ok, 1 degraded\nNODE"), "{shown}");
    assert!(shown.contains("2/2"), "{shown}");
    assert!(shown.contains("(CRC-NODE-001)"), "{shown}");
}

#[test]
fn each_finding_has_its_heading_in_the_documentation() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/findings.md")).unwrap();
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let expected: Vec<String> = CATALOGUE
        .iter()
        .map(|known| format!("{}: {}", known.id, known.title))
        .collect();
    assert_eq!(headings, expected);
}

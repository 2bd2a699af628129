//! Each kind of finding, from a snapshot that has nothing else wrong.

use caracal_api::names::{affinity_name, block_name, handle_name};
use caracal_api::v3::{BlockAffinity, IPAMBlock, IPAMHandle, IPPool};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-11-25T12:00:00Z";
const LONG_AGO: &str = "2026-11-01T00:00:00Z";

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// A block of four addresses of node `n1`; allocations are (handle, attributes) in order.
fn block(cidr: &str, affinity: Option<&str>, held: &[(&str, Value)]) -> IPAMBlock {
    let count = held.len();
    let attributes: Vec<Value> = held
        .iter()
        .map(|(handle, secondary)| json!({"handle_id": handle, "secondary": secondary}))
        .collect();
    let slots: Vec<Option<usize>> = (0..4).map(|slot| (slot < count).then_some(slot)).collect();
    let numbers: serde_json::Map<String, Value> = (0..count)
        .map(|slot| (slot.to_string(), json!(slot + 5)))
        .collect();
    let mut spec = json!({
        "cidr": cidr, "allocations": slots, "unallocated": (count..4).collect::<Vec<_>>(),
        "attributes": attributes, "sequenceNumber": 9, "sequenceNumberForAllocation": numbers,
    });
    if let Some(affinity) = affinity {
        spec["affinity"] = json!(affinity);
    }
    object(json!({"metadata": {"name": block_name(&cidr.parse().unwrap())}, "spec": spec}))
}

fn affinity(node: &str, cidr: &str, state: &str) -> BlockAffinity {
    object(json!({
        "metadata": {"name": affinity_name(node, &cidr.parse().unwrap()), "creationTimestamp": LONG_AGO,
                     "labels": {"projectcalico.org/affinity-type": "host"}},
        "spec": {"node": node, "cidr": cidr, "state": state, "type": "host", "deleted": false},
    }))
}

fn handle(id: &str, counts: Value) -> IPAMHandle {
    object(json!({"metadata": {"name": handle_name(id)}, "spec": {"handleID": id, "block": counts}}))
}

fn pod(name: &str, node: &str, address: &str) -> Pod {
    object(json!({
        "metadata": {"name": name, "namespace": "ns", "creationTimestamp": LONG_AGO,
                     "annotations": {"cni.projectcalico.org/podIP": address}},
        "spec": {"nodeName": node, "containers": []},
        "status": {"podIP": address, "phase": "Running"},
    }))
}

fn attributes(pod: &str, node: &str) -> Value {
    json!({"namespace": "ns", "pod": pod, "node": node, "timestamp": "2026-11-01 10:00:00.5 +0000 UTC"})
}

fn node(name: &str) -> Node {
    object(json!({"metadata": {"name": name}}))
}

/// One pool, one block of `n1` with pods `a` (10.0.0.0) and `b` (10.0.0.1).
fn sound() -> Snapshot {
    Snapshot {
        blocks: vec![block(
            "10.0.0.0/30",
            Some("host:n1"),
            &[("net.A", attributes("a", "n1")), ("net.b", attributes("b", "n1"))],
        )],
        handles: vec![
            handle("net.A", json!({"10.0.0.0/30": 1})),
            handle("net.b", json!({"10.0.0.0/30": 1})),
        ],
        affinities: vec![affinity("n1", "10.0.0.0/30", "confirmed")],
        pools: vec![IPPool::new(
            "p",
            object(json!({"cidr": "10.0.0.0/24", "blockSize": 30})),
        )],
        nodes: vec![node("n1"), node("n2")],
        pods: vec![pod("a", "n1", "10.0.0.0"), pod("b", "n1", "10.0.0.1")],
        now: NOW.parse().unwrap(),
        ..Snapshot::default()
    }
}

/// The findings as `code:subject -> fix`, for comparison.
fn found(snapshot: &Snapshot) -> Vec<(String, Option<String>)> {
    let report = check(snapshot);
    report
        .findings
        .iter()
        .map(|finding| {
            assert!(
                !finding.reason.is_empty() && !finding.remedy.is_empty(),
                "{finding:?}"
            );
            let fix = finding.fix.as_ref().map(|fix| {
                let value = serde_json::to_value(fix).unwrap();
                assert_eq!(serde_json::from_value::<Fix>(value.clone()).unwrap(), *fix);
                value["action"].as_str().unwrap().to_owned()
            });
            (finding.id(), fix)
        })
        .collect()
}

#[track_caller]
fn expect(change: impl FnOnce(&mut Snapshot), expected: &[(&str, &str)]) {
    let mut snapshot = sound();
    change(&mut snapshot);
    let expected: Vec<(String, Option<String>)> = expected
        .iter()
        .map(|(id, fix)| {
            (
                (*id).to_owned(),
                Some((*fix).to_owned()).filter(|fix| !fix.is_empty()),
            )
        })
        .collect();
    assert_eq!(found(&snapshot), expected);
}

#[test]
fn a_sound_cluster_has_no_findings() {
    expect(|_| {}, &[]);
    let report = check(&sound());
    assert!(report.is_clean());
    assert_eq!((report.totals.allocations, report.totals.in_use), (2, 2));
    let one = &report.allocations[&"10.0.0.0".parse().unwrap()][0];
    assert_eq!(
        serde_json::to_value(one).unwrap(),
        json!({"ip": "10.0.0.0", "handle": "net.A", "sequenceNumber": 5, "pod": "a", "namespace": "ns", "node": "n1",
               "creationTimestamp": "2026-11-01 10:00:00.5 +0000 UTC", "inUse": true,
               "owners": ["pod ns/a on node n1"]})
    );
}

#[test]
fn an_address_of_a_pod_that_is_gone_is_leaked() {
    expect(
        |it| {
            it.pods.remove(0);
        },
        &[("ipam-address-leaked:10.0.0.0", "releaseAddress")],
    );
    // A pod that has no address yet may be about to get this one.
    expect(
        |it| {
            it.pods[0] = object(
                json!({"metadata": {"name": "a", "namespace": "ns"}, "spec": {"nodeName": "n1", "containers": []}}),
            )
        },
        &[],
    );
    // The pod of that name is another one.
    expect(
        |it| it.pods[0] = pod("a", "n2", "10.9.0.1"),
        &[
            ("ipam-address-leaked:10.0.0.0", "releaseAddress"),
            ("ipam-address-outside-pools:10.9.0.1", ""),
        ],
    );
    // What was assigned a moment ago is under way.
    expect(
        |it| {
            it.pods.remove(0);
            it.now = "2026-11-01T10:00:30Z".parse().unwrap();
        },
        &[],
    );
}

#[test]
fn finished_and_evicted_pods_have_no_address() {
    for (status, reason) in [
        (
            json!({"phase": "Succeeded", "podIP": "10.0.0.0"}),
            "the pod has ended",
        ),
        (
            json!({"phase": "Failed", "reason": "Evicted", "podIP": "10.0.0.0"}),
            "the pod was evicted",
        ),
    ] {
        let mut snapshot = sound();
        snapshot.pods[0] = object(json!({
            "metadata": {"name": "a", "namespace": "ns"}, "spec": {"nodeName": "n1", "containers": []}, "status": status,
        }));
        let report = check(&snapshot);
        let [finding] = &report.findings[..] else {
            panic!("{report:?}")
        };
        assert!(finding.reason.ends_with(reason), "{}", finding.reason);
        let leaks = leaks(&snapshot);
        assert_eq!(leaks[0].handle.as_deref(), Some("net.A"));
        assert!(leaks[0].whole && !leaks[0].node_gone);
        assert_eq!(leaks[0].releases()[0].sequence_number, Some(5));
    }
}

#[test]
fn a_handle_with_an_address_in_use_is_no_whole_leak() {
    let mut snapshot = sound();
    snapshot.blocks[0] = block(
        "10.0.0.0/30",
        Some("host:n1"),
        &[
            ("net.A", attributes("a", "n1")),
            ("net.A", attributes("gone", "n1")),
        ],
    );
    snapshot.pods.remove(1);
    let leaks = leaks(&snapshot);
    assert_eq!(leaks.len(), 1);
    assert_eq!(leaks[0].pod, Some(("ns".to_owned(), "gone".to_owned())));
    assert!(!leaks[0].whole);
}

#[test]
fn tunnels_leak_with_their_node_and_after_everything_else_on_it() {
    let tunnel = json!({"node": "n3", "type": "vxlanTunnelAddress"});
    let mut snapshot = sound();
    snapshot.blocks.push(block(
        "10.0.0.4/30",
        Some("host:n3"),
        &[("net.c", attributes("c", "n3")), ("vxlan-tunnel-addr-n3", tunnel)],
    ));
    snapshot
        .affinities
        .push(affinity("n3", "10.0.0.4/30", "confirmed"));
    snapshot.pods.push(pod("c", "n3", "10.0.0.4"));
    assert_eq!(leaks(&snapshot), [], "a pod is still on the node");
    snapshot.pods.pop();
    let found = leaks(&snapshot);
    let handles: Vec<_> = found.iter().map(|leak| leak.handle.as_deref().unwrap()).collect();
    assert_eq!(handles, ["net.c", "vxlan-tunnel-addr-n3"]);
    assert!(found.iter().all(|leak| leak.node_gone));
    snapshot.nodes.push(object(json!({
        "metadata": {"name": "n3", "annotations": {"projectcalico.org/IPv4VXLANTunnelAddr": "10.0.0.5"}},
    })));
    let found = leaks(&snapshot);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].handle.as_deref(), Some("net.c"));
}

#[test]
fn addresses_given_twice_and_never_given_are_found() {
    expect(
        |it| it.pods[1] = pod("b", "n1", "10.0.0.0"),
        &[
            ("ipam-address-leaked:10.0.0.1", "releaseAddress"),
            ("ipam-address-twice:10.0.0.0", ""),
        ],
    );
    expect(
        |it| it.pods.push(pod("c", "n2", "10.0.0.9")),
        &[("ipam-address-unallocated:10.0.0.9", "allocateAddress")],
    );
    // It started a moment ago: the first look may have missed its allocation.
    expect(
        |it| {
            it.pods.push(pod("c", "n2", "10.0.0.9"));
            it.pods[2].metadata.creation_timestamp = Some(object(json!(NOW)));
        },
        &[],
    );
    expect(
        |it| it.pods[0] = pod("x", "n1", "10.0.0.0"),
        &[("ipam-address-of-another:10.0.0.0", "")],
    );
    expect(
        |it| it.pods[0] = pod("a", "n2", "10.0.0.0"),
        &[("ipam-address-node-mismatch:10.0.0.0", "correctNode")],
    );
    expect(
        |it| it.pools[0].spec.disabled = true,
        &[
            ("ipam-address-outside-pools:10.0.0.0", ""),
            ("ipam-address-outside-pools:10.0.0.1", ""),
        ],
    );
}

#[test]
fn damaged_blocks_are_named_and_lost_addresses_are_found() {
    expect(
        |it| it.blocks[0].spec.unallocated = vec![2, 2, 1],
        &[("ipam-block-damaged:10-0-0-0-30", "repairBlock")],
    );
    expect(
        |it| it.blocks[0].spec.unallocated = vec![2],
        &[("ipam-block-damaged:10-0-0-0-30", "repairBlock")],
    );
    expect(
        |it| it.blocks[0].spec.cidr = "10.0.0".to_owned(),
        &[
            ("ipam-block-damaged:10-0-0-0-30", ""),
            ("ipam-address-unallocated:10.0.0.0", "allocateAddress"),
            ("ipam-address-unallocated:10.0.0.1", "allocateAddress"),
            ("ipam-affinity-stale:n1-10-0-0-0-30", "releaseBlock"),
            ("ipam-handle-count:net.A@10.0.0.0/30", "countHandle"),
            ("ipam-handle-count:net.b@10.0.0.0/30", "countHandle"),
        ],
    );
}

#[test]
fn blocks_without_place_or_owner_are_found() {
    expect(
        |it| {
            it.blocks.push(block("10.7.0.0/30", Some("host:n2"), &[]));
            it.affinities.push(affinity("n2", "10.7.0.0/30", "confirmed"));
        },
        &[("ipam-block-outside-pools:10.7.0.0/30", "releaseBlock")],
    );
    expect(
        |it| it.blocks.push(block("10.0.0.8/30", None, &[])),
        &[("ipam-block-forgotten:10.0.0.8/30", "removeBlock")],
    );
    expect(
        |it| it.affinities.clear(),
        &[("ipam-block-without-affinity:10.0.0.0/30", "claimBlock")],
    );
    expect(
        |it| {
            it.blocks.push(block("10.0.0.8/30", Some("host:gone"), &[]));
        },
        &[("ipam-block-without-affinity:10.0.0.8/30", "releaseBlock")],
    );
}

#[test]
fn affinities_left_half_way_are_found() {
    for (state, cidr, code, fix) in [
        ("pending", "10.0.0.8/30", "pending", "releaseBlock"),
        (
            "pendingDeletion",
            "10.0.0.8/30",
            "pending-deletion",
            "releaseBlock",
        ),
        ("confirmed", "10.0.0.8/30", "stale", "releaseBlock"),
        ("", "10.0.0.8/30", "stale", "releaseBlock"),
    ] {
        expect(
            |it| it.affinities.push(affinity("n2", cidr, state)),
            &[(&format!("ipam-affinity-{code}:n2-10-0-0-8-30"), fix)],
        );
    }
    for (state, code) in [("pending", "pending"), ("pendingDeletion", "pending-deletion")] {
        expect(
            |it| it.affinities[0] = affinity("n1", "10.0.0.0/30", state),
            &[(&format!("ipam-affinity-{code}:n1-10-0-0-0-30"), "claimBlock")],
        );
    }
    expect(
        |it| it.affinities.push(affinity("n2", "10.0.0.0/30", "confirmed")),
        &[("ipam-affinity-stale:n2-10-0-0-0-30", "releaseBlock")],
    );
    expect(
        |it| {
            it.nodes.remove(0);
        },
        &[("ipam-affinity-node-gone:n1-10-0-0-0-30", "releaseBlock")],
    );
    expect(
        |it| it.affinities[0].metadata.labels = None,
        &[("ipam-affinity-unlabelled:n1-10-0-0-0-30", "labelAffinity")],
    );
    expect(
        |it| it.affinities[0].spec.node = "other".to_owned(),
        &[
            ("ipam-block-without-affinity:10.0.0.0/30", "claimBlock"),
            ("ipam-affinity-damaged:n1-10-0-0-0-30", ""),
        ],
    );
    // A claim that began a moment ago is under way.
    expect(
        |it| {
            let mut begun = affinity("n2", "10.0.0.8/30", "pending");
            begun.metadata.creation_timestamp = Some(object(json!(NOW)));
            it.affinities.push(begun);
        },
        &[],
    );
}

#[test]
fn handles_that_count_wrongly_are_found() {
    expect(
        |it| it.handles.push(handle("net.x", json!({}))),
        &[("ipam-handle-empty:net.x", "removeHandle")],
    );
    expect(
        |it| it.handles.push(handle("net.x", json!({"10.0.0.0/30": 1}))),
        &[("ipam-handle-count:net.x@10.0.0.0/30", "countHandle")],
    );
    expect(
        |it| it.handles[0] = handle("net.A", json!({"10.0.0.0/30": 3})),
        &[("ipam-handle-count:net.A@10.0.0.0/30", "countHandle")],
    );
    expect(
        |it| {
            it.handles.remove(0);
        },
        &[("ipam-handle-missing:net.A@10.0.0.0/30", "countHandle")],
    );
    let mut snapshot = sound();
    snapshot.handles.push(handle("net.x", json!({"10.0.0.0/30": 1})));
    let report = check(&snapshot);
    assert_eq!(
        serde_json::to_value(&report.leaked_handles).unwrap(),
        json!([{"ID": "net.x", "UID": "", "Revision": ""}])
    );
}

#[test]
fn notes_are_no_problems() {
    let mut snapshot = sound();
    snapshot.blocks[0] = block(
        "10.0.0.0/30",
        Some("host:n1"),
        &[
            ("net.A", attributes("a", "n1")),
            ("net.b", attributes("b", "n1")),
            ("net.mine", json!({"node": "n1"})),
            (
                "windows-reserved-ipam-handle",
                json!({"note": "windows host rsvd"}),
            ),
        ],
    );
    snapshot
        .handles
        .push(handle("net.mine", json!({"10.0.0.0/30": 1})));
    snapshot
        .handles
        .push(handle("windows-reserved-ipam-handle", json!({"10.0.0.0/30": 1})));
    snapshot.reservations = vec![object(
        json!({"metadata": {"name": "r"}, "spec": {"reservedCIDRs": ["10.0.0.1"]}}),
    )];
    let mut gone = handle("net.gone", json!({}));
    gone.spec.deleted = true;
    snapshot.handles.push(gone);
    let report = check(&snapshot);
    assert!(report.is_clean());
    let ids: Vec<String> = report.findings.iter().map(Finding::id).collect();
    assert_eq!(
        ids,
        [
            "ipam-address-owner-unknown:10.0.0.2",
            "ipam-address-reserved:10.0.0.1",
            "ipam-deletion-unfinished:IPAMHandle/net.gone",
        ]
    );
    assert_eq!(leaks(&snapshot), []);
}

#[test]
fn services_and_cooling_addresses_are_judged() {
    let service = |name: &str, type_: &str| -> Service {
        object(json!({
            "metadata": {"name": name, "namespace": "ns"}, "spec": {"type": type_},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.4"}]}},
        }))
    };
    let with = |services: Vec<Service>| {
        move |it: &mut Snapshot| {
            let held = json!({"service": "web", "namespace": "ns", "type": "LoadBalancer"});
            it.blocks.push(block(
                "10.0.0.4/30",
                Some("virtual:load-balancer"),
                &[("lb-x", held)],
            ));
            it.handles.push(handle("lb-x", json!({"10.0.0.4/30": 1})));
            let mut claimed = affinity("load-balancer", "10.0.0.4/30", "confirmed");
            claimed.spec.type_ = "virtual".to_owned();
            it.affinities.push(claimed);
            it.services = services;
        }
    };
    expect(with(vec![service("web", "LoadBalancer")]), &[]);
    for gone in [vec![], vec![service("web", "ClusterIP")]] {
        expect(with(gone), &[("ipam-address-leaked:10.0.0.4", "releaseAddress")]);
    }
    for (at, expected) in [
        ("2026-11-25T12:00:10Z", &[][..]),
        (
            "2027-11-25T12:00:00Z",
            &[("ipam-address-cooling-forever:10.0.0.2", "repairBlock")][..],
        ),
    ] {
        expect(
            |it| {
                let spec = &mut it.blocks[0].spec;
                spec.allocations[2] = Some(2);
                spec.unallocated = vec![3];
                spec.attributes.push(object(json!({"releasedAt": at})));
            },
            expected,
        );
    }
}

#[test]
fn overlapping_blocks_are_found() {
    let mut snapshot = sound();
    snapshot.blocks.push(block("10.0.0.2/31", Some("host:n2"), &[]));
    snapshot.blocks[1].spec.allocations = vec![None, None];
    snapshot.blocks[1].spec.unallocated = vec![0, 1];
    snapshot
        .affinities
        .push(affinity("n2", "10.0.0.2/31", "confirmed"));
    let ids: Vec<String> = check(&snapshot).findings.iter().map(Finding::id).collect();
    assert_eq!(
        ids,
        [
            "ipam-block-overlap:10.0.0.0/30+10.0.0.2/31",
            "ipam-block-outside-pools:10.0.0.2/31"
        ]
    );
}

#[test]
fn codes_are_unique_and_serialize_as_their_text() {
    let texts: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(texts.len(), Code::ALL.len());
    for code in Code::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), json!(code.as_str()));
    }
}

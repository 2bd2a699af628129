//! A small cluster, random policies for it and random packets, for all who hold the model against something.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::net::IpAddr;

use caracal_felix_core::calc::model::Direction;
use caracal_felix_core::calc::sets::Item;
use caracal_felix_core::eval::{Packet, Place, Reason, Verdict};
use caracal_felix_core::update::Key;
use caracal_felix_core::{Core, Update};
use proptest::prelude::*;
use serde_json::{Value, json};

pub(crate) const NODE: &str = "n1";
/// Name, namespace, node, labels, service account, addresses.
pub(crate) const PODS: [(&str, &str, &str, &str, &str, &str); 8] = [
    ("p0", "red", NODE, "x", "one", "10.0.0.1"),
    ("p1", "red", NODE, "y", "one", "10.0.0.2"),
    ("p2", "red", "n2", "x", "two", "10.0.1.1"),
    ("p3", "blue", NODE, "x", "two", "10.0.0.3"),
    ("p4", "blue", "n2", "y", "two", "10.0.1.2"),
    ("p5", "blue", NODE, "z", "one", "10.0.0.4"),
    ("p6", "red", NODE, "x", "one", "fd00::1"),
    ("p7", "blue", "n2", "y", "two", "fd00:1::2"),
];
pub(crate) const ADDRESSES: [&str; 14] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.1.1",
    "10.0.0.3",
    "10.0.1.2",
    "10.0.0.4",
    "192.0.2.1",
    "192.0.2.77",
    "198.51.100.9",
    "10.0.1.200",
    "fd00::1",
    "fd00:1::2",
    "2001:db8::1",
    "2001:db8:1::1",
];
pub(crate) const SELECTORS: [&str; 12] = [
    "",
    "all()",
    "app == 'x'",
    "app != 'x'",
    "has(app)",
    "!has(app)",
    "app in {'x','y'}",
    "role == 'db'",
    "role not in {'db'}",
    "projectcalico.org/namespace == 'red'",
    "app == 'nothing'",
    "app == 'x' || role == 'web'",
];
pub(crate) const NAMESPACES: [&str; 6] = [
    "",
    "all()",
    "global()",
    "team == 'r'",
    "!has(team)",
    "team in {'b'}",
];
pub(crate) const NETS: [&str; 7] = [
    "10.0.0.0/16",
    "10.0.0.1/32",
    "192.0.2.0/24",
    "192.0.2.0/30",
    "0.0.0.0/0",
    "2001:db8::/32",
    "fd00::/16",
];

pub(crate) fn object<T: serde::de::DeserializeOwned>(value: Value) -> Option<Box<T>> {
    Some(Box::new(serde_json::from_value(value).unwrap()))
}

pub(crate) fn world() -> Vec<Update> {
    let mut updates = Vec::new();
    for (name, team) in [("red", Some("r")), ("blue", Some("b")), ("empty", None)] {
        let labels = team.map_or_else(|| json!({}), |team| json!({"team": team}));
        let value = json!({"metadata": {"name": name, "labels": labels}});
        updates.push(Update::Namespace(Key::cluster(name), object(value)));
    }
    for (namespace, name, tier) in [("red", "one", "a"), ("blue", "one", "b"), ("red", "two", "b")] {
        let value = json!({"metadata": {"name": name, "namespace": namespace, "labels": {"tier": tier}}});
        updates.push(Update::ServiceAccount(Key::new(namespace, name), object(value)));
    }
    for (index, (name, namespace, node, app, account, ip)) in PODS.iter().enumerate() {
        let role = if index % 2 == 0 { "db" } else { "web" };
        let value = json!({
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": app, "role": role}},
            "spec": {"nodeName": node, "serviceAccountName": account, "containers": [{"name": "c", "ports": [
                {"name": "http", "containerPort": 8080 + index % 2, "protocol": "TCP"},
                {"name": "dns", "containerPort": 53, "protocol": "UDP"}]}]},
            "status": {"podIP": ip, "podIPs": [{"ip": ip}]},
        });
        updates.push(Update::Pod(Key::new(*namespace, *name), object(value)));
    }
    let value = json!({"metadata": {"name": "out", "labels": {"app": "x", "role": "web"}},
        "spec": {"nets": ["192.0.2.0/25", "192.0.2.0/30", "2001:db8::/48"]}});
    updates.push(Update::GlobalNetworkSet(Key::cluster("out"), object(value)));
    let value = json!({"metadata": {"name": "mine", "namespace": "red", "labels": {"role": "db"}},
        "spec": {"nets": ["198.51.100.0/24"]}});
    updates.push(Update::NetworkSet(Key::new("red", "mine"), object(value)));
    let value = json!({"metadata": {"name": "svc-1", "namespace": "red",
        "labels": {"kubernetes.io/service-name": "svc"}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.1.2"]}],
        "ports": [{"port": 8080, "protocol": "TCP"}]});
    updates.push(Update::EndpointSlice(Key::new("red", "svc-1"), object(value)));
    for (name, order, action) in [("first", 10.0, "Pass"), ("last", 2_000_000.0, "Deny")] {
        let value = json!({"metadata": {"name": name}, "spec": {"order": order, "defaultAction": action}});
        updates.push(Update::Tier(Key::cluster(name), object(value)));
    }
    updates
}

pub(crate) fn pick(values: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(values).prop_map(str::to_owned)
}

pub(crate) fn entity(is_destination: bool, is_global: bool) -> impl Strategy<Value = Value> {
    let ports = prop::sample::select(vec![
        json!([]),
        json!([80]),
        json!(["1000:2000", 80]),
        json!(["http"]),
        json!(["http", 443]),
        json!(["dns"]),
        json!([1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, "53:80"]),
    ]);
    let nets = prop::collection::vec(prop::sample::select(&NETS[..]), 0..7);
    let not_nets = prop::collection::vec(prop::sample::select(&NETS[..5]), 0..3);
    let accounts = prop::sample::select(vec![
        Value::Null,
        json!({"names": ["one"]}),
        json!({"selector": "tier == 'b'"}),
        json!({"names": ["two"], "selector": "has(tier)"}),
    ]);
    (
        (pick(&SELECTORS), pick(&NAMESPACES), pick(&SELECTORS)),
        (nets, not_nets, accounts),
        (ports.clone(), ports),
        0u32..4096,
    )
        .prop_map(
            move |(
                (selector, namespaces, not_selector),
                (nets, not_nets, accounts),
                (ports, not_ports),
                mask,
            )| {
                let has = |bits: u32| mask & bits == 0;
                let mut entity = serde_json::Map::new();
                if mask % 16 == 5 {
                    let service = json!({"name": "svc", "namespace": "red"});
                    entity.insert("services".to_owned(), service);
                    return Value::Object(entity);
                }
                if has(1) {
                    entity.insert("selector".to_owned(), selector.into());
                }
                if has(6) && (is_global || namespaces != "global()") {
                    entity.insert("namespaceSelector".to_owned(), namespaces.into());
                }
                if has(24) {
                    entity.insert("notSelector".to_owned(), not_selector.into());
                }
                if has(96) {
                    entity.insert("nets".to_owned(), json!(nets));
                }
                if has(384) {
                    entity.insert("notNets".to_owned(), json!(not_nets));
                }
                if has(512) && (is_destination || mask % 3 == 0) {
                    entity.insert("ports".to_owned(), ports);
                }
                if has(3072) {
                    entity.insert("notPorts".to_owned(), not_ports);
                }
                if has(1536) && !accounts.is_null() {
                    entity.insert("serviceAccounts".to_owned(), accounts);
                }
                Value::Object(entity)
            },
        )
}

pub(crate) fn rule(is_global: bool) -> impl Strategy<Value = Value> {
    let action = prop::sample::select(vec!["Allow", "Allow", "Deny", "Pass", "Log", "Nonsense"]);
    let protocol = prop::sample::select(vec![
        json!("TCP"),
        json!("TCP"),
        json!("UDP"),
        json!("SCTP"),
        json!("ICMP"),
        Value::Null,
        json!(47),
    ]);
    let icmp = prop::sample::select(vec![
        Value::Null,
        json!({"type": 8}),
        json!({"type": 0, "code": 0}),
        json!({"type": 3, "code": 4}),
    ]);
    (
        action,
        protocol,
        icmp,
        entity(false, is_global),
        entity(true, is_global),
        0u32..64,
    )
        .prop_map(|(action, protocol, icmp, source, destination, mask)| {
            let mut rule = json!({"action": action});
            if protocol == "ICMP" && mask % 2 == 0 && !icmp.is_null() {
                let key = if mask % 4 == 0 { "icmp" } else { "notICMP" };
                rule[key] = icmp;
            }
            if mask % 16 == 3 && !protocol.is_null() {
                rule["notProtocol"] = protocol;
            } else if !protocol.is_null() {
                rule["protocol"] = protocol;
            }
            if mask & 3 != 1 {
                rule["source"] = source;
            }
            if mask & 12 != 4 {
                rule["destination"] = destination;
            }
            if mask == 33 {
                rule["ipVersion"] = json!(6);
            }
            rule
        })
}

/// A policy of some kind, with its number.
pub(crate) fn policy() -> impl Strategy<Value = (u8, Value, bool)> {
    let tier = prop::sample::select(vec!["default", "default", "first", "last", "unknown"]);
    let order = prop::sample::select(vec![json!(1), json!(2), json!(2), Value::Null]);
    let types = prop::sample::select(vec![
        json!([]),
        json!(["Ingress"]),
        json!(["Egress"]),
        json!(["Ingress", "Egress"]),
    ]);
    (0u8..4, tier, order, types, pick(&SELECTORS), pick(&NAMESPACES)).prop_flat_map(
        |(kind, tier, order, types, selector, namespaces)| {
            let rules = || prop::collection::vec(rule(kind == 1), 0..4);
            (rules(), rules()).prop_map(move |(ingress, egress)| {
                let mut spec =
                    json!({"tier": tier, "selector": selector, "ingress": ingress, "egress": egress});
                if !order.is_null() {
                    spec["order"] = order.clone();
                }
                if types != json!([]) {
                    spec["types"] = types.clone();
                }
                if kind == 1 && namespaces != "global()" {
                    spec["namespaceSelector"] = namespaces.clone().into();
                }
                (kind, spec, kind == 2)
            })
        },
    )
}

/// Kubernetes policies that are many and allow only: the case that is merged.
pub(crate) fn plain_policy() -> impl Strategy<Value = Value> {
    let peer = prop::sample::select(vec![
        json!({"podSelector": {"matchLabels": {"app": "x"}}}),
        json!({"podSelector": {"matchLabels": {"role": "db"}}}),
        json!({"namespaceSelector": {"matchLabels": {"team": "b"}}}),
        json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "y"}}}),
        json!({"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.0/30"]}}),
        json!({"ipBlock": {"cidr": "10.0.0.0/16"}}),
        json!({"ipBlock": {"cidr": "0.0.0.0/0"}}),
        json!({"ipBlock": {"cidr": "2001:db8::/32"}}),
        json!({"ipBlock": {"cidr": "nonsense"}}),
    ]);
    let port = prop::sample::select(vec![
        json!({"port": 80}),
        json!({"port": 443, "protocol": "UDP"}),
        json!({"port": "http"}),
        json!({"port": 1000, "endPort": 2000}),
        json!({"protocol": "SCTP"}),
        json!({"port": 5}),
        json!({"port": 1999}),
        json!({"port": 7}),
        json!({"port": 9, "endPort": 11}),
        json!({"port": 13}),
    ]);
    let rules = prop::collection::vec(
        (
            prop::collection::vec(peer, 0..3),
            prop::collection::vec(port, 0..3),
        ),
        0..3,
    );
    (
        rules.clone(),
        rules,
        prop::sample::select(vec!["", "x"]),
        any::<bool>(),
    )
        .prop_map(|(ingress, egress, app, has_egress)| {
            let rules = |rules: Vec<(Vec<Value>, Vec<Value>)>, end: &str| -> Vec<Value> {
                let rules = rules.into_iter();
                rules
                    .map(|(peers, ports)| json!({end: peers, "ports": ports}))
                    .collect()
            };
            let selector = if app.is_empty() {
                json!({})
            } else {
                json!({"matchLabels": {"app": app}})
            };
            let types = if has_egress {
                json!(["Ingress", "Egress"])
            } else {
                json!(["Ingress"])
            };
            json!({"podSelector": selector, "policyTypes": types,
                "ingress": rules(ingress, "from"), "egress": rules(egress, "to")})
        })
}

pub(crate) fn update(index: usize, (kind, spec, _): &(u8, Value, bool), is_present: bool) -> Update {
    let name = format!("policy-{index}");
    let namespace = if index.is_multiple_of(2) { "red" } else { "blue" };
    let value = json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec});
    let global = json!({"metadata": {"name": name}, "spec": spec});
    match kind {
        0 => Update::NetworkPolicy(Key::new(namespace, &name), present(value, is_present)),
        1 => Update::GlobalNetworkPolicy(Key::cluster(&name), present(global, is_present)),
        2 => Update::StagedGlobalNetworkPolicy(Key::cluster(&name), present(global, is_present)),
        _ => Update::NetworkPolicy(Key::new("red", &name), present(value, is_present)),
    }
}

pub(crate) fn present<T: serde::de::DeserializeOwned>(value: Value, is_present: bool) -> Option<Box<T>> {
    if is_present { object(value) } else { None }
}

pub(crate) fn plain_update(index: usize, spec: &Value) -> Update {
    let name = format!("plain-{index}");
    let namespace = if index.is_multiple_of(3) { "blue" } else { "red" };
    let value = json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec});
    Update::KubernetesNetworkPolicy(Key::new(namespace, &name), object(value))
}

pub(crate) fn packet() -> impl Strategy<Value = Packet> {
    let address = || prop::sample::select(&ADDRESSES[..]);
    let port = || {
        prop::sample::select(vec![
            1u16, 5, 7, 10, 13, 53, 60, 80, 443, 1000, 1999, 2000, 8080, 8081,
        ])
    };
    let protocol = prop::sample::select(vec![6u8, 6, 6, 17, 132, 1, 47, 58, 4]);
    let icmp = prop::sample::select(vec![(8u8, 0u8), (0, 0), (3, 4), (3, 1)]);
    (address(), address(), protocol, port(), port(), icmp).prop_filter_map(
        "one family",
        |(source, destination, protocol, source_port, destination_port, icmp)| {
            let source: IpAddr = source.parse().unwrap();
            let destination: IpAddr = destination.parse().unwrap();
            let is_one_family = source.is_ipv4() == destination.is_ipv4();
            let is_icmp = protocol == if source.is_ipv4() { 1 } else { 58 };
            let packet = Packet {
                source,
                destination,
                protocol,
                source_port: 0,
                destination_port: 0,
                icmp: is_icmp.then_some(icmp),
            };
            let with_ports = Packet {
                source_port,
                destination_port,
                ..packet
            };
            (is_one_family && source != destination)
                .then(|| if packet.has_ports() { with_ports } else { packet })
        },
    )
}

/// The interface behind which an address is: a pod's here, or that to the fabric.
pub(crate) fn interface(address: IpAddr) -> String {
    let here = PODS
        .iter()
        .find(|pod| pod.2 == NODE && pod.5.parse::<IpAddr>().unwrap() == address);
    here.map_or_else(
        || "eth0".to_owned(),
        |(name, namespace, ..)| caracal_api::names::veth_name(namespace, name),
    )
}

pub(crate) fn is_here(address: IpAddr) -> bool {
    interface(address) != "eth0"
}

pub(crate) fn absent(update: &Update) -> Update {
    match update {
        Update::Pod(key, _) => Update::Pod(key.clone(), None),
        Update::Namespace(key, _) => Update::Namespace(key.clone(), None),
        Update::ServiceAccount(key, _) => Update::ServiceAccount(key.clone(), None),
        Update::GlobalNetworkSet(key, _) => Update::GlobalNetworkSet(key.clone(), None),
        Update::NetworkSet(key, _) => Update::NetworkSet(key.clone(), None),
        Update::EndpointSlice(key, _) => Update::EndpointSlice(key.clone(), None),
        Update::Tier(key, _) => Update::Tier(key.clone(), None),
        other => other.clone(),
    }
}

/// The node's host endpoint.
pub(crate) fn host_endpoint(interface: &str, has_profile: bool) -> Update {
    let profiles = if has_profile {
        json!(["projectcalico-default-allow"])
    } else {
        json!([])
    };
    let host = json!({"metadata": {"name": "h", "labels": {"app": "x", "role": "web"}},
        "spec": {"node": NODE, "interfaceName": interface, "profiles": profiles}});
    Update::HostEndpoint(Key::cluster("h"), object(host))
}

/// A policy for host endpoints: with 1 untracked, with 2 before translation, with more for forwarded packets too.
pub(crate) fn host_policy(index: usize, spec: &Value, flags: u8, is_present: bool) -> Update {
    let mut spec = spec.clone();
    spec["namespaceSelector"] = json!("");
    spec["applyOnForward"] = json!(flags > 0);
    spec["doNotTrack"] = json!(flags == 1);
    spec["preDNAT"] = json!(flags == 2);
    update(index, &(1, spec, false), is_present)
}

/// What one place on a packet's way says: it is denied, let pass for good, or goes on.
pub(crate) fn host_says(core: &Core, direction: Direction, place: Place, packet: &Packet) -> Option<Verdict> {
    let host = Item::Host(Key::cluster("h"));
    let said = core.evaluate(&host, direction, place, packet);
    (!matches!(said.reason, Reason::NotConcerned | Reason::Failsafe)).then_some(said.verdict)
}

/// The first that says anything.
pub(crate) fn first(answers: &[Option<Verdict>]) -> Option<Verdict> {
    answers.iter().copied().flatten().next()
}

/// What the host endpoint says of a packet that comes in and leaves by it.
pub(crate) fn host_forwards(core: &Core, packet: &Packet) -> Option<Verdict> {
    let asked = |direction, place| host_says(core, direction, place, packet);
    let came = first(&[
        asked(Direction::Ingress, Place::Untracked),
        asked(Direction::Ingress, Place::PreDnat),
        asked(Direction::Ingress, Place::Forward),
    ]);
    if came == Some(Verdict::Deny) {
        return came;
    }
    asked(Direction::Egress, Place::Forward)
}

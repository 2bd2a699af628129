//! Random policies, random packets: what is meant (the evaluator) against what is compiled (the interpreter), for both
//! backends, and what came by changes against what was computed from nothing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test, whose number of cases the environment tells"
)]

use std::net::IpAddr;

use caracal_felix_core::calc::model::Direction;
use caracal_felix_core::calc::sets::Item;
use caracal_felix_core::desired::Backend;
use caracal_felix_core::eval::{Packet, Place, Reason, Verdict};
use caracal_felix_core::interpret::{self, Flight, Outcome};
use caracal_felix_core::rules::{End, Match};
use caracal_felix_core::update::Key;
use caracal_felix_core::{Core, Options, Update};
use proptest::prelude::*;
use serde_json::{Value, json};

const NODE: &str = "n1";
/// Name, namespace, node, labels, service account, addresses.
const PODS: [(&str, &str, &str, &str, &str, &str); 8] = [
    ("p0", "red", NODE, "x", "one", "10.0.0.1"),
    ("p1", "red", NODE, "y", "one", "10.0.0.2"),
    ("p2", "red", "n2", "x", "two", "10.0.1.1"),
    ("p3", "blue", NODE, "x", "two", "10.0.0.3"),
    ("p4", "blue", "n2", "y", "two", "10.0.1.2"),
    ("p5", "blue", NODE, "z", "one", "10.0.0.4"),
    ("p6", "red", NODE, "x", "one", "fd00::1"),
    ("p7", "blue", "n2", "y", "two", "fd00:1::2"),
];
const ADDRESSES: [&str; 14] = [
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
const SELECTORS: [&str; 12] = [
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
const NAMESPACES: [&str; 6] = [
    "",
    "all()",
    "global()",
    "team == 'r'",
    "!has(team)",
    "team in {'b'}",
];
const NETS: [&str; 7] = [
    "10.0.0.0/16",
    "10.0.0.1/32",
    "192.0.2.0/24",
    "192.0.2.0/30",
    "0.0.0.0/0",
    "2001:db8::/32",
    "fd00::/16",
];

fn object<T: serde::de::DeserializeOwned>(value: Value) -> Option<Box<T>> {
    Some(Box::new(serde_json::from_value(value).unwrap()))
}

fn world() -> Vec<Update> {
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

fn pick(values: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(values).prop_map(str::to_owned)
}

fn entity(is_destination: bool, is_global: bool) -> impl Strategy<Value = Value> {
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

fn rule(is_global: bool) -> impl Strategy<Value = Value> {
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
fn policy() -> impl Strategy<Value = (u8, Value, bool)> {
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
fn plain_policy() -> impl Strategy<Value = Value> {
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

fn update(index: usize, (kind, spec, _): &(u8, Value, bool), is_present: bool) -> Update {
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

fn present<T: serde::de::DeserializeOwned>(value: Value, is_present: bool) -> Option<Box<T>> {
    if is_present { object(value) } else { None }
}

fn plain_update(index: usize, spec: &Value) -> Update {
    let name = format!("plain-{index}");
    let namespace = if index.is_multiple_of(3) { "blue" } else { "red" };
    let value = json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec});
    Update::KubernetesNetworkPolicy(Key::new(namespace, &name), object(value))
}

fn packet() -> impl Strategy<Value = Packet> {
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

fn core(backend: Backend) -> Core {
    let mut core = Core::new(Options {
        node: NODE.to_owned(),
        ..Options::default()
    });
    core.set_backend(backend);
    core.on_in_sync();
    core
}

/// The interface behind which an address is: a pod's here, or that to the fabric.
fn interface(address: IpAddr) -> String {
    let here = PODS
        .iter()
        .find(|pod| pod.2 == NODE && pod.5.parse::<IpAddr>().unwrap() == address);
    here.map_or_else(
        || "eth0".to_owned(),
        |(name, namespace, ..)| caracal_api::names::veth_name(namespace, name),
    )
}

fn is_here(address: IpAddr) -> bool {
    interface(address) != "eth0"
}

/// iptables refuses a whole table for one rule with two prefixes of an end.
fn check_sayable(core: &Core, backend: Backend) -> Result<(), TestCaseError> {
    let tables = core.desired().tables.values();
    let rules = tables.flat_map(|table| table.chains.values().flatten());
    for rule in rules.filter(|_| backend != Backend::Nftables) {
        for wanted in [End::Source, End::Destination] {
            let of_end = |one: &&Match| matches!(one, Match::Nets { end, .. } if *end == wanted);
            let count = rule.matches.iter().filter(of_end).count();
            prop_assert!(count <= 1, "{rule:?}");
        }
    }
    Ok(())
}

fn check(core: &Core, packet: &Packet) -> Result<(), TestCaseError> {
    let trace = core.trace(packet);
    // This node sees what its own workloads send and get.
    let sides = [
        trace.source.as_ref().filter(|_| is_here(packet.source)),
        trace.destination.as_ref().filter(|_| is_here(packet.destination)),
    ];
    let is_denied = sides
        .into_iter()
        .flatten()
        .any(|side| side.verdict == Verdict::Deny);
    let mut flight = Flight::new(
        *packet,
        Some(&interface(packet.source)),
        Some(&interface(packet.destination)),
    );
    let outcome = interpret::forwarded(core.desired(), &mut flight);
    prop_assert_eq!(
        outcome == Outcome::Dropped,
        is_denied,
        "{:?} {:?}\n{:#?}",
        packet,
        core.config().backend,
        trace
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn chains_do_what_policies_mean(
        policies in prop::collection::vec(policy(), 0..8),
        plain in prop::collection::vec(plain_policy(), 0..24),
        packets in prop::collection::vec(packet(), 40),
        backend in prop::sample::select(vec![Backend::Iptables, Backend::Nftables]),
    ) {
        let mut core = core(backend);
        world().into_iter().for_each(|update| core.on_update(update));
        for (index, policy) in policies.iter().enumerate() {
            core.on_update(update(index, policy, true));
        }
        for (index, spec) in plain.iter().enumerate() {
            core.on_update(plain_update(index, spec));
        }
        core.flush();
        check_sayable(&core, backend)?;
        for packet in &packets {
            check(&core, packet)?;
        }
    }

    #[test]
    fn chains_of_host_endpoints_do_what_policies_mean(
        policies in prop::collection::vec((policy(), 0u8..5), 0..7),
        packets in prop::collection::vec(packet(), 30),
        interface in prop::sample::select(vec!["*", "eth0"]),
        has_profile in any::<bool>(),
    ) {
        let mut core = core(Backend::Iptables);
        world().into_iter().for_each(|update| core.on_update(update));
        let profiles = if has_profile { json!(["projectcalico-default-allow"]) } else { json!([]) };
        let host = json!({"metadata": {"name": "h", "labels": {"app": "x", "role": "web"}},
            "spec": {"node": NODE, "interfaceName": interface, "profiles": profiles}});
        core.on_update(Update::HostEndpoint(Key::cluster("h"), object(host)));
        for (index, ((_, spec, _), flags)) in policies.iter().enumerate() {
            let mut spec = spec.clone();
            spec["namespaceSelector"] = json!("");
            spec["applyOnForward"] = json!(*flags > 0);
            spec["doNotTrack"] = json!(*flags == 1);
            spec["preDNAT"] = json!(*flags == 2);
            core.on_update(update(index, &(1, spec, false), true));
        }
        core.flush();
        // An answer to a failsafe port is let through untracked policies by its source port, which the model of single
        // packets does not know.
        for packet in packets.iter().filter(|packet| packet.source_port != 53) {
            check_host(&core, packet)?;
        }
    }

    #[test]
    fn changes_lead_where_starting_anew_leads(
        policies in prop::collection::vec(policy(), 6),
        others in prop::collection::vec(policy(), 6),
        plain in prop::collection::vec(plain_policy(), 14),
        steps in prop::collection::vec((0usize..60, any::<bool>(), any::<bool>()), 0..60),
    ) {
        let mut all: Vec<(Update, Update)> = Vec::new();
        for (index, (one, other)) in policies.iter().zip(&others).enumerate() {
            let one = (0, one.1.clone(), false);
            all.push((update(index, &one, true), update(index, &(0, other.1.clone(), false), true)));
        }
        for (index, spec) in plain.iter().enumerate() {
            let other = plain_update(index, &plain[(index + 1) % plain.len()]);
            all.push((plain_update(index, spec), other));
        }
        all.extend(world().into_iter().map(|update| (update.clone(), absent(&update))));
        let mut incremental = core(Backend::Iptables);
        let mut kernel = caracal_felix_core::Desired::default();
        let mut last: Vec<Option<Update>> = vec![None; all.len()];
        for (step, is_first, is_flushed) in steps {
            let index = step % all.len();
            let (one, other) = &all[index];
            let update = if is_first { one } else { other };
            last[index] = Some(update.clone());
            incremental.on_update(update.clone());
            if is_flushed {
                let dirty = incremental.flush();
                follow(&mut kernel, incremental.desired(), &dirty);
                prop_assert_eq!(&kernel, incremental.desired());
            }
        }
        let dirty = incremental.flush();
        follow(&mut kernel, incremental.desired(), &dirty);
        prop_assert_eq!(&kernel, incremental.desired());
        let mut scratch = core(Backend::Iptables);
        for update in last.into_iter().rev().flatten() {
            scratch.on_update(update);
        }
        scratch.flush();
        prop_assert_eq!(incremental.desired(), scratch.desired());
    }
}

/// A way through the tables.
type Way = fn(&caracal_felix_core::Desired, &mut Flight) -> Outcome;

/// What one place on a packet's way says: it is denied, let pass for good, or goes on.
fn say(core: &Core, direction: Direction, place: Place, packet: &Packet) -> Option<Verdict> {
    let host = Item::Host(Key::cluster("h"));
    let said = core.evaluate(&host, direction, place, packet);
    (!matches!(said.reason, Reason::NotConcerned | Reason::Failsafe)).then_some(said.verdict)
}

fn check_host(core: &Core, packet: &Packet) -> Result<(), TestCaseError> {
    let first = |answers: &[Option<Verdict>]| answers.iter().copied().flatten().next();
    let asked = |direction, place| say(core, direction, place, packet);
    let early = [
        asked(Direction::Ingress, Place::Untracked),
        asked(Direction::Ingress, Place::PreDnat),
    ];
    let received = first(&[early[0], early[1], asked(Direction::Ingress, Place::Own)]);
    let sent = first(&[
        asked(Direction::Egress, Place::Untracked),
        asked(Direction::Egress, Place::Own),
    ]);
    let came = first(&[early[0], early[1], asked(Direction::Ingress, Place::Forward)]);
    let leaves = asked(Direction::Egress, Place::Forward);
    let forwarded = if came == Some(Verdict::Deny) { came } else { leaves };
    let ways = [
        (
            "received",
            interpret::received as Way,
            Some("eth0"),
            None,
            received,
        ),
        ("sent", interpret::sent, None, Some("eth0"), sent),
        (
            "forwarded",
            interpret::forwarded,
            Some("eth0"),
            Some("eth0"),
            forwarded,
        ),
    ];
    for (name, way, came_in, leaves, expected) in ways {
        let mut flight = Flight::new(*packet, came_in, leaves);
        let outcome = way(core.desired(), &mut flight);
        let is_denied = expected == Some(Verdict::Deny);
        prop_assert_eq!(outcome == Outcome::Dropped, is_denied, "{} {:?}", name, packet);
    }
    Ok(())
}

fn cases() -> u32 {
    let wanted = std::env::var("CARACAL_PROPERTY_CASES").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(64)
}

fn absent(update: &Update) -> Update {
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

/// What a driver does that trusts what it is told of changes, and looks at nothing else.
fn follow(
    kernel: &mut caracal_felix_core::Desired,
    desired: &caracal_felix_core::Desired,
    dirty: &caracal_felix_core::Dirty,
) {
    use caracal_felix_core::desired::IpSetChange;
    for (name, change) in &dirty.ip_sets {
        match (change, kernel.ip_sets.get_mut(name)) {
            (IpSetChange::Removed, _) => drop(kernel.ip_sets.remove(name)),
            (IpSetChange::Members { added, removed }, Some(set)) => {
                set.members.extend(added);
                set.members.retain(|member| !removed.contains(member));
            }
            (IpSetChange::Members { .. }, None) => panic!("members of a set that is not there: {name}"),
            (IpSetChange::Replaced, _) => {
                kernel.ip_sets.insert(name.clone(), desired.ip_sets[name].clone());
            }
        }
    }
    for key in desired.tables.keys() {
        kernel.tables.entry(*key).or_default();
    }
    for (key, chains) in &dirty.chains {
        for name in chains {
            let table = kernel.tables.get_mut(key).unwrap();
            match desired.tables[key].chains.get(name) {
                Some(rules) => table.chains.insert(name.clone(), rules.clone()),
                None => table.chains.remove(name),
            };
        }
    }
    for (key, chains) in &dirty.kernel_chains {
        for name in chains {
            let table = kernel.tables.get_mut(key).unwrap();
            let chain = desired.tables[key].kernel_chains[name].clone();
            table.kernel_chains.insert(name.clone(), chain);
        }
    }
    for net in &dirty.routes {
        match desired.routes.get(net) {
            Some(route) => kernel.routes.insert(*net, route.clone()),
            None => kernel.routes.remove(net),
        };
    }
    for name in &dirty.interfaces {
        match desired.interfaces.get(name) {
            Some(interface) => kernel.interfaces.insert(name.clone(), interface.clone()),
            None => kernel.interfaces.remove(name),
        };
    }
    for name in &dirty.endpoint_statuses {
        match desired.endpoint_statuses.get(name) {
            Some(status) => kernel.endpoint_statuses.insert(name.clone(), status.clone()),
            None => kernel.endpoint_statuses.remove(name),
        };
    }
    if dirty.sysctls {
        kernel.sysctls.clone_from(&desired.sysctls);
    }
}

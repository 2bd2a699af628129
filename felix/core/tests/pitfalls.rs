//! What others got wrong, and input that is bad: one test each, on the pure calculation.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use caracal_felix_core::calc::model::Direction;
use caracal_felix_core::calc::sets::Item;
use caracal_felix_core::desired::{Backend, IpSetChange, IpVersion, TableKey, TableName};
use caracal_felix_core::eval::{Packet, Place, Reason, Verdict};
use caracal_felix_core::interpret::{self, Flight, Outcome};
use caracal_felix_core::rules::{Action, Match};
use caracal_felix_core::update::Key;
use caracal_felix_core::{Core, Options, Update};
use serde_json::{Value, json};

const WEB: &str = "10.0.0.1";
const DB: &str = "10.0.0.2";
const FAR: &str = "10.0.1.1";
const OUTSIDE: &str = "192.0.2.9";

fn object<T: serde::de::DeserializeOwned>(value: Value) -> Option<Box<T>> {
    Some(Box::new(serde_json::from_value(value).unwrap()))
}

fn pod_value(name: &str, namespace: &str, node: &str, ip: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"nodeName": node, "serviceAccountName": "default", "containers": [
            {"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}],
            "initContainers": [{"name": "side", "restartPolicy": "Always", "ports": [
                {"name": "metrics", "containerPort": 9090}]}]},
        "status": {"podIP": ip, "podIPs": [{"ip": ip}]},
    })
}

fn pod(name: &str, namespace: &str, node: &str, ip: &str) -> Update {
    Update::Pod(
        Key::new(namespace, name),
        object(pod_value(name, namespace, node, ip)),
    )
}

fn knp(name: &str, spec: Value) -> Update {
    let value = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    Update::KubernetesNetworkPolicy(Key::new("shop", name), object(value))
}

fn np(name: &str, spec: Value) -> Update {
    let value = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    Update::NetworkPolicy(Key::new("shop", name), object(value))
}

fn gnp(name: &str, spec: Value) -> Update {
    let value = json!({"metadata": {"name": name}, "spec": spec});
    Update::GlobalNetworkPolicy(Key::cluster(name), object(value))
}

fn hep(name: &str, spec: Value) -> Update {
    let value = json!({"metadata": {"name": name, "labels": {"host": "yes"}}, "spec": spec});
    Update::HostEndpoint(Key::cluster(name), object(value))
}

fn tier(name: &str, order: f64, action: &str) -> Update {
    let value = json!({"metadata": {"name": name}, "spec": {"order": order, "defaultAction": action}});
    Update::Tier(Key::cluster(name), object(value))
}

fn world() -> Core {
    let mut core = Core::new(Options {
        node: "n1".to_owned(),
        ..Options::default()
    });
    for name in ["shop", "other"] {
        let value = json!({"metadata": {"name": name, "labels": {"team": name}}});
        core.on_update(Update::Namespace(Key::cluster(name), object(value)));
    }
    core.on_update(pod("web", "shop", "n1", WEB));
    core.on_update(pod("db", "shop", "n1", DB));
    core.on_update(pod("far", "other", "n2", FAR));
    core.on_in_sync();
    core
}

fn with(updates: impl IntoIterator<Item = Update>) -> Core {
    let mut core = world();
    updates.into_iter().for_each(|update| core.on_update(update));
    core.flush();
    core
}

fn packet(source: &str, destination: &str, protocol: u8, port: u16) -> Packet {
    let has_ports = matches!(protocol, 6 | 17 | 132);
    Packet {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol,
        source_port: if has_ports { 40_000 } else { 0 },
        destination_port: if has_ports { port } else { 0 },
        icmp: None,
    }
}

fn interface(address: IpAddr) -> String {
    match address.to_string().as_str() {
        WEB => caracal_api::names::veth_name("shop", "web"),
        DB => caracal_api::names::veth_name("shop", "db"),
        _ => "eth0".to_owned(),
    }
}

/// Whether a packet passes here, by the meaning and by the chains, which must agree.
fn passes(core: &Core, packet: Packet) -> bool {
    let trace = core.trace(&packet);
    let mut flight = Flight::new(
        packet,
        Some(&interface(packet.source)),
        Some(&interface(packet.destination)),
    );
    let by_chains = interpret::forwarded(core.desired(), &mut flight) != Outcome::Dropped;
    let here = |address| interface(address) != "eth0";
    let sides = [
        trace.source.filter(|_| here(packet.source)),
        trace.destination.filter(|_| here(packet.destination)),
    ];
    let denied = sides.iter().flatten().any(|side| side.verdict == Verdict::Deny);
    assert_eq!(by_chains, !denied, "{packet:?} {sides:#?}");
    by_chains
}

fn tcp(core: &Core, source: &str, destination: &str, port: u16) -> bool {
    passes(core, packet(source, destination, 6, port))
}

fn filter() -> TableKey {
    TableKey {
        version: IpVersion::V4,
        name: TableName::Filter,
    }
}

// Meaning.

#[test]
fn an_exception_is_a_hole_in_one_peer_only() {
    let core = with([knp(
        "p",
        json!({"podSelector": {}, "ingress": [{"from": [
            {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.8/29"]}},
            {"ipBlock": {"cidr": "192.0.2.9/32"}}]}]}),
    )]);
    assert!(tcp(&core, "192.0.2.1", WEB, 80));
    assert!(!tcp(&core, "192.0.2.10", WEB, 80));
    assert!(tcp(&core, OUTSIDE, WEB, 80));
}

#[test]
fn the_end_of_a_port_range_belongs_to_it_in_long_lists_too() {
    let mut ports: Vec<Value> = (0..20).map(|n| json!({"port": 2 * n + 1})).collect();
    ports.push(json!({"port": 1000, "endPort": 1003}));
    let core = with([knp(
        "p",
        json!({"podSelector": {}, "ingress": [{"ports": ports}]}),
    )]);
    for (port, is_open) in [
        (39, true),
        (40, false),
        (999, false),
        (1000, true),
        (1003, true),
        (1004, false),
    ] {
        assert_eq!(tcp(&core, FAR, WEB, port), is_open, "{port}");
    }
}

#[test]
fn a_named_port_is_that_of_the_pod_with_its_protocol() {
    let mut other = pod_value("db", "shop", "n1", DB);
    other["spec"]["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 81}]);
    let policy = json!({"podSelector": {}, "ingress": [{"ports": [{"port": "http"}, {"port": "metrics"}]}]});
    let core = with([
        Update::Pod(Key::new("shop", "db"), object(other)),
        knp("p", policy),
    ]);
    assert!(tcp(&core, FAR, WEB, 8080) && !tcp(&core, FAR, WEB, 81));
    assert!(tcp(&core, FAR, DB, 81) && !tcp(&core, FAR, DB, 8080));
    // Sidecars that are init containers have ports too.
    assert!(tcp(&core, FAR, WEB, 9090));
    assert!(!passes(&core, packet(FAR, WEB, 17, 8080)));
}

#[test]
fn with_a_selector_only_ports_of_what_is_selected_count() {
    let core = with([np(
        "p",
        json!({"selector": "app == 'web'", "types": ["Egress"], "egress": [{"action": "Allow", "protocol": "TCP",
            "destination": {"selector": "app == 'db'", "ports": ["http"]}}]}),
    )]);
    assert!(tcp(&core, WEB, DB, 8080));
    assert!(!tcp(&core, WEB, FAR, 8080));
}

#[test]
fn a_port_entry_without_a_port_opens_its_protocol() {
    let core = with([knp(
        "p",
        json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80}, {"protocol": "TCP"}]}]}),
    )]);
    assert!(tcp(&core, FAR, WEB, 12_345));
    assert!(!passes(&core, packet(FAR, WEB, 17, 80)));
}

#[test]
fn negative_selectors_match_what_lacks_the_label() {
    for selector in ["tier != 'x'", "tier not in {'x'}", "!has(tier)"] {
        let core = with([np(
            "p",
            json!({"selector": selector, "ingress": [{"action": "Allow", "source": {"selector": selector}}]}),
        )]);
        assert!(tcp(&core, DB, WEB, 80), "{selector}");
        // Limited to what is known: no label is not any address.
        assert!(!tcp(&core, OUTSIDE, WEB, 80), "{selector}");
    }
}

#[test]
fn a_negative_set_matches_outside_in_global_policies_and_stays_at_home_in_others() {
    let rule = json!([{"action": "Allow", "source": {"notSelector": "has(nothing)"}}]);
    let global = with([gnp("g", json!({"selector": "app == 'web'", "ingress": rule}))]);
    assert!(tcp(&global, OUTSIDE, WEB, 80) && tcp(&global, FAR, WEB, 80));
    let own = with([np("n", json!({"selector": "app == 'web'", "ingress": rule}))]);
    assert!(tcp(&own, DB, WEB, 80));
    assert!(!tcp(&own, OUTSIDE, WEB, 80) && !tcp(&own, FAR, WEB, 80));
}

#[test]
fn all_nobody_and_anyone() {
    let closed = with([knp("p", json!({"podSelector": {}, "ingress": []}))]);
    assert!(!tcp(&closed, DB, WEB, 80) && !tcp(&closed, OUTSIDE, WEB, 80));
    assert!(
        tcp(&closed, WEB, OUTSIDE, 80),
        "no egress rules, no say about egress"
    );
    let open = with([knp("p", json!({"podSelector": {}, "ingress": [{}]}))]);
    assert!(tcp(&open, OUTSIDE, WEB, 80));
    let both = with([knp("p", json!({"podSelector": {}, "egress": [{}]}))]);
    assert!(!tcp(&both, OUTSIDE, WEB, 80) && tcp(&both, WEB, OUTSIDE, 80));
}

#[test]
fn a_tier_denies_only_where_an_enforced_policy_has_a_say() {
    let staged =
        json!({"metadata": {"name": "s"}, "spec": {"tier": "t", "types": ["Ingress"], "selector": "all()"}});
    let mut core = with([
        tier("t", 1.0, "Deny"),
        Update::StagedGlobalNetworkPolicy(Key::cluster("s"), object(staged)),
    ]);
    assert!(tcp(&core, OUTSIDE, WEB, 80), "staged policies deny nothing");
    let mut counted = core.desired().tables[&filter()].chains.keys();
    assert!(
        counted.any(|name| name.starts_with("cali-pi-")),
        "but they are counted"
    );
    core.on_update(gnp(
        "g",
        json!({"tier": "t", "selector": "app == 'db'", "types": ["Ingress"]}),
    ));
    core.flush();
    assert!(tcp(&core, OUTSIDE, WEB, 80) && !tcp(&core, OUTSIDE, DB, 80));
    assert!(tcp(&core, DB, OUTSIDE, 80), "no say about the other direction");
}

#[test]
fn pass_goes_to_the_next_tier_and_from_the_last_to_the_profiles() {
    let pass = |tier: &str| json!({"tier": tier, "selector": "all()", "ingress": [{"action": "Pass"}]});
    let core = with([tier("t", 1.0, "Deny"), gnp("a", pass("t"))]);
    assert!(tcp(&core, OUTSIDE, WEB, 80), "the namespace's profile allows");
    let core = with([
        tier("t", 1.0, "Deny"),
        gnp("a", pass("t")),
        gnp("b", json!({"selector": "all()", "ingress": [{"action": "Deny"}]})),
    ]);
    assert!(!tcp(&core, OUTSIDE, WEB, 80));
}

#[test]
fn order_is_number_then_name_and_none_is_last() {
    let spec = |order: Value, action: &str| json!({"selector": "all()", "order": order, "ingress": [{"action": action}]});
    let open = |first: Value, second: Value| {
        let core = with([gnp("a", spec(first, "Deny")), gnp("b", spec(second, "Allow"))]);
        tcp(&core, OUTSIDE, WEB, 80)
    };
    assert!(open(json!(2), json!(1)) && !open(json!(1), json!(2)));
    assert!(!open(json!(1), json!(1)) && !open(Value::Null, Value::Null));
    assert!(open(Value::Null, json!(1e12)));
    assert!(!open(json!(-1), json!(0)));
}

fn cnp(spec: Value) -> Update {
    let value = json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "c"}, "spec": spec});
    Update::ClusterNetworkPolicy(Key::cluster("c"), object(value))
}

#[test]
fn peers_of_cluster_policies_are_pods_only() {
    let set = json!({"metadata": {"name": "s", "namespace": "other"}, "spec": {"nets": ["192.0.2.0/24"]}});
    let core = with([
        Update::NetworkSet(Key::new("other", "s"), object(set)),
        cnp(
            json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}},
            "ingress": [{"action": "Deny", "from": [{"namespaces": {"matchLabels": {"team": "other"}}}]}]}),
        ),
    ]);
    assert!(!tcp(&core, FAR, WEB, 80), "a pod of the namespace");
    assert!(
        tcp(&core, OUTSIDE, WEB, 80),
        "a network set of the namespace is no pod"
    );
}

#[test]
fn a_cluster_policy_with_an_unknown_peer_fails_closed() {
    let rule = |action: &str| {
        cnp(
            json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}},
            "ingress": [{"action": action, "from": [{"moonPhase": "full"}]}]}),
        )
    };
    for action in ["Deny", "Pass"] {
        let core = with([rule(action)]);
        assert!(!tcp(&core, FAR, WEB, 80), "{action}");
        assert!(!core.problems().is_empty());
    }
    let core = with([rule("Accept"), knp("closed", json!({"podSelector": {}}))]);
    assert!(!tcp(&core, FAR, WEB, 80), "Accept matches nothing");
}

#[test]
fn the_older_admin_policies_come_before_and_after_the_others() {
    let rule = |action: &str| json!([{"action": action, "from": [{"namespaces": {"matchLabels": {"team": "other"}}}]}]);
    let subject = json!({"namespaces": {}});
    let admin = |action: &str| {
        let value = json!({"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy",
            "metadata": {"name": "a"}, "spec": {"priority": 5, "subject": subject, "ingress": rule(action)}});
        Update::AdminNetworkPolicy(Key::cluster("a"), object(value))
    };
    let baseline = json!({"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "BaselineAdminNetworkPolicy",
        "metadata": {"name": "default"}, "spec": {"subject": subject, "ingress": rule("Deny")}});
    let baseline = Update::BaselineAdminNetworkPolicy(Key::cluster("default"), object(baseline));
    let open = knp("open", json!({"podSelector": {}, "ingress": [{}]}));
    let core = with([admin("Deny"), open.clone()]);
    assert!(!tcp(&core, FAR, WEB, 80) && tcp(&core, OUTSIDE, WEB, 80));
    let core = with([admin("Pass"), open, baseline.clone()]);
    assert!(tcp(&core, FAR, WEB, 80), "the developers' policy decides");
    let core = with([admin("Pass"), baseline]);
    assert!(!tcp(&core, FAR, WEB, 80), "nobody else decided");
    let core = with([admin("Allow"), knp("closed", json!({"podSelector": {}}))]);
    assert!(tcp(&core, FAR, WEB, 80) && !tcp(&core, OUTSIDE, WEB, 80));
}

#[test]
fn port_rules_pass_no_icmp_and_zero_is_a_value() {
    let icmp = |type_, code| Packet {
        icmp: Some((type_, code)),
        ..packet(FAR, WEB, 1, 0)
    };
    let core = with([knp(
        "p",
        json!({"podSelector": {}, "ingress": [{"ports": [{"port": 8}]}]}),
    )]);
    assert!(!passes(&core, icmp(8, 0)));
    let core = with([np(
        "p",
        json!({"ingress": [{"action": "Allow", "protocol": "ICMP", "icmp": {"type": 0, "code": 0}}]}),
    )]);
    assert!(passes(&core, icmp(0, 0)) && !passes(&core, icmp(8, 0)) && !passes(&core, icmp(0, 1)));
}

#[test]
fn families_are_apart() {
    let core = with([
        pod("six", "shop", "n1", "fd00::9"),
        gnp(
            "g",
            json!({"selector": "all()", "ingress": [
            {"action": "Deny", "source": {"nets": ["0.0.0.0/0"]}}, {"action": "Allow"}]}),
        ),
    ]);
    assert!(!tcp(&core, OUTSIDE, WEB, 80));
    let v6 = TableKey {
        version: IpVersion::V6,
        name: TableName::Filter,
    };
    let name = caracal_api::names::chain_name("cali-pi-", "gnp/g");
    let rules = &core.desired().tables[&v6].chains[&name];
    assert!(rules.iter().all(|rule| rule.action != Action::Drop), "{rules:?}");
}

#[test]
fn a_pod_that_reaches_its_own_address_is_not_policed() {
    let core = with([knp(
        "p",
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
    )]);
    assert_eq!(core.trace(&packet(WEB, WEB, 6, 80)).verdict, Verdict::Allow);
}

// Time.

#[test]
fn a_pod_is_protected_before_it_has_an_address() {
    let mut value = pod_value("new", "shop", "n1", "");
    value["status"] = json!({});
    let core = with([Update::Pod(Key::new("shop", "new"), object(value))]);
    let interface = caracal_api::names::veth_name("shop", "new");
    let chains = &core.desired().tables[&filter()].chains;
    assert!(chains.contains_key(&format!("cali-tw-{interface}")));
    assert!(
        !core
            .desired()
            .endpoint_statuses
            .contains_key("k8s shop%2Fnew eth0")
    );
    assert_eq!(core.desired().routes.len(), 2);
}

#[test]
fn an_address_is_the_live_pods_whatever_the_order() {
    let mut done = pod_value("done", "shop", "n1", "10.0.0.9");
    done["status"]["phase"] = json!("Succeeded");
    let done = || Update::Pod(Key::new("shop", "done"), object(done.clone()));
    let live = || pod("live", "shop", "n1", "10.0.0.9");
    for updates in [[done(), live()], [live(), done()]] {
        let core = with(updates);
        let route = &core.desired().routes[&"10.0.0.9/32".parse().unwrap()];
        let interface = caracal_api::names::veth_name("shop", "live");
        assert_eq!(
            route.target,
            caracal_felix_core::desired::RouteTarget::Interface(interface)
        );
    }
}

#[test]
fn a_released_address_is_named_so_that_its_connections_go() {
    let mut core = with([]);
    core.on_update(Update::Pod(Key::new("shop", "web"), None));
    let dirty = core.flush();
    assert!(
        dirty.released_addresses.contains(&WEB.parse().unwrap()),
        "{dirty:?}"
    );
}

// Scale and bad input.

#[test]
fn nothing_changed_nothing_written_and_one_label_costs_one_label() {
    let mut core = with((0..50).map(|n| np(&format!("p{n}"), json!({"selector": format!("app == 'a{n}'")}))));
    core.on_update(pod("web", "shop", "n1", WEB));
    assert!(core.flush().is_empty());
    let mut value = pod_value("far", "other", "n2", FAR);
    value["metadata"]["labels"] = json!({"app": "a7"});
    core.on_update(Update::Pod(Key::new("other", "far"), object(value)));
    assert!(core.flush().is_empty(), "no set asks for it");
}

#[test]
fn what_is_not_understood_closes_what_it_selects_and_says_so() {
    let bad = [
        json!({"selector": "app =="}),
        json!({"selector": "all()", "ingress": [{"action": "Deny", "source": {"nets": ["10.0.0.0/99"]}}]}),
        json!({"selector": "all()", "ingress": [{"action": "Perhaps"}]}),
        json!({"selector": "all()", "ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": ["9:1"]}}]}),
        json!({"selector": "all()", "ingress": [{"action": "Allow", "source": {"selector": "a b"}}]}),
        json!({"selector": "all()", "ingress": [{"action": "Allow", "source": {"nets": ["10.0.0.0/8", "fd00::/8"]}}]}),
        json!({"selector": "all()", "serviceAccountSelector": "x ==", "ingress": [{"action": "Allow"}]}),
    ];
    for spec in bad {
        let core = with([np("bad", spec.clone())]);
        assert!(!tcp(&core, OUTSIDE, WEB, 80), "{spec}");
        let problem = core.problems().get("NetworkPolicy shop/bad");
        assert!(
            problem.is_some_and(|problem| !problem.is_empty()),
            "{spec}: {:?}",
            core.problems()
        );
    }
    let core = with([np("bad", json!({"selector": "app =="}))]);
    assert!(!tcp(&core, WEB, OUTSIDE, 80) || core.problems().len() == 1);
    // Mended, everything is open again and nothing is left to say.
    let mut core = core;
    core.on_update(np(
        "bad",
        json!({"selector": "app == 'db'", "ingress": [{"action": "Allow"}]}),
    ));
    core.flush();
    assert!(tcp(&core, OUTSIDE, WEB, 80) && core.problems().is_empty());
}

#[test]
fn sets_of_one_or_many_cidrs_double_nested_and_everything() {
    let set = |nets: Vec<String>| {
        let value = json!({"metadata": {"name": "s", "labels": {"set": "s"}}, "spec": {"nets": nets}});
        Update::GlobalNetworkSet(Key::cluster("s"), object(value))
    };
    let policy = gnp(
        "g",
        json!({"selector": "all()", "types": ["Ingress"], "ingress": [
        {"action": "Deny", "source": {"selector": "set == 's'"}}, {"action": "Allow"}]}),
    );
    let many: Vec<String> = (0..100_000u32)
        .map(|n| {
            format!(
                "{}.{}.{}.{}/32",
                100 + (n >> 24),
                n >> 16 & 255,
                n >> 8 & 255,
                n & 255
            )
        })
        .collect();
    let mut core = with([policy, set(many.clone())]);
    let members = |core: &Core| {
        let sets = core.desired().ip_sets.iter();
        let own = sets.filter(|(name, _)| name.starts_with("cali40s:"));
        own.map(|(_, set)| set.members.len()).sum::<usize>()
    };
    assert_eq!(members(&core), 100_000);
    assert!(!tcp(&core, "100.1.134.159", WEB, 80) && tcp(&core, "100.1.134.160", WEB, 80));
    let mut more = many;
    more.push("101.0.0.1/32".to_owned());
    core.on_update(set(more));
    let dirty = core.flush();
    let changes: Vec<&IpSetChange> = dirty.ip_sets.values().collect();
    assert!(
        matches!(changes.as_slice(), [IpSetChange::Members { added, removed }] if added.len() == 1 && removed.is_empty()),
        "one CIDR more is one member more"
    );
    let odd = ["10.9.0.0/16", "10.9.0.0/16", "10.9.1.0/24", "10.9.1.7"].map(str::to_owned);
    core.on_update(set(odd.to_vec()));
    core.flush();
    assert_eq!(members(&core), 3);
    core.on_update(set(vec!["0.0.0.0/0".to_owned()]));
    core.flush();
    assert_eq!(members(&core), 2, "the kernel refuses length 0: two halves");
    assert!(!tcp(&core, OUTSIDE, WEB, 80));
    core.on_update(set(vec!["10.9.0.0/16".to_owned(), "rubbish".to_owned()]));
    core.flush();
    assert_eq!(members(&core), 1);
    assert!(core.problems().keys().any(|name| name.contains("NetworkSet s")));
}

#[test]
fn selectors_of_nothing_and_of_everything() {
    let core = with([
        gnp(
            "none",
            json!({"selector": "app == 'nothing'", "ingress": [{"action": "Deny"}]}),
        ),
        gnp(
            "all",
            json!({"selector": "", "ingress": [{"action": "Allow", "source": {"selector": "all()"}}]}),
        ),
    ]);
    assert!(tcp(&core, FAR, WEB, 80) && !tcp(&core, OUTSIDE, WEB, 80));
    let chains = &core.desired().tables[&filter()].chains;
    let none = caracal_api::names::chain_name("cali-pi-", "gnp/none");
    assert!(
        !chains.contains_key(&none),
        "what applies to nobody is not programmed"
    );
}

#[test]
fn names_at_their_limits_stay_apart() {
    let long = "a".repeat(240);
    let (one, two) = (format!("{long}1"), format!("{long}2"));
    let deny = |port: u16| {
        json!({"selector": "all()", "order": 1, "ingress": [
        {"action": "Deny", "protocol": "TCP", "destination": {"ports": [port]}}]})
    };
    let core = with([
        gnp(&one, deny(1)),
        gnp(&two, deny(2)),
        gnp("z", json!({"ingress": [{"action": "Allow"}]})),
    ]);
    assert!(!tcp(&core, FAR, WEB, 1) && !tcp(&core, FAR, WEB, 2) && tcp(&core, FAR, WEB, 3));
    for table in core.desired().tables.values() {
        assert!(table.chains.keys().all(|name| name.len() <= 28));
    }
    assert!(core.desired().ip_sets.keys().all(|name| name.len() <= 31));
}

#[test]
fn a_thousand_policies_cost_few_rules() {
    for backend in [Backend::Iptables, Backend::Nftables] {
        let mut core = world();
        core.set_backend(backend);
        let policy = |n: u16| {
            knp(
                &format!("p{n}"),
                json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{
                "from": [{"ipBlock": {"cidr": format!("172.16.{}.{}/32", n / 256, n % 256)}}],
                "ports": [{"port": 1000 + n}]}]}),
            )
        };
        (0..1000).for_each(|n| core.on_update(policy(n)));
        core.flush();
        assert!(tcp(&core, "172.16.0.7", WEB, 1007) && !tcp(&core, "172.16.0.7", WEB, 1008));
        let chains = &core.desired().tables[&filter()].chains;
        let rules: usize = chains.values().map(Vec::len).sum();
        assert!(rules < 120, "{rules} rules for 1000 policies");
        core.on_update(policy(1000));
        let dirty = core.flush();
        let changed: BTreeSet<&String> = dirty.ip_sets.keys().collect();
        assert!(changed.len() <= 2, "one set for each family at most: {changed:?}");
        assert!(
            dirty
                .ip_sets
                .values()
                .all(|change| !matches!(change, IpSetChange::Removed))
        );
        let only_comments = dirty.chains.values().flatten().count();
        assert!(only_comments <= 2, "{:?}", dirty.chains);
        assert!(tcp(&core, "172.16.3.232", WEB, 2000));
        core.on_update(knp("p7", json!({"podSelector": {"matchLabels": {"app": "db"}}})));
        core.flush();
        assert!(!tcp(&core, "172.16.0.7", WEB, 1007));
    }
}

// Host endpoints.

fn on_host(core: &Core, received: bool, packet: Packet) -> (bool, u32) {
    let mut flight = if received {
        Flight::new(packet, Some("eth0"), None)
    } else {
        Flight::new(packet, None, Some("eth0"))
    };
    let outcome = if received {
        interpret::received(core.desired(), &mut flight)
    } else {
        interpret::sent(core.desired(), &mut flight)
    };
    (outcome != Outcome::Dropped, flight.mark)
}

#[test]
fn a_host_endpoint_denies_all_but_failsafe_ports_until_a_policy_allows() {
    for spec in [
        json!({"node": "n1", "interfaceName": "eth0"}),
        json!({"node": "n1", "interfaceName": "*"}),
        json!({"node": "n1", "expectedIPs": ["203.0.113.1"]}),
    ] {
        let addresses = Update::HostInterface("eth0".to_owned(), Some(vec!["203.0.113.1".parse().unwrap()]));
        let mut core = with([addresses, hep("h", spec.clone())]);
        let to = |port| packet(OUTSIDE, "203.0.113.1", 6, port);
        let from = |port| packet("203.0.113.1", OUTSIDE, 6, port);
        assert!(
            !on_host(&core, true, to(80)).0 && !on_host(&core, false, from(80)).0,
            "{spec}"
        );
        assert!(
            on_host(&core, true, to(22)).0 && on_host(&core, false, from(6443)).0,
            "{spec}"
        );
        assert!(
            tcp(&core, OUTSIDE, WEB, 80),
            "forwarded packets are none of its business: {spec}"
        );
        core.on_update(gnp(
            "g",
            json!({"selector": "has(host)", "types": ["Ingress", "Egress"],
            "ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": [80]}}]}),
        ));
        core.flush();
        assert!(
            on_host(&core, true, to(80)).0 && !on_host(&core, true, to(81)).0,
            "{spec}"
        );
        let item = Item::Host(Key::cluster("h"));
        let asked = |port| core.evaluate(&item, Direction::Ingress, Place::Own, &to(port));
        assert_eq!(asked(80).verdict, Verdict::Allow);
        assert_eq!(
            asked(81).reason,
            Reason::EndOfTier {
                tier: "default".to_owned()
            }
        );
        assert_eq!(asked(22).reason, Reason::Failsafe);
    }
    let core = with([hep("h", json!({"node": "n1", "expectedIPs": ["203.0.113.9"]}))]);
    assert!(
        on_host(&core, true, packet(OUTSIDE, "203.0.113.1", 6, 80)).0,
        "no interface has its address"
    );
    let core = with([hep("h", json!({"node": "n2", "interfaceName": "*"}))]);
    assert!(
        on_host(&core, true, packet(OUTSIDE, "203.0.113.1", 6, 80)).0,
        "another node's"
    );
}

#[test]
fn forwarded_packets_meet_policies_that_ask_for_them() {
    let star = || {
        hep(
            "h",
            json!({"node": "n1", "interfaceName": "*", "profiles": ["projectcalico-default-allow"]}),
        )
    };
    let core = with([
        star(),
        gnp(
            "f",
            json!({"selector": "has(host)", "applyOnForward": true, "types": ["Ingress"],
            "ingress": [{"action": "Deny", "source": {"nets": ["192.0.2.0/24"]}}, {"action": "Allow"}]}),
        ),
    ]);
    let through = |core: &Core, source: &str| {
        let packet = packet(source, WEB, 6, 80);
        let mut flight = Flight::new(packet, Some("eth0"), Some(&interface(packet.destination)));
        interpret::forwarded(core.desired(), &mut flight) != Outcome::Dropped
    };
    assert!(!through(&core, OUTSIDE) && through(&core, "198.51.100.1"));
    let workload = packet(DB, WEB, 6, 80);
    let mut flight = Flight::new(
        workload,
        Some(&interface(workload.source)),
        Some(&interface(workload.destination)),
    );
    assert_ne!(
        interpret::forwarded(core.desired(), &mut flight),
        Outcome::Dropped,
        "not the host's interface"
    );
    let core = with([
        star(),
        gnp("f", json!({"selector": "has(host)", "types": ["Ingress"]})),
    ]);
    assert!(
        through(&core, OUTSIDE),
        "a policy without applyOnForward has no say"
    );
}

#[test]
fn untracked_and_pre_translation_policies_come_first_and_leave_the_rest_alone() {
    let star = || hep("h", json!({"node": "n1", "interfaceName": "eth0"}));
    let core = with([
        star(),
        gnp(
            "u",
            json!({"selector": "has(host)", "doNotTrack": true, "applyOnForward": true, "types": ["Ingress", "Egress"],
            "ingress": [{"action": "Allow", "protocol": "UDP", "destination": {"ports": [53]}},
                {"action": "Deny", "source": {"nets": ["192.0.2.0/24"]}}]}),
        ),
        gnp(
            "d",
            json!({"selector": "has(host)", "preDNAT": true, "applyOnForward": true, "types": ["Ingress"],
            "ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": [8443]}}]}),
        ),
    ]);
    let to = |source, protocol, port| packet(source, "203.0.113.1", protocol, port);
    let mut flight = Flight::new(to("198.51.100.1", 17, 53), Some("eth0"), None);
    assert_ne!(interpret::received(core.desired(), &mut flight), Outcome::Dropped);
    assert!(
        flight.is_untracked,
        "what an untracked policy allows is not tracked"
    );
    assert!(
        !on_host(&core, true, to(OUTSIDE, 6, 8443)).0,
        "denied before tracking"
    );
    assert!(
        on_host(&core, true, to("198.51.100.1", 6, 8443)).0,
        "allowed before translation"
    );
    assert!(
        !on_host(&core, true, to("198.51.100.1", 6, 8444)).0,
        "no end of tier there, but the endpoint's own"
    );
    assert!(
        on_host(&core, true, to(OUTSIDE, 6, 22)).0,
        "failsafe ports come before all"
    );
}

#[test]
fn workloads_reach_their_host_as_configured_and_send_no_tunnels() {
    let from_pod = |core: &Core, protocol, port| {
        let packet = packet(WEB, "203.0.113.1", protocol, port);
        let mut flight = Flight::new(packet, Some(&interface(packet.source)), None);
        interpret::received(core.desired(), &mut flight) != Outcome::Dropped
    };
    let core = with([]);
    assert!(!from_pod(&core, 6, 80), "Drop by default");
    let value = json!({"metadata": {"name": "default"}, "spec": {"defaultEndpointToHostAction": "Accept"}});
    let core = with([Update::FelixConfiguration(Key::cluster("default"), object(value))]);
    assert!(from_pod(&core, 6, 80));
    assert!(!from_pod(&core, 17, 4789) && !from_pod(&core, 4, 0));
    assert!(!passes(&core, packet(WEB, OUTSIDE, 17, 4789)));
}

#[test]
fn neighbour_discovery_works_under_every_policy() {
    let core = with([
        pod("six", "shop", "n1", "fd00::9"),
        hep("h", json!({"node": "n1", "interfaceName": "eth0"})),
        gnp(
            "closed",
            json!({"selector": "all()", "types": ["Ingress", "Egress"]}),
        ),
    ]);
    let solicit = Packet {
        icmp: Some((135, 0)),
        ..packet("fd00::9", "fe80::1", 58, 0)
    };
    for came_in in [caracal_api::names::veth_name("shop", "six"), "eth0".to_owned()] {
        let mut flight = Flight::new(solicit, Some(&came_in), None);
        let outcome = interpret::received(core.desired(), &mut flight);
        assert_ne!(outcome, Outcome::Dropped, "{came_in}");
    }
}

#[test]
fn spoofed_and_unknown_sources_are_dropped() {
    let core = with([]);
    let mut flight = Flight::new(
        packet(OUTSIDE, DB, 6, 80),
        Some(&interface(WEB.parse().unwrap())),
        Some("eth0"),
    );
    flight.is_reverse_path_wrong = true;
    assert_eq!(
        interpret::forwarded(core.desired(), &mut flight),
        Outcome::Dropped
    );
    let mut flight = Flight::new(packet(OUTSIDE, DB, 6, 80), Some("caliunknown"), Some("eth0"));
    assert_eq!(
        interpret::forwarded(core.desired(), &mut flight),
        Outcome::Dropped
    );
}

#[test]
fn no_rule_lists_more_ports_than_fit_and_maps_are_used_where_there_are_maps() {
    let mut core = world();
    core.set_backend(Backend::Nftables);
    core.on_update(np(
        "p",
        json!({"ingress": [
        {"action": "Allow", "protocol": "TCP", "destination": {"ports": [1, 3, 5]}},
        {"action": "Allow", "protocol": "UDP", "destination": {"ports": [5, 3, 1]}}]}),
    ));
    core.flush();
    assert_eq!(core.desired().port_sets.len(), 1, "same content, same set");
    let table = &core.desired().tables[&filter()];
    assert_eq!(table.maps["cali-to-wl-dispatch"].len(), 2);
    assert!(
        table.chains["cali-to-wl-dispatch"]
            .iter()
            .any(|rule| matches!(rule.action, Action::Dispatch { .. }))
    );
    core.set_backend(Backend::Iptables);
    let dirty = core.flush();
    assert!(core.desired().port_sets.is_empty() && !dirty.chains.is_empty());
    let rules = core
        .desired()
        .tables
        .values()
        .flat_map(|table| table.chains.values().flatten());
    for rule in rules {
        assert!(!matches!(rule.action, Action::Dispatch { .. }));
        for criterion in &rule.matches {
            assert!(!matches!(criterion, Match::Ports { ports, .. } if ports.len() > 15));
        }
    }
}

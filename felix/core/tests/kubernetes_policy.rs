//! Kubernetes NetworkPolicy on one node: what is programmed, whatever the order in which objects arrive.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::collections::BTreeSet;

use caracal_felix_core::desired::{Desired, IpVersion, TableKey, TableName};
use caracal_felix_core::rules::{Action, Match};
use caracal_felix_core::update::Key;
use caracal_felix_core::{Core, Options, Update, render};
use proptest::prelude::*;
use serde_json::{Value, json};

fn object<T: serde::de::DeserializeOwned>(value: Value) -> Option<Box<T>> {
    Some(Box::new(serde_json::from_value(value).unwrap()))
}

fn pod(name: &str, node: &str, ip: &str, app: &str) -> Update {
    let value = json!({
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}},
        "spec": {"nodeName": node, "serviceAccountName": "default", "containers": [
            {"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"podIP": ip, "podIPs": [{"ip": ip}]},
    });
    Update::Pod(Key::new("shop", name), object(value))
}

fn policy(name: &str, spec: Value) -> Update {
    let value = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    Update::KubernetesNetworkPolicy(Key::new("shop", name), object(value))
}

fn objects() -> Vec<Update> {
    vec![
        Update::Namespace(
            Key::cluster("shop"),
            object(json!({"metadata": {"name": "shop", "labels": {"team": "red"}}})),
        ),
        pod("web", "n1", "10.244.0.2", "web"),
        pod("client", "n2", "10.244.1.2", "client"),
        pod("store", "n1", "10.244.0.3", "store"),
        policy(
            "web-in",
            json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": "http"}, {"port": 80}]},
            {"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.1/32", "192.0.2.9/32"]}}]}]}),
        ),
        policy(
            "closed",
            json!({"podSelector": {"matchLabels": {"app": "store"}}, "policyTypes": ["Ingress", "Egress"]}),
        ),
        policy(
            "elsewhere",
            json!({"podSelector": {"matchLabels": {"app": "client"}}}),
        ),
    ]
}

fn core() -> Core {
    let mut core = Core::new(Options {
        node: "n1".to_owned(),
        ..Options::default()
    });
    core.on_in_sync();
    core
}

fn desired_of(updates: impl IntoIterator<Item = Update>) -> Desired {
    let mut core = core();
    for update in updates {
        core.on_update(update);
    }
    core.flush();
    core.desired().clone()
}

/// Every set and chain that a rule names is there.
fn assert_complete(desired: &Desired) {
    for (key, table) in &desired.tables {
        let kernel = table
            .kernel_chains
            .values()
            .flat_map(|c| c.inserted.iter().chain(&c.appended));
        for rule in table.chains.values().flatten().chain(kernel) {
            if let Some(chain) = rule.action.target_chain() {
                assert!(table.chains.contains_key(chain), "{key:?}: no chain {chain}");
            }
            for criterion in &rule.matches {
                if let Match::Set { set, .. } = criterion {
                    assert!(desired.ip_sets.contains_key(set), "{key:?}: no set {set}");
                }
            }
        }
        assert!(table.chains.keys().all(|name| name.len() <= 28));
    }
    assert!(desired.ip_sets.keys().all(|name| name.len() <= 31));
}

fn filter() -> TableKey {
    TableKey {
        version: IpVersion::V4,
        name: TableName::Filter,
    }
}

#[test]
fn only_policies_that_select_local_pods_are_programmed() {
    let desired = desired_of(objects());
    assert_complete(&desired);
    let table = &desired.tables[&filter()];
    let policies: BTreeSet<&String> = table.chains.keys().filter(|n| n.starts_with("cali-p")).collect();
    assert!(
        policies.contains(&"cali-pi-knp/shop/web-in".to_owned()),
        "{policies:?}"
    );
    assert!(
        policies.contains(&"cali-po-knp/shop/closed".to_owned()),
        "{policies:?}"
    );
    assert!(
        !policies.iter().any(|name| name.contains("elsewhere")),
        "{policies:?}"
    );
    let members = |prefix: &str| -> Vec<String> {
        let sets = desired
            .ip_sets
            .iter()
            .filter(|(name, _)| name.starts_with(prefix));
        sets.flat_map(|(_, set)| set.members.iter().map(ToString::to_string))
            .collect()
    };
    assert_eq!(members("cali40s:"), ["10.244.1.2"]);
    let mut ports = members("cali40n:");
    ports.sort();
    assert_eq!(
        ports,
        [
            "10.244.0.2,tcp:8080",
            "10.244.0.3,tcp:8080",
            "10.244.1.2,tcp:8080"
        ]
    );
    assert_eq!(desired.routes.len(), 2);
    assert!(desired.endpoint_statuses.contains_key("k8s shop%2Fweb eth0"));
    let dispatch = &table.chains["cali-to-wl-dispatch"];
    assert_eq!(dispatch.last().map(|rule| &rule.action), Some(&Action::Drop));
}

#[test]
fn what_cannot_be_read_closes() {
    let mut core = core();
    objects().into_iter().for_each(|update| core.on_update(update));
    core.on_update(policy(
        "bad",
        json!({"podSelector": {}, "ingress": [
        {"from": [{"ipBlock": {"cidr": "nonsense"}}]}]}),
    ));
    core.flush();
    let table = &core.desired().tables[&filter()];
    assert_eq!(table.chains["cali-pi-knp/shop/bad"], Vec::new());
    assert!(
        core.problems().keys().any(|name| name.ends_with("shop/bad")),
        "{:?}",
        core.problems()
    );
    let value = json!({"metadata": {"name": "s", "namespace": "shop"}, "spec": {"selector": "a ==", "types": ["Ingress"]}});
    core.on_update(Update::NetworkPolicy(Key::new("shop", "s"), object(value)));
    core.flush();
    let rules = &core.desired().tables[&filter()].chains["cali-pi-np/shop/s"];
    assert!(rules.iter().any(|rule| rule.action == Action::Drop), "{rules:?}");
}

#[test]
fn nothing_comes_out_before_everything_went_in_and_nothing_twice() {
    let mut early = Core::new(Options::default());
    objects().into_iter().for_each(|update| early.on_update(update));
    assert!(early.flush().is_empty());
    let mut core = core();
    objects().into_iter().for_each(|update| core.on_update(update));
    assert!(!core.flush().is_empty());
    assert!(core.flush().is_empty());
    objects().into_iter().for_each(|update| core.on_update(update));
    assert!(core.flush().is_empty());
    core.on_update(Update::Pod(Key::new("shop", "client"), None));
    let dirty = core.flush();
    assert!(dirty.chains.is_empty() && dirty.routes.is_empty(), "{dirty:?}");
    assert!(!dirty.ip_sets.is_empty());
}

#[test]
fn the_text_of_a_policy_chain() {
    let desired = desired_of(objects());
    let name = "cali-pi-knp/shop/web-in";
    let rules = &desired.tables[&filter()].chains[name];
    let text: Vec<String> =
        render::iptables::chain(name, rules, IpVersion::V4, render::iptables::Features::default())
            .into_iter()
            .map(|rule| rule.text)
            .collect();
    let joined = text.join("\n");
    for part in [
        "-p tcp -m multiport --destination-ports 80 --jump MARK --set-mark 0x100000/0x100000",
        "--source 192.0.2.0/24",
        "--source 192.0.2.9/32 --jump MARK --set-mark 0/0x80000",
        "--jump MARK --set-mark 0x10000/0x10000",
    ] {
        assert!(joined.contains(part), "{part} is not in\n{joined}");
    }
}

fn absent(update: &Update) -> Update {
    match update {
        Update::Pod(key, _) => Update::Pod(key.clone(), None),
        Update::Namespace(key, _) => Update::Namespace(key.clone(), None),
        Update::KubernetesNetworkPolicy(key, _) => Update::KubernetesNetworkPolicy(key.clone(), None),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Any history that ends in the same objects gives the same result as these objects alone, and each flush on the
    /// way is complete in itself.
    #[test]
    fn history_does_not_show(
        steps in prop::collection::vec((0usize..7, any::<bool>(), any::<bool>()), 0..40),
        order in Just((0usize..7).collect::<Vec<_>>()).prop_shuffle(),
        kept in prop::collection::vec(any::<bool>(), 7),
    ) {
        let all = objects();
        let mut incremental = core();
        for (index, is_present, is_flushed) in steps {
            let update = if is_present { all[index].clone() } else { absent(&all[index]) };
            incremental.on_update(update);
            if is_flushed {
                incremental.flush();
                assert_complete(incremental.desired());
            }
        }
        for index in order {
            let update = if kept[index] { all[index].clone() } else { absent(&all[index]) };
            incremental.on_update(update);
        }
        incremental.flush();
        let scratch = desired_of(all.into_iter().enumerate().filter(|(i, _)| kept[*i]).map(|(_, u)| u));
        assert_complete(&scratch);
        prop_assert_eq!(incremental.desired(), &scratch);
    }
}

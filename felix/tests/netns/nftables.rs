//! The nftables backend against the real kernel: packets, counters, what heals, and the change from one backend to the
//! other.

use std::time::{Duration, Instant};

use caracal_felix_core::Update;
use caracal_felix_core::desired::Backend;
use caracal_felix_core::update::Key;
use serde_json::json;

use crate::dataplane::{Node, filter_kind, object, only_client};
use crate::machine::{Server, connects, in_node, text};

/// The table without counters and handles.
fn listed() -> String {
    text(
        "(nft list table ip calico; nft list table ip6 calico) | sed 's/counter packets [0-9]* bytes [0-9]*/counter/'",
    )
}

fn counted() -> String {
    text("nft list table ip calico | grep -o 'counter packets [1-9].*'")
}

#[test]
fn packets_go_where_policy_says_and_a_second_start_writes_nothing() {
    in_node(|| async {
        let mut node = Node::with_backend("nftables").await;
        let _server = Server::start(&node.web, 80);
        node.settle().await;
        assert_eq!(node.reaches_web(), (true, true), "without a policy\n{}", listed());
        node.update(only_client()).await;
        assert_eq!(node.reaches_web(), (true, false), "with a policy\n{}", listed());
        assert_eq!(node.metrics.nft_errors.get(), 0);
        let table = listed();
        assert!(
            table.contains("knp/shop/web") && table.contains("vmap @filter-cali-to-wl-dispatch"),
            "{table}"
        );
        assert_eq!(text("iptables-save | grep -c cali || true").trim(), "0");
        assert_eq!(text("ipset list -n"), "");

        // Nothing changed: nothing is read, nothing is written.
        let (calls, messages) = (node.metrics.nft_calls.get(), node.metrics.nft_messages.get());
        for _ in 0..3 {
            node.check().await;
        }
        assert_eq!(node.metrics.nft_calls.get(), calls, "rounds of a quiet node");

        // A second felix finds everything as it should be, and its counters with it.
        let before = counted();
        let (mut second, metrics) = Node::dataplane(&node.core, "nftables").await;
        std::mem::swap(&mut second, &mut node.dataplane);
        node.settle().await;
        assert_eq!(metrics.nft_messages.get(), 0, "{table}\n{}", listed());
        assert_eq!((listed(), counted()), (table, before));
        assert_eq!(node.metrics.nft_messages.get(), messages);

        // A policy that goes takes its chains and sets with it.
        node.update(Update::KubernetesNetworkPolicy(Key::new("shop", "web"), None))
            .await;
        assert_eq!(node.reaches_web(), (true, true));
        let table = listed();
        assert!(
            !table.contains("knp/shop/web") && !table.contains("set cali40s-"),
            "{table}"
        );
        node.update(Update::Pod(Key::new("shop", "client"), None)).await;
        assert!(!listed().contains(&node.client.interface), "{}", listed());
        assert!(!connects(&node.stranger, &node.client, 80));
    });
}

#[test]
fn rules_that_stay_keep_their_counters() {
    in_node(|| async {
        let mut node = Node::with_backend("nftables").await;
        let _server = Server::start(&node.web, 80);
        node.update(only_client()).await;
        assert_eq!(node.reaches_web(), (true, false));
        let interface = node.web.interface.clone();
        let denied = || {
            let chain = format!("nft list chain ip calico filter-cali-tw-{interface}");
            text(&format!(
                "{chain} | grep 'End of tier default' | grep -o 'packets [0-9]*'"
            ))
        };
        let before = denied();
        assert_ne!(before.trim(), "packets 0");
        let value = json!({"metadata": {"name": "more", "namespace": "shop"}, "spec": {
            "podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": [{"port": 81}]}]}});
        let policy = Update::KubernetesNetworkPolicy(Key::new("shop", "more"), object(value));
        node.core.on_update(policy);
        let dirty = node.core.flush();
        node.dataplane.mark(node.core.desired(), &dirty);
        node.settle().await;
        assert_eq!(denied(), before, "{}", listed());
        assert_eq!(node.reaches_web(), (true, false));
    });
}

#[test]
fn four_hundred_policies_of_one_pod_are_a_few_rules_in_one_transaction() {
    in_node(|| async {
        let mut node = Node::with_backend("nftables").await;
        let _server = Server::start(&node.web, 80);
        node.settle().await;
        let rules = || {
            let count = text("nft list table ip calico | grep -c 'comment \"cali:'");
            count.trim().parse::<usize>().unwrap()
        };
        let (before, calls) = (rules(), node.metrics.nft_calls.get());
        for number in 0..400 {
            let from = if number == 123 {
                "client".to_owned()
            } else {
                format!("app-{number}")
            };
            let name = format!("policy-{number}");
            let value = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {
                "podSelector": {"matchLabels": {"app": "web"}},
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": from}}}],
                             "ports": [{"port": 80 + number % 7}, {"port": 80}, {"port": 443}]}]}});
            let key = Key::new("shop", name);
            node.core
                .on_update(Update::KubernetesNetworkPolicy(key, object(value)));
        }
        let dirty = node.core.flush();
        node.dataplane.mark(node.core.desired(), &dirty);
        node.settle().await;
        assert_eq!(node.reaches_web(), (true, false));
        assert!(rules() < before + 40, "{before} rules became {}", rules());
        // One round for each family.
        assert_eq!(node.metrics.nft_calls.get(), calls + 2);
        assert!(
            !text("nft list table ip calico").contains("dport { "),
            "a set of one rule alone"
        );
    });
}

#[test]
fn what_others_break_heals_and_what_is_theirs_stays() {
    in_node(|| async {
        text(
            "nft add table ip other; nft add chain ip other c; nft add rule ip other c ip saddr 192.0.2.1 drop",
        );
        text("nft add set ip other s '{type ipv4_addr;}'; nft add element ip other s '{192.0.2.3}'");
        let others = || text("nft list table ip other");
        let theirs = others();
        let mut node = Node::with_backend("nftables").await;
        let _server = Server::start(&node.web, 80);
        node.update(only_client()).await;
        node.check().await;
        let right = listed();
        let set = text("nft list sets table ip calico | grep -o 'cali40s-[^ ]*'")
            .trim()
            .to_owned();
        let map = "filter-cali-to-wl-dispatch";
        let breakages = [
            "nft flush chain ip calico filter-cali-FORWARD".to_owned(),
            "nft delete table ip calico".to_owned(),
            "nft flush ruleset ip6".to_owned(),
            format!("nft flush set ip calico {set}"),
            format!("nft delete element ip calico {set} '{{ 10.65.0.3 }}'"),
            format!("nft add element ip calico {set} '{{ 192.0.2.7 }}'"),
            format!("nft flush map ip calico {map}"),
            "nft insert rule ip calico filter-FORWARD accept".to_owned(),
            "nft add rule ip calico raw-PREROUTING counter drop".to_owned(),
            "nft add chain ip calico filter-cali-left; nft add rule ip calico filter-cali-left drop"
                .to_owned(),
            "nft add set ip calico left '{type ipv4_addr;}'".to_owned(),
            "nft delete table ip calico; nft add table ip calico; \
             nft add set ip calico cali40network-ip-pools '{type ipv4_addr;}'"
                .to_owned(),
        ];
        for breakage in breakages {
            text(&breakage);
            node.check().await;
            assert_eq!(listed(), right, "{breakage}");
        }
        assert_eq!(node.reaches_web(), (true, false));
        assert_eq!(others(), theirs);
    });
}

#[test]
fn one_backend_follows_the_other_and_leaves_nothing() {
    in_node(|| async {
        let mut node = Node::with_backend("NFT").await;
        let _server = Server::start(&node.web, 80);
        node.update(only_client()).await;
        assert_eq!(node.reaches_web(), (true, false));
        let ours = || {
            let rules =
                text("(iptables-nft-save; ip6tables-nft-save; iptables-legacy-save) | grep -c cali || true");
            let sets = text("ipset list -n | wc -l");
            let tables = text("nft list tables | grep -c ' calico$' || true");
            [rules, sets, tables].map(|count| count.trim().parse::<u32>().unwrap() > 0)
        };
        assert_eq!(ours(), [true, true, false]);
        for (name, backend, left) in [
            ("nftables", Backend::Nftables, [false, false, true]),
            ("Legacy", Backend::Iptables, [true, true, false]),
            ("nftables", Backend::Nftables, [false, false, true]),
            ("NFT", Backend::Iptables, [true, true, false]),
        ] {
            node.core.set_backend(backend);
            let dirty = node.core.flush();
            node.dataplane
                .set_filter(filter_kind(name).await, node.core.desired())
                .unwrap();
            node.dataplane.mark(node.core.desired(), &dirty);
            node.settle().await;
            assert_eq!(node.reaches_web(), (true, false), "{name}");
            assert_eq!(ours(), left, "{name}");
        }
    });
}

#[test]
fn no_packet_is_lost_or_let_through_while_the_backend_changes() {
    in_node(|| async {
        let mut node = Node::with_backend("NFT").await;
        let _server = Server::start(&node.web, 80);
        node.update(only_client()).await;
        assert_eq!(node.reaches_web(), (true, false));
        let ping = |args: &str| format!("ping -q -i 0.01 {args} 10.65.0.2");
        let value = json!({"metadata": {"name": "ping", "namespace": "shop"}, "spec": {
            "order": 1, "selector": "app == 'web'", "types": ["Ingress"], "ingress": [
            {"action": "Allow", "protocol": "ICMP", "source": {"selector": "app == 'client'"}}]}});
        node.update(Update::NetworkPolicy(Key::new("shop", "ping"), object(value)))
            .await;
        let started = |pod: &caracal_linux::netns::NetNs, count: u32| {
            pod.spawn(
                std::process::Command::new("sh")
                    .args(["-c", &ping(&format!("-W 10 -c {count}"))])
                    .stdout(std::process::Stdio::piped()),
            )
            .unwrap()
        };
        let (mut allowed, mut denied) = (
            started(&node.client.netns, 400),
            started(&node.stranger.netns, 400),
        );
        let until = Instant::now() + Duration::from_secs(4);
        for (name, backend) in [("nftables", Backend::Nftables), ("NFT", Backend::Iptables)]
            .into_iter()
            .cycle()
        {
            if Instant::now() > until {
                break;
            }
            node.core.set_backend(backend);
            let dirty = node.core.flush();
            node.dataplane
                .set_filter(filter_kind(name).await, node.core.desired())
                .unwrap();
            node.dataplane.mark(node.core.desired(), &dirty);
            node.settle().await;
            assert!(node.dataplane.is_programmed());
        }
        let output = |child: &mut std::process::Child| {
            let mut text = String::new();
            std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut text).unwrap();
            child.wait().unwrap();
            text
        };
        let (allowed, denied) = (output(&mut allowed), output(&mut denied));
        assert!(allowed.contains(" 0% packet loss"), "{allowed}");
        assert!(denied.contains(" 0 received"), "{denied}");
    });
}

//! The kernel side alone: a calculation fed by hand, rounds made by hand.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use caracal_daemon::metrics::Registry;
use caracal_felix::dataplane::Dataplane;
use caracal_felix::exec::SystemRunner;
use caracal_felix::features::{self, FilterKind};
use caracal_felix::metrics::Metrics;
use caracal_felix_core::desired::Backend;
use caracal_felix_core::update::Key;
use caracal_felix_core::{Core, Options, Update};
use serde_json::{Value, json};

use crate::machine::{Pod, Server, connects, in_node, plug, run, sh, text};

const NODE: &str = "node-1";

pub(crate) fn object<T: serde::de::DeserializeOwned>(value: Value) -> Option<Box<T>> {
    Some(Box::new(serde_json::from_value(value).unwrap()))
}

pub(crate) fn pod(name: &str, pod: &Pod) -> Update {
    let ip = pod.address.to_string();
    let value = json!({
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
        "spec": {"nodeName": NODE, "serviceAccountName": "default", "containers": [{"name": "c"}]},
        "status": {"podIP": ip, "podIPs": [{"ip": ip}]},
    });
    Update::Pod(Key::new("shop", name), object(value))
}

pub(crate) fn only_client() -> Update {
    let value = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {
        "podSelector": {"matchLabels": {"app": "web"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": 80}]}]}});
    Update::KubernetesNetworkPolicy(Key::new("shop", "web"), object(value))
}

/// A node with felix's kernel side and three pods.
pub(crate) struct Node {
    pub(crate) core: Core,
    pub(crate) dataplane: Dataplane<SystemRunner>,
    pub(crate) metrics: Metrics,
    pub(crate) web: Pod,
    pub(crate) client: Pod,
    pub(crate) stranger: Pod,
    status: tempfile::TempDir,
}

impl Node {
    async fn new() -> Self {
        Self::with_backend("NFT").await
    }

    pub(crate) async fn with_backend(backend: &str) -> Self {
        let (web, client, stranger) = (
            plug("shop", "web", "10.65.0.2").await,
            plug("shop", "client", "10.65.0.3").await,
            plug("shop", "stranger", "10.65.0.4").await,
        );
        let status = tempfile::tempdir().unwrap();
        let core = Self::core(
            &status,
            [("web", &web), ("client", &client), ("stranger", &stranger)],
            backend,
        );
        let (dataplane, metrics) = Self::dataplane(&core, backend).await;
        Self {
            core,
            dataplane,
            metrics,
            web,
            client,
            stranger,
            status,
        }
    }

    fn core(status: &tempfile::TempDir, pods: [(&str, &Pod); 3], backend: &str) -> Core {
        let prefix = status.path().to_str().unwrap().to_owned();
        let mut core = Core::new(Options {
            node: NODE.to_owned(),
            parameters: vec![BTreeMap::from([("EndpointStatusPathPrefix".to_owned(), prefix)])],
        });
        core.on_update(Update::Namespace(
            Key::cluster("shop"),
            object(json!({"metadata": {"name": "shop"}})),
        ));
        for (name, made) in pods {
            core.on_update(pod(name, made));
        }
        core.on_in_sync();
        core.set_backend(backend_of(backend));
        core.flush();
        assert_eq!(core.problems(), &BTreeMap::new());
        core
    }

    pub(crate) async fn dataplane(core: &Core, backend: &str) -> (Dataplane<SystemRunner>, Metrics) {
        features::check_kernel().unwrap();
        let metrics = Metrics::new(&Registry::new("felix").unwrap()).unwrap();
        let kind = filter_kind(backend).await;
        let mut dataplane = Dataplane::new(SystemRunner, kind, core, metrics.clone()).unwrap();
        // Whatever the flush said, everything is new to this process.
        let mut fresh = core_difference(core);
        fresh.sysctls = true;
        dataplane.mark(core.desired(), &fresh);
        (dataplane, metrics)
    }

    pub(crate) async fn update(&mut self, update: Update) {
        self.core.on_update(update);
        let dirty = self.core.flush();
        self.dataplane.mark(self.core.desired(), &dirty);
        self.settle().await;
    }

    /// Makes rounds until nothing is due.
    pub(crate) async fn settle(&mut self) {
        let limit = Instant::now() + Duration::from_secs(10);
        loop {
            self.dataplane.apply(&self.core).await;
            let now = Instant::now();
            match self.dataplane.next(now) {
                // Beyond this only grace periods are waited for.
                Some(at) if at < now + Duration::from_secs(5) => {
                    tokio::time::sleep_until(at.into()).await;
                }
                _ => break,
            }
            assert!(Instant::now() < limit, "rounds do not come to an end");
        }
        assert!(self.dataplane.is_programmed());
    }

    pub(crate) async fn check(&mut self) {
        self.dataplane.check(&self.core, Instant::now());
        self.settle().await;
    }

    pub(crate) fn reaches_web(&self) -> (bool, bool) {
        (
            connects(&self.client, &self.web, 80),
            connects(&self.stranger, &self.web, 80),
        )
    }
}

fn backend_of(name: &str) -> Backend {
    match name {
        "nftables" => Backend::Nftables,
        _ => Backend::Iptables,
    }
}

/// What is meant by `nftables`, or by a value of iptablesBackend.
pub(crate) async fn filter_kind(backend: &str) -> FilterKind {
    if backend_of(backend) == Backend::Nftables {
        return FilterKind::Nftables { has_v6: true };
    }
    let programs = features::find_programs(&SystemRunner, Some(backend), true)
        .await
        .unwrap();
    assert!(programs.v6.is_some(), "ip6tables is needed");
    FilterKind::Iptables(programs)
}

/// All that a first flush would name.
fn core_difference(core: &Core) -> caracal_felix_core::Dirty {
    use caracal_felix_core::desired::IpSetChange;
    let desired = core.desired();
    caracal_felix_core::Dirty {
        ip_sets: desired
            .ip_sets
            .keys()
            .map(|name| (name.clone(), IpSetChange::Replaced))
            .collect(),
        routes: desired.routes.keys().copied().collect(),
        interfaces: desired.interfaces.keys().cloned().collect(),
        configuration: true,
        ..caracal_felix_core::Dirty::default()
    }
}

fn saved() -> String {
    // Without counters and times.
    text("(iptables-save; ip6tables-save) | grep -v '^#' | sed 's/\\[[0-9]*:[0-9]*\\]//'")
}

#[test]
fn packets_go_where_policy_says_and_nothing_is_written_twice() {
    in_node(|| async {
        let mut node = Node::new().await;
        let _server = Server::start(&node.web, 80);
        node.settle().await;
        assert_eq!(node.reaches_web(), (true, true), "without a policy\n{}", saved());
        assert_eq!(text("cat /proc/sys/net/ipv4/ip_forward").trim(), "1");
        let routes = text("ip route show table main");
        let route = format!(
            "10.65.0.2 dev {} proto 80 scope link metric 1024",
            node.web.interface
        );
        assert!(routes.contains(&route), "{routes}");
        assert_eq!(
            std::fs::read_dir(node.status.path().join("endpoint-status"))
                .unwrap()
                .count(),
            3
        );

        node.update(only_client()).await;
        assert_eq!(node.reaches_web(), (true, false), "with a policy\n{}", saved());
        assert_eq!(node.metrics.restore_errors.get(), 0);

        // The check after a write reads once more and finds all right; a quiet node does not even read.
        let (restores, before) = (node.metrics.restore_calls.get(), saved());
        node.check().await;
        let saves = node.metrics.save_calls.get();
        for _ in 0..3 {
            node.check().await;
        }
        assert_eq!(node.metrics.save_calls.get(), saves, "reads of a quiet node");
        assert_eq!(node.metrics.restore_calls.get(), restores);

        // A second felix finds everything as it should be.
        let (mut second, metrics) = Node::dataplane(&node.core, "NFT").await;
        std::mem::swap(&mut second, &mut node.dataplane);
        node.settle().await;
        assert_eq!(metrics.restore_calls.get(), 0, "{before}\n{}", saved());
        assert_eq!(metrics.route_changes.get(), 0);
        assert_eq!(metrics.ipset_lines.get(), 0);
        assert_eq!(saved(), before);

        // A policy that goes takes its chains and sets with it.
        node.update(Update::KubernetesNetworkPolicy(Key::new("shop", "web"), None))
            .await;
        assert_eq!(node.reaches_web(), (true, true));
        assert!(!saved().contains("knp/shop/web"), "{}", saved());
        assert!(
            !text("ipset list -n").contains("cali40s:"),
            "{}",
            text("ipset list -n")
        );

        // A pod that goes takes its route with it, at once.
        node.update(Update::Pod(Key::new("shop", "client"), None)).await;
        assert!(!text("ip route").contains("10.65.0.3"), "{}", text("ip route"));
        assert!(!connects(&node.stranger, &node.client, 80));
        assert_eq!(
            std::fs::read_dir(node.status.path().join("endpoint-status"))
                .unwrap()
                .count(),
            2
        );
    });
}

#[test]
fn what_others_break_heals_and_what_is_theirs_stays() {
    in_node(|| async {
        let foreign = "iptables -A FORWARD -s 192.0.2.1 -j ACCEPT; iptables -N OTHER; iptables -I OTHER -j RETURN; \
                       iptables -t nat -A POSTROUTING -s 192.0.2.2 -j ACCEPT; ipset create other hash:ip; \
                       ipset add other 192.0.2.3; ip route add blackhole 192.0.2.0/24 proto 150";
        text(foreign);
        let mut node = Node::new().await;
        let _server = Server::start(&node.web, 80);
        node.update(only_client()).await;
        let right = saved();
        for rule in [
            "-A FORWARD -s 192.0.2.1/32 -j ACCEPT",
            "-A OTHER -j RETURN",
            "-s 192.0.2.2/32 -j ACCEPT",
        ] {
            assert!(right.contains(rule), "{right}");
        }
        node.check().await;

        let chain = right
            .lines()
            .find_map(|line| {
                line.strip_prefix("-A cali-pi-")
                    .map(|rest| rest.split(' ').next().unwrap())
            })
            .unwrap()
            .to_owned();
        let breakages = [
            format!("iptables -F cali-pi-{chain}"),
            "iptables -F FORWARD; iptables -A FORWARD -s 192.0.2.1 -j ACCEPT".to_owned(),
            "iptables -I FORWARD -s 192.0.2.9 -j ACCEPT; iptables -D FORWARD 1".to_owned(),
            "iptables -t raw -F; iptables -t mangle -F".to_owned(),
            "iptables -N cali-left-over; iptables -A cali-left-over -j cali-FORWARD".to_owned(),
        ];
        for breakage in breakages {
            text(&breakage);
            node.check().await;
            assert_eq!(saved(), right, "{breakage}");
        }

        // Foreign rules before ours are pushed behind them, and keep their order.
        text("iptables -I FORWARD -s 192.0.2.8 -j ACCEPT; iptables -I FORWARD -s 192.0.2.7 -j ACCEPT");
        node.check().await;
        let forward = text("iptables -S FORWARD | grep -v '^-P'");
        let lines: Vec<&str> = forward.lines().collect();
        assert!(lines[0].contains("-j cali-FORWARD"), "{forward}");
        assert!(
            lines[1].contains("192.0.2.7") && lines[2].contains("192.0.2.8"),
            "{forward}"
        );

        let set = text("ipset list -n | grep cali40s").trim().to_owned();
        for breakage in [
            format!("ipset flush {set}"),
            format!("ipset add {set} 192.0.2.77"),
            "ipset create cali40left hash:ip".to_owned(),
        ] {
            text(&breakage);
            node.check().await;
            assert_eq!(
                text(&format!("ipset list {set} | grep -c '^[0-9]'")).trim(),
                "1",
                "{breakage}"
            );
            assert!(!text("ipset list -n").contains("cali40left"));
        }
        assert_eq!(node.reaches_web(), (true, false));
        assert!(text("ipset list other").contains("192.0.2.3"));
        assert!(text("ip route").contains("blackhole 192.0.2.0/24 proto 150"));

        let interface = &node.web.interface;
        let path = format!("/proc/sys/net/ipv4/conf/{interface}/proxy_arp");
        text(&format!(
            "echo 0 > {path}; echo 0 > /proc/sys/net/ipv4/ip_forward"
        ));
        node.check().await;
        assert_eq!(
            text(&format!("cat {path} /proc/sys/net/ipv4/ip_forward")),
            "1\n1\n"
        );
    });
}

#[test]
fn a_route_of_a_plugin_has_a_grace_period_and_a_foreign_one_is_never_replaced() {
    in_node(|| async {
        let mut node = Node::new().await;
        text(&format!(
            "ip route add 10.65.0.4 dev {} proto 80",
            node.stranger.interface
        ));
        node.settle().await;
        let routes = text("ip route show 10.65.0.4");
        assert_eq!(routes.lines().count(), 1, "{routes}");
        assert!(routes.contains("metric 1024"), "{routes}");
        let unknown = plug("shop", "unknown", "10.65.0.9").await;
        text(&format!(
            "ip route add 10.65.0.9 dev {} scope link proto 80 metric 1024",
            unknown.interface
        ));
        // Wanted, but somebody else's route with the same destination and metric is there.
        text("ip route add blackhole 10.65.0.8 proto 150 metric 1024");
        let taken = plug("shop", "taken", "10.65.0.8").await;
        node.core.on_update(pod("taken", &taken));
        let dirty = node.core.flush();
        node.dataplane.mark(node.core.desired(), &dirty);
        node.dataplane.apply(&node.core).await;
        assert!(!node.dataplane.is_programmed());
        let routes = text("ip route");
        assert!(routes.contains("blackhole 10.65.0.8 proto 150"), "{routes}");
        assert!(
            routes.contains("10.65.0.9 dev"),
            "within the grace period: {routes}"
        );
        // One that cannot be had does not hold up the others.
        assert!(routes.contains("10.65.0.4 dev"), "{routes}");
        let status = node.status.path().join("endpoint-status/k8s shop%2Ftaken eth0");
        assert!(!status.exists());
        text("ip route del blackhole 10.65.0.8 proto 150 metric 1024");
        node.settle().await;
        assert!(text("ip route").contains("10.65.0.8 dev"), "{}", text("ip route"));
        assert!(status.exists());
        let ends = node
            .dataplane
            .next(Instant::now())
            .expect("the end of the grace period");
        tokio::time::sleep_until(ends.into()).await;
        node.settle().await;
        assert!(!text("ip route").contains("10.65.0.9"), "{}", text("ip route"));
    });
}

#[test]
fn a_workload_cannot_send_with_an_address_that_is_not_its_own() {
    in_node(|| async {
        let mut node = Node::new().await;
        let _server = Server::start(&node.web, 80);
        node.settle().await;
        run(&node.stranger.netns, "ip addr add 10.65.0.3/32 dev eth0");
        let ping = "ping -c 1 -W 1 -I 10.65.0.3 10.65.0.2";
        assert!(!node.stranger.netns.run(|| sh(ping).status.success()).unwrap());
        assert!(
            node.stranger
                .netns
                .run(|| sh("ping -c 5 -i 0.2 -W 1 10.65.0.2").status.success())
                .unwrap()
        );
    });
}

#[test]
fn the_old_tables_serve_as_well() {
    in_node(|| async {
        let mut node = Node::with_backend("Legacy").await;
        let _server = Server::start(&node.web, 80);
        node.update(only_client()).await;
        assert_eq!(node.reaches_web(), (true, false));
        let saved =
            "(iptables-legacy-save; ip6tables-legacy-save) | grep -v '^#' | sed 's/\\[[0-9]*:[0-9]*\\]//'";
        let right = text(saved);
        assert!(right.contains("knp/shop/web"), "{right}");
        assert_eq!(text("iptables-nft-save | grep -c cali- || true").trim(), "0");

        let (mut second, metrics) = Node::dataplane(&node.core, "Legacy").await;
        std::mem::swap(&mut second, &mut node.dataplane);
        node.settle().await;
        assert_eq!(
            (metrics.restore_calls.get(), metrics.save_calls.get()),
            (0, 2),
            "{right}"
        );

        // These tables have no number to ask for: they are read every other second.
        text("iptables-legacy -F cali-FORWARD; iptables-legacy -t nat -F POSTROUTING");
        tokio::time::sleep(Duration::from_millis(2100)).await;
        node.check().await;
        assert_eq!(text(saved), right);
        assert_eq!(node.metrics.restore_errors.get(), 0);
    });
}

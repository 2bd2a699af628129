//! Random policies, random packets: what is meant (the evaluator) against what the real kernel does, in both backends.
//!
//! The node is a namespace in which every pod and the uplink is a tun device: a packet is written as its sender's
//! kernel would send it, and either appears at the other end or does not. Policies change from case to case on the same
//! node, so that what is compared is what came by changes. Cases and seed come from the environment; a failure names
//! both.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test, whose number of cases the environment tells"
)]

mod packets;
#[path = "../../core/tests/random/mod.rs"]
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::{Duration, Instant};

use caracal_daemon::metrics::Registry;
use caracal_felix::dataplane::Dataplane;
use caracal_felix::exec::SystemRunner;
use caracal_felix::features::{FilterKind, find_programs};
use caracal_felix::metrics::Metrics;
use caracal_felix_core::desired::Backend;
use caracal_felix_core::eval::{Packet, Verdict};
use caracal_felix_core::{Core, Dirty, Options, Update};
use caracal_linux::conntrack::Conntrack;
use caracal_linux::netns::NetNs;
use caracal_linux::sys::open_tun;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use random::{
    NODE, PODS, host_endpoint, host_forwards, host_policy, interface, is_here, packet, plain_policy,
    plain_update, policy, update, world,
};

const PACKETS_PER_CASE: usize = 60;
/// A packet that is to pass is there when the write returns; a busy machine may take its time.
const ARRIVES_WITHIN: Duration = Duration::from_secs(2);

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect(variable))
}

fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

struct Node {
    core: Core,
    dataplane: Dataplane<SystemRunner>,
    metrics: Metrics,
    devices: BTreeMap<String, File>,
    conntrack: Conntrack,
    tag: u64,
    _status: tempfile::TempDir,
}

impl Node {
    async fn new(backend: Backend) -> Self {
        let mut names: BTreeSet<String> = PODS.iter().map(|pod| interface(pod.5.parse().unwrap())).collect();
        names.insert("eth0".to_owned());
        let mut devices = BTreeMap::new();
        for name in names {
            let device = open_tun(&name).expect("the kernel makes tun devices");
            sh(&format!("ip link set {name} up"));
            devices.insert(name, device);
        }
        sh(
            "ip link set lo up; ip addr add 172.30.0.11/24 dev eth0; ip route add default dev eth0; \
            ip -6 route add default dev eth0; for f in all default eth0; do \
            echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter; done; \
            echo 0 > /proc/sys/net/netfilter/nf_conntrack_checksum",
        );
        let status = tempfile::tempdir().unwrap();
        let parameter = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut core = Core::new(Options {
            node: NODE.to_owned(),
            parameters: vec![BTreeMap::from([
                parameter("EndpointStatusPathPrefix", status.path().to_str().unwrap()),
                // Answers without questions are packets like any other here.
                parameter("DisableConntrackInvalidCheck", "true"),
            ])],
        });
        core.set_backend(backend);
        world().into_iter().for_each(|update| core.on_update(update));
        core.on_in_sync();
        let dirty = core.flush();
        let metrics = Metrics::new(&Registry::new("felix").unwrap()).unwrap();
        let kind = match backend {
            Backend::Nftables => FilterKind::Nftables { has_v6: true },
            Backend::Iptables => {
                FilterKind::Iptables(find_programs(&SystemRunner, None, true).await.unwrap())
            }
        };
        let dataplane = Dataplane::new(SystemRunner, kind, &core, metrics.clone()).unwrap();
        let mut node = Self {
            core,
            dataplane,
            metrics,
            devices,
            conntrack: Conntrack::open().unwrap(),
            tag: 0,
            _status: status,
        };
        node.program(&dirty).await;
        node
    }

    async fn program(&mut self, dirty: &Dirty) {
        self.dataplane.mark(self.core.desired(), dirty);
        let limit = Instant::now() + Duration::from_secs(60);
        while {
            self.dataplane.apply(&self.core).await;
            !self.dataplane.is_programmed()
        } {
            assert!(Instant::now() < limit, "the kernel is not programmed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// True when the packet comes out at the other end.
    fn passes(&mut self, packet: &Packet, is_expected: bool) -> bool {
        for v6 in [false, true] {
            self.conntrack.delete_where(v6, |_| true).unwrap();
        }
        self.tag += 1;
        let bytes = packets::bytes(packet, self.tag);
        let from = self.devices.get_mut(&interface(packet.source)).unwrap();
        from.write_all(&bytes).unwrap();
        let to = self.devices.get_mut(&interface(packet.destination)).unwrap();
        let limit = Instant::now()
            + if is_expected {
                ARRIVES_WITHIN
            } else {
                Duration::ZERO
            };
        let mut buffer = [0; 2048];
        loop {
            match to.read(&mut buffer) {
                // Others speak too: the kernel solicits routers.
                Ok(length) if packets::has_tag(&buffer[..length], self.tag) => return true,
                Ok(_) => {}
                Err(_) if Instant::now() >= limit => return false,
                Err(_) => std::thread::sleep(Duration::from_micros(50)),
            }
        }
    }
}

fn is_meant_to_pass(core: &Core, packet: &Packet) -> bool {
    let trace = core.trace(packet);
    let sides = [
        trace.source.as_ref().filter(|_| is_here(packet.source)),
        trace.destination.as_ref().filter(|_| is_here(packet.destination)),
    ];
    sides
        .into_iter()
        .flatten()
        .all(|side| side.verdict != Verdict::Deny)
}

/// What comes from the environment, and the generator that follows from it.
struct Run {
    cases: u64,
    seed: u64,
    runner: TestRunner,
    passed: u64,
    denied: u64,
}

impl Run {
    fn new() -> Self {
        let (cases, seed) = (number("CARACAL_KERNEL_CASES", 5), number("CARACAL_SEED", 1));
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        Self {
            cases,
            seed,
            runner: TestRunner::new_with_rng(Config::default(), rng),
            passed: 0,
            denied: 0,
        }
    }

    fn draw<S: Strategy>(&mut self, strategy: S) -> S::Value {
        strategy.new_tree(&mut self.runner).unwrap().current()
    }

    fn check(&mut self, node: &mut Node, packet: &Packet, expected: bool, case: &dyn std::fmt::Debug) {
        let found = node.passes(packet, expected);
        assert_eq!(
            found,
            expected,
            "{:?}, seed {}: {packet:?}\n{:#?}\n{case:#?}",
            node.core.config().backend,
            self.seed,
            node.core.trace(packet)
        );
        if found {
            self.passed += 1;
        } else {
            self.denied += 1;
        }
    }

    fn finish(&self, node: &Node, what: &str) {
        let Self {
            cases,
            seed,
            passed,
            denied,
            ..
        } = self;
        let backend = node.core.config().backend;
        let errors = node.metrics.nft_errors.get() + node.metrics.restore_errors.get();
        assert_eq!(errors, 0, "the kernel refused something");
        assert!(
            passed > cases && denied > cases,
            "{passed} passed, {denied} denied: this proves little"
        );
        println!(
            "{what}, {backend:?}, seed {seed}: {cases} cases, {passed} packets passed, {denied} were denied, as meant"
        );
    }
}

async fn endpoints(backend: Backend) {
    let mut run = Run::new();
    let mut node = Node::new(backend).await;
    let mut last: (Vec<(u8, Value, bool)>, usize) = (Vec::new(), 0);
    for _ in 0..run.cases {
        let policies = run.draw(prop::collection::vec(policy(), 0..8));
        let plain = run.draw(prop::collection::vec(plain_policy(), 0..24));
        let packets = run.draw(prop::collection::vec(packet(), PACKETS_PER_CASE));
        for (index, policy) in last.0.iter().enumerate() {
            node.core.on_update(update(index, policy, false));
        }
        for (index, policy) in policies.iter().enumerate() {
            node.core.on_update(update(index, policy, true));
        }
        for index in plain.len()..last.1 {
            let Update::KubernetesNetworkPolicy(key, _) = plain_update(index, &plain_nothing()) else {
                panic!("another kind");
            };
            node.core.on_update(Update::KubernetesNetworkPolicy(key, None));
        }
        for (index, spec) in plain.iter().enumerate() {
            node.core.on_update(plain_update(index, spec));
        }
        let dirty = node.core.flush();
        node.program(&dirty).await;
        for packet in &packets {
            let expected = is_meant_to_pass(&node.core, packet);
            run.check(&mut node, packet, expected, &(&policies, &plain));
        }
        last = (policies, plain.len());
    }
    run.finish(&node, "endpoints");
}

fn plain_nothing() -> Value {
    json!({"podSelector": {}})
}

/// Policies of the uplink's host endpoint: untracked, before translation, for what is forwarded through it.
async fn host_endpoints(backend: Backend) {
    let mut run = Run::new();
    let mut node = Node::new(backend).await;
    node.core.on_update(host_endpoint("eth0", true));
    let mut last: Vec<((u8, Value, bool), u8)> = Vec::new();
    for _ in 0..run.cases {
        let policies = run.draw(prop::collection::vec((policy(), 1u8..5), 0..7));
        let packets = run.draw(prop::collection::vec(packet(), PACKETS_PER_CASE));
        for (index, ((_, spec, _), flags)) in last.iter().enumerate() {
            node.core.on_update(host_policy(index, spec, *flags, false));
        }
        for (index, ((_, spec, _), flags)) in policies.iter().enumerate() {
            node.core.on_update(host_policy(index, spec, *flags, true));
        }
        let dirty = node.core.flush();
        node.program(&dirty).await;
        let through = |packet: &&Packet| !is_here(packet.source) && !is_here(packet.destination);
        // As where model and rules are compared: what answers to failsafe ports is not known of a single packet.
        for packet in packets
            .iter()
            .filter(through)
            .filter(|packet| packet.source_port != 53)
        {
            let expected = host_forwards(&node.core, packet) != Some(Verdict::Deny);
            run.check(&mut node, packet, expected, &policies);
        }
        last = policies;
    }
    run.finish(&node, "host endpoints");
}

fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    // What the node says of what it cannot program is shown with a failure.
    let _ = caracal_daemon::logging::init("felix", caracal_daemon::logging::Format::Text);
    let netns = NetNs::create_anonymous().unwrap();
    netns
        .run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(test());
        })
        .unwrap();
}

#[test]
fn nftables_does_what_policies_mean() {
    in_namespace(|| endpoints(Backend::Nftables));
}

#[test]
fn iptables_does_what_policies_mean() {
    in_namespace(|| endpoints(Backend::Iptables));
}

#[test]
fn nftables_does_what_policies_of_host_endpoints_mean() {
    in_namespace(|| host_endpoints(Backend::Nftables));
}

#[test]
fn iptables_does_what_policies_of_host_endpoints_mean() {
    in_namespace(|| host_endpoints(Backend::Iptables));
}

//! What felix costs on a node: start, changes, traffic, memory. `make bench-felix` (`scripts/bench-felix.sh`).
//!
//! The real program in a network namespace of its own, with an API server of its own and pods behind veth pairs. When a
//! change is in the kernel is seen in the kernel, not in a log. Prints Markdown tables; nothing of the host is touched.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs,
    dead_code,
    reason = "a measurement"
)]

mod agent;
mod cluster;
mod floors;
#[path = "../../tests/netns/machine.rs"]
mod machine;
mod traffic;
mod watch;

use std::time::{Duration, Instant};

use agent::Felix;
use cluster::Cluster;
use watch::Kernel;

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) backend: Backend,
    pub(crate) pods: Vec<usize>,
    pub(crate) policies: Vec<usize>,
    pub(crate) selecting: Vec<usize>,
    pub(crate) cidrs: usize,
    pub(crate) rounds: usize,
    pub(crate) idle: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Iptables,
    Nftables,
}

fn list(name: &str, default: &str) -> Vec<usize> {
    let text = std::env::var(name).unwrap_or_else(|_| default.to_owned());
    text.split_whitespace()
        .map(|number| number.parse().expect(name))
        .collect()
}

fn plan() -> Plan {
    let backend = match std::env::var("BACKEND").as_deref() {
        Ok("nftables") => Backend::Nftables,
        Ok("iptables") | Err(_) => Backend::Iptables,
        Ok(other) => panic!("BACKEND is {other:?}: write iptables or nftables"),
    };
    Plan {
        backend,
        pods: list("PODS", "0 100 1000"),
        policies: list("POLICIES", "0 1000 10000"),
        selecting: list("SELECTING", "0 1 100 1000 10000"),
        cidrs: list("CIDRS", "100000")[0],
        rounds: list("ROUNDS", "15")[0],
        idle: Duration::from_secs(list("IDLE", "5")[0] as u64),
    }
}

fn main() {
    // `cargo bench` and `cargo test` pass arguments of their own.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let plan = plan();
    println!("\n### {:?}\n", plan.backend);
    println!(
        "| pods | policies | in sync | policy change, median (worst) | set change of {} | new endpoint | memory | idle CPU |\n|---|---|---|---|---|---|---|---|",
        plan.cidrs
    );
    for pods in &plan.pods {
        for policies in &plan.policies {
            machine::in_node(|| size(&plan, *pods, *policies));
        }
    }
    let pods = plan
        .pods
        .iter()
        .copied()
        .filter(|pods| *pods <= 100)
        .max()
        .unwrap_or_default();
    println!("\n| the same content at once ({pods} pods) | rules and chains | sets |\n|---|---|---|");
    for policies in plan.policies.iter().filter(|count| **count > 0) {
        machine::in_node(|| floors::measure(&plan, pods, *policies));
    }
    println!("\n| policies that select the pod | connection, median | throughput |\n|---|---|---|");
    machine::in_node(|| traffic::measure(&plan));
}

async fn size(plan: &Plan, pods: usize, policies: usize) {
    let cluster = Cluster::start().await;
    let mut plugged = Vec::new();
    for index in 0..pods {
        plugged.push(
            machine::plug(
                &cluster::namespace(index),
                &cluster::pod_name(index),
                &cluster::address(index),
            )
            .await,
        );
    }
    cluster.pods(pods).await;
    cluster.policies(0..policies).await;
    cluster.network_set(plan.cidrs, false).await;
    let started = Instant::now();
    let felix = Felix::start(&cluster, plan.backend);
    felix.wait_in_sync().await;
    let in_sync = started.elapsed();
    let mut kernel = Kernel::new(plan.backend);
    kernel.settle(Duration::from_millis(1_500)).await;
    let memory = felix.memory_mib();

    // Without a pod here no policy is in the kernel: nothing can be seen there.
    let mut changes = Vec::new();
    if pods > 0 {
        for round in 0..plan.rounds {
            changes.push(kernel.after(|| cluster.change_policy(round)).await);
            kernel.settle(Duration::from_millis(150)).await;
        }
    }
    let mut set = None;
    if pods > 0 {
        cluster.use_network_set().await;
        kernel.settle(Duration::from_secs(2)).await;
        set = Some(kernel.after(|| cluster.network_set(plan.cidrs, true)).await);
        kernel.settle(Duration::from_millis(500)).await;
    }
    let endpoint = if pods > 0 {
        Some(traffic::first_packet(&cluster, &plugged[0]).await)
    } else {
        None
    };
    kernel.settle(Duration::from_millis(1_500)).await;
    let idle = felix.idle_percent(plan.idle).await;
    let shown = |time: Option<Duration>| time.map_or_else(|| "–".to_owned(), millis);
    changes.sort();
    let median = changes.get(changes.len() / 2).copied();
    println!(
        "| {pods} | {policies} | {} | {} ({}) | {} | {} | {memory:.1} MiB | {idle:.2} % |",
        millis(in_sync),
        shown(median),
        shown(changes.last().copied()),
        shown(set),
        shown(endpoint),
    );
}

pub(crate) fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    if millis < 100.0 {
        format!("{millis:.1} ms")
    } else {
        format!("{millis:.0} ms")
    }
}

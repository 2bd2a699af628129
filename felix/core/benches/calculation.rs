//! How long the calculation takes and what it keeps, at the sizes that the goals name. `make bench-felix-core`.
//!
//! No kernel: from objects as the API has them to [`Dirty`](caracal_felix_core::Dirty). Printed as a table.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a measurement"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use caracal_felix_core::update::Key;
use caracal_felix_core::{Core, Options, Update};
use serde_json::{Value, json};

const NODE: &str = "n1";

fn object<T: serde::de::DeserializeOwned>(value: Value) -> Option<Box<T>> {
    Some(Box::new(serde_json::from_value(value).unwrap()))
}

fn pod(index: usize, node: &str, group: usize) -> Update {
    let name = format!("pod-{index}");
    let namespace = format!("ns-{}", index % 10);
    let ip = format!("10.{}.{}.{}", 64 + index / 65_536, index / 256 % 256, index % 256);
    let value = json!({
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": format!("app-{group}"), "pod": name}},
        "spec": {"nodeName": node, "serviceAccountName": "default", "containers": [{"name": "c"}]},
        "status": {"podIP": ip, "podIPs": [{"ip": ip}]},
    });
    Update::Pod(Key::new(namespace, name), object(value))
}

/// A policy of a namespace for one application, with two peers and one port of its own.
fn policy(index: usize, groups: usize, port: usize) -> Update {
    let name = format!("policy-{index}");
    let namespace = format!("ns-{}", index % 10);
    let value = json!({
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "podSelector": {"matchLabels": {"app": format!("app-{}", index % groups)}},
            "ingress": [{
                "from": [
                    {"podSelector": {"matchLabels": {"app": format!("app-{}", (index + 1) % groups)}}},
                    {"ipBlock": {"cidr": format!("192.{}.{}.0/24", index / 256 % 256, index % 256)}}],
                "ports": [{"port": port}]}]},
    });
    Update::KubernetesNetworkPolicy(Key::new(namespace, name), object(value))
}

/// A policy that every pod has.
fn common(index: usize) -> Update {
    let name = format!("common-{index}");
    let value = json!({"metadata": {"name": name}, "spec": {
        "selector": "has(app)", "order": 100,
        "ingress": [{"action": "Allow", "protocol": "TCP",
            "source": {"nets": [format!("198.{}.{}.0/24", index / 256, index % 256)]},
            "destination": {"ports": [1000 + index]}}]}});
    Update::GlobalNetworkPolicy(Key::cluster(name), object(value))
}

fn core() -> Core {
    let mut core = Core::new(Options {
        node: NODE.to_owned(),
        ..Options::default()
    });
    for index in 0..10 {
        let name = format!("ns-{index}");
        let value = json!({"metadata": {"name": name, "labels": {"team": "t"}}});
        core.on_update(Update::Namespace(Key::cluster(name), object(value)));
    }
    core.on_in_sync();
    core
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn row(what: &str, time: Duration, note: &str) {
    println!("| {what} | {:.3} ms | {note} |", time.as_secs_f64() * 1e3);
}

/// The median of many single changes, each with its flush.
fn changes(core: &mut Core, count: usize, update: impl Fn(usize) -> Update) -> (Duration, usize) {
    let mut times = Vec::new();
    let mut touched = 0;
    for index in 0..count {
        let update = update(index);
        let (time, dirty) = timed(|| {
            core.on_update(update);
            core.flush()
        });
        touched = dirty
            .chains
            .values()
            .map(std::collections::BTreeSet::len)
            .sum::<usize>()
            + dirty.ip_sets.len();
        times.push(time);
        black_box(dirty);
    }
    (median(times), touched)
}

fn size(endpoints: usize, policies: usize) {
    let groups = endpoints / 2;
    let pods: Vec<Update> = (0..endpoints)
        .map(|index| pod(index, NODE, index % groups))
        .collect();
    let rules: Vec<Update> = (0..policies)
        .map(|index| policy(index, groups, 1_024 + index))
        .collect();
    let before = resident();
    let mut core = core();
    let (time, _) = timed(|| {
        pods.into_iter().for_each(|update| core.on_update(update));
        rules.into_iter().for_each(|update| core.on_update(update));
        core.flush()
    });
    let kept = resident().saturating_sub(before);
    let at = format!("{endpoints} endpoints, {policies} policies");
    row(
        &format!("first sync: {at}"),
        time,
        &format!("{} MiB kept", kept >> 20),
    );
    let (time, touched) = changes(&mut core, 51, |index| policy(7, groups, 30_000 + index));
    row(
        &format!("one policy changed: {at}"),
        time,
        &format!("{touched} chains and sets"),
    );
    let (time, touched) = changes(&mut core, 51, |index| {
        pod(endpoints + index, NODE, index % groups)
    });
    row(
        &format!("one endpoint more: {at}"),
        time,
        &format!("{touched} chains and sets"),
    );
    let (time, touched) = changes(&mut core, 51, |index| {
        policy(policies + index, groups, 40_000 + index)
    });
    row(
        &format!("one policy more: {at}"),
        time,
        &format!("{touched} chains and sets"),
    );
}

fn many_on_each(endpoints: usize, policies: usize) {
    let mut core = core();
    (0..endpoints).for_each(|index| core.on_update(pod(index, NODE, index % 10)));
    (0..policies).for_each(|index| core.on_update(common(index)));
    let (time, _) = timed(|| core.flush());
    let filter = core.desired().tables.iter().next_back().unwrap().1;
    let rules: usize = filter.chains.values().map(Vec::len).sum();
    let at = format!("{policies} policies on each of {endpoints} endpoints");
    row(
        &format!("first flush: {at}"),
        time,
        &format!("{rules} rules in the filter table"),
    );
    let (time, touched) = changes(&mut core, 21, |index| common(policies + index));
    row(
        &format!("one policy more: {at}"),
        time,
        &format!("{touched} chains and sets"),
    );
}

fn large_set() {
    let count = 100_000;
    let nets = |count: usize| {
        let nets: Vec<String> = (0..count)
            .map(|index| {
                format!(
                    "{}.{}.{}.{}/32",
                    20 + (index >> 24),
                    index >> 16 & 255,
                    index >> 8 & 255,
                    index & 255
                )
            })
            .collect();
        let value =
            json!({"metadata": {"name": "large", "labels": {"set": "large"}}, "spec": {"nets": nets}});
        Update::GlobalNetworkSet(Key::cluster("large"), object(value))
    };
    let mut core = core();
    core.on_update(pod(0, NODE, 0));
    let value = json!({"metadata": {"name": "deny"}, "spec": {"types": ["Ingress"], "ingress": [
        {"action": "Deny", "source": {"selector": "set == 'large'"}}]}});
    core.on_update(Update::GlobalNetworkPolicy(Key::cluster("deny"), object(value)));
    core.on_update(nets(count));
    let before = resident();
    let (time, _) = timed(|| core.flush());
    let kept = resident().saturating_sub(before);
    row(
        "first flush: a set of 100,000 CIDRs",
        time,
        &format!("{} MiB kept", kept >> 20),
    );
    let (time, touched) = changes(&mut core, 11, |index| nets(count + 1 + index));
    row(
        "one CIDR more in a set of 100,000",
        time,
        &format!("{touched} set"),
    );
}

fn large_cluster() {
    let remote = 100_000;
    let mut core = core();
    let before = resident();
    let (time, _) = timed(|| {
        for index in 0..remote {
            core.on_update(pod(
                index,
                if index < 100 { NODE } else { "elsewhere" },
                index % 500,
            ));
        }
    });
    let each = resident().saturating_sub(before) / remote;
    row("100,000 endpoints taken in", time, &format!("{each} bytes each"));
    let (time, _) = timed(|| (0..10_000).for_each(|index| core.on_update(policy(index, 500, 1_024 + index))));
    row("10,000 policies taken in", time, "");
    let (time, _) = timed(|| core.flush());
    row(
        "first flush: 100,000 endpoints of which 100 are here, 10,000 policies",
        time,
        "",
    );
    let (time, _) = changes(&mut core, 51, |index| {
        pod(remote + index, "elsewhere", index % 500)
    });
    row("one endpoint more elsewhere", time, "");
}

fn main() {
    println!("| what | time | |\n|---|---|---|");
    size(100, 1_000);
    size(1_000, 10_000);
    many_on_each(100, 1_000);
    large_set();
    large_cluster();
}

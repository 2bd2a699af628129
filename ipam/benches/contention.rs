//! Allocations per second while nodes contend for one pool: `make bench-ipam`.
//!
//! Each node is a task with a client of its own that assigns one address after the other, each under a handle of its
//! own, as ADD does; every fourth is released again. On the embedded server in process, and on the server of
//! `CARACAL_BENCH_KUBECONFIG` when that is set (with the CRDs installed, and nothing else in its IPAM objects).
//! At the end the store is checked: no problem may be found.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a measurement"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use caracal_api::v3::{BlockAffinity, IPAMBlock, IPAMHandle, IPPool};
use caracal_apiserver::ApiServer;
use caracal_datastore::{Client, ConnectOptions, ListOptions, Object, Preconditions};
use caracal_ipam::check::{Code, Snapshot, check};
use caracal_ipam::{AutoAssign, Ipam};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

const NODES: [usize; 3] = [1, 10, 100];

/// How one run went.
struct Run {
    allocations: usize,
    failures: usize,
    times: Vec<Duration>,
    elapsed: Duration,
}

#[tokio::main]
async fn main() {
    let seconds: u64 = std::env::var("CARACAL_BENCH_SECONDS").map_or(5, |text| text.parse().unwrap());
    let time = Duration::from_secs(seconds);
    println!("| Server | Nodes | Allocations/s | Median | p99 | Refused |");
    println!("|---|---|---|---|---|---|");
    for nodes in NODES {
        let server = ApiServer::in_memory();
        let clients = (0..=nodes)
            .map(|_| Client::from_service(server.service(), "default"))
            .collect();
        show("embedded, in process", nodes, bench(clients, nodes, time).await);
    }
    let Some(kubeconfig) = std::env::var_os("CARACAL_BENCH_KUBECONFIG") else {
        println!("\nno other server measured: CARACAL_BENCH_KUBECONFIG names none");
        return;
    };
    for nodes in NODES {
        let mut clients = Vec::new();
        for _ in 0..=nodes {
            let options = ConnectOptions {
                kubeconfig: Some(PathBuf::from(&kubeconfig)),
                ..ConnectOptions::default()
            };
            clients.push(Client::connect(&options).await.unwrap());
        }
        show(
            "CARACAL_BENCH_KUBECONFIG",
            nodes,
            bench(clients, nodes, time).await,
        );
    }
}

fn show(server: &str, nodes: usize, mut run: Run) {
    run.times.sort();
    let at = |part: usize| {
        run.times
            .get(run.times.len() * part / 100)
            .copied()
            .unwrap_or_default()
    };
    let rate = run.allocations as f64 / run.elapsed.as_secs_f64();
    println!(
        "| {server} | {nodes} | {rate:.0} | {:.1} ms | {:.1} ms | {} |",
        at(50).as_secs_f64() * 1e3,
        at(99).as_secs_f64() * 1e3,
        run.failures
    );
}

async fn bench(mut clients: Vec<Client>, nodes: usize, time: Duration) -> Run {
    let own = clients.pop().unwrap();
    let blocks: Vec<IPAMBlock> = own.list(None, &ListOptions::default()).await.unwrap();
    assert!(
        blocks.is_empty(),
        "the server has blocks that are not the benchmark's: name another one"
    );
    for node in 0..nodes {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": name(node)}})).unwrap();
        own.create(&node).await.unwrap();
    }
    let spec = serde_json::from_value(json!({"cidr": "10.64.0.0/12", "blockSize": 26})).unwrap();
    own.create(&IPPool::new("bench", spec)).await.unwrap();
    let failures = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let tasks: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(node, client)| {
            tokio::spawn(assign(
                Ipam::new(client),
                name(node),
                started + time,
                Arc::clone(&failures),
            ))
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let elapsed = started.elapsed();
    let report = check(&Snapshot::load(&own).await.unwrap());
    let mut problems = report
        .problems()
        .filter(|finding| finding.code != Code::AddressLeaked);
    assert!(problems.next().is_none(), "{:#?}", report.findings);
    empty(&own).await;
    Run {
        allocations: times.len(),
        failures: failures.load(Ordering::Relaxed),
        times,
        elapsed,
    }
}

async fn assign(ipam: Ipam, node: String, until: Instant, failures: Arc<AtomicUsize>) -> Vec<Duration> {
    let mut times = Vec::new();
    for index in 0.. {
        let begun = Instant::now();
        if begun >= until {
            break;
        }
        let handle = format!("bench.{node}-{index}");
        let mut request = AutoAssign::workload(&node, &handle);
        // As many blocks as it takes.
        request.max_blocks_per_host = Some(10_000);
        match ipam.auto_assign(&request).await {
            Ok(_) => times.push(begun.elapsed()),
            Err(_) => drop(failures.fetch_add(1, Ordering::Relaxed)),
        }
        if index % 4 == 3 {
            ipam.release_by_handle(&handle).await.unwrap();
        }
    }
    times
}

fn name(node: usize) -> String {
    format!("bench-{node}")
}

/// Removes what a run made.
async fn empty(client: &Client) {
    remove::<IPAMBlock>(client).await;
    remove::<BlockAffinity>(client).await;
    remove::<IPAMHandle>(client).await;
    remove::<IPPool>(client).await;
    // Those of the cluster stay.
    remove::<Node>(client).await;
}

async fn remove<K: Object>(client: &Client) {
    let all: Vec<K> = client.list(None, &ListOptions::default()).await.unwrap();
    for object in all {
        let name = object.meta().name.clone().unwrap_or_default();
        if !name.contains("bench") && matches!(K::kind(&()).as_ref(), "Node" | "IPPool") {
            continue;
        }
        client
            .delete::<K>(None, &name, Preconditions::default())
            .await
            .unwrap();
    }
}

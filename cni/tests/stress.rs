//! Many ADDs and DELs at once, while plugins and the daemon are killed at random moments; afterwards nothing is left,
//! nothing was given twice, and the allocator's check finds nothing.
//!
//! `CARACAL_STRESS` is the number of containers (`make stress-cni`: 10000), `CARACAL_STRESS_SEED` repeats a run's draws.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a test"
)]

mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use caracal_api::v3::{IPAMBlock, IPAMHandle};
use caracal_cni::service::{Options, Service};
use caracal_datastore::{ConnectOptions, ListOptions};
use caracal_ipam::Ipam;
use serde_json::{Value, json};
use support::{Container, Node};

const DAEMON: &str = "CARACAL_STRESS_DAEMON";
const WORKERS: usize = 4;

/// Not a test but the daemon's process: this program started again.
#[test]
fn daemon_process() {
    let Ok(folder) = std::env::var(DAEMON) else {
        return;
    };
    let folder = std::path::PathBuf::from(folder);
    let options = Options {
        socket: folder.join("cni.sock"),
        node: "node-1".to_owned(),
        connect: ConnectOptions {
            kubeconfig: Some(folder.join("kubeconfig")),
            ..ConnectOptions::default()
        },
        board: None,
        aside: None,
    };
    let _service = Service::start(options).unwrap();
    std::thread::sleep(Duration::from_secs(24 * 3600));
}

/// xorshift: the same draws for the same seed.
#[derive(Clone)]
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

struct Run {
    node: Node,
    conf: Value,
    /// Addresses of containers that run, by address.
    live: Mutex<BTreeMap<String, String>>,
    next: AtomicUsize,
    count: usize,
    killed: AtomicUsize,
    by_daemon: AtomicUsize,
    start: Instant,
}

fn start_daemon(node: &Node) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["daemon_process", "--exact", "--nocapture"]);
    command.env(DAEMON, node.folder.path());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    node.netns.spawn(&mut command).unwrap()
}

/// Ends the daemon's process whatever happens to the test.
struct Daemon(Option<Child>);

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Run {
    /// Runs the plugin; kills it after a while if so drawn. `None` when it was killed.
    async fn plugin(
        &self,
        command: &str,
        container: &Container,
        pod: &str,
        kill: Option<Duration>,
    ) -> Option<Value> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_calico"));
        process.env_clear().env("PATH", std::env::var("PATH").unwrap());
        process.envs(self.node.env(command, container, Some(pod)));
        process
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.node.netns.spawn(&mut process).unwrap();
        // A plugin that was killed does not read.
        let _ = child
            .stdin
            .take()
            .unwrap()
            .write_all(self.conf.to_string().as_bytes());
        if let Some(after) = kill {
            tokio::time::sleep(after).await;
            let _ = child.kill();
        }
        let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap())
            .await
            .unwrap();
        if output.status.code().is_none() {
            self.killed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        if !stderr.contains("does not take the call") {
            self.by_daemon.fetch_add(1, Ordering::Relaxed);
        }
        assert!(
            output.status.success(),
            "{command} {}: {}{stderr}",
            container.id,
            String::from_utf8_lossy(&output.stdout)
        );
        Some(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    async fn work(&self, worker: usize, mut draw: Draw) {
        let pod = format!("web-{worker}");
        let mut netns = Container::new("none");
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.count {
                return;
            }
            if number > 0 && number.is_multiple_of(1000) {
                println!("{number} containers after {:.0?}", self.start.elapsed());
            }
            // One namespace serves several containers, as its making is most of the time.
            if number.is_multiple_of(16) {
                netns = Container::new("none");
            }
            netns.id = format!("s{number}");
            let kill = (draw.below(3) == 0).then(|| Duration::from_micros(draw.below(30_000)));
            let result = self.plugin("ADD", &netns, &pod, kill).await;
            // The runtime tries again, with the same container, or gives it up.
            let result = match result {
                None if draw.below(2) == 0 => self.plugin("ADD", &netns, &pod, None).await,
                other => other,
            };
            let address = result.map(|result| result["ips"][0]["address"].as_str().unwrap().to_owned());
            if let Some(address) = &address {
                let other = self
                    .live
                    .lock()
                    .unwrap()
                    .insert(address.clone(), netns.id.clone());
                assert_eq!(other, None, "{address} is given to {} too", netns.id);
            }
            tokio::time::sleep(Duration::from_micros(draw.below(5000))).await;
            if let Some(address) = &address {
                self.live.lock().unwrap().remove(address);
            }
            // Some containers are forgotten: GC is to find them.
            if address.is_none() && draw.below(4) == 0 {
                netns = Container::new("none");
                continue;
            }
            let kill = (draw.below(4) == 0).then(|| Duration::from_micros(draw.below(30_000)));
            if self.plugin("DEL", &netns, &pod, kill).await.is_none() {
                assert!(self.plugin("DEL", &netns, &pod, None).await.is_some());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_leave_nothing_and_give_nothing_twice() {
    let count = std::env::var("CARACAL_STRESS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(80);
    let seed = std::env::var("CARACAL_STRESS_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) + 1);
    println!("{count} containers, seed {seed}");
    let node = Node::start().await;
    node.create(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "blue"},
        "spec": {"cidr": "10.244.0.0/24", "blockSize": 26, "ipipMode": "Never", "vxlanMode": "Never",
            "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"]},
    }))
    .await;
    for worker in 0..WORKERS {
        node.create_pod(&format!("web-{worker}"), &json!({})).await;
    }
    let mut conf = node.conf(&json!({"type": "calico-ipam"}));
    conf["daemon_socket"] = json!(node.path("cni.sock"));
    let run = Arc::new(Run {
        node,
        conf,
        live: Mutex::default(),
        next: AtomicUsize::new(0),
        count,
        killed: AtomicUsize::new(0),
        by_daemon: AtomicUsize::new(0),
        start: Instant::now(),
    });
    let over = Arc::new(AtomicBool::new(false));
    let mut draw = Draw(seed | 1);
    let workers = (0..WORKERS).map(|worker| {
        draw.below(2);
        let (run, draw) = (Arc::clone(&run), Draw(draw.0 ^ (worker as u64 + 1)));
        tokio::spawn(async move { run.work(worker, draw).await })
    });
    let workers: Vec<_> = workers.collect();
    let chaos = tokio::spawn({
        let (run, over, mut draw) = (Arc::clone(&run), Arc::clone(&over), draw.clone());
        async move {
            let mut kills = 0;
            let mut daemon = Daemon(None);
            while !over.load(Ordering::Relaxed) {
                daemon = Daemon(Some(start_daemon(&run.node)));
                // Sometimes it lives for long enough to know the cluster and work, sometimes not.
                tokio::time::sleep(Duration::from_millis(300 + draw.below(3000))).await;
                let mut child = daemon.0.take().unwrap();
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
            }
            drop(daemon);
            kills
        }
    });
    let results = futures::future::join_all(workers).await;
    over.store(true, Ordering::Relaxed);
    let kills = chaos.await.unwrap();
    for result in results {
        result.unwrap();
    }
    println!(
        "{count} containers in {:.0?}: {} plugins and {kills} daemons killed, {} calls done by the daemon",
        run.start.elapsed(),
        run.killed.load(Ordering::Relaxed),
        run.by_daemon.load(Ordering::Relaxed),
    );
    assert!(run.killed.load(Ordering::Relaxed) > 0, "nothing was killed");

    let mut collect = run.conf.clone();
    collect["cni.dev/valid-attachments"] = json!([]);
    let outcome = run
        .node
        .calico("GC", &Container::new("any"), None, &collect)
        .await;
    assert!(outcome.success, "{outcome:?}");
    let report = Ipam::new(run.node.client.clone()).check().await.unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    let blocks: Vec<IPAMBlock> = run.node.client.list(None, &ListOptions::default()).await.unwrap();
    let allocated: usize = blocks
        .iter()
        .map(|block| block.spec.allocations.iter().flatten().count())
        .sum();
    assert_eq!(allocated, 0);
    let handles: Vec<IPAMHandle> = run.node.client.list(None, &ListOptions::default()).await.unwrap();
    assert!(handles.is_empty(), "{handles:#?}");
    assert_eq!(run.node.pod_devices().await, Vec::<String>::new());
}

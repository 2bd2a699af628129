//! `make bench-cni`: what plugging a container in and out costs, beside the reference plugins and the bare kernel work
//! in the same run. Everything happens in a network namespace of its own; see `docs/performance.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark: it may end with a panic, and prints"
)]

mod floor;
mod servers;

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use caracal_cni::service::{Options, Service};
use caracal_datastore::ConnectOptions;
use caracal_linux::netlink::Netlink;
use caracal_linux::netns::{self, NetNs};
use serde_json::{Value, json};

use servers::Server;

/// How many calls are at work in the crowd.
const CROWD: usize = 10;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let text = |name: &str| {
        args.iter()
            .position(|arg| arg == name)
            .and_then(|at| args.get(at + 1))
    };
    let count = text("--count")
        .and_then(|count| count.parse().ok())
        .unwrap_or(200);
    if let Some(folder) = text("--serve") {
        serve(Path::new(folder));
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--inside") {
        let own = std::env::current_exe().unwrap().parent().unwrap().to_owned();
        let folder = |name| text(name).map(PathBuf::from);
        inside(&Setting {
            count,
            kubernetes: folder("--kubernetes"),
            plugins: folder("--plugins").unwrap_or(own),
            reference: folder("--reference").unwrap_or_else(|| PathBuf::from("/usr/lib/cni")),
        });
        return ExitCode::SUCCESS;
    }
    let netns = NetNs::create_anonymous().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let netlink = Netlink::open_in(&netns).unwrap();
        let lo = netlink.link_by_name("lo").await.unwrap();
        netlink.set_up(lo.index).await.unwrap();
        netlink
            .add_address(lo.index, "172.30.0.11/32".parse().unwrap())
            .await
            .unwrap();
    });
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.arg("--inside").args(&args);
    let status = netns.spawn(&mut again).unwrap().wait().unwrap();
    if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The daemon: the service as felix mounts it.
fn serve(folder: &Path) {
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

/// A container's namespace, removed with the value.
struct Namespace(PathBuf);

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = netns::delete_at(&self.0);
    }
}

/// One way of plugging in.
struct Way {
    name: &'static str,
    program: Option<PathBuf>,
    conf: Value,
    /// The daemon that works for it.
    daemon: Option<u32>,
}

/// Figures of one way.
struct Figures {
    add: Vec<Duration>,
    del: Vec<Duration>,
    cpu: Duration,
    crowd_add: Duration,
    crowd_del: Duration,
}

/// What is measured, and how often.
struct Setting {
    count: usize,
    /// Programs of a real API server; our own without it.
    kubernetes: Option<PathBuf>,
    plugins: PathBuf,
    reference: PathBuf,
}

fn inside(setting: &Setting) {
    let count = setting.count;
    let folder = tempfile_folder();
    let server = match &setting.kubernetes {
        Some(programs) => Server::real(&folder, programs),
        None => Server::embedded(&folder),
    };
    server.fill(&folder, count);
    let namespaces: Vec<Namespace> = (0..count)
        .map(|index| {
            let path = folder.join(format!("ns{index}"));
            NetNs::create_at(&path).unwrap();
            Namespace(path)
        })
        .collect();
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .arg("--serve")
        .arg(&folder)
        .spawn()
        .unwrap();
    let calico = |socket: &str| {
        json!({
            "cniVersion": "1.0.0", "name": "k8s-pod-network", "type": "calico", "nodename": "node-1", "mtu": 1500,
            "log_level": "error", "ipam": {"type": "calico-ipam"}, "policy": {"type": "k8s"},
            "kubernetes": {"kubeconfig": folder.join("kubeconfig")}, "daemon_socket": socket,
            "ipam_lock_file": folder.join("ipam.lock"),
        })
    };
    let socket = folder.join("cni.sock");
    let ways = [
        Way {
            name: "bare netlink loop (floor)",
            program: None,
            conf: Value::Null,
            daemon: None,
        },
        Way {
            name: "reference ptp + host-local",
            program: Some(setting.reference.join("ptp")),
            conf: json!({
                "cniVersion": "1.0.0", "name": "ptp", "type": "ptp",
                "ipam": {"type": "host-local", "dataDir": folder.join("host-local"),
                    "ranges": [[{"subnet": "10.99.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]},
            }),
            daemon: None,
        },
        Way {
            name: "calico through the daemon",
            program: Some(setting.plugins.join("calico")),
            conf: calico(socket.to_str().unwrap()),
            daemon: Some(daemon.id()),
        },
        Way {
            name: "calico without the daemon",
            program: Some(setting.plugins.join("calico")),
            conf: calico("none"),
            daemon: None,
        },
    ];
    // The daemon lists the cluster first, and claims its blocks.
    std::thread::sleep(Duration::from_secs(2));
    for way in &ways {
        plug(way, "ADD", 0, &namespaces[0].0);
        plug(way, "DEL", 0, &namespaces[0].0);
    }
    std::thread::sleep(Duration::from_secs(1));
    println!(
        "API server: {}; {count} containers; {CROWD} at a time in the last two columns\n",
        server.name
    );
    println!(
        "| way | ADD median / p99 ms | DEL median / p99 ms | CPU per ADD+DEL ms | API server's ms | ADD/s | DEL/s |"
    );
    println!("|---|---|---|---|---|---|---|");
    for way in &ways {
        let before = servers::cpu_of(server.pids());
        let figures = measure(way, &namespaces);
        let api = (servers::cpu_of(server.pids()) - before) / u32::try_from(2 * count).unwrap();
        print(way, figures, count, api);
    }
    println!(
        "\nresident in the plugin while the daemon works: {} KiB",
        resident(&folder, &ways[2], &namespaces[0].0)
    );
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    drop(namespaces);
    drop(server);
    let _ = std::fs::remove_dir_all(folder);
}

fn tempfile_folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("caracal-bench-cni-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn measure(way: &Way, namespaces: &[Namespace]) -> Figures {
    let before = cpu(way);
    let each = |command: &str| -> Vec<Duration> {
        let calls = namespaces.iter().enumerate().map(|(index, namespace)| {
            let start = Instant::now();
            plug(way, command, index, &namespace.0);
            start.elapsed()
        });
        calls.collect()
    };
    let (add, del) = (each("ADD"), each("DEL"));
    let cpu = cpu(way).saturating_sub(before) / u32::try_from(namespaces.len()).unwrap();
    let crowd = |command: &str| {
        let next = AtomicUsize::new(0);
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..CROWD {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(namespace) = namespaces.get(index) else {
                            return;
                        };
                        plug(way, command, index, &namespace.0);
                    }
                });
            }
        });
        start.elapsed()
    };
    let (crowd_add, crowd_del) = (crowd("ADD"), crowd("DEL"));
    Figures {
        add,
        del,
        cpu,
        crowd_add,
        crowd_del,
    }
}

/// CPU of a way so far: its processes that ended, its daemon, and for the floor this process.
fn cpu(way: &Way) -> Duration {
    match (&way.program, way.daemon) {
        (None, _) => servers::cpu_of([std::process::id()]),
        (Some(_), daemon) => servers::cpu_of_children() + servers::cpu_of(daemon),
    }
}

fn print(way: &Way, mut figures: Figures, count: usize, api: Duration) {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let of = |times: &mut Vec<Duration>| {
        times.sort();
        format!(
            "{:.2} / {:.2}",
            ms(times[times.len() / 2]),
            ms(times[times.len() * 99 / 100])
        )
    };
    let per_second = |time: Duration| count as f64 / time.as_secs_f64();
    println!(
        "| {} | {} | {} | {:.2} | {:.2} | {:.0} | {:.0} |",
        way.name,
        of(&mut figures.add),
        of(&mut figures.del),
        ms(figures.cpu),
        ms(api),
        per_second(figures.crowd_add),
        per_second(figures.crowd_del),
    );
}

fn plug(way: &Way, command: &str, index: usize, namespace: &Path) {
    let Some(program) = &way.program else {
        let host = format!("floor{index}");
        match command {
            "ADD" => {
                let netns = NetNs::open(namespace).unwrap();
                let index = u32::try_from(index).unwrap();
                floor::add(&host, &netns, Ipv4Addr::from_bits(0x0a62_0001 + index)).unwrap();
            }
            _ => floor::del(&host).unwrap(),
        }
        return;
    };
    let mut child = start(program, command, index, namespace);
    child
        .stdin
        .take()
        .unwrap()
        .write_all(way.conf.to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{} {command} {index}: {output:?}",
        way.name
    );
}

fn start(program: &Path, command: &str, index: usize, namespace: &Path) -> std::process::Child {
    let folder = program.parent().unwrap();
    let args = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-{index};K8S_POD_UID={}",
        servers::uid(index)
    );
    Command::new(program)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", format!("bench{index}"))
        .env("CNI_NETNS", namespace)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_ARGS", args)
        .env("CNI_PATH", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The highest resident size of the plugin while it waits for a daemon that never finishes.
fn resident(folder: &Path, way: &Way, namespace: &Path) -> u64 {
    use caracal_cni::talk::{self, Reply};
    let socket = folder.join("slow.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut conf = way.conf.clone();
    conf["daemon_socket"] = json!(socket);
    let mut child = start(way.program.as_ref().unwrap(), "ADD", 0, namespace);
    child
        .stdin
        .take()
        .unwrap()
        .write_all(conf.to_string().as_bytes())
        .unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(&talk::encode(&Reply::Ready).unwrap()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

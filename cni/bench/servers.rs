//! API servers for the benchmark, what they are filled with, and CPU clocks.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use caracal_api::v3::{ClusterInformation, IPPool};
use caracal_datastore::{Client, ConnectOptions, Object};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

/// Ticks of `/proc/PID/stat`.
const TICKS_PER_SECOND: u32 = 100;

/// A running API server; it ends with the value.
pub struct Server {
    pub name: &'static str,
    processes: Vec<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in self.processes.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn quiet(command: &mut Command, log: &Path) -> Child {
    let log = std::fs::File::create(log).unwrap();
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Server {
    /// Our own, with its store on disk.
    pub fn embedded(folder: &Path) -> Self {
        let program = std::env::current_exe()
            .unwrap()
            .with_file_name("caracal-apiserver");
        let mut command = Command::new(program);
        command
            .args(["--listen", "127.0.0.1:0", "--kubeconfig-out"])
            .arg(folder.join("kubeconfig"));
        command.arg("--data").arg(folder.join("store"));
        let processes = vec![quiet(&mut command, &folder.join("apiserver.log"))];
        Self {
            name: "embedded",
            processes,
        }
    }

    /// etcd and kube-apiserver from a folder of programs.
    pub fn real(folder: &Path, programs: &Path) -> Self {
        let at = |name: &str| folder.join(name);
        let mut etcd = Command::new(programs.join("etcd"));
        etcd.arg("--data-dir").arg(at("etcd"));
        for (flag, url) in [
            ("--listen-client-urls", "http://127.0.0.1:2379"),
            ("--advertise-client-urls", "http://127.0.0.1:2379"),
            ("--listen-peer-urls", "http://127.0.0.1:2380"),
        ] {
            etcd.args([flag, url]);
        }
        let etcd = quiet(&mut etcd, &at("etcd.log"));
        let key = at("sa.key");
        let made = Command::new("openssl")
            .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
            .arg(&key)
            .status();
        assert!(made.unwrap().success(), "openssl makes a key");
        std::fs::write(at("tokens.csv"), "secret,admin,admin,system:masters\n").unwrap();
        let mut api = Command::new(programs.join("kube-apiserver"));
        api.arg("--etcd-servers=http://127.0.0.1:2379")
            .arg(format!("--cert-dir={}", at("certs").display()));
        api.args([
            "--bind-address=127.0.0.1",
            "--secure-port=6443",
            "--advertise-address=172.30.0.11",
        ]);
        api.args([
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://bench",
        ]);
        api.arg(format!("--service-account-key-file={}", key.display()));
        api.arg(format!("--service-account-signing-key-file={}", key.display()));
        api.arg(format!("--token-auth-file={}", at("tokens.csv").display()));
        api.args([
            "--authorization-mode=AlwaysAllow",
            "--disable-admission-plugins=ServiceAccount",
        ]);
        let api = quiet(&mut api, &at("kube-apiserver.log"));
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": true}}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(at("kubeconfig"), kubeconfig.to_string()).unwrap();
        let server = Self {
            name: "kube-apiserver and etcd",
            processes: vec![etcd, api],
        };
        let charts =
            std::env::var("CARACAL_CRDS").unwrap_or_else(|_| "charts/caracal-crds/templates".to_owned());
        let start = Instant::now();
        loop {
            let mut apply = Command::new(programs.join("kubectl"));
            apply
                .arg("--kubeconfig")
                .arg(at("kubeconfig"))
                .args(["apply", "--server-side", "-f", &charts]);
            if apply
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap()
                .success()
            {
                return server;
            }
            assert!(
                start.elapsed() < Duration::from_secs(240),
                "kube-apiserver takes the definitions; see {}",
                folder.display()
            );
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().map(Child::id)
    }

    /// A node, a pool, and a Pod for each container.
    pub fn fill(&self, folder: &Path, count: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let options = ConnectOptions {
                kubeconfig: Some(PathBuf::from(folder).join("kubeconfig")),
                ..ConnectOptions::default()
            };
            let start = Instant::now();
            let client = loop {
                let client = Client::connect(&options).await;
                if let Ok(client) = client
                    && client.get::<ClusterInformation>(None, "default").await.is_ok()
                {
                    break client;
                }
                assert!(start.elapsed() < Duration::from_secs(60), "the API server answers");
                tokio::time::sleep(Duration::from_millis(200)).await;
            };
            make::<ClusterInformation>(&client, json!({
                "apiVersion": "projectcalico.org/v3", "kind": "ClusterInformation", "metadata": {"name": "default"},
                "spec": {"clusterGUID": "0", "datastoreReady": true},
            })).await;
            make::<IPPool>(&client, json!({
                "apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "bench"},
                "spec": {"cidr": "10.244.0.0/16", "blockSize": 26, "ipipMode": "Never", "vxlanMode": "Never",
                    "natOutgoing": false, "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"]},
            })).await;
            make::<Node>(&client, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})).await;
            for index in 0..count {
                let pod = json!({
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": format!("web-{index}"), "namespace": "default"},
                    "spec": {"nodeName": "node-1", "automountServiceAccountToken": false,
                        "containers": [{"name": "c", "image": "i"}]},
                });
                let made = make::<Pod>(&client, pod).await;
                let uid = made.and_then(|pod| pod.metadata.uid).unwrap_or_default();
                std::fs::write(folder.join(format!("uid{index}")), uid).unwrap();
            }
        });
        *FOLDER.lock().unwrap() = Some(folder.to_owned());
    }
}

static FOLDER: std::sync::Mutex<Option<PathBuf>> = std::sync::Mutex::new(None);

/// The UID of a container's Pod, as the runtime would say it.
pub fn uid(index: usize) -> String {
    let folder = FOLDER.lock().unwrap().clone().unwrap();
    std::fs::read_to_string(folder.join(format!("uid{index}"))).unwrap()
}

async fn make<K: Object>(client: &Client, object: Value) -> Option<K> {
    let object: K = serde_json::from_value(object).unwrap();
    match client.create(&object).await {
        Ok(made) => Some(made),
        Err(error) if error.is_already_exists() => None,
        Err(error) => panic!("{error}"),
    }
}

fn stat(path: &str) -> Option<Vec<u64>> {
    let text = std::fs::read_to_string(path).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(
        fields
            .split_whitespace()
            .map(|field| field.parse().unwrap_or_default())
            .collect(),
    )
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs(count) / TICKS_PER_SECOND
}

/// CPU of processes that run.
pub fn cpu_of(pids: impl IntoIterator<Item = u32>) -> Duration {
    let times = pids
        .into_iter()
        .filter_map(|pid| stat(&format!("/proc/{pid}/stat")));
    times.map(|fields| ticks(fields[11] + fields[12])).sum()
}

/// CPU of own children that ended, and theirs.
pub fn cpu_of_children() -> Duration {
    stat("/proc/self/stat").map_or(Duration::ZERO, |fields| ticks(fields[13] + fields[14]))
}

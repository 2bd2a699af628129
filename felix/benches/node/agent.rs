//! The program itself.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Backend;
use crate::cluster::Cluster;

const LIMIT: Duration = Duration::from_secs(180);

pub(crate) struct Felix(Child);

impl Felix {
    pub(crate) fn start(cluster: &Cluster, backend: Backend) -> Self {
        let mode = match backend {
            Backend::Iptables => "Disabled",
            Backend::Nftables => "Enabled",
        };
        let log = std::fs::File::create(cluster.path("felix.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_caracal-felix"))
            .args([
                "--node-name",
                "node-1",
                "--cni-socket",
                "none",
                "--denials-socket",
                "none",
            ])
            .arg("--kubeconfig")
            .arg(cluster.path("kubeconfig"))
            .env("FELIX_NFTABLESMODE", mode)
            .env("FELIX_IPTABLESBACKEND", "NFT")
            .env("FELIX_ENDPOINTSTATUSPATHPREFIX", cluster.path("status"))
            .env("FELIX_LOGSEVERITYSCREEN", "Warning")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    pub(crate) async fn wait_in_sync(&self) {
        let limit = Instant::now() + LIMIT;
        loop {
            let value = metric("felix_int_dataplane_initial_resync_time_seconds");
            if value.is_some_and(|seconds| seconds > 0.0) {
                return;
            }
            assert!(Instant::now() < limit, "felix is not in sync within {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn memory_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    pub(crate) async fn idle_percent(&self, time: Duration) -> f64 {
        let before = self.ticks();
        tokio::time::sleep(time).await;
        (self.ticks() - before) as f64 / time.as_secs_f64()
    }

    /// CPU time in hundredths of a second.
    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let rest = stat.rsplit_once(") ").unwrap().1;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Felix {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn metric(name: &str) -> Option<f64> {
    let mut stream = TcpStream::connect("127.0.0.1:9091").ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ")))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

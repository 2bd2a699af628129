//! `caracal-controllers`: what one process does for the whole cluster.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use caracal_controllers::lease::{Candidate, Times};
use caracal_controllers::run::{Addresses, Options, run};
use caracal_controllers::settings::VARIABLES;
use caracal_daemon::logging::{self, Format, Level};
use caracal_daemon::signals;
use caracal_datastore::{Client, ConnectOptions};
use clap::Parser;

/// Collects leaked addresses, and keeps pools, tiers and automatic host endpoints in order. Any number may run: one acts.
#[derive(Debug, Parser)]
#[command(name = "caracal-controllers", version)]
struct Args {
    /// Kubeconfig file; by default the pod's service account, KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of the Lease.
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "kube-system"
    )]
    namespace: String,
    /// Name of the Lease.
    #[arg(long, value_name = "NAME", default_value = "caracal-controllers")]
    lease: String,
    /// Name of this process in the Lease, unlike all others; by default the host's name and a random part.
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// Address of the metrics (the port is prometheusMetricsPort of the KubeControllersConfiguration); `none` for no
    /// metrics.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    metrics: String,
    /// Address of the health probes; `none` for no probes.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9095")]
    health: String,
    /// Form of log lines: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: String,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let level = logging::init_adjustable("controllers", args.log_format.parse::<Format>()?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The Lease is renewed on a thread of its own, whatever the controllers compute.
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(start(args, level))
}

async fn start(args: Args, level: Level) -> anyhow::Result<()> {
    let addresses = Addresses {
        metrics: address::<IpAddr>("metrics", &args.metrics, "127.0.0.1")?,
        health: address::<SocketAddr>("health", &args.health, "127.0.0.1:9095")?,
    };
    let options = ConnectOptions {
        kubeconfig: args.kubeconfig.clone(),
        user_agent: concat!("caracal-controllers/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..ConnectOptions::default()
    };
    let client = Client::connect(&options).await?;
    let options = Options {
        candidate: Candidate {
            namespace: args.namespace,
            name: args.lease,
            identity: args.identity.unwrap_or_else(identity),
            times: Times::default(),
        },
        environment: environment(),
        addresses,
        level: Some(level),
        seed: rand::random(),
    };
    run(client, options, shutdown()).await?;
    tracing::info!("ended");
    Ok(())
}

/// An address, or `none`.
fn address<A: std::str::FromStr>(option: &str, text: &str, example: &str) -> anyhow::Result<Option<A>> {
    if text == "none" {
        return Ok(None);
    }
    match text.parse() {
        Ok(address) => Ok(Some(address)),
        Err(_) => bail!("--{option} {text:?} is no address; use one as {example}, or none"),
    }
}

fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{}", host.trim(), uuid::Uuid::new_v4())
}

fn environment() -> BTreeMap<String, String> {
    VARIABLES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect()
}

async fn shutdown() {
    match signals::shutdown().await {
        Ok(signal) => tracing::info!(signal = ?signal, "ending"),
        Err(error) => {
            tracing::error!(error = %error, "signals cannot be caught");
            std::future::pending::<()>().await;
        }
    }
}

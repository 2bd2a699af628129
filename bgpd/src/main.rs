//! `caracal-bgpd`: the BGP speaker of a node.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use caracal_bgpd::kernel;
use caracal_bgpd::metrics::Metrics;
use caracal_bgpd::run::{Cluster, Options, Source, run};
use caracal_bgpd::{record, standalone};
use caracal_bgpd_compile::{RouterIdRule, Snapshot};
use caracal_daemon::health::{Health, Reports};
use caracal_daemon::http::{Routes, Server, serve};
use caracal_daemon::logging::{self, Format};
use caracal_daemon::metrics::Registry;
use caracal_datastore::{Client, ConnectOptions};
use clap::Parser;

/// How long `--print-config` waits for the API.
const PRINT_TIMEOUT: Duration = Duration::from_secs(30);
/// The owner loop counts as stuck when it does not report for so long.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(90);

/// Speaks BGP for a node: sessions and routes from the cluster's resources, or from a file.
#[derive(Debug, Parser)]
#[command(name = "caracal-bgpd", version)]
struct Args {
    /// Kubeconfig file; by default the pod's service account, KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    kubeconfig: Option<PathBuf>,
    /// Name of this node's Node object.
    #[arg(long, env = "NODENAME", value_name = "NAME")]
    node_name: Option<String>,
    /// Namespace of the Secrets with BGP passwords.
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "kube-system"
    )]
    namespace: String,
    /// Configuration file, in place of the cluster's resources.
    #[arg(long, value_name = "FILE.yaml")]
    config: Option<PathBuf>,
    /// Print the configuration that would be used, as YAML, and end.
    #[arg(long)]
    print_config: bool,
    /// Control socket.
    #[arg(long, value_name = "PATH", default_value = "/run/caracal/bgpd.sock")]
    control: PathBuf,
    /// Address of the metrics; `none` for no metrics.
    #[arg(
        long,
        env = "BGPD_METRICS",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:9900"
    )]
    metrics: String,
    /// Address of the health probes; `none` for no probes.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9098")]
    health: String,
    /// Protocol number of kernel routes.
    #[arg(long, value_name = "NUMBER", default_value_t = kernel::PROTOCOL, value_parser = clap::value_parser!(u8).range(5..))]
    route_protocol: u8,
    /// Record everything that goes into the speaker, a JSON object a line, for `--replay`. Passwords are left out.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Run a record through a speaker without sockets or kernel, print its status and routes as JSON, and end.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "kubeconfig", "record"])]
    replay: Option<PathBuf>,
    /// Tell a BMP station (RFC 7854) of all sessions and of the routes that peers send.
    #[arg(long, value_name = "ADDR:PORT")]
    bmp: Option<SocketAddr>,
    /// Append the messages of peers to an MRT file (RFC 6396).
    #[arg(long, value_name = "FILE")]
    mrt_updates: Option<PathBuf>,
    /// Form of log lines: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: String,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    logging::init("bgpd", args.log_format.parse::<Format>()?)?;
    // One thread: the loop is mostly idle, and a second thread costs memory on every node.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(start(args))
}

async fn start(args: Args) -> anyhow::Result<()> {
    if let Some(path) = &args.replay {
        let text = serde_json::to_string_pretty(&record::replay(path)?)?;
        writeln!(std::io::stdout(), "{text}")?;
        return Ok(());
    }
    let source = match &args.config {
        Some(path) => Source::Fixed(Box::new(standalone::load(path)?)),
        None => Source::Cluster(Box::new(cluster(&args).await?)),
    };
    if args.print_config {
        return print(source).await;
    }
    let registry = Registry::new("bgpd")?;
    let metrics = Metrics::new(&registry)?;
    let health = Health::new();
    let reporter = health.register("Speaker", Reports::BOTH, Some(HEALTH_TIMEOUT));
    let _metrics_server = server("metrics", &args.metrics, Routes::new().metrics(registry)).await?;
    let _health_server = server("health", &args.health, Routes::new().health(health)).await?;
    let options = Options {
        source,
        control: args.control,
        kernel: kernel::Settings {
            protocol: args.route_protocol,
        },
        seed: rand::random(),
        record: args.record,
        bmp: args.bmp,
        mrt_updates: args.mrt_updates,
    };
    run(options, metrics, reporter).await?;
    Ok(())
}

async fn cluster(args: &Args) -> anyhow::Result<Cluster> {
    let Some(node) = args.node_name.as_deref().filter(|name| !name.is_empty()) else {
        bail!(
            "the name of this node is not known; use --node-name or NODENAME, or --config for a speaker without a cluster"
        );
    };
    let options = ConnectOptions {
        kubeconfig: args.kubeconfig.clone(),
        user_agent: concat!("caracal-bgpd/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..ConnectOptions::default()
    };
    let client = Client::connect(&options).await?;
    let router_id = std::env::var("CALICO_ROUTER_ID").unwrap_or_default();
    let Some(router_id) = RouterIdRule::parse(&router_id) else {
        bail!(
            "CALICO_ROUTER_ID={router_id:?} is no BGP identifier; use an IPv4 address, hash, or leave it unset"
        );
    };
    let cluster_ips = std::env::var("CALICO_ADVERTISE_CLUSTER_IPS").unwrap_or_default();
    let cluster_ips: Vec<String> = cluster_ips
        .split(',')
        .map(|range| range.trim().to_owned())
        .filter(|range| !range.is_empty())
        .collect();
    let snapshot = Snapshot {
        router_id,
        cluster_ips_override: Some(cluster_ips).filter(|ranges| !ranges.is_empty()),
        ..Snapshot::default()
    };
    Ok(Cluster::new(client, node, &args.namespace, snapshot))
}

/// Serves on an address, unless it is `none`. A port that is taken does not keep BGP down.
async fn server(name: &'static str, address: &str, routes: Routes) -> anyhow::Result<Option<Server>> {
    if address == "none" {
        return Ok(None);
    }
    let Ok(address) = address.parse::<SocketAddr>() else {
        bail!("--{name} {address:?} is no address; use one as 127.0.0.1:9900, or none");
    };
    match serve(address, routes).await {
        Ok(server) => Ok(Some(server)),
        Err(error) => {
            tracing::error!(server = name, error = %error, "not served");
            Ok(None)
        }
    }
}

async fn print(source: Source) -> anyhow::Result<()> {
    let config = match source {
        Source::Fixed(config) => *config,
        Source::Cluster(cluster) => {
            let compiled = tokio::time::timeout(PRINT_TIMEOUT, compiled(*cluster))
                .await
                .context("the API did not answer; is it up, and may this program list what it needs?")??;
            for problem in &compiled.problems {
                tracing::warn!(problem = %problem, "a value cannot be used");
            }
            compiled
                .config
                .context("there is no configuration for this node; the log above says why")?
        }
    };
    let text = standalone::render(&config).map_err(anyhow::Error::msg)?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

async fn compiled(cluster: Cluster) -> anyhow::Result<caracal_bgpd_compile::Compiled> {
    let (mut cluster, mut changes) = cluster.start();
    loop {
        if let Some(compiled) = cluster.compile_if_due(Instant::now()) {
            return Ok(compiled);
        }
        let wait = cluster
            .compile_at()
            .unwrap_or_else(|| Instant::now() + PRINT_TIMEOUT);
        tokio::select! {
            change = changes.recv() => cluster.on_change(change.context("the watches ended")?),
            () = tokio::time::sleep_until(wait.into()) => {}
        }
    }
}

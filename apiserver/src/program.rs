//! The program: flags, sockets, credentials and the order in which it starts and ends.

mod credentials;
mod keep;
mod kubeconfig;
mod patient;
mod seed;
mod serve;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use caracal_apiserver::{ApiServer, Options};
use caracal_daemon::health::{Health, Reports};
use clap::Parser;

const DEFAULT_LISTEN: &str = "127.0.0.1:6443";

/// The embedded Kubernetes API: storage, watches and custom resources, without controllers.
#[derive(Debug, Parser)]
#[command(name = "caracal-apiserver", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<keep::Command>,
    #[command(flatten)]
    serve: Serve,
}

/// Flags of the server itself.
#[derive(Debug, clap::Args)]
struct Serve {
    /// Listen here; may be given several times. Without it: the inherited sockets (LISTEN_FDS), else 127.0.0.1:6443.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Keep objects, certificates and the token in this directory.
    #[arg(long, value_name = "DIR", conflicts_with = "memory")]
    data: Option<PathBuf>,
    /// Keep everything in memory; it is gone when the program ends.
    #[arg(long)]
    memory: bool,
    /// Write the administrator's kubeconfig here, for its owner only.
    #[arg(long, value_name = "FILE")]
    kubeconfig_out: Option<PathBuf>,
    /// The server's address in that kubeconfig.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// A further name or address that the certificate is for; may be given several times.
    #[arg(long, value_name = "NAME")]
    tls_san: Vec<String>,
    /// Add the objects in the YAML and JSON files of this directory, unless they are there.
    #[arg(long, value_name = "DIR")]
    seed: Option<PathBuf>,
    /// Answer probes without TLS here (/liveness, /readiness).
    #[arg(long, value_name = "ADDR:PORT")]
    health: Option<SocketAddr>,
    /// How log lines look: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: caracal_daemon::logging::Format,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Some(command) => keep::run(command),
        None => serve(arguments.serve).await,
    }
}

async fn serve(arguments: Serve) -> Result<()> {
    if arguments.data.is_none() && !arguments.memory {
        bail!("where to keep objects: give --data DIR, or --memory to keep nothing");
    }
    caracal_daemon::logging::init("caracal-apiserver", arguments.log_format)?;
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        bail!("another TLS provider is installed in this process");
    }
    let advertised = arguments
        .advertise
        .as_deref()
        .map(kubeconfig::host_of)
        .transpose()
        .map_err(anyhow::Error::msg)?;
    // From here on clients may connect; they wait until everything is loaded.
    let (listeners, addresses) = listeners(&arguments.listen)?;
    let mut names: BTreeSet<String> = arguments.tls_san.iter().cloned().collect();
    names.extend(advertised);
    names.extend(
        addresses
            .iter()
            .filter(|address| !address.ip().is_unspecified())
            .map(|address| address.ip().to_string()),
    );
    let credentials = credentials::prepare(arguments.data.as_deref(), names)?;
    let options = Options {
        token_secret: Some(credentials.token.clone()),
        ..Options::default()
    };
    let server = match &arguments.data {
        None => ApiServer::in_memory_with(options),
        Some(directory) => ApiServer::open(directory, options).await?,
    };
    if let Some(directory) = &arguments.seed {
        let objects = seed::load(&server, directory).await.context("--seed")?;
        tracing::info!(objects, directory = %directory.display(), "seeded");
    }
    if let Some(path) = &arguments.kubeconfig_out {
        let first = addresses.first().map(|address| kubeconfig::reachable(*address));
        let reached = arguments.advertise.or(first).unwrap_or_default();
        let text = kubeconfig::render(&reached, &credentials.authority_pem, &credentials.token);
        credentials::write_private(path, &text).context("--kubeconfig-out")?;
    }
    let _probes = probes(arguments.health).await?;
    let (end, ending) = tokio::sync::watch::channel(false);
    let door = serve::Door::new(server.service(), credentials.tls, &credentials.token, ending);
    let serving = tokio::spawn(serve::serve(listeners, door));
    let _keeping = keep::Tasks::start(&server, arguments.data.as_deref())?;
    for address in &addresses {
        tracing::info!(%address, "serving");
    }
    let signal = caracal_daemon::signals::shutdown()
        .await
        .context("wait for signals")?;
    tracing::info!(?signal, "ending");
    end.send_replace(true);
    serving.await.context("the server failed")?
}

async fn probes(address: Option<SocketAddr>) -> Result<Option<caracal_daemon::http::Server>> {
    let Some(address) = address else { return Ok(None) };
    let health = Health::new();
    let reporter = health.register("ApiServer", Reports::BOTH, None);
    reporter.report(true, true, "serving");
    let routes = caracal_daemon::http::Routes::new().health(health);
    let server = caracal_daemon::http::serve(address, routes)
        .await
        .context("--health")?;
    Ok(Some(server))
}

/// The inherited sockets and those asked for, with their addresses.
fn listeners(wanted: &[SocketAddr]) -> Result<(Vec<TcpListener>, Vec<SocketAddr>)> {
    let mut listeners = Vec::new();
    let mut inherited = listenfd::ListenFd::from_env();
    for index in 0..inherited.len() {
        let socket = inherited
            .take_tcp_listener(index)
            .with_context(|| format!("LISTEN_FDS: descriptor {} cannot be listened on", index + 3))?;
        listeners.extend(socket);
    }
    let default = || DEFAULT_LISTEN.parse().into_iter().collect();
    let wanted = if wanted.is_empty() && listeners.is_empty() {
        default()
    } else {
        wanted.to_vec()
    };
    for address in wanted {
        let listener = TcpListener::bind(address)
            .with_context(|| format!("--listen {address}: no socket there (is the port taken?)"))?;
        listeners.push(listener);
    }
    let addresses = listeners
        .iter()
        .map(TcpListener::local_addr)
        .collect::<Result<_, _>>()?;
    Ok((listeners, addresses))
}

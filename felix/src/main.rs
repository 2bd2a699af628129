//! `caracal-felix`: the node agent as a program.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use caracal_cni::aside;
use caracal_cni::board::Board;
use caracal_cni::service::{Options, Service};
use caracal_daemon::{logging, signals};
use caracal_datastore::{Client, ConnectOptions};
use caracal_felix::agent::{Agent, Settings};
use caracal_felix::args::Args;
use caracal_felix::confirmation::Answering;
use caracal_felix::denials::stream::{self, Serving, Stream};
use caracal_felix::exec::SystemRunner;
use caracal_felix::{features, parameters};
use caracal_linux::netlink::Netlink;
use clap::Parser as _;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = logging::init("felix", args.log_format) {
        tracing::error!(error = %error, "logging");
        return ExitCode::FAILURE;
    }
    // One thread: rounds are short, and each more thread costs memory on every node.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime");
    match runtime.and_then(|runtime| runtime.block_on(run(args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes, each said once: some messages repeat their cause already.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| {
        let cause = cause.to_string();
        match (text.is_empty(), text.contains(&cause)) {
            (true, _) => cause,
            (false, true) => text,
            (false, false) => format!("{text}: {cause}"),
        }
    })
}

async fn run(args: Args) -> anyhow::Result<()> {
    let settings = Settings {
        node: node_name(args.node_name)?,
        parameters: vec![
            parameters::from_environment(std::env::vars()),
            parameters::from_file(args.config.as_deref())?,
        ],
    };
    features::check_kernel()?;
    let options = ConnectOptions {
        kubeconfig: args.kubeconfig,
        user_agent: concat!("caracal-felix/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..ConnectOptions::default()
    };
    let client = Client::connect(&options).await?;
    tracing::info!(node = settings.node, "this node");
    let board = Board::default();
    let plugins = Options {
        socket: args.cni_socket,
        node: settings.node.clone(),
        connect: ConnectOptions {
            user_agent: concat!("caracal-felix-cni/", env!("CARGO_PKG_VERSION")).to_owned(),
            ..options
        },
        board: Some(board.clone()),
        aside: (args.cni_reserve > 0).then(|| aside::Options {
            folder: args.cni_reserve_dir,
            count: usize::from(args.cni_reserve),
        }),
    };
    let _plugins = serve_plugins(plugins).await;
    let _answering = Answering::start(&client, &settings.node, Netlink::open()?);
    let stream = Stream::default();
    let _denials = serve_denials(&args.denials_socket, &stream).await;
    let agent = Agent::new(SystemRunner, &client, settings).await?;
    let agent = agent.telling(board).reporting(stream);
    agent
        .run(async {
            match signals::shutdown().await {
                Ok(signal) => tracing::info!(?signal, "ends, the kernel's state stays"),
                Err(error) => tracing::error!(error = %error, "signals cannot be caught"),
            }
        })
        .await?;
    Ok(())
}

/// Serves readers of denied packets. Policy does not depend on them, so a failure is no reason to end.
async fn serve_denials(path: &Path, stream: &Stream) -> Option<Serving> {
    if path == Path::new("none") {
        return None;
    }
    match stream::serve(path, stream.clone()).await {
        Ok(serving) => Some(serving),
        Err(error) => {
            tracing::warn!(error = %error, "denied packets are told nowhere");
            None
        }
    }
}

/// Serves CNI plugins. Without that they do the same work themselves, so a failure is no reason to end.
async fn serve_plugins(options: Options) -> Option<Service> {
    if options.socket == Path::new("none") {
        return None;
    }
    // It starts a runtime of its own, which a thread that drives one may not.
    let started = tokio::task::spawn_blocking(move || Service::start(options)).await;
    match started
        .map_err(anyhow::Error::from)
        .and_then(|started| Ok(started?))
    {
        Ok(service) => Some(service),
        Err(error) => {
            tracing::warn!(error = %error, "CNI plugins are not served here, they work themselves");
            None
        }
    }
}

fn node_name(given: Option<String>) -> anyhow::Result<String> {
    let given = given.or_else(|| std::env::var("FELIX_FELIXHOSTNAME").ok());
    if let Some(name) = given.filter(|name| !name.is_empty()) {
        return Ok(name);
    }
    let path = Path::new("/proc/sys/kernel/hostname");
    let name = std::fs::read_to_string(path).context("read the host name; give --node-name")?;
    Ok(name.trim().to_ascii_lowercase())
}

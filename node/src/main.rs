//! `caracal-node`: the first process of the node container, and its commands.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use caracal_daemon::logging;
use caracal_datastore::{Client, ConnectOptions};
use caracal_linux::netlink::Netlink;
use caracal_node::args::{Args, Command, Common, HealthArgs, spelled_out};
use caracal_node::environment::{Backend, Environment};
use caracal_node::health::judge;
use caracal_node::install::{self, Places};
use caracal_node::run::{self, Daemons, Settings};
use caracal_node::startup::Startup;
use caracal_node::supervise::Patience;
use caracal_node::{condition, drain};
use clap::Parser as _;

/// Where felix answers, as Calico's does.
const FELIX_HEALTH_PORT: u16 = 9099;
/// How long a command waits for the API.
const COMMAND_PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let args = Args::parse_from(spelled_out(std::env::args().collect()));
    match start(args) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{}", run::one_line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> anyhow::Result<ExitCode> {
    // A probe runs every few seconds: it says what is wrong, and nothing else.
    if !matches!(args.command, Some(Command::Health(_))) {
        logging::init("node", args.common.log_format)?;
    }
    // One thread: this process waits nearly all the time.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(dispatch(args))
}

async fn dispatch(args: Args) -> anyhow::Result<ExitCode> {
    let variables: BTreeMap<String, String> = std::env::vars().collect();
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let environment = Environment::read(&variables, &host_name)?;
    let common = &args.common;
    let done = match args.command {
        None => run::run(settings(common, environment, variables)?).await,
        Some(Command::Health(wanted)) => return health(&wanted, common, &environment, &variables).await,
        Some(Command::Startup) => startup(common, environment).await,
        Some(Command::InstallCni) => install_cni(common, &environment, &variables).await,
        Some(Command::Shutdown) => shutdown(common, &environment).await,
        Some(Command::Drain { wait, undo }) => drain(common, &environment, wait, undo).await,
        Some(Command::Init { .. }) => {
            tracing::info!("nothing needs to be mounted for this node");
            Ok(())
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn settings(
    common: &Common,
    environment: Environment,
    variables: BTreeMap<String, String>,
) -> anyhow::Result<Settings> {
    let health = match common.health.as_str() {
        "none" => None,
        text => match text.parse() {
            Ok(address) => Some(address),
            Err(_) => bail!("--health {text:?} is no address; use one as 127.0.0.1:9097, or none"),
        },
    };
    let bin_dir = match &common.bin_dir {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()
            .ok()
            .and_then(|path| path.parent().map(PathBuf::from))
            .context("where this program is cannot be found out; use --bin-dir")?,
    };
    let daemons = daemons(common, &variables)?;
    let log_format = match common.log_format {
        logging::Format::Text => "text",
        logging::Format::Json => "json",
    };
    let programs = run::programs(
        &environment,
        &bin_dir,
        log_format,
        common.kubeconfig.as_deref(),
        &daemons,
    );
    Ok(Settings {
        environment,
        variables,
        connect: connect_options(common),
        programs,
        patience: Patience::default(),
        daemons,
        health,
        nodename_file: common.nodename_file.clone(),
        places: places(common),
    })
}

fn daemons(common: &Common, variables: &BTreeMap<String, String>) -> anyhow::Result<Daemons> {
    let text = |name: &str| {
        variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    };
    let host = match text("FELIX_HEALTHHOST") {
        None | Some("localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(host) => host
            .parse()
            .ok()
            .with_context(|| format!("FELIX_HEALTHHOST={host:?} is no address; use one, or localhost"))?,
    };
    let port = match text("FELIX_HEALTHPORT") {
        None => FELIX_HEALTH_PORT,
        Some(port) => port
            .parse()
            .ok()
            .with_context(|| format!("FELIX_HEALTHPORT={port:?} is no port; use 1 to 65535"))?,
    };
    Ok(Daemons {
        felix_health: SocketAddr::new(host, port),
        bgpd_health: common.bgpd_health,
        bgpd_control: common.bgpd_control.clone(),
    })
}

fn connect_options(common: &Common) -> ConnectOptions {
    ConnectOptions {
        kubeconfig: common.kubeconfig.clone(),
        user_agent: concat!("caracal-node/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..ConnectOptions::default()
    }
}

fn places(common: &Common) -> Places {
    Places {
        net_dir: common.cni_net_dir.clone(),
        ..Places::default()
    }
}

async fn startup(common: &Common, environment: Environment) -> anyhow::Result<()> {
    let startup = Startup {
        client: Client::connect(&connect_options(common)).await?,
        netlink: Netlink::open()?,
        environment,
        nodename_file: common.nodename_file.clone(),
    };
    Ok(startup.run().await?)
}

async fn install_cni(
    common: &Common,
    environment: &Environment,
    variables: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let places = places(common);
    let bin_dir = install::programs(&places, variables)?;
    // The plugins reach the API through felix first; that no token is there yet must not keep the node from starting.
    match Client::connect(&connect_options(common)).await {
        Ok(client) => {
            let written = install::credentials(&client, &places, variables, &environment.cni_account).await;
            if let Err(error) = written {
                tracing::warn!(error = %run::one_line(&error), "the CNI plugins' kubeconfig is not written yet");
            }
        }
        Err(error) => {
            tracing::warn!(error = %run::one_line(&error), "the CNI plugins' kubeconfig is not written yet")
        }
    }
    install::configuration(&places, variables, &environment.node, &bin_dir)?;
    Ok(())
}

async fn shutdown(common: &Common, environment: &Environment) -> anyhow::Result<()> {
    if environment.backend == Backend::None {
        return Ok(());
    }
    let client = Client::connect(&connect_options(common)).await?;
    let conditions = [condition::shutting_down()];
    let write = condition::write(&client, &environment.kubernetes_node, &conditions);
    tokio::time::timeout(COMMAND_PATIENCE, write)
        .await
        .context("the API does not answer")??;
    Ok(())
}

async fn drain(common: &Common, environment: &Environment, wait: u16, undo: bool) -> anyhow::Result<()> {
    if environment.backend != Backend::Bird {
        bail!("this node has no BGP speaker that could be drained (CALICO_NETWORKING_BACKEND)");
    }
    let client = Client::connect(&connect_options(common)).await?;
    let write = drain::write(&client, &environment.kubernetes_node, !undo);
    tokio::time::timeout(COMMAND_PATIENCE, write)
        .await
        .context("the API does not answer")??;
    drain::taken(&common.bgpd_control, !undo, COMMAND_PATIENCE)
        .await
        .map_err(anyhow::Error::msg)?;
    if undo {
        tracing::info!("peers are told that this node's paths are as good as before");
        return Ok(());
    }
    tracing::info!(
        wait_s = wait,
        "peers are told to prefer other paths; waiting for them"
    );
    tokio::time::sleep(Duration::from_secs(wait.into())).await;
    Ok(())
}

#[expect(clippy::print_stderr, reason = "what is wrong is what a probe's log shows")]
async fn health(
    wanted: &HealthArgs,
    common: &Common,
    environment: &Environment,
    variables: &BTreeMap<String, String>,
) -> anyhow::Result<ExitCode> {
    let daemons = daemons(common, variables)?;
    let observed = run::observe(&daemons, environment.backend, Ok(())).await;
    let mut problems = Vec::new();
    let mut check = |asked: bool, who: &str, said: &Result<(), String>| {
        if let (true, Err(why)) = (asked, said) {
            problems.push(format!("{who}: {why}"));
        }
    };
    check(wanted.felix_live, "felix is not live", &observed.felix_live);
    check(wanted.felix_ready, "felix is not ready", &observed.felix_ready);
    if let Some(bgpd) = &observed.bgpd {
        check(wanted.bird_live, "bgpd is not live", &bgpd.live);
        if wanted.bird_ready {
            let sessions = caracal_node::health::Observed {
                felix_ready: Ok(()),
                ..observed.clone()
            };
            problems.extend(judge(&sessions).reasons().into_iter().map(ToOwned::to_owned));
        }
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

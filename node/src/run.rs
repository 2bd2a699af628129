//! The supervisor's whole life: processes at once, start-up steps beside them, and what is said of both.
//!
//! Processes do not wait for the steps: what they need they wait for themselves, and a node that comes up while the API
//! is away must still serve the pods that it had.

mod tokens;
mod tunnels;
mod watcher;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use caracal_daemon::health::Health;
use caracal_daemon::http::{Routes, serve};
use caracal_datastore::{Client, ConnectOptions};
use caracal_linux::netlink::Netlink;
use tokio::sync::{mpsc, watch};

use crate::children::{self, Program};
use crate::environment::{Backend, Environment, Source};
use crate::install::Places;
use crate::startup::{self, Startup};
use crate::supervise::Patience;

pub use watcher::{Daemons, observe};

/// First and longest pause before the start-up steps are tried again.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How the container is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the environment says.
    pub environment: Environment,
    /// All variables.
    pub variables: BTreeMap<String, String>,
    /// How to reach the API.
    pub connect: ConnectOptions,
    /// The processes.
    pub programs: BTreeMap<String, Program>,
    /// How patient the supervisor is.
    pub patience: Patience,
    /// Where the daemons answer.
    pub daemons: Daemons,
    /// Address of the own probes.
    pub health: Option<SocketAddr>,
    /// Where the CNI plugins read the node's name.
    pub nodename_file: PathBuf,
    /// Where the CNI plugins and their kubeconfig are.
    pub places: Places,
}

/// What the start-up steps came to.
pub(crate) type Steps = Result<(), String>;

/// Runs until a signal asks to end.
///
/// # Errors
/// When signals cannot be caught, or netlink not be opened.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let health = Health::new();
    // Registered before the server answers, so that it never says ready for want of reporters.
    let reporters = watcher::Reporters::new(&health);
    let _server = match settings.health {
        Some(address) => match serve(address, Routes::new().health(health.clone())).await {
            Ok(server) => Some(server),
            Err(error) => {
                tracing::error!(error = %error, "own probes are not served");
                None
            }
        },
        None => None,
    };
    let (steps_in, steps) = watch::channel(Err("not done yet".to_owned()));
    let (client_in, client) = watch::channel(None);
    let netlink = Netlink::open()?;
    let work = settings.clone();
    // Ended with this function: nothing here must be finished.
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { prepare(work, netlink, steps_in, client_in).await });
    let (report, children) = watch::channel(children::Children::new());
    let (requests, asked) = mpsc::channel(8);
    tasks.spawn(watcher::watch(
        settings.clone(),
        reporters,
        watcher::Sources {
            steps,
            children,
            client: client.clone(),
            requests,
        },
    ));
    tasks.spawn(tunnels::keep(settings.clone(), client.clone()));
    tasks.spawn(tokens::keep_fresh(settings.clone(), client));
    children::keep_running(settings.programs, settings.patience, report, asked).await?;
    tracing::info!("every process has ended");
    Ok(())
}

/// Connects, does the start-up steps until they succeed, and then looks after the addresses.
async fn prepare(
    settings: Settings,
    netlink: Netlink,
    steps: watch::Sender<Steps>,
    client_in: watch::Sender<Option<Client>>,
) {
    let mut pause = RETRY_MIN;
    let startup = loop {
        let problem = match Client::connect(&settings.connect).await {
            Ok(client) => {
                client_in.send_replace(Some(client.clone()));
                break Startup {
                    client,
                    netlink,
                    environment: settings.environment.clone(),
                    nodename_file: settings.nodename_file.clone(),
                };
            }
            Err(error) => error.to_string(),
        };
        fail(&steps, problem, &mut pause).await;
    };
    pause = RETRY_MIN;
    while let Err(error) = startup.run().await {
        fail(&steps, one_line(&error), &mut pause).await;
    }
    let _ = steps.send_replace(Ok(()));
    let detects = |source: &Source| *source == Source::Detect;
    let environment = &settings.environment;
    if environment.backend == Backend::None
        || !(detects(&environment.v4.source) || detects(&environment.v6.source))
    {
        return;
    }
    loop {
        tokio::time::sleep(environment.poll).await;
        match startup.addresses().await {
            Ok(()) => {
                let _ = steps.send_replace(Ok(()));
            }
            // The API being away is no reason to say that this node does not work.
            Err(startup::Error::Api(error)) => tracing::debug!(error = %error, "addresses not looked at"),
            Err(error) => {
                let text = one_line(&error);
                tracing::error!(error = %text, "the address of this node is not right any more");
                let _ = steps.send_replace(Err(text));
            }
        }
    }
}

async fn fail(steps: &watch::Sender<Steps>, problem: String, pause: &mut Duration) {
    tracing::warn!(error = %problem, again_in_s = pause.as_secs(), "start-up steps not done");
    let _ = steps.send_replace(Err(problem));
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(RETRY_MAX);
}

/// An error with its causes, each said once.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The processes of this node.
#[must_use]
pub fn programs(
    environment: &Environment,
    bin_dir: &Path,
    log_format: &str,
    kubeconfig: Option<&Path>,
    daemons: &Daemons,
) -> BTreeMap<String, Program> {
    let program = |name: &str, own: Vec<String>| {
        let mut arguments = vec!["--log-format".to_owned(), log_format.to_owned()];
        if let Some(path) = kubeconfig {
            arguments.extend(["--kubeconfig".to_owned(), path.display().to_string()]);
        }
        arguments.extend(own);
        Program {
            path: bin_dir.join(name),
            arguments,
            environment: vec![("NODENAME".to_owned(), environment.node.clone())],
        }
    };
    let mut felix = program("caracal-felix", Vec::new());
    // Probes must know where felix answers, whatever its configuration says.
    let address = daemons.felix_health;
    for (name, value) in [
        ("FELIX_HEALTHENABLED", "true".to_owned()),
        ("FELIX_HEALTHHOST", address.ip().to_string()),
        ("FELIX_HEALTHPORT", address.port().to_string()),
    ] {
        felix.environment.push((name.to_owned(), value));
    }
    let mut programs = BTreeMap::from([("felix".to_owned(), felix)]);
    if environment.backend == Backend::Bird {
        let mut arguments = vec![
            "--control".to_owned(),
            daemons.bgpd_control.display().to_string(),
            "--health".to_owned(),
            daemons.bgpd_health.to_string(),
        ];
        if let Some(metrics) = &environment.bgpd_metrics {
            arguments.extend(["--metrics".to_owned(), metrics.clone()]);
        }
        programs.insert("bgpd".to_owned(), program("caracal-bgpd", arguments));
    }
    programs
}

//! The process behind a lab: builds it, keeps its daemons running, and answers `status`.
//!
//! It holds the API server's listening sockets, so that a killed API server comes back on the same ports. It holds
//! no state that `down` needs: the lab is found by its marks when the supervisor is gone.

mod daemons;

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use caracal_datastore::{Client, ConnectOptions};
use k8s_openapi::api::core::v1::Namespace;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::control::{self, Running};
use crate::enter::{Namespaces, Place};
use crate::error::{Error, Result};
use crate::pod_runner::{self, PodRunner};
use crate::process::Daemon;
use crate::scheduler::Scheduler;
use crate::state::Layout;
use crate::topology::{Component, Kube, Machine, Plan, Role, Tor};
use crate::up::Word;
use crate::{anchor, cluster, definitions, fabric, kube, machines, node_files, ready};

/// Hidden verb of the program that runs this.
pub const VERB: &str = "supervise";
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A machine that runs.
#[derive(Debug)]
struct Host {
    machine: Machine,
    place: Arc<Place>,
    anchor: u32,
}

/// What `status` and the way down need to know.
#[derive(Debug, Default)]
struct Shared {
    daemons: Mutex<Vec<Daemon>>,
    /// What is being done or waited for, until all is ready.
    doing: Mutex<Option<String>>,
}

/// The way to the `up` that waits for this lab.
#[derive(Debug)]
struct Words(File);

impl Words {
    fn say(&mut self, word: &Word) {
        tracing::info!(?word, "lab");
        if let Ok(mut line) = serde_json::to_vec(word) {
            line.push(b'\n');
            // Nobody listens when `up` was killed; the lab comes up all the same.
            let _ = self.0.write_all(&line);
        }
    }
}

/// Runs the lab that `up` has laid out, until it is told to end.
///
/// # Errors
/// The lab does not come up.
pub fn run(layout: &Layout) -> Result<()> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |e: std::io::Error| Error::io(what, e)
    };
    // Not fatal: a leader of a group stays in its session, which only matters to terminals.
    let _ = nix::unistd::setsid();
    // The lab's lock came as standard input: kept here, and out of the reach of what is started.
    let lock = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(failed("keep the lock"))?;
    let out = std::io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map_err(failed("keep the way to `up`"))?;
    let null = File::open("/dev/null").map_err(failed("open /dev/null"))?;
    nix::unistd::dup2_stdin(&null).map_err(|e| Error::errno("replace standard input", e))?;
    nix::unistd::dup2_stdout(std::io::stderr()).map_err(|e| Error::errno("replace standard output", e))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(failed("start the runtime"))?;
    let result = runtime.block_on(supervise(layout, Words(File::from(out))));
    drop(lock);
    result
}

async fn supervise(layout: &Layout, mut words: Words) -> Result<()> {
    let plan = Arc::new(layout.load_plan()?);
    let shared = Arc::new(Shared::default());
    let socket = layout.control_socket();
    let listener =
        UnixListener::bind(&socket).map_err(|e| Error::io(format!("listen at {}", socket.display()), e))?;
    let answering = Arc::clone(&shared);
    tokio::spawn(control::serve(listener, move || answering.running()));
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| Error::io("wait for signals", e))?;
    let lab = Lab {
        layout: layout.clone(),
        plan: Arc::clone(&plan),
        shared: Arc::clone(&shared),
    };
    let limit = Duration::from_secs(plan.options.timeout_seconds);
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(limit, lab.start(&mut words)) => outcome,
        _ = terminate.recv() => {
            shared.stop().await;
            return Ok(());
        }
    };
    let result = outcome.unwrap_or_else(|_| {
        let doing = shared.doing().unwrap_or_default();
        Err(Error::refused(format!(
            "not ready after {} s: {doing}",
            limit.as_secs()
        )))
    });
    let parts = match result {
        Ok(parts) => parts,
        Err(error) => {
            words.say(&Word::Failed(error.to_string()));
            return Err(error);
        }
    };
    shared.set_doing(None);
    words.say(&Word::Ready);
    drop(words);
    terminate.recv().await;
    parts.stop().await;
    shared.stop().await;
    Ok(())
}

/// What runs within the supervisor beside the daemons.
struct Parts {
    scheduler: Scheduler,
    runners: Vec<PodRunner>,
}

impl Parts {
    async fn stop(self) {
        drop(self.scheduler);
        for runner in self.runners {
            runner.stop().await;
        }
    }
}

/// A lab that is being started.
struct Lab {
    layout: Layout,
    plan: Arc<Plan>,
    shared: Arc<Shared>,
}

impl Lab {
    async fn start(&self, words: &mut Words) -> Result<Parts> {
        self.step(words, "build the wires");
        fabric::build(&self.plan).await?;
        let running = self.machines()?;
        let tor = role(&running, Role::Tor)?;
        self.step(words, "start the API server");
        self.start_api(tor).await?;
        let client = self.api().await?;
        self.step(words, "fill the API");
        if self.plan.options.kube == Kube::Real {
            let failed = |e: ::kube::Error| Error::refused(format!("the definitions of our kinds: {e}"));
            definitions::install(&client).await.map_err(failed)?;
        }
        cluster::ensure_settings(&client, &self.plan)
            .await
            .map_err(api_failed)?;
        for node in self.plan.nodes() {
            cluster::ensure_node(&client, node).await.map_err(api_failed)?;
            node_files::write(&self.layout, &self.plan, node)?;
        }
        self.step(words, "start the router and the nodes' daemons");
        self.start_daemons(&running)?;
        let parts = self.start_pods(&running, &client)?;
        self.wait_ready(&running, tor).await;
        for node in self.plan.nodes() {
            cluster::report_node(&client, node, Ok(()))
                .await
                .map_err(api_failed)?;
        }
        Ok(parts)
    }

    fn step(&self, words: &mut Words, what: &str) {
        self.shared.set_doing(Some(what.to_owned()));
        words.say(&Word::Step(what.to_owned()));
    }

    fn machines(&self) -> Result<Vec<Host>> {
        let program = std::env::current_exe().map_err(|e| Error::io("find the running program", e))?;
        self.plan
            .machines
            .iter()
            .map(|machine| {
                // Its process is waited for by nobody: it ends with the lab, and a zombie counts as ended.
                let child = anchor::start(&self.plan, &self.layout, machine, &program)?;
                machines::remember(&self.layout, machine, child.id())?;
                Ok(Host {
                    machine: machine.clone(),
                    place: Arc::new(Place::Machine(Namespaces::of_process(child.id())?)),
                    anchor: child.id(),
                })
            })
            .collect()
    }

    async fn start_api(&self, tor: &Host) -> Result<()> {
        match self.plan.options.kube {
            Kube::Embedded => self
                .shared
                .add(daemons::api_server(&self.layout, &self.plan, &tor.place)?),
            Kube::Real => {
                for daemon in daemons::real_api(&self.layout, &self.plan, tor.anchor)? {
                    self.shared.add(daemon);
                }
                kube::forward(self.plan.api_port, Arc::clone(&tor.place)).await?;
            }
        }
        Ok(())
    }

    /// Waits for the API server and connects to it.
    async fn api(&self) -> Result<Client> {
        loop {
            match self.try_api().await {
                Ok(client) => return Ok(client),
                Err(reason) => self.shared.set_doing(Some(format!("apiserver: {reason}"))),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn try_api(&self) -> Result<Client, String> {
        let options = ConnectOptions {
            kubeconfig: Some(self.layout.kubeconfig()),
            user_agent: "caracal-lab".to_owned(),
            ..ConnectOptions::default()
        };
        let client = Client::connect(&options).await.map_err(|e| e.to_string())?;
        match client.get::<Namespace>(None, "default").await {
            Ok(Some(_)) => Ok(client),
            Ok(None) => Err("namespace default is not there yet".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn start_daemons(&self, running: &[Host]) -> Result<()> {
        for one in running {
            match one.machine.role {
                Role::Tor if self.plan.options.tor == Tor::Bird => {
                    self.shared
                        .add(daemons::bird(&self.layout, &self.plan, &one.machine, &one.place)?);
                }
                Role::Tor | Role::Outside => {}
                Role::Node => {
                    for component in [Component::Felix, Component::Bgpd] {
                        if self.plan.options.runs(component) {
                            self.shared.add(daemons::of_node(
                                &self.layout,
                                &self.plan,
                                &one.machine,
                                &one.place,
                                component,
                            )?);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn start_pods(&self, running: &[Host], client: &Client) -> Result<Parts> {
        let runners = running
            .iter()
            .filter(|one| one.machine.role == Role::Node)
            .map(|one| {
                PodRunner::start(pod_runner::Config {
                    layout: self.layout.clone(),
                    plan: Arc::clone(&self.plan),
                    node: one.machine.clone(),
                    anchor: one.anchor,
                    client: client.clone(),
                })
            })
            .collect::<Result<_>>()?;
        Ok(Parts {
            scheduler: Scheduler::start(client.clone()),
            runners,
        })
    }

    async fn wait_ready(&self, running: &[Host], tor: &Host) {
        loop {
            // Entering namespaces and asking are short, and nothing else happens on this thread meanwhile.
            match tokio::task::block_in_place(|| self.why_not_ready(running, tor)) {
                Ok(()) => return,
                Err(reason) => self.shared.set_doing(Some(reason)),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn why_not_ready(&self, running: &[Host], tor: &Host) -> Result<(), String> {
        for one in running.iter().filter(|one| one.machine.role == Role::Node) {
            let node = ready::Node {
                machine: &one.machine,
                place: &one.place,
                anchor: one.anchor,
            };
            ready::node(&self.plan, node)?;
        }
        ready::router(&self.plan, &tor.place)
    }
}

impl Shared {
    fn add(&self, daemon: Daemon) {
        self.daemons
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(daemon);
    }

    fn set_doing(&self, doing: Option<String>) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = doing;
    }

    fn doing(&self) -> Option<String> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn running(&self) -> Running {
        let daemons = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
        Running {
            state: if self.doing().is_some() { "starting" } else { "up" }.to_owned(),
            pid: std::process::id(),
            components: daemons.iter().map(Daemon::report).collect(),
        }
    }

    /// Stops the daemons, the last started first.
    async fn stop(&self) {
        let daemons = std::mem::take(&mut *self.daemons.lock().unwrap_or_else(PoisonError::into_inner));
        for daemon in daemons.into_iter().rev() {
            daemon.stop().await;
        }
    }
}

fn role(running: &[Host], role: Role) -> Result<&Host> {
    running
        .iter()
        .find(|one| one.machine.role == role)
        .ok_or_else(|| Error::refused(format!("the lab's plan has no {role:?}")))
}

fn api_failed(error: caracal_datastore::Error) -> Error {
    Error::refused(format!("the lab's API: {error}"))
}

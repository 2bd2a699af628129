//! The agent: one loop that owns the calculation and the kernel state, and everything that wakes it.
//!
//! Changes of the cluster and notifications of the kernel are collected for a moment and then carried out together.
//! Nothing is written to the kernel before every kind is listed, and nothing is taken back at the end.

mod filter;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use caracal_cni::board::Board;
use caracal_daemon::health::{Health, Reporter, Reports};
use caracal_daemon::metrics::Registry;
use caracal_datastore::Client;
use caracal_felix_core::config::{Layers, merge};
use caracal_felix_core::desired::Backend;
use caracal_felix_core::{Core, Options, Update};
use caracal_linux::netlink::{Event, Monitor, Netlink};
use caracal_linux::nftables::Heard;
use futures::{FutureExt as _, StreamExt as _};

use crate::dataplane::Dataplane;
use crate::denials::Denials;
use crate::denials::stream::Stream;
use crate::exec::CommandRunner;
use crate::features::Refusal;
use crate::host_interfaces::HostInterfaces;
use crate::metrics::Metrics;
use crate::pods::Pods;
use crate::servers::Servers;
use crate::watches::{self, Message};

/// How long changes are collected before a round.
const COLLECT: Duration = Duration::from_millis(10);
/// Shortest time from the end of a round to the beginning of the next.
const PAUSE: Duration = Duration::from_millis(40);
/// The same where a round is cheap: what one object brings comes together, and no more is waited for.
const COLLECT_QUICK: Duration = Duration::from_millis(1);
const PAUSE_QUICK: Duration = Duration::from_millis(4);
/// How often the kernel is checked for what others changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A loop that is silent for this long hangs.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(90);
/// Most changes taken in at a time before other things get their turn.
const BATCH: usize = 512;

/// Why the agent could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This machine cannot be served.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The kernel cannot be spoken to.
    #[error(transparent)]
    Kernel(#[from] caracal_linux::Error),
    /// A port cannot be opened.
    #[error(transparent)]
    Port(#[from] caracal_daemon::http::Error),
    /// A metric cannot be registered.
    #[error(transparent)]
    Metrics(#[from] caracal_daemon::metrics::Error),
}

/// What the agent is told at its start.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Name of this node.
    pub node: String,
    /// Parameters given on the node, highest precedence first.
    pub parameters: Vec<BTreeMap<String, String>>,
}

/// The agent of one node, for the network namespace of the thread that made it.
pub struct Agent<R> {
    core: Core,
    pods: Pods,
    /// Absent until the calculation has its first result.
    dataplane: Option<Dataplane<R>>,
    /// Taken by the dataplane.
    runner: Option<R>,
    /// What the table programs were found for.
    programs_for: Option<String>,
    backend: Backend,
    is_backend_new: bool,
    monitor: Monitor,
    updates: watches::Stream,
    /// Kinds that are not listed completely yet.
    missing: usize,
    servers: Servers,
    denials: Denials,
    interfaces: HostInterfaces,
    /// The cluster's data may be used: nobody is moving it elsewhere.
    is_released: bool,
    metrics: Metrics,
    startup: Reporter,
    main_loop: Reporter,
    started: Instant,
    /// Changes of the cluster wait for a round.
    changed: Option<Instant>,
    not_before: Instant,
}

impl<R: CommandRunner> Agent<R> {
    /// Prepares everything; nothing is changed in the kernel. Ports are opened, so that probes are answered.
    ///
    /// # Errors
    /// When this machine cannot be served or a port is taken.
    pub async fn new(runner: R, client: &Client, settings: Settings) -> Result<Self, Error> {
        let local = merge(&Layers {
            local: &settings.parameters,
            node: &settings.node,
            ..Layers::default()
        });
        filter::refuse_early(&runner, &local.spec).await?;
        let registry = Registry::new("felix")?;
        let metrics = Metrics::new(&registry)?;
        metrics.resync_state.set(1);
        let health = Health::new();
        let startup = health.register("FelixStartup", Reports::READY, None);
        let main_loop = health.register("InternalDataplaneMainLoop", Reports::BOTH, Some(HEALTH_TIMEOUT));
        let mut servers = Servers::new(health, registry);
        servers.ensure(&local.spec).await?;
        // Before the first listing: nothing is missed.
        let monitor = Netlink::monitor()?;
        let updates = watches::all(client);
        let now = Instant::now();
        Ok(Self {
            pods: Pods::of(&settings.node),
            core: Core::new(Options {
                node: settings.node,
                parameters: settings.parameters,
            }),
            dataplane: None,
            runner: Some(runner),
            programs_for: None,
            backend: Backend::default(),
            is_backend_new: false,
            monitor,
            missing: updates.len(),
            updates,
            servers,
            denials: Denials::new(Stream::default(), metrics.clone()),
            interfaces: HostInterfaces::open()?,
            is_released: true,
            metrics,
            startup,
            main_loop,
            started: now,
            changed: None,
            not_before: now,
        })
    }

    /// Tells from now on whose policy is in the kernel.
    #[must_use]
    pub fn telling(mut self, board: Board) -> Self {
        self.pods.tell(board);
        self
    }

    /// Tells from now on who denies which packets, when it is configured to.
    #[must_use]
    pub fn reporting(mut self, stream: Stream) -> Self {
        self.denials = Denials::new(stream, self.metrics.clone());
        self
    }

    /// The metrics, for those who watch from inside.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Works until `shutdown` is ready.
    ///
    /// # Errors
    /// When this machine turns out not to be served as configured, or the kernel cannot be spoken to.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut ticks = tokio::time::interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let round = self.next_round();
            let until = tokio::time::Instant::from_std(round.unwrap_or_else(Instant::now));
            tokio::select! {
                () = &mut shutdown => return Ok(()),
                Some(message) = self.updates.next() => self.on_messages(message),
                event = self.monitor.next(), if self.dataplane.is_some() => self.on_events(&event?),
                heard = heard(&mut self.dataplane) => self.on_heard(heard),
                updates = self.pods.next() => self.on_pods(updates),
                batch = self.denials.next() => self.denials.on_batch(&batch),
                _ = ticks.tick() => self.check(),
                () = tokio::time::sleep_until(until), if round.is_some() => self.round().await?,
            }
        }
    }

    fn next_round(&self) -> Option<Instant> {
        let now = Instant::now();
        let collect = if self.is_quick() { COLLECT_QUICK } else { COLLECT };
        let changes = self.changed.filter(|_| self.is_released);
        let changes = changes.map(|since| since + collect);
        let parts = self.dataplane.as_ref().and_then(|dataplane| dataplane.next(now));
        let next = [changes, parts].into_iter().flatten().min()?;
        Some(next.max(self.not_before))
    }

    fn is_quick(&self) -> bool {
        self.dataplane.as_ref().is_some_and(Dataplane::is_quick)
    }

    /// Takes in a message and those that are ready behind it.
    fn on_messages(&mut self, message: Message) {
        self.on_message(message);
        for _ in 1..BATCH {
            match self.updates.next().now_or_never() {
                Some(Some(message)) => self.on_message(message),
                _ => return,
            }
        }
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Update(update) => {
                self.metrics.updates.inc();
                self.pods.on_update(&update);
                let update = self.pods.complete(update);
                self.core.on_update(update);
                self.note_change();
            }
            Message::Released(is_released) => {
                if self.is_released != is_released {
                    tracing::info!(is_released, "datastoreReady of the ClusterInformation");
                }
                self.is_released = is_released;
                self.note_change();
            }
            Message::InSync(kind) => {
                self.missing = self.missing.saturating_sub(1);
                tracing::debug!(kind, missing = self.missing, "kind listed");
                if self.missing == 0 && !self.core.is_in_sync() {
                    tracing::info!("in sync with the API server");
                    self.metrics.resync_state.set(3);
                    self.core.on_in_sync();
                    self.note_change();
                }
            }
            Message::Trouble { kind, problem } => {
                tracing::warn!(
                    kind,
                    problem,
                    "objects cannot be followed, what is programmed stays"
                );
            }
        }
    }

    /// Takes in addresses that the CNI service tells of before their Pods do.
    fn on_pods(&mut self, updates: Vec<Update>) {
        for update in updates {
            self.core.on_update(update);
        }
        self.note_change();
    }

    fn note_change(&mut self) {
        if self.core.is_in_sync() {
            self.changed.get_or_insert_with(Instant::now);
        }
    }

    fn on_events(&mut self, event: &Event) {
        let Some(dataplane) = &mut self.dataplane else {
            return;
        };
        let mut is_host = self.interfaces.on_event(event);
        dataplane.on_event(event, &self.core);
        for _ in 1..BATCH {
            let Some(Ok(event)) = self.monitor.next().now_or_never() else {
                break;
            };
            is_host |= self.interfaces.on_event(&event);
            dataplane.on_event(&event, &self.core);
        }
        if is_host {
            self.note_change();
        }
    }

    fn on_heard(&mut self, heard: Heard) {
        if let Some(dataplane) = &mut self.dataplane {
            dataplane.on_heard(heard);
        }
    }

    fn check(&mut self) {
        self.follow_kube_proxy();
        if let Some(dataplane) = &mut self.dataplane {
            dataplane.check(&self.core, Instant::now());
        }
        self.denials.write(&self.core);
        let ready = self.is_ready();
        let detail = if ready { "" } else { "waiting for the API server" };
        self.main_loop.report(true, ready, detail);
    }

    const fn is_ready(&self) -> bool {
        self.dataplane.is_some()
    }

    /// Computes what follows from the changes, and does what is due.
    async fn round(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        if self.is_released && self.changed.take().is_some() {
            self.calculate().await?;
        }
        if let Some(dataplane) = &mut self.dataplane {
            dataplane.apply(&self.core).await;
            if dataplane.policy_holds() {
                self.pods.programmed();
            }
            if self.metrics.initial_resync_time.get() == 0.0 {
                let taken = self.started.elapsed().as_secs_f64();
                self.metrics.initial_resync_time.set(taken);
                tracing::info!(seconds = taken, "first round of programming done");
            }
            let programmed = dataplane.is_programmed();
            self.startup.report(true, true, "");
            let detail = if programmed {
                ""
            } else {
                "some parts are tried again"
            };
            self.main_loop.report(true, true, detail);
        }
        // Rounds that take long leave time for others.
        let ended = Instant::now();
        let pause = if self.is_quick() {
            (2 * ended.saturating_duration_since(began)).clamp(PAUSE_QUICK, PAUSE)
        } else {
            PAUSE
        };
        self.not_before = ended + pause;
        Ok(())
    }

    async fn calculate(&mut self) -> Result<(), Error> {
        self.choose_filter()?;
        let prefixes = self.core.config().interface_prefixes.clone();
        for update in self.interfaces.look(&prefixes).await {
            self.core.on_update(update);
        }
        let dirty = self.core.flush();
        self.pods.calculated();
        if dirty.problems {
            for (object, problem) in self.core.problems() {
                tracing::warn!(object, problem, "not understood, what it concerns is closed");
            }
            let count = self.core.problems().len();
            self.metrics
                .problems
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        if dirty.configuration || self.is_backend_new {
            self.configure().await?;
        }
        if let Some(dataplane) = &mut self.dataplane {
            dataplane.mark(self.core.desired(), &dirty);
        }
        Ok(())
    }
}

async fn heard<R: CommandRunner>(dataplane: &mut Option<Dataplane<R>>) -> Heard {
    match dataplane {
        Some(dataplane) => dataplane.heard().await,
        None => std::future::pending().await,
    }
}

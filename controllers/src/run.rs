//! The owner loop: it alone holds the snapshot and the controllers, and runs those that have something to do.
//!
//! A process that waits for the Lease keeps its snapshot up to date, so that it acts at once when its turn comes.
//! Nothing is written before every kind is listed, while the datastore is locked, or without the Lease.

mod servers;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use caracal_api::v3::LogLevel;
use caracal_daemon::health::{Health, Reporter, Reports};
use caracal_daemon::logging::Level;
use caracal_daemon::metrics::Registry;
use caracal_datastore::Client;
use caracal_ipam::Ipam;
use caracal_reconcile::Backoff;
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;

use crate::cluster::{Cluster, Kind};
use crate::configuration::Configuration;
use crate::context::{Context, Controller};
use crate::forecast::Forecaster;
use crate::gc::Collector;
use crate::host_endpoints::HostEndpoints;
use crate::lease::{Candidate, Elector, Error, Fence};
use crate::mend::Mender;
use crate::metrics::Metrics;
use crate::node_statuses::NodeStatuses;
use crate::policy_names::PolicyNames;
use crate::pools::Pools;
use crate::settings::{self, Effective};
use crate::tiers::Tiers;
use crate::watches::{self, Message};

pub use servers::{Addresses, Servers};

/// Housekeeping: health, and noticing that the Lease has run out.
const TICK: Duration = Duration::from_secs(1);
/// A loop that is silent for this long hangs.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(120);
/// Changes taken in at once before controllers get their turn.
const BATCH: usize = 1024;
/// How long changes are collected before controllers run.
const COLLECT: Duration = Duration::from_millis(50);
/// How soon a controller runs again that found an object changed.
const AFTER_CONFLICT: Duration = Duration::from_secs(1);
/// Shortest and longest wait after a failure.
const RETRY_MIN: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What the loop is started with.
#[derive(Debug)]
pub struct Options {
    /// The Lease to stand for.
    pub candidate: Candidate,
    /// Environment variables that override the resource ([`settings::VARIABLES`]).
    pub environment: BTreeMap<String, String>,
    /// Where metrics and probes are served.
    pub addresses: Addresses,
    /// The log level, if it is to follow the configuration.
    pub level: Option<Level>,
    /// Seed of jitter.
    pub seed: u64,
}

/// One controller, and when it runs next.
struct Slot {
    controller: Box<dyn Controller>,
    due: Option<Instant>,
    not_before: Instant,
    backoff: Backoff,
    /// The failure that was told last.
    told: Option<String>,
}

struct Runner {
    client: Client,
    ipam: Ipam,
    cluster: Cluster,
    effective: Effective,
    environment: BTreeMap<String, String>,
    level: Option<Level>,
    metrics: Metrics,
    servers: Servers,
    slots: Vec<Slot>,
    fence: Fence,
    leads: bool,
    /// Kinds that are not listed completely yet.
    missing: usize,
    trouble: BTreeMap<&'static str, String>,
    health: Reporter,
}

/// Runs the controllers until `shutdown` is ready, then gives the Lease up.
///
/// # Errors
/// When it cannot start.
pub async fn run(
    client: Client,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), caracal_daemon::metrics::Error> {
    let registry = Registry::new("controllers")?;
    let metrics = Metrics::new(&registry)?;
    let health = Health::new();
    let reporter = health.register("Controllers", Reports::BOTH, Some(HEALTH_TIMEOUT));
    let mut watches = watches::all(&client);
    let elector = Elector::start(&client, options.candidate);
    let effective = settings::effective(None, &options.environment);
    let mut runner = Runner {
        ipam: Ipam::new(client.clone()),
        client,
        cluster: Cluster::default(),
        effective,
        environment: options.environment,
        level: options.level,
        metrics,
        servers: Servers::new(options.addresses, registry, health),
        slots: slots(options.seed),
        fence: elector.fence(),
        leads: false,
        missing: watches.len(),
        trouble: BTreeMap::new(),
        health: reporter,
    };
    runner.run(&mut watches, shutdown).await;
    elector.release().await;
    Ok(())
}

fn slots(seed: u64) -> Vec<Slot> {
    let controllers: Vec<Box<dyn Controller>> = vec![
        Box::new(Configuration),
        Box::new(Tiers),
        Box::new(Pools),
        Box::new(Collector::default()),
        Box::new(Mender::default()),
        Box::new(HostEndpoints::default()),
        Box::new(NodeStatuses),
        Box::new(Forecaster::default()),
        Box::new(PolicyNames),
    ];
    let now = Instant::now();
    (seed..)
        .zip(controllers)
        .map(|(seed, controller)| Slot {
            controller,
            due: Some(now),
            not_before: now,
            backoff: Backoff::new(RETRY_MIN, RETRY_MAX, seed),
            told: None,
        })
        .collect()
}

impl Runner {
    async fn run(&mut self, watches: &mut watches::Stream, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut term = self.fence.clone();
        self.configure().await;
        let mut tick_at = Instant::now();
        loop {
            let next = self.next().unwrap_or(tick_at).min(tick_at);
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = term.changed() => self.on_term(),
                message = watches.next() => {
                    let Some(message) = message else { return };
                    let mut changed = self.take_in(message);
                    for _ in 1..BATCH {
                        match watches.next().now_or_never().flatten() {
                            Some(message) => changed |= self.take_in(message),
                            None => break,
                        }
                    }
                    if changed {
                        self.configure().await;
                    }
                }
                () = tokio::time::sleep_until(next.into()) => {
                    if Instant::now() >= tick_at {
                        tick_at = Instant::now() + TICK;
                        self.tick();
                    }
                    // A turn is not broken off within: what it began, it ends or is refused by the fence.
                    self.turn().await;
                }
            }
        }
    }

    /// Whether controllers may run.
    fn acts(&self) -> bool {
        self.missing == 0 && self.leads && self.fence.is_leader() && self.cluster.datastore_ready()
    }

    fn next(&self) -> Option<Instant> {
        if !self.acts() {
            return None;
        }
        self.slots
            .iter()
            .filter_map(|slot| Some(slot.due?.max(slot.not_before)))
            .min()
    }

    /// Takes a message in; true when the configuration may have changed.
    fn take_in(&mut self, message: Message) -> bool {
        match message {
            Message::Change(change) => {
                let Some(kind) = change.take_in(&mut self.cluster) else {
                    return false;
                };
                self.wake(|controller| controller.wakes(kind));
                if kind == Kind::Configuration || kind == Kind::ClusterInformation {
                    self.wake(|_| true);
                }
                self.trouble.clear();
                kind == Kind::Configuration
            }
            Message::InSync => {
                self.missing = self.missing.saturating_sub(1);
                if self.missing == 0 {
                    tracing::info!("everything is listed");
                    self.wake(|_| true);
                }
                false
            }
            Message::Trouble { kind, problem } => {
                if self.trouble.insert(kind, problem.clone()).is_none() {
                    tracing::warn!(kind, error = %problem, "changes cannot be followed, trying again");
                }
                false
            }
        }
    }

    fn wake(&mut self, which: impl Fn(&dyn Controller) -> bool) {
        let at = Instant::now() + COLLECT;
        for slot in self.slots.iter_mut().filter(|slot| which(&*slot.controller)) {
            slot.due = Some(slot.due.map_or(at, |due| due.min(at)));
        }
    }

    fn on_term(&mut self) {
        let leads = self.fence.is_leader();
        if leads && !self.leads {
            self.wake(|_| true);
        }
        self.leads = leads;
        self.report();
    }

    /// Takes over what the KubeControllersConfiguration and the environment say.
    async fn configure(&mut self) {
        let spec = self.cluster.configuration.as_ref().map(|stored| &stored.spec);
        let effective = settings::effective(spec, &self.environment);
        for problem in &effective.problems {
            if !self.effective.problems.contains(problem) {
                tracing::warn!(problem, "a value of the configuration cannot be used");
            }
        }
        self.metrics
            .problems
            .set(i64::try_from(effective.problems.len()).unwrap_or(i64::MAX));
        if let Some(level) = &self.level
            && let Err(error) = level.set(filter_of(&effective.settings.log_level))
        {
            tracing::warn!(error = %error, "log level not changed");
        }
        self.servers.ensure(&effective.settings).await;
        self.effective = effective;
    }

    fn tick(&mut self) {
        // A Lease that could not be renewed runs out without a word.
        if self.leads != self.fence.is_leader() {
            self.on_term();
        }
        self.report();
    }

    fn report(&self) {
        self.metrics
            .leader
            .with_label_values(&["caracal-controllers"])
            .set(i64::from(self.leads));
        let detail = if self.missing > 0 {
            format!("{} kinds are not listed yet", self.missing)
        } else if !self.leads {
            "waiting for the Lease".to_owned()
        } else if !self.cluster.datastore_ready() {
            "the datastore is locked (ClusterInformation datastoreReady is false)".to_owned()
        } else {
            "acting".to_owned()
        };
        self.health.report(true, self.missing == 0, detail);
    }

    /// Runs the controllers that are due.
    async fn turn(&mut self) {
        for index in 0..self.slots.len() {
            if !self.acts() {
                return;
            }
            let now = Instant::now();
            let Some(slot) = self.slots.get_mut(index) else {
                return;
            };
            if slot.due.is_none_or(|due| due.max(slot.not_before) > now) {
                continue;
            }
            slot.due = None;
            let conflicts = AtomicBool::new(false);
            let context = Context {
                client: &self.client,
                ipam: &self.ipam,
                cluster: &self.cluster,
                effective: &self.effective,
                fence: &self.fence,
                metrics: &self.metrics,
                conflicts: &conflicts,
                now,
                wall: Timestamp::now(),
            };
            let mut outcome = slot.controller.run(&context).await;
            if let Ok(again) = &mut outcome
                && conflicts.load(Ordering::Relaxed)
            {
                *again = Some(again.map_or(AFTER_CONFLICT, |again| again.min(AFTER_CONFLICT)));
            }
            slot.settle(outcome, &self.metrics);
        }
    }
}

impl Slot {
    fn settle(&mut self, outcome: Result<Option<Duration>, Error>, metrics: &Metrics) {
        let now = Instant::now();
        let controller = self.controller.name();
        let word = match outcome {
            Ok(again) => {
                self.backoff.reset();
                self.told = None;
                self.not_before = now + self.controller.pause();
                if let Some(again) = again {
                    self.due = Some(now + again);
                }
                "ok"
            }
            Err(Error::NotLeader) => {
                self.due = Some(now);
                "not_leader"
            }
            Err(error) => {
                let text = error.to_string();
                if self.told.as_ref() != Some(&text) {
                    tracing::warn!(controller, error = %text, "could not be carried out, trying again");
                    self.told = Some(text);
                }
                let delay = self.backoff.next_delay();
                self.due = Some(now + delay);
                self.not_before = now + delay;
                "failed"
            }
        };
        metrics.runs.with_label_values(&[controller, word]).inc();
    }
}

fn filter_of(level: &LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info | LogLevel::Other(_) => "info",
        LogLevel::Warning => "warn",
        LogLevel::Error | LogLevel::Fatal => "error",
    }
}

//! The owner loop: it alone holds the speaker, and carries everything to and from it.
//!
//! Inputs come from sockets, the kernel task, the watches, the control socket and the clock; outputs are carried out
//! in order before the next input is taken. Nothing here waits for a socket, the kernel or the API.

mod answers;
mod cluster;
mod error;
mod failure_detection;
mod node_status;
mod questions;
mod restart;
mod sockets;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use caracal_bgpd_compile::{Host, Problem};
use caracal_bgpd_core::output::Event;
use caracal_bgpd_core::snapshot::SessionState;
use caracal_bgpd_core::{Config, Input, Output};
use caracal_daemon::health::Reporter;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::bfd::Bfd;
use crate::control;
use crate::kernel::{self, Kernel, Report};
use crate::metrics::{Metrics, state_name};
use crate::monitor::{Monitor, Station};
use crate::record::Recorder;
use crate::transport::{Queued, Sockets};

pub use cluster::Cluster;
pub use error::Error;
use failure_detection::FailureDetection;

/// Housekeeping: status into metrics and health, listening again where it failed.
const TICK: Duration = Duration::from_secs(2);
/// Socket events taken before the outputs of the first are carried out at the latest.
const BATCH_MAX: usize = 64;
/// Octets of messages taken likewise: what they touch in the tables is still in the processor's cache when it is worked
/// on.
const BATCH_OCTETS_MAX: usize = 32 * 1024;

/// Where the configuration comes from.
#[derive(Debug)]
pub enum Source {
    /// It is given and does not change.
    Fixed(Box<Config>),
    /// The Kubernetes API.
    Cluster(Box<Cluster>),
}

/// What the loop is started with.
#[derive(Debug)]
pub struct Options {
    /// Where the configuration comes from.
    pub source: Source,
    /// Path of the control socket.
    pub control: PathBuf,
    /// Settings of the kernel task.
    pub kernel: kernel::Settings,
    /// Seed of jitter.
    pub seed: u64,
    /// Where to record what goes into the speaker.
    pub record: Option<PathBuf>,
    /// The BMP station.
    pub bmp: Option<SocketAddr>,
    /// MRT file of the messages of peers.
    pub mrt_updates: Option<PathBuf>,
}

/// Runs a speaker until a signal ends it. Kernel routes stay when it ends.
///
/// # Errors
/// When it cannot start, or a part of it fails for good.
pub async fn run(options: Options, metrics: Metrics, health: Reporter) -> Result<(), Error> {
    let (kernel, mut reports) = Kernel::start(options.kernel.clone())
        .await
        .map_err(Error::Kernel)?;
    let (_control, mut questions) =
        control::serve(&options.control)
            .await
            .map_err(|source| Error::Control {
                path: options.control.clone(),
                source,
            })?;
    let (sockets, mut events) = Sockets::new();
    let (bfd, mut detections) = Bfd::new(options.seed);
    let is_restart = restart::is_restart(&options.control, kernel.found_routes());
    tracing::info!(
        is_restart,
        kernel_routes = kernel.found_routes(),
        "speaker starts"
    );
    let mut owner = Owner {
        speaker: Recorder::new(options.seed, is_restart, options.record.as_deref())?,
        sockets,
        kernel,
        metrics,
        health,
        detection: FailureDetection::new(bfd),
        monitor: Monitor::new(
            options.bmp.map(Station::start),
            options.mrt_updates.as_deref().map(error::open_mrt).transpose()?,
        ),
        config: None,
        problems: Vec::new(),
        refused: Vec::new(),
        is_restart,
        drain: false,
        started: Timestamp::now(),
        configured: Timestamp::now(),
        tick_at: Instant::now(),
    };
    let (mut cluster, mut changes) = match options.source {
        Source::Fixed(config) => {
            owner.configure(*config, &Host::default());
            // Never read: the branch is off without a cluster.
            (None, mpsc::channel(1).1)
        }
        Source::Cluster(cluster) => {
            let (cluster, changes) = cluster.start();
            (Some(cluster), changes)
        }
    };
    let mut shutdown = std::pin::pin!(caracal_daemon::signals::shutdown());
    loop {
        let deadline = owner.deadline(cluster.as_ref());
        tokio::select! {
            signal = &mut shutdown => {
                let signal = signal.map_err(Error::Signals)?;
                tracing::info!(signal = ?signal, "ending; peers with graceful restart and the kernel keep the routes");
                owner.shut_down().await;
                return Ok(());
            }
            event = events.recv() => {
                let mut octets = owner.on_sockets(event.ok_or(Error::Task("socket"))?);
                for _ in 1..BATCH_MAX {
                    if octets > BATCH_OCTETS_MAX {
                        break;
                    }
                    let Ok(event) = events.try_recv() else { break };
                    octets += owner.on_sockets(event);
                }
                owner.carry_out();
            }
            report = reports.recv() => match report.ok_or(Error::Task("kernel"))? {
                Report::Gateways(gateways) => {
                    if let Some(cluster) = &mut cluster {
                        cluster.on_gateways(gateways);
                    }
                }
                report => owner.on_report(report),
            },
            Some(report) = detections.recv() => owner.on_detection(report),
            Some(change) = changes.recv(), if cluster.is_some() => {
                if let Some(cluster) = &mut cluster {
                    cluster.on_change(change);
                }
            }
            Some(question) = questions.recv() => owner.answer(question),
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
        owner.on_time();
        if let Some(cluster) = &mut cluster {
            owner.answer_objects(cluster);
        }
        if let Some(compiled) = cluster
            .as_mut()
            .and_then(|cluster| cluster.compile_if_due(Instant::now()))
        {
            owner.problems(compiled.problems);
            if let Some(config) = compiled.config {
                owner.configure(config, &compiled.host);
            }
        }
    }
}

struct Owner {
    speaker: Recorder,
    sockets: Sockets,
    kernel: Kernel,
    metrics: Metrics,
    health: Reporter,
    detection: FailureDetection,
    monitor: Monitor,
    /// The configuration in use; none before the first.
    config: Option<Config>,
    problems: Vec<Problem>,
    /// Routes that the kernel refuses.
    refused: Vec<Problem>,
    is_restart: bool,
    /// An operator of this node says that the speaker is about to go.
    drain: bool,
    started: Timestamp,
    /// When the configuration last changed.
    configured: Timestamp,
    tick_at: Instant,
}

impl Owner {
    fn deadline(&self, cluster: Option<&Cluster>) -> Instant {
        let speaker = self.speaker.poll_timeout();
        let compile = cluster.and_then(Cluster::due_at);
        [speaker, compile]
            .into_iter()
            .flatten()
            .fold(self.tick_at, Instant::min)
    }

    fn input(&mut self, input: Input) {
        self.speaker.handle_input(Instant::now(), input);
        self.carry_out();
    }

    /// Carries out what the speaker wants, in order.
    fn carry_out(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Listen {
                    listen,
                    peers,
                    ranges,
                } => self.sockets.listen(listen, peers, ranges),
                Output::Connect {
                    conn,
                    port,
                    transport,
                } => self.sockets.connect(conn, port, transport),
                Output::Send { conn, bytes } => {
                    self.monitor.sent(conn, &bytes);
                    let input = match self.sockets.send(conn, bytes) {
                        // A connection that is gone has been, or will be, reported as closed.
                        Queued::Yes | Queued::Gone => continue,
                        Queued::Full => Input::SendBlocked { conn },
                        Queued::TooMuch => Input::Closed {
                            conn,
                            reason: "the peer does not read what it is sent".to_owned(),
                        },
                    };
                    self.speaker.handle_input(Instant::now(), input);
                }
                Output::Close { conn } => {
                    self.monitor.closed(conn);
                    self.sockets.close(conn);
                }
                Output::Route(delta) => self.kernel.route(delta),
                Output::WatchNextHop(address) => {
                    self.detection.speaker_watches(address);
                    self.kernel.watch(address);
                }
                Output::UnwatchNextHop(address) => {
                    if self.detection.speaker_unwatches(address) {
                        self.kernel.unwatch(address);
                    }
                }
                Output::Event(event) => self.on_event(event),
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        // Health and metrics follow what people read in the log.
        self.tick_at = Instant::now();
        match event {
            Event::PeerUp { peer } => {
                tracing::info!(peer, "session is up");
                self.watch_session(&peer);
            }
            Event::PeerDown {
                peer,
                reason,
                routes_kept,
            } => {
                self.metrics.sessions_lost.inc();
                tracing::warn!(peer, reason, routes_kept, "session is down");
            }
            Event::PeerError { peer, reason } => tracing::warn!(peer, reason, "peer cannot be used"),
            Event::UpdateError { peer, reason } => {
                self.metrics.update_errors.inc();
                tracing::warn!(peer, reason, "UPDATE had an error, the session goes on");
            }
            Event::RestartComplete { missing } => {
                tracing::info!(missing = ?missing, "restart is complete, stale kernel routes go");
                self.kernel.sweep();
            }
            Event::ConfigRefused { reason } => {
                tracing::error!(reason, "configuration refused, the one before stays")
            }
        }
    }

    /// Gives the speaker a configuration. The first one allows writing to the kernel.
    fn configure(&mut self, config: Config, host: &Host) {
        let routes = host
            .static_routes
            .iter()
            .map(|route| (route.prefix, route.gateway));
        self.kernel.static_routes(routes.collect());
        self.kernel.ignored_interfaces(host.ignored_interfaces.clone());
        if self.config.as_ref() == Some(&config) {
            return;
        }
        self.metrics.configurations.inc();
        tracing::info!(
            peers = config.peers.len(),
            routes = config.routes.len(),
            "new configuration"
        );
        self.configured = Timestamp::now();
        self.give(&config);
        self.configure_detection(&config);
        if self.config.replace(config).is_none() {
            self.kernel.start_writing();
            if !self.is_restart {
                self.kernel.sweep();
            }
        }
    }

    /// Hands a configuration to the speaker, with what the operator of this node wants of it.
    fn give(&mut self, config: &Config) {
        let mut config = config.clone();
        config.drain |= self.drain;
        self.input(Input::Config(Box::new(config)));
    }

    fn problems(&mut self, problems: Vec<Problem>) {
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::warn!(problem = %problem, "a value cannot be used");
        }
        self.metrics.set_problems(problems.len());
        self.problems = problems;
    }

    fn on_report(&mut self, report: Report) {
        match report {
            Report::Local(deltas) => {
                for delta in deltas {
                    self.speaker.handle_input(Instant::now(), Input::Local(delta));
                }
                self.carry_out();
            }
            Report::NextHops(ways) => {
                for (address, resolution) in ways {
                    self.detection.on_way(address, resolution.as_ref());
                    self.speaker
                        .handle_input(Instant::now(), Input::NextHop { address, resolution });
                }
                self.carry_out();
            }
            // Those concern the cluster's configuration, which is not here.
            Report::Gateways(_) => {}
            Report::Refused(refused) => self.refused = refused.iter().map(answers::refusal).collect(),
            Report::Counts {
                wanted,
                installed,
                failed,
            } => self.metrics.set_kernel(wanted, installed, failed),
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if self.speaker.poll_timeout().is_some_and(|at| at <= now) {
            self.speaker.handle_timeout(now);
            self.carry_out();
        }
        if now >= self.tick_at {
            self.tick_at = now + TICK;
            self.tick(now);
        }
    }

    fn tick(&mut self, now: Instant) {
        let status = self.status(now);
        self.metrics.set_status(&status);
        self.metrics.set_bfd(self.detection.counts());
        self.monitor.tick(&self.speaker);
        let mut details = self.sockets.retry_listen();
        let down = status
            .peers
            .iter()
            .filter(|peer| peer.state != SessionState::Established);
        details.extend(down.map(|peer| format!("{} is {}", peer.name, state_name(peer.state))));
        if self.config.is_none() {
            details.push("no configuration yet".to_owned());
        }
        details.extend(self.refused.iter().take(3).map(ToString::to_string));
        let is_live = !self.kernel.is_finished();
        self.health
            .report(is_live, self.config.is_some(), details.join(", "));
    }

    /// Ends all sessions so that peers keep the routes (RFC 4724 §4), and waits a moment for what is on its way.
    async fn shut_down(&mut self) {
        self.input(Input::Shutdown {
            graceful: true,
            message: String::new(),
        });
        // Writers end by themselves when their queue is empty.
        tokio::time::sleep(Duration::from_millis(100)).await;
        // After the sessions, which have ended by themselves when a neighbour takes this for a failure.
        self.detection.shut_down();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

//! Daemons of a lab: started in their machine, logged to a file, started again when they end, stopped on request.
//!
//! One task owns one daemon. A daemon that ends is started again after a pause that doubles up to five seconds and
//! is short again once the daemon has lived for ten. Source: what systemd's `Restart=always` is for.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::enter::Place;
use crate::error::{Error, Result};

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A daemon that lived this long is taken as healthy.
const LIFE_HEALTHY: Duration = Duration::from_secs(10);
/// How long a daemon may take to end when asked.
const GRACE: Duration = Duration::from_secs(3);

/// How a daemon is started.
#[derive(Debug)]
pub struct Spec {
    /// `apiserver`, `node-1/felix`.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment variables beside the inherited ones.
    pub env: Vec<(String, String)>,
    /// Where it runs; the host when absent.
    pub place: Option<Arc<Place>>,
    /// File that takes its output.
    pub log: PathBuf,
    /// Listening sockets handed over as standard input and output (see [`crate::listen`]).
    pub sockets: Option<(Arc<OwnedFd>, Arc<OwnedFd>)>,
}

/// What a daemon is doing, as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `apiserver`, `node-1/felix`.
    pub name: String,
    /// `running`, `restarting` or `stopped`.
    pub state: String,
    /// Process id while it runs.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// Why it ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// File with its output.
    pub log: PathBuf,
}

/// A daemon under supervision. Dropping it leaves the daemon alone; [`Daemon::stop`] ends it.
#[derive(Debug)]
pub struct Daemon {
    report: watch::Receiver<Report>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Daemon {
    /// Starts a daemon and keeps it running.
    ///
    /// # Errors
    /// The first start fails.
    pub fn start(spec: Spec) -> Result<Self> {
        let child = spawn(&spec)?;
        let first = Report {
            name: spec.name.clone(),
            state: "running".to_owned(),
            pid: child.id(),
            restarts: 0,
            last_exit: None,
            log: spec.log.clone(),
        };
        let (report_in, report) = watch::channel(first);
        let (stop, stop_out) = watch::channel(false);
        let task = tokio::spawn(keep_running(spec, child, report_in, stop_out));
        Ok(Self { report, stop, task })
    }

    /// What it is doing.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    /// Ends it: SIGTERM, then SIGKILL.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

async fn keep_running(
    spec: Spec,
    mut child: Child,
    report: watch::Sender<Report>,
    mut stop: watch::Receiver<bool>,
) {
    let mut pause = PAUSE_MIN;
    loop {
        let started = Instant::now();
        let ended = tokio::select! {
            status = child.wait() => describe(status),
            _ = stop.changed() => {
                end(&mut child).await;
                update(&report, "stopped", None, None);
                return;
            }
        };
        tracing::warn!(component = %spec.name, status = %ended, "daemon ended");
        if started.elapsed() >= LIFE_HEALTHY {
            pause = PAUSE_MIN;
        }
        update(&report, "restarting", None, Some(ended));
        child = loop {
            tokio::select! {
                () = sleep(pause) => {}
                _ = stop.changed() => {
                    update(&report, "stopped", None, None);
                    return;
                }
            }
            pause = (pause * 2).min(PAUSE_MAX);
            match spawn(&spec) {
                Ok(child) => break child,
                Err(error) => update(&report, "restarting", None, Some(error.to_string())),
            }
        };
        report.send_modify(|report| report.restarts = report.restarts.saturating_add(1));
        update(&report, "running", child.id(), None);
    }
}

fn update(report: &watch::Sender<Report>, state: &str, pid: Option<u32>, last_exit: Option<String>) {
    report.send_modify(|report| {
        report.state = state.to_owned();
        report.pid = pid;
        if last_exit.is_some() {
            report.last_exit = last_exit;
        }
    });
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

async fn end(child: &mut Child) {
    signal(child, Signal::SIGTERM);
    if timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

fn signal(child: &Child, signal: Signal) {
    // A child that was waited for has no id any more, so another process is never hit.
    if let Some(pid) = child.id() {
        let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
    }
}

fn spawn(spec: &Spec) -> Result<Child> {
    let log = open_log(&spec.log)?;
    let failed = |e| Error::io(format!("start {} ({})", spec.name, spec.program.display()), e);
    let clone = |file: &OwnedFd| file.try_clone().map(Stdio::from);
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .envs(spec.env.iter().map(|(k, v)| (k, v)))
        .process_group(0);
    match &spec.sockets {
        Some((first, second)) => {
            command.stdin(clone(first).map_err(failed)?);
            command.stdout(clone(second).map_err(failed)?);
        }
        None => {
            command.stdin(Stdio::null());
            command.stdout(log.try_clone().map_err(failed)?);
        }
    }
    command.stderr(log);
    spawn_at(spec.place.as_deref(), &mut command)?.map_err(failed)
}

/// Starts a prepared command somewhere; the runtime of the caller waits for it.
///
/// # Errors
/// The place cannot be entered.
pub fn spawn_at(place: Option<&Place>, command: &mut Command) -> Result<std::io::Result<Child>> {
    let Some(place) = place else {
        return Ok(command.spawn());
    };
    let runtime = tokio::runtime::Handle::current();
    place.run(move || {
        let _guard = runtime.enter();
        command.spawn()
    })
}

/// Opens a log for appending, and its folder.
///
/// # Errors
/// The file cannot be made.
pub fn open_log(path: &PathBuf) -> Result<File> {
    let failed = |e| Error::io(format!("open log {}", path.display()), e);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(failed)
}

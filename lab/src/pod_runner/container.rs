//! One container: a process in the pod's place or the built-in server, started again as the pod's policy says.
//!
//! A task owns the container and tells what it is doing; asked to stop, it ends the process group politely, then not.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::spec::{Restart, Work};
use crate::enter::Place;
use crate::error::{Error, Result};
use crate::pod_server::{self, Running, Transport};
use crate::process::{open_log, spawn_at};
use crate::programs;

/// Exit code of a container that could not be started, as container runtimes report it.
const START_FAILED: i32 = 128;
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A container that lived this long starts again without a long pause.
const LIFE_HEALTHY: Duration = Duration::from_secs(60);

/// How a container is run.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) work: Work,
    pub(super) restart: Restart,
    pub(super) place: Arc<Place>,
    /// What the built-in server answers.
    pub(super) pod: String,
    /// Marks of the lab and the pod.
    pub(super) marks: BTreeMap<String, String>,
    pub(super) hostname: String,
    pub(super) log: PathBuf,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) exit_code: i32,
    pub(super) signal: Option<i32>,
    pub(super) message: Option<String>,
    pub(super) started_at: String,
    pub(super) finished_at: String,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    /// Since when.
    Running(String),
    /// It ended, and will be started again after a pause.
    Pausing,
    /// It ended for good.
    Over,
}

/// What a container reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) phase: Phase,
    pub(super) restarts: u32,
    pub(super) last: Option<End>,
}

/// A container under supervision.
pub(super) struct Handle {
    pub(super) name: String,
    pub(super) report: watch::Receiver<Report>,
    stop: watch::Sender<Option<Duration>>,
    task: JoinHandle<()>,
}

impl Handle {
    /// Starts a container.
    pub(super) fn start(plan: Plan) -> Self {
        let (report_in, report) = watch::channel(Report {
            phase: Phase::Starting,
            restarts: 0,
            last: None,
        });
        let (stop, stop_out) = watch::channel(None);
        let name = plan.name.clone();
        let task = tokio::spawn(keep_running(plan, report_in, stop_out));
        Self {
            name,
            report,
            stop,
            task,
        }
    }

    /// Ends it: politely, and after the grace not.
    pub(super) async fn stop(self, grace: Duration) {
        let _ = self.stop.send(Some(grace));
        let _ = self.task.await;
    }
}

/// A container at work.
enum AtWork {
    Process(Child),
    /// Dropping the servers ends them.
    Servers(#[expect(dead_code, reason = "held until dropped")] Vec<Running>),
}

async fn keep_running(
    plan: Plan,
    report: watch::Sender<Report>,
    mut stop: watch::Receiver<Option<Duration>>,
) {
    let mut pause = Duration::ZERO;
    loop {
        let started_at = timestamp();
        let began = Instant::now();
        let end = match start(&plan) {
            Err(error) => End {
                exit_code: START_FAILED,
                signal: None,
                message: Some(error.to_string()),
                finished_at: timestamp(),
                started_at,
            },
            Ok(mut running) => {
                report.send_modify(|report| report.phase = Phase::Running(started_at.clone()));
                tokio::select! {
                    end = ended(&mut running, started_at) => end,
                    grace = stopped(&mut stop) => return finish(running, grace).await,
                }
            }
        };
        let again = plan.restart.again(end.exit_code);
        report.send_modify(|report| {
            report.last = Some(end);
            report.phase = if again { Phase::Pausing } else { Phase::Over };
        });
        if !again {
            stopped(&mut stop).await;
            return;
        }
        if began.elapsed() > LIFE_HEALTHY {
            pause = Duration::ZERO;
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = stopped(&mut stop) => return,
        }
        pause = (pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
        report.send_modify(|report| report.restarts = report.restarts.saturating_add(1));
    }
}

/// Waits to be told to stop; an owner that is gone means at once.
async fn stopped(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    match stop.wait_for(Option::is_some).await {
        Ok(grace) => grace.unwrap_or_default(),
        Err(_) => Duration::ZERO,
    }
}

async fn ended(running: &mut AtWork, started_at: String) -> End {
    let AtWork::Process(child) = running else {
        return std::future::pending().await;
    };
    let status = child.wait().await;
    let (exit_code, signal, message) = match status {
        Ok(status) => (
            // A shell reports a signal as 128 plus its number, and so do container runtimes.
            status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            status.signal(),
            None,
        ),
        Err(error) => (START_FAILED, None, Some(error.to_string())),
    };
    End {
        exit_code,
        signal,
        message,
        started_at,
        finished_at: timestamp(),
    }
}

async fn finish(running: AtWork, grace: Duration) {
    let AtWork::Process(mut child) = running else {
        return;
    };
    let Some(group) = child.id().map(|id| Pid::from_raw(id.cast_signed())) else {
        return;
    };
    if !grace.is_zero() {
        let _ = killpg(group, Signal::SIGTERM);
        let _ = timeout(grace, child.wait()).await;
    }
    // What the container's process started may have outlived it.
    let _ = killpg(group, Signal::SIGKILL);
    let _ = child.wait().await;
}

fn start(plan: &Plan) -> Result<AtWork> {
    match &plan.work {
        Work::Server { ports } => Ok(AtWork::Servers(serve(plan, ports)?)),
        Work::Program { command, env, dir } => {
            let (program, args) = command
                .split_first()
                .ok_or_else(|| Error::refused("command: the list is empty"))?;
            let log = open_log(&plan.log)?;
            let failed = |e| Error::io(format!("start {program} in {dir}"), e);
            let mut process = Command::new(program);
            process
                .args(args)
                .env_clear()
                .env("PATH", programs::search_path())
                .env("HOME", "/root")
                .env("HOSTNAME", &plan.hostname)
                .envs(env)
                .envs(&plan.marks)
                .current_dir(dir)
                .stdin(Stdio::null())
                .stdout(log.try_clone().map_err(failed)?)
                .stderr(log)
                .process_group(0)
                .kill_on_drop(true);
            let child = spawn_at(Some(&plan.place), &mut process)?.map_err(failed)?;
            Ok(AtWork::Process(child))
        }
    }
}

/// Binds every port before the first answer is given.
fn serve(plan: &Plan, ports: &[(Transport, u16)]) -> Result<Vec<Running>> {
    let mut bound = Vec::new();
    for &(transport, port) in ports {
        let server = plan
            .place
            .run_in_network(|| bind_everywhere(&plan.pod, transport, port))?
            .map_err(|e| Error::io(format!("listen on {transport:?} port {port}"), e))?;
        bound.push(server);
    }
    bound
        .into_iter()
        .map(|server| server.serve().map_err(|e| Error::io("start a server", e)))
        .collect()
}

/// Binds a port for both families, or for IPv4 where the kernel has no IPv6.
pub(crate) fn bind_everywhere(
    name: &str,
    transport: Transport,
    port: u16,
) -> std::io::Result<pod_server::Bound> {
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    match pod_server::bind(name, transport, v6) {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
            ) =>
        {
            let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
            pod_server::bind(name, transport, v4)
        }
        other => other,
    }
}

/// The time as Kubernetes writes it.
pub(super) fn timestamp() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

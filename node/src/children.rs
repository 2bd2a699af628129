//! Processes of this container: started, their output passed on, waited for, signalled.
//!
//! As the container's first process this one adopts every orphan, so it waits for whatever ends. No other code here may
//! wait for a process: its end would be taken from it.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::output::{named, take_lines};
use crate::supervise::{Child, Patience, Supervisor, Wish};

/// A process to keep running.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables beside those of this process.
    pub environment: Vec<(String, String)>,
}

/// What is asked of the running processes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// This one hangs.
    Hangs(String),
}

/// What is known of the processes, by name.
pub type Children = BTreeMap<String, Child>;

/// Keeps processes running until a signal asks to end, and then until they have ended.
///
/// # Errors
/// When signals cannot be caught.
pub async fn keep_running(
    programs: BTreeMap<String, Program>,
    patience: Patience,
    report: watch::Sender<Children>,
    mut requests: mpsc::Receiver<Request>,
) -> io::Result<()> {
    // Without it the orphans of a supervisor that is not the first process would go to somebody else.
    if let Err(error) = nix::sys::prctl::set_child_subreaper(true) {
        tracing::warn!(error = %error, "orphans cannot be adopted");
    }
    let mut asked = Asked::new()?;
    let mut ended = signal(SignalKind::child())?;
    let mut keeper = Keeper {
        supervisor: Supervisor::new(programs.keys().cloned(), patience),
        programs,
    };
    loop {
        let now = Instant::now();
        let due = keeper.supervisor.due(now);
        keeper.carry_out(due);
        report.send_replace(keeper.supervisor.children().clone());
        if keeper.supervisor.is_done() {
            return Ok(());
        }
        tokio::select! {
            Some(()) = ended.recv() => keeper.reap(),
            name = asked.signal() => {
                tracing::info!(signal = name, "ending; routes, policy and pods stay as they are");
                let wishes = keeper.supervisor.end(Instant::now());
                keeper.carry_out(wishes);
            }
            Some(Request::Hangs(name)) = requests.recv() => {
                tracing::error!(process = %name, "does not answer its probes and is started again");
                let wish = keeper.supervisor.hangs(&name, Instant::now());
                keeper.carry_out(wish);
            }
            () = at(keeper.supervisor.next()) => {}
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// The signals that ask to end.
struct Asked {
    terminate: SignalStream,
    interrupt: SignalStream,
}

impl Asked {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn signal(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

struct Keeper {
    supervisor: Supervisor,
    programs: BTreeMap<String, Program>,
}

impl Keeper {
    fn carry_out(&mut self, wishes: impl IntoIterator<Item = Wish>) {
        for wish in wishes {
            match wish {
                Wish::Start(name) => self.start(&name),
                Wish::Terminate(pid) => send(pid, Signal::SIGTERM),
                Wish::Kill(pid) => {
                    tracing::warn!(pid, "does not end and is killed");
                    send(pid, Signal::SIGKILL);
                }
            }
        }
    }

    fn start(&mut self, name: &str) {
        let Some(program) = self.programs.get(name) else {
            return;
        };
        match spawn(name, program) {
            Ok(pid) => {
                tracing::info!(process = name, pid, "started");
                self.supervisor.started(name, pid, Instant::now());
            }
            Err(error) => {
                let why = format!("start {}: {error}", program.path.display());
                tracing::error!(process = name, error = %why, "cannot be started");
                self.supervisor.failed_to_start(name, why, Instant::now());
            }
        }
    }

    /// Takes notice of every process that has ended.
    fn reap(&mut self) {
        loop {
            let (pid, why) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, format!("ended with exit code {code}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, format!("was ended by {signal}")),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(error = %error, "waiting for processes failed");
                    return;
                }
            };
            let pid = pid.as_raw();
            match self.supervisor.ended(pid, why.clone(), Instant::now()) {
                Some(name) => tracing::warn!(process = name, pid, reason = %why, "process ended"),
                None => tracing::debug!(pid, reason = %why, "orphan ended"),
            }
        }
    }
}

/// A process that was not waited for keeps its id, so nobody else is hit.
fn send(pid: i32, signal: Signal) {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => tracing::error!(pid, error = %error, "cannot be signalled"),
    }
}

fn spawn(name: &str, program: &Program) -> io::Result<i32> {
    let mut child = Command::new(&program.path)
        .args(&program.arguments)
        .envs(program.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Signals of a terminal come to this process only, which passes them on.
        .process_group(0)
        .spawn()?;
    if let Some(output) = child.stdout.take() {
        tokio::spawn(pass_on(
            name.to_owned(),
            tokio::process::ChildStdout::from_std(output)?,
        ));
    }
    if let Some(output) = child.stderr.take() {
        tokio::spawn(pass_on(
            name.to_owned(),
            tokio::process::ChildStderr::from_std(output)?,
        ));
    }
    Ok(child.id().cast_signed())
}

/// Passes lines on until the last process that has the pipe has ended.
async fn pass_on(name: String, mut from: impl AsyncRead + Unpin) {
    let mut read = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        read.extend_from_slice(buffer.get(..count).unwrap_or_default());
        for line in take_lines(&mut read, count == 0) {
            // One write a line, so that lines of two processes never mix.
            let _ = io::stderr().lock().write_all(&named(&name, &line));
        }
        if count == 0 {
            return;
        }
    }
}

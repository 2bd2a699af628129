//! Bringing a lab up, as the user's program sees it: check, start the supervisor, wait for its word.
//!
//! The supervisor inherits the lab's lock as its standard input, so the lab is locked without a gap, and reports on
//! its standard output, one JSON line each.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::down::{clear_except_lock, down, end_all};
use crate::error::{Error, Result};
use crate::preflight;
use crate::process::open_log;
use crate::state::{Layout, MARK, write_json};
use crate::supervisor;
use crate::topology::{Component, Options, POD_POOL, Plan, TOR_AS, Tor, outside_address, tor_address};

/// The component name of the supervisor's log.
const SUPERVISOR: &str = "supervisor";
/// Lines shown of each log when a lab does not come up.
const LOG_LINES: usize = 5;

/// What the supervisor reports while it starts the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// What it does next.
    Step(String),
    /// All is ready.
    Ready,
    /// It gave up.
    Failed(String),
}

/// A lab that has come up.
#[derive(Debug)]
pub struct Up {
    /// The lab.
    pub plan: Plan,
    /// How long it took.
    pub took: Duration,
}

/// Brings a lab up and waits until it is ready. When that fails nothing of it stays.
///
/// # Errors
/// A refusal before anything was changed, or a lab that did not become ready.
pub async fn up(layout: &Layout, options: &Options) -> Result<Up> {
    let started = Instant::now();
    let existed = layout.dir().exists();
    let plan = preflight::check(layout, options).await?;
    fs::create_dir_all(layout.dir())
        .map_err(|e| Error::io(format!("create {}", layout.dir().display()), e))?;
    let lock = lock(layout)?;
    if existed {
        sweep_crashed(layout, &plan)?;
    }
    write_json(&layout.plan_file(), &plan)?;
    let words = start_supervisor(layout, &plan, lock)?;
    let outcome = tokio::select! {
        outcome = tokio::task::spawn_blocking(move || listen(words)) => {
            outcome.unwrap_or_else(|error| Err(Error::refused(format!("waiting for the supervisor: {error}"))))
        }
        error = interrupted() => Err(error),
    };
    match outcome {
        Ok(()) => Ok(Up {
            plan,
            took: started.elapsed(),
        }),
        Err(error) => {
            show_logs(layout);
            down(layout)?;
            Err(error)
        }
    }
}

impl Up {
    /// What the user wants to know next.
    #[must_use]
    pub fn text(&self, layout: &Layout) -> String {
        let plan = &self.plan;
        let nodes: Vec<String> = plan
            .nodes()
            .map(|node| format!("{} {}", node.name, node.address))
            .collect();
        let router = match plan.options.tor {
            Tor::Bird => format!("tor {}, BIRD in AS {TOR_AS}", tor_address()),
            _ => format!("tor {}, forwards only", tor_address()),
        };
        let sessions = if plan.options.runs(Component::Bgpd) {
            "; all BGP sessions established"
        } else {
            ""
        };
        format!(
            "lab {} is up in {} after {:.1} s\n  nodes       {}\n  router      {router}{sessions}\n  behind it   outside {}\n  pods from   {POD_POOL}\n  API         https://127.0.0.1:{}\n  kubeconfig  {}\n",
            plan.id,
            layout.dir().display(),
            self.took.as_secs_f64(),
            nodes.join(", "),
            outside_address(),
            plan.api_port,
            layout.kubeconfig().display()
        )
    }
}

/// Refuses a directory whose lab is up, and changes nothing.
///
/// # Errors
/// A supervisor holds the lock.
pub fn refuse_running(layout: &Layout) -> Result<()> {
    if layout.lock_file().exists() {
        lock(layout).map(drop)
    } else {
        Ok(())
    }
}

/// Waits until the user, or the system, wants no lab any more.
async fn interrupted() -> Error {
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => return Error::io("wait for signals", error),
    };
    tokio::select! {
        result = tokio::signal::ctrl_c() => if let Err(error) = result {
            return Error::io("wait for signals", error);
        },
        _ = terminate.recv() => {}
    }
    Error::refused("interrupted; the lab is taken down")
}

/// Takes the lab's lock, which its supervisor then keeps.
fn lock(layout: &Layout) -> Result<File> {
    let path = layout.lock_file();
    let failed = |e| Error::io(format!("lock {}", path.display()), e);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::refused(format!(
            "a lab is up in {} already; see `caracal-lab status`, or take it down with `caracal-lab down` first",
            layout.dir().display()
        ))),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

/// Cleans what a crash left. The lock is ours, so no supervisor is alive.
fn sweep_crashed(layout: &Layout, plan: &Plan) -> Result<()> {
    end_all(layout, &plan.id)?;
    clear_except_lock(layout)
}

fn start_supervisor(layout: &Layout, plan: &Plan, lock: File) -> Result<ChildStdout> {
    let failed = |e| Error::io("start the supervisor", e);
    let log = open_log(&layout.log(SUPERVISOR))?;
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .arg("--dir")
        .arg(layout.dir())
        .arg(supervisor::VERB)
        .env(MARK, &plan.id)
        .current_dir("/")
        .stdin(Stdio::from(lock))
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(failed)?;
    child
        .stdout
        .take()
        .ok_or_else(|| failed(std::io::Error::other("it has no output")))
}

/// Follows the supervisor's words to the last one.
fn listen(words: ChildStdout) -> Result<()> {
    let mut doing = "start".to_owned();
    for line in BufReader::new(words).lines() {
        let line = line.map_err(|e| Error::io("listen to the supervisor", e))?;
        match serde_json::from_str(&line) {
            Ok(Word::Step(step)) => doing = step,
            Ok(Word::Ready) => return Ok(()),
            Ok(Word::Failed(reason)) => return Err(Error::refused(reason)),
            Err(e) => return Err(Error::io("listen to the supervisor", e.into())),
        }
    }
    Err(Error::refused(format!(
        "the supervisor ended while it was to {doing}"
    )))
}

/// Prints the end of every log to standard error.
fn show_logs(layout: &Layout) {
    let Ok(entries) = fs::read_dir(layout.logs()) else {
        return;
    };
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let mut out = std::io::stderr().lock();
    for file in files {
        let lines = last_lines(&file, LOG_LINES);
        if lines.is_empty() {
            continue;
        }
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let _ = writeln!(out, "==> {name} <==");
        for line in lines {
            let _ = writeln!(out, "{line}");
        }
    }
}

fn last_lines(file: &Path, count: usize) -> Vec<String> {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines.iter().skip(from).map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lab_in_a_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        let first = lock(&layout).unwrap();
        let message = lock(&layout).unwrap_err().to_string();
        assert!(
            message.contains("already") && message.contains("caracal-lab down"),
            "{message}"
        );
        drop(first);
        lock(&layout).unwrap();
    }

    #[test]
    fn the_end_of_a_log_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.log");
        fs::write(&file, "1\n2\n3\n").unwrap();
        assert_eq!(last_lines(&file, 2), ["2", "3"]);
        assert_eq!(last_lines(&file, 9), ["1", "2", "3"]);
        assert!(last_lines(&dir.path().join("none"), 2).is_empty());
    }
}

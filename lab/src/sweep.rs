//! Taking away what a lab has outside its directory: marked processes and named network namespaces.
//!
//! Needs no memory: processes carry the lab's id in their environment or live in one of its network namespaces, and
//! the namespaces' names carry the id. So `down` after a crash does what `down` does.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::state::MARK;
use crate::topology::netns_prefix;

/// Ends every process of a lab and removes its network namespaces. Nothing there is success.
///
/// # Errors
/// A process that does not end, or a name that cannot be removed.
pub fn sweep(id: &str) -> Result<()> {
    end_processes(id)?;
    for name in namespaces(id)? {
        caracal_linux::netns::delete_named(&name)
            .map_err(|e| Error::kernel(format!("remove network namespace {name}"), e))?;
    }
    Ok(())
}

/// Names of the lab's network namespaces.
///
/// # Errors
/// The folder of names cannot be read.
pub fn namespaces(id: &str) -> Result<Vec<String>> {
    let prefix = netns_prefix(id);
    let names =
        caracal_linux::netns::list_named().map_err(|e| Error::kernel("list network namespaces", e))?;
    Ok(names
        .into_iter()
        .filter(|name| name.starts_with(&prefix))
        .collect())
}

/// The processes that belong to a lab, without the calling one and those it descends from.
///
/// # Errors
/// `/proc` cannot be read.
pub fn processes(id: &str) -> Result<Vec<Pid>> {
    let inodes: BTreeSet<u64> = namespaces(id)?
        .iter()
        .filter_map(|name| fs::metadata(format!("/run/netns/{name}")).ok())
        .map(|meta| meta.ino())
        .collect();
    Ok(all_processes()?
        .into_iter()
        .filter(|pid| {
            is_marked(*pid, MARK, id) || network_of(*pid).is_some_and(|inode| inodes.contains(&inode))
        })
        .collect())
}

/// Ends every process of a lab: politely, then not.
fn end_processes(id: &str) -> Result<()> {
    end(|| processes(id))
}

/// Kills what a search finds until it finds nothing: a process may start another between two looks.
///
/// # Errors
/// Some processes are still there after five seconds.
pub fn end(mut find: impl FnMut() -> Result<Vec<Pid>>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let found = find()?;
        if found.is_empty() {
            return Ok(());
        }
        for pid in &found {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        if Instant::now() > deadline {
            let list: Vec<String> = found.iter().map(ToString::to_string).collect();
            return Err(Error::refused(format!(
                "processes do not end: {}",
                list.join(" ")
            )));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes in a network namespace, by its inode, without the caller's line of descent.
///
/// # Errors
/// `/proc` cannot be read.
pub fn in_network(inode: u64) -> Result<Vec<Pid>> {
    Ok(all_processes()?
        .into_iter()
        .filter(|pid| network_of(*pid) == Some(inode))
        .collect())
}

/// Processes that carry an environment variable with a value, without the caller's line of descent.
///
/// # Errors
/// `/proc` cannot be read.
pub fn with_variable(name: &str, value: &str) -> Result<Vec<Pid>> {
    Ok(all_processes()?
        .into_iter()
        .filter(|pid| is_marked(*pid, name, value))
        .collect())
}

/// Every process except zombies and the caller with its ancestors: `down` may be run from inside the lab.
fn all_processes() -> Result<Vec<Pid>> {
    let spared = ancestors();
    let entries = fs::read_dir("/proc").map_err(|e| Error::io("read /proc", e))?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| !spared.contains(pid) && is_running(*pid))
        .map(Pid::from_raw)
        .collect())
}

fn ancestors() -> BTreeSet<i32> {
    let mut line = BTreeSet::new();
    let mut pid = std::process::id().cast_signed();
    while pid > 0 && line.insert(pid) {
        pid = stat(pid).map_or(0, |(_, parent)| parent);
    }
    line
}

fn is_running(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// State and parent of a process. The name in parentheses may itself hold parentheses and spaces.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

fn is_marked(pid: Pid, name: &str, value: &str) -> bool {
    let wanted = format!("{name}={value}");
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|text| {
        text.split(|byte| *byte == 0)
            .any(|entry| entry == wanted.as_bytes())
    })
}

fn network_of(pid: Pid) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net"))
        .ok()
        .map(|meta| meta.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_mark_and_its_parent_is_known() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env("CARACAL_SWEEP_TEST", "x1")
            .spawn()
            .unwrap();
        let found = with_variable("CARACAL_SWEEP_TEST", "x1").unwrap();
        assert_eq!(found, [Pid::from_raw(child.id().cast_signed())]);
        assert_eq!(
            stat(child.id().cast_signed()).unwrap().1,
            std::process::id().cast_signed()
        );
        assert!(with_variable("CARACAL_SWEEP_TEST", "x").unwrap().is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_caller_and_its_ancestors_are_never_found() {
        assert!(ancestors().contains(&std::process::id().cast_signed()));
        assert!(!all_processes().unwrap().contains(&Pid::this()));
    }
}

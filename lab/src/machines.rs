//! Machines that run: their anchors, as files that later programs find them by.
//!
//! A process id alone may name another process after a crash: the time a process started tells them apart.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::enter::{Namespaces, Place};
use crate::error::{Error, Result};
use crate::state::{Layout, read_json, write_json};
use crate::topology::{Machine, Plan, Role};

/// The process that keeps a machine's namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Its process id.
    pub pid: u32,
    /// When it started, in ticks since the machine's boot.
    pub started: u64,
}

impl Anchor {
    /// Of a process that runs now.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of_process(pid: u32) -> Result<Self> {
        start_time(pid)
            .map(|started| Self { pid, started })
            .ok_or_else(|| Error::refused(format!("process {pid} has ended")))
    }

    /// Whether that very process still runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        start_time(self.pid) == Some(self.started)
    }
}

/// Writes down which process keeps a machine.
///
/// # Errors
/// The process has ended, or the file cannot be written.
pub fn remember(layout: &Layout, machine: &Machine, pid: u32) -> Result<Anchor> {
    let anchor = Anchor::of_process(pid)?;
    write_json(&layout.anchor_file(machine), &anchor)?;
    Ok(anchor)
}

/// The process that keeps a machine.
///
/// # Errors
/// The lab is not up.
pub fn anchor(layout: &Layout, machine: &Machine) -> Result<Anchor> {
    let file = layout.anchor_file(machine);
    let down = || not_up(layout, &machine.name);
    if !file.exists() {
        return Err(down());
    }
    let anchor: Anchor = read_json(&file)?;
    if anchor.is_alive() {
        Ok(anchor)
    } else {
        Err(down())
    }
}

/// A machine as a place to run things in.
///
/// # Errors
/// The lab is not up.
pub fn place(layout: &Layout, machine: &Machine) -> Result<Place> {
    let anchor = anchor(layout, machine)?;
    Ok(Place::Machine(Namespaces::of_process(anchor.pid)?))
}

/// A node by name.
///
/// # Errors
/// No such node; the text lists those there are.
pub fn node<'a>(plan: &'a Plan, name: &str) -> Result<&'a Machine> {
    plan.nodes().find(|node| node.name == name).ok_or_else(|| {
        let names: Vec<&str> = plan.nodes().map(|node| node.name.as_str()).collect();
        Error::refused(format!("no node {name:?}; the lab has {}", names.join(", ")))
    })
}

/// The one machine of a role.
///
/// # Errors
/// A plan of another version.
pub fn of_role(plan: &Plan, role: Role) -> Result<&Machine> {
    plan.machines
        .iter()
        .find(|machine| machine.role == role)
        .ok_or_else(|| {
            Error::refused(format!(
                "the lab's plan has no {role:?}; run `caracal-lab down` and `up` again"
            ))
        })
}

fn not_up(layout: &Layout, machine: &str) -> Error {
    Error::refused(format!(
        "{machine} does not run: the lab in {} is not up; run `caracal-lab up` again",
        layout.dir().display()
    ))
}

/// The 22nd field of `/proc/PID/stat` (proc(5)); zombies count as gone.
fn start_time(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    let state = words.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    words.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Options;

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = Anchor::of_process(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(
            !Anchor {
                started: own.started + 1,
                ..own
            }
            .is_alive(),
            "another process with the same number"
        );
    }

    #[test]
    fn an_ended_process_is_no_anchor() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(Anchor::of_process(pid).is_err());
    }

    #[test]
    fn an_unknown_node_is_refused_with_the_known_ones() {
        let plan = Plan::new(Path::new("/run/x"), &Options::default()).unwrap();
        assert_eq!(node(&plan, "node-2").unwrap().name, "node-2");
        assert_eq!(
            node(&plan, "tor").unwrap_err().to_string(),
            "no node \"tor\"; the lab has node-1, node-2, node-3"
        );
    }
}

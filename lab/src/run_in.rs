//! Running a user's command in a machine or a pod: the calling process goes there and becomes the command.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::enter::Place;
use crate::error::{Error, Result};
use crate::node_files;
use crate::programs;
use crate::state::{Layout, MARK};
use crate::topology::{Plan, Role};
use crate::{machines, pod_runner};

/// Becomes a command on a machine. Returns only when that fails.
///
/// # Errors
/// The lab is not up, or the command cannot be started.
pub fn on_machine(layout: &Layout, plan: &Plan, name: &str, command: &[String]) -> Result<()> {
    let machine = plan
        .machine(name)
        .ok_or_else(|| Error::refused(format!("no machine {name:?} in the lab")))?;
    let place = machines::place(layout, machine)?;
    let mut prepared = prepare(plan, command)?;
    match machine.role {
        Role::Node => {
            prepared.env("KUBECONFIG", node_files::KUBECONFIG);
            prepared.env("NODENAME", &machine.name);
        }
        // The user's file names the host's loopback, which these machines do not have.
        Role::Tor | Role::Outside => {
            prepared.env_remove("KUBECONFIG");
        }
    }
    become_command(&place, prepared)
}

/// Becomes a command on a node. Returns only when that fails.
///
/// # Errors
/// As [`on_machine`], and for what is not a node.
pub fn on_node(layout: &Layout, plan: &Plan, name: &str, command: &[String]) -> Result<()> {
    let node = machines::node(plan, name)?;
    on_machine(layout, plan, &node.name, command)
}

/// Becomes a command in a pod's network. Returns only when that fails.
///
/// # Errors
/// No such pod, or the command cannot be started.
pub fn in_pod(layout: &Layout, plan: &Plan, pod: &str, command: &[String]) -> Result<()> {
    let (namespace, name) = pod
        .split_once('/')
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains('/'))
        .ok_or_else(|| Error::refused(format!("pod {pod:?}: give NAMESPACE/POD, as default/web")))?;
    let record = pod_runner::find(layout, plan, namespace, name)?;
    let place = record.place()?;
    become_command(&place, prepare(plan, command)?)
}

fn prepare(plan: &Plan, command: &[String]) -> Result<Command> {
    let (program, args) = command
        .split_first()
        .ok_or_else(|| Error::refused("no command; give it after --"))?;
    let mut prepared = Command::new(program);
    prepared
        .args(args)
        .env("PATH", programs::search_path())
        .env(MARK, &plan.id);
    Ok(prepared)
}

fn become_command(place: &Place, mut command: Command) -> Result<()> {
    let here = std::env::current_dir().ok();
    place.enter()?;
    // Entering a mount namespace leads to its root; where the caller stood may not exist there.
    if let Some(here) = here {
        let _ = std::env::set_current_dir(here);
    }
    let name = command.get_program().to_string_lossy().into_owned();
    Err(Error::io(format!("run {name}"), command.exec()))
}

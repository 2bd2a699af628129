//! What `status` shows: the lab's programs, nodes and pods.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;

use crate::control;
use crate::error::{Error, Result};
use crate::pod_runner;
use crate::process::Report;
use crate::state::Layout;
use crate::topology::{Plan, Role};

/// The state of a lab.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its short identity.
    pub id: String,
    /// Its directory.
    pub dir: PathBuf,
    /// `starting`, `up`, or `crashed` when no supervisor answers.
    pub state: String,
    /// The supervisor's process id.
    pub supervisor: Option<u32>,
    /// The user's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The API server's address on the host.
    pub api: String,
    /// Its programs.
    pub components: Vec<Report>,
    /// Its machines.
    pub machines: Vec<MachineStatus>,
    /// Pods that have a place on a node.
    pub pods: Vec<PodStatus>,
}

/// A machine of a lab.
#[derive(Clone, Debug, Serialize)]
pub struct MachineStatus {
    /// Its name.
    pub name: String,
    /// What it plays.
    pub role: Role,
    /// Its address.
    pub address: IpAddr,
    /// Its network namespace.
    pub netns: String,
}

/// A pod of a lab.
#[derive(Clone, Debug, Serialize)]
pub struct PodStatus {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Looks at a lab.
///
/// # Errors
/// There is none, or its files cannot be read.
pub fn status(layout: &Layout) -> Result<Status> {
    let plan = layout.load_plan()?;
    let running = control::status(layout)?;
    let pods = pod_runner::all(layout, &plan)?
        .into_iter()
        .map(|pod| PodStatus {
            namespace: pod.namespace,
            name: pod.name,
            node: pod.node,
            addresses: pod.addresses,
        })
        .collect();
    Ok(Status {
        id: plan.id.clone(),
        dir: layout.dir().to_owned(),
        state: running
            .as_ref()
            .map_or("crashed", |running| &running.state)
            .to_owned(),
        supervisor: running.as_ref().map(|running| running.pid),
        kubeconfig: layout.kubeconfig(),
        api: format!("https://127.0.0.1:{}", plan.api_port),
        components: running.map(|running| running.components).unwrap_or_default(),
        machines: machines(&plan),
        pods,
    })
}

fn machines(plan: &Plan) -> Vec<MachineStatus> {
    plan.machines
        .iter()
        .map(|machine| MachineStatus {
            name: machine.name.clone(),
            role: machine.role,
            address: IpAddr::V4(machine.address),
            netns: machine.netns.clone(),
        })
        .collect()
}

impl Status {
    /// Refuses a lab without a supervisor.
    ///
    /// # Errors
    /// The lab has crashed; the text says how to go on.
    pub fn check(&self) -> Result<()> {
        if self.supervisor.is_some() {
            return Ok(());
        }
        Err(Error::refused(format!(
            "the lab in {} has crashed; `caracal-lab up` cleans up and starts it anew, `caracal-lab down` takes it away",
            self.dir.display()
        )))
    }

    /// As tables.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("lab {} in {}: {}\n", self.id, self.dir.display(), self.state);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "API {}, kubeconfig {}\n",
            self.api,
            self.kubeconfig.display()
        );
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let components = self.components.iter().map(|one| {
            vec![
                one.name.clone(),
                one.state.clone(),
                or_dash(one.pid.map(|pid| pid.to_string())),
                one.restarts.to_string(),
                or_dash(one.last_exit.clone()),
            ]
        });
        text.push_str(&table(
            &["COMPONENT", "STATE", "PID", "RESTARTS", "LAST EXIT"],
            components,
        ));
        text.push('\n');
        let machines = self
            .machines
            .iter()
            .map(|one| vec![one.name.clone(), one.address.to_string(), one.netns.clone()]);
        text.push_str(&table(&["MACHINE", "ADDRESS", "NETWORK NAMESPACE"], machines));
        text.push('\n');
        let pods = self.pods.iter().map(|pod| {
            let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
            let addresses = (!addresses.is_empty()).then(|| addresses.join(","));
            vec![
                format!("{}/{}", pod.namespace, pod.name),
                pod.node.clone(),
                or_dash(addresses),
            ]
        });
        text.push_str(&table(&["POD", "NODE", "ADDRESS"], pods));
        text
    }
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head = head.iter().map(|word| (*word).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
        })
        .map(Option::unwrap_or_default)
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("   ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["a".to_owned(), "1".to_owned()],
            vec!["long".to_owned(), "2".to_owned()],
        ];
        assert_eq!(
            table(&["X", "Y"], rows.into_iter()),
            "X      Y\na      1\nlong   2\n"
        );
    }

    #[test]
    fn a_lab_without_a_supervisor_has_crashed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        assert!(status(&layout).is_err(), "no lab");
        let plan = Plan::new(layout.dir(), &crate::topology::Options::default()).unwrap();
        crate::state::write_json(&layout.plan_file(), &plan).unwrap();
        let status = status(&layout).unwrap();
        assert_eq!(status.state, "crashed");
        assert!(status.check().unwrap_err().to_string().contains("caracal-lab up"));
        assert!(status.text().contains("node-3"));
    }
}

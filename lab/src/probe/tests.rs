//! Probes between machines of a real fabric, with rules of a real kernel.

use std::process::Command;

use caracal_linux::netns::NetNs;

use super::*;
use crate::pod_runner::PodRecord;
use crate::topology::Options;
use crate::{fabric, sweep};

struct Lab {
    dir: tempfile::TempDir,
    plan: Plan,
}

impl Drop for Lab {
    fn drop(&mut self) {
        sweep::sweep(&self.plan.id).unwrap();
    }
}

impl Lab {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            nodes: 2,
            ..Options::default()
        };
        let plan = Plan::new(dir.path(), &options).unwrap();
        let lab = Self { dir, plan };
        fabric::build(&lab.plan).await.unwrap();
        lab
    }

    fn layout(&self) -> Layout {
        Layout::new(self.dir.path()).unwrap()
    }

    fn on(&self, machine: &str, command: &str) {
        let netns = NetNs::open_named(&self.plan.machine(machine).unwrap().netns).unwrap();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command])
            .env("PATH", crate::programs::search_path());
        let output = netns.output(&mut shell).unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }

    /// A pod in the network of a node.
    fn pod(&self, name: &str, node: &str) {
        let machine = self.plan.machine(node).unwrap();
        let netns = NetNs::open_named(&machine.netns).unwrap();
        // The sweep ends it: it lives in one of the lab's namespaces.
        let anchor = netns.spawn(Command::new("sleep").arg("60")).unwrap().id();
        let record = PodRecord {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: "u".to_owned(),
            node: node.to_owned(),
            container_id: String::new(),
            netns: None,
            netns_inode: netns.id().unwrap().1,
            anchor,
            addresses: vec![machine.address.into()],
            hostname: name.to_owned(),
        };
        let folder = self.layout().pods(machine);
        std::fs::create_dir_all(&folder).unwrap();
        crate::state::write_json(&folder.join(format!("default.{name}.json")), &record).unwrap();
    }

    /// Runs a batch of (from, to, protocol, port) and gives verdict and server of each.
    async fn batch(&self, probes: &[(&str, &str, &str, u16)]) -> (u8, Vec<(String, String)>) {
        let lines: Vec<String> = probes
            .iter()
            .map(|(from, to, protocol, port)| {
                json!({"from": from, "to": to, "protocol": protocol, "port": port}).to_string()
            })
            .collect();
        let mut found = Vec::new();
        let mut give = |line: &Value| {
            let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
            found.push((text("verdict"), text("server")));
            Ok(())
        };
        let code = batch(&self.layout(), &self.plan, &lines.join("\n"), &mut give).await;
        let Ok(code) = code else {
            panic!("the batch could not be made")
        };
        (code, found)
    }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_are_those_of_the_kernel() {
    let lab = Lab::new().await;
    lab.pod("agent", "node-2");
    lab.on("node-2", "iptables -A INPUT -p tcp --dport 81 -j DROP");
    lab.on("node-2", "iptables -A INPUT -p udp --dport 81 -j DROP");
    lab.on("node-2", "iptables -A INPUT -p tcp --dport 82 -j REJECT");
    lab.on(
        "node-2",
        "iptables -A INPUT -p udp --dport 82 -j REJECT --reject-with icmp-admin-prohibited",
    );
    lab.on(
        "node-2",
        "iptables -A INPUT -p tcp --dport 83 -j REJECT --reject-with tcp-reset",
    );
    lab.on(
        "node-2",
        "iptables -A INPUT -p tcp --dport 84 -j REJECT --reject-with icmp-host-unreachable",
    );
    lab.on(
        "node-1",
        "iptables -A OUTPUT -p udp --dport 85 -j DROP; ip route add blackhole 192.0.2.0/24",
    );
    let probes = [
        ("node:node-1", "node:node-2", "tcp", 80),
        ("node:node-1", "node:node-2", "udp", 80),
        ("node:node-1", "default/agent", "udp", 90),
        ("default/agent", "outside", "tcp", 80),
        ("outside", "172.30.0.12", "udp", 80),
        ("node:node-1", "node:node-2", "tcp", 81),
        ("node:node-1", "node:node-2", "udp", 81),
        ("node:node-1", "node:node-2", "tcp", 82),
        ("node:node-1", "node:node-2", "udp", 82),
        ("node:node-1", "node:node-2", "tcp", 83),
        ("node:node-1", "node:node-2", "tcp", 84),
        ("node:node-1", "node:node-2", "udp", 85),
        ("node:node-1", "192.0.2.1", "tcp", 80),
        ("node:node-1", "192.0.2.1", "udp", 80),
        // The router has no way there and says so.
        ("node:node-1", "198.51.100.1", "tcp", 80),
        ("node:node-1", "198.51.100.1", "udp", 80),
    ];
    let (code, found) = lab.batch(&probes).await;
    assert_eq!(code, 0);
    assert_eq!(
        found,
        pairs(&[
            ("refused", "-"),
            ("allowed", "node-2"),
            ("allowed", "agent"),
            ("allowed", "outside"),
            ("allowed", "node-2"),
            ("dropped", "-"),
            ("dropped", "-"),
            ("refused", "-"),
            ("refused", "-"),
            ("refused", "-"),
            ("refused", "-"),
            ("dropped", "-"),
            ("dropped", "-"),
            ("dropped", "-"),
            ("refused", "-"),
            ("refused", "-"),
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn further_outside_addresses_are_used_on_both_ends() {
    let lab = Lab::new().await;
    lab.on("node-1", "iptables -A INPUT -s 203.0.113.7 -j DROP");
    let probes = [
        ("outside:203.0.113.7", "node:node-1", "udp", 80),
        ("outside:203.0.113.8", "node:node-1", "udp", 80),
        ("203.0.113.8", "node:node-1", "udp", 81),
        ("node:node-2", "outside:203.0.113.8", "tcp", 80),
        ("node:node-2", "outside:172.30.0.77", "tcp", 80),
        ("default/none", "outside", "tcp", 80),
        ("10.9.9.9", "outside", "tcp", 80),
    ];
    let (code, found) = lab.batch(&probes).await;
    assert_eq!(code, NOT_MADE);
    assert_eq!(
        found,
        pairs(&[
            ("dropped", "-"),
            ("allowed", "node-1"),
            ("allowed", "node-1"),
            ("allowed", "outside"),
            ("-", "-"),
            ("-", "-"),
            ("-", "-"),
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_probes_at_once_find_what_one_finds() {
    let lab = Lab::new().await;
    lab.on("node-2", "iptables -A INPUT -p tcp --dport 81 -j DROP");
    let probes: Vec<_> = (0..600)
        .map(|n| match n % 3 {
            0 => ("node:node-1", "node:node-2", "tcp", 80),
            1 => ("node:node-1", "node:node-2", "tcp", 81),
            _ => ("outside", "node:node-2", "udp", 80),
        })
        .collect();
    let (_, found) = lab.batch(&probes).await;
    for (n, (verdict, _)) in found.iter().enumerate() {
        assert_eq!(verdict, ["refused", "dropped", "allowed"][n % 3], "{n}");
    }
    assert_eq!(found.len(), 600);
}

#[tokio::test]
async fn a_probe_without_a_lab_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::new(dir.path(), &Options::default()).unwrap();
    let layout = Layout::new(dir.path()).unwrap();
    let args = |port: &str| Args {
        from: Some("node:node-1".to_owned()),
        to: Some("outside".to_owned()),
        port: Some(port.to_owned()),
        ..Args::default()
    };
    for port in ["80", "0", "70000", "http"] {
        let Err(Failure::NotMade(error)) = one(&layout, &plan, &args(port)).await else {
            panic!("{port}: probed")
        };
        let expected = if port == "80" {
            "the lab is not up"
        } else {
            "port: "
        };
        assert!(error.to_string().contains(expected), "{error}");
    }
}

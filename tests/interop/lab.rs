//! A node with a wire to each of some machines. Namespaces have no names and die with their last descriptor; processes
//! die with their guard. However a test ends, nothing of it is left.

use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use caracal_linux::netns::NetNs;

/// AS number of our speaker.
pub(crate) const DUT_AS: u32 = 65000;

/// The node of our speaker and the machines around it.
pub(crate) struct Lab {
    pub(crate) node: NetNs,
    pub(crate) machines: Vec<NetNs>,
    folder: tempfile::TempDir,
}

/// Own address of the node on the wire to a machine.
pub(crate) fn node_address(index: usize, v6: bool) -> String {
    if v6 {
        wire_v6(index, 1)
    } else {
        format!("10.99.{index}.1")
    }
}

/// Address of a machine.
pub(crate) fn address(index: usize, v6: bool) -> String {
    if v6 {
        wire_v6(index, 2)
    } else {
        format!("10.99.{index}.2")
    }
}

/// In the form that every daemon writes it.
fn wire_v6(index: usize, end: u16) -> String {
    let wire = u16::try_from(index).unwrap();
    Ipv6Addr::new(0xfd00, 0x99, wire, 0, 0, 0, 0, end).to_string()
}

impl Lab {
    pub(crate) fn new(machines: usize) -> Self {
        let lab = Self {
            node: NetNs::create_anonymous().unwrap(),
            machines: (0..machines)
                .map(|_| NetNs::create_anonymous().unwrap())
                .collect(),
            folder: tempfile::tempdir().unwrap(),
        };
        // FRR's daemons give up root.
        std::fs::set_permissions(lab.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        ip(&lab.node, "link set lo up");
        for (index, machine) in lab.machines.iter().enumerate() {
            let path = format!("/proc/{}/fd/{}", std::process::id(), machine.as_raw_fd());
            ip(
                &lab.node,
                &format!("link add eth{index} type veth peer name eth0 netns {path}"),
            );
            ip(machine, "link set lo up");
            let ends = [
                (
                    &lab.node,
                    format!("eth{index}"),
                    node_address(index, false),
                    node_address(index, true),
                ),
                (
                    machine,
                    "eth0".to_owned(),
                    address(index, false),
                    address(index, true),
                ),
            ];
            for (ns, device, v4, v6) in ends {
                ip(ns, &format!("address add {v4}/24 dev {device}"));
                ip(ns, &format!("address add {v6}/64 dev {device} nodad"));
                ip(ns, &format!("link set {device} up"));
            }
            // The way to the other machines' next hops.
            ip(
                machine,
                &format!("route add 10.99.0.0/16 via {}", node_address(index, false)),
            );
        }
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A file for the output of a process, behind what is in it.
    pub(crate) fn log(&self, name: &str) -> Stdio {
        std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path(name))
            .unwrap()
            .into()
    }

    /// The node's routes, as `ip route` shows them.
    pub(crate) fn routes(&self, v6: bool) -> String {
        ip(&self.node, if v6 { "-6 route show" } else { "route show" })
    }
}

/// Runs `ip` in a namespace.
pub(crate) fn ip(ns: &NetNs, arguments: &str) -> String {
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    run(ns, "ip", &arguments)
}

/// Runs a program in a namespace, which has to succeed.
pub(crate) fn run(ns: &NetNs, program: &str, arguments: &[&str]) -> String {
    let output = ns.output(Command::new(program).args(arguments)).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}{error}");
    text
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, seconds: u64, holds: impl FnMut() -> bool) {
    assert!(holds_within(seconds, holds), "not within {seconds} s: {what}");
}

/// Whether something comes to hold in time.
pub(crate) fn holds_within(seconds: u64, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

/// A process that is killed with its guard.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(ns: &NetNs, command: &mut Command) -> Self {
        Self(ns.spawn(command).unwrap())
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        let mut kill = Command::new("kill");
        assert!(kill.args(["-s", name, &pid]).status().unwrap().success());
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

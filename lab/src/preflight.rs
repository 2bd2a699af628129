//! Everything that can be refused before anything is changed, one line each.
//!
//! Kernel features are tried where trying leaves nothing: in a network namespace without a name.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use caracal_linux::ipset::{IpSets, SetSpec, SetType};
use caracal_linux::netlink::{Netlink, VethEnd};
use caracal_linux::netns::NetNs;

use crate::error::{Error, Result};
use crate::programs;
use crate::state::Layout;
use crate::topology::{Component, Options, Plan};
use crate::up::refuse_running;

/// Longest path of a Unix socket (`sockaddr_un`, with its closing zero).
const SOCKET_PATH_MAX: usize = 107;
/// The set and the chain of the trial.
const TRIAL: &str = "caracal-trial";

/// Checks everything and lays the lab out.
///
/// # Errors
/// The first thing that would not work.
pub async fn check(layout: &Layout, options: &Options) -> Result<Plan> {
    let mut plan = Plan::new(layout.dir(), options)?;
    check_root(nix::unistd::geteuid().is_root())?;
    check_dir(layout)?;
    refuse_running(layout)?;
    plan.programs = programs::find(options)?;
    plan.api_port = api_port(options.api_port)?;
    check_kernel(&plan).await?;
    Ok(plan)
}

fn check_root(is_root: bool) -> Result<()> {
    if is_root {
        return Ok(());
    }
    Err(Error::refused(
        "a lab is made of network namespaces, which needs root; run it with sudo",
    ))
}

/// A directory that holds something else is left alone.
fn check_dir(layout: &Layout) -> Result<()> {
    let dir = layout.dir();
    let socket = layout.control_socket();
    let excess = socket.as_os_str().len().saturating_sub(SOCKET_PATH_MAX);
    if excess > 0 {
        return Err(Error::refused(format!(
            "--dir {}: too long by {excess} characters for the path of a socket; give a shorter one",
            dir.display()
        )));
    }
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(format!("--dir {}", dir.display()), e)),
    };
    let foreign = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| !Layout::ENTRIES.contains(&name.as_str()));
    match foreign {
        None => Ok(()),
        Some(name) => Err(Error::refused(format!(
            "--dir {}: holds {name}, which is not a lab's; give an empty or a new directory",
            dir.display()
        ))),
    }
}

fn api_port(wanted: Option<u16>) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted.unwrap_or(0))).map_err(|e| match wanted {
        Some(port) => Error::refused(format!(
            "--api-port {port}: cannot be used on 127.0.0.1 ({e}); give another, or leave it out for a free one"
        )),
        None => Error::io("find a free port for the API server", e),
    })?;
    let address = listener
        .local_addr()
        .map_err(|e| Error::io("find a free port for the API server", e))?;
    Ok(address.port())
}

/// Tries what the lab needs of the kernel.
///
/// # Errors
/// The first feature that is missing, with what would bring it.
pub async fn check_kernel(plan: &Plan) -> Result<()> {
    let netns = NetNs::create_anonymous().map_err(|e| lacks("network namespaces", "CONFIG_NET_NS", &e))?;
    let netlink = Netlink::open_in(&netns).map_err(|e| lacks("route netlink", "CONFIG_NET", &e))?;
    netlink
        .create_bridge("trial0")
        .await
        .map_err(|e| lacks("bridges", "modprobe bridge", &e))?;
    netlink
        .create_veth(VethEnd::named("trial1"), VethEnd::named("trial2"))
        .await
        .map_err(|e| lacks("veth pairs", "modprobe veth", &e))?;
    if plan.options.runs(Component::Felix) {
        check_sets(&netns)?;
        check_iptables(&netns, plan)?;
    }
    Ok(())
}

fn check_sets(netns: &NetNs) -> Result<()> {
    let help = "modprobe ip_set ip_set_hash_ip ip_set_hash_net ip_set_hash_ipport";
    let failed = |e: caracal_linux::Error| lacks("IP sets", help, &e);
    let mut sets = IpSets::open_in(netns).map_err(failed)?;
    for set_type in [SetType::HashIp, SetType::HashNet, SetType::HashIpPort] {
        sets.check_support(set_type).map_err(failed)?;
    }
    let spec = SetSpec {
        set_type: SetType::HashIp,
        v6: false,
        max_elements: 16,
    };
    sets.create(TRIAL, &spec).map_err(failed)
}

/// Loads one chain with every match and target that policy needs.
fn check_iptables(netns: &NetNs, plan: &Plan) -> Result<()> {
    let rules = format!(
        "*filter\n:{TRIAL} - [0:0]\n\
         -A {TRIAL} -m comment --comment {TRIAL} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         -A {TRIAL} -m set --match-set {TRIAL} src -j MARK --set-xmark 0x10000/0x10000\n\
         -A {TRIAL} -p tcp -m multiport --dports 80,443 -m mark --mark 0x10000/0x10000 -j RETURN\n\
         COMMIT\n"
    );
    let program = plan
        .programs
        .get("iptables-restore")
        .map_or(Path::new("iptables-restore"), |path| path.as_path());
    let output = netns
        .run(|| feed(Command::new(program).arg("--noflush"), &rules))
        .map_err(|e| Error::kernel("enter a network namespace", e))?
        .map_err(|e| Error::io(format!("run {}", program.display()), e))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let reason = text
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("no reason given");
    Err(Error::refused(format!(
        "this kernel cannot load the rules that policy needs ({}); try: modprobe xt_set xt_conntrack xt_mark xt_multiport",
        reason.trim()
    )))
}

fn feed(command: &mut Command, input: &str) -> std::io::Result<std::process::Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early has a reason of its own, which its output says.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

fn lacks(feature: &str, help: &str, error: &caracal_linux::Error) -> Error {
    let source = std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"));
    Error::refused(format!(
        "this kernel or sandbox gives no {feature} ({error}{source}); needed: {help}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_root_the_remedy_is_named() {
        assert!(check_root(true).is_ok());
        assert!(check_root(false).unwrap_err().to_string().contains("sudo"));
    }

    #[test]
    fn a_directory_with_other_things_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        check_dir(&layout).unwrap();
        fs::write(layout.plan_file(), "{}").unwrap();
        check_dir(&layout).unwrap();
        fs::write(dir.path().join("letter.txt"), "dear").unwrap();
        let message = check_dir(&layout).unwrap_err().to_string();
        assert!(message.contains("letter.txt"), "{message}");
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused() {
        let layout = Layout::new(Path::new(&format!("/run/{}", "x".repeat(100)))).unwrap();
        let message = check_dir(&layout).unwrap_err().to_string();
        assert!(message.contains("too long by 11"), "{message}");
    }

    #[test]
    fn a_taken_port_is_refused_and_a_free_one_is_found() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let message = api_port(Some(port)).unwrap_err().to_string();
        assert!(message.starts_with(&format!("--api-port {port}: ")), "{message}");
        let free = api_port(None).unwrap();
        assert!(free != 0 && free != port);
    }
}

//! Whether a lab is ready: what its daemons and its router say of themselves.
//!
//! Each check names one reason why not. The waiting belongs to the supervisor.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::enter::Place;
use crate::peers::bird;
use crate::topology::{Component, Machine, Plan, Tor};

/// Where felix answers probes, within its node.
pub const FELIX_HEALTH_PORT: u16 = 9099;
/// Where bgpd takes requests, within its node.
const BGPD_SOCKET: &str = "run/caracal/bgpd.sock";
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest answer that is read, in bytes.
const ANSWER_LEN_MAX: u64 = 1 << 20;

/// A node with what is needed to ask its daemons.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// The node.
    pub machine: &'a Machine,
    /// Its place.
    pub place: &'a Place,
    /// The process that keeps it.
    pub anchor: u32,
}

/// Why a node is not ready.
///
/// # Errors
/// The first reason.
pub fn node(plan: &Plan, node: Node<'_>) -> Result<(), String> {
    let name = &node.machine.name;
    if plan.options.runs(Component::Felix) {
        felix(node.place).map_err(|reason| format!("{name}/felix: {reason}"))?;
    }
    if plan.options.runs(Component::Bgpd) {
        bgpd(plan, node.anchor).map_err(|reason| format!("{name}/bgpd: {reason}"))?;
    }
    Ok(())
}

/// Why the router is not ready.
///
/// # Errors
/// The first reason.
pub fn router(plan: &Plan, tor: &Place) -> Result<(), String> {
    if plan.options.tor != Tor::Bird {
        return Ok(());
    }
    let program = plan
        .programs
        .get("birdc")
        .cloned()
        .unwrap_or_else(|| PathBuf::from("birdc"));
    let output = tor
        .run(|| Command::new(program).args(["show", "protocols"]).output())
        .map_err(|e| format!("tor/bird: {e}"))?
        .map_err(|e| format!("tor/bird: run birdc: {e}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "tor/bird: {}",
            text.lines().next().unwrap_or("birdc fails").trim()
        ));
    }
    if !plan.options.runs(Component::Bgpd) {
        return Ok(());
    }
    let up = bird::established(&String::from_utf8_lossy(&output.stdout));
    match plan
        .nodes()
        .find(|node| !up.contains(&bird::protocol_name(&node.name)))
    {
        Some(node) => Err(format!(
            "tor/bird: its session with {} is not established",
            node.name
        )),
        None => Ok(()),
    }
}

/// The readiness probe, as a kubelet would send it.
fn felix(place: &Place) -> Result<(), String> {
    let status = place
        .run_in_network(|| http_status(FELIX_HEALTH_PORT, "/readiness"))
        .map_err(|e| e.to_string())?
        .map_err(|e| format!("its readiness probe on port {FELIX_HEALTH_PORT}: {e}"))?;
    if (200..300).contains(&status) {
        return Ok(());
    }
    Err(format!("its readiness probe answers {status}"))
}

fn http_status(port: u16, path: &str) -> std::io::Result<u16> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_LEN_MAX)).read_line(&mut line)?;
    line.split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| std::io::Error::other(format!("not HTTP: {:?}", line.trim_end())))
}

fn bgpd(plan: &Plan, anchor: u32) -> Result<(), String> {
    let socket = Path::new("/proc")
        .join(anchor.to_string())
        .join("root")
        .join(BGPD_SOCKET);
    let text = ask(&socket).map_err(|e| format!("its control socket: {e}"))?;
    let status = serde_json::from_str(&text).map_err(|e| format!("its status: {e}"))?;
    let router = usize::from(plan.options.tor != Tor::None);
    established(&status, plan.nodes().count() - 1 + router)
}

fn ask(socket: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"{\"request\":\"status\"}\n")?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_LEN_MAX)).read_line(&mut line)?;
    Ok(line)
}

/// Whether a speaker has all sessions it should have.
fn established(status: &Value, wanted: usize) -> Result<(), String> {
    if let Some(error) = status.get("error").and_then(Value::as_str) {
        return Err(error.to_owned());
    }
    let peers = status
        .get("peers")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let text = |peer: &Value, key: &str| peer.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
    for peer in peers {
        let state = text(peer, "state");
        if !state.eq_ignore_ascii_case("established") {
            return Err(format!("its session with {} is {state}", text(peer, "address")));
        }
    }
    if peers.len() < wanted {
        return Err(format!("it has {} of {wanted} sessions", peers.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::TcpListener;

    #[test]
    fn a_speaker_is_ready_with_all_its_sessions() {
        let peer = |state: &str| json!({"address": "172.30.0.1", "state": state});
        let up = json!({"peers": [peer("Established"), peer("Established")]});
        assert_eq!(established(&up, 2), Ok(()));
        assert_eq!(established(&up, 3).unwrap_err(), "it has 2 of 3 sessions");
        let down = json!({"peers": [peer("Established"), peer("Active")]});
        assert_eq!(
            established(&down, 2).unwrap_err(),
            "its session with 172.30.0.1 is Active"
        );
        assert_eq!(established(&json!({"error": "busy"}), 0).unwrap_err(), "busy");
    }

    #[test]
    fn a_probe_reads_the_status_line() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut first = [0; 16];
            stream.read_exact(&mut first).unwrap();
            stream
                .write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
                .unwrap();
            first
        });
        assert_eq!(http_status(port, "/readiness").unwrap(), 503);
        assert_eq!(&server.join().unwrap(), b"GET /readiness H");
        assert!(http_status(port, "/readiness").is_err(), "nobody listens");
    }
}

//! `node status`: the BGP sessions of this node, asked of the speaker's control socket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use caracal_api::yaml;
use caracal_bgpd_core::snapshot::{PeerStatus, SessionState, SpeakerStatus};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::Value;

use crate::args::NodeStatus;
use crate::error::Failure;
use crate::table;
use crate::terminal::{Terminal, sorted};

/// The speaker answers at once or is stuck.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer that is read, in bytes.
const ANSWER_LEN_MAX: u64 = 64 * 1024 * 1024;
/// Sessions younger than this show the time they came up, older ones the day.
const DAY_SECONDS: u64 = 24 * 3600;

/// Carries out `node status`.
pub(crate) fn run(terminal: &Terminal, arguments: &NodeStatus) -> Result<(), Failure> {
    let answer = ask(&arguments.control, r#"{"request":"status"}"#)?;
    match arguments.output.as_str() {
        "json" => {
            terminal.line(
                &serde_json::to_string_pretty(&answer).map_err(|error| Failure::new(error.to_string()))?,
            );
            return Ok(());
        }
        "yaml" => {
            terminal
                .text(&yaml::to_string(&sorted(answer)).map_err(|error| Failure::new(error.to_string()))?);
            return Ok(());
        }
        "text" => {}
        other => {
            return Err(Failure::new(format!(
                "unrecognized output format '{other}'; use text, json or yaml"
            )));
        }
    }
    let status: SpeakerStatus = serde_json::from_value(answer).map_err(|error| {
        Failure::new(format!(
            "the BGP speaker's answer cannot be read: {error}; is it of this version?"
        ))
    })?;
    terminal.text(&text(&status, Timestamp::now()));
    Ok(())
}

fn ask(control: &Path, request: &str) -> Result<Value, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!(
            "Calico process is not running.\ncannot ask the BGP speaker at {}: {error}; run this on a node, as root, \
             or name its socket with --control",
            control.display()
        ))
    };
    let mut stream = UnixStream::connect(control).map_err(failed)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
    stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
    stream
        .write_all(format!("{request}\n").as_bytes())
        .map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_LEN_MAX))
        .read_line(&mut line)
        .map_err(failed)?;
    let answer: Value = serde_json::from_str(&line)
        .map_err(|error| Failure::new(format!("the BGP speaker's answer cannot be read: {error}")))?;
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => Err(Failure::new(error.to_owned())),
        None => Ok(answer),
    }
}

fn text(status: &SpeakerStatus, now: Timestamp) -> String {
    let mut text = "Calico process is running.\n".to_owned();
    for (family, is_v4) in [("IPv4", true), ("IPv6", false)] {
        text.push_str(&format!("\n{family} BGP status\n"));
        let rows: Vec<Vec<String>> = status
            .peers
            .iter()
            .filter(|peer| peer.address.is_ipv4() == is_v4)
            .map(|peer| row(peer, now))
            .collect();
        if rows.is_empty() {
            text.push_str(&format!("No {family} peers found.\n"));
        } else {
            text.push_str(&table::boxed(
                &["Peer address", "Peer type", "State", "Since", "Info"],
                &rows,
                &[],
            ));
        }
    }
    text
}

fn row(peer: &PeerStatus, now: Timestamp) -> Vec<String> {
    let peer_type = match peer.name.split('_').next() {
        Some("Mesh") => "node-to-node mesh",
        Some("Node") => "node specific",
        Some("Global") => "global",
        _ => peer.name.as_str(),
    };
    let is_up = peer.state == SessionState::Established;
    let mut info = format!("{:?}", peer.state);
    if let Some(error) = peer.last_error.as_ref().filter(|_| !is_up) {
        info.push_str(&format!(" {error}"));
    }
    vec![
        peer.address.to_string(),
        peer_type.to_owned(),
        if is_up { "up" } else { "start" }.to_owned(),
        since(now, peer.state_seconds),
        info,
    ]
}

/// The time a state began, as BIRD shows it: the time of day, or the day when that is longer ago.
fn since(now: Timestamp, seconds: u64) -> String {
    let began = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok());
    let Some(began) = began else { return "?".to_owned() };
    let format = if seconds < DAY_SECONDS {
        "%H:%M:%S"
    } else {
        "%Y-%m-%d"
    };
    began.to_zoned(TimeZone::UTC).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_stand_in_calicoctls_table() {
        let status: SpeakerStatus = serde_json::from_value(serde_json::json!({
            "localAs": 64512, "routerId": "10.0.0.1", "restarting": false, "prefixes": 0, "paths": 0,
            "peers": [{
                "name": "Mesh_10_0_0_2", "address": "10.0.0.2", "remoteAs": 64512, "localAs": 64512,
                "peerType": "ibgp", "passive": false, "state": "Established", "stateSeconds": 60,
                "establishedCount": 1, "routesStale": false, "capabilities": [], "counters": {
                    "messagesIn": 0, "messagesOut": 0, "updatesIn": 0, "updatesOut": 0, "notificationsIn": 0,
                    "notificationsOut": 0, "treatAsWithdraw": 0, "attributesDiscarded": 0},
                "prefixesReceived": 0, "prefixesAccepted": 0, "prefixesSent": 0
            }]
        }))
        .unwrap();
        let now: Timestamp = "2026-01-02T10:22:33Z".parse().unwrap();
        assert_eq!(
            text(&status, now),
            "Calico process is running.\n\n\
             IPv4 BGP status\n\
             +--------------+-------------------+-------+----------+-------------+\n\
             | PEER ADDRESS | PEER TYPE         | STATE | SINCE    | INFO        |\n\
             +--------------+-------------------+-------+----------+-------------+\n\
             | 10.0.0.2     | node-to-node mesh | up    | 10:21:33 | Established |\n\
             +--------------+-------------------+-------+----------+-------------+\n\n\
             IPv6 BGP status\nNo IPv6 peers found.\n"
        );
    }

    #[test]
    fn an_absent_speaker_is_said_with_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let message = ask(&dir.path().join("none.sock"), "{}").unwrap_err().to_string();
        assert!(
            message.contains("none.sock") && message.contains("--control"),
            "{message}"
        );
    }
}

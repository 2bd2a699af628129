//! `node status`: the BGP sessions of this node, asked of the speaker's control socket.

use caracal_bgpd_core::snapshot::{PeerStatus, SessionState, SpeakerStatus};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::json;

use crate::args::NodeStatus;
use crate::error::Failure;
use crate::terminal::Terminal;
use crate::{form, speaker, table};

/// Sessions younger than this show the time they came up, older ones the day.
const DAY_SECONDS: u64 = 24 * 3600;

/// Carries out `node status`.
pub(crate) fn run(terminal: &Terminal, arguments: &NodeStatus) -> Result<(), Failure> {
    let answer = speaker::ask(&arguments.control, &json!({"request": "status"}))?;
    form::print(terminal, &arguments.output, answer.clone(), || {
        let status: SpeakerStatus = speaker::read(answer)?;
        Ok(text(&status, Timestamp::now()))
    })
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
}

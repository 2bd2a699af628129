//! `bgp`: sessions and routes, of this node over the speaker's control socket, of others over their CalicoNodeStatus.

mod far;
pub(crate) mod plan;

use std::net::IpAddr;
use std::path::Path;

use caracal_bgpd_core::snapshot::{
    Explanation, PeerStatus, RouteQuery, RouteStatus, SessionState, SpeakerStatus,
};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::args::{BgpDrain, BgpNeighbor, BgpPeers, BgpRoutes, BgpTable, BgpWhyNot, Global};
use crate::connect::Access;
use crate::error::Failure;
use crate::terminal::Terminal;
use crate::{form, speaker, table};

/// Carries out `bgp peers`.
pub(crate) async fn peers(
    terminal: &Terminal,
    access: &Access,
    global: &Global,
    arguments: &BgpPeers,
) -> Result<(), Failure> {
    let place = &arguments.place;
    if let Some(node) = &place.node {
        let client = access.client(global).await?;
        return far::peers(terminal, &client, node, &place.output).await;
    }
    let answer = speaker::ask(&place.control, &json!({"request": "status"}))?;
    let peers = answer.get("peers").cloned().unwrap_or_default();
    form::print(terminal, &place.output, peers, || {
        let status: SpeakerStatus = speaker::read(answer)?;
        let rows: Vec<Vec<String>> = status.peers.iter().map(peer_row).collect();
        let headings = [
            "NAME",
            "PEER",
            "AS",
            "STATE",
            "UP",
            "RX/ACC/ADV",
            "BFD",
            "LAST-ERROR",
        ];
        Ok(table::plain(&headings, &rows))
    })
}

fn peer_row(peer: &PeerStatus) -> Vec<String> {
    let is_up = peer.state == SessionState::Established;
    let (up, prefixes) = if is_up {
        let prefixes = format!(
            "{}/{}/{}",
            peer.prefixes_received, peer.prefixes_accepted, peer.prefixes_sent
        );
        (span(peer.state_seconds), prefixes)
    } else {
        ("-".to_owned(), "-".to_owned())
    };
    vec![
        peer.name.clone(),
        peer.address.to_string(),
        peer.remote_as.to_string(),
        format!("{:?}", peer.state),
        up,
        prefixes,
        peer.bfd
            .as_ref()
            .map_or_else(|| "-".to_owned(), |bfd| format!("{:?}", bfd.state)),
        peer.last_error.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

/// A time in its two largest units: `2h14m`.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

/// Carries out `bgp routes`.
pub(crate) async fn routes(
    terminal: &Terminal,
    access: &Access,
    global: &Global,
    arguments: &BgpRoutes,
) -> Result<(), Failure> {
    let place = &arguments.place;
    if let Some(node) = &place.node {
        if arguments.peer.is_some() || arguments.table != BgpTable::Loc {
            return Err(Failure::new(
                "--peer and --table look into the speaker of this node; use them without --node, on the node",
            )
            .with_code(2));
        }
        let client = access.client(global).await?;
        return far::routes(terminal, &client, node, &arguments.prefixes, &place.output).await;
    }
    let query = query(arguments)?;
    let answer = speaker::ask(&place.control, &json!({"request": "routes", "query": query}))?;
    let routes: Vec<RouteStatus> = speaker::read(answer)?;
    let wanted: Vec<RouteStatus> = routes
        .into_iter()
        .filter(|route| is_wanted(&route.prefix, &arguments.prefixes))
        .collect();
    let data = serde_json::to_value(&wanted).map_err(|error| Failure::new(error.to_string()))?;
    form::print(terminal, &place.output, data, || {
        let rows: Vec<Vec<String>> = wanted.iter().map(route_row).collect();
        let headings = [
            "",
            "PREFIX",
            "NEXT-HOP",
            "FROM",
            "LOCPREF",
            "MED",
            "AS-PATH",
            "ORIGIN",
            "COMMUNITIES",
            "WHY-NOT",
        ];
        Ok(table::plain(&headings, &rows))
    })
}

/// True for a prefix that was asked for, or lies in one; all are without any.
fn is_wanted(prefix: &IpNet, wanted: &[IpNet]) -> bool {
    wanted.is_empty() || wanted.iter().any(|net| net.trunc().contains(prefix))
}

fn query(arguments: &BgpRoutes) -> Result<RouteQuery, Failure> {
    let peer = || match &arguments.peer {
        Some(peer) => Ok(find(&arguments.place.control, peer)?.name),
        None => {
            Err(Failure::new("the tables in and out are of one session; name it with --peer").with_code(2))
        }
    };
    Ok(match arguments.table {
        BgpTable::Loc => RouteQuery::LocRib,
        BgpTable::In => RouteQuery::AdjRibIn { peer: peer()? },
        BgpTable::Out => RouteQuery::AdjRibOut { peer: peer()? },
    })
}

fn route_row(route: &RouteStatus) -> Vec<String> {
    let mark = match (route.best, route.multipath, route.unusable.is_some()) {
        (true, ..) => "*",
        (_, true, _) => "=",
        (.., true) => "!",
        _ => "",
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let communities: Vec<String> = route.communities.iter().map(ToString::to_string).collect();
    vec![
        format!("{mark}{}", if route.stale { "s" } else { "" }),
        route.prefix.to_string(),
        or_dash(
            route
                .next_hop
                .map(|hop| hop.to_string())
                .or_else(|| route.interface.clone()),
        ),
        route
            .peer
            .clone()
            .unwrap_or_else(|| format!("{:?}", route.source).to_lowercase()),
        or_dash(route.local_pref.map(|number| number.to_string())),
        or_dash(route.med.map(|number| number.to_string())),
        Some(route.as_path.clone())
            .filter(|path| !path.is_empty())
            .unwrap_or_else(|| "-".to_owned()),
        route.origin.clone(),
        Some(communities.join(","))
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| "-".to_owned()),
        or_dash(route.unusable.clone()),
    ]
}

/// Carries out `bgp neighbor`.
pub(crate) fn neighbor(terminal: &Terminal, arguments: &BgpNeighbor) -> Result<(), Failure> {
    let peer = find(&arguments.control, &arguments.peer)?;
    let data = serde_json::to_value(&peer).map_err(|error| Failure::new(error.to_string()))?;
    form::print(terminal, &arguments.output, data.clone(), || Ok(details(&data)))
}

/// Carries out `bgp why-not`.
pub(crate) fn why_not(terminal: &Terminal, arguments: &BgpWhyNot) -> Result<(), Failure> {
    let peer = find(&arguments.control, &arguments.peer)?;
    let prefix = arguments.prefix.trunc();
    let request = json!({"request": "whyNot", "prefix": prefix, "peer": peer.name});
    let answer = speaker::ask(&arguments.control, &request)?;
    form::print(terminal, &arguments.output, answer.clone(), || {
        let found: Explanation = speaker::read(answer)?;
        if found.advertised {
            return Ok(format!("{} gets {prefix}\n", peer.name));
        }
        let reasons: Vec<String> = found
            .reasons
            .iter()
            .map(|reason| format!("- {reason}\n"))
            .collect();
        Ok(format!(
            "{} does not get {prefix}:\n{}",
            peer.name,
            reasons.concat()
        ))
    })
}

/// Carries out `bgp drain`.
pub(crate) fn drain(terminal: &Terminal, arguments: &BgpDrain) -> Result<(), Failure> {
    let request = json!({"request": "drain", "on": !arguments.off});
    let answer = speaker::ask(&arguments.control, &request)?;
    let drains = answer.get("drain").and_then(Value::as_bool).unwrap_or_default();
    terminal.line(match (drains, arguments.off) {
        (true, false) => "peers are told to go other ways; take it back with --off",
        (true, true) => {
            "peers are still told to go other ways: the annotation or taint caracal.dev/bgp-drain of the Node says so"
        }
        (false, _) => "peers are told that this node stays",
    });
    Ok(())
}

/// The session of a name or address.
fn find(control: &Path, wanted: &str) -> Result<PeerStatus, Failure> {
    let status: SpeakerStatus = speaker::read(speaker::ask(control, &json!({"request": "status"}))?)?;
    let address: Option<IpAddr> = wanted.parse().ok();
    let names: Vec<String> = status.peers.iter().map(|peer| peer.name.clone()).collect();
    status
        .peers
        .into_iter()
        .find(|peer| peer.name == wanted || Some(peer.address) == address)
        .ok_or_else(|| {
            Failure::new(format!(
                "this node has no session {wanted:?}; it has: {}",
                if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                }
            ))
        })
}

/// Everything about a session, a line each.
fn details(peer: &Value) -> String {
    let mut text = String::new();
    let fields = peer.as_object().into_iter().flatten();
    for (key, value) in fields {
        match value {
            Value::Object(below) => {
                text.push_str(&format!("{key}:\n"));
                for (key, value) in below {
                    text.push_str(&format!("  {key:<22} {value}\n"));
                }
            }
            Value::Array(items) => {
                let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                text.push_str(&format!("{key:<24} {}\n", items.join(", ")));
            }
            Value::String(value) => text.push_str(&format!("{key:<24} {value}\n")),
            value => text.push_str(&format!("{key:<24} {value}\n")),
        }
    }
    text
}

#[cfg(test)]
mod tests;

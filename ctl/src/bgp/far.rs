//! Sessions and routes of other nodes, as they wrote them into their CalicoNodeStatus.

use caracal_api::v3::{CalicoNodePeer, CalicoNodeRoute, CalicoNodeStatus};
use caracal_datastore::{Client, ListOptions};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::error::Failure;
use crate::terminal::Terminal;
use crate::{form, table};

/// The answers of a node, or with `all` of every node that was asked.
async fn answers(client: &Client, node: &str, class: &str) -> Result<Vec<CalicoNodeStatus>, Failure> {
    let all: Vec<CalicoNodeStatus> = client.list(None, &ListOptions::default()).await?;
    let found: Vec<CalicoNodeStatus> = all
        .into_iter()
        .filter(|status| node == "all" || status.spec.node == node)
        .filter(|status| status.spec.classes.iter().any(|asked| asked.as_str() == class))
        .collect();
    if found.is_empty() {
        let name = if node == "all" { "NODE" } else { node };
        return Err(Failure::new(format!(
            "no CalicoNodeStatus asks {node} for {class}; make one, and look again after some seconds:\n\
             caracalctl apply -f - <<EOF\napiVersion: projectcalico.org/v3\nkind: CalicoNodeStatus\nmetadata: {{name: {name}}}\n\
             spec: {{node: {name}, classes: [Agent, BGP, Routes], updatePeriodSeconds: 10}}\nEOF"
        )));
    }
    Ok(found)
}

/// Names of the nodes that were asked and have not answered.
fn silent(terminal: &Terminal, asked: &[CalicoNodeStatus], has: impl Fn(&CalicoNodeStatus) -> bool) -> bool {
    let silent: Vec<&str> = asked
        .iter()
        .filter(|status| !has(status))
        .map(|status| status.spec.node.as_str())
        .collect();
    if !silent.is_empty() {
        terminal.message(&format!(
            "no answer yet from {}; check that calico-node runs there",
            silent.join(", ")
        ));
    }
    !silent.is_empty()
}

/// Nothing to print is a failure; a part is the exit code for partial data.
fn partial(is_partial: bool) -> Result<(), Failure> {
    if is_partial {
        return Err(Failure::new("").with_code(4));
    }
    Ok(())
}

/// Prints the sessions of a node or of all.
pub(super) async fn peers(
    terminal: &Terminal,
    client: &Client,
    node: &str,
    output: &str,
) -> Result<(), Failure> {
    let asked = answers(client, node, "BGP").await?;
    let bgp = |status: &CalicoNodeStatus| status.status.as_ref().and_then(|status| status.bgp.clone());
    let is_partial = silent(terminal, &asked, |status| bgp(status).is_some());
    let mut rows: Vec<(String, CalicoNodePeer)> = Vec::new();
    for status in &asked {
        let sessions = bgp(status).unwrap_or_default();
        let all = sessions.peers_v4.into_iter().chain(sessions.peers_v6);
        rows.extend(all.map(|peer| (status.spec.node.clone(), peer)));
    }
    let data: Value = rows
        .iter()
        .map(|(node, peer)| {
            json!({"node": node, "peerIP": peer.peer_ip, "type": peer.type_, "state": peer.state, "since": peer.since})
        })
        .collect();
    form::print(terminal, output, data, || {
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|(node, peer)| {
                [node, &peer.peer_ip, &peer.type_, &peer.state, &peer.since]
                    .map(String::clone)
                    .to_vec()
            })
            .collect();
        Ok(table::plain(&["NODE", "PEER", "TYPE", "STATE", "SINCE"], &rows))
    })?;
    partial(is_partial)
}

/// Prints the routes of a node or of all.
pub(super) async fn routes(
    terminal: &Terminal,
    client: &Client,
    node: &str,
    prefixes: &[IpNet],
    output: &str,
) -> Result<(), Failure> {
    let asked = answers(client, node, "Routes").await?;
    let known = |status: &CalicoNodeStatus| status.status.as_ref().and_then(|status| status.routes.clone());
    let is_partial = silent(terminal, &asked, |status| known(status).is_some());
    let mut rows: Vec<(String, CalicoNodeRoute)> = Vec::new();
    for status in &asked {
        let routes = known(status).unwrap_or_default();
        let all = routes.routes_v4.into_iter().chain(routes.routes_v6);
        let wanted = all.filter(|route| {
            let prefix = caracal_api::net::parse_cidr_or_address(&route.destination);
            prefix.is_none_or(|prefix| super::is_wanted(&prefix, prefixes))
        });
        rows.extend(wanted.map(|route| (status.spec.node.clone(), route)));
    }
    let data: Value = rows
        .iter()
        .map(|(node, route)| {
            let mut value = serde_json::to_value(route).unwrap_or_default();
            value["node"] = node.as_str().into();
            value
        })
        .collect();
    form::print(terminal, output, data, || {
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|(node, route)| {
                let from = route.learned_from.clone().unwrap_or_default();
                let from = [from.source_type, from.peer_ip].join(" ").trim().to_owned();
                [
                    node,
                    &route.type_,
                    &route.destination,
                    &route.gateway,
                    &route.interface,
                    &from,
                ]
                .map(String::clone)
                .to_vec()
            })
            .collect();
        Ok(table::plain(
            &[
                "NODE",
                "TYPE",
                "DESTINATION",
                "GATEWAY",
                "INTERFACE",
                "LEARNED-FROM",
            ],
            &rows,
        ))
    })?;
    partial(is_partial)
}

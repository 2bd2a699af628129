//! `bgp plan`: the sessions that resources make, node by node, and what a file with resources would change of them.

use std::collections::{BTreeMap, BTreeSet};

use caracal_api::v3;
use caracal_api::virtual_::node;
use caracal_bgpd_compile::{Problem, Snapshot, compile};
use caracal_bgpd_core::config::Peer;
use caracal_datastore::{Client, ListOptions, Object};
use k8s_openapi::api::core::v1::Node;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::args::{BgpPlan, Global};
use crate::connect::Access;
use crate::error::Failure;
use crate::terminal::Terminal;
use crate::{form, input, table};

/// A session: its node and name.
type Key = (String, String);

/// What resources make.
#[derive(Debug, Default)]
struct Plan {
    sessions: BTreeMap<Key, Peer>,
    problems: Vec<Problem>,
}

/// Carries out `bgp plan`.
pub(crate) async fn run(
    terminal: &Terminal,
    access: &Access,
    global: &Global,
    arguments: &BgpPlan,
) -> Result<(), Failure> {
    let client = access.client(global).await?;
    let mut snapshot = snapshot(&client).await?;
    let now = plan(&snapshot, arguments.node.as_deref());
    if arguments.source.filename.is_none() {
        return show(terminal, arguments, &now, None);
    }
    for resource in input::read(terminal, &arguments.source)?.into_iter().flatten() {
        overlay(&mut snapshot, resource.name(), &resource.object)
            .map_err(|problem| Failure::new(format!("{}: {problem}", resource.origin.of_field("spec"))))?;
    }
    let then = plan(&snapshot, arguments.node.as_deref());
    show(terminal, arguments, &then, Some(&now))
}

async fn snapshot(client: &Client) -> Result<Snapshot, Failure> {
    async fn all<K: Object>(client: &Client) -> Result<Vec<K>, Failure> {
        Ok(client.list(None, &ListOptions::default()).await?)
    }
    macro_rules! specs {
        ($kind:ty) => {
            all::<$kind>(client)
                .await?
                .into_iter()
                .map(|object| (object.metadata.name.unwrap_or_default(), object.spec))
                .collect()
        };
    }
    let nodes = all::<Node>(client).await?;
    let nodes = nodes.iter().filter_map(node::from_k8s);
    Ok(Snapshot {
        nodes: nodes.map(|node| (node.name().to_owned(), node)).collect(),
        configurations: specs!(v3::BGPConfiguration),
        peers: specs!(v3::BGPPeer),
        filters: specs!(v3::BGPFilter),
        pools: specs!(v3::IPPool),
        felix: specs!(v3::FelixConfiguration),
        ..Snapshot::default()
    })
}

/// Puts a resource of a file in the place of the one that is there.
fn overlay(snapshot: &mut Snapshot, name: &str, object: &Value) -> Result<(), String> {
    fn put<T: DeserializeOwned>(
        specs: &mut BTreeMap<String, T>,
        name: &str,
        object: &Value,
    ) -> Result<(), String> {
        let spec = object.get("spec").cloned().unwrap_or_else(|| json!({}));
        let spec = serde_json::from_value(spec).map_err(|error| error.to_string())?;
        specs.insert(name.to_owned(), spec);
        Ok(())
    }
    match object.get("kind").and_then(Value::as_str).unwrap_or_default() {
        "BGPPeer" => put(&mut snapshot.peers, name, object),
        "BGPConfiguration" => put(&mut snapshot.configurations, name, object),
        "BGPFilter" => put(&mut snapshot.filters, name, object),
        "IPPool" => put(&mut snapshot.pools, name, object),
        "FelixConfiguration" => put(&mut snapshot.felix, name, object),
        other => Err(format!(
            "a {other} decides no session; use BGPPeer, BGPConfiguration, BGPFilter, IPPool and FelixConfiguration"
        )),
    }
}

fn plan(snapshot: &Snapshot, only: Option<&str>) -> Plan {
    let mut plan = Plan::default();
    let names = snapshot.nodes.keys();
    for name in names.filter(|name| only.is_none_or(|only| only == *name)) {
        let compiled = compile(snapshot, name);
        let peers = compiled.config.map(|config| config.peers).unwrap_or_default();
        plan.sessions.extend(
            peers
                .into_iter()
                .map(|peer| ((name.clone(), peer.name.clone()), peer)),
        );
        // Passwords are in Secrets, which a plan does not read.
        let problems = compiled.problems.into_iter();
        for problem in problems.filter(|problem| !problem.field.contains("secretKeyRef")) {
            if !plan.problems.contains(&problem) {
                plan.problems.push(problem);
            }
        }
    }
    plan
}

/// What becomes of a session.
fn change(before: Option<&Peer>, after: Option<&Peer>) -> &'static str {
    match (before, after) {
        (None, _) => "new",
        (_, None) => "ends",
        (Some(before), Some(after)) if before == after => "stays",
        (Some(before), Some(after)) if before.same_session(after) => "changes",
        _ => "resets",
    }
}

fn show(terminal: &Terminal, arguments: &BgpPlan, plan: &Plan, before: Option<&Plan>) -> Result<(), Failure> {
    let keys: BTreeSet<&Key> = plan
        .sessions
        .keys()
        .chain(before.iter().flat_map(|before| before.sessions.keys()))
        .collect();
    let mut rows = Vec::new();
    for key in keys {
        let after = plan.sessions.get(key);
        let (kind, peer) = match before {
            None => ("", after),
            Some(before) => {
                let before = before.sessions.get(key);
                (change(before, after), after.or(before))
            }
        };
        // With a file, what stays is of no interest.
        if let Some(peer) = peer.filter(|_| kind != "stays") {
            rows.push((kind, key, peer));
        }
    }
    let data = json!({
        "sessions": rows.iter().map(|(kind, (node, _), peer)| json!({
            "change": kind, "node": node, "session": peer.name, "peer": end(peer), "remoteAS": peer.remote_as,
        })).collect::<Vec<_>>(),
        "problems": plan.problems,
    });
    form::print(terminal, &arguments.output, data, || {
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|(kind, key, peer)| cells(kind, key, peer))
            .collect();
        let mut text = if cells.is_empty() {
            "no session changes\n".to_owned()
        } else {
            let headings = ["CHANGE", "NODE", "SESSION", "PEER", "AS", "OPTIONS"];
            table::plain(&headings, &cells)
        };
        for problem in &plan.problems {
            text.push_str(&format!("! {problem}\n"));
        }
        Ok(text)
    })
}

fn end(peer: &Peer) -> String {
    match (peer.listen_range, peer.port) {
        (Some(range), _) => range.to_string(),
        (None, 179) => peer.address.to_string(),
        (None, port) => std::net::SocketAddr::new(peer.address, port).to_string(),
    }
}

fn cells(kind: &str, (node, name): &Key, peer: &Peer) -> Vec<String> {
    let dash = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
    vec![
        dash(kind),
        node.clone(),
        name.clone(),
        end(peer),
        peer.remote_as.to_string(),
        dash(&options(peer)),
    ]
}

/// What is not as with every session.
fn options(peer: &Peer) -> String {
    let hops = peer.ttl_security_hops.map(|hops| format!("ttl-security {hops}"));
    let limit = peer.prefix_limit.map(|limit| format!("at most {limit} prefixes"));
    let stale = peer.long_lived_seconds.map(|seconds| format!("LLGR {seconds}s"));
    let options = [
        peer.passive.then(|| "passive".to_owned()),
        peer.reflector_client.map(|id| format!("client of cluster {id}")),
        peer.password.is_some().then(|| "password".to_owned()),
        (peer.graceful_restart_seconds != 120).then(|| format!("GR {}s", peer.graceful_restart_seconds)),
        stale,
        hops,
        limit,
    ];
    options.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let node = |name: &str, address: &str| {
            let annotations = json!({"projectcalico.org/IPv4Address": address});
            let object = json!({"metadata": {"name": name, "annotations": annotations}});
            node::from_k8s(&serde_json::from_value(object).unwrap()).unwrap()
        };
        let nodes = [node("a", "10.0.0.1/24"), node("b", "10.0.0.2/24")];
        Snapshot {
            nodes: nodes
                .into_iter()
                .map(|node| (node.name().to_owned(), node))
                .collect(),
            ..Snapshot::default()
        }
    }

    fn changes(before: &Plan, after: &Plan) -> Vec<String> {
        let keys: BTreeSet<&Key> = before.sessions.keys().chain(after.sessions.keys()).collect();
        keys.into_iter()
            .map(|key| {
                let kind = change(before.sessions.get(key), after.sessions.get(key));
                format!("{} {} {kind}", key.0, key.1)
            })
            .collect()
    }

    #[test]
    fn a_file_shows_what_would_come_go_change_and_reset() {
        let mut snapshot = snapshot();
        let before = plan(&snapshot, None);
        let tor =
            json!({"kind": "BGPPeer", "spec": {"peerIP": "10.0.0.254", "asNumber": 65001, "node": "a"}});
        overlay(&mut snapshot, "tor", &tor).unwrap();
        let first = plan(&snapshot, None);
        assert_eq!(
            changes(&before, &first),
            [
                "a Mesh_10_0_0_2 stays",
                "a Node_10_0_0_254 new",
                "b Mesh_10_0_0_1 stays"
            ]
        );
        let mut slower = tor.clone();
        slower["spec"]["extensions"] = json!({"prefixLimit": "10"});
        overlay(&mut snapshot, "tor", &slower).unwrap();
        let second = plan(&snapshot, Some("a"));
        assert_eq!(
            changes(&plan_of(&first, "a"), &second)[1],
            "a Node_10_0_0_254 changes"
        );
        slower["spec"]["ttlSecurity"] = 1.into();
        overlay(&mut snapshot, "tor", &slower).unwrap();
        let third = plan(&snapshot, Some("a"));
        assert_eq!(changes(&second, &third)[1], "a Node_10_0_0_254 resets");
        let off = json!({"kind": "BGPConfiguration", "spec": {"nodeToNodeMeshEnabled": false}});
        overlay(&mut snapshot, "default", &off).unwrap();
        assert_eq!(
            changes(&third, &plan(&snapshot, Some("a")))[0],
            "a Mesh_10_0_0_2 ends"
        );
        assert!(
            overlay(&mut snapshot, "x", &json!({"kind": "Tier"}))
                .unwrap_err()
                .contains("decides no session")
        );
    }

    fn plan_of(plan: &Plan, node: &str) -> Plan {
        let sessions = plan.sessions.iter().filter(|((of, _), _)| of == node);
        Plan {
            sessions: sessions.map(|(key, peer)| (key.clone(), peer.clone())).collect(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn a_plan_says_what_cannot_be_used() {
        let mut snapshot = snapshot();
        let bad = json!({"kind": "BGPPeer", "spec": {"peerIP": "nowhere", "asNumber": 65001}});
        overlay(&mut snapshot, "tor", &bad).unwrap();
        let plan = plan(&snapshot, None);
        assert_eq!(plan.problems.len(), 1);
        assert_eq!(plan.problems[0].field, "spec.peerIP");
    }
}

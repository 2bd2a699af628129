//! Answers to the controllers' question whether this node still has addresses that seem to be nobody's.
//!
//! The kernel is asked, not the API: an address is here when a route leads to it on a device of this node, when it is an
//! address of the node itself, or when the host's end of its pod's interface is there without a route to a pod (its
//! container runs on although its Pod is gone). What cannot be looked up is answered as if the node had it: nothing.
//!
//! # Ownership
//! The annotation [`ANSWER_ANNOTATION`] of this node's object.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use caracal_api::confirmation::{ANSWER_ANNOTATION, Answer, Question};
use caracal_datastore::{Client, Event, WatchScope};
use caracal_linux::netlink::{Address, Link, Netlink, Route, RouteKind};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Pause after an answer that could not be given.
const PAUSE: Duration = Duration::from_secs(5);

/// The task that answers; it ends when this value is dropped.
#[derive(Debug)]
#[must_use = "questions are answered as long as this value lives"]
pub struct Answering(JoinHandle<()>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Answering {
    /// Follows this node's object and answers the questions in it. Looks into the network namespace of `netlink`.
    pub fn start(client: &Client, node: &str, netlink: Netlink) -> Self {
        let scope = WatchScope {
            fields: Some(format!("metadata.name={node}")),
            ..WatchScope::default()
        };
        let events = client.watch::<Node>(scope).boxed();
        Self(tokio::spawn(follow(
            client.clone(),
            node.to_owned(),
            netlink,
            events,
        )))
    }
}

async fn follow(
    client: Client,
    node: String,
    netlink: Netlink,
    mut events: impl Stream<Item = Event<Node>> + Unpin,
) {
    let mut open: Option<Node> = None;
    loop {
        let retry = tokio::time::sleep(PAUSE);
        tokio::select! {
            event = events.next() => match event {
                Some(Event::Applied(object)) => open = Some(object),
                Some(Event::Deleted(_)) => open = None,
                Some(Event::InSync | Event::Trouble(_)) => continue,
                None => return,
            },
            () = retry, if open.is_some() => {}
        }
        let Some(object) = &open else { continue };
        match answer(&client, &node, &netlink, object).await {
            Ok(()) => open = None,
            Err(problem) => {
                tracing::warn!(
                    problem,
                    "question of the controllers not answered, the addresses stay"
                );
            }
        }
    }
}

/// Answers what is open in this node's object, if anything is.
async fn answer(client: &Client, node: &str, netlink: &Netlink, object: &Node) -> Result<(), String> {
    let annotations = object.metadata.annotations.as_ref();
    let given = annotations.is_some_and(|all| all.contains_key(ANSWER_ANNOTATION));
    let value = match Question::of(annotations) {
        None if !given => return Ok(()),
        None => Value::Null,
        Some(question) => {
            if Answer::of(annotations).is_some_and(|answer| answer.id == question.id) {
                return Ok(());
            }
            let held = look(netlink, &question)
                .await
                .map_err(|error| error.to_string())?;
            tracing::debug!(
                asked = question.addresses.len(),
                held = held.len(),
                "controllers asked about addresses"
            );
            let answer = Answer {
                id: question.id,
                held,
            };
            Value::String(serde_json::to_string(&answer).map_err(|error| error.to_string())?)
        }
    };
    let patch = json!({"metadata": {"annotations": {ANSWER_ANNOTATION: value}}});
    client
        .patch_status::<Node>(None, node, &patch)
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

async fn look(netlink: &Netlink, question: &Question) -> caracal_linux::Result<Vec<IpAddr>> {
    let links = netlink.links().await?;
    let addresses = netlink.addresses().await?;
    let routes = netlink.routes().await?;
    Ok(held(question, &links, &addresses, &routes))
}

/// Which of the addresses this node has, by what its kernel says. Pure.
#[must_use]
pub fn held(question: &Question, links: &[Link], addresses: &[Address], routes: &[Route]) -> Vec<IpAddr> {
    let own: BTreeSet<IpAddr> = addresses.iter().map(|address| address.address.addr()).collect();
    // Routes of single addresses onto a device: those of pods. Routes to other nodes have a gateway.
    let mut to_pods: BTreeMap<u32, BTreeSet<IpAddr>> = BTreeMap::new();
    for route in routes {
        let single = route.destination.prefix_len() == route.destination.max_prefix_len();
        let direct =
            route.kind == RouteKind::Unicast && route.gateway.is_none() && route.next_hops.is_empty();
        if let Some(oif) = route.oif.filter(|_| single && direct) {
            to_pods.entry(oif).or_default().insert(route.destination.addr());
        }
    }
    let routed: BTreeSet<IpAddr> = to_pods.values().flatten().copied().collect();
    let unrouted: BTreeSet<&str> = links
        .iter()
        .filter(|link| !to_pods.contains_key(&link.index))
        .map(|link| link.name.as_str())
        .collect();
    question
        .addresses
        .iter()
        .filter(|(address, interface)| {
            let orphan = !interface.is_empty() && unrouted.contains(interface.as_str());
            own.contains(*address) || routed.contains(*address) || orphan
        })
        .map(|(address, _)| *address)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            kind: Some("veth".to_owned()),
            mac: None,
            mtu: 1500,
            up: true,
            running: true,
            master: None,
            peer: None,
            loopback: false,
        }
    }

    fn question(of: &[(&str, &str)]) -> Question {
        Question {
            id: "1".to_owned(),
            addresses: of
                .iter()
                .map(|(address, interface)| (address.parse().unwrap(), (*interface).to_owned()))
                .collect(),
        }
    }

    fn texts(held: &[IpAddr]) -> Vec<String> {
        held.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_address_is_held_by_a_route_onto_a_device_or_as_the_nodes_own() {
        let links = [link(1, "eth0"), link(2, "cali1")];
        let routes = [
            Route::unicast("10.0.0.1/32".parse().unwrap()).dev(2),
            // Borrowed by another node.
            Route::unicast("10.0.0.2/32".parse().unwrap())
                .via("172.16.0.2".parse().unwrap())
                .dev(1),
            Route::blackhole("10.0.0.0/26".parse().unwrap()),
            Route::blackhole("10.0.0.3/32".parse().unwrap()),
        ];
        let addresses = [Address {
            index: 1,
            address: "10.0.0.4/32".parse().unwrap(),
            scope: 0,
            tentative: false,
            permanent: true,
        }];
        let asked = question(&[
            ("10.0.0.1", ""),
            ("10.0.0.2", ""),
            ("10.0.0.3", ""),
            ("10.0.0.4", ""),
        ]);
        assert_eq!(
            texts(&held(&asked, &links, &addresses, &routes)),
            ["10.0.0.1", "10.0.0.4"]
        );
    }

    #[test]
    fn an_interface_without_any_route_keeps_its_address_and_one_with_another_pods_does_not() {
        let links = [link(2, "calia"), link(3, "calib")];
        // The pod of calib was made anew under its name, with another address.
        let routes = [Route::unicast("10.0.0.9/32".parse().unwrap()).dev(3)];
        let asked = question(&[
            ("10.0.0.1", "calia"),
            ("10.0.0.2", "calib"),
            ("10.0.0.3", "calic"),
        ]);
        assert_eq!(texts(&held(&asked, &links, &[], &routes)), ["10.0.0.1"]);
    }
}

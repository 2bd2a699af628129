//! A speaker that answers from a text, asked over its socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;

use super::*;
use crate::args::{Arguments, BgpCommand, Command};
use clap::Parser as _;

fn status() -> Value {
    json!({
        "localAs": 64512, "routerId": "10.0.0.1", "restarting": false, "prefixes": 2, "paths": 2,
        "peers": [{
            "name": "Global_10_0_0_254", "address": "10.0.0.254", "remoteAs": 64601, "localAs": 64512,
            "peerType": "ebgp", "passive": false, "state": "Established", "stateSeconds": 8040,
            "establishedCount": 1, "holdSeconds": 90, "routesStale": false, "capabilities": ["route-refresh", "4-byte-as"],
            "counters": {"messagesIn": 10, "messagesOut": 11, "updatesIn": 1, "updatesOut": 2, "notificationsIn": 0,
                "notificationsOut": 0, "treatAsWithdraw": 0, "attributesDiscarded": 0},
            "prefixesReceived": 61, "prefixesAccepted": 60, "prefixesSent": 4,
            "bfd": {"state": "Up", "remoteState": "Up", "stateSeconds": 8038, "diagnostic": "none", "transmitMillis": 300,
                "detectMillis": 900, "upCount": 1, "downCount": 0, "packetsIn": 100, "packetsOut": 101}
        }, {
            "name": "Mesh_10_0_0_2", "address": "10.0.0.2", "remoteAs": 64512, "localAs": 64512,
            "peerType": "ibgp", "passive": false, "state": "Connect", "stateSeconds": 5,
            "establishedCount": 0, "routesStale": false, "capabilities": [], "lastError": "no route to host",
            "counters": {"messagesIn": 0, "messagesOut": 0, "updatesIn": 0, "updatesOut": 0, "notificationsIn": 0,
                "notificationsOut": 0, "treatAsWithdraw": 0, "attributesDiscarded": 0},
            "prefixesReceived": 0, "prefixesAccepted": 0, "prefixesSent": 0
        }]
    })
}

fn routes_answer() -> Value {
    let route = |prefix: &str, peer: Value, best: bool, unusable: Value| {
        let mut route = json!({"prefix": prefix, "source": "bgp", "pathId": 0, "nextHop": "10.0.0.254", "best": best,
            "multipath": false, "stale": false, "origin": "IGP", "asPath": "64601", "localPref": 100});
        if !peer.is_null() {
            route["peer"] = peer;
        }
        if !unusable.is_null() {
            route["unusable"] = unusable;
        }
        route
    };
    json!([
        route("192.0.2.0/24", "Global_10_0_0_254".into(), true, Value::Null),
        route(
            "198.51.100.0/24",
            "Global_10_0_0_254".into(),
            false,
            "AS_PATH loop".into()
        ),
    ])
}

/// Runs `bgp …` against a speaker that answers until the test ends.
async fn bgp(line: &str) -> (String, Option<Failure>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bgpd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            let request: Value = serde_json::from_str(&line).unwrap();
            let answer = match request["request"].as_str() {
                Some("status") => status(),
                Some("routes") => routes_answer(),
                Some("whyNot") if request["prefix"] == "10.0.0.0/8" => {
                    json!({"advertised": true, "reasons": []})
                }
                Some("whyNot") => {
                    json!({"advertised": false, "reasons": ["it is a secret", "the session is not up"]})
                }
                Some("drain") => json!({"drain": request["on"]}),
                _ => json!({"error": "unknown"}),
            };
            writeln!(&stream, "{answer}").unwrap();
        }
    });
    let words = ["caracalctl", "bgp"].map(str::to_owned).into_iter();
    let words = words.chain(line.split(' ').map(str::to_owned));
    let words = words.chain(["--control".to_owned(), path.display().to_string()]);
    let arguments = Arguments::try_parse_from(words).unwrap();
    let terminal = Terminal::in_memory("");
    let Command::Bgp(command) = arguments.command else {
        panic!()
    };
    let result = match command {
        BgpCommand::Peers(it) => peers(&terminal, &Access::Environment, &arguments.global, &it).await,
        BgpCommand::Routes(it) => routes(&terminal, &Access::Environment, &arguments.global, &it).await,
        BgpCommand::Neighbor(it) => neighbor(&terminal, &it),
        BgpCommand::WhyNot(it) => why_not(&terminal, &it),
        BgpCommand::Drain(it) => drain(&terminal, &it),
        BgpCommand::Plan(_) => panic!("a plan asks the API"),
    };
    (terminal.into_texts().0, result.err())
}

#[tokio::test]
async fn sessions_and_routes_of_this_node_are_tables() {
    let mut shown = String::new();
    for line in [
        "peers",
        "routes",
        "routes 192.0.2.0/23",
        "routes --table in --peer 10.0.0.254",
        "neighbor Mesh_10_0_0_2",
        "neighbor 10.0.0.254 -o yaml",
    ] {
        let (out, failure) = bgp(line).await;
        assert_eq!(failure, None, "{line}");
        shown.push_str(&format!("$ bgp {line}\n{}", out.replace(" \n", " ⏎\n")));
    }
    insta::assert_snapshot!(shown);
}

#[tokio::test]
async fn what_keeps_a_prefix_back_is_listed() {
    let (out, failure) = bgp("why-not 192.0.2.0/24 --peer 10.0.0.2").await;
    assert_eq!(failure, None);
    assert_eq!(
        out,
        "Mesh_10_0_0_2 does not get 192.0.2.0/24:\n- it is a secret\n- the session is not up\n"
    );
    let (out, _) = bgp("why-not 10.0.0.1/8 --peer Mesh_10_0_0_2").await;
    assert_eq!(out, "Mesh_10_0_0_2 gets 10.0.0.0/8\n");
    let (_, failure) = bgp("why-not 10.0.0.0/8 --peer nobody").await;
    assert!(failure.unwrap().to_string().contains("it has: Global_10_0_0_254"));
}

#[tokio::test]
async fn draining_is_said_and_taken_back() {
    assert!(
        bgp("drain")
            .await
            .0
            .starts_with("peers are told to go other ways")
    );
    assert_eq!(
        bgp("drain --off").await.0,
        "peers are told that this node stays\n"
    );
}

#[tokio::test]
async fn what_cannot_be_asked_is_said() {
    for (line, part) in [
        ("routes --table out", "--peer"),
        ("neighbor nobody", "it has: Global_10_0_0_254, Mesh_10_0_0_2"),
        ("peers -o xml", "use text, json or yaml"),
    ] {
        let failure = bgp(line).await.1.unwrap();
        assert!(failure.to_string().contains(part), "{line}: {failure}");
    }
}

#[test]
fn times_have_two_units() {
    for (seconds, text) in [(5, "5s"), (65, "1m5s"), (8040, "2h14m"), (200_000, "2d7h")] {
        assert_eq!(span(seconds), text);
    }
}

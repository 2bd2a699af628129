//! What the speaker shows to others: a BMP station (RFC 7854), MRT files (RFC 6396) read by bgpdump, and a record that
//! is replayed.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use caracal_bgpd_core::wire::message::Message;
use caracal_bgpd_core::wire::mp::MpContext;
use caracal_bgpd_core::wire::update::{UpdateContext, UpdateView};
use serde_json::Value;

use super::dut::{Dut, ROUTES, peer};
use super::foreign::{Kind, Route, Setup, wait_received, wait_up};
use super::lab::{Lab, eventually};
use super::raw::{Raw, update};

const INITIATION: u8 = 4;
const PEER_UP: u8 = 3;
const PEER_DOWN: u8 = 2;
const ROUTE_MONITORING: u8 = 0;
/// Octets of the per-peer header (RFC 7854 §4.2).
const PEER_HEADER: usize = 42;
/// ORIGIN, AS_PATH 65001 and NEXT_HOP 10.99.0.2.
const ATTRIBUTES: [u8; 20] = [
    0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9, 0x40, 3, 4, 10, 99, 0, 2,
];

/// A station: takes one connection at a time and keeps all octets.
struct Station {
    octets: Arc<Mutex<Vec<u8>>>,
    port: u16,
}

impl Station {
    fn start(lab: &Lab) -> Self {
        let listener = lab
            .node
            .run(|| TcpListener::bind("127.0.0.1:0").unwrap())
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let octets = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&octets);
        // Ends with the process; nothing waits for it.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut part = [0; 4096];
                while let Ok(count) = stream.read(&mut part) {
                    if count == 0 {
                        break;
                    }
                    into.lock().unwrap().extend(&part[..count]);
                }
            }
        });
        Self { octets, port }
    }

    fn arguments(&self) -> [String; 2] {
        ["--bmp".to_owned(), format!("127.0.0.1:{}", self.port)]
    }

    /// Types and bodies of the messages so far (§4.1).
    fn messages(&self) -> Vec<(u8, Vec<u8>)> {
        let octets = self.octets.lock().unwrap();
        let mut rest = octets.as_slice();
        let mut messages = Vec::new();
        while rest.len() >= 6 {
            assert_eq!(rest[0], 3, "the version");
            let length = usize::try_from(u32::from_be_bytes(rest[1..5].try_into().unwrap())).unwrap();
            assert!(length >= 6);
            if rest.len() < length {
                break;
            }
            messages.push((rest[5], rest[6..length].to_vec()));
            rest = &rest[length..];
        }
        messages
    }

    /// What the Adj-RIB-In of 10.99.0.2 has by what was told.
    fn prefixes(&self) -> BTreeSet<String> {
        let context = UpdateContext {
            ebgp: true,
            as4: true,
            mp: MpContext {
                extended_next_hop: false,
                add_path: [false; 2],
            },
        };
        let mut found = BTreeSet::new();
        for (kind, body) in self.messages() {
            if kind == PEER_DOWN {
                found.clear();
            }
            if kind != ROUTE_MONITORING {
                continue;
            }
            assert_eq!(body[22..26], [10, 99, 0, 2], "the peer's address");
            assert_eq!(body[26..30], 65001_u32.to_be_bytes(), "the peer's AS");
            let Ok(Message::Update(update)) = Message::parse(&body[PEER_HEADER..], false) else {
                panic!("no UPDATE: {body:02x?}");
            };
            let view = UpdateView::parse(update, &context).unwrap();
            assert!(view.fault.is_none());
            for (_, prefix) in view.withdrawn {
                found.remove(&prefix.to_string());
            }
            found.extend(view.announced.map(|(_, prefix)| prefix.to_string()));
        }
        found
    }

    fn count(&self, kind: u8) -> usize {
        self.messages().iter().filter(|(found, _)| *found == kind).count()
    }
}

fn set(prefixes: &[&str]) -> BTreeSet<String> {
    prefixes.iter().map(|prefix| (*prefix).to_owned()).collect()
}

#[test]
fn a_bmp_station_sees_sessions_and_routes_and_what_went_wrong_with_them() {
    let lab = Lab::new(1);
    let station = Station::start(&lab);
    Dut::configure(&lab, &peer(0, false, 65001, ", passive: true"), ROUTES, "");
    let dut = Dut::start_with(&lab, &station.arguments());
    eventually("the station is greeted", 15, || station.count(INITIATION) == 1);
    let mut session = Raw::connect(&lab, 0, 1);
    session.open(65001);
    session.send(&update(&ATTRIBUTES, &[24, 10, 200, 0, 24, 10, 201, 0]));
    let both = set(&["10.200.0.0/24", "10.201.0.0/24"]);
    eventually("the session and its routes are told", 15, || {
        station.count(PEER_UP) == 1 && station.prefixes() == both
    });
    let messages = station.messages();
    let (_, up) = messages.iter().find(|(kind, _)| *kind == PEER_UP).unwrap();
    // Behind the per-peer header: own address, ports, the OPEN that was sent, the one that was received.
    assert_eq!(up[54..58], [10, 99, 0, 1]);
    assert_eq!(up[58..60], 179_u16.to_be_bytes());
    let opens = &up[62..];
    let first = usize::from(u16::from_be_bytes([opens[16], opens[17]]));
    for open in [&opens[..first], &opens[first..]] {
        assert!(
            matches!(Message::parse(open, false), Ok(Message::Open(_))),
            "{open:02x?}"
        );
    }
    // One malformed attribute: the station is told that the route is withdrawn, as it is here.
    let bad = [&ATTRIBUTES[..], &[0xc0, 8, 3, 0, 0, 1]].concat();
    session.send(&update(&bad, &[24, 10, 201, 0]));
    let one = set(&["10.200.0.0/24"]);
    eventually("the withdrawal is told", 10, || station.prefixes() == one);
    drop(session);
    eventually("the end is told", 10, || {
        station.count(PEER_DOWN) == 1 && station.prefixes().is_empty()
    });
    assert!(!dut.is_up(0));
}

#[test]
fn a_station_that_comes_back_is_told_all_there_is() {
    let lab = Lab::new(1);
    let station = Station::start(&lab);
    Dut::configure(&lab, &peer(0, false, 65001, ", passive: true"), ROUTES, "");
    let dut = Dut::start_with(&lab, &station.arguments());
    eventually("the station is greeted", 15, || station.count(INITIATION) == 1);
    let mut session = Raw::connect(&lab, 0, 1);
    session.open(65001);
    session.send(&update(&ATTRIBUTES, &[24, 10, 200, 0]));
    wait_received(&dut, 0, &["10.200.0.0/24"]);
    // The connection to the station is ended by the node's kernel.
    let port = station.port.to_string();
    let mut ss = Command::new("ss");
    let killed = lab.node.output(ss.args(["-K", "dport", "=", &port]));
    let is_killed = killed.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&port));
    if !is_killed {
        let _ = writeln!(
            std::io::stderr(),
            "NOT RUN: a BMP station that comes back: this kernel ends no connections (ss -K)"
        );
        return;
    }
    eventually("it is told from the beginning", 20, || {
        let messages = station.messages();
        let again = messages
            .iter()
            .rposition(|(kind, _)| *kind == INITIATION)
            .unwrap_or(0);
        let kinds: Vec<u8> = messages[again..].iter().map(|(kind, _)| *kind).collect();
        again > 0 && kinds.starts_with(&[INITIATION, PEER_UP, ROUTE_MONITORING, ROUTE_MONITORING])
    });
    assert_eq!(station.prefixes(), set(&["10.200.0.0/24"]));
}

#[test]
fn bgpdump_reads_the_messages_and_the_table() {
    if !Kind::Bird.is_installed() {
        return;
    }
    let lab = Lab::new(1);
    Dut::configure(&lab, &peer(0, false, 65001, ""), ROUTES, "");
    let (updates, table) = (lab.path("updates.mrt"), lab.path("rib.mrt"));
    let more = ["--mrt-updates".to_owned(), updates.display().to_string()];
    let dut = Dut::start_with(&lab, &more);
    let routes = vec![Route::plain("10.200.1.0/26"), Route::rich("10.200.2.0/26", 64777)];
    let bird = Kind::Bird.start(&lab, Setup::new(0, routes));
    wait_up(&dut, 0, &*bird);
    wait_received(&dut, 0, &["10.200.1.0/26", "10.200.2.0/26"]);
    let request = format!(r#"{{"request":"mrt","file":"{}"}}"#, table.display());
    let answer = dut.ask(&request).unwrap();
    assert_eq!(answer["prefixes"], 2, "{answer}");
    let dump = |file: &std::path::Path| {
        let output = Command::new("bgpdump").args(["-m", "-v"]).arg(file).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (Ok(rib), Ok(messages)) = (dump(&table), dump(&updates)) else {
        let _ = writeln!(
            std::io::stderr(),
            "NOT RUN: MRT files read by bgpdump, which is not installed (scripts/deps.sh)"
        );
        return;
    };
    for expected in [
        "|B|10.99.0.2|65001|10.200.1.0/26|65001|IGP|10.99.0.2|",
        "|B|10.99.0.2|65001|10.200.2.0/26|65001 4200000001 64777|IGP|10.99.0.2|",
        "64777:7",
    ] {
        assert!(rib.contains(expected), "{expected}: {rib}");
    }
    for expected in [
        "|A|10.99.0.2|65001|10.200.1.0/26|65001|IGP|10.99.0.2|",
        "|STATE|10.99.0.2|65001|5|6",
    ] {
        assert!(messages.contains(expected), "{expected}: {messages}");
    }
}

#[test]
fn a_record_of_a_session_replays_to_the_same_table() {
    if !Kind::Bird.is_installed() {
        return;
    }
    let lab = Lab::new(1);
    Dut::configure(&lab, &peer(0, false, 65001, ", password: secret"), ROUTES, "");
    let record = lab.path("record");
    let dut = Dut::start_with(&lab, &["--record".to_owned(), record.display().to_string()]);
    let routes = vec![Route::plain("10.200.1.0/26"), Route::rich("10.200.2.0/26", 64777)];
    let setup = Setup {
        password: Some("secret"),
        ..Setup::new(0, routes)
    };
    let bird = Kind::Bird.start(&lab, setup);
    wait_up(&dut, 0, &*bird);
    wait_received(&dut, 0, &["10.200.1.0/26", "10.200.2.0/26"]);
    std::thread::sleep(Duration::from_millis(300));
    let lines = |routes: &Value| -> BTreeSet<String> {
        let fields = ["prefix", "asPath", "communities", "best", "nextHop", "med"];
        let line = |route: &Value| fields.map(|field| route[field].to_string()).join(" ");
        routes.as_array().into_iter().flatten().map(line).collect()
    };
    let live = lines(
        &dut.ask(r#"{"request":"routes","query":{"table":"locRib"}}"#)
            .unwrap(),
    );
    drop(dut);
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(!text.contains("secret"));
    let mut replay = Command::new(env!("CARGO_BIN_EXE_caracal-bgpd"));
    let output = replay.arg("--replay").arg(&record).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let replayed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(lines(&replayed["routes"]), live);
    assert_eq!(replayed["status"]["peers"][0]["state"], "Established");
    assert!(replayed["events"].to_string().contains("PeerUp"));
}

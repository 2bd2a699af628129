//! A peer that sends anything at all, and one with two-octet AS numbers.

use std::net::IpAddr;

use bytes::Bytes;
use caracal_bgpd_core::input::{ConnId, Resolution};
use caracal_bgpd_core::output::Event;
use caracal_bgpd_core::snapshot::{RouteQuery, SessionState};
use caracal_bgpd_core::wire::capability::{Capabilities, GracefulRestart};
use caracal_bgpd_core::wire::encode;
use caracal_bgpd_core::wire::open::Open;
use caracal_bgpd_core::{Family, Input, Output, Speaker};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::net::{Net, address, config, join, name, originate, peer, prefix};

/// A speaker whose peer's side of the connection is written by hand.
struct ByHand {
    net: Net,
    conn: ConnId,
    next: u64,
    sent: Vec<Bytes>,
    events: Vec<Event>,
}

impl ByHand {
    fn new() -> Self {
        let mut configs = vec![config(0, 64512), config(1, 64601)];
        join(&mut configs, 0, 1);
        configs[0].routes = vec![originate("10.1.0.0/26")];
        peer(&mut configs[0], 1).passive = true;
        let mut net = Net::new(configs);
        net.kill(1);
        net.pump();
        Self {
            net,
            conn: ConnId::Inbound(0),
            next: 1 << 32,
            sent: Vec::new(),
            events: Vec::new(),
        }
    }

    fn input(&mut self, input: Input) {
        let now = self.net.now;
        self.net.speaker(0).handle_input(now, input);
        while let Some(output) = self.net.speaker(0).poll_output() {
            match output {
                Output::Send { bytes, .. } => self.sent.push(bytes),
                Output::Event(event) => self.events.push(event),
                _ => {}
            }
        }
    }

    fn message(&mut self, bytes: Vec<u8>) {
        let conn = self.conn;
        self.input(Input::Message {
            conn,
            bytes: bytes.into(),
        });
    }

    fn connect(&mut self, capabilities: Capabilities) {
        self.conn = ConnId::Inbound(self.next);
        self.next += 1;
        let conn = self.conn;
        let ends: [IpAddr; 2] = [1, 0].map(|index| address(index).into());
        self.input(Input::Connected {
            conn,
            peer: ends[0],
            local: ends[1],
        });
        let open = Open {
            as_number: 64601,
            hold_seconds: 90,
            router_id: address(1),
            capabilities,
        };
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        self.message(bytes);
        let mut bytes = Vec::new();
        encode::keepalive(&mut bytes);
        self.message(bytes);
    }

    fn state(&self) -> SessionState {
        self.net.status(0, 1).state
    }
}

fn usual() -> Capabilities {
    Capabilities {
        families: Family::ALL.to_vec(),
        as4: Some(64601),
        route_refresh: true,
        enhanced_refresh: true,
        ..Capabilities::default()
    }
}

/// ORIGIN, AS_PATH 64601 with two octets or four, NEXT_HOP and all.
fn update(path: &[u8]) -> Vec<u8> {
    let mut block = vec![0x40, 1, 1, 0];
    encode::attribute(&mut block, 0x40, 2, path);
    let mut out = Vec::new();
    let next_hop = IpAddr::from(address(1)).into();
    let prefixes = [prefix("10.2.0.0/26"), prefix("10.3.0.0/24")];
    encode::announce(Family::Ipv4, &block, next_hop, &prefixes, 4096, |bytes, _| {
        out.extend(bytes)
    });
    out
}

const FOUR: [u8; 6] = [2, 1, 0, 0, 0xfc, 0x59];
const TWO: [u8; 4] = [2, 1, 0xfc, 0x59];

#[test]
fn mutated_messages_cost_the_session_at_most() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut by_hand = ByHand::new();
    let mut survived = 0;
    for _ in 0..6000 {
        if by_hand.state() != SessionState::Established {
            by_hand.net.pass(40);
            by_hand.connect(usual());
            assert_eq!(by_hand.state(), SessionState::Established);
        }
        let mut bytes = update(&FOUR);
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(16..bytes.len());
            match rng.random_range(0..3) {
                0 => bytes[at] = rng.random(),
                1 => bytes[at] ^= 1 << rng.random_range(0..8),
                _ => bytes.insert(at, rng.random()),
            }
        }
        // The length field is right most of the time: what it covers is what is of interest.
        if rng.random_bool(0.9) {
            let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
            bytes[16..18].copy_from_slice(&length);
        }
        by_hand.message(bytes);
        survived += u64::from(by_hand.state() == SessionState::Established);
        let listed = by_hand.net.routes(0, &RouteQuery::AdjRibIn { peer: name(1) });
        assert_eq!(by_hand.net.status(0, 1).prefixes_received, listed.len());
    }
    assert!((1000..5990).contains(&survived), "{survived}");
    by_hand.net.pass(100);
    by_hand.connect(usual());
    by_hand.message(update(&FOUR));
    assert!(by_hand.net.best(0, "10.2.0.0/26").is_some());
}

#[test]
fn any_message_in_any_state_is_answered_or_ignored() {
    let mut rng = SmallRng::seed_from_u64(2);
    for _ in 0..300 {
        let mut by_hand = ByHand::new();
        for _ in 0..rng.random_range(1..30) {
            let conn = by_hand.conn;
            match rng.random_range(0..9) {
                0 => by_hand.connect(usual()),
                1 => by_hand.connect(Capabilities::default()),
                2 => by_hand.message(update(&FOUR)),
                3 => by_hand.message((0..rng.random_range(0..60)).map(|_| rng.random()).collect()),
                4 => by_hand.input(Input::Closed {
                    conn,
                    reason: String::new(),
                }),
                5 => by_hand.input(Input::ConnectFailed {
                    conn,
                    reason: String::new(),
                }),
                6 => by_hand.input(Input::SendBlocked { conn }),
                7 => by_hand.input(Input::SendReady { conn }),
                _ => by_hand.net.pass(rng.random_range(0..100)),
            }
            assert!(by_hand.net.speaker(0).poll_output().is_none());
        }
    }
}

// RFC 4724 §4.1. FRR says in its first minutes that it restarts, and sends its routes a second after the OPEN.
#[test]
fn kernel_routes_wait_for_a_peer_that_restarts_too() {
    let mut by_hand = ByHand::new();
    by_hand.net.kill(0);
    by_hand.net.start(0, true);
    by_hand.connect(Capabilities {
        graceful_restart: Some(GracefulRestart {
            restarting: true,
            notification: false,
            restart_seconds: 120,
            families: vec![(Family::Ipv4, true)],
        }),
        ..usual()
    });
    // Routes go out at once: the peer may be waiting for them.
    let announces = |bytes: &Bytes| bytes[18] == 2 && bytes.len() > 23;
    assert!(by_hand.sent.iter().any(announces), "{:?}", by_hand.sent);
    let complete = Event::RestartComplete { missing: Vec::new() };
    assert!(!by_hand.events.contains(&complete));
    by_hand.message(update(&FOUR));
    assert!(!by_hand.events.contains(&complete));
    let mut marker = Vec::new();
    encode::end_of_rib(Family::Ipv4, &mut marker);
    by_hand.message(marker);
    assert!(by_hand.events.contains(&complete), "{:?}", by_hand.events);
}

// The kernel's answers come a moment after the routes.
#[test]
fn kernel_routes_wait_for_what_is_known_of_next_hops() {
    let mut by_hand = ByHand::new();
    by_hand.net.kill(0);
    by_hand.net.nodes[0].config.track_next_hops = true;
    by_hand.net.start(0, true);
    by_hand.connect(usual());
    by_hand.message(update(&FOUR));
    let mut marker = Vec::new();
    encode::end_of_rib(Family::Ipv4, &mut marker);
    by_hand.message(marker);
    let complete = Event::RestartComplete { missing: Vec::new() };
    assert!(!by_hand.events.contains(&complete));
    by_hand.input(Input::NextHop {
        address: address(1).into(),
        resolution: Some(Resolution {
            metric: 0,
            gateway: None,
            interface: None,
        }),
    });
    assert!(by_hand.events.contains(&complete), "{:?}", by_hand.events);
    assert!(by_hand.net.best(0, "10.2.0.0/26").is_some());
}

// RFC 6793 §4.2.
#[test]
fn peer_with_two_octet_as_numbers_is_understood() {
    let mut by_hand = ByHand::new();
    by_hand.connect(Capabilities::default());
    assert_eq!(by_hand.state(), SessionState::Established);
    by_hand.message(update(&TWO));
    assert_eq!(by_hand.net.best(0, "10.2.0.0/26").unwrap().as_path, "64601");
    // ORIGIN, AS_PATH 64512 in two octets, NEXT_HOP.
    let attributes = [
        0x40, 1, 1, 0, 0x40, 2, 4, 2, 1, 0xfc, 0x00, 0x40, 3, 4, 10, 0, 0, 1,
    ];
    let sent = by_hand
        .sent
        .iter()
        .any(|bytes| bytes.windows(attributes.len()).any(|part| part == attributes));
    assert!(sent, "{:?}", by_hand.sent);
}

#[test]
fn same_seed_and_inputs_give_the_same_outputs() {
    let run = |seed| {
        let net = Net::new(vec![config(0, 64512)]);
        let mut configured = config(0, 64512);
        configured.peers = (2..9)
            .map(|index| caracal_bgpd_core::config::Peer::new(name(index), address(index).into(), 64512))
            .collect();
        let mut speaker = Speaker::new(seed, false, net.now);
        let mut trace = Vec::new();
        let mut now = net.now;
        speaker.handle_input(now, Input::Config(Box::new(configured)));
        for _ in 0..50 {
            while let Some(output) = speaker.poll_output() {
                if let Output::Connect { conn, .. } = output {
                    let reason = String::new();
                    speaker.handle_input(now, Input::ConnectFailed { conn, reason });
                }
                trace.push(format!("{output:?}"));
            }
            let next = speaker.poll_timeout().unwrap();
            trace.push(format!("{:?}", next - now));
            now = next;
            speaker.handle_timeout(now);
        }
        trace
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

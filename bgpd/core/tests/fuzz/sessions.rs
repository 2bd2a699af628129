//! Whole sessions: one peer does anything at all, another behaves; nothing of the second is ever lost, and tables,
//! counters and kernel agree after every step.
//!
//! The input is a list of steps: an octet that says what, then what that needs. Messages are a length and octets, which
//! get a header with the right length unless the step says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use caracal_bgpd_core::bfd::Settings;
use caracal_bgpd_core::config::{AddPath, Peer};
use caracal_bgpd_core::input::{Command, ConnId};
use caracal_bgpd_core::output::RouteDelta;
use caracal_bgpd_core::snapshot::{PeerStatus, RouteQuery, SessionState};
use caracal_bgpd_core::wire::capability::{Capabilities, GracefulRestart};
use caracal_bgpd_core::wire::encode;
use caracal_bgpd_core::wire::open::Open;
use caracal_bgpd_core::{Config, Family, Input, Output, Speaker};

/// Steps of one run at most.
const STEPS_MAX: usize = 64;
const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const ODD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const WELL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3));
const WELL_CONN: ConnId = ConnId::Inbound(1);
/// 10.3.0.0/24 and 10.3.1.0/24.
const WELL_ROUTES: [&str; 2] = ["10.3.0.0/24", "10.3.1.0/24"];

/// Runs the target.
pub(crate) fn run(data: &[u8]) {
    let mut world = World::new();
    let mut steps = Steps(data);
    for _ in 0..STEPS_MAX {
        let Some(step) = steps.octet() else { break };
        world.step(step, &mut steps);
        world.check();
    }
    // The odd one can always begin anew.
    world.pass(700);
    world.keep_well_alive();
    world.connect(0);
    assert_eq!(world.peer("odd").state, SessionState::Established);
    world.check();
}

struct Steps<'a>(&'a [u8]);

impl<'a> Steps<'a> {
    fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn octets(&mut self) -> &'a [u8] {
        let high = usize::from(self.octet().unwrap_or(0) & 0x0f);
        let length = high << 8 | usize::from(self.octet().unwrap_or(0));
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

struct World {
    speaker: Speaker,
    config: Config,
    now: Instant,
    kernel: BTreeMap<String, String>,
    conn: ConnId,
    next: u64,
    /// Connections that the speaker asked for and has not given up.
    asked: BTreeSet<ConnId>,
}

fn config() -> Config {
    let mut config = Config::new(65000, [10, 0, 0, 1].into());
    let mut odd = Peer::new("odd", ODD, 65001);
    odd.passive = true;
    odd.families = Family::ALL.to_vec();
    odd.add_path = AddPath::Receive;
    odd.long_lived_seconds = Some(60);
    odd.bfd = Some(Settings::default());
    odd.timers.error_wait_min_seconds = 1;
    odd.timers.error_wait_max_seconds = 2;
    let mut well = Peer::new("well", WELL, 65002);
    well.passive = true;
    well.timers.hold_seconds = 0;
    config.peers = vec![odd, well];
    config
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "a beginning for the virtual clock")]
    fn new() -> Self {
        let now = Instant::now();
        let mut world = Self {
            speaker: Speaker::new(1, false, now),
            config: config(),
            now,
            kernel: BTreeMap::new(),
            conn: ConnId::Inbound(2),
            next: 3,
            asked: BTreeSet::new(),
        };
        let config = Box::new(world.config.clone());
        world.input(Input::Config(config));
        world.input(Input::Connected {
            conn: WELL_CONN,
            peer: WELL,
            local: OWN,
        });
        let capabilities = Capabilities {
            families: vec![Family::Ipv4],
            as4: Some(65002),
            ..Capabilities::default()
        };
        world.message(WELL_CONN, open(65002, [10, 0, 0, 3], 0, capabilities));
        world.keep_well_alive();
        let mut block = vec![0x40, 1, 1, 0];
        encode::attribute(&mut block, 0x40, 2, &[2, 1, 0, 0, 0xfd, 0xea]);
        let prefixes: Vec<_> = WELL_ROUTES
            .iter()
            .filter_map(|prefix| prefix.parse::<ipnet::IpNet>().ok())
            .collect();
        let mut update = Vec::new();
        encode::announce(Family::Ipv4, &block, WELL.into(), &prefixes, 4096, |bytes, _| {
            update.extend(bytes);
        });
        world.message(WELL_CONN, update);
        world.check();
        world
    }

    fn step(&mut self, step: u8, steps: &mut Steps<'_>) {
        let conn = self.conn;
        match step & 0x0f {
            0 => {
                let choice = steps.octet().unwrap_or(0);
                self.connect(choice);
            }
            // A message with the right length in its header.
            1..=5 => {
                let mut bytes = Vec::new();
                let kind = step & 0x0f;
                encode::message(&mut bytes, kind, |out| out.extend(steps.octets()));
                self.message(conn, bytes);
            }
            // Any octets as a message.
            6 => {
                let bytes = steps.octets().to_vec();
                self.message(conn, bytes);
            }
            7 => {
                let mut bytes = Vec::new();
                encode::keepalive(&mut bytes);
                self.message(conn, bytes);
            }
            8 => self.input(Input::Closed {
                conn,
                reason: "closed".to_owned(),
            }),
            9 => {
                let seconds = u64::from(steps.octet().unwrap_or(0));
                self.pass(seconds);
            }
            10 => self.input(Input::SendBlocked { conn }),
            11 => self.input(Input::SendReady { conn }),
            12 => self.reconfigure(steps.octet().unwrap_or(0)),
            13 => {
                let commands = [
                    Command::RefreshIn,
                    Command::RefreshOut,
                    Command::Reset,
                    Command::BfdDown,
                ];
                let choice = usize::from(steps.octet().unwrap_or(0)) % commands.len();
                let command = commands[choice];
                let peer = "odd".to_owned();
                self.input(Input::Command { peer, command });
            }
            14 => {
                self.conn = ConnId::Inbound(self.next);
                self.next += 1;
                self.input(Input::Connected {
                    conn: self.conn,
                    peer: ODD,
                    local: OWN,
                });
            }
            _ => self.input(Input::ConnectFailed {
                conn,
                reason: "refused".to_owned(),
            }),
        }
    }

    /// A new connection of the odd peer, as far as a well-behaved start gets it.
    fn connect(&mut self, choice: u8) {
        self.conn = ConnId::Inbound(self.next);
        self.next += 1;
        let conn = self.conn;
        self.input(Input::Connected {
            conn,
            peer: ODD,
            local: OWN,
        });
        let bit = |bit: u8| choice & (1 << bit) != 0;
        let capabilities = Capabilities {
            families: Family::ALL.to_vec(),
            as4: (!bit(0)).then_some(65001),
            route_refresh: !bit(1),
            enhanced_refresh: !bit(1),
            extended_message: bit(2),
            graceful_restart: bit(3).then(|| GracefulRestart {
                restarting: bit(4),
                notification: bit(5),
                restart_seconds: 30,
                families: vec![(Family::Ipv4, true), (Family::Ipv6, bit(6))],
            }),
            add_path: if bit(7) {
                vec![(Family::Ipv4, 3), (Family::Ipv6, 3)]
            } else {
                Vec::new()
            },
            ..Capabilities::default()
        };
        self.message(conn, open(65001, [10, 0, 0, 2], 90, capabilities));
        let mut bytes = Vec::new();
        encode::keepalive(&mut bytes);
        self.message(conn, bytes);
    }

    /// Changes what concerns the odd peer alone.
    fn reconfigure(&mut self, choice: u8) {
        let bit = |bit: u8| choice & (1 << bit) != 0;
        if let Some(odd) = self.config.peers.iter_mut().find(|peer| peer.name == "odd") {
            odd.prefix_limit = bit(0).then_some(2);
            odd.allow_own_as = u8::from(bit(1));
            odd.graceful_restart_seconds = if bit(2) { 0 } else { 120 };
            odd.add_path = if bit(3) { AddPath::Both } else { AddPath::Receive };
        }
        let config = Box::new(self.config.clone());
        self.input(Input::Config(config));
    }

    fn keep_well_alive(&mut self) {
        let mut bytes = Vec::new();
        encode::keepalive(&mut bytes);
        self.message(WELL_CONN, bytes);
    }

    fn message(&mut self, conn: ConnId, bytes: Vec<u8>) {
        self.input(Input::Message {
            conn,
            bytes: bytes.into(),
        });
    }

    fn input(&mut self, input: Input) {
        self.speaker.handle_input(self.now, input);
        self.drain();
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(at) = self.speaker.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.speaker.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn drain(&mut self) {
        let mut count = 0;
        while let Some(output) = self.speaker.poll_output() {
            count += 1;
            assert!(count < 100_000, "the outputs never end");
            match output {
                Output::Send { bytes, .. } => check_sent(&bytes),
                Output::Route(RouteDelta { prefix, route }) => {
                    match route {
                        Some(route) => self.kernel.insert(prefix.to_string(), format!("{route:?}")),
                        None => self.kernel.remove(&prefix.to_string()),
                    };
                }
                Output::Connect { conn, .. } => drop(self.asked.insert(conn)),
                Output::Close { conn } => drop(self.asked.remove(&conn)),
                _ => {}
            }
        }
    }

    fn peer(&self, name: &str) -> PeerStatus {
        let status = self.speaker.status(self.now);
        let found = status.peers.into_iter().find(|peer| peer.name == name);
        found.unwrap_or_else(|| panic!("{name} is gone"))
    }

    fn check(&self) {
        let well = self.peer("well");
        assert_eq!(well.state, SessionState::Established);
        assert_eq!(well.established_count, 1);
        for name in ["odd", "well"] {
            let peer = name.to_owned();
            let routes = self.speaker.routes(&RouteQuery::AdjRibIn { peer });
            let count = routes.map_or(0, |routes| routes.len());
            assert_eq!(self.peer(name).prefixes_received, count, "{name}");
        }
        // What the kernel was told is what the table has.
        let table = self.speaker.routes(&RouteQuery::LocRib).unwrap_or_default();
        let best = table.iter().filter(|route| route.best);
        let best: BTreeSet<String> = best.map(|route| route.prefix.to_string()).collect();
        let kernel: BTreeSet<String> = self.kernel.keys().cloned().collect();
        assert_eq!(kernel, best);
        let is_there = |prefix: &&str| best.contains::<str>(prefix);
        assert!(WELL_ROUTES.iter().all(is_there), "{best:?}");
        assert!(self.asked.len() <= 4, "{:?}", self.asked);
    }
}

/// Whatever goes out is whole messages.
fn check_sent(bytes: &Bytes) {
    use caracal_bgpd_core::wire::framing::{Frame, frame};
    let mut rest: &[u8] = bytes;
    while !rest.is_empty() {
        let Frame::Message(length) = frame(rest) else {
            panic!("not a message: {rest:02x?}");
        };
        rest = &rest[length..];
    }
}

fn open(as_number: u32, router_id: [u8; 4], hold_seconds: u16, capabilities: Capabilities) -> Vec<u8> {
    let open = Open {
        as_number,
        hold_seconds,
        router_id: router_id.into(),
        capabilities,
    };
    let mut bytes = Vec::new();
    open.encode(&mut bytes);
    bytes
}

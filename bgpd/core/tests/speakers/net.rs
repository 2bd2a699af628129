//! Speakers wired back to back under a virtual clock: connections, a kernel table and the events of each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use caracal_bgpd_core::config::{Originate, Peer};
use caracal_bgpd_core::input::ConnId;
use caracal_bgpd_core::output::{Event, KernelRoute, RouteDelta};
use caracal_bgpd_core::snapshot::{PeerStatus, RouteQuery, RouteStatus, SessionState};
use caracal_bgpd_core::wire::framing::{Frame, frame};
use caracal_bgpd_core::{Config, Input, Output, Speaker};
use ipnet::IpNet;
use rand::Rng;
use rand::rngs::SmallRng;

pub(crate) struct Node {
    pub(crate) address: IpAddr,
    pub(crate) config: Config,
    pub(crate) speaker: Option<Speaker>,
    pub(crate) kernel: BTreeMap<IpNet, KernelRoute>,
    /// Every change of the kernel table since the last look.
    pub(crate) changes: Vec<RouteDelta>,
    pub(crate) events: Vec<Event>,
    pub(crate) watched: BTreeSet<IpAddr>,
    /// Kernel routes of an earlier process that this one has not confirmed.
    stale: BTreeSet<IpNet>,
    started: u64,
}

type End = (usize, ConnId);

enum Delivery {
    Message(End, Bytes),
    Closed(End),
}

impl Delivery {
    fn end(&self) -> End {
        match self {
            Self::Message(end, _) | Self::Closed(end) => *end,
        }
    }
}

pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Node>,
    links: BTreeMap<End, End>,
    queue: VecDeque<Delivery>,
    next_inbound: u64,
    /// Delivers in a random order, in which each connection's own stays as it is.
    pub(crate) shuffle: Option<SmallRng>,
    /// Connections from the first to the second are not answered.
    pub(crate) unreachable: Vec<(usize, usize)>,
}

/// Address of a node: 10.0.0.1 is the first.
pub(crate) fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(index + 1).unwrap())
}

pub(crate) fn name(index: usize) -> String {
    format!("n{index}")
}

pub(crate) fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn originate(text: &str) -> Originate {
    Originate {
        prefix: prefix(text),
        communities: Vec::new(),
        med: None,
        metric: None,
        blackhole: false,
    }
}

/// A configuration without peers.
pub(crate) fn config(index: usize, local_as: u32) -> Config {
    Config::new(local_as, address(index))
}

/// Makes two configurations neighbours.
pub(crate) fn join(configs: &mut [Config], a: usize, b: usize) {
    for (me, other) in [(a, b), (b, a)] {
        let remote_as = configs[other].local_as;
        configs[me]
            .peers
            .push(Peer::new(name(other), address(other).into(), remote_as));
    }
}

pub(crate) fn peer(config: &mut Config, other: usize) -> &mut Peer {
    config
        .peers
        .iter_mut()
        .find(|peer| peer.name == name(other))
        .unwrap()
}

impl Net {
    #[expect(clippy::disallowed_methods, reason = "a beginning for the virtual clock")]
    pub(crate) fn new(configs: Vec<Config>) -> Self {
        let node = |(index, config)| Node {
            address: address(index).into(),
            config,
            speaker: None,
            kernel: BTreeMap::new(),
            changes: Vec::new(),
            events: Vec::new(),
            watched: BTreeSet::new(),
            stale: BTreeSet::new(),
            started: 0,
        };
        let mut net = Self {
            now: Instant::now(),
            nodes: configs.into_iter().enumerate().map(node).collect(),
            links: BTreeMap::new(),
            queue: VecDeque::new(),
            next_inbound: 1,
            shuffle: None,
            unreachable: Vec::new(),
        };
        for index in 0..net.nodes.len() {
            net.start(index, false);
        }
        net.pump();
        net
    }

    pub(crate) fn start(&mut self, index: usize, restarting: bool) {
        let node = &mut self.nodes[index];
        node.started += 1;
        if !restarting {
            node.kernel.clear();
        }
        node.stale = node.kernel.keys().copied().collect();
        let seed = u64::try_from(index).unwrap() * 1000 + node.started;
        let mut speaker = Speaker::new(seed, restarting, self.now);
        speaker.handle_input(self.now, Input::Config(Box::new(node.config.clone())));
        node.speaker = Some(speaker);
    }

    /// Ends a speaker as `kill -9` does.
    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes[index].speaker = None;
        // The next process counts its connections from the beginning again.
        self.queue.retain(|delivery| delivery.end().0 != index);
        let ends: Vec<End> = self
            .links
            .keys()
            .filter(|(node, _)| *node == index)
            .copied()
            .collect();
        for end in ends {
            self.hang_up(end);
        }
    }

    /// Breaks all connections between two nodes.
    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        let between = |(near, far): (&End, &End)| (near.0 == a && far.0 == b).then_some(*near);
        let ends: Vec<End> = self.links.iter().filter_map(between).collect();
        for end in ends {
            self.hang_up(end);
            self.queue.push_back(Delivery::Closed(end));
        }
    }

    fn hang_up(&mut self, near: End) {
        if let Some(far) = self.links.remove(&near) {
            self.links.remove(&far);
            self.queue.push_back(Delivery::Closed(far));
        }
    }

    pub(crate) fn input(&mut self, index: usize, input: Input) {
        let now = self.now;
        self.speaker(index).handle_input(now, input);
        self.pump();
    }

    pub(crate) fn configure(&mut self, index: usize, change: impl FnOnce(&mut Config)) {
        change(&mut self.nodes[index].config);
        let config = Box::new(self.nodes[index].config.clone());
        self.input(index, Input::Config(config));
    }

    pub(crate) fn speaker(&mut self, index: usize) -> &mut Speaker {
        self.nodes[index].speaker.as_mut().unwrap()
    }

    /// Carries out outputs and delivers what they cause, until nothing moves.
    pub(crate) fn pump(&mut self) {
        for _ in 0..1_000_000 {
            let mut moved = false;
            for index in 0..self.nodes.len() {
                let poll = |node: &mut Node| node.speaker.as_mut().and_then(Speaker::poll_output);
                while let Some(output) = poll(&mut self.nodes[index]) {
                    moved = true;
                    self.carry_out(index, output);
                }
            }
            if let Some(delivery) = self.next_delivery() {
                moved = true;
                self.deliver(delivery);
            }
            if !moved {
                return;
            }
        }
        panic!("the speakers never come to rest");
    }

    fn next_delivery(&mut self) -> Option<Delivery> {
        let Some(rng) = self.shuffle.as_mut().filter(|_| !self.queue.is_empty()) else {
            return self.queue.pop_front();
        };
        let end = self.queue[rng.random_range(0..self.queue.len())].end();
        let first = self.queue.iter().position(|delivery| delivery.end() == end);
        self.queue.remove(first?)
    }

    fn carry_out(&mut self, index: usize, output: Output) {
        match output {
            Output::Connect { conn, transport, .. } => self.connect(index, conn, transport.address),
            Output::Send { conn, bytes } => self.send((index, conn), bytes),
            Output::Close { conn } => self.hang_up((index, conn)),
            Output::Route(delta) => {
                let node = &mut self.nodes[index];
                match delta.route.clone() {
                    Some(route) => node.kernel.insert(delta.prefix, (*route).clone()),
                    None => node.kernel.remove(&delta.prefix),
                };
                node.stale.remove(&delta.prefix);
                node.changes.push(delta);
            }
            Output::Event(event) => {
                let node = &mut self.nodes[index];
                if matches!(event, Event::RestartComplete { .. }) {
                    for prefix in std::mem::take(&mut node.stale) {
                        node.kernel.remove(&prefix);
                    }
                }
                node.events.push(event);
            }
            Output::WatchNextHop(address) => assert!(self.nodes[index].watched.insert(address)),
            Output::UnwatchNextHop(address) => assert!(self.nodes[index].watched.remove(&address)),
            Output::Listen { .. } => {}
        }
    }

    fn connect(&mut self, from: usize, conn: ConnId, to: IpAddr) {
        let local = self.nodes[from].address;
        let found = self
            .nodes
            .iter()
            .position(|node| node.address == to && node.speaker.is_some());
        let Some(index) = found.filter(|index| !self.unreachable.contains(&(from, *index))) else {
            let reason = "connection refused".to_owned();
            let now = self.now;
            self.speaker(from)
                .handle_input(now, Input::ConnectFailed { conn, reason });
            return;
        };
        let far = (index, ConnId::Inbound(self.next_inbound));
        self.next_inbound += 1;
        self.links.insert((from, conn), far);
        self.links.insert(far, (from, conn));
        let now = self.now;
        let connected = |conn, peer, local| Input::Connected { conn, peer, local };
        self.speaker(from).handle_input(now, connected(conn, to, local));
        self.speaker(index).handle_input(now, connected(far.1, local, to));
    }

    pub(crate) fn send(&mut self, near: End, bytes: Bytes) {
        let Some(far) = self.links.get(&near).copied() else {
            return;
        };
        let mut rest = bytes;
        while let Frame::Message(length) = frame(&rest) {
            self.queue
                .push_back(Delivery::Message(far, rest.split_to(length)));
        }
        assert!(rest.is_empty(), "a part of a message was sent");
    }

    fn deliver(&mut self, delivery: Delivery) {
        let ((index, _), input) = match delivery {
            Delivery::Message(end, bytes) => (end, Input::Message { conn: end.1, bytes }),
            Delivery::Closed(end) => {
                let reason = "closed by the peer".to_owned();
                (end, Input::Closed { conn: end.1, reason })
            }
        };
        let now = self.now;
        if let Some(speaker) = &mut self.nodes[index].speaker {
            speaker.handle_input(now, input);
        }
    }

    /// Lets time pass, with every timer on the way.
    pub(crate) fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        loop {
            let due = self
                .nodes
                .iter()
                .filter_map(|node| node.speaker.as_ref()?.poll_timeout())
                .min();
            let Some(due) = due.filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            for index in 0..self.nodes.len() {
                let now = self.now;
                if let Some(speaker) = &mut self.nodes[index].speaker {
                    speaker.handle_timeout(now);
                }
            }
            self.pump();
        }
        self.now = end;
    }

    pub(crate) fn status(&self, index: usize, other: usize) -> PeerStatus {
        let speaker = self.nodes[index].speaker.as_ref().unwrap();
        let peers = speaker.status(self.now).peers;
        peers.into_iter().find(|peer| peer.name == name(other)).unwrap()
    }

    pub(crate) fn is_up(&self, a: usize, b: usize) -> bool {
        [(a, b), (b, a)]
            .iter()
            .all(|(a, b)| self.status(*a, *b).state == SessionState::Established)
    }

    pub(crate) fn routes(&self, index: usize, query: &RouteQuery) -> Vec<RouteStatus> {
        self.nodes[index].speaker.as_ref().unwrap().routes(query).unwrap()
    }

    /// The best path of a prefix.
    pub(crate) fn best(&self, index: usize, text: &str) -> Option<RouteStatus> {
        let mut routes = self.routes(index, &RouteQuery::LocRib).into_iter();
        routes.find(|route| route.best && route.prefix == prefix(text))
    }

    pub(crate) fn errors(&self, index: usize) -> Vec<String> {
        let text = |event: &Event| match event {
            Event::PeerError { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        self.nodes[index].events.iter().filter_map(text).collect()
    }
}

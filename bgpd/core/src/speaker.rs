//! The whole of BGP behind four functions: sessions, tables and policies of one speaker, driven by inputs and time.
//!
//! Routes are worked on when the outputs are drained: many inputs between two drains cost one decision per prefix, one
//! UPDATE per group of attributes, one kernel route.

mod configure;
mod dynamic;
mod explain;
mod export;
mod flush;
mod groups;
mod import;
mod kernel;
mod paths;
mod peer;
mod received;
mod restart;
mod stale;
mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::config::Config;
use crate::input::{Command, ConnId, Input};
use crate::output::{Event, Output};
use crate::policy::eval::Chain;
use crate::rib::attrs::Interner;
use crate::rib::table::Table;
use crate::rib::way::PeerId;
use crate::session::{Context, Effect, Identity, Session};
use crate::wire::notification::{CeaseSubcode, Notification};
use crate::wire::refresh::{Refresh, RefreshKind};
use groups::{GroupId, UpdateGroup};
use paths::PathIds;
use peer::Peer;
use restart::Restart;

pub use received::Received;
pub use status::UnknownPeer;

/// A BGP speaker without a socket or a clock.
pub struct Speaker {
    config: Option<Arc<Config>>,
    peers: BTreeMap<PeerId, Peer>,
    names: BTreeMap<String, PeerId>,
    conns: BTreeMap<ConnId, PeerId>,
    timers: BTreeSet<(Instant, PeerId)>,
    chains: BTreeMap<Vec<String>, Arc<Chain>>,
    kernel_chain: Arc<Chain>,
    table: Table,
    interner: Interner,
    groups: BTreeMap<GroupId, UpdateGroup>,
    path_ids: PathIds,
    out: VecDeque<Output>,
    rng: SmallRng,
    next_conn: u64,
    next_peer: u32,
    next_group: u32,
    /// Room for the attributes of the UPDATE at hand.
    block: Vec<u8>,
    /// Forwarding state is older than this process (RFC 4724 §4.1).
    restarted: bool,
    restart: Option<Restart>,
    /// After `Input::Shutdown`: kernel routes stay as they are.
    stopped: bool,
}

impl Speaker {
    /// Returns a speaker that waits for its configuration.
    ///
    /// `seed` makes its jitter reproducible. `restarting` says that kernel routes of an earlier process are in place:
    /// peers are told so, and no route is decided before their End-of-RIB markers or the deferral timer.
    pub fn new(seed: u64, restarting: bool, _now: Instant) -> Self {
        Self {
            config: None,
            peers: BTreeMap::new(),
            names: BTreeMap::new(),
            conns: BTreeMap::new(),
            timers: BTreeSet::new(),
            chains: BTreeMap::new(),
            kernel_chain: Arc::default(),
            table: Table::default(),
            interner: Interner::default(),
            groups: BTreeMap::new(),
            path_ids: PathIds::default(),
            next_group: 1,
            block: Vec::new(),
            out: VecDeque::new(),
            rng: SmallRng::seed_from_u64(seed),
            next_conn: 1,
            next_peer: 1,
            restarted: restarting,
            restart: restarting.then(Restart::default),
            stopped: false,
        }
    }

    /// Takes one event.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Config(config) => self.configure(now, *config),
            Input::Connected { conn, peer, local } => self.connected(now, conn, peer, local),
            Input::ConnectFailed { conn, reason } => {
                self.on_conn(now, conn, |session, context| {
                    session.connect_failed(conn, &reason, context)
                });
            }
            Input::Message { conn, bytes } => self.message(now, conn, &bytes),
            Input::Closed { conn, reason } => {
                self.on_conn(now, conn, |session, context| {
                    session.closed(conn, &reason, context)
                });
            }
            Input::SendBlocked { conn } => {
                self.on_conn(now, conn, |session, _| session.set_blocked(conn, true, now));
            }
            Input::SendReady { conn } => {
                self.on_conn(now, conn, |session, _| session.set_blocked(conn, false, now));
            }
            Input::Local(delta) => self.local(delta),
            Input::NextHop { address, resolution } => {
                self.table.report_next_hop(address.to_canonical(), resolution);
            }
            Input::Command { peer, command } => self.command(now, &peer, command),
            Input::Shutdown { graceful, message } => self.shut_down(now, graceful, &message),
        }
        self.check_restart();
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.stopped {
            return;
        }
        while let Some(&(at, id)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.armed = None;
            }
            self.expire_stale(now, id);
            self.on_peer(now, id, Session::tick);
        }
        if let Some(restart) = &mut self.restart {
            restart.note_time(now);
        }
        self.check_restart();
    }

    /// Returns the next wish. Drain until `None` after every batch of inputs.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.out.is_empty() {
            self.flush();
        }
        self.out.pop_front()
    }

    /// Returns when `handle_timeout` is to be called next, at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        let deferral = self.restart.as_ref().and_then(Restart::deadline);
        self.timers
            .first()
            .map(|(at, _)| *at)
            .into_iter()
            .chain(deferral)
            .min()
    }

    fn connected(&mut self, now: Instant, conn: ConnId, peer: IpAddr, local: IpAddr) {
        let (address, local) = (peer.to_canonical(), local.to_canonical());
        let known = self.conns.get(&conn).copied();
        // Two peers behind one address differ in their ports, of which a connection from there shows nothing: it is for
        // the one that is not up.
        let configured = || {
            let of = |(_, peer): &(&PeerId, &Peer)| peer.session.config.address == address;
            let found = self.peers.iter().filter(of);
            let is_up = |(_, peer): &(&PeerId, &Peer)| peer.session.established().is_some();
            found.min_by_key(is_up).map(|(id, _)| *id)
        };
        let found = match conn {
            ConnId::Inbound(_) => match known.or_else(configured) {
                Some(id) => Ok(id),
                None => self.admit(now, address),
            },
            // An attempt that was given up while it succeeded just goes.
            ConnId::Outbound(_) => known.ok_or_else(String::new),
        };
        let id = match found {
            Ok(id) => id,
            Err(reason) => {
                self.refuse(conn, address, &reason);
                return;
            }
        };
        self.on_peer(now, id, |session, context| {
            session.connected(conn, local, context)
        });
    }

    fn refuse(&mut self, conn: ConnId, address: IpAddr, reason: &str) {
        if matches!(conn, ConnId::Inbound(_)) {
            let mut bytes = Vec::new();
            Notification::cease(CeaseSubcode::ConnectionRejected).encode(&mut bytes);
            let bytes = bytes.into();
            self.out.push_back(Output::Send { conn, bytes });
            self.out.push_back(Output::Event(Event::PeerError {
                peer: address.to_string(),
                reason: format!("connection refused: {reason}"),
            }));
        }
        self.out.push_back(Output::Close { conn });
    }

    fn message(&mut self, now: Instant, conn: ConnId, bytes: &Bytes) {
        self.on_conn(now, conn, |session, context| {
            session.message(conn, bytes, context)
        });
    }

    fn on_conn(&mut self, now: Instant, conn: ConnId, act: impl FnOnce(&mut Session, &mut Context<'_>)) {
        if let Some(id) = self.conns.get(&conn).copied() {
            self.on_peer(now, id, act);
        }
    }

    /// Runs something on a peer's session and then does what follows from it.
    fn on_peer(&mut self, now: Instant, id: PeerId, act: impl FnOnce(&mut Session, &mut Context<'_>)) {
        let mut effects = Vec::new();
        self.with_session(now, id, &mut effects, act);
        // A handler may end the session, whose effects then follow.
        while !effects.is_empty() {
            for effect in std::mem::take(&mut effects) {
                if let Some((notification, reason)) = self.effect(now, id, effect) {
                    self.with_session(now, id, &mut effects, |session, context| {
                        session.fail_established(&notification, &reason, context);
                    });
                }
            }
        }
        self.arm(id);
        self.retire(id);
    }

    fn with_session(
        &mut self,
        now: Instant,
        id: PeerId,
        effects: &mut Vec<Effect>,
        act: impl FnOnce(&mut Session, &mut Context<'_>),
    ) {
        let router_id = self
            .config
            .as_ref()
            .map_or(Ipv4Addr::UNSPECIFIED, |config| config.router_id);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let identity = Identity {
            router_id,
            restarting: self.restart.as_ref().is_some_and(Restart::defers),
            // Routes stay in the kernel when a session or this process ends.
            forwarding: self.restarted || peer.session.established_count > 0,
        };
        let mut context = Context {
            now,
            id,
            identity,
            out: &mut self.out,
            rng: &mut self.rng,
            next_conn: &mut self.next_conn,
            conns: &mut self.conns,
            effects,
        };
        act(&mut peer.session, &mut context);
    }

    /// Does what a session asks for; an error is to end it.
    fn effect(&mut self, now: Instant, id: PeerId, effect: Effect) -> Option<(Notification, String)> {
        match effect {
            Effect::Up => self.peer_up(now, id),
            Effect::Down { reason, graceful } => self.peer_down(now, id, reason, graceful),
            Effect::Update(body) => return self.update(id, &body).err(),
            Effect::Refresh(refresh) => self.refresh(id, refresh),
            Effect::Keepalive => self.implicit_end_of_rib(id),
        }
        None
    }

    fn refresh(&mut self, id: PeerId, refresh: Refresh) {
        let Some(family) = refresh.family else { return };
        match refresh.kind {
            RefreshKind::Request => {
                let carries = self.peers.get_mut(&id).filter(|peer| peer.carries(family));
                if let Some(target) = carries.and_then(|peer| peer.target.as_mut()) {
                    target.refresh(family);
                }
            }
            RefreshKind::Begin => self.mark_stale(id, family),
            RefreshKind::End => self.sweep_stale(id, family),
            RefreshKind::Unknown(_) => {}
        }
    }

    fn command(&mut self, now: Instant, name: &str, command: Command) {
        let Some(id) = self.names.get(name).copied() else {
            return;
        };
        match command {
            Command::RefreshIn => self.request_refresh(now, id),
            Command::RefreshOut => {
                let Some(peer) = self.peers.get_mut(&id) else {
                    return;
                };
                for family in peer.families() {
                    if let Some(target) = &mut peer.target {
                        target.refresh(family);
                    }
                }
            }
            Command::BfdDown => {
                let notification = Notification::cease(CeaseSubcode::BfdDown);
                self.on_peer(now, id, |session, context| {
                    session.fail_established(&notification, "BFD says that the peer is gone", context);
                });
            }
            Command::Reset => {
                let notification = Notification::cease(CeaseSubcode::AdministrativeReset);
                self.on_peer(now, id, |session, context| {
                    session.reset(&notification, "reset by an operator", context);
                });
            }
        }
    }

    fn shut_down(&mut self, now: Instant, graceful: bool, message: &str) {
        // What is due goes out first, so that peers keep the latest.
        self.flush_last();
        self.stopped = true;
        let cease = Notification::cease_with_text(CeaseSubcode::AdministrativeShutdown, message);
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            let keeps = |peer: &Peer| {
                let agreed = peer.session.established().map(|(agreed, _)| agreed);
                graceful && agreed.is_some_and(|agreed| agreed.graceful.is_some())
            };
            let is_kept = self.peers.get(&id).is_some_and(keeps);
            let notification = (!is_kept).then_some(&cease);
            self.on_peer(now, id, |session, context| session.stop(notification, context));
        }
    }

    /// Sees to it that the queue wakes the peer in time. A deadline that moves away, as HoldTimer does with every
    /// message, is left as it is: when it comes nothing is due, and the next one is taken.
    fn arm(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let next = peer
            .session
            .deadline()
            .into_iter()
            .chain(peer.kept.deadline())
            .min();
        let is_early = matches!((peer.armed, next), (Some(armed), Some(next)) if armed <= next);
        if peer.armed != next && !is_early {
            if let Some(old) = std::mem::replace(&mut peer.armed, next) {
                self.timers.remove(&(old, id));
            }
            self.timers.extend(next.map(|at| (at, id)));
        }
    }
}

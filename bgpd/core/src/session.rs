//! One peer's session: the finite state machine of RFC 4271 §8 with its timers, over up to two connections.
//!
//! It sends and receives everything but UPDATE contents: what an UPDATE does, and what becomes of routes when the
//! session comes and goes, is told to the speaker as [`Effect`]s. It never looks at a routing table.

mod collision;
mod connection;
mod fsm;
pub(crate) mod negotiation;
mod timers;

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;
use rand::rngs::SmallRng;

use crate::config;
use crate::input::ConnId;
use crate::output::{Event, Output, Transport};
use crate::rib::way::PeerId;
use crate::snapshot::{Counters, SessionState};
use crate::wire::notification::Notification;
use crate::wire::refresh::Refresh;
use connection::{Conn, ConnState};
use negotiation::Agreed;

/// Who this speaker is towards a peer, when an OPEN is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) router_id: Ipv4Addr,
    /// The R bit of RFC 4724 §3.
    pub(crate) restarting: bool,
    /// The F bit.
    pub(crate) forwarding: bool,
}

/// What a session may use while it handles something.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) id: PeerId,
    pub(crate) identity: Identity,
    pub(crate) out: &'a mut VecDeque<Output>,
    pub(crate) rng: &'a mut SmallRng,
    pub(crate) next_conn: &'a mut u64,
    /// Which peer a connection belongs to.
    pub(crate) conns: &'a mut BTreeMap<ConnId, PeerId>,
    pub(crate) effects: &'a mut Vec<Effect>,
}

/// What the speaker has to do about it.
#[derive(Debug)]
pub(crate) enum Effect {
    /// The session is up.
    Up,
    /// It was up and is down.
    Down {
        reason: String,
        /// Routes may be kept as stale, if the peer agreed to restart gracefully.
        graceful: Option<Agreed>,
    },
    /// Body of an UPDATE.
    Update(Bytes),
    Refresh(Refresh),
    /// A KEEPALIVE while established.
    Keepalive,
}

/// The session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) config: config::Peer,
    pub(crate) local_as: u32,
    /// The AS number that the peer last said, where the configuration leaves it open.
    learned_as: Option<u32>,
    conns: Vec<Conn>,
    /// ConnectRetryTimer.
    retry_at: Option<Instant>,
    /// IdleHoldTimer; connections are refused until then when `refuses`.
    idle_until: Option<Instant>,
    refuses: bool,
    stopped: bool,
    /// Length of the next idle hold.
    idle_hold: Duration,
    /// Sessions in a row that ended soon after they were up.
    short_sessions: u32,
    shown: (SessionState, Instant),
    pub(crate) established_count: u64,
    pub(crate) last_error: Option<(Instant, String)>,
    pub(crate) counters: Counters,
}

impl Session {
    pub(crate) fn new(config: config::Peer, local_as: u32, now: Instant) -> Self {
        let idle_hold = Duration::from_secs(u64::from(config.timers.error_wait_min_seconds));
        Self {
            config,
            local_as,
            learned_as: None,
            conns: Vec::new(),
            retry_at: None,
            idle_until: None,
            refuses: false,
            stopped: false,
            idle_hold,
            short_sessions: 0,
            shown: (SessionState::Idle, now),
            established_count: 0,
            last_error: None,
            counters: Counters::default(),
        }
    }

    /// The peer's AS number, as far as it is known.
    pub(crate) fn remote_as(&self) -> u32 {
        self.learned_as.unwrap_or(self.config.remote_as)
    }

    pub(crate) fn is_ebgp(&self) -> bool {
        self.local_as != self.remote_as()
    }

    /// Whether nothing happens on it and nothing is waited for.
    pub(crate) fn is_vacant(&self) -> bool {
        self.conns.is_empty() && self.idle_until.is_none()
    }

    fn transport(&self) -> Transport {
        transport(&self.config, self.local_as)
    }

    pub(crate) fn state(&self) -> SessionState {
        let of = |conn: &Conn| match conn.state {
            ConnState::Connect => SessionState::Connect,
            ConnState::OpenSent => SessionState::OpenSent,
            ConnState::OpenConfirm => SessionState::OpenConfirm,
            ConnState::Established => SessionState::Established,
        };
        match self.conns.iter().map(of).max() {
            Some(state) => state,
            None if self.config.shutdown || self.stopped || self.idle_until.is_some() => SessionState::Idle,
            None => SessionState::Active,
        }
    }

    /// Since when it has been in its state.
    pub(crate) fn state_since(&self) -> Instant {
        self.shown.1
    }

    pub(crate) fn note_state(&mut self, now: Instant) {
        let state = self.state();
        if self.shown.0 != state {
            self.shown = (state, now);
        }
    }

    /// What the established session has agreed on, with its connection.
    pub(crate) fn established(&self) -> Option<(&Agreed, &Conn)> {
        let conn = self
            .conns
            .iter()
            .find(|conn| conn.state == ConnState::Established)?;
        Some((conn.agreed.as_ref()?, conn))
    }

    /// Begins to connect and to accept (ManualStart).
    pub(crate) fn start(&mut self, context: &mut Context<'_>) {
        if self.config.shutdown || self.stopped {
            return;
        }
        self.idle_until = None;
        self.refuses = false;
        if !self.config.passive {
            let delay = Duration::from_secs(u64::from(self.config.timers.connect_delay_seconds));
            self.retry_at = Some(context.now + delay);
        }
        self.tick(context);
    }

    /// Ends all connections and begins nothing any more (ManualStop). Without a NOTIFICATION the peer may keep routes.
    pub(crate) fn stop(&mut self, notification: Option<&Notification>, context: &mut Context<'_>) {
        self.stopped = true;
        self.retry_at = None;
        self.idle_until = None;
        while let Some(conn) = self.conns.last().map(|conn| conn.id) {
            self.end(conn, notification, "stopped here", context);
        }
        self.note_state(context.now);
    }

    /// Ends all connections with this NOTIFICATION and begins again, as an operator wants it.
    pub(crate) fn reset(&mut self, notification: &Notification, reason: &str, context: &mut Context<'_>) {
        while let Some(conn) = self.conns.last().map(|conn| conn.id) {
            self.end(conn, Some(notification), reason, context);
        }
        self.reconnect(context);
        self.note_state(context.now);
    }

    /// Sends octets on the established connection.
    pub(crate) fn send(
        &mut self,
        bytes: Bytes,
        now: Instant,
        out: &mut VecDeque<Output>,
        rng: &mut SmallRng,
    ) {
        if let Some(conn) = self
            .conns
            .iter_mut()
            .find(|conn| conn.state == ConnState::Established)
        {
            // RFC 4271 §4.4: an UPDATE does what a KEEPALIVE does.
            conn.arm_keepalive(now, rng);
            out.push_back(Output::Send { conn: conn.id, bytes });
        }
    }

    pub(crate) fn set_blocked(&mut self, id: ConnId, blocked: bool, now: Instant) {
        let timers = self.config.timers;
        if let Some(conn) = self.conns.iter_mut().find(|conn| conn.id == id) {
            let hold = conn.agreed.as_ref().map_or(0, |agreed| agreed.hold_seconds);
            // RFC 9687 §4.
            let wait = timers
                .send_hold_seconds
                .unwrap_or_else(|| hold.saturating_mul(2).max(480));
            conn.send_deadline = (blocked && hold > 0).then(|| {
                conn.send_deadline
                    .unwrap_or(now + Duration::from_secs(u64::from(wait)))
            });
            conn.blocked = blocked;
        }
    }

    fn note_error(&mut self, reason: &str, now: Instant) {
        self.last_error = Some((now, reason.to_owned()));
    }

    fn report_error(&mut self, reason: &str, context: &mut Context<'_>) {
        self.note_error(reason, context.now);
        context.out.push_back(Output::Event(Event::PeerError {
            peer: self.config.name.clone(),
            reason: reason.to_owned(),
        }));
    }
}

/// What the sockets of a peer need (RFC 4271 §5.1.3 for TTL 1, RFC 5082 §3).
pub(crate) fn transport(peer: &config::Peer, local_as: u32) -> Transport {
    let (ttl, min_ttl) = match peer.ttl_security_hops {
        Some(hops) => (255, Some(255 - hops.saturating_sub(1))),
        None if peer.remote_as != local_as && !peer.multihop => (1, None),
        None => (64, None),
    };
    Transport {
        address: peer.address,
        source: peer.local_address,
        md5: peer.password.clone(),
        ttl,
        min_ttl,
    }
}

/// RFC 4271 §10: timers are shortened by up to a quarter, so that speakers do not march in step.
pub(crate) fn jittered(time: Duration, rng: &mut SmallRng) -> Duration {
    time.mul_f64(rng.random_range(0.75..1.0))
}

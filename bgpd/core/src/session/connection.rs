//! One TCP connection of a session: its state, its timers, its OPENs.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;

use super::jittered;
use super::negotiation::Agreed;
use crate::input::ConnId;
use crate::wire::open::Open;

/// States of RFC 4271 §8.2.2 that belong to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ConnState {
    /// Asked for.
    Connect,
    /// OPEN sent.
    OpenSent,
    /// OPEN received.
    OpenConfirm,
    /// KEEPALIVE received.
    Established,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) id: ConnId,
    pub(crate) state: ConnState,
    /// Own address.
    pub(crate) local: Option<IpAddr>,
    pub(super) since: Instant,
    /// When it stood as a TCP connection.
    pub(super) opened: Instant,
    /// HoldTimer, or the end of waiting for TCP.
    pub(super) deadline: Option<Instant>,
    /// HoldTimer was put off once, since nothing is known to have been heard after a standstill.
    pub(super) has_grace: bool,
    pub(super) keepalive_at: Option<Instant>,
    pub(super) send_deadline: Option<Instant>,
    pub(super) sent: Option<Open>,
    pub(super) agreed: Option<Agreed>,
    pub(crate) blocked: bool,
}

impl Conn {
    pub(super) fn new(id: ConnId, now: Instant) -> Self {
        Self {
            id,
            state: ConnState::Connect,
            local: None,
            since: now,
            opened: now,
            deadline: None,
            has_grace: false,
            keepalive_at: None,
            send_deadline: None,
            sent: None,
            agreed: None,
            blocked: false,
        }
    }

    pub(super) fn enter(&mut self, state: ConnState, now: Instant) {
        self.state = state;
        self.since = now;
    }

    pub(super) fn arm_hold(&mut self, now: Instant) {
        if let Some(agreed) = &self.agreed {
            let hold = agreed.hold_seconds;
            self.has_grace = false;
            self.deadline = (hold > 0).then(|| now + Duration::from_secs(u64::from(hold)));
        }
    }

    pub(super) fn arm_keepalive(&mut self, now: Instant, rng: &mut SmallRng) {
        let interval = self.agreed.as_ref().and_then(|agreed| agreed.keepalive);
        self.keepalive_at = interval.map(|interval| now + jittered(interval, rng));
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.deadline, self.keepalive_at, self.send_deadline]
            .into_iter()
            .flatten()
            .min()
    }
}

//! The session's timers: ConnectRetry, Hold, Keepalive, SendHold, IdleHold (RFC 4271 §8.1.3, §10; RFC 9687).

use std::time::{Duration, Instant};

use super::connection::{Conn, ConnState};
use super::{Context, Session, jittered};
use crate::input::ConnId;
use crate::output::Output;
use crate::wire::notification::{HOLD_TIMER_EXPIRED, Notification, SEND_HOLD_TIMER_EXPIRED};

/// Least time that a connection attempt gets.
const CONNECT_MIN: Duration = Duration::from_secs(5);

/// A timer that is found to be up for longer than this was not looked at: the process or its machine stood still.
const STANDSTILL: Duration = Duration::from_secs(2);
/// How long what the peer sent meanwhile may take to be read.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Sessions that end soon after they were up, from which on the next one has to wait.
const SHORT_SESSIONS_MAX: u32 = 3;

/// How soon a lost peer is dialled again.
const RECONNECT: Duration = Duration::from_secs(1);

impl Session {
    /// When `tick` has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let conns = self.conns.iter().filter_map(Conn::next_deadline);
        conns.chain(self.retry_at).chain(self.idle_until).min()
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if due(self.idle_until) {
            self.idle_until = None;
            self.refuses = false;
            if !self.config.passive && self.conns.is_empty() {
                self.retry_at = Some(now);
            }
        }
        let ids: Vec<ConnId> = self.conns.iter().map(|conn| conn.id).collect();
        for id in ids {
            self.tick_conn(id, context);
        }
        if due(self.retry_at) {
            self.retry_at = None;
            self.connect(context);
        }
        self.note_state(now);
    }

    fn tick_conn(&mut self, id: ConnId, context: &mut Context<'_>) {
        let now = context.now;
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let Some(conn) = self.conns.iter_mut().find(|conn| conn.id == id) else {
            return;
        };
        let stood_still = conn
            .deadline
            .is_some_and(|at| now.saturating_duration_since(at) > STANDSTILL);
        if stood_still && conn.state != ConnState::Connect && !conn.has_grace {
            // Whether the peer fell silent can be told only when what it sent meanwhile is read.
            conn.has_grace = true;
            conn.deadline = Some(now + CATCH_UP);
        } else if due(conn.deadline) && conn.state == ConnState::Connect {
            // RFC 4271 §8.2.2, ConnectRetryTimer_Expires: drop the attempt and begin another.
            self.end(id, None, "no answer to the connection attempt", context);
            self.retry_at = Some(now);
        } else if due(conn.deadline) {
            let notification = Notification::new(HOLD_TIMER_EXPIRED, 0, []);
            let reason = "hold timer expired: the peer fell silent";
            self.fail(id, &notification, reason, context);
        } else if due(conn.send_deadline) {
            let notification = Notification::new(SEND_HOLD_TIMER_EXPIRED, 0, []);
            let reason = "send hold timer expired: the peer does not read";
            self.fail(id, &notification, reason, context);
        } else if due(conn.keepalive_at) {
            conn.arm_keepalive(now, context.rng);
            self.send_keepalive(id, context);
        }
    }

    fn connect(&mut self, context: &mut Context<'_>) {
        let dials =
            |conn: &Conn| matches!(conn.id, ConnId::Outbound(_)) || conn.state == ConnState::Established;
        if self.stopped || self.config.shutdown || self.config.passive || self.conns.iter().any(dials) {
            return;
        }
        let id = ConnId::Outbound(*context.next_conn);
        *context.next_conn += 1;
        let mut conn = Conn::new(id, context.now);
        conn.deadline = Some(context.now + self.connect_retry().max(CONNECT_MIN));
        self.conns.push(conn);
        context.conns.insert(id, context.id);
        context.out.push_back(Output::Connect {
            conn: id,
            port: self.config.port,
            transport: self.transport(),
        });
    }

    fn connect_retry(&self) -> Duration {
        Duration::from_secs(u64::from(self.config.timers.connect_retry_seconds))
    }

    /// Arms ConnectRetryTimer.
    pub(super) fn retry_later(&mut self, context: &mut Context<'_>) {
        if !self.config.passive && !self.stopped {
            self.retry_at = Some(context.now + jittered(self.connect_retry(), context.rng));
        }
    }

    /// Dials soon, after a session that ended without a fault.
    pub(super) fn reconnect(&mut self, context: &mut Context<'_>) {
        if !self.config.passive && !self.stopped && !self.config.shutdown {
            self.retry_at = Some(context.now + jittered(RECONNECT, context.rng));
        }
    }

    /// Dials soon after a session that was lost, unless it is one of many that did not last (RFC 4271 §8.1.1,
    /// DampPeerOscillations): then nothing is done, and the peer is refused, for a while.
    pub(super) fn reconnect_or_damp(&mut self, context: &mut Context<'_>) {
        if self.short_sessions <= SHORT_SESSIONS_MAX {
            self.reconnect(context);
            return;
        }
        let count = self.short_sessions;
        self.hold_idle(true, context);
        let wait = self
            .idle_until
            .map_or(Duration::ZERO, |at| at - context.now)
            .as_secs();
        let reason = format!(
            "damped: {count} sessions in a row were lost soon after they were up; the next one waits {wait} s: look \
             at the link and at the peer's log"
        );
        self.report_error(&reason, context);
    }

    /// Waits in Idle, longer each time (DampPeerOscillations of RFC 4271 §8.1.1).
    pub(super) fn hold_idle(&mut self, refuses: bool, context: &mut Context<'_>) {
        if self.stopped || self.config.shutdown {
            return;
        }
        let longest = Duration::from_secs(u64::from(self.config.timers.error_wait_max_seconds));
        let shortest = Duration::from_secs(u64::from(self.config.timers.error_wait_min_seconds));
        let wait = self.idle_hold.clamp(shortest, longest.max(shortest));
        self.idle_hold = (wait * 2).min(longest);
        self.refuses = refuses;
        self.retry_at = None;
        self.idle_until = Some(context.now + jittered(wait, context.rng));
    }

    /// Begins again with the shortest idle hold, after a session that lasted.
    pub(super) fn forgive(&mut self, established_since: Instant, now: Instant) {
        let longest = Duration::from_secs(u64::from(self.config.timers.error_wait_max_seconds));
        if now.saturating_duration_since(established_since) > longest {
            self.idle_hold = Duration::ZERO;
            self.short_sessions = 0;
        } else {
            self.short_sessions = self.short_sessions.saturating_add(1);
        }
    }
}

//! Events of connections and messages (RFC 4271 §8.2.2; subcodes of RFC 6608).

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use super::connection::{Conn, ConnState};
use super::{Context, Effect, Session, negotiation};
use crate::input::ConnId;
use crate::output::Output;
use crate::wire::encode;
use crate::wire::framing::HEADER_LEN;
use crate::wire::message::Message;
use crate::wire::notification::{CeaseSubcode, FSM_ERROR, HOLD_TIMER_EXPIRED, Notification};
use crate::wire::open::Open;

/// RFC 4271 §8.2.2: the hold time while an OPEN is awaited.
const OPEN_WAIT: Duration = Duration::from_secs(240);

impl Session {
    /// A TCP connection stands: one that was asked for, or one from the peer.
    pub(crate) fn connected(&mut self, id: ConnId, local: IpAddr, context: &mut Context<'_>) {
        let is_known = self.conns.iter().any(|conn| conn.id == id);
        if !is_known {
            self.drop_unanswered(context);
        }
        if !is_known && !self.accepts(id) {
            refuse(id, context);
            return;
        }
        if !is_known {
            self.conns.push(Conn::new(id, context.now));
            context.conns.insert(id, context.id);
        }
        let open = negotiation::open(&self.config, self.local_as, context.identity);
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        if let Some(conn) = self.conns.iter_mut().find(|conn| conn.id == id) {
            conn.local = Some(local);
            conn.opened = context.now;
            conn.deadline = Some(context.now + OPEN_WAIT);
            conn.sent = Some(open);
            conn.enter(ConnState::OpenSent, context.now);
        }
        self.transmit(id, bytes.into(), context);
        self.note_state(context.now);
    }

    /// A peer that connects again has given up the connection on which it never sent an OPEN.
    fn drop_unanswered(&mut self, context: &mut Context<'_>) {
        let silent =
            |conn: &&Conn| matches!(conn.id, ConnId::Inbound(_)) && conn.state == ConnState::OpenSent;
        if let Some(id) = self.conns.iter().find(silent).map(|conn| conn.id) {
            let notification = Notification::cease(CeaseSubcode::ConnectionCollisionResolution);
            self.end(id, Some(&notification), "the peer connected again", context);
        }
    }

    fn accepts(&self, id: ConnId) -> bool {
        let inbound = matches!(id, ConnId::Inbound(_));
        let room = self.conns.len() < 2;
        inbound && room && !self.config.shutdown && !self.stopped && !self.refuses && self.accepts_second()
    }

    /// A connection that was asked for did not come about.
    pub(crate) fn connect_failed(&mut self, id: ConnId, reason: &str, context: &mut Context<'_>) {
        context.conns.remove(&id);
        self.conns.retain(|conn| conn.id != id);
        self.note_error(&format!("connection failed: {reason}"), context.now);
        self.retry_later(context);
        self.note_state(context.now);
    }

    /// The connection ended by itself.
    pub(crate) fn closed(&mut self, id: ConnId, reason: &str, context: &mut Context<'_>) {
        let Some(conn) = self.conns.iter().find(|conn| conn.id == id) else {
            return;
        };
        let state = conn.state;
        if state == ConnState::Connect {
            self.connect_failed(id, reason, context);
            return;
        }
        let reason = format!("connection lost: {reason}");
        self.note_error(&reason, context.now);
        self.end(id, None, &reason, context);
        if state == ConnState::Established {
            self.reconnect_or_damp(context);
        } else if self.conns.is_empty() {
            self.hold_idle(false, context);
        }
        self.note_state(context.now);
    }

    /// One message came.
    pub(crate) fn message(&mut self, id: ConnId, bytes: &Bytes, context: &mut Context<'_>) {
        let Some(conn) = self.conns.iter_mut().find(|conn| conn.id == id) else {
            return;
        };
        let state = conn.state;
        let extended = conn.agreed.as_ref().is_some_and(|agreed| agreed.extended_message);
        self.counters.messages_in += 1;
        let message = match Message::parse(bytes, extended) {
            Ok(message) => message,
            Err(notification) => {
                self.fail(
                    id,
                    &notification,
                    &format!("bad message: {notification}"),
                    context,
                );
                return;
            }
        };
        match (state, message) {
            (_, Message::Notification(notification)) => self.notified(id, &notification, context),
            (ConnState::OpenSent, Message::Open(open)) => self.opened(id, &open, context),
            (ConnState::OpenConfirm, Message::Keepalive) => self.establish(id, context),
            (ConnState::Established, Message::Keepalive) => {
                conn.arm_hold(context.now);
                context.effects.push(Effect::Keepalive);
            }
            (ConnState::Established, Message::Update(_)) => {
                conn.arm_hold(context.now);
                self.counters.updates_in += 1;
                let body = bytes.slice(HEADER_LEN.min(bytes.len())..);
                context.effects.push(Effect::Update(body));
            }
            (ConnState::Established, Message::Refresh(refresh)) => {
                conn.arm_hold(context.now);
                context.effects.push(Effect::Refresh(refresh));
            }
            (state, _) => {
                let subcode = match state {
                    ConnState::Connect => 0,
                    ConnState::OpenSent => 1,
                    ConnState::OpenConfirm => 2,
                    ConnState::Established => 3,
                };
                let notification = Notification::new(FSM_ERROR, subcode, []);
                self.fail(id, &notification, "the peer sent a message out of turn", context);
            }
        }
        self.note_state(context.now);
    }

    fn opened(&mut self, id: ConnId, open: &Open, context: &mut Context<'_>) {
        let sent = self.conns.iter().find(|conn| conn.id == id);
        let Some(sent) = sent.and_then(|conn| conn.sent.clone()) else {
            return;
        };
        let agreed = match negotiation::agree(&self.config, &sent, open) {
            Ok(agreed) => agreed,
            Err((notification, reason)) => {
                self.fail(id, &notification, &reason, context);
                return;
            }
        };
        if !self.resolve_collision(id, &sent, open, context) {
            return;
        }
        self.learned_as = Some(agreed.remote_as);
        if let Some(conn) = self.conns.iter_mut().find(|conn| conn.id == id) {
            conn.agreed = Some(agreed);
            conn.enter(ConnState::OpenConfirm, context.now);
            conn.arm_hold(context.now);
            conn.arm_keepalive(context.now, context.rng);
        }
        self.send_keepalive(id, context);
    }

    fn establish(&mut self, id: ConnId, context: &mut Context<'_>) {
        // The collision rule has let at most one through; one that only dials is not needed any more.
        let rest: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|conn| conn.state == ConnState::Connect)
            .map(|conn| conn.id)
            .collect();
        for other in rest {
            self.end(other, None, "another connection was faster", context);
        }
        self.retry_at = None;
        self.idle_until = None;
        self.refuses = false;
        if let Some(conn) = self.conns.iter_mut().find(|conn| conn.id == id) {
            conn.enter(ConnState::Established, context.now);
            conn.arm_hold(context.now);
        }
        self.established_count += 1;
        context.effects.push(Effect::Up);
    }

    fn notified(&mut self, id: ConnId, notification: &Notification, context: &mut Context<'_>) {
        self.counters.notifications_in += 1;
        let collision = *notification == Notification::cease(CeaseSubcode::ConnectionCollisionResolution);
        let reason = format!("the peer ended the session: {notification}");
        // RFC 8538 §4: any but a Hard Reset is survived, where both have said so.
        let may_keep = self.survives(id) && !notification.is_hard_reset();
        self.finish(id, &reason, may_keep, context);
        // The loser of a collision is no trouble while the winner stands.
        if !collision || self.conns.is_empty() {
            self.report_error(&reason, context);
        }
        if self.conns.is_empty() {
            self.hold_idle(false, context);
        }
    }

    /// Ends a connection because of an error of the peer's, and waits.
    pub(crate) fn fail(
        &mut self,
        id: ConnId,
        notification: &Notification,
        reason: &str,
        context: &mut Context<'_>,
    ) {
        self.end(id, Some(notification), reason, context);
        self.report_error(reason, context);
        if self.conns.is_empty() {
            // A peer that was away is welcome as soon as it is back; one that misbehaves has to wait.
            let was_away = notification.code == HOLD_TIMER_EXPIRED
                || *notification == Notification::cease(CeaseSubcode::BfdDown);
            self.hold_idle(!was_away, context);
        }
        self.note_state(context.now);
    }

    /// Ends the established connection because of an error in what it carried.
    pub(crate) fn fail_established(
        &mut self,
        notification: &Notification,
        reason: &str,
        context: &mut Context<'_>,
    ) {
        if let Some(id) = self.established().map(|(_, conn)| conn.id) {
            self.fail(id, notification, reason, context);
        }
    }

    /// Whether routes outlive a NOTIFICATION on this connection.
    fn survives(&self, id: ConnId) -> bool {
        let conn = self.conns.iter().find(|conn| conn.id == id);
        conn.and_then(|conn| conn.agreed.as_ref())
            .is_some_and(negotiation::Agreed::survives_notification)
    }

    /// Sends the NOTIFICATION, if any, and closes. Routes may be kept only without one (RFC 4724 §4.2, §5), or where
    /// both have said that they survive it; what is final is then said as a Hard Reset (RFC 8538 §3, §5).
    pub(super) fn end(
        &mut self,
        id: ConnId,
        notification: Option<&Notification>,
        reason: &str,
        context: &mut Context<'_>,
    ) {
        let stands = |conn: &Conn| conn.id == id && conn.state != ConnState::Connect;
        let survives = self.survives(id);
        let is_final = notification.is_some_and(Notification::is_final);
        if let Some(notification) = notification
            && self.conns.iter().any(stands)
        {
            let mut bytes = Vec::new();
            if survives && is_final {
                notification.clone().into_hard_reset().encode(&mut bytes);
            } else {
                notification.encode(&mut bytes);
            }
            self.counters.notifications_out += 1;
            self.transmit(id, bytes.into(), context);
        }
        let may_keep = notification.is_none() || (survives && !is_final);
        self.finish(id, reason, may_keep, context);
    }

    fn finish(&mut self, id: ConnId, reason: &str, may_keep: bool, context: &mut Context<'_>) {
        context.out.push_back(Output::Close { conn: id });
        context.conns.remove(&id);
        let Some(at) = self.conns.iter().position(|conn| conn.id == id) else {
            return;
        };
        let conn = self.conns.remove(at);
        if conn.state == ConnState::Established {
            self.forgive(conn.since, context.now);
            context.effects.push(Effect::Down {
                reason: reason.to_owned(),
                graceful: conn.agreed.filter(|_| may_keep),
            });
        }
    }

    pub(super) fn send_keepalive(&mut self, id: ConnId, context: &mut Context<'_>) {
        let mut bytes = Vec::new();
        encode::keepalive(&mut bytes);
        self.transmit(id, bytes.into(), context);
    }

    fn transmit(&mut self, id: ConnId, bytes: Bytes, context: &mut Context<'_>) {
        self.counters.messages_out += 1;
        context.out.push_back(Output::Send { conn: id, bytes });
    }
}

/// Answers a connection that is not wanted (RFC 4486 §4).
pub(crate) fn refuse(id: ConnId, context: &mut Context<'_>) {
    let mut bytes = Vec::new();
    Notification::cease(CeaseSubcode::ConnectionRejected).encode(&mut bytes);
    context.out.push_back(Output::Send {
        conn: id,
        bytes: bytes.into(),
    });
    context.out.push_back(Output::Close { conn: id });
}

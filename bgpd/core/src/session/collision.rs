//! Connection collision detection (RFC 4271 §6.8; RFC 6286 §2.3; RFC 4724 §4.2).

use std::time::Duration;

use super::connection::{Conn, ConnState};
use super::{Context, Session};
use crate::input::ConnId;
use crate::wire::notification::{CeaseSubcode, Notification};
use crate::wire::open::Open;

/// How far apart two connections may be that both sides opened at once, by the time each side accepts them.
const SIMULTANEOUS: Duration = Duration::from_secs(5);

impl Session {
    /// Called with a good OPEN on `id`, before it goes on. Returns whether that connection is to go on.
    pub(super) fn resolve_collision(
        &mut self,
        id: ConnId,
        sent: &Open,
        received: &Open,
        context: &mut Context<'_>,
    ) -> bool {
        let Some(this) = self.conns.iter().find(|conn| conn.id == id) else {
            return false;
        };
        let Some(other) = self.conns.iter().find(|conn| conn.id != id) else {
            return true;
        };
        let other_id = other.id;
        let is_newer = other.state == ConnState::Established && this.opened > other.since + SIMULTANEOUS;
        match other.state {
            // Its OPEN will come and decide.
            ConnState::Connect | ConnState::OpenSent => return true,
            ConnState::Established if is_newer => {
                if restarts_gracefully(other) {
                    // RFC 4724 §4.2: the peer has restarted, and the old connection just does not know yet.
                    self.end(other_id, None, "the peer restarted and connected again", context);
                    return true;
                }
                self.lose(id, context);
                return false;
            }
            // Two connections that were opened at once are decided by the same rule on both sides, wherever each of
            // the two stands by now; were `Established` to win, each side might keep another one.
            ConnState::OpenConfirm | ConnState::Established => {}
        }
        // The speaker with the higher identifier keeps the connection that it opened; the AS number decides a tie.
        let own_wins = (sent.router_id, sent.as_number) > (received.router_id, received.as_number);
        let keeps_this = own_wins == matches!(id, ConnId::Outbound(_));
        self.lose(if keeps_this { other_id } else { id }, context);
        keeps_this
    }

    /// Whether another connection may come while this session is established.
    pub(super) fn accepts_second(&self) -> bool {
        self.conns
            .iter()
            .find(|conn| conn.state == ConnState::Established)
            .is_none_or(restarts_gracefully)
    }

    fn lose(&mut self, id: ConnId, context: &mut Context<'_>) {
        let notification = Notification::cease(CeaseSubcode::ConnectionCollisionResolution);
        self.end(
            id,
            Some(&notification),
            "connection collision resolution",
            context,
        );
    }
}

fn restarts_gracefully(conn: &Conn) -> bool {
    conn.agreed
        .as_ref()
        .is_some_and(|agreed| agreed.graceful.is_some())
}

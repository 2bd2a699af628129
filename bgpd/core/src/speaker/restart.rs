//! The restarting speaker (RFC 4724 §4.1): no route is decided before the peers have said all, or have had their time.

use std::time::{Duration, Instant};

use super::Speaker;
use super::peer::Peer;
use crate::config::Config;
use crate::family::Family;
use crate::output::{Event, Output};
use crate::rib::way::PeerId;

/// A restart that is going on.
#[derive(Debug, Default)]
pub(crate) struct Restart {
    /// Selection_Deferral_Timer; it runs from the first configuration.
    deadline: Option<Instant>,
    expired: bool,
    /// Routes are decided and sent; what is left is to wait with the kernel routes that nobody has confirmed.
    selects: bool,
}

impl Restart {
    /// Whether no route may be decided yet.
    pub(super) fn defers(&self) -> bool {
        !self.selects
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.filter(|_| !self.expired)
    }

    pub(super) fn begin(&mut self, now: Instant, config: &Config) {
        let wait = Duration::from_secs(u64::from(config.deferral_seconds));
        self.deadline.get_or_insert(now + wait);
    }

    pub(super) fn note_time(&mut self, now: Instant) {
        self.expired |= self.deadline.is_some_and(|at| at <= now);
    }
}

impl Speaker {
    /// Takes an End-of-RIB marker.
    pub(super) fn end_of_rib(&mut self, id: PeerId, family: Family) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.awaited.retain(|awaited| *awaited != family);
        peer.is_complete |= peer.awaited.is_empty();
        self.sweep_stale(id, family);
    }

    /// A peer that does not announce graceful restart may send no marker: its first KEEPALIVE after the session is up
    /// comes after its routes.
    pub(super) fn implicit_end_of_rib(&mut self, id: PeerId) {
        let waits = |peer: &Peer| {
            let agreed = peer.session.established().map(|(agreed, _)| agreed);
            !peer.awaited.is_empty() && agreed.is_some_and(|agreed| agreed.graceful.is_none())
        };
        if self.peers.get(&id).is_some_and(waits) {
            for family in Family::ALL {
                self.end_of_rib(id, family);
            }
        }
    }

    /// Ends the restart when everybody is heard or the time is up.
    ///
    /// Selection does not wait for peers that restart themselves (RFC 4724 §4.1: two would wait for each other). Their
    /// routes still come a moment later, and FRR says that it restarts in every OPEN of its first minutes: the kernel
    /// routes of before stay until these have sent all, too. And both wait for what the kernel says of next hops: a route
    /// whose next hop is not known yet would leave peers and kernel for a moment.
    pub(super) fn check_restart(&mut self) {
        if self.config.is_none() || self.stopped {
            return;
        }
        let waited_for = |peer: &&Peer| !peer.session.config.shutdown && !peer.is_complete;
        let awaits_next_hops = self.table.awaits_next_hops();
        let deferred_for = |peer: &Peer| waited_for(&peer) && !peer.is_restarting;
        let Some(restart) = &mut self.restart else { return };
        let is_deferred = awaits_next_hops || self.peers.values().any(deferred_for);
        if restart.defers() && (restart.expired || !is_deferred) {
            restart.selects = true;
        }
        let is_waiting = awaits_next_hops || self.peers.values().any(|peer| waited_for(&peer));
        if !restart.expired && is_waiting {
            return;
        }
        restart.selects = true;
        let missing = self.peers.values().filter(waited_for);
        let missing = missing.map(|peer| peer.session.config.name.clone()).collect();
        // Routes come before the permission to sweep what has none.
        self.flush();
        self.restart = None;
        let complete = Event::RestartComplete { missing };
        self.out.push_back(Output::Event(complete));
    }
}

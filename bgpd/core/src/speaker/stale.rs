//! Routes that outlive their session: kept for the restart time (RFC 4724 §4.2), then for long as the last choice
//! (RFC 9494 §4.2), or until they are sent again after a refresh (RFC 7313 §4).

use std::time::{Duration, Instant};

use super::Speaker;
use crate::family::Family;
use crate::rib::path::Stale;
use crate::rib::table::Visit;
use crate::rib::way::{Key, PeerId};
use crate::session::negotiation::Agreed;

/// Longest wait for the End-of-RIB of a peer that is back (RFC 4724 §4.2 leaves it to the speaker).
const STALE_MAX: Duration = Duration::from_secs(360);

/// What is kept of a peer, and for how long.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Some of its routes may be stale.
    has_stale: bool,
    /// When those kept gracefully go, or are kept long from then on.
    until: Option<Instant>,
    /// Seconds for which they may be kept after that, by family.
    long_seconds: [u32; 2],
    /// When those kept long go, by family.
    long_until: [Option<Instant>; 2],
}

impl Kept {
    /// When something is to be done about them.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let long = self.long_until.iter().flatten().copied();
        self.until.into_iter().chain(long).min()
    }

    /// Whether routes wait for their peer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.deadline().is_some()
    }

    /// Whether routes are kept past the restart time.
    pub(crate) fn is_long(&self) -> bool {
        self.long_until.iter().any(Option::is_some)
    }
}

impl Speaker {
    /// Keeps of a peer whose session ended what both have agreed on, and removes the rest; whether anything is kept.
    pub(super) fn keep_stale(&mut self, now: Instant, id: PeerId, graceful: Option<&Agreed>) -> bool {
        let restart = graceful.and_then(|agreed| agreed.graceful.as_ref());
        let wait = restart.map_or(0, |restart| restart.restart_seconds);
        let long_seconds =
            Family::ALL.map(|family| graceful.map_or(0, |agreed| agreed.stale_seconds(family)));
        let waits = Family::ALL.map(|family| {
            let families = restart.iter().flat_map(|restart| &restart.families);
            wait > 0 && families.into_iter().any(|(of, _)| *of == family)
        });
        let is_kept = |family: Family| waits[family.index()] || long_seconds[family.index()] > 0;
        let Some(peer) = self.peers.get_mut(&id) else {
            return false;
        };
        let any = Family::ALL.into_iter().any(is_kept);
        peer.awaited.clear();
        peer.kept.has_stale |= any;
        peer.kept.long_seconds = long_seconds;
        peer.kept.until = waits
            .contains(&true)
            .then(|| now + Duration::from_secs(u64::from(wait)));
        // What is stale already has had its restart time.
        for family in Family::ALL
            .into_iter()
            .filter(|family| long_seconds[family.index()] > 0)
        {
            self.begin_long(now, id, family);
        }
        self.table.visit(Key::Peer(id), &mut self.out, |prefix, path| {
            match path.stale {
                _ if !is_kept(Family::of_prefix(prefix)) => return Visit::Remove,
                Stale::Graceful => return Visit::Remove,
                Stale::No => path.stale = Stale::Graceful,
                Stale::LongLived => {}
            }
            Visit::Keep
        });
        for family in Family::ALL {
            if !is_kept(family) {
                self.end_long(id, family);
            } else if !waits[family.index()] {
                // RFC 9494 §4.2: a restart time of zero.
                self.begin_long(now, id, family);
            }
        }
        any
    }

    /// Keeps on what the peer says that it still forwards, now that it is back.
    pub(super) fn resume_stale(&mut self, now: Instant, id: PeerId, agreed: &Agreed) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.kept.is_waiting() {
            peer.kept.until = Some(now + STALE_MAX);
        }
        let carried = |family| agreed.families.contains(&family);
        let graceful = |family| {
            let families = agreed.graceful.iter().flat_map(|graceful| &graceful.families);
            carried(family) && families.into_iter().any(|said| *said == (family, true))
        };
        let long = |family| {
            let mut entries = agreed.long_lived.iter().flatten();
            carried(family) && entries.any(|entry| entry.family == family && entry.forwarding)
        };
        self.sweep(id, |family, stale| match stale {
            Stale::No => true,
            Stale::Graceful => graceful(family),
            Stale::LongLived => long(family),
        });
        for family in Family::ALL.into_iter().filter(|family| !long(*family)) {
            self.end_long(id, family);
        }
    }

    /// Marks a family's routes until they are sent again.
    pub(super) fn mark_stale(&mut self, id: PeerId, family: Family) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.kept.has_stale = true;
        self.table.visit(Key::Peer(id), &mut self.out, |prefix, path| {
            if Family::of_prefix(prefix) == family {
                path.stale = path.stale.max(Stale::Graceful);
            }
            Visit::Keep
        });
    }

    /// Removes what was not sent again, of one family.
    pub(super) fn sweep_stale(&mut self, id: PeerId, family: Family) {
        self.sweep(id, |of, stale| stale == Stale::No || of != family);
        self.end_long(id, family);
    }

    /// Removes the stale routes for which `stays` does not hold.
    fn sweep(&mut self, id: PeerId, stays: impl Fn(Family, Stale) -> bool) {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.kept.has_stale) else {
            return;
        };
        let mut left = false;
        self.table.visit(Key::Peer(id), &mut self.out, |prefix, path| {
            if stays(Family::of_prefix(prefix), path.stale) {
                left |= path.stale != Stale::No;
                return Visit::Keep;
            }
            Visit::Remove
        });
        peer.kept.has_stale = left;
        if !left {
            peer.kept.until = None;
            peer.kept.long_until = [None; 2];
        }
    }

    /// Does what is due with stale routes.
    pub(super) fn expire_stale(&mut self, now: Instant, id: PeerId) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let is_up = peer.session.established().is_some();
        if due(peer.kept.until) {
            peer.kept.until = None;
            let seconds = peer.kept.long_seconds;
            for family in Family::ALL {
                if is_up {
                    self.sweep_stale(id, family);
                } else if seconds[family.index()] > 0 {
                    self.begin_long(now, id, family);
                } else {
                    self.sweep(id, |of, stale| of != family || stale != Stale::Graceful);
                }
            }
        }
        for family in Family::ALL {
            let until = self
                .peers
                .get(&id)
                .and_then(|peer| peer.kept.long_until[family.index()]);
            if due(until) {
                self.sweep(id, |of, stale| of != family || stale != Stale::LongLived);
                self.end_long(id, family);
            }
        }
    }

    /// Keeps long what was kept gracefully. A timer that runs goes on: nothing is kept for longer than was agreed.
    fn begin_long(&mut self, now: Instant, id: PeerId, family: Family) {
        if self.keep_long(id, family)
            && let Some(peer) = self.peers.get_mut(&id)
        {
            let wait = Duration::from_secs(u64::from(peer.kept.long_seconds[family.index()]));
            peer.kept.long_until[family.index()].get_or_insert(now + wait);
        }
    }

    fn end_long(&mut self, id: PeerId, family: Family) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.kept.long_until[family.index()] = None;
        }
    }
}

//! A peer as the speaker holds it: session, export side, staleness; and what its coming and going does to routes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Speaker;
use super::groups::{Target, WalkKind};
use crate::family::Family;
use crate::output::{Event, Output};
use crate::policy::eval::Chain;
use crate::rib::table::Visit;
use crate::rib::way::{Key, PeerId, PeerInfo};
use crate::session::Session;
use crate::session::negotiation::Agreed;
use crate::wire::mp::NextHop;
use crate::wire::refresh::{Refresh, RefreshKind};

/// Longest wait for the End-of-RIB of a peer that is back (RFC 4724 §4.2 leaves it to the speaker).
const STALE_MAX: Duration = Duration::from_secs(360);

/// A peer.
pub(crate) struct Peer {
    pub(crate) session: Session,
    pub(crate) import: Arc<Chain>,
    pub(crate) export: Arc<Chain>,
    /// About the session that is or last was up.
    pub(crate) info: Option<Arc<PeerInfo>>,
    /// The export side of the session that is up.
    pub(crate) target: Option<Target>,
    /// The next hop of its last route, to be shared by those that follow.
    pub(crate) last_next_hop: Option<Arc<NextHop>>,
    /// Some of its routes may be stale.
    pub(crate) has_stale: bool,
    /// When stale routes go at the latest.
    pub(crate) stale_until: Option<Instant>,
    /// Families whose End-of-RIB is awaited.
    pub(crate) awaited: Vec<Family>,
    /// It has been up and has sent all it had since this process started.
    pub(crate) is_complete: bool,
    /// What is in the queue of timers.
    pub(crate) armed: Option<Instant>,
}

impl Peer {
    pub(crate) fn new(session: Session, import: Arc<Chain>, export: Arc<Chain>) -> Self {
        Self {
            session,
            import,
            export,
            info: None,
            target: None,
            last_next_hop: None,
            has_stale: false,
            stale_until: None,
            awaited: Vec::new(),
            is_complete: false,
            armed: None,
        }
    }

    pub(crate) fn families(&self) -> Vec<Family> {
        let agreed = self.session.established();
        agreed
            .map(|(agreed, _)| agreed.families.clone())
            .unwrap_or_default()
    }

    pub(crate) fn carries(&self, family: Family) -> bool {
        self.families().contains(&family)
    }
}

impl Speaker {
    pub(super) fn peer_up(&mut self, now: Instant, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some((agreed, conn)) = peer.session.established() else {
            return;
        };
        let config = &peer.session.config;
        peer.info = Some(Arc::new(PeerInfo {
            id,
            name: config.name.clone(),
            address: config.address,
            local: conn.local.unwrap_or(config.address),
            router_id: agreed.router_id,
            ebgp: agreed.ebgp,
            cluster: config.reflector_client,
        }));
        let families = agreed.families.clone();
        let graceful = agreed.graceful.clone();
        peer.awaited.clone_from(&families);
        peer.is_complete = graceful.as_ref().is_some_and(|peer| peer.restarting);
        let name = config_name(peer);
        if peer.stale_until.is_some() {
            peer.stale_until = Some(now + STALE_MAX);
        }
        self.out.push_back(Output::Event(Event::PeerUp { peer: name }));
        self.join_group(id, WalkKind::Initial);
        // RFC 4724 §4.2: families that are gone, or whose forwarding state was lost, are swept at once.
        for family in Family::ALL {
            let kept = graceful.as_ref().is_some_and(|graceful| {
                families.contains(&family) && graceful.families.contains(&(family, true))
            });
            if !kept {
                self.sweep_stale(id, Some(family));
            }
        }
    }

    pub(super) fn peer_down(&mut self, now: Instant, id: PeerId, reason: String, graceful: Option<Agreed>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let restart = graceful.as_ref().and_then(|agreed| agreed.graceful.as_ref());
        let kept: Vec<Family> = match restart {
            Some(restart) if restart.restart_seconds > 0 => {
                restart.families.iter().map(|(family, _)| *family).collect()
            }
            _ => Vec::new(),
        };
        let wait = restart.map_or(0, |restart| restart.restart_seconds);
        peer.awaited.clear();
        peer.has_stale = !kept.is_empty();
        peer.stale_until = (!kept.is_empty()).then(|| now + Duration::from_secs(u64::from(wait)));
        self.out.push_back(Output::Event(Event::PeerDown {
            peer: config_name(peer),
            reason,
            routes_kept: !kept.is_empty(),
        }));
        self.leave_group(id);
        self.table.visit(Key::Peer(id), &mut self.out, |prefix, path| {
            let family = Family::of_prefix(prefix);
            // RFC 4724 §4.2: what is stale already has had its time.
            if kept.contains(&family) && !path.stale {
                path.stale = true;
                return Visit::Keep;
            }
            Visit::Remove
        });
    }

    /// Marks a family's routes until they are sent again.
    pub(super) fn mark_stale(&mut self, id: PeerId, family: Family) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.has_stale = true;
        self.table.visit(Key::Peer(id), &mut self.out, |prefix, path| {
            path.stale |= Family::of_prefix(prefix) == family;
            Visit::Keep
        });
    }

    /// Removes what was not sent again, of one family or of all.
    pub(super) fn sweep_stale(&mut self, id: PeerId, family: Option<Family>) {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.has_stale) else {
            return;
        };
        let mut left = false;
        self.table.visit(Key::Peer(id), &mut self.out, |prefix, path| {
            let of = Family::of_prefix(prefix);
            if !path.stale {
                return Visit::Keep;
            }
            if family.is_some_and(|family| family != of) {
                left = true;
                return Visit::Keep;
            }
            Visit::Remove
        });
        peer.has_stale = left;
        if !left {
            peer.stale_until = None;
        }
    }

    pub(super) fn expire_stale(&mut self, now: Instant, id: PeerId) {
        let due = |peer: &Peer| peer.stale_until.is_some_and(|at| at <= now);
        if self.peers.get(&id).is_some_and(due) {
            self.sweep_stale(id, None);
        }
    }

    pub(super) fn request_refresh(&mut self, now: Instant, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let can = |peer: &Peer| {
            peer.session
                .established()
                .is_some_and(|(agreed, _)| agreed.route_refresh)
        };
        if !can(peer) {
            let reason = "routes cannot be asked for: the session is down or lacks route refresh; reset it";
            self.out.push_back(Output::Event(Event::PeerError {
                peer: config_name(peer),
                reason: reason.to_owned(),
            }));
            return;
        }
        let mut bytes = Vec::new();
        for family in peer.families() {
            Refresh::encode(family, RefreshKind::Request, &mut bytes);
            peer.session.counters.messages_out += 1;
        }
        peer.session.send(bytes.into(), now, &mut self.out, &mut self.rng);
        self.arm(id);
    }
}

fn config_name(peer: &Peer) -> String {
    peer.session.config.name.clone()
}

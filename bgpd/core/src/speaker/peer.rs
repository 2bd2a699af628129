//! A peer as the speaker holds it: session, export side, staleness; and what its coming and going does to routes.

use std::sync::Arc;
use std::time::Instant;

use super::Speaker;
use super::groups::{Target, WalkKind};
use super::stale::Kept;
use crate::family::Family;
use crate::output::{Event, Output};
use crate::policy::eval::Chain;
use crate::rib::way::{PeerId, PeerInfo};
use crate::session::Session;
use crate::session::negotiation::Agreed;
use crate::wire::mp::NextHop;
use crate::wire::refresh::{Refresh, RefreshKind};

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
    /// Its routes that outlived a session.
    pub(crate) kept: Kept,
    /// Families whose End-of-RIB is awaited.
    pub(crate) awaited: Vec<Family>,
    /// It has been up and has sent all it had since this process started.
    pub(crate) is_complete: bool,
    /// The peer of the configuration whose range it connected from.
    pub(crate) range: Option<String>,
    /// It said that it restarts itself when it last came up.
    pub(crate) is_restarting: bool,
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
            kept: Kept::default(),
            awaited: Vec::new(),
            is_complete: false,
            range: None,
            is_restarting: false,
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
            remote_as: agreed.remote_as,
            role: config.role.filter(|_| agreed.ebgp),
            cluster: config.reflector_client,
        }));
        let agreed = agreed.clone();
        peer.awaited.clone_from(&agreed.families);
        peer.is_complete = false;
        peer.is_restarting = agreed.graceful.as_ref().is_some_and(|peer| peer.restarting);
        let name = config_name(peer);
        self.out.push_back(Output::Event(Event::PeerUp { peer: name }));
        self.join_group(id, WalkKind::Initial);
        self.resume_stale(now, id, &agreed);
    }

    pub(super) fn peer_down(&mut self, now: Instant, id: PeerId, reason: String, graceful: Option<Agreed>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let peer = config_name(peer);
        self.leave_group(id);
        let routes_kept = self.keep_stale(now, id, graceful.as_ref());
        self.out.push_back(Output::Event(Event::PeerDown {
            peer,
            reason,
            routes_kept,
        }));
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

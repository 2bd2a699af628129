//! Peers that are known by the network they connect from: made when one connects, forgotten when nothing is left of
//! it.

use std::net::IpAddr;
use std::time::Instant;

use super::Speaker;
use super::peer::Peer;
use crate::config;
use crate::rib::way::PeerId;

impl Speaker {
    /// The peer for a connection from an address that no peer has.
    ///
    /// # Errors
    /// Why there is none, and what to do.
    pub(super) fn admit(&mut self, now: Instant, address: IpAddr) -> Result<PeerId, String> {
        let config = self.config.clone();
        let peers = config.iter().flat_map(|config| &config.peers);
        let of_range = peers.filter(|peer| !peer.shutdown).filter_map(|peer| {
            let range = peer.listen_range.filter(|range| range.contains(&address))?;
            Some((range.prefix_len(), peer))
        });
        let (Some((_, range)), Some(config)) = (of_range.max_by_key(|(length, _)| *length), &config) else {
            return Err("no peer has this address; add one or stop the other side".to_owned());
        };
        let limit = range.listen_limit;
        let members = self.members(&range.name).len();
        if members >= usize::try_from(limit).unwrap_or(usize::MAX) {
            return Err(format!(
                "peer {} has {members} peers from its listenRange; raise listenLimit, which is {limit}",
                range.name
            ));
        }
        self.add_peer(now, config, &range.member(address), Some(&range.name));
        let found = self.names.get(&range.member(address).name).copied();
        found.ok_or_else(|| "the peer could not be added".to_owned())
    }

    /// The peers that came from the range of the peer with this name.
    pub(super) fn members(&self, name: &str) -> Vec<PeerId> {
        let of = |peer: &Peer| peer.range.as_deref() == Some(name);
        let members = self.peers.iter().filter(|(_, peer)| of(peer));
        members.map(|(id, _)| *id).collect()
    }

    /// The peers that a peer of the configuration stands for, with the configuration of each.
    pub(super) fn standing_for(&self, peer: &config::Peer) -> Vec<(PeerId, config::Peer)> {
        if peer.listen_range.is_none() {
            let id = self.names.get(&peer.name).copied();
            return id.map(|id| (id, peer.clone())).into_iter().collect();
        }
        let members = self.members(&peer.name).into_iter();
        let of_member = |id: PeerId| {
            let address = self.peers.get(&id)?.session.config.address;
            Some((id, peer.member(address)))
        };
        members.filter_map(of_member).collect()
    }

    /// Forgets a peer from a range when its session is over, its wait is over and none of its routes is kept.
    pub(super) fn retire(&mut self, id: PeerId) {
        let is_over =
            |peer: &Peer| peer.range.is_some() && peer.session.is_vacant() && !peer.kept.is_waiting();
        if self.peers.get(&id).is_some_and(is_over) {
            self.forget_peer(id);
        }
    }

    /// Takes a peer of which nothing is left out of all lists.
    pub(super) fn forget_peer(&mut self, id: PeerId) {
        let Some(peer) = self.peers.remove(&id) else {
            return;
        };
        self.names.remove(&peer.session.config.name);
        self.table.forget(id);
        self.path_ids.forget(id);
        if let Some(at) = peer.armed {
            self.timers.remove(&(at, id));
        }
    }
}

//! The speaker's state as data.

use std::time::Instant;

use ipnet::IpNet;
use thiserror::Error;

use super::Speaker;
use super::peer::Peer;
use crate::policy::{PeerType, Source};
use crate::rib::adj_out::Advert;
use crate::rib::attrs::Attrs;
use crate::rib::path::{Path, PeerId};
use crate::rib::table::Entry;
use crate::snapshot::{PeerStatus, RouteQuery, RouteStatus, SpeakerStatus};
use crate::wire::{as_path, attribute};

/// No peer has this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no peer is called {0:?}; the status lists their names")]
pub struct UnknownPeer(pub String);

impl Speaker {
    /// Returns the state of the speaker and its peers. Before the first configuration it is AS 0 without peers.
    pub fn status(&self, now: Instant) -> SpeakerStatus {
        let config = self.config.as_deref();
        let mut peers: Vec<PeerStatus> = self
            .peers
            .values()
            .map(|peer| self.peer_status(peer, now))
            .collect();
        let accepted = self.accepted();
        for status in &mut peers {
            let id = self.names.get(&status.name);
            status.prefixes_accepted = id.and_then(|id| accepted.get(id)).copied().unwrap_or(0);
        }
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        SpeakerStatus {
            local_as: config.map_or(0, |config| config.local_as),
            router_id: config.map_or(std::net::Ipv4Addr::UNSPECIFIED, |config| config.router_id),
            restarting: self.restart.is_some(),
            prefixes: self.table.prefix_count(),
            paths: self.table.path_count(),
            peers,
        }
    }

    /// Returns the routes of one table, in the order of their prefixes.
    ///
    /// # Errors
    /// When no peer has the name.
    pub fn routes(&self, query: &RouteQuery) -> Result<Vec<RouteStatus>, UnknownPeer> {
        let find = |name: &String| {
            self.names
                .get(name)
                .copied()
                .ok_or_else(|| UnknownPeer(name.clone()))
        };
        match query {
            RouteQuery::LocRib => {
                let usable = |path: &Path| path.unusable.is_none() && self.table.is_reachable(path);
                Ok(self.paths(usable))
            }
            RouteQuery::AdjRibIn { peer } => {
                let id = find(peer)?;
                Ok(self.paths(|path| path.is_from(id)))
            }
            RouteQuery::AdjRibOut { peer } => {
                let id = find(peer)?;
                let sent = self
                    .peers
                    .get(&id)
                    .into_iter()
                    .flat_map(|peer| peer.adj_out.sent());
                Ok(sent.map(|(prefix, advert)| self.sent(*prefix, advert)).collect())
            }
        }
    }

    fn accepted(&self) -> std::collections::BTreeMap<PeerId, usize> {
        let mut counts = std::collections::BTreeMap::new();
        for (_, entry) in self.table.entries() {
            for path in entry.paths.iter().filter(|path| path.unusable.is_none()) {
                if let Some(info) = path.peer() {
                    *counts.entry(info.id).or_insert(0) += 1;
                }
            }
        }
        counts
    }

    fn peer_status(&self, peer: &Peer, now: Instant) -> PeerStatus {
        let session = &peer.session;
        let config = &session.config;
        let established = session.established();
        let agreed = established.map(|(agreed, _)| agreed);
        let since = |at: Instant| now.saturating_duration_since(at).as_secs();
        PeerStatus {
            name: config.name.clone(),
            address: config.address,
            local_address: established
                .and_then(|(_, conn)| conn.local)
                .or(config.local_address),
            remote_as: config.remote_as,
            local_as: session.local_as,
            peer_type: if session.is_ebgp() {
                PeerType::Ebgp
            } else {
                PeerType::Ibgp
            },
            passive: config.passive,
            router_id: agreed.map(|agreed| agreed.router_id),
            state: session.state(),
            state_seconds: since(session.state_since()),
            established_count: session.established_count,
            hold_seconds: agreed.map(|agreed| agreed.hold_seconds),
            routes_stale: peer.stale_until.is_some(),
            capabilities: agreed.map(|agreed| agreed.names()).unwrap_or_default(),
            last_error: session.last_error.as_ref().map(|(_, reason)| reason.clone()),
            last_error_seconds: session.last_error.as_ref().map(|(at, _)| since(*at)),
            counters: session.counters,
            prefixes_received: peer.received.iter().sum(),
            prefixes_accepted: 0,
            prefixes_sent: peer.adj_out.sent().len(),
        }
    }

    fn paths(&self, wanted: impl Fn(&Path) -> bool) -> Vec<RouteStatus> {
        let mut list = Vec::new();
        for (prefix, entry) in self.table.entries() {
            for (index, path) in entry.paths.iter().enumerate().filter(|(_, path)| wanted(path)) {
                list.push(self.path_status(*prefix, entry, index, path));
            }
        }
        list
    }

    fn path_status(&self, prefix: IpNet, entry: &Entry, index: usize, path: &Path) -> RouteStatus {
        let peer = path.peer();
        let selection = entry.selection.as_ref();
        let unreachable = || (!self.table.is_reachable(path)).then_some("the next hop is not reachable");
        let mut status = status_of(prefix, &path.attrs);
        status.source = path.source();
        status.peer = peer.map(|peer| peer.name.clone());
        status.peer_address = peer.map(|peer| peer.address);
        status.path_id = path.path_id;
        status.next_hop = path.next_hop.map(|hop| hop.address);
        status.interface = path.interface.as_deref().map(str::to_owned);
        status.best = selection.is_some_and(|selection| selection.best == index);
        status.multipath = selection.is_some_and(|selection| selection.equals.contains(&index));
        status.stale = path.stale;
        status.unusable = path.unusable.or_else(unreachable).map(str::to_owned);
        status.metric = path.metric;
        status
    }

    /// A route that a peer was sent; source and peer are those of the best path, which it was made of.
    fn sent(&self, prefix: IpNet, advert: &Advert) -> RouteStatus {
        let best = self.table.get(&prefix).and_then(Entry::best);
        let mut status = status_of(prefix, &advert.attrs);
        status.next_hop = Some(advert.next_hop.address);
        if let Some(path) = best {
            status.source = path.source();
            status.peer = path.peer().map(|peer| peer.name.clone());
            status.peer_address = path.peer().map(|peer| peer.address);
            status.metric = path.metric;
        }
        status
    }
}

fn status_of(prefix: IpNet, attrs: &Attrs) -> RouteStatus {
    let origin = match attrs.origin {
        0 => "IGP",
        1 => "EGP",
        _ => "incomplete",
    };
    RouteStatus {
        prefix,
        source: Source::Bgp,
        peer: None,
        peer_address: None,
        path_id: 0,
        next_hop: None,
        interface: None,
        best: false,
        multipath: false,
        stale: false,
        unusable: None,
        origin: origin.to_owned(),
        as_path: as_path::display(attrs.as_path()),
        local_pref: attrs.local_pref,
        med: attrs.med,
        metric: None,
        communities: attrs.communities().collect(),
        other: others(attrs),
    }
}

/// Attributes that have no field of their own, as `type: octets`.
fn others(attrs: &Attrs) -> Vec<String> {
    use std::fmt::Write;
    let shown = [
        attribute::ORIGIN,
        attribute::AS_PATH,
        attribute::MULTI_EXIT_DISC,
        attribute::LOCAL_PREF,
        attribute::COMMUNITIES,
        attribute::LARGE_COMMUNITY,
    ];
    let text = |found: attribute::Attribute<'_>| {
        let mut text = match found.kind {
            attribute::ATOMIC_AGGREGATE => "ATOMIC_AGGREGATE".to_owned(),
            attribute::AGGREGATOR => "AGGREGATOR ".to_owned(),
            attribute::ORIGINATOR_ID => "ORIGINATOR_ID ".to_owned(),
            attribute::CLUSTER_LIST => "CLUSTER_LIST ".to_owned(),
            attribute::EXTENDED_COMMUNITIES => "EXTENDED_COMMUNITIES ".to_owned(),
            kind => format!("attribute {kind} "),
        };
        for octet in found.value {
            // Writing to a String cannot fail.
            let _ = write!(text, "{octet:02x}");
        }
        text
    };
    attribute::walk(attrs.block())
        .map_while(Result::ok)
        .filter(|found| !shown.contains(&found.kind))
        .map(text)
        .collect()
}

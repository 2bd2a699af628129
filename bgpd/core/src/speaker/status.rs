//! The speaker's state as data.

use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use thiserror::Error;

use super::Speaker;
use super::groups::Target;
use super::paths;
use super::peer::Peer;
use crate::policy::{PeerType, Source};
use crate::rib::attrs::{Attrs, Interner};
use crate::rib::decision::Selection;
use crate::rib::entry::Entry;
use crate::rib::pack::Advert;
use crate::rib::path::{Path, Stale};
use crate::rib::way::{PeerId, Way};
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
        let peers = self.peers.iter();
        let mut peers: Vec<PeerStatus> = peers.map(|(id, peer)| self.peer_status(*id, peer, now)).collect();
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
                let usable = |path: &Path| path.is_usable() && self.table.is_reachable(path);
                Ok(self.paths(usable))
            }
            RouteQuery::AdjRibIn { peer } => {
                let id = find(peer)?;
                Ok(self.paths(|path| path.is_from(id)))
            }
            RouteQuery::AdjRibOut { peer } => {
                let target = self.peers.get(&find(peer)?).and_then(|peer| peer.target.as_ref());
                Ok(target.map(|target| self.sent_to(target)).unwrap_or_default())
            }
        }
    }

    fn peer_status(&self, id: PeerId, peer: &Peer, now: Instant) -> PeerStatus {
        let session = &peer.session;
        let config = &session.config;
        let established = session.established();
        let agreed = established.map(|(agreed, _)| agreed);
        let counts = self.table.counts(id);
        let since = |at: Instant| now.saturating_duration_since(at).as_secs();
        PeerStatus {
            name: config.name.clone(),
            address: config.address,
            local_address: established
                .and_then(|(_, conn)| conn.local)
                .or(config.local_address),
            remote_as: session.remote_as(),
            local_as: session.local_as,
            peer_type: if session.is_ebgp() {
                PeerType::Ebgp
            } else {
                PeerType::Ibgp
            },
            passive: config.passive,
            listen_range: peer.range.clone(),
            router_id: agreed.map(|agreed| agreed.router_id),
            state: session.state(),
            state_seconds: since(session.state_since()),
            established_count: session.established_count,
            hold_seconds: agreed.map(|agreed| agreed.hold_seconds),
            routes_stale: peer.kept.is_waiting(),
            routes_long_lived_stale: peer.kept.is_long(),
            capabilities: agreed.map(|agreed| agreed.names()).unwrap_or_default(),
            last_error: session.last_error.as_ref().map(|(_, reason)| reason.clone()),
            last_error_seconds: session.last_error.as_ref().map(|(at, _)| since(*at)),
            counters: session.counters,
            prefixes_received: counts.received.iter().sum(),
            prefixes_accepted: counts.accepted,
            prefixes_sent: peer.target.as_ref().map_or(0, |target| {
                let group = self.groups.get(&target.group);
                group.map_or(0, |group| group.sent_to(target))
            }),
            bfd: None,
        }
    }

    fn paths(&self, wanted: impl Fn(&Path) -> bool) -> Vec<RouteStatus> {
        let mut list = Vec::new();
        for entry in self.table.sorted() {
            let selection = self.selection(entry);
            let paths = entry.paths.as_slice().iter().enumerate();
            for (index, path) in paths.filter(|(_, path)| wanted(path)) {
                list.push(self.path_status(entry, selection.as_ref(), index, path));
            }
        }
        list
    }

    fn path_status(
        &self,
        entry: &Entry,
        selection: Option<&Selection>,
        index: usize,
        path: &Path,
    ) -> RouteStatus {
        let way = &*path.used;
        let unreachable = || (!self.table.is_reachable(path)).then_some("the next hop is not reachable");
        let mut status = status_of(entry.prefix, &way.attrs);
        set_source(&mut status, way);
        status.path_id = path.path_id;
        status.next_hop = way.next_hop().map(|hop| hop.address);
        status.interface = way.interface().map(str::to_owned);
        status.best = selection.is_some_and(|selection| selection.best == index);
        status.multipath = selection.is_some_and(|selection| selection.equals.contains(&index));
        status.stale = path.stale != Stale::No;
        let unusable = way.unusable.map(crate::rib::way::Unusable::text);
        status.unusable = unusable.or_else(unreachable).map(str::to_owned);
        status
    }

    /// What a peer has been sent, or will be once it has read all.
    fn sent_to(&self, target: &Target) -> Vec<RouteStatus> {
        let Some(group) = self.groups.get(&target.group) else {
            return Vec::new();
        };
        let mut interner = Interner::default();
        let mut list = Vec::new();
        for entry in self.table.sorted() {
            let ways: Vec<(u32, &Arc<Way>)> = if group.exporter.sends_paths_of(&entry.prefix) {
                let told = |way| (self.path_ids.known(way), &way.used);
                paths::of(entry, &self.table).map(told).collect()
            } else {
                entry.chosen().into_iter().map(|way| (0, way)).collect()
            };
            for (path_id, way) in ways {
                if target.is_echo(group.exporter.tag(way.tag())) {
                    continue;
                }
                if let Some(advert) = group.exporter.advert(&entry.prefix, way, &mut interner) {
                    list.push(RouteStatus {
                        path_id,
                        ..sent(entry, way, &advert)
                    });
                }
            }
        }
        list
    }
}

/// A route that a peer was sent; source and peer are those of the best path, which it was made of.
fn sent(entry: &Entry, way: &Way, advert: &Advert) -> RouteStatus {
    let mut status = status_of(entry.prefix, &Attrs::new(advert.attrs.octets()));
    set_source(&mut status, way);
    status.next_hop = Some(advert.next_hop.address);
    status
}

fn set_source(status: &mut RouteStatus, way: &Way) {
    let peer = way.peer();
    status.source = way.source;
    status.peer = peer.map(|peer| peer.name.clone());
    status.peer_address = peer.map(|peer| peer.address);
    status.metric = way.metric();
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
        local_pref: attrs.local_pref(),
        med: attrs.med(),
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
        if let (attribute::ONLY_TO_CUSTOMER, Some(number)) = (found.kind, attrs.only_to_customer()) {
            return format!("ONLY_TO_CUSTOMER {number}");
        }
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

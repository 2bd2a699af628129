//! From messages, the configuration and the host into the table: UPDATEs, import policy, loops (RFC 4271 §9; RFC 4456 §8).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Speaker;
use super::peer::Peer;
use crate::config::{Config, Originate};
use crate::family::Family;
use crate::input::{LocalDelta, LocalRoute};
use crate::output::{Event, Output};
use crate::policy::eval::{self, Chain};
use crate::policy::{NextHopAction, PeerType, Source};
use crate::rib::attrs::{Attrs, Interner};
use crate::rib::path::{Key, Origin, Path, PeerId, PeerInfo};
use crate::rib::rewrite::{Change, Rewrite};
use crate::rib::table::Visit;
use crate::wire::mp::NextHop;
use crate::wire::notification::{CeaseSubcode, Notification};
use crate::wire::update::UpdateView;
use crate::wire::{as_path, canonical};

/// What import needs besides the path.
struct Importer<'a> {
    config: &'a Config,
    info: &'a PeerInfo,
    chain: &'a Chain,
    local_as: u32,
    allow_own_as: usize,
    interner: &'a mut Interner,
}

impl Speaker {
    /// Takes the body of an UPDATE. An error ends the session.
    pub(super) fn update(&mut self, id: PeerId, body: &[u8]) -> Result<(), (Notification, String)> {
        let Some(config) = self.config.clone() else {
            return Ok(());
        };
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(());
        };
        let agreed = peer.session.established().map(|(agreed, _)| agreed.clone());
        let (Some(agreed), Some(info)) = (agreed, peer.info.clone()) else {
            return Ok(());
        };
        let context = agreed.update_context();
        let view = UpdateView::parse(body, &context)
            .map_err(|notification| (notification.clone(), format!("bad UPDATE: {notification}")))?;
        if let Some(family) = view.end_of_rib() {
            self.end_of_rib(id, family);
            return Ok(());
        }
        self.report_faults(id, &view);
        let withdrawn = view.withdrawn.chain(view.unreach.into_iter().flatten());
        for (path_id, prefix) in withdrawn {
            self.withdraw(id, &prefix, path_id);
        }
        let classic = view
            .announced
            .map(|(path_id, prefix)| (path_id, prefix, view.next_hop));
        let multi = view.reach.into_iter().flat_map(|reach| {
            reach
                .nlri
                .map(move |(path_id, prefix)| (path_id, prefix, Some(reach.next_hop)))
        });
        if view.fault.is_some() {
            // RFC 7606 §2: treat-as-withdraw.
            for (path_id, prefix, _) in classic.chain(multi) {
                self.withdraw(id, &prefix, path_id);
            }
            return Ok(());
        }
        let mut block = Vec::new();
        canonical::write(&view, &context, &mut block);
        let attrs = self.interner.intern(&block);
        for (path_id, prefix, next_hop) in classic.chain(multi) {
            if agreed.families.contains(&Family::of_prefix(&prefix)) {
                let mut path = received(&info, path_id, &attrs, next_hop);
                self.import(&config, id, &prefix, &mut path);
                self.insert(id, prefix, path)?;
            }
        }
        Ok(())
    }

    fn report_faults(&mut self, id: PeerId, view: &UpdateView<'_>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let counters = &mut peer.session.counters;
        counters.attributes_discarded += u64::from(view.discarded);
        counters.treat_as_withdraw += u64::from(view.fault.is_some());
        let reason = match (view.fault, view.discard_reason) {
            (Some(fault), _) => format!("routes taken as withdrawn: {}", fault.reason),
            (None, Some(reason)) => format!("attribute left out: {reason}"),
            (None, None) => return,
        };
        let peer = peer.session.config.name.clone();
        self.out
            .push_back(Output::Event(Event::UpdateError { peer, reason }));
    }

    fn withdraw(&mut self, id: PeerId, prefix: &IpNet, path_id: u32) {
        let removed = self.table.remove(prefix, Key::Peer(id), path_id, &mut self.out);
        if removed.is_some()
            && let Some(peer) = self.peers.get_mut(&id)
        {
            *peer.count(Family::of_prefix(prefix)) -= 1;
        }
    }

    fn import(&mut self, config: &Config, id: PeerId, prefix: &IpNet, path: &mut Path) {
        let Some(peer) = self.peers.get(&id) else { return };
        if let Origin::Peer(info) = path.origin.clone() {
            importer(config, peer, &info, &mut self.interner).run(prefix, path);
        }
    }

    fn insert(&mut self, id: PeerId, prefix: IpNet, path: Path) -> Result<(), (Notification, String)> {
        if self.table.insert(prefix, path, &mut self.out).is_some() {
            return Ok(());
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(());
        };
        let limit = peer.session.config.prefix_limit;
        let count = peer.count(Family::of_prefix(&prefix));
        *count += 1;
        match limit {
            Some(limit) if *count > usize::try_from(limit).unwrap_or(usize::MAX) => {
                let reason = format!("more than {limit} prefixes: raise prefixLimit or filter at the peer");
                Err((Notification::cease(CeaseSubcode::MaximumNumberOfPrefixes), reason))
            }
            _ => Ok(()),
        }
    }

    /// Runs the import policy again over what a peer sent.
    pub(super) fn reimport(&mut self, config: &Config, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else { return };
        let Some(info) = &peer.info else { return };
        let mut importer = importer(config, peer, info, &mut self.interner);
        self.table.visit(Key::Peer(id), &mut self.out, |prefix, path| {
            importer.run(prefix, path);
            Visit::Changed
        });
    }

    /// Puts a route of the configuration into the table.
    pub(super) fn originate(&mut self, config: &Config, route: &Originate) {
        let block = Rewrite {
            med: route.med.into(),
            communities: route.communities.clone(),
            ..Rewrite::default()
        };
        let attrs = self.interner.intern(&block.apply(&LOCAL_BLOCK));
        let origin = Origin::Static {
            blackhole: route.blackhole,
        };
        let path = own_path(origin, attrs, route.metric, config.preference.originated);
        self.table.insert(route.prefix, path, &mut self.out);
    }

    pub(super) fn withdraw_own(&mut self, prefix: &IpNet) {
        self.table.remove(prefix, Key::Static, 0, &mut self.out);
    }

    /// Takes a route of the host.
    pub(super) fn local(&mut self, delta: LocalDelta) {
        let prefix = delta.prefix.trunc();
        let Some(route) = delta.route else {
            self.table.remove(&prefix, Key::Host, 0, &mut self.out);
            return;
        };
        let preference = self
            .config
            .as_ref()
            .map(|config| config.preference)
            .unwrap_or_default();
        let preference = match route.source {
            Source::Direct => preference.direct,
            Source::Kernel => preference.kernel,
            // These two are made here and in UPDATEs only.
            Source::Static | Source::Bgp => return,
        };
        let LocalRoute {
            source,
            next_hop,
            interface,
            metric,
        } = route;
        let attrs = self.interner.intern(&LOCAL_BLOCK);
        let mut path = own_path(Origin::Host(source), attrs, metric, preference);
        path.next_hop = next_hop.map(NextHop::from);
        path.interface = interface.map(Arc::from);
        self.table.insert(prefix, path, &mut self.out);
    }
}

/// ORIGIN IGP and an empty AS_PATH: a route of this AS.
const LOCAL_BLOCK: [u8; 7] = [0x40, 1, 1, 0, 0x40, 2, 0];

fn own_path(origin: Origin, attrs: Arc<Attrs>, metric: Option<u32>, preference: u32) -> Path {
    Path {
        origin,
        path_id: 0,
        received: Arc::clone(&attrs),
        received_next_hop: None,
        attrs,
        next_hop: None,
        interface: None,
        metric,
        device: None,
        preference,
        stale: false,
        unusable: None,
    }
}

fn received(info: &Arc<PeerInfo>, path_id: u32, attrs: &Arc<Attrs>, next_hop: Option<NextHop>) -> Path {
    let mut path = own_path(Origin::Peer(Arc::clone(info)), Arc::clone(attrs), None, 0);
    path.path_id = path_id;
    path.received_next_hop = next_hop;
    path
}

fn importer<'a>(
    config: &'a Config,
    peer: &'a Peer,
    info: &'a PeerInfo,
    interner: &'a mut Interner,
) -> Importer<'a> {
    Importer {
        config,
        info,
        chain: &peer.import,
        local_as: peer.session.local_as,
        allow_own_as: usize::from(peer.session.config.allow_own_as),
        interner,
    }
}

impl Importer<'_> {
    /// Sets everything in a path that is not as received.
    fn run(&mut self, prefix: &IpNet, path: &mut Path) {
        path.attrs = Arc::clone(&path.received);
        path.next_hop = path.received_next_hop;
        path.preference = self.config.preference.bgp;
        path.metric = None;
        path.device = None;
        path.unusable = self.fault(path);
        if path.unusable.is_some() {
            return;
        }
        let route = eval::Route {
            prefix: *prefix,
            source: Source::Bgp,
            peer_type: Some(if self.info.ebgp {
                PeerType::Ebgp
            } else {
                PeerType::Ibgp
            }),
            interface: None,
            next_hop: path.next_hop.map(|hop| hop.address),
            metric: None,
            attrs: &path.received,
        };
        let Some(outcome) = eval::evaluate(self.chain, &route) else {
            path.unusable = Some("rejected by the import policy");
            return;
        };
        let mut rewrite = outcome.rewrite();
        // A value that is there already is no change.
        if rewrite.local_pref == path.received.local_pref.into() {
            rewrite.local_pref = Change::Keep;
        }
        path.attrs = self.interner.rewritten(&path.received, rewrite);
        path.metric = outcome.metric;
        path.device = outcome.device.map(Arc::from);
        path.preference = outcome.preference.unwrap_or(path.preference);
        match outcome.next_hop {
            Some(NextHopAction::Address(address)) => path.next_hop = Some(address.into()),
            Some(NextHopAction::Own) => path.next_hop = Some(self.info.local.into()),
            Some(NextHopAction::Keep) | None => {}
        }
    }

    /// What keeps a route from being used, whatever policy says.
    fn fault(&self, path: &Path) -> Option<&'static str> {
        let attrs = &path.received;
        let numbers = [self.local_as, self.config.local_as];
        let own = |number: u32| as_path::occurrences(attrs.as_path(), number) > self.allow_own_as;
        // RFC 4271 §9.1.2.
        if numbers.into_iter().any(own) {
            return Some("the AS_PATH has the own AS in it");
        }
        // RFC 4456 §8.
        if attrs.originator == Some(self.config.router_id) {
            return Some("the ORIGINATOR_ID is the own identifier");
        }
        let clusters = || self.config.peers.iter().filter_map(|peer| peer.reflector_client);
        if attrs.cluster_len > 0 && attrs.clusters().any(|id| clusters().any(|own| own == id)) {
            return Some("the CLUSTER_LIST has the own cluster in it");
        }
        // RFC 4271 §6.3, §5.1.3.
        let Some(next_hop) = path.received_next_hop else {
            return Some("there is no next hop");
        };
        let address = next_hop.address;
        if address == self.info.local {
            return Some("the next hop is the own address");
        }
        is_no_host(address).then_some("the next hop is no host's address")
    }
}

fn is_no_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast
}

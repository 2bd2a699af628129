//! From messages, the configuration and the host into the table: UPDATEs, import policy, loops (RFC 4271 §9; RFC 4456 §8).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Speaker;
use super::peer::Peer;
use crate::config::{Config, Originate, Role};
use crate::family::Family;
use crate::input::{LocalDelta, LocalRoute};
use crate::output::{Event, Output};
use crate::policy::eval::{self, Chain, Outcome};
use crate::policy::{Community, NextHopAction, PeerType, Source};
use crate::rib::attrs::{Attrs, Interner};
use crate::rib::path::{Path, Stale};
use crate::rib::rewrite::{Change, Rewrite};
use crate::rib::table::Visit;
use crate::rib::way::{Extra, Key, PeerId, PeerInfo, Unusable, Way};
use crate::wire::mp::NextHop;
use crate::wire::notification::{CeaseSubcode, Notification};
use crate::wire::update::UpdateView;
use crate::wire::{as_path, canonical};

/// What import needs besides the route.
struct Importer<'a> {
    config: &'a Config,
    info: &'a PeerInfo,
    chain: &'a Chain,
    looks_at_prefixes: bool,
    local_as: u32,
    allow_own_as: usize,
    graceful_shutdown: bool,
    interner: &'a mut Interner,
    /// The last result: received, what the policy said, and what came of it.
    last: Option<(Arc<Way>, Option<Outcome>, Arc<Way>)>,
}

impl Speaker {
    /// Takes the body of an UPDATE. An error ends the session.
    pub(super) fn update(&mut self, id: PeerId, body: &[u8]) -> Result<(), (Notification, String)> {
        let Some(config) = self.config.clone() else {
            return Ok(());
        };
        let Some(peer) = self.peers.get(&id) else {
            return Ok(());
        };
        let (Some((agreed, _)), Some(info)) = (peer.session.established(), peer.info.clone()) else {
            return Ok(());
        };
        let context = agreed.update_context();
        let carried = Family::ALL.map(|family| agreed.families.contains(&family));
        let view = UpdateView::parse(body, &context)
            .map_err(|notification| (notification.clone(), format!("bad UPDATE: {notification}")))?;
        if let Some(family) = view.end_of_rib() {
            self.end_of_rib(id, family);
            return Ok(());
        }
        self.report_faults(id, &view);
        let withdrawn = view.withdrawn.chain(view.unreach.into_iter().flatten());
        for (path_id, prefix) in withdrawn {
            self.table.remove(&prefix, Key::Peer(id), path_id, &mut self.out);
        }
        // The fields of RFC 4271 and MP_REACH_NLRI have a next hop each.
        let classic = (view.announced, view.next_hop);
        let multi = view.reach.map(|reach| (reach.nlri, Some(reach.next_hop)));
        let fields = [Some(classic), multi].into_iter().flatten();
        if view.fault.is_some() {
            // RFC 7606 §2: treat-as-withdraw.
            for (path_id, prefix) in fields.flat_map(|(nlri, _)| nlri) {
                self.table.remove(&prefix, Key::Peer(id), path_id, &mut self.out);
            }
            return Ok(());
        }
        let fields = fields.filter(|(nlri, _)| {
            let [v4, v6] = carried;
            !nlri.is_empty() && if nlri.family() == Family::Ipv4 { v4 } else { v6 }
        });
        let mut block = std::mem::take(&mut self.block);
        block.clear();
        canonical::write(&view, &context, &mut block);
        let attrs = self.interner.intern(&block);
        self.block = block;
        for (nlri, next_hop) in fields {
            let next_hop = next_hop.and_then(|next_hop| self.shared_next_hop(id, next_hop));
            let received = received(&config, &info, &attrs, next_hop);
            self.announce(&config, id, &info, nlri, &received)?;
        }
        Ok(())
    }

    /// The object that stands for a next hop of a peer.
    fn shared_next_hop(&mut self, id: PeerId, next_hop: NextHop) -> Option<Arc<NextHop>> {
        let peer = self.peers.get_mut(&id)?;
        let last = peer.last_next_hop.take().filter(|last| **last == next_hop);
        let shared = last.unwrap_or_else(|| Arc::new(next_hop));
        peer.last_next_hop = Some(Arc::clone(&shared));
        Some(shared)
    }

    /// Takes prefixes that are reached the same way.
    fn announce(
        &mut self,
        config: &Config,
        id: PeerId,
        info: &PeerInfo,
        nlri: impl Iterator<Item = (u32, IpNet)>,
        received: &Arc<Way>,
    ) -> Result<(), (Notification, String)> {
        let Some(peer) = self.peers.get(&id) else {
            return Ok(());
        };
        let limit = peer.session.config.prefix_limit;
        let mut importer = importer(config, peer, info, &mut self.interner);
        for (path_id, prefix) in nlri {
            let path = Path {
                used: importer.run(&prefix, received),
                path_id,
                stale: Stale::No,
            };
            let is_new = self.table.insert(prefix, path, &mut self.out);
            if let Some(limit) = limit.filter(|_| is_new) {
                let [v4, v6] = self.table.counts(id).received;
                let count = if Family::of_prefix(&prefix) == Family::Ipv4 {
                    v4
                } else {
                    v6
                };
                if count > usize::try_from(limit).unwrap_or(usize::MAX) {
                    let reason =
                        format!("more than {limit} prefixes: raise prefixLimit or filter at the peer");
                    return Err((Notification::cease(CeaseSubcode::MaximumNumberOfPrefixes), reason));
                }
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

    /// Runs the import policy again over what a peer sent.
    pub(super) fn reimport(&mut self, config: &Config, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else { return };
        let Some(info) = &peer.info else { return };
        let mut importer = importer(config, peer, info, &mut self.interner);
        self.table.visit(Key::Peer(id), &mut self.out, |prefix, path| {
            let used = importer.run(prefix, path.received());
            if Arc::ptr_eq(&used, &path.used) {
                return Visit::Keep;
            }
            path.used = used;
            Visit::Changed
        });
    }

    /// Keeps a peer's stale routes of a family past the restart time: the last choice from now on, and those that
    /// must not be kept go (RFC 9494 §4.2). Tells whether there are any.
    pub(super) fn keep_long(&mut self, id: PeerId, family: Family) -> bool {
        let Some(config) = self.config.clone() else {
            return false;
        };
        let Some(peer) = self.peers.get(&id) else {
            return false;
        };
        let Some(info) = &peer.info else { return false };
        let mut any = false;
        let mut importer = importer(&config, peer, info, &mut self.interner);
        let mut last: Option<(Arc<Way>, Arc<Way>)> = None;
        self.table.visit(Key::Peer(id), &mut self.out, |prefix, path| {
            if path.stale != Stale::Graceful || Family::of_prefix(prefix) != family {
                return Visit::Keep;
            }
            let received = &Arc::clone(path.received());
            if received.attrs.is_not_long_lived() {
                return Visit::Remove;
            }
            let marked = match last.take().filter(|(known, _)| Arc::ptr_eq(known, received)) {
                Some((_, marked)) => marked,
                None => importer.marked(received),
            };
            last = Some((Arc::clone(received), Arc::clone(&marked)));
            path.used = importer.run(prefix, &marked);
            path.stale = Stale::LongLived;
            any = true;
            Visit::Changed
        });
        any
    }

    /// Puts a route of the configuration into the table.
    pub(super) fn originate(&mut self, config: &Config, route: &Originate) {
        let block = Rewrite {
            med: route.med.into(),
            communities: route.communities.clone(),
            ..Rewrite::default()
        };
        let attrs = self.interner.intern(&block.apply(&LOCAL_BLOCK));
        let preference = config.preference.originated;
        let mut way = own_way(Source::Static, attrs, route.metric, preference);
        way.blackhole = route.blackhole;
        let path = Path::own(way);
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
        let mut way = own_way(source, attrs, metric, preference);
        way.next_hop = next_hop.map(|address| Arc::new(NextHop::from(address)));
        way.extra.get_or_insert_default().interface = interface.map(Arc::from);
        self.table.insert(prefix, Path::own(way), &mut self.out);
    }
}

/// ORIGIN IGP and an empty AS_PATH: a route of this AS.
const LOCAL_BLOCK: [u8; 7] = [0x40, 1, 1, 0, 0x40, 2, 0];

fn own_way(source: Source, attrs: Arc<Attrs>, metric: Option<u32>, preference: u32) -> Way {
    let with_metric = |_| {
        Box::new(Extra {
            metric,
            ..Extra::default()
        })
    };
    Way {
        peer: None,
        source,
        blackhole: false,
        attrs,
        next_hop: None,
        preference,
        unusable: None,
        extra: metric.map(with_metric),
    }
}

fn received(
    config: &Config,
    info: &Arc<PeerInfo>,
    attrs: &Arc<Attrs>,
    next_hop: Option<Arc<NextHop>>,
) -> Arc<Way> {
    Arc::new(Way {
        peer: Some(Arc::clone(info)),
        source: Source::Bgp,
        blackhole: false,
        attrs: Arc::clone(attrs),
        next_hop,
        preference: config.preference.bgp,
        unusable: None,
        extra: None,
    })
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
        looks_at_prefixes: peer.import.looks_at_prefixes(),
        local_as: peer.session.local_as,
        allow_own_as: usize::from(peer.session.config.allow_own_as),
        graceful_shutdown: peer.session.config.graceful_shutdown,
        interner,
        last: None,
    }
}

impl Importer<'_> {
    /// A received way with the community that says how old it is.
    fn marked(&mut self, received: &Arc<Way>) -> Arc<Way> {
        let mark = Rewrite {
            communities: vec![Community::Standard(Community::LLGR_STALE)],
            ..Rewrite::default()
        };
        let mut way = Way::clone(received);
        way.attrs = self.interner.rewritten(&received.attrs, mark);
        Arc::new(way)
    }

    /// Returns what of a received route is used, the same object where that is all of it.
    fn run(&mut self, prefix: &IpNet, received: &Arc<Way>) -> Arc<Way> {
        let last = self.last.as_ref();
        let last = last.filter(|(known, ..)| Arc::ptr_eq(known, received));
        if let Some((.., used)) = last.filter(|_| !self.looks_at_prefixes) {
            return Arc::clone(used);
        }
        let outcome = eval::evaluate(self.chain, &self.route(prefix, received));
        if let Some((.., used)) = last.filter(|(_, known, _)| *known == outcome) {
            return Arc::clone(used);
        }
        let used = self.apply(received, outcome.clone());
        self.last = Some((Arc::clone(received), outcome, Arc::clone(&used)));
        used
    }

    fn route<'a>(&self, prefix: &IpNet, received: &'a Way) -> eval::Route<'a> {
        eval::Route {
            prefix: *prefix,
            source: Source::Bgp,
            peer_type: Some(if self.info.ebgp {
                PeerType::Ebgp
            } else {
                PeerType::Ibgp
            }),
            interface: None,
            next_hop: received.next_hop().map(|hop| hop.address),
            metric: None,
            attrs: &received.attrs,
        }
    }

    fn apply(&mut self, received: &Arc<Way>, outcome: Option<Outcome>) -> Arc<Way> {
        let preference = self.config.preference.bgp;
        let unusable = |reason| {
            let mut way = Way::clone(received);
            way.preference = preference;
            way.unusable = Some(reason);
            way.extra.get_or_insert_default().received = Some(Arc::clone(received));
            Arc::new(way)
        };
        if let Some(reason) = self.fault(received) {
            return unusable(reason);
        }
        let Some(outcome) = outcome else {
            return unusable(Unusable::Rejected);
        };
        let mut rewrite = outcome.rewrite();
        // A value that is there already is no change.
        if rewrite.local_pref == received.attrs.local_pref().into() {
            rewrite.local_pref = Change::Keep;
        }
        // RFC 8326 §4.1: whatever policy says, there is no worse one.
        if self.graceful_shutdown && received.attrs.is_graceful_shutdown() {
            rewrite.local_pref = match received.attrs.local_pref() {
                Some(0) => Change::Keep,
                _ => Change::Set(0),
            };
        }
        // RFC 9234 §5: from above or from the side it goes downwards only, from here on.
        if self.info.role.is_some_and(Role::is_below_or_beside) && received.attrs.only_to_customer().is_none()
        {
            rewrite.only_to_customer = Change::Set(self.info.remote_as);
        }
        let preference = outcome.preference.unwrap_or(preference);
        let next_hop = match outcome.next_hop {
            Some(NextHopAction::Address(address)) => Some(Arc::new(address.into())),
            Some(NextHopAction::Own) => Some(Arc::new(self.info.local.into())),
            Some(NextHopAction::Keep) | None => received.next_hop.clone(),
        };
        let is_same = rewrite.is_nothing()
            && preference == received.preference
            && next_hop == received.next_hop
            && outcome.metric.is_none()
            && outcome.device.is_none();
        if is_same {
            return Arc::clone(received);
        }
        let extra = Extra {
            interface: None,
            metric: outcome.metric,
            device: outcome.device.map(Arc::from),
            received: Some(Arc::clone(received)),
        };
        Arc::new(Way {
            peer: received.peer.clone(),
            source: received.source,
            blackhole: false,
            attrs: self.interner.rewritten(&received.attrs, rewrite),
            next_hop,
            preference,
            unusable: None,
            extra: Some(Box::new(extra)),
        })
    }

    /// RFC 9234 §5, ingress: a customer has no route that goes to customers only, a peer only such of its own.
    fn leaks(&self, received: &Way) -> bool {
        match (self.info.role, received.attrs.only_to_customer()) {
            (Some(Role::Provider | Role::RouteServer), Some(_)) => true,
            (Some(Role::Peer), Some(number)) => number != self.info.remote_as,
            _ => false,
        }
    }

    /// What keeps a route from being used, whatever policy says.
    fn fault(&self, received: &Way) -> Option<Unusable> {
        let attrs = &received.attrs;
        let numbers = [self.local_as, self.config.local_as];
        let own = |number: u32| as_path::occurrences(attrs.as_path(), number) > self.allow_own_as;
        if numbers.into_iter().any(own) {
            return Some(Unusable::OwnAs);
        }
        if attrs.originator() == Some(self.config.router_id) {
            return Some(Unusable::OwnOriginator);
        }
        if self.leaks(received) {
            return Some(Unusable::Leak);
        }
        let clusters = || self.config.peers.iter().filter_map(|peer| peer.reflector_client);
        if attrs.cluster_len > 0 && attrs.clusters().any(|id| clusters().any(|own| own == id)) {
            return Some(Unusable::OwnCluster);
        }
        let Some(next_hop) = received.next_hop() else {
            return Some(Unusable::NoNextHop);
        };
        let address = next_hop.address;
        if address == self.info.local {
            return Some(Unusable::OwnNextHop);
        }
        is_no_host(address).then_some(Unusable::BadNextHop)
    }
}

fn is_no_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast
}

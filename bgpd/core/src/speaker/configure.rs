//! Takes a configuration: what of it is new decides which sessions end, which policies run again, which routes change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;

use super::Speaker;
use super::peer::Peer;
use crate::config::{self, Config};
use crate::output::{Event, Output, Transport};
use crate::policy::Source;
use crate::policy::eval::Chain;
use crate::rib::path::Path;
use crate::rib::table::Visit;
use crate::rib::way::{Key, PeerId, Way};
use crate::session::Session;
use crate::wire::notification::{CeaseSubcode, Notification};

impl Speaker {
    pub(super) fn configure(&mut self, now: Instant, config: Config) {
        if let Err(error) = config.validate() {
            self.out.push_back(Output::Event(Event::ConfigRefused {
                reason: error.to_string(),
            }));
            return;
        }
        if self.stopped {
            return;
        }
        let new = Arc::new(config);
        let old = self.config.replace(Arc::clone(&new));
        if let Some(restart) = &mut self.restart {
            restart.begin(now, &new);
        }
        self.make_chains(&new);
        self.listen(old.as_deref(), &new);
        self.table.track_next_hops(new.track_next_hops, &mut self.out);
        self.remove_peers(now, old.as_deref(), &new);
        self.configure_routes(old.as_deref(), &new);
        let preference_changed = old.as_ref().is_none_or(|old| old.preference != new.preference);
        if preference_changed {
            self.set_preferences(&new);
        }
        let drain_changed = old.as_ref().is_some_and(|old| old.drain != new.drain);
        self.configure_peers(now, &new, preference_changed, drain_changed);
        let decides = |config: &Config| (config.always_compare_med, config.multipath_max);
        let kernel_chain = self.chain(&new.kernel_export);
        let kernel_changed = !Arc::ptr_eq(&self.kernel_chain, &kernel_chain);
        self.kernel_chain = kernel_chain;
        if kernel_changed || old.is_some_and(|old| decides(&old) != decides(&new)) {
            self.table.mark_all();
        }
    }

    /// One chain per list of names; a chain in which nothing changed stays the same object.
    fn make_chains(&mut self, config: &Config) {
        let peers = config.peers.iter().flat_map(|peer| [&peer.import, &peer.export]);
        let mut chains: BTreeMap<Vec<String>, Arc<Chain>> = BTreeMap::new();
        for names in peers.chain([&config.kernel_export]) {
            if chains.contains_key(names) {
                continue;
            }
            let policies = names.iter().filter_map(|name| config.policies.get(name));
            let chain = Chain(policies.cloned().map(Arc::new).collect());
            let chain = match self.chains.get(names) {
                Some(old) if **old == chain => Arc::clone(old),
                _ => Arc::new(chain),
            };
            chains.insert(names.clone(), chain);
        }
        self.chains = chains;
    }

    fn chain(&self, names: &[String]) -> Arc<Chain> {
        self.chains.get(names).cloned().unwrap_or_default()
    }

    fn listen(&mut self, old: Option<&Config>, new: &Config) {
        let transports = |config: &Config| {
            let active = || config.peers.iter().filter(|peer| !peer.shutdown);
            let single = active().filter(|peer| peer.listen_range.is_none());
            let ranges = active().filter_map(|peer| Some((peer.listen_range?, transport(config, peer))));
            let peers: Vec<Transport> = single.map(|peer| transport(config, peer)).collect();
            (peers, ranges.collect::<Vec<_>>())
        };
        let wanted = transports(new);
        if old.is_none_or(|old| old.listen != new.listen || transports(old) != wanted) {
            let (peers, ranges) = wanted;
            self.out.push_back(Output::Listen {
                listen: new.listen.clone(),
                peers,
                ranges,
            });
        }
    }

    /// Ends the sessions of peers that are not there any more or need another session.
    fn remove_peers(&mut self, now: Instant, old: Option<&Config>, new: &Config) {
        let Some(old) = old else { return };
        let wanted: BTreeMap<&str, &config::Peer> =
            new.peers.iter().map(|peer| (peer.name.as_str(), peer)).collect();
        let identity_changed = old.router_id != new.router_id;
        for peer in &old.peers {
            let subcode = match wanted.get(peer.name.as_str()) {
                None => CeaseSubcode::PeerDeconfigured,
                Some(wanted) if wanted.shutdown && !peer.shutdown => CeaseSubcode::AdministrativeShutdown,
                Some(wanted) => {
                    let same_as = old.as_towards(peer) == new.as_towards(wanted);
                    if same_as && !identity_changed && peer.same_session(wanted) {
                        continue;
                    }
                    CeaseSubcode::OtherConfigurationChange
                }
            };
            for (id, _) in self.standing_for(peer) {
                self.remove_peer(now, id, subcode);
            }
        }
    }

    fn remove_peer(&mut self, now: Instant, id: PeerId, subcode: CeaseSubcode) {
        let notification = Notification::cease(subcode);
        self.on_peer(now, id, |session, context| {
            session.stop(Some(&notification), context)
        });
        self.leave_group(id);
        // What was kept as stale goes too.
        self.table
            .visit(Key::Peer(id), &mut self.out, |_, _| Visit::Remove);
        self.forget_peer(id);
    }

    fn configure_peers(
        &mut self,
        now: Instant,
        config: &Config,
        preference_changed: bool,
        drain_changed: bool,
    ) {
        for peer in &config.peers {
            let standing = self.standing_for(peer);
            if standing.is_empty() && peer.listen_range.is_none() {
                self.add_peer(now, config, peer, None);
            }
            for (id, peer) in standing {
                self.change_peer(config, id, &peer, preference_changed, drain_changed);
            }
        }
    }

    /// `range` names the peer of the configuration whose range it connected from.
    pub(super) fn add_peer(
        &mut self,
        now: Instant,
        config: &Config,
        peer: &config::Peer,
        range: Option<&str>,
    ) {
        let id = PeerId(self.next_peer);
        self.next_peer += 1;
        let session = Session::new(peer.clone(), config.as_towards(peer), now);
        let (import, export) = (self.chain(&peer.import), self.chain(&peer.export));
        let mut added = Peer::new(session, import, export);
        added.range = range.map(str::to_owned);
        self.peers.insert(id, added);
        self.names.insert(peer.name.clone(), id);
        // One from a range has its connection already, and never dials.
        if range.is_none() {
            self.on_peer(now, id, Session::start);
        }
    }

    /// Changes what needs no new session (RFC 4271 §9: policies run again over what is there).
    fn change_peer(
        &mut self,
        config: &Config,
        id: PeerId,
        new: &config::Peer,
        preference_changed: bool,
        drain_changed: bool,
    ) {
        let (import, export) = (self.chain(&new.import), self.chain(&new.export));
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let old = std::mem::replace(&mut peer.session.config, new.clone());
        let imports = preference_changed
            || !Arc::ptr_eq(&peer.import, &import)
            || old.allow_own_as != new.allow_own_as
            || old.graceful_shutdown != new.graceful_shutdown;
        let exports = drain_changed
            || !Arc::ptr_eq(&peer.export, &export)
            || old.next_hop != new.next_hop
            || old.long_lived_partial != new.long_lived_partial;
        peer.import = import;
        peer.export = export;
        if exports && peer.target.is_some() {
            self.change_group(id);
        }
        if imports {
            self.reimport(config, id);
        }
    }

    fn configure_routes(&mut self, old: Option<&Config>, new: &Config) {
        let before = old.map_or(&[][..], |old| &old.routes);
        let prefixes: BTreeSet<IpNet> = new.routes.iter().map(|route| route.prefix).collect();
        for route in before.iter().filter(|route| !prefixes.contains(&route.prefix)) {
            self.withdraw_own(&route.prefix);
        }
        let known: BTreeMap<IpNet, &config::Originate> =
            before.iter().map(|route| (route.prefix, route)).collect();
        for route in &new.routes {
            if known.get(&route.prefix) != Some(&route) {
                self.originate(new, route);
            }
        }
    }

    fn set_preferences(&mut self, config: &Config) {
        let preference = config.preference;
        for key in [Key::Static, Key::Host] {
            self.table.visit(key, &mut self.out, |_, path| {
                let mut way = Way::clone(&path.used);
                way.preference = match way.source {
                    Source::Static => preference.originated,
                    Source::Direct => preference.direct,
                    Source::Kernel => preference.kernel,
                    Source::Bgp => preference.bgp,
                };
                *path = Path::own(way);
                Visit::Changed
            });
        }
    }
}

fn transport(config: &Config, peer: &config::Peer) -> Transport {
    crate::session::transport(peer, config.as_towards(peer))
}

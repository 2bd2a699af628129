//! Works on what changed: decides, tells the kernel, works out what each peer gets, writes it.

use std::sync::Arc;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::export::Target;
use super::peer::Dump;
use super::{Speaker, kernel};
use crate::output::{Output, RouteDelta};
use crate::rib::adj_out::{Advert, Format};
use crate::rib::decision::Rules;
use crate::rib::path::PeerId;

/// Results of one prefix, one per group of peers.
type Memo<'a> = SmallVec<[(&'a Target, Option<Advert>); 4]>;

impl Speaker {
    pub(super) fn flush(&mut self) {
        // RFC 4724 §4.1: a restarting speaker defers selection, and so everything after it.
        if self.restart.is_some() || self.stopped || self.config.is_none() {
            return;
        }
        if self.table.has_dirty() {
            self.decide_dirty();
        }
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.dump(id);
            self.write(id);
        }
    }

    fn decide_dirty(&mut self) {
        let Some(config) = &self.config else { return };
        let rules = Rules {
            always_compare_med: config.always_compare_med,
            multipath_max: usize::from(config.multipath_max),
        };
        let targets: Vec<(PeerId, Arc<Target>)> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.dump.is_none())
            .filter_map(|(id, peer)| Some((*id, Arc::clone(peer.target.as_ref()?))))
            .collect();
        for prefix in self.table.take_dirty() {
            let Some(entry) = self.table.decide(&prefix, rules) else {
                continue;
            };
            let route = kernel::route(&self.kernel_chain, &prefix, entry);
            if entry.kernel.as_deref() != route.as_ref() {
                entry.kernel = route.clone().map(Box::new);
                self.out.push_back(Output::Route(RouteDelta { prefix, route }));
            }
            let best = entry.best();
            let mut memo = Memo::new();
            for (id, target) in &targets {
                let advert = best.filter(|path| !target.is_echo(path)).and_then(|path| {
                    memoized(&mut memo, target, || {
                        target.advert(&prefix, path, &mut self.interner)
                    })
                });
                if let Some(peer) = self.peers.get_mut(id) {
                    peer.adj_out.want(prefix, advert);
                }
            }
            self.table.forget(&prefix);
        }
    }

    /// Works out the whole table for a peer that is new or has another policy.
    fn dump(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(target) = peer.target.clone() else { return };
        let Some(dump) = peer.dump.take() else { return };
        for (prefix, entry) in self.table.entries() {
            let path = entry.best().filter(|path| !target.is_echo(path));
            let advert = path.and_then(|path| target.advert(prefix, path, &mut self.interner));
            peer.adj_out.want(*prefix, advert);
        }
        let gone = |prefix: &&IpNet| self.table.get(prefix).is_none();
        let gone: Vec<IpNet> = peer.adj_out.sent().keys().filter(gone).copied().collect();
        for prefix in gone {
            peer.adj_out.want(prefix, None);
        }
        if dump == Dump::Initial {
            // RFC 4724 §2: also without graceful restart, as it tells every peer that this is all.
            peer.adj_out.want_end_of_rib(&peer.families());
        }
    }

    fn write(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some((agreed, conn)) = peer.session.established() else {
            return;
        };
        if conn.blocked {
            return;
        }
        let format = Format {
            as4: agreed.as4,
            limit: agreed.message_limit(),
            enhanced_refresh: agreed.enhanced_refresh,
        };
        let conn = conn.id;
        let batch = peer.adj_out.write(format);
        peer.session.counters.updates_out += batch.updates;
        peer.session.counters.messages_out += batch.messages;
        for bytes in batch.chunks {
            self.out.push_back(Output::Send { conn, bytes });
        }
    }
}

/// Asks once per group.
fn memoized<'a>(
    memo: &mut Memo<'a>,
    target: &'a Target,
    compute: impl FnOnce() -> Option<Advert>,
) -> Option<Advert> {
    if let Some((_, advert)) = memo.iter().find(|(known, _)| known.gets_the_same(target)) {
        return advert.clone();
    }
    let advert = compute();
    memo.push((target, advert.clone()));
    advert
}

//! What a peer was sent and what it is still to be sent (Adj-RIB-Out), and how that becomes messages: withdrawals first,
//! then announcements grouped by their attributes (RFC 4271 §9.2, §4.3).
//!
//! Changes wait here while the peer does not read. A newer one replaces an older one, so the queue is never longer than
//! the table.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;

use super::attrs::Attrs;
use super::rewrite::narrow;
use crate::family::Family;
use crate::wire::encode;
use crate::wire::mp::NextHop;
use crate::wire::refresh::{Refresh, RefreshKind};

/// A route as a peer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advert {
    pub(crate) attrs: Arc<Attrs>,
    pub(crate) next_hop: NextHop,
}

/// How the peer reads messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    pub(crate) as4: bool,
    pub(crate) limit: usize,
    pub(crate) enhanced_refresh: bool,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct AdjRibOut {
    sent: BTreeMap<IpNet, Advert>,
    pending: BTreeMap<IpNet, Option<Advert>>,
    /// Families whose End-of-RIB marker follows what is pending.
    end_of_rib: Vec<Family>,
    refresh: Vec<Family>,
}

/// Messages to send.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) chunks: Vec<Bytes>,
    /// UPDATEs in them.
    pub(crate) updates: u64,
    /// Messages in them.
    pub(crate) messages: u64,
    open: Vec<u8>,
}

/// Octets that one output carries at most, and one message more.
const CHUNK: usize = 64 * 1024;

impl Batch {
    fn push(&mut self, message: &[u8]) {
        self.open.extend(message);
        self.messages += 1;
        if self.open.len() >= CHUNK {
            self.close();
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.chunks.push(std::mem::take(&mut self.open).into());
        }
    }
}

impl AdjRibOut {
    pub(crate) fn sent(&self) -> &BTreeMap<IpNet, Advert> {
        &self.sent
    }

    /// Wants the peer to have this for a prefix.
    pub(crate) fn want(&mut self, prefix: IpNet, advert: Option<Advert>) {
        if self.sent.get(&prefix) == advert.as_ref() {
            self.pending.remove(&prefix);
        } else {
            self.pending.insert(prefix, advert);
        }
    }

    pub(crate) fn want_end_of_rib(&mut self, families: &[Family]) {
        self.end_of_rib = families.to_vec();
    }

    /// Wants all of a family sent again (RFC 2918).
    pub(crate) fn want_refresh(&mut self, family: Family) {
        if !self.refresh.contains(&family) {
            self.refresh.push(family);
        }
    }

    /// Writes all that is pending.
    pub(crate) fn write(&mut self, format: Format) -> Batch {
        let mut batch = Batch::default();
        if self.pending.is_empty() && self.end_of_rib.is_empty() && self.refresh.is_empty() {
            return batch;
        }
        let mut message = Vec::new();
        let refresh = std::mem::take(&mut self.refresh);
        for family in &refresh {
            // RFC 7313 §4: what comes until EoRR is all there is.
            if format.enhanced_refresh {
                message.clear();
                Refresh::encode(*family, RefreshKind::Begin, &mut message);
                batch.push(&message);
            }
            let again = self
                .sent
                .iter()
                .filter(|(prefix, _)| Family::of_prefix(prefix) == *family);
            for (prefix, advert) in again {
                self.pending
                    .entry(*prefix)
                    .or_insert_with(|| Some(advert.clone()));
            }
        }
        for family in Family::ALL {
            self.write_family(family, format, &mut batch);
        }
        self.pending.clear();
        for family in std::mem::take(&mut self.end_of_rib) {
            message.clear();
            encode::end_of_rib(family, &mut message);
            batch.push(&message);
            batch.updates += 1;
        }
        for family in refresh.iter().filter(|_| format.enhanced_refresh) {
            message.clear();
            Refresh::encode(*family, RefreshKind::End, &mut message);
            batch.push(&message);
        }
        batch.close();
        batch
    }

    fn write_family(&mut self, family: Family, format: Format, batch: &mut Batch) {
        let mut withdrawn = Vec::new();
        // In order of first appearance, which is that of the prefixes.
        let mut groups: Vec<(Advert, Vec<IpNet>)> = Vec::new();
        let mut index: HashMap<(*const Attrs, NextHop), usize> = HashMap::new();
        for (prefix, advert) in &self.pending {
            if Family::of_prefix(prefix) != family {
                continue;
            }
            let Some(advert) = advert else {
                if self.sent.remove(prefix).is_some() {
                    withdrawn.push(*prefix);
                }
                continue;
            };
            let at = *index
                .entry((Arc::as_ptr(&advert.attrs), advert.next_hop))
                .or_insert_with(|| {
                    groups.push((advert.clone(), Vec::new()));
                    groups.len() - 1
                });
            if let Some((_, prefixes)) = groups.get_mut(at) {
                prefixes.push(*prefix);
            }
        }
        let mut announced = Vec::new();
        for (advert, prefixes) in groups {
            let short = if format.as4 {
                Vec::new()
            } else {
                narrow(advert.attrs.block())
            };
            let block = if format.as4 { advert.attrs.block() } else { &short };
            let fits = encode::announce(
                family,
                block,
                advert.next_hop,
                &prefixes,
                format.limit,
                |bytes, _| {
                    announced.push(bytes.to_vec());
                },
            );
            for prefix in prefixes {
                if fits {
                    self.sent.insert(prefix, advert.clone());
                } else if self.sent.remove(&prefix).is_some() {
                    // RFC 4271 §9.2: a route that fits no message is not advertised, nor is its older form.
                    withdrawn.push(prefix);
                }
            }
        }
        encode::withdraw(family, &withdrawn, format.limit, |bytes, _| {
            batch.push(bytes);
            batch.updates += 1;
        });
        for bytes in &announced {
            batch.push(bytes);
            batch.updates += 1;
        }
    }
}

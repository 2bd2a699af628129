//! Sets of path attributes, each kept once: the canonical block of [`crate::wire::canonical`] and what the decision
//! process asks of it (RFC 4271 §9.1.2.2), parsed once.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;
use std::sync::Arc;

use hashbrown::HashSet;

use super::rewrite::Rewrite;
use crate::policy::Community;
use crate::wire::as_path::{self, Width};
use crate::wire::attribute;

/// How far well-known communities let a route go (RFC 1997).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Anywhere.
    Any,
    /// Inside the AS.
    NoExport,
    /// To nobody.
    NoAdvertise,
}

/// A set of attributes.
#[derive(Debug)]
pub(crate) struct Attrs {
    block: Box<[u8]>,
    local_pref: u32,
    med: u32,
    neighbor_as: u32,
    originator: u32,
    pub(crate) path_len: u16,
    pub(crate) cluster_len: u16,
    pub(crate) origin: u8,
    pub(crate) scope: Scope,
    /// What there is: see below.
    bits: u8,
}

const LOCAL_PREF: u8 = 1;
const MED: u8 = 2;
const NEIGHBOR_AS: u8 = 4;
const ORIGINATOR: u8 = 8;
const ONLY_TO_CUSTOMER: u8 = 16;
const GRACEFUL_SHUTDOWN: u8 = 32;
const LONG_LIVED_STALE: u8 = 64;
const NO_LONG_LIVED: u8 = 128;

impl Attrs {
    pub(crate) fn new(block: &[u8]) -> Self {
        let mut attrs = Self {
            block: block.into(),
            local_pref: 0,
            med: 0,
            neighbor_as: 0,
            originator: 0,
            path_len: 0,
            cluster_len: 0,
            origin: ORIGIN_INCOMPLETE,
            scope: Scope::Any,
            bits: 0,
        };
        for found in attribute::walk(block).map_while(Result::ok) {
            attrs.note(found.kind, found.value);
        }
        attrs
    }

    fn note(&mut self, kind: u8, value: &[u8]) {
        let small = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        match kind {
            attribute::ORIGIN => self.origin = value.first().copied().unwrap_or(ORIGIN_INCOMPLETE),
            attribute::AS_PATH => {
                self.path_len = small(as_path::length(value, Width::Four));
                let first = as_path::first(value);
                self.neighbor_as = self.noted(NEIGHBOR_AS, first);
            }
            attribute::MULTI_EXIT_DISC => self.med = self.noted(MED, u32_of(value)),
            attribute::LOCAL_PREF => self.local_pref = self.noted(LOCAL_PREF, u32_of(value)),
            attribute::COMMUNITIES => {
                self.scope = scope(value);
                self.bits |= marks(value);
            }
            attribute::ONLY_TO_CUSTOMER => self.bits |= ONLY_TO_CUSTOMER,
            attribute::ORIGINATOR_ID => self.originator = self.noted(ORIGINATOR, u32_of(value)),
            attribute::CLUSTER_LIST => self.cluster_len = small(value.len() / 4),
            _ => {}
        }
    }

    fn noted(&mut self, bit: u8, value: Option<u32>) -> u32 {
        self.bits |= if value.is_some() { bit } else { 0 };
        value.unwrap_or(0)
    }

    fn if_present(&self, bit: u8, value: u32) -> Option<u32> {
        self.has(bit).then_some(value)
    }

    fn has(&self, bit: u8) -> bool {
        self.bits & bit != 0
    }

    pub(crate) fn local_pref(&self) -> Option<u32> {
        self.if_present(LOCAL_PREF, self.local_pref)
    }

    pub(crate) fn med(&self) -> Option<u32> {
        self.if_present(MED, self.med)
    }

    /// Leftmost AS of the path; `None` for a path that starts inside the AS.
    pub(crate) fn neighbor_as(&self) -> Option<u32> {
        self.if_present(NEIGHBOR_AS, self.neighbor_as)
    }

    pub(crate) fn originator(&self) -> Option<Ipv4Addr> {
        self.if_present(ORIGINATOR, self.originator).map(Ipv4Addr::from)
    }

    /// RFC 9234 §5. Few routes have it, so it is looked up where it is asked for.
    pub(crate) fn only_to_customer(&self) -> Option<u32> {
        let find = || attribute::find(&self.block, attribute::ONLY_TO_CUSTOMER);
        self.has(ONLY_TO_CUSTOMER).then(find).flatten().and_then(u32_of)
    }

    /// Whether GRACEFUL_SHUTDOWN is among the communities (RFC 8326).
    pub(crate) fn is_graceful_shutdown(&self) -> bool {
        self.has(GRACEFUL_SHUTDOWN)
    }

    /// Whether LLGR_STALE is (RFC 9494 §3.2).
    pub(crate) fn is_long_lived_stale(&self) -> bool {
        self.has(LONG_LIVED_STALE)
    }

    /// Whether NO_LLGR is (RFC 9494 §3.3).
    pub(crate) fn is_not_long_lived(&self) -> bool {
        self.has(NO_LONG_LIVED)
    }

    pub(crate) fn block(&self) -> &[u8] {
        &self.block
    }

    pub(crate) fn as_path(&self) -> &[u8] {
        attribute::find(&self.block, attribute::AS_PATH).unwrap_or_default()
    }

    pub(crate) fn clusters(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let list = attribute::find(&self.block, attribute::CLUSTER_LIST).unwrap_or_default();
        let (ids, _) = list.as_chunks::<4>();
        ids.iter().map(|octets| Ipv4Addr::from(*octets))
    }

    pub(crate) fn communities(&self) -> impl Iterator<Item = Community> + '_ {
        standard(&self.block)
            .map(Community::Standard)
            .chain(large(&self.block))
    }

    pub(crate) fn has_community(&self, community: Community) -> bool {
        self.communities().any(|found| found == community)
    }
}

const ORIGIN_INCOMPLETE: u8 = 2;

fn u32_of(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

fn standard(block: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let value = attribute::find(block, attribute::COMMUNITIES).unwrap_or_default();
    let (each, _) = value.as_chunks::<4>();
    each.iter().map(|octets| u32::from_be_bytes(*octets))
}

fn large(block: &[u8]) -> impl Iterator<Item = Community> + '_ {
    let value = attribute::find(block, attribute::LARGE_COMMUNITY).unwrap_or_default();
    let (each, _) = value.as_chunks::<12>();
    each.iter().map(|octets| {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *octets;
        Community::Large(
            u32::from_be_bytes([a, b, c, d]),
            u32::from_be_bytes([e, f, g, h]),
            u32::from_be_bytes([i, j, k, l]),
        )
    })
}

fn scope(communities: &[u8]) -> Scope {
    let mut scope = Scope::Any;
    let (each, _) = communities.as_chunks::<4>();
    for octets in each {
        match u32::from_be_bytes(*octets) {
            Community::NO_ADVERTISE => return Scope::NoAdvertise,
            // RFC 1997: without confederations the two are the same.
            Community::NO_EXPORT | Community::NO_EXPORT_SUBCONFED => scope = Scope::NoExport,
            _ => {}
        }
    }
    scope
}

/// Bits for the well-known communities that change what a route is worth.
fn marks(communities: &[u8]) -> u8 {
    let (each, _) = communities.as_chunks::<4>();
    let bits = each.iter().map(|octets| match u32::from_be_bytes(*octets) {
        Community::GRACEFUL_SHUTDOWN => GRACEFUL_SHUTDOWN,
        Community::LLGR_STALE => LONG_LIVED_STALE,
        Community::NO_LLGR => NO_LONG_LIVED,
        _ => 0,
    });
    bits.fold(0, |all, bit| all | bit)
}

impl PartialEq for Attrs {
    fn eq(&self, other: &Self) -> bool {
        self.block == other.block
    }
}

impl Eq for Attrs {}

/// A block of attributes for a message.
#[derive(Clone, Debug)]
pub(crate) enum Block {
    /// That of a set in the table.
    Same(Arc<Attrs>),
    /// One that was made for sending.
    Rewritten(Arc<[u8]>),
}

impl Block {
    pub(crate) fn octets(&self) -> &[u8] {
        match self {
            Self::Same(attrs) => attrs.block(),
            Self::Rewritten(octets) => octets,
        }
    }

    pub(crate) fn is_same_object(&self, other: &Self) -> bool {
        std::ptr::eq(self.octets(), other.octets())
    }
}

impl PartialEq for Block {
    fn eq(&self, other: &Self) -> bool {
        self.is_same_object(other) || self.octets() == other.octets()
    }
}

impl Eq for Block {}

impl Hash for Block {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.octets().hash(state);
    }
}

/// The key of the pool: a set found by its octets.
struct Shared(Arc<Attrs>);

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        self.0.block == other.0.block
    }
}

impl Eq for Shared {}

impl Hash for Shared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.block.hash(state);
    }
}

impl Borrow<[u8]> for Shared {
    fn borrow(&self) -> &[u8] {
        &self.0.block
    }
}

/// All sets in use. Equal blocks are one object; sets that nobody uses go when the pool has doubled.
#[derive(Default)]
pub(crate) struct Interner {
    pool: HashSet<Shared>,
    sweep_at: usize,
    /// The last one found: routes come and go in the order of their attributes.
    last: Option<Arc<Attrs>>,
    /// The last rewrites, the latest first: neighbouring prefixes mostly have the same attributes.
    recent: VecDeque<(Arc<Attrs>, Rewrite, Arc<Attrs>)>,
    /// The same on the way out.
    sent: VecDeque<(Arc<Attrs>, Rewrite, Arc<[u8]>)>,
}

const SWEEP_MIN: usize = 1024;
const RECENT_MAX: usize = 8;

impl Interner {
    /// Returns the set with this canonical block.
    pub(crate) fn intern(&mut self, block: &[u8]) -> Arc<Attrs> {
        if let Some(last) = self.last.as_ref().filter(|last| *last.block == *block) {
            return Arc::clone(last);
        }
        let attrs = match self.pool.get(block) {
            Some(found) => Arc::clone(&found.0),
            None => self.add(block),
        };
        self.last = Some(Arc::clone(&attrs));
        attrs
    }

    fn add(&mut self, block: &[u8]) -> Arc<Attrs> {
        if self.pool.len() >= self.sweep_at.max(SWEEP_MIN) {
            self.sweep();
        }
        let attrs = Arc::new(Attrs::new(block));
        self.pool.insert(Shared(Arc::clone(&attrs)));
        attrs
    }

    fn sweep(&mut self) {
        self.pool.retain(|shared| Arc::strong_count(&shared.0) > 1);
        self.sweep_at = self.pool.len() * 2;
        self.pool.shrink_to(self.sweep_at);
    }

    /// Drops sets that nobody uses, when there are many more than paths to use them.
    pub(crate) fn tidy(&mut self, paths: usize) {
        if self.pool.len() > 2 * paths + SWEEP_MIN {
            self.sweep();
        }
    }

    /// Returns the block that a rewrite makes of a set, for a message. It is not kept.
    pub(crate) fn outgoing(&mut self, attrs: &Arc<Attrs>, rewrite: Rewrite) -> Block {
        if rewrite.is_nothing() {
            return Block::Same(Arc::clone(attrs));
        }
        let same =
            |(from, by, _): &&(Arc<Attrs>, Rewrite, Arc<[u8]>)| Arc::ptr_eq(from, attrs) && *by == rewrite;
        if let Some((_, _, made)) = self.sent.iter().find(same) {
            return Block::Rewritten(Arc::clone(made));
        }
        let made: Arc<[u8]> = rewrite.apply(attrs.block()).into();
        self.sent.truncate(RECENT_MAX - 1);
        self.sent
            .push_front((Arc::clone(attrs), rewrite, Arc::clone(&made)));
        Block::Rewritten(made)
    }

    /// Returns the set that a rewrite makes of another.
    pub(crate) fn rewritten(&mut self, attrs: &Arc<Attrs>, rewrite: Rewrite) -> Arc<Attrs> {
        if rewrite.is_nothing() {
            return Arc::clone(attrs);
        }
        let same =
            |(from, by, _): &&(Arc<Attrs>, Rewrite, Arc<Attrs>)| Arc::ptr_eq(from, attrs) && *by == rewrite;
        if let Some((_, _, made)) = self.recent.iter().find(same) {
            return Arc::clone(made);
        }
        let made = self.intern(&rewrite.apply(attrs.block()));
        self.recent.truncate(RECENT_MAX - 1);
        self.recent
            .push_front((Arc::clone(attrs), rewrite, Arc::clone(&made)));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // With the counts of its `Arc`, what an allocator gives out as 64 octets.
    #[test]
    fn set_takes_five_words_beside_its_octets() {
        assert_eq!(size_of::<Attrs>(), 40);
    }

    #[test]
    fn equal_blocks_are_one_object_and_unused_ones_go() {
        let mut interner = Interner::default();
        let block = [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8];
        let first = interner.intern(&block);
        assert!(Arc::ptr_eq(&first, &interner.intern(&block)));
        assert_eq!(
            (first.origin, first.path_len, first.neighbor_as()),
            (0, 1, Some(65000))
        );
        for number in 0..3000_u32 {
            let [a, b, c, d] = number.to_be_bytes();
            interner.intern(&[0x40, 1, 1, 0, 0x80, 4, 4, a, b, c, d]);
        }
        assert!(interner.pool.len() <= 2 * SWEEP_MIN, "{}", interner.pool.len());
        assert!(Arc::ptr_eq(&first, &interner.intern(&block)));
    }
}

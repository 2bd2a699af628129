//! Sets of path attributes, each kept once: the canonical block of [`crate::wire::canonical`] and what the decision
//! process asks of it (RFC 4271 §9.1.2.2), parsed once.

use std::borrow::Borrow;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;
use std::sync::Arc;

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
    pub(crate) local_pref: Option<u32>,
    pub(crate) path_len: usize,
    pub(crate) origin: u8,
    pub(crate) med: Option<u32>,
    /// Leftmost AS of the path; `None` for a path that starts inside the AS.
    pub(crate) neighbor_as: Option<u32>,
    pub(crate) originator: Option<Ipv4Addr>,
    pub(crate) cluster_len: usize,
    pub(crate) scope: Scope,
}

impl Attrs {
    fn new(block: &[u8]) -> Self {
        let number = |kind| attribute::find(block, kind).and_then(u32_of);
        let path = attribute::find(block, attribute::AS_PATH).unwrap_or_default();
        let clusters = attribute::find(block, attribute::CLUSTER_LIST).unwrap_or_default();
        Self {
            local_pref: number(attribute::LOCAL_PREF),
            path_len: as_path::length(path, Width::Four),
            origin: attribute::find(block, attribute::ORIGIN)
                .and_then(|value| value.first().copied())
                .unwrap_or(ORIGIN_INCOMPLETE),
            med: number(attribute::MULTI_EXIT_DISC),
            neighbor_as: as_path::first(path),
            originator: number(attribute::ORIGINATOR_ID).map(Ipv4Addr::from),
            cluster_len: clusters.len() / 4,
            scope: scope(block),
            block: block.into(),
        }
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

fn scope(block: &[u8]) -> Scope {
    let mut scope = Scope::Any;
    for community in standard(block) {
        match community {
            Community::NO_ADVERTISE => return Scope::NoAdvertise,
            // RFC 1997: without confederations the two are the same.
            Community::NO_EXPORT | Community::NO_EXPORT_SUBCONFED => scope = Scope::NoExport,
            _ => {}
        }
    }
    scope
}

impl PartialEq for Attrs {
    fn eq(&self, other: &Self) -> bool {
        self.block == other.block
    }
}

impl Eq for Attrs {}

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
    /// The last rewrites, the latest first: neighbouring prefixes mostly have the same attributes.
    recent: VecDeque<(Arc<Attrs>, Rewrite, Arc<Attrs>)>,
}

const SWEEP_MIN: usize = 1024;
const RECENT_MAX: usize = 8;

impl Interner {
    /// Returns the set with this canonical block.
    pub(crate) fn intern(&mut self, block: &[u8]) -> Arc<Attrs> {
        if let Some(found) = self.pool.get(block) {
            return Arc::clone(&found.0);
        }
        if self.pool.len() >= self.sweep_at.max(SWEEP_MIN) {
            self.pool.retain(|shared| Arc::strong_count(&shared.0) > 1);
            self.sweep_at = self.pool.len() * 2;
        }
        let attrs = Arc::new(Attrs::new(block));
        self.pool.insert(Shared(Arc::clone(&attrs)));
        attrs
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

    #[test]
    fn equal_blocks_are_one_object_and_unused_ones_go() {
        let mut interner = Interner::default();
        let block = [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8];
        let first = interner.intern(&block);
        assert!(Arc::ptr_eq(&first, &interner.intern(&block)));
        assert_eq!(
            (first.origin, first.path_len, first.neighbor_as),
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

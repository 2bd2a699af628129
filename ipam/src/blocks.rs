//! All blocks as one list request returned them: which ones exist, which have room, how full the pools are. Pure.
//!
//! The list may be old; whoever uses a block reads it again.

use std::collections::BTreeMap;

use caracal_api::net::size;
use caracal_api::v3::IPAMBlock;
use ipnet::IpNet;
use jiff::Timestamp;

use crate::block::{Block, Owner};
use crate::clock;
use crate::pools::Pool;

/// How long a block must have been a node's before another node may take it over while it is empty.
const UNUSED_SECONDS: i64 = 60;

/// The blocks by prefix.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    by_cidr: BTreeMap<IpNet, IPAMBlock>,
}

impl Blocks {
    pub(crate) fn new(stored: Vec<IPAMBlock>) -> Self {
        let by_cidr = stored
            .into_iter()
            .filter_map(|block| Some((block.spec.cidr.parse::<IpNet>().ok()?.trunc(), block)));
        Self {
            by_cidr: by_cidr.collect(),
        }
    }

    pub(crate) fn contains(&self, cidr: &IpNet) -> bool {
        self.by_cidr.contains_key(cidr)
    }

    pub(crate) fn insert(&mut self, cidr: IpNet, block: IPAMBlock) {
        self.by_cidr.insert(cidr, block);
    }

    /// Notes a block of which only the owner is known.
    pub(crate) fn insert_foreign(&mut self, cidr: IpNet, owner: Option<String>) {
        let mut block = IPAMBlock::default();
        block.spec.cidr = cidr.to_string();
        block.spec.affinity = owner;
        self.by_cidr.insert(cidr, block);
    }

    /// True for a block of this owner that has a free address.
    pub(crate) fn is_usable_of(&self, cidr: &IpNet, owner: &Owner) -> bool {
        self.by_cidr.get(cidr).is_some_and(|block| {
            block.spec.affinity.as_ref() == Some(&owner.0) && !block.spec.unallocated.is_empty()
        })
    }

    /// Empty blocks that others have had for some time, with owner and sequence number.
    pub(crate) fn unused_of_others(&self, pools: &[Pool], owner: &Owner) -> Vec<(IpNet, Owner, u64)> {
        let latest = clock::now().as_second() - UNUSED_SECONDS;
        let unused = self.by_cidr.iter().filter_map(|(cidr, block)| {
            let spec = &block.spec;
            let holder = spec.affinity.as_ref().filter(|holder| **holder != owner.0)?;
            let fits = |pool: &Pool| pool.net.contains(cidr) && pool.block_size == cidr.prefix_len();
            let empty = Block::from_spec(spec.clone()).is_ok_and(|block| block.is_empty());
            // Old blocks have no claim time.
            let old = spec
                .affinity_claim_time
                .as_deref()
                .is_none_or(|at| at.parse::<Timestamp>().is_ok_and(|at| at.as_second() <= latest));
            (empty && old && pools.iter().any(fits))
                .then(|| (*cidr, Owner(holder.clone()), spec.sequence_number))
        });
        unused.collect()
    }

    /// Keeps a block from being offered as unused again.
    pub(crate) fn forget_unused(&mut self, cidr: &IpNet) {
        if let Some(block) = self.by_cidr.get_mut(cidr) {
            block.spec.allocations.clear();
        }
    }

    /// The blocks of a pool that seem to have a free address, from a start that depends on the host.
    pub(crate) fn with_room(&self, pool: &Pool, seed: u32, cooldown_seconds: i32) -> Vec<IpNet> {
        let now = clock::now();
        let has_room = |stored: &IPAMBlock| {
            // One of which only the owner is known, or that cannot be used, is to be looked at.
            Block::from_spec(stored.spec.clone()).map_or(true, |mut block| {
                block.collect(cooldown_seconds, now);
                block.free() > 0
            })
        };
        let mut blocks: Vec<IpNet> = self
            .by_cidr
            .iter()
            .filter(|(cidr, stored)| pool.net.contains(*cidr) && has_room(stored))
            .map(|(cidr, _)| *cidr)
            .collect();
        if !blocks.is_empty() {
            let start = usize::try_from(seed).unwrap_or_default() % blocks.len();
            blocks.rotate_left(start);
        }
        blocks
    }

    /// How full pools are, for a message.
    pub(crate) fn fullness(&self, pools: &[Pool], reserved: &[IpNet]) -> String {
        let parts: Vec<String> = pools
            .iter()
            .map(|pool| {
                let capacity = size(&pool.net).unwrap_or(u128::MAX);
                let used: usize = self.in_pool(pool).map(in_use).sum();
                let kept = reserved
                    .iter()
                    .any(|reserved| caracal_api::net::overlaps(reserved, &pool.net));
                let note = if kept { ", some reserved" } else { "" };
                format!(
                    "pool {} ({}): {used} of {capacity} addresses in use{note}",
                    pool.name, pool.net
                )
            })
            .collect();
        parts.join(", ")
    }

    fn in_pool<'a>(&'a self, pool: &'a Pool) -> impl Iterator<Item = &'a IPAMBlock> {
        self.by_cidr
            .iter()
            .filter(|(cidr, _)| pool.net.contains(*cidr))
            .map(|(_, block)| block)
    }
}

/// Addresses of a block that are not free; those that cool down count.
pub(crate) fn in_use(block: &IPAMBlock) -> usize {
    let spec = &block.spec;
    spec.allocations.len().saturating_sub(spec.unallocated.len())
}

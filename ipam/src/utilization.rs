//! How full pools and blocks are, and who borrows from whom. Pure, except for the one method that reads.
//!
//! Source: `libcalico-go/lib/ipam/ipam.go` (GetUtilization). An address that cools down is in use. In use and reserved
//! may overlap; free is what neither has.

use caracal_api::net::size;
use caracal_api::v3::{IPAMBlock, IPPool, IPReservation};
use caracal_datastore::ListOptions;
use ipnet::IpNet;

use crate::block::{Block, Reserved as _};
use crate::client::Ipam;
use crate::error::Result;
use crate::pools::{self, Pool, covers, pool_of, with_network};
use crate::store::repeated;

/// How full something is, in addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All addresses.
    pub capacity: u128,
    /// Assigned or cooling down.
    pub in_use: u128,
    /// Under an IPReservation.
    pub reserved: u128,
    /// Neither in use nor reserved.
    pub free: u128,
}

/// A pool's usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// The pool's name.
    pub name: String,
    /// The pool's prefix.
    pub cidr: IpNet,
    /// How full it is.
    pub usage: Usage,
    /// Its blocks, in the order of their addresses.
    pub blocks: Vec<BlockUsage>,
}

/// A block's usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockUsage {
    /// The block.
    pub cidr: IpNet,
    /// Its owner (`host:node-1`), if it has one.
    pub affinity: Option<String>,
    /// How full it is.
    pub usage: Usage,
}

/// An address that a node uses from a block that is not its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Borrowed {
    /// The address.
    pub address: std::net::IpAddr,
    /// The node that uses it.
    pub node: String,
    /// The block.
    pub block: IpNet,
    /// The block's owner, without its type; empty when it has none.
    pub block_owner: String,
    /// `pod`, `vmi`, or the allocation's `type`.
    pub kind: String,
    /// `namespace/name` of the pod or machine; empty for others.
    pub allocated_to: String,
}

/// The usage of all addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Utilization {
    /// By pool, disabled ones too, in the order of names.
    pub pools: Vec<PoolUsage>,
    /// Blocks that are in no pool.
    pub orphans: Vec<BlockUsage>,
    /// What nodes borrow.
    pub borrowed: Vec<Borrowed>,
    /// Allocations that name no node, so that nobody can say whether they are borrowed.
    pub without_node: usize,
    /// Blocks that cannot be read, with the problem.
    pub damaged: Vec<String>,
}

impl Ipam {
    /// How full pools and blocks are.
    ///
    /// # Errors
    ///
    /// Any failed request. A damaged block is no error; it is listed.
    pub async fn utilization(&self) -> Result<Utilization> {
        let client = &self.store.client;
        let all = ListOptions::default();
        let (pools, blocks, reservations) = futures::try_join!(
            repeated(|| client.list::<IPPool>(None, &all)),
            self.store.list::<IPAMBlock>(None),
            repeated(|| client.list::<IPReservation>(None, &all)),
        )?;
        Ok(Utilization::compute(&pools, &blocks, &reservations))
    }
}

impl Utilization {
    /// The usage from the stored objects.
    #[must_use]
    pub fn compute(pools: &[IPPool], blocks: &[IPAMBlock], reservations: &[IPReservation]) -> Self {
        let mut pools: Vec<Pool> = pools.iter().filter_map(with_network).collect();
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        let reserved = IpNet::aggregate(&pools::reserved(reservations));
        let mut outcome = Self {
            pools: pools.iter().map(|pool| empty_pool(pool, &reserved)).collect(),
            ..Self::default()
        };
        let mut read = Vec::new();
        for stored in blocks.iter().filter(|block| !block.spec.deleted) {
            match Block::from_spec(stored.spec.clone()) {
                Ok(block) => read.push(block),
                Err(error) => outcome.damaged.push(error.to_string()),
            }
        }
        read.sort_by_key(Block::cidr);
        for block in &read {
            outcome.count(&pools, block, &reserved);
        }
        outcome
    }

    fn count(&mut self, pools: &[Pool], block: &Block, reserved: &[IpNet]) {
        let cidr = block.cidr();
        let affinity = block.spec().affinity.clone();
        let mut usage = Usage {
            capacity: size(&cidr).unwrap_or(u128::MAX),
            reserved: reserved_in(&cidr, reserved),
            ..Usage::default()
        };
        let mut in_use_only = 0;
        for (address, attribute) in block.assignments() {
            usage.in_use += 1;
            in_use_only += u128::from(!reserved.is_reserved(address));
            if attribute.released_at.is_none() {
                match attribute.secondary.get("node") {
                    None => self.without_node += 1,
                    Some(node) => self
                        .borrowed
                        .extend(borrowed(address, node, block, &attribute.secondary)),
                }
            }
        }
        usage.free = usage
            .capacity
            .saturating_sub(usage.reserved)
            .saturating_sub(in_use_only);
        let entry = BlockUsage {
            cidr,
            affinity,
            usage,
        };
        let name = pool_of(pools, cidr.addr()).map(|pool| pool.name.as_str());
        match self
            .pools
            .iter_mut()
            .find(|pool| Some(pool.name.as_str()) == name)
        {
            Some(pool) => {
                pool.usage.in_use += usage.in_use;
                pool.usage.free = pool.usage.free.saturating_sub(in_use_only);
                pool.blocks.push(entry);
            }
            None => self.orphans.push(entry),
        }
    }
}

fn empty_pool(pool: &Pool, reserved: &[IpNet]) -> PoolUsage {
    let capacity = size(&pool.net).unwrap_or(u128::MAX);
    let reserved = reserved_in(&pool.net, reserved);
    PoolUsage {
        name: pool.name.clone(),
        cidr: pool.net,
        usage: Usage {
            capacity,
            in_use: 0,
            reserved,
            free: capacity.saturating_sub(reserved),
        },
        blocks: Vec::new(),
    }
}

/// Addresses of a prefix that are reserved; the reservations do not overlap each other.
fn reserved_in(net: &IpNet, reserved: &[IpNet]) -> u128 {
    if covers(reserved, net).is_some() {
        return size(net).unwrap_or(u128::MAX);
    }
    let inside = reserved.iter().filter(|reserved| net.contains(*reserved));
    inside.filter_map(size).fold(0, u128::saturating_add)
}

fn borrowed(
    address: std::net::IpAddr,
    node: &str,
    block: &Block,
    attributes: &std::collections::BTreeMap<String, String>,
) -> Option<Borrowed> {
    let affinity = block.spec().affinity.as_deref().unwrap_or_default();
    let owner = affinity.split_once(':').map_or(affinity, |(_, name)| name);
    if owner == node {
        return None;
    }
    let text = |key: &str| attributes.get(key).cloned().unwrap_or_default();
    let target = |name: &str| format!("{}/{}", text("namespace"), text(name));
    let (kind, allocated_to) = if attributes.contains_key("vmi-name") {
        ("vmi".to_owned(), target("vmi-name"))
    } else if attributes.contains_key("pod") {
        ("pod".to_owned(), target("pod"))
    } else {
        (text("type"), String::new())
    };
    Some(Borrowed {
        address,
        node: node.to_owned(),
        block: block.cidr(),
        block_owner: owner.to_owned(),
        kind,
        allocated_to,
    })
}

//! The allocator: its requests, and questions about who has what.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_api::v3::{IPAMBlock, IPPool, IPPoolAllowedUse};
use caracal_datastore::{Client, ListOptions};
use ipnet::IpNet;

use crate::block::{Block, Owner};
use crate::error::{Error, Family, Result};
use crate::pools::{block_in, pool_of, with_network};
use crate::store::{Store, repeated};

/// The name that owns the blocks of LoadBalancer addresses.
const LOAD_BALANCER: &str = "load-balancer";

/// The allocator of a cluster's addresses. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Ipam {
    pub(crate) store: Store,
}

/// Addresses wanted from whichever block has some.
#[derive(Clone, Debug)]
pub struct AutoAssign {
    /// How many IPv4 addresses.
    pub v4: usize,
    /// How many IPv6 addresses.
    pub v6: usize,
    /// The node that the addresses are for.
    pub host: String,
    /// The handle under which they can be released together.
    pub handle: Option<String>,
    /// Attributes stored with them: `pod`, `namespace`, `node`, `timestamp`, `type`, ...
    pub attributes: BTreeMap<String, String>,
    /// IPv4 pools to take from, by name or CIDR, in this order; empty = by the pools' selectors.
    pub v4_pools: Vec<String>,
    /// IPv6 pools to take from; empty = by the pools' selectors.
    pub v6_pools: Vec<String>,
    /// Labels of the pod's namespace, for the pools' namespaceSelector.
    pub namespace_labels: BTreeMap<String, String>,
    /// What the addresses are for.
    pub use_: IPPoolAllowedUse,
    /// Most blocks of a family that the node may have; the IPAMConfiguration's limit holds beside it.
    pub max_blocks_per_host: Option<usize>,
}

impl AutoAssign {
    /// One IPv4 address for a workload on a node, under a handle.
    #[must_use]
    pub fn workload(host: &str, handle: &str) -> Self {
        Self {
            v4: 1,
            v6: 0,
            host: host.to_owned(),
            handle: Some(handle.to_owned()),
            attributes: BTreeMap::new(),
            v4_pools: Vec::new(),
            v6_pools: Vec::new(),
            namespace_labels: BTreeMap::new(),
            use_: IPPoolAllowedUse::Workload,
            max_blocks_per_host: None,
        }
    }

    /// The pools of a family that are asked for.
    pub(crate) fn pools_of(&self, family: Family) -> &[String] {
        match family {
            Family::V4 => &self.v4_pools,
            Family::V6 => &self.v6_pools,
        }
    }
}

/// Addresses that were assigned, each with the prefix length of its block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assigned {
    /// IPv4 addresses.
    pub v4: Vec<IpNet>,
    /// IPv6 addresses.
    pub v6: Vec<IpNet>,
}

impl Assigned {
    /// All addresses, IPv4 first.
    pub fn all(&self) -> impl Iterator<Item = IpNet> {
        self.v4.iter().chain(&self.v6).copied()
    }
}

/// One certain address wanted.
#[derive(Clone, Debug)]
pub struct AssignIp {
    /// The address.
    pub address: IpAddr,
    /// The node that it is for.
    pub host: String,
    /// The handle to release it by.
    pub handle: Option<String>,
    /// Attributes stored with it.
    pub attributes: BTreeMap<String, String>,
    /// What it is for; `None` = whatever its pool allows.
    pub use_: Option<IPPoolAllowedUse>,
}

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressOwner {
    /// The block of the address.
    pub block: IpNet,
    /// The block's owner (`host:node-1`), if it has one.
    pub affinity: Option<String>,
    /// The handle.
    pub handle: Option<String>,
    /// The attributes of the active owner.
    pub attributes: BTreeMap<String, String>,
    /// The sequence number of the block when the address was assigned; a release may name it.
    pub sequence_number: u64,
    /// When the address was released, while it may not be assigned again.
    pub released_at: Option<String>,
}

impl Ipam {
    /// The allocator over a datastore.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self {
            store: Store { client },
        }
    }

    /// True when a handle exists, whatever it holds.
    ///
    /// # Errors
    ///
    /// Any failed request.
    pub async fn has_handle(&self, handle: &str) -> Result<bool> {
        Ok(self.store.handle(handle).await?.is_some())
    }

    /// The addresses of a handle.
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`] when there is no such handle. Any failed request.
    pub async fn ips_by_handle(&self, handle: &str) -> Result<Vec<IpAddr>> {
        let Some(stored) = self.store.handle(handle).await? else {
            return Err(Error::UnknownHandle {
                handle: handle.to_owned(),
            });
        };
        let mut addresses = Vec::new();
        for cidr in stored.spec.block.keys().filter_map(|text| text.parse().ok()) {
            if let Some(block) = self.store.block(&cidr).await? {
                addresses.extend(Block::from_spec(block.spec)?.addresses_of(handle));
            }
        }
        Ok(addresses)
    }

    /// Who has an address; `None` when it is free or in no block.
    ///
    /// # Errors
    ///
    /// Any failed request; a damaged block.
    pub async fn assignment_of(&self, address: IpAddr) -> Result<Option<AddressOwner>> {
        let Some(stored) = self.block_with(address).await? else {
            return Ok(None);
        };
        let block = Block::from_spec(stored.spec)?;
        Ok(block
            .assignment(address)
            .map(|(attribute, sequence_number)| AddressOwner {
                block: block.cidr(),
                affinity: block.spec().affinity.clone(),
                handle: attribute.handle_id.clone(),
                attributes: attribute.secondary.clone(),
                sequence_number,
                released_at: attribute.released_at.clone(),
            }))
    }

    /// The block that an address is in, also one that outlived its pool.
    pub(crate) async fn block_with(&self, address: IpAddr) -> Result<Option<IPAMBlock>> {
        let pools = self.pools().await?;
        let pools: Vec<_> = pools.iter().filter_map(with_network).collect();
        if let Some(cidr) = pool_of(&pools, address).and_then(|pool| block_in(pool, address))
            && let Some(block) = self.store.block(&cidr).await?
        {
            return Ok(Some(block));
        }
        let blocks: Vec<IPAMBlock> = self.store.list(None).await?;
        Ok(blocks.into_iter().find(|block| {
            let cidr = block.spec.cidr.parse::<IpNet>();
            cidr.is_ok_and(|cidr| cidr.contains(&address))
        }))
    }

    pub(crate) async fn pools(&self) -> Result<Vec<IPPool>> {
        let client = &self.store.client;
        let all = ListOptions::default();
        Ok(repeated(|| client.list(None, &all)).await?)
    }
}

/// The owner that a request takes blocks for.
pub(crate) fn owner_of(host: &str, use_: Option<&IPPoolAllowedUse>) -> Owner {
    if use_ == Some(&IPPoolAllowedUse::LoadBalancer) {
        return Owner::virtual_(LOAD_BALANCER);
    }
    Owner::host(host)
}

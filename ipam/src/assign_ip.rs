//! Assigning one certain address.
//!
//! Source: `libcalico-go/lib/ipam/ipam.go` (AssignIP). Selectors and reservations do not count: who names an address
//! means it.

use caracal_api::net::size;
use ipnet::IpNet;

use crate::attempts::Attempts;
use crate::block::Assignment;
use crate::claim::Claim;
use crate::client::{AssignIp, Ipam, owner_of};
use crate::error::{Error, Result};
use crate::pools::{self, Pool, block_in, pool_of};
use crate::take::{Take, Taken};

impl Ipam {
    /// Assigns an address and returns it as a prefix of full length.
    ///
    /// # Errors
    ///
    /// When the address is in no enabled pool, not for this use, taken, or in another node's block under strict
    /// affinity. Any failed request.
    pub async fn assign_ip(&self, request: &AssignIp) -> Result<IpNet> {
        let address = request.address;
        let stored = self.pools().await?;
        let enabled = pools::enabled(&stored);
        let pool = pool_of(&enabled, address).ok_or_else(|| Error::NotInPool {
            address,
            known: pools::describe(&enabled),
        })?;
        check_use(request, pool)?;
        let outside = || Error::NotInPool {
            address,
            known: pools::describe(&enabled),
        };
        let cidr = block_in(pool, address).ok_or_else(outside)?;
        let configuration = self.store.configuration().await?;
        let owner = owner_of(&request.host, request.use_.as_ref());
        let want = Assignment {
            owner: &owner,
            handle: request.handle.as_deref(),
            attributes: &request.attributes,
            strict: configuration.strict_affinity,
        };
        let cooldown = configuration.ip_cooldown_seconds;
        let mut attempts = Attempts::of(format!("block {cidr}"));
        let mut known = None;
        loop {
            let take = Take::This(address);
            match self
                .store
                .take(&cidr, take, &want, cooldown, known.take())
                .await?
            {
                Taken::Addresses(_) => return Ok(IpNet::from(address)),
                Taken::NoBlock => {
                    attempts.changed()?;
                    if let Claim::Ours(block) = self.store.claim(&owner, &cidr).await? {
                        known = Some(*block);
                    }
                }
            }
        }
    }

    /// Claims all blocks of a prefix for a node; returns those that it has now, and those that others have.
    ///
    /// # Errors
    ///
    /// When the prefix is not made of blocks of an enabled pool, or has more than 1024 of them. Any failed request.
    pub async fn claim_affinity(&self, cidr: &IpNet, host: &str) -> Result<(Vec<IpNet>, Vec<IpNet>)> {
        const BLOCKS_MAX: usize = 1024;
        let stored = self.pools().await?;
        let enabled = pools::enabled(&stored);
        let unfit = || Error::NoSuchBlock {
            cidr: *cidr,
            known: pools::describe(&enabled),
        };
        let pool = pool_of(&enabled, cidr.network()).ok_or_else(unfit)?;
        let fits = pool.net.contains(cidr)
            && cidr.prefix_len() <= pool.block_size
            && size(cidr)
                .is_some_and(|size| size >> (cidr.max_prefix_len() - pool.block_size) <= BLOCKS_MAX as u128);
        if !fits {
            return Err(unfit());
        }
        let owner = owner_of(host, None);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for block in cidr.trunc().subnets(pool.block_size).map_err(|_| unfit())? {
            match self.store.claim(&owner, &block).await? {
                Claim::Ours(_) => ours.push(block),
                Claim::Theirs(_) => theirs.push(block),
            }
        }
        Ok((ours, theirs))
    }
}

fn check_use(request: &AssignIp, pool: &Pool) -> Result<()> {
    let Some(use_) = &request.use_ else { return Ok(()) };
    let spec = &pool.source.spec;
    if spec.allows(use_) {
        return Ok(());
    }
    let allowed: Vec<&str> = spec.allowed_uses.iter().map(|allowed| allowed.as_str()).collect();
    Err(Error::AddressWrongUse {
        address: request.address,
        pool: pool.name.clone(),
        use_: use_.as_str().to_owned(),
        allowed: if allowed.is_empty() {
            "Workload, Tunnel".to_owned()
        } else {
            allowed.join(", ")
        },
    })
}

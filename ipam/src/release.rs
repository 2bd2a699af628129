//! Releasing addresses: the block by compare-and-swap first, then the handles.
//!
//! A repeated release never touches an address that was assigned anew: after a lost answer, addresses are released
//! only as long as they carry the sequence number that they were seen with.
//! Source: `libcalico-go/lib/ipam/ipam.go` (ReleaseIPs, ReleaseByHandle).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use caracal_api::v3::{IPAMBlock, IPAMHandle, IPPool};
use caracal_datastore::ListOptions;
use ipnet::IpNet;

use crate::attempts::{Again, Attempts};
use crate::block::{Block, Release};
use crate::client::Ipam;
use crate::clock;
use crate::error::{Error, Result};
use crate::handles::SetCount as _;
use crate::pools::{block_in, pool_of, with_network};
use crate::step::{Step, is_left_out};
use crate::store::Store;

/// What became of addresses to release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Addresses that were released.
    pub released: Vec<IpAddr>,
    /// Addresses that nobody held.
    pub not_allocated: Vec<IpAddr>,
}

impl Ipam {
    /// Releases addresses. An address that nobody holds is no error.
    ///
    /// # Errors
    ///
    /// When an address is held under another handle or sequence number than its release names; then nothing of its
    /// block is released. Any failed request.
    pub async fn release_ips(&self, releases: &[Release]) -> Result<Released> {
        let mut outcome = Released::default();
        let cooldown = self.store.configuration().await?.ip_cooldown_seconds;
        for (cidr, releases) in self.by_block(releases, &mut outcome).await? {
            let part = self.store.release_in(&cidr, releases, cooldown).await?;
            if !part.released.is_empty() {
                self.leave_if_unselected(&cidr).await;
            }
            outcome.released.extend(part.released);
            outcome.not_allocated.extend(part.not_allocated);
        }
        Ok(outcome)
    }

    /// Releases all addresses of a handle.
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`] when there is no such handle. Any failed request; calling again completes it.
    pub async fn release_by_handle(&self, handle: &str) -> Result<()> {
        let Some(stored) = self.store.handle(handle).await? else {
            return Err(Error::UnknownHandle {
                handle: handle.to_owned(),
            });
        };
        let cooldown = self.store.configuration().await?.ip_cooldown_seconds;
        let mut known = Some(stored.clone());
        for text in stored.spec.block.keys() {
            match text.parse::<IpNet>() {
                Ok(cidr) => {
                    self.store
                        .empty_handle(handle, &cidr, cooldown, known.take())
                        .await?;
                }
                Err(_) => {
                    return Err(Error::DamagedBlock {
                        cidr: text.clone(),
                        problem: format!("handle {handle:?} counts addresses in it"),
                    });
                }
            }
        }
        if stored.spec.block.is_empty() {
            self.store.remove_if_empty(handle).await?;
        }
        Ok(())
    }

    /// Addresses by the block they are in; those of no block nobody holds.
    async fn by_block(
        &self,
        releases: &[Release],
        outcome: &mut Released,
    ) -> Result<BTreeMap<IpNet, Vec<Release>>> {
        let stored: Vec<IPPool> = self.store.client.list(None, &ListOptions::default()).await?;
        let pools: Vec<_> = stored.iter().filter_map(with_network).collect();
        let mut blocks: BTreeMap<IpNet, Vec<Release>> = BTreeMap::new();
        let mut all = None;
        for release in releases {
            let address = release.address;
            let mut cidr = pool_of(&pools, address).and_then(|pool| block_in(pool, address));
            // Blocks may outlive their pool, and a pool of that prefix may have come back with another block size.
            let known = match &cidr {
                Some(cidr) => blocks.contains_key(cidr) || self.store.block(cidr).await?.is_some(),
                None => false,
            };
            if !known {
                let all = match &mut all {
                    Some(all) => all,
                    None => all.insert(self.block_cidrs().await?),
                };
                cidr = all.iter().find(|cidr| cidr.contains(&address)).copied();
            }
            match cidr {
                Some(cidr) => blocks.entry(cidr).or_default().push(release.clone()),
                None => outcome.not_allocated.push(address),
            }
        }
        Ok(blocks)
    }

    async fn block_cidrs(&self) -> Result<Vec<IpNet>> {
        let blocks: Vec<IPAMBlock> = self.store.list(None).await?;
        Ok(blocks
            .iter()
            .filter_map(|block| block.spec.cidr.parse().ok())
            .collect())
    }
}

impl Store {
    async fn release_in(&self, cidr: &IpNet, releases: Vec<Release>, cooldown: i32) -> Result<Released> {
        let mut attempts = Attempts::of(format!("block {cidr}"));
        let mut pending = releases;
        let mut done = Released::default();
        let mut unsure: BTreeSet<String> = BTreeSet::new();
        // Addresses that a write with a lost answer was to release, with the sequence number that they had.
        let mut lost: BTreeMap<IpAddr, u64> = BTreeMap::new();
        loop {
            let stored = self.block(cidr).await?;
            let block = stored
                .as_ref()
                .map(|stored| Block::from_spec(stored.spec.clone()))
                .transpose()?;
            pending.retain(|release| {
                let now = block
                    .as_ref()
                    .and_then(|block| block.assigned_at(release.address));
                let lost = lost
                    .get(&release.address)
                    .filter(|_| !is_left_out(Step::NoticeReassigned));
                let landed = lost.is_some_and(|then| now != Some(*then));
                if landed {
                    done.released.push(release.address);
                }
                !landed
            });
            let (Some(stored), Some(mut block)) = (stored, block) else {
                done.not_allocated
                    .extend(pending.iter().map(|release| release.address));
                break;
            };
            let seen: BTreeMap<IpAddr, u64> = pending
                .iter()
                .filter_map(|release| Some((release.address, block.assigned_at(release.address)?)))
                .collect();
            let (handles, not_allocated) = block.release(&pending, clock::now())?;
            if seen.is_empty() {
                done.not_allocated.extend(not_allocated);
                break;
            }
            match self.write_released(stored, block, cooldown).await {
                Ok(()) => {
                    done.released.extend(seen.keys());
                    done.not_allocated.extend(not_allocated);
                    for (handle, count) in handles {
                        if !unsure.contains(&handle) {
                            self.decrement(&handle, cidr, count).await?;
                        }
                    }
                    break;
                }
                Err(error) => {
                    if attempts.after(error).await? == Again::Lost {
                        lost.extend(seen);
                        unsure.extend(handles.into_keys());
                    }
                }
            }
        }
        for handle in unsure {
            self.settle(&handle, cidr).await?;
        }
        Ok(done)
    }

    /// Writes a block after a release; one that is empty and of nobody goes.
    async fn write_released(
        &self,
        stored: IPAMBlock,
        mut block: Block,
        cooldown: i32,
    ) -> caracal_datastore::Result<()> {
        block.collect(cooldown, clock::now());
        if block.is_empty() && block.spec().affinity.is_none() {
            return self.remove(&stored).await;
        }
        block.bump();
        let object = IPAMBlock {
            spec: block.into_spec(),
            ..stored
        };
        self.write(&object).await.map(|_| ())
    }

    /// Releases the addresses that a handle has in a block, and takes the block out of the handle.
    ///
    /// The block is written even when the handle has no address in it: an assignment under way has counted up
    /// already, and must fail, so that it counts anew.
    async fn empty_handle(
        &self,
        id: &str,
        cidr: &IpNet,
        cooldown: i32,
        mut known: Option<IPAMHandle>,
    ) -> Result<()> {
        let mut attempts = Attempts::of(format!("handle {id}"));
        loop {
            let handle = match known.take() {
                Some(handle) => Some(handle),
                None => self.handle(id).await?,
            };
            let Some(mut handle) = handle else {
                return Ok(());
            };
            if !handle.spec.block.contains_key(&cidr.to_string()) {
                return Ok(());
            }
            if let Some(stored) = self.block(cidr).await? {
                let mut block = Block::from_spec(stored.spec.clone())?;
                block.release_by_handle(id, clock::now());
                if let Err(error) = self.write_released(stored, block, cooldown).await {
                    attempts.after(error).await?;
                    continue;
                }
            }
            handle.spec.set_count(cidr, 0);
            match self.write_handle(&handle).await {
                Ok(()) => return Ok(()),
                Err(error) => attempts.after(error).await?,
            };
        }
    }

    /// Removes a handle that counts nothing: what a program that stopped half-way left.
    pub(crate) async fn remove_if_empty(&self, id: &str) -> Result<()> {
        let mut attempts = Attempts::of(format!("handle {id}"));
        loop {
            let Some(handle) = self.handle(id).await? else {
                return Ok(());
            };
            if !handle.spec.block.is_empty() {
                return Ok(());
            }
            match self.remove(&handle).await {
                Ok(()) => return Ok(()),
                Err(error) => attempts.after(error).await?,
            };
        }
    }
}

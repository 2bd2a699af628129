//! Counting a handle's addresses up and down in the datastore.
//!
//! The order of writes makes a crash harmless: up before the block is written, down after it. A count may therefore
//! be too high, never too low: an address that no handle counts could not be found for its release.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_api::names::handle_name;
use caracal_api::v3::{IPAMBlock, IPAMHandle, IPAMHandleSpec};
use ipnet::IpNet;

use crate::attempts::{Again, Attempts};
use crate::block::Block;
use crate::error::Result;
use crate::handle::Handle;
use crate::step::{Step, is_left_out};
use crate::store::{Store, version};

impl Store {
    /// Counts addresses of a block up; makes the handle when there is none.
    pub(crate) async fn increment(&self, id: &str, cidr: &IpNet, count: i32) -> Result<()> {
        let mut attempts = Attempts::of(format!("handle {id}"));
        loop {
            let written = match self.handle(id).await? {
                None => {
                    let mut handle = Handle::new(id);
                    handle.increment(cidr, count);
                    let object = IPAMHandle::new(&handle_name(id), handle.0);
                    self.client.create(&object).await
                }
                Some(mut object) => {
                    let mut handle = Handle(object.spec);
                    handle.increment(cidr, count);
                    object.spec = handle.0;
                    self.write(&object).await
                }
            };
            match written {
                Ok(_) => return Ok(()),
                // After a lost answer the count may go up twice: too high, which is the harmless side.
                Err(error) => attempts.after(error).await?,
            };
        }
    }

    /// Counts addresses of a block down, and removes the handle with its last one.
    pub(crate) async fn decrement(&self, id: &str, cidr: &IpNet, count: i32) -> Result<()> {
        let mut attempts = Attempts::of(format!("handle {id}"));
        let mut lost_at: Option<Option<String>> = None;
        loop {
            let Some(mut object) = self.handle(id).await? else {
                return Ok(());
            };
            let read = version(&object);
            if lost_at.as_ref().is_some_and(|lost| *lost != read) {
                // The write whose answer was lost may have been this change: counting down again could go too low.
                return self.settle(id, cidr).await;
            }
            let mut handle = Handle(object.spec.clone());
            if let Err(error) = handle.decrement(cidr, count) {
                tracing::warn!(%error, "a handle counted too few addresses");
                return self.settle(id, cidr).await;
            }
            object.spec = handle.0;
            match self.write_handle(&object).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    if attempts.after(error).await? == Again::Lost {
                        lost_at.get_or_insert(read);
                    }
                }
            }
        }
    }

    /// Makes the count of a block what the block says, if the handle counts it. The block is written unchanged in
    /// between, so that an assignment under way, which has counted up already, fails and counts anew.
    pub(crate) async fn settle(&self, id: &str, cidr: &IpNet) -> Result<()> {
        let mut attempts = Attempts::of(format!("handle {id}"));
        loop {
            let Some(mut object) = self.handle(id).await? else {
                return Ok(());
            };
            let Some(counted) = object.spec.block.get(&cidr.to_string()).copied() else {
                return Ok(());
            };
            let held = match self.fence(id, cidr, counted).await? {
                Ok(held) => held,
                Err(error) => {
                    attempts.after(error).await?;
                    continue;
                }
            };
            if held == counted {
                return Ok(());
            }
            object.spec.set_count(cidr, held);
            match self.write_handle(&object).await {
                Ok(()) => return Ok(()),
                Err(error) => attempts.after(error).await?,
            };
        }
    }

    /// As [`Self::settle`], and also makes a handle that a block names and that does not exist, or does not count the
    /// block.
    pub(crate) async fn recount(&self, id: &str, cidr: &IpNet) -> Result<()> {
        let mut attempts = Attempts::of(format!("handle {id}"));
        loop {
            let stored = self.handle(id).await?;
            let counted = stored
                .as_ref()
                .and_then(|stored| stored.spec.block.get(&cidr.to_string()).copied());
            let held = match self.fence(id, cidr, counted.unwrap_or_default()).await? {
                Ok(held) => held,
                Err(error) => {
                    attempts.after(error).await?;
                    continue;
                }
            };
            if held == counted.unwrap_or_default() && (held > 0 || counted.is_none()) {
                return Ok(());
            }
            let written = match stored {
                Some(mut object) => {
                    object.spec.set_count(cidr, held);
                    self.write_handle(&object).await
                }
                None => {
                    let mut handle = Handle::new(id);
                    handle.increment(cidr, held);
                    let object = IPAMHandle::new(&handle_name(id), handle.0);
                    self.client.create(&object).await.map(|_| ())
                }
            };
            match written {
                Ok(()) => return Ok(()),
                Err(error) => attempts.after(error).await?,
            };
        }
    }

    /// Counts a handle's addresses in a block. When that is not what was counted before, the block is written
    /// unchanged, so that nobody who read it before can write it after.
    async fn fence(&self, id: &str, cidr: &IpNet, counted: i32) -> Result<caracal_datastore::Result<i32>> {
        let Some(stored) = self.block(cidr).await? else {
            return Ok(Ok(0));
        };
        let block = Block::from_spec(stored.spec.clone())?;
        let held = i32::try_from(block.addresses_of(id).len()).unwrap_or(i32::MAX);
        if held == counted || is_left_out(Step::FenceHandle) {
            return Ok(Ok(held));
        }
        Ok(self.prove(stored, block).await.map(|()| held))
    }

    /// The addresses that blocks have under a handle, as far as the handle counts their blocks.
    pub(crate) async fn held_by(&self, id: &str) -> Result<BTreeMap<IpAddr, IpNet>> {
        let mut held = BTreeMap::new();
        let Some(stored) = self.handle(id).await? else {
            return Ok(held);
        };
        for cidr in stored
            .spec
            .block
            .keys()
            .filter_map(|text| text.parse::<IpNet>().ok())
        {
            if let Some(block) = self.block(&cidr).await? {
                let block = Block::from_spec(block.spec)?;
                held.extend(block.addresses_of(id).into_iter().map(|address| (address, cidr)));
            }
        }
        Ok(held)
    }

    /// The addresses that a block has under a handle, by a block that could be written as it was read.
    pub(crate) async fn proved_of(&self, id: &str, cidr: &IpNet) -> Result<Vec<IpAddr>> {
        let mut attempts = Attempts::of(format!("block {cidr}"));
        loop {
            let Some(stored) = self.block(cidr).await? else {
                return Ok(Vec::new());
            };
            let block = Block::from_spec(stored.spec.clone())?;
            let addresses = block.addresses_of(id);
            if is_left_out(Step::ProveUnknown) {
                return Ok(addresses);
            }
            match self.prove(stored, block).await {
                Ok(()) => return Ok(addresses),
                Err(error) => attempts.after(error).await?,
            };
        }
    }

    /// Writes a block as it was read: then it was current.
    pub(crate) async fn prove(&self, stored: IPAMBlock, mut block: Block) -> caracal_datastore::Result<()> {
        block.bump();
        let object = IPAMBlock {
            spec: block.into_spec(),
            ..stored
        };
        self.write(&object).await.map(|_| ())
    }

    /// Writes a handle in the state in which it was read, or removes it when it has become empty.
    pub(crate) async fn write_handle(&self, object: &IPAMHandle) -> caracal_datastore::Result<()> {
        if object.spec.block.is_empty() {
            return self.remove(object).await;
        }
        self.write(object).await.map(|_| ())
    }
}

/// Setting a count.
pub(crate) trait SetCount {
    /// Makes the count of a block `count`; 0 removes its entry.
    fn set_count(&mut self, cidr: &IpNet, count: i32);
}

impl SetCount for IPAMHandleSpec {
    fn set_count(&mut self, cidr: &IpNet, count: i32) {
        if count <= 0 {
            self.block.remove(&cidr.to_string());
        } else {
            self.block.insert(cidr.to_string(), count);
        }
    }
}

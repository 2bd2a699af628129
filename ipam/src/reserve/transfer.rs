//! Rewriting an allocation from one handle to another, in the order that keeps counts from ever being too low: the
//! new handle up, the block, the old handle down.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_api::v3::IPAMBlock;
use ipnet::IpNet;

use crate::attempts::{Again, Attempts};
use crate::block::{Block, handle_of};
use crate::error::Result;
use crate::store::Store;

/// An allocation to be rewritten.
pub(super) struct Transfer<'a> {
    pub(super) address: IpAddr,
    pub(super) block: IpNet,
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) attributes: &'a BTreeMap<String, String>,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Transferred {
    /// The allocation is under the new handle.
    Done,
    /// The address is free.
    Free,
    /// Somebody else has it.
    OfAnother(String),
}

impl Store {
    pub(super) async fn transfer(&self, what: &Transfer<'_>) -> Result<Transferred> {
        let cidr = &what.block;
        let mut attempts = Attempts::of(format!("block {cidr}"));
        let mut unsure = false;
        loop {
            let Some(stored) = self.block(cidr).await? else {
                return Ok(Transferred::Free);
            };
            let mut block = Block::from_spec(stored.spec.clone())?;
            let held = block.assignment(what.address).map(|(attribute, _)| attribute);
            let holder = held
                .filter(|held| held.released_at.is_none())
                .map(|held| handle_of(held).unwrap_or_default().to_owned());
            match holder {
                Some(holder) if holder == what.from => {}
                Some(holder) if holder == what.to => {
                    self.settle_both(what).await?;
                    return Ok(Transferred::Done);
                }
                // What was read may be old; only a block that could be written says how it is.
                other => match self.prove(stored, block).await {
                    Ok(()) if unsure => {
                        self.settle_both(what).await?;
                        return Ok(of_another(other));
                    }
                    Ok(()) => return Ok(of_another(other)),
                    Err(error) => {
                        attempts.after(error).await?;
                        continue;
                    }
                },
            }
            self.increment(what.to, cidr, 1).await?;
            block.reassign(what.address, what.to, what.attributes);
            block.bump();
            let object = IPAMBlock {
                spec: block.into_spec(),
                ..stored
            };
            match self.write(&object).await {
                Ok(_) if unsure => {
                    self.settle_both(what).await?;
                    return Ok(Transferred::Done);
                }
                Ok(_) => {
                    self.decrement(what.from, cidr, 1).await?;
                    return Ok(Transferred::Done);
                }
                Err(error) => {
                    if attempts.after(error).await? == Again::Lost {
                        unsure = true;
                    } else {
                        self.decrement(what.to, cidr, 1).await?;
                    }
                }
            }
        }
    }

    async fn settle_both(&self, what: &Transfer<'_>) -> Result<()> {
        self.settle(what.to, &what.block).await?;
        self.settle(what.from, &what.block).await
    }
}

fn of_another(holder: Option<String>) -> Transferred {
    holder.map_or(Transferred::Free, Transferred::OfAnother)
}

//! Writing an assignment into a block: by compare-and-swap, the handle first.
//!
//! Never chooses a block. A write whose answer is lost is looked for in the block before anything else is taken, so
//! that no address is assigned to a request that knows nothing of it.

use std::net::IpAddr;

use caracal_api::v3::IPAMBlock;
use ipnet::IpNet;

use crate::attempts::{Again, Attempts};
use crate::block::{Assignment, Block};
use crate::clock;
use crate::error::Result;
use crate::step::{Step, is_left_out};
use crate::store::Store;

/// What to take from a block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Take<'a> {
    /// Up to so many free addresses that are not reserved.
    Any {
        /// How many.
        count: usize,
        /// Addresses to leave alone.
        reserved: &'a [IpNet],
    },
    /// This address.
    This(IpAddr),
}

/// What was taken.
#[derive(Debug)]
pub(crate) enum Taken {
    /// These addresses; fewer than wanted when the block has no more.
    Addresses(Vec<IpAddr>),
    /// There is no such block.
    NoBlock,
}

/// A write whose answer was lost.
struct Lost {
    addresses: Vec<IpAddr>,
    sequence_number: u64,
}

impl Store {
    /// Takes addresses from a block. `known` is the block as it was just read, to save a request.
    pub(crate) async fn take(
        &self,
        cidr: &IpNet,
        take: Take<'_>,
        want: &Assignment<'_>,
        cooldown_seconds: i32,
        mut known: Option<IPAMBlock>,
    ) -> Result<Taken> {
        let mut attempts = Attempts::of(format!("block {cidr}"));
        let mut lost: Vec<Lost> = Vec::new();
        loop {
            let stored = match known.take() {
                Some(stored) => Some(stored),
                None => self.block(cidr).await?,
            };
            let Some(stored) = stored else {
                return Ok(Taken::NoBlock);
            };
            let mut block = Block::from_spec(stored.spec.clone())?;
            let landed = lost
                .iter()
                .filter(|_| !is_left_out(Step::LookForLost))
                .find(|lost| block.has_assigned(&lost.addresses, want, lost.sequence_number));
            if let Some(landed) = landed {
                let addresses = landed.addresses.clone();
                self.settle_after_loss(cidr, want).await;
                return Ok(Taken::Addresses(addresses));
            }
            block.collect(cooldown_seconds, clock::now());
            let sequence_number = block.spec().sequence_number;
            let addresses = match take {
                Take::Any { count, reserved } => block.auto_assign(count, want, reserved)?,
                Take::This(address) => block.assign(address, want).map(|()| vec![address])?,
            };
            if addresses.is_empty() {
                return Ok(Taken::Addresses(addresses));
            }
            match self.write_taken(stored, block, &addresses, want).await? {
                Ok(()) => {
                    if !lost.is_empty() {
                        self.settle_after_loss(cidr, want).await;
                    }
                    return Ok(Taken::Addresses(addresses));
                }
                Err(error) => {
                    let answer_lost = error.is_transient();
                    if answer_lost {
                        // The handle stays counted: the write may have been carried out.
                        lost.push(Lost {
                            addresses,
                            sequence_number,
                        });
                    } else {
                        self.count_down(cidr, addresses.len(), want).await?;
                    }
                    let again = attempts.after(error).await?;
                    debug_assert_eq!(again == Again::Lost, answer_lost);
                }
            }
        }
    }

    async fn write_taken(
        &self,
        stored: IPAMBlock,
        mut block: Block,
        addresses: &[IpAddr],
        want: &Assignment<'_>,
    ) -> Result<caracal_datastore::Result<()>> {
        if let Some(handle) = want.handle.filter(|_| !is_left_out(Step::CountFirst)) {
            self.increment(handle, &block.cidr(), count(addresses.len()))
                .await?;
        }
        block.bump();
        let cidr = block.cidr();
        let object = IPAMBlock {
            spec: block.into_spec(),
            ..stored
        };
        let written = self.write(&object).await.map(|_| ());
        if let Some(handle) = want.handle.filter(|_| is_left_out(Step::CountFirst)) {
            self.increment(handle, &cidr, count(addresses.len())).await?;
        }
        Ok(written)
    }

    /// The handle may count what was never assigned. That harms nobody, so a failure is not one of the assignment.
    async fn settle_after_loss(&self, cidr: &IpNet, want: &Assignment<'_>) {
        let Some(handle) = want.handle else { return };
        if let Err(error) = self.settle(handle, cidr).await {
            tracing::debug!(%error, handle, "a handle may count too many addresses");
        }
    }

    async fn count_down(&self, cidr: &IpNet, addresses: usize, want: &Assignment<'_>) -> Result<()> {
        match want.handle {
            Some(handle) => self.decrement(handle, cidr, count(addresses)).await,
            None => Ok(()),
        }
    }
}

/// Addresses of a block as handles count them.
fn count(addresses: usize) -> i32 {
    i32::try_from(addresses).unwrap_or(i32::MAX)
}

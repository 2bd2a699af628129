//! Taking a block for an owner, and giving it up.
//!
//! A claim has two phases: the affinity is written as pending, the block is made with the owner in it, the affinity is
//! confirmed. The block decides; an affinity without its block is stale. Giving up goes backwards: the affinity is
//! pendingDeletion while the block loses its owner or goes, and then the affinity goes.
//! Source: `libcalico-go/lib/ipam/ipam_block_reader_writer.go`.

use caracal_api::meta::{LABEL_AFFINITY_TYPE, LABEL_HOSTNAME_HASH, LABEL_IP_VERSION};
use caracal_api::names::{affinity_name, block_name, hostname_hash};
use caracal_api::v3::{AffinityState, BlockAffinity, BlockAffinitySpec, IPAMBlock};
use caracal_datastore::Result as StoreResult;
use ipnet::IpNet;

use crate::attempts::Attempts;
use crate::block::{Block, Owner};
use crate::clock;
use crate::error::{Error, Family, Result};
use crate::step::{Step, is_left_out};
use crate::store::Store;

/// What became of a claim.
#[derive(Clone, Debug)]
pub(crate) enum Claim {
    /// The owner has the block, and its affinity is confirmed.
    Ours(Box<IPAMBlock>),
    /// The block is of somebody else, or of nobody.
    Theirs(Option<String>),
}

/// What must hold for a block to be given up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Conditions {
    /// No address is assigned.
    pub(crate) empty: bool,
    /// The block is still in the state with this sequence number.
    pub(crate) sequence_number: Option<u64>,
}

impl Store {
    /// Claims a block. Repeating a claim, by the same process or by another one of the host, completes it.
    pub(crate) async fn claim(&self, owner: &Owner, cidr: &IpNet) -> Result<Claim> {
        let mut attempts = Attempts::of(format!("block {cidr}"));
        loop {
            match self.try_claim(owner, cidr).await? {
                Ok(claim) => return Ok(claim),
                Err(error) => attempts.after(error).await?,
            };
        }
    }

    /// One attempt. The inner error is to be repeated after, if it is of that class.
    async fn try_claim(&self, owner: &Owner, cidr: &IpNet) -> Result<StoreResult<Claim>> {
        let affinity = match self.announce(owner, cidr).await {
            Ok(affinity) => affinity,
            Err(error) => return Ok(Err(error)),
        };
        let stored = match self.block(cidr).await {
            Ok(stored) => stored,
            Err(error) => return Ok(Err(error)),
        };
        let Some(stored) = stored else {
            return self.make(owner, cidr, affinity).await;
        };
        if stored.spec.affinity.as_ref() != Some(&owner.0) {
            let holder = stored.spec.affinity;
            // The affinity is stale, whoever wrote it.
            return Ok(self.remove(&affinity).await.map(|()| Claim::Theirs(holder)));
        }
        if affinity.spec.state.is_confirmed() {
            return Ok(Ok(Claim::Ours(Box::new(stored))));
        }
        if is_left_out(Step::FenceClaim) {
            return Ok(self.confirm(affinity, stored).await);
        }
        // Another process of this owner may be giving the block up; the write makes its own one fail.
        let mut block = Block::from_spec(stored.spec.clone())?;
        block.bump();
        let fence = IPAMBlock {
            spec: block.into_spec(),
            ..stored
        };
        let fenced = match self.write(&fence).await {
            Ok(fenced) => fenced,
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.confirm(affinity, fenced).await)
    }

    async fn make(&self, owner: &Owner, cidr: &IpNet, affinity: BlockAffinity) -> Result<StoreResult<Claim>> {
        let affinity = if affinity.spec.state == AffinityState::Pending {
            affinity
        } else {
            match self.set_state(affinity, AffinityState::Pending).await {
                Ok(affinity) => affinity,
                Err(error) => return Ok(Err(error)),
            }
        };
        let block = Block::new(*cidr, Some(owner), clock::now())?;
        let object = IPAMBlock::new(&block_name(cidr), block.into_spec());
        Ok(match self.client.create(&object).await {
            Ok(made) => self.confirm(affinity, made).await,
            Err(error) => Err(error),
        })
    }

    async fn confirm(&self, affinity: BlockAffinity, block: IPAMBlock) -> StoreResult<Claim> {
        self.set_state(affinity, AffinityState::Confirmed).await?;
        Ok(Claim::Ours(Box::new(block)))
    }

    /// Makes sure that an affinity exists: confirmed if it was, pending otherwise.
    async fn announce(&self, owner: &Owner, cidr: &IpNet) -> StoreResult<BlockAffinity> {
        let (_, host) = owner.parts();
        let Some(found) = self.affinity(host, cidr).await? else {
            let pending = new_affinity(owner, cidr, AffinityState::Pending);
            return self.client.create(&pending).await;
        };
        if found.spec.state.is_confirmed() || found.spec.state == AffinityState::Pending {
            return Ok(found);
        }
        self.set_state(found, AffinityState::Pending).await
    }

    async fn set_state(
        &self,
        mut affinity: BlockAffinity,
        state: AffinityState,
    ) -> StoreResult<BlockAffinity> {
        affinity.spec.state = state;
        stamp(&mut affinity);
        self.write(&affinity).await
    }

    /// Gives a block up. A block with addresses loses its owner, an empty one goes. Without affinity and block there
    /// is nothing to do.
    ///
    /// # Errors
    ///
    /// When a condition does not hold, or the block is of another owner.
    pub(crate) async fn give_up(&self, owner: &Owner, cidr: &IpNet, conditions: Conditions) -> Result<()> {
        let mut attempts = Attempts::of(format!("block {cidr}"));
        loop {
            match self.try_give_up(owner, cidr, conditions).await? {
                Ok(()) => return Ok(()),
                Err(error) => attempts.after(error).await?,
            };
        }
    }

    async fn try_give_up(
        &self,
        owner: &Owner,
        cidr: &IpNet,
        conditions: Conditions,
    ) -> Result<StoreResult<()>> {
        let affinity = self.affinity(owner.parts().1, cidr).await?;
        let stored = self.block(cidr).await?;
        let holder = stored.as_ref().and_then(|stored| stored.spec.affinity.clone());
        let Some(stored) = stored.filter(|_| holder.as_ref() == Some(&owner.0)) else {
            return self.drop_stale(cidr, affinity, holder).await;
        };
        let block = Block::from_spec(stored.spec.clone())?;
        let moved = conditions
            .sequence_number
            .is_some_and(|number| number != block.spec().sequence_number);
        if moved || (conditions.empty && !block.is_empty()) {
            return Err(Error::NotEmpty { cidr: *cidr });
        }
        Ok(self.take_back(owner, affinity, stored, block).await)
    }

    /// The affinity of a block that is not of its owner goes. It may be what is left of an earlier attempt.
    async fn drop_stale(
        &self,
        cidr: &IpNet,
        affinity: Option<BlockAffinity>,
        holder: Option<String>,
    ) -> Result<StoreResult<()>> {
        let Some(affinity) = affinity else {
            return Ok(Ok(()));
        };
        if let Err(error) = self.remove(&affinity).await {
            return Ok(Err(error));
        }
        match holder {
            Some(owner) if affinity.spec.state != AffinityState::PendingDeletion => {
                Err(Error::Claimed { cidr: *cidr, owner })
            }
            Some(_) | None => Ok(Ok(())),
        }
    }

    async fn take_back(
        &self,
        owner: &Owner,
        affinity: Option<BlockAffinity>,
        stored: IPAMBlock,
        block: Block,
    ) -> StoreResult<()> {
        let affinity = match affinity {
            Some(affinity) if is_left_out(Step::AnnounceRelease) => Some(affinity),
            Some(affinity) => Some(self.set_state(affinity, AffinityState::PendingDeletion).await?),
            None if is_left_out(Step::ProveMissing) => None,
            // An old answer may hide an affinity, which would outlive its block. One that is there refuses this, and
            // then both are read again.
            None => {
                let leaving = new_affinity(owner, &block.cidr(), AffinityState::PendingDeletion);
                Some(self.client.create(&leaving).await?)
            }
        };
        if block.is_empty() {
            self.remove(&stored).await?;
        } else {
            self.write(&without_owner(stored, block)).await?;
        }
        match affinity {
            Some(affinity) => self.remove(&affinity).await,
            None => Ok(()),
        }
    }
}

fn without_owner(stored: IPAMBlock, mut block: Block) -> IPAMBlock {
    block.bump();
    let mut spec = block.into_spec();
    spec.affinity = None;
    spec.affinity_claim_time = None;
    IPAMBlock { spec, ..stored }
}

fn new_affinity(owner: &Owner, cidr: &IpNet, state: AffinityState) -> BlockAffinity {
    let (type_, host) = owner.parts();
    let spec = BlockAffinitySpec {
        state,
        node: host.to_owned(),
        type_: type_.to_owned(),
        cidr: cidr.to_string(),
        deleted: false,
    };
    let mut affinity = BlockAffinity::new(&affinity_name(host, cidr), spec);
    stamp(&mut affinity);
    affinity
}

/// Writes the labels by which a host finds its affinities. Objects of old programs lack them.
pub(crate) fn stamp(affinity: &mut BlockAffinity) {
    let spec = &affinity.spec;
    let type_ = if spec.type_.is_empty() {
        "host"
    } else {
        &spec.type_
    };
    let mut labels = vec![
        (LABEL_HOSTNAME_HASH, hostname_hash(&spec.node)),
        (LABEL_AFFINITY_TYPE, type_.to_owned()),
    ];
    if let Ok(cidr) = spec.cidr.parse::<IpNet>() {
        labels.push((LABEL_IP_VERSION, Family::of(&cidr).digit().to_owned()));
    }
    let target = affinity.metadata.labels.get_or_insert_default();
    target.extend(labels.into_iter().map(|(name, value)| (name.to_owned(), value)));
}

/// The label selector of an owner's affinities.
pub(crate) fn selector_of(owner: &Owner) -> String {
    let (type_, host) = owner.parts();
    format!(
        "{LABEL_HOSTNAME_HASH}={},{LABEL_AFFINITY_TYPE}={type_}",
        hostname_hash(host)
    )
}

/// True when an affinity is of this owner.
pub(crate) fn is_of(affinity: &BlockAffinity, owner: &Owner) -> bool {
    let (type_, host) = owner.parts();
    let own_type = if affinity.spec.type_.is_empty() {
        "host"
    } else {
        &affinity.spec.type_
    };
    affinity.spec.node == host && own_type == type_
}

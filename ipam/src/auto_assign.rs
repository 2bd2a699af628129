//! Assigning whichever addresses are free: from the node's own blocks, from new ones, from those of others.
//!
//! Source: `libcalico-go/lib/ipam/ipam.go` (autoAssign). Unlike there, a request that cannot be met in full gives back
//! what it took, so that an error never leaves addresses behind.

use caracal_api::v3::IPAMBlock;
use ipnet::IpNet;

use crate::block::{Assignment, Owner, Release};
use crate::blocks::Blocks;
use crate::claim::{Claim, Conditions};
use crate::client::{Assigned, AutoAssign, Ipam, owner_of};
use crate::error::{Error, Family, Result};
use crate::job::{Job, Progress, View};
use crate::pools::{self, Wanted, covers, seed_of};
use crate::take::{Take, Taken};

impl Ipam {
    /// Assigns addresses, IPv4 first. With an error nothing is assigned, as far as the datastore can be reached; what
    /// could not be given back is under the handle.
    ///
    /// # Errors
    ///
    /// When no pool may be used, when there are not enough free addresses ([`Error::is_exhausted`]), when the node
    /// does not exist. Any failed request.
    pub async fn auto_assign(&self, request: &AutoAssign) -> Result<Assigned> {
        let owner = owner_of(&request.host, Some(&request.use_));
        let view = self.view(request, &owner).await?;
        let mut assigned = Assigned::default();
        for (family, count) in [(Family::V4, request.v4), (Family::V6, request.v6)] {
            if count == 0 {
                continue;
            }
            let mut progress = Progress::default();
            let result = self
                .assign_family(&view, request, &owner, family, count, &mut progress)
                .await;
            let target = match family {
                Family::V4 => &mut assigned.v4,
                Family::V6 => &mut assigned.v6,
            };
            target.append(&mut progress.taken);
            if let Err(error) = result {
                self.give_back(&assigned, request).await;
                return Err(error);
            }
        }
        Ok(assigned)
    }

    async fn assign_family(
        &self,
        view: &View,
        request: &AutoAssign,
        owner: &Owner,
        family: Family,
        count: usize,
        progress: &mut Progress,
    ) -> Result<()> {
        let job = Self::job(view, request, owner, family, count)?;
        if job.asks_for_no_pool() {
            self.leave_unselected(&job).await;
        }
        self.use_own_blocks(&job, progress).await?;
        let mut blocks = None;
        self.use_new_blocks(&job, progress, &mut blocks).await?;
        if job.missing(progress) > 0 && !job.want.strict {
            self.borrow(&job, progress, &mut blocks).await?;
        }
        if job.missing(progress) == 0 {
            return Ok(());
        }
        if job.want.strict {
            progress
                .reasons
                .push("No more free affine blocks and strict affinity enabled".to_owned());
        }
        let blocks = self.loaded(&mut blocks).await?;
        Err(Error::Short {
            family,
            assigned: progress.taken.len(),
            requested: count,
            reasons: std::mem::take(&mut progress.reasons),
            fullness: blocks.fullness(&job.pools, &view.reserved),
        })
    }

    /// The part of a request that is of one family.
    ///
    /// # Errors
    ///
    /// When no pool may be used.
    pub(crate) fn job<'a>(
        view: &'a View,
        request: &'a AutoAssign,
        owner: &'a Owner,
        family: Family,
        count: usize,
    ) -> Result<Job<'a>> {
        let wanted = Wanted {
            family,
            use_: &request.use_,
            node: &request.host,
            node_labels: &view.node_labels,
            namespace_labels: &request.namespace_labels,
            requested: request.pools_of(family),
        };
        Ok(Job {
            request,
            view,
            want: Assignment {
                owner,
                handle: request.handle.as_deref(),
                attributes: &request.attributes,
                strict: view.configuration.strict_affinity,
            },
            family,
            count,
            pools: pools::choose(&view.enabled, &wanted)?,
        })
    }

    /// Blocks of pools that no longer select the node are given up once they are empty. Best effort.
    async fn leave_unselected(&self, job: &Job<'_>) {
        for affinity in &job.view.affinities {
            let Ok(cidr) = affinity.spec.cidr.parse::<IpNet>() else {
                continue;
            };
            let pool = pools::pool_of(&job.view.enabled, cidr.addr());
            let unselected = pool.is_some_and(|pool| {
                Family::of(&cidr) == job.family
                    && pools::selects_node(pool, &job.view.node_labels).is_ok_and(|selected| !selected)
            });
            if !unselected {
                continue;
            }
            let empty = Conditions {
                empty: true,
                ..Conditions::default()
            };
            if let Err(error) = self.store.give_up(job.want.owner, &cidr, empty).await {
                tracing::debug!(%error, block = %cidr, "a block whose pool does not select the node stays");
            }
        }
    }

    async fn use_own_blocks(&self, job: &Job<'_>, progress: &mut Progress) -> Result<()> {
        for affinity in &job.view.affinities {
            let Ok(cidr) = affinity.spec.cidr.parse::<IpNet>() else {
                continue;
            };
            if job.pool_of(&cidr).is_none() {
                continue;
            }
            progress.owned += 1;
            progress.tried.insert(cidr);
            if job.missing(progress) == 0 || covers(&job.view.reserved, &cidr).is_some() {
                continue;
            }
            let confirmed = affinity.spec.state.is_confirmed();
            self.use_own_block(job, progress, &cidr, confirmed).await?;
        }
        Ok(())
    }

    async fn use_own_block(
        &self,
        job: &Job<'_>,
        progress: &mut Progress,
        cidr: &IpNet,
        confirmed: bool,
    ) -> Result<()> {
        if confirmed && self.take_from(job, progress, cidr, None).await? {
            return Ok(());
        }
        // The claim was not completed, or the block was lost behind the affinity's back.
        match self.store.claim(job.want.owner, cidr).await? {
            Claim::Ours(block) => self
                .take_from(job, progress, cidr, Some(*block))
                .await
                .map(|_| ()),
            Claim::Theirs(_) => {
                progress.owned -= 1;
                Ok(())
            }
        }
    }

    async fn use_new_blocks(
        &self,
        job: &Job<'_>,
        progress: &mut Progress,
        blocks: &mut Option<Blocks>,
    ) -> Result<()> {
        while job.missing(progress) > 0 {
            if progress.owned >= job.limit() {
                return Err(Error::BlockLimit {
                    node: job.request.host.clone(),
                    limit: job.limit(),
                    family: job.family,
                });
            }
            if !job.view.configuration.auto_allocate_blocks {
                let reason = "failed to find or claim a block: autoAllocateBlocks is off";
                progress.reasons.push(reason.to_owned());
                return Ok(());
            }
            let blocks = self.loaded(blocks).await?;
            let Some(block) = self.claim_next(job, progress, blocks).await? else {
                return Ok(());
            };
            progress.owned += 1;
            let cidr = block.spec.cidr.parse::<IpNet>().ok();
            if let Some(cidr) = cidr {
                progress.tried.insert(cidr);
                self.take_from(job, progress, &cidr, Some(block)).await?;
            }
        }
        Ok(())
    }

    /// The next block that can be had: one that nobody made yet, one that is ours already, or an empty one that
    /// another node left unused for some time.
    async fn claim_next(
        &self,
        job: &Job<'_>,
        progress: &Progress,
        blocks: &mut Blocks,
    ) -> Result<Option<IPAMBlock>> {
        if let Some(block) = self.claim_unmade(job, progress, blocks).await? {
            return Ok(Some(block));
        }
        let owner = job.want.owner;
        for (cidr, holder, sequence_number) in blocks.unused_of_others(&job.pools, owner) {
            let unused = Conditions {
                empty: true,
                sequence_number: Some(sequence_number),
            };
            let freed = self.store.give_up(&holder, &cidr, unused).await;
            blocks.forget_unused(&cidr);
            if let Err(error) = freed {
                tracing::debug!(%error, block = %cidr, "an unused block of another node could not be taken over");
                continue;
            }
            if let Claim::Ours(block) = self.store.claim(owner, &cidr).await? {
                blocks.insert(cidr, (*block).clone());
                return Ok(Some(*block));
            }
        }
        Ok(None)
    }

    /// A block that nobody made yet, or one that is ours already.
    pub(crate) async fn claim_unmade(
        &self,
        job: &Job<'_>,
        progress: &Progress,
        blocks: &mut Blocks,
    ) -> Result<Option<IPAMBlock>> {
        let owner = job.want.owner;
        let seed = seed_of(owner.parts().1);
        for pool in &job.pools {
            for cidr in pools::candidates(pool, seed, &job.view.reserved) {
                let ours = blocks.is_usable_of(&cidr, owner);
                if progress.tried.contains(&cidr) || (blocks.contains(&cidr) && !ours) {
                    continue;
                }
                match self.store.claim(owner, &cidr).await? {
                    Claim::Ours(block) => {
                        blocks.insert(cidr, (*block).clone());
                        return Ok(Some(*block));
                    }
                    Claim::Theirs(holder) => blocks.insert_foreign(cidr, holder),
                }
            }
        }
        Ok(None)
    }

    /// Borrows from blocks of anybody.
    async fn borrow(
        &self,
        job: &Job<'_>,
        progress: &mut Progress,
        blocks: &mut Option<Blocks>,
    ) -> Result<()> {
        let seed = seed_of(job.want.owner.parts().1);
        let blocks = self.loaded(blocks).await?;
        for pool in &job.pools {
            for cidr in blocks.with_room(pool, seed, job.view.configuration.ip_cooldown_seconds) {
                if job.missing(progress) == 0 {
                    return Ok(());
                }
                self.take_from(job, progress, &cidr, None).await?;
            }
        }
        if job.missing(progress) > 0 {
            let names: Vec<String> = job.pools.iter().map(|pool| pool.net.to_string()).collect();
            progress
                .reasons
                .push(format!("No IPs available in pools: [{}]", names.join(" ")));
        }
        Ok(())
    }

    /// Takes what is missing from a block; false when there is no such block. A block that cannot be used does not
    /// keep the others from being used.
    async fn take_from(
        &self,
        job: &Job<'_>,
        progress: &mut Progress,
        cidr: &IpNet,
        known: Option<IPAMBlock>,
    ) -> Result<bool> {
        let take = Take::Any {
            count: job.missing(progress),
            reserved: &job.view.reserved,
        };
        let cooldown = job.view.configuration.ip_cooldown_seconds;
        match self.store.take(cidr, take, &job.want, cooldown, known).await {
            Ok(Taken::Addresses(addresses)) => {
                let nets = addresses
                    .into_iter()
                    .filter_map(|address| IpNet::new(address, cidr.prefix_len()).ok());
                progress.taken.extend(nets);
                Ok(true)
            }
            Ok(Taken::NoBlock) => Ok(false),
            Err(error @ Error::DamagedBlock { .. }) => {
                tracing::warn!(%error, block = %cidr, "a damaged block is passed over");
                progress.reasons.push(error.to_string());
                Ok(true)
            }
            // Lost to another owner since the affinity was read.
            Err(Error::WrongAffinity { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn loaded<'b>(&self, blocks: &'b mut Option<Blocks>) -> Result<&'b mut Blocks> {
        if let Some(blocks) = blocks {
            return Ok(blocks);
        }
        let stored = self.store.list(None).await?;
        Ok(blocks.insert(Blocks::new(stored)))
    }

    async fn give_back(&self, assigned: &Assigned, request: &AutoAssign) {
        let releases: Vec<Release> = assigned
            .all()
            .map(|net| Release {
                address: net.addr(),
                handle: request.handle.clone(),
                sequence_number: None,
            })
            .collect();
        if releases.is_empty() {
            return;
        }
        if let Err(error) = self.release_ips(&releases).await {
            tracing::warn!(%error, handle = request.handle, "addresses of a failed request stay assigned");
        }
    }
}

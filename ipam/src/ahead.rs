//! The next block of a node, claimed before the one in use is full: the pod that would need it does not wait for the
//! claim.
//!
//! Never takes a block that somebody has, not even an empty one, and never more than a pod's own request could have
//! claimed. A block that turns out to be unneeded is collected like any other empty one.

use crate::block::Owner;
use crate::blocks::Blocks;
use crate::client::{AutoAssign, Ipam, owner_of};
use crate::error::{Family, Result};
use crate::job::{Progress, View};

use ipnet::IpNet;

impl Ipam {
    /// Claims one block more for a node, as a request of one address of this family would if the node's blocks were
    /// full. `None` when it may not have more, or every block is somebody's.
    ///
    /// # Errors
    ///
    /// Any failed request; a claim that was begun is completed by the next request of the node.
    pub async fn claim_ahead(&self, request: &AutoAssign, v6: bool) -> Result<Option<IpNet>> {
        let owner = owner_of(&request.host, Some(&request.use_));
        let view = self.view(request, &owner).await?;
        let family = if v6 { Family::V6 } else { Family::V4 };
        self.claim_one_more(request, &view, &owner, family).await
    }

    async fn claim_one_more(
        &self,
        request: &AutoAssign,
        view: &View,
        owner: &Owner,
        family: Family,
    ) -> Result<Option<IpNet>> {
        let job = Self::job(view, request, owner, family, 1)?;
        let mut progress = Progress::default();
        let own = view
            .affinities
            .iter()
            .filter_map(|one| one.spec.cidr.parse().ok());
        progress
            .tried
            .extend(own.filter(|cidr| job.pool_of(cidr).is_some()));
        progress.owned = progress.tried.len();
        if progress.owned >= job.limit() || !view.configuration.auto_allocate_blocks {
            return Ok(None);
        }
        let mut blocks = Blocks::new(self.store.list(None).await?);
        let claimed = self.claim_unmade(&job, &progress, &mut blocks).await?;
        Ok(claimed.and_then(|block| block.spec.cidr.parse().ok()))
    }
}

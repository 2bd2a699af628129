//! Giving blocks up on request, and the labels by which a node finds its affinities.
//!
//! Source: `libcalico-go/lib/ipam/ipam.go` (ReleaseAffinity, ReleaseHostAffinities, UpgradeHost).

use caracal_api::meta::LABEL_AFFINITY_TYPE;
use caracal_api::v3::BlockAffinity;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

use crate::attempts::Attempts;
use crate::block::{Block, Owner};
use crate::claim::{Conditions, stamp};
use crate::client::Ipam;
use crate::error::{Error, Result};
use crate::pools::{enabled, pool_of, selects_node};
use crate::store::repeated;

/// What became of the blocks of a node.
#[derive(Debug, Default)]
pub struct ReleasedAffinities {
    /// Blocks that are no longer the node's.
    pub released: Vec<IpNet>,
    /// Blocks that stay, and why.
    pub kept: Vec<(IpNet, Error)>,
}

impl Ipam {
    /// Takes a block from its node. An empty block goes; one with addresses stays without owner, or is refused when
    /// `must_be_empty`. A block that is not the node's is no error unless it is somebody else's.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`], [`Error::Claimed`], or any failed request; calling again completes it.
    pub async fn release_affinity(&self, cidr: &IpNet, host: &str, must_be_empty: bool) -> Result<()> {
        let conditions = Conditions {
            empty: must_be_empty,
            ..Conditions::default()
        };
        self.store.give_up(&Owner::host(host), cidr, conditions).await
    }

    /// Takes all blocks from a node, as when it leaves the cluster. A block that cannot be taken does not keep the
    /// others.
    ///
    /// # Errors
    ///
    /// When the blocks cannot be listed.
    pub async fn release_host_affinities(
        &self,
        host: &str,
        must_be_empty: bool,
    ) -> Result<ReleasedAffinities> {
        // All of them, not those with the host's label: old programs wrote none.
        let affinities: Vec<BlockAffinity> = self.store.list_marked_too(None).await?;
        let mut outcome = ReleasedAffinities::default();
        let own = affinities
            .iter()
            .filter(|affinity| affinity.spec.node == host && affinity.spec.type_ != "virtual");
        for affinity in own {
            let Ok(cidr) = affinity.spec.cidr.parse::<IpNet>() else {
                tracing::warn!(block = %affinity.spec.cidr, "an affinity's cidr cannot be read");
                continue;
            };
            if affinity.spec.deleted {
                // Reading it completes its deletion.
                self.store.affinity(host, &cidr).await?;
                continue;
            }
            match self.release_affinity(&cidr, host, must_be_empty).await {
                Ok(()) => outcome.released.push(cidr),
                Err(error) => outcome.kept.push((cidr, error)),
            }
        }
        Ok(outcome)
    }

    /// Takes all blocks of a prefix from whoever has them, as when their pool goes. One that has addresses stays
    /// without owner and goes with its last address.
    ///
    /// # Errors
    ///
    /// When the affinities cannot be listed.
    pub async fn release_pool_affinities(&self, pool: &IpNet) -> Result<ReleasedAffinities> {
        let affinities: Vec<BlockAffinity> = self.store.list(None).await?;
        let mut outcome = ReleasedAffinities::default();
        for affinity in affinities {
            let Ok(cidr) = affinity.spec.cidr.parse::<IpNet>() else {
                continue;
            };
            if !pool.contains(&cidr) {
                continue;
            }
            let owner = owner_of_affinity(&affinity);
            match self.store.give_up(&owner, &cidr, Conditions::default()).await {
                Ok(()) => outcome.released.push(cidr),
                Err(error) => outcome.kept.push((cidr, error)),
            }
        }
        Ok(outcome)
    }

    /// After a release by address: an empty block of a pool that does not select its node any more is given up. Best
    /// effort. A release by handle, which pods wait for, leaves that to the node's next assignment.
    pub(crate) async fn leave_if_unselected(&self, cidr: &IpNet) {
        if let Err(error) = self.try_leave_if_unselected(cidr).await {
            tracing::debug!(%error, block = %cidr, "a block whose pool may not select its node stays");
        }
    }

    async fn try_leave_if_unselected(&self, cidr: &IpNet) -> Result<()> {
        let Some(stored) = self.store.block(cidr).await? else {
            return Ok(());
        };
        let block = Block::from_spec(stored.spec)?;
        let host = block
            .spec()
            .affinity
            .as_deref()
            .and_then(|owner| owner.strip_prefix("host:"));
        let Some(host) = host.filter(|_| block.is_empty()) else {
            return Ok(());
        };
        let pools = enabled(&self.pools().await?);
        let Some(pool) = pool_of(&pools, cidr.network()) else {
            return Ok(());
        };
        if pool.source.spec.effective_node_selector() == "all()" {
            return Ok(());
        }
        let node: Option<Node> = repeated(|| self.store.client.get(None, host)).await?;
        let read = node.as_ref().and_then(caracal_api::virtual_::node::from_k8s);
        let labels = read.and_then(|node| node.metadata.labels).unwrap_or_default();
        if node.is_some() && !selects_node(pool, &labels)? {
            let empty = Conditions {
                empty: true,
                ..Conditions::default()
            };
            self.store.give_up(&Owner::host(host), cidr, empty).await?;
        }
        Ok(())
    }

    /// Labels a node's affinities that have no labels yet: automatic assignment finds a node's blocks by them.
    /// Returns how many were labelled.
    ///
    /// # Errors
    ///
    /// Any failed request.
    pub async fn upgrade_host(&self, host: &str) -> Result<usize> {
        let unlabelled: Vec<BlockAffinity> = self.store.list(Some(format!("!{LABEL_AFFINITY_TYPE}"))).await?;
        let mut labelled = 0;
        for affinity in unlabelled
            .into_iter()
            .filter(|affinity| affinity.spec.node == host)
        {
            labelled += usize::from(self.label(host, affinity).await?);
        }
        Ok(labelled)
    }

    pub(crate) async fn label(&self, host: &str, affinity: BlockAffinity) -> Result<bool> {
        let Ok(cidr) = affinity.spec.cidr.parse::<IpNet>() else {
            return Ok(false);
        };
        let mut attempts = Attempts::of(format!("affinity of {host} and {cidr}"));
        let mut current = Some(affinity);
        while let Some(mut affinity) = current {
            stamp(&mut affinity);
            match self.store.write(&affinity).await {
                Ok(_) => return Ok(true),
                Err(error) => attempts.after(error).await?,
            };
            current = self.store.affinity(host, &cidr).await?;
        }
        Ok(false)
    }
}

/// An affinity's owner, as blocks name it.
pub(crate) fn owner_of_affinity(affinity: &BlockAffinity) -> Owner {
    let spec = &affinity.spec;
    match spec.type_.as_str() {
        "" => Owner::host(&spec.node),
        type_ => Owner(format!("{type_}:{}", spec.node)),
    }
}

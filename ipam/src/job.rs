//! What a request for addresses is decided on, and how far it has come.

use std::collections::BTreeSet;

use caracal_api::v3::{BlockAffinity, IPAMConfigurationSpec, IPPoolAllowedUse, IPReservation};
use caracal_datastore::ListOptions;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

use crate::block::{Assignment, Owner};
use crate::claim::{is_of, selector_of};
use crate::client::{AutoAssign, Ipam};
use crate::error::{Error, Family, Result};
use crate::pools::{self, LabelMap, Pool};
use crate::store::repeated;

/// Most blocks of a family for a node, when nobody said.
const BLOCKS_PER_HOST: usize = 20;

/// What a request is decided on.
pub(crate) struct View {
    pub(crate) configuration: IPAMConfigurationSpec,
    pub(crate) reserved: Vec<IpNet>,
    pub(crate) enabled: Vec<Pool>,
    pub(crate) node_labels: LabelMap,
    pub(crate) affinities: Vec<BlockAffinity>,
}

/// The part of a request that is of one family.
pub(crate) struct Job<'a> {
    pub(crate) request: &'a AutoAssign,
    pub(crate) view: &'a View,
    pub(crate) want: Assignment<'a>,
    pub(crate) family: Family,
    pub(crate) count: usize,
    pub(crate) pools: Vec<Pool>,
}

/// How far a job has come.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) taken: Vec<IpNet>,
    pub(crate) owned: usize,
    pub(crate) tried: BTreeSet<IpNet>,
    pub(crate) reasons: Vec<String>,
}

impl Job<'_> {
    /// True when the pools' selectors decide.
    pub(crate) fn asks_for_no_pool(&self) -> bool {
        self.request.pools_of(self.family).is_empty()
    }

    pub(crate) fn missing(&self, progress: &Progress) -> usize {
        self.count - progress.taken.len().min(self.count)
    }

    pub(crate) fn pool_of(&self, cidr: &IpNet) -> Option<&Pool> {
        let fits = |pool: &&Pool| pool.net.contains(cidr) && pool.block_size == cidr.prefix_len();
        self.pools.iter().find(fits)
    }

    pub(crate) fn limit(&self) -> usize {
        let global = usize::try_from(self.view.configuration.max_blocks_per_host).unwrap_or_default();
        let limits = [self.request.max_blocks_per_host.unwrap_or_default(), global];
        let set = limits.into_iter().filter(|limit| *limit > 0);
        set.min().unwrap_or(BLOCKS_PER_HOST)
    }
}

impl Ipam {
    /// Reads what the request is decided on, all at once.
    pub(crate) async fn view(&self, request: &AutoAssign, owner: &Owner) -> Result<View> {
        let client = &self.store.client;
        let needs_node = request.use_ != IPPoolAllowedUse::LoadBalancer;
        let node = async {
            if !needs_node {
                return Ok(None);
            }
            repeated(|| client.get::<Node>(None, &request.host)).await
        };
        let all = ListOptions::default();
        let (configuration, reservations, pools, node, affinities) = futures::try_join!(
            self.store.configuration(),
            repeated(|| client.list::<IPReservation>(None, &all)),
            repeated(|| client.list(None, &all)),
            node,
            self.store.list::<BlockAffinity>(Some(selector_of(owner))),
        )?;
        if needs_node && node.is_none() {
            return Err(Error::UnknownNode {
                node: request.host.clone(),
            });
        }
        let node = node.as_ref().and_then(caracal_api::virtual_::node::from_k8s);
        Ok(View {
            configuration,
            reserved: pools::reserved(&reservations),
            enabled: pools::enabled(&pools),
            node_labels: node.and_then(|node| node.metadata.labels).unwrap_or_default(),
            affinities: affinities.into_iter().filter(|one| is_of(one, owner)).collect(),
        })
    }
}

//! What a check is made from.

use caracal_api::v3::{BlockAffinity, IPAMBlock, IPAMConfigurationSpec, IPAMHandle, IPPool, IPReservation};
use caracal_datastore::{Client, ListOptions, Object};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};

use crate::clock;
use crate::error::Result;
use crate::store::{Store, repeated};

/// Everything stored about addresses, and everything that uses some, at about one time.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Blocks; those marked as deleted too.
    pub blocks: Vec<IPAMBlock>,
    /// Handles; those marked as deleted too.
    pub handles: Vec<IPAMHandle>,
    /// Affinities; those marked as deleted too.
    pub affinities: Vec<BlockAffinity>,
    /// Pools; disabled ones too.
    pub pools: Vec<IPPool>,
    /// Reservations.
    pub reservations: Vec<IPReservation>,
    /// Nodes, with their tunnel addresses in annotations.
    pub nodes: Vec<Node>,
    /// Pods, with the addresses that the CNI plugin wrote into annotations.
    pub pods: Vec<Pod>,
    /// Services; those of type LoadBalancer have addresses.
    pub services: Vec<Service>,
    /// How addresses are managed.
    pub configuration: IPAMConfigurationSpec,
    /// The time of the snapshot. What is younger than a minute may be under way and is no finding.
    pub now: Timestamp,
}

impl Snapshot {
    /// Reads it. Allocations are read before their users: a pod that starts meanwhile is then one without allocation
    /// for the first look, never the other way round.
    ///
    /// # Errors
    ///
    /// Any failed request.
    pub async fn load(client: &Client) -> Result<Self> {
        let store = Store {
            client: client.clone(),
        };
        let (affinities, handles) = futures::try_join!(all(client), all(client))?;
        let blocks = all(client).await?;
        let (pools, reservations, nodes, pods, services, configuration) = futures::try_join!(
            all(client),
            all(client),
            all(client),
            all(client),
            all(client),
            store.configuration(),
        )?;
        Ok(Self {
            blocks,
            handles,
            affinities,
            pools,
            reservations,
            nodes,
            pods,
            services,
            configuration,
            now: clock::now(),
        })
    }
}

async fn all<K: Object>(client: &Client) -> caracal_datastore::Result<Vec<K>> {
    let options = ListOptions::default();
    repeated(|| client.list(None, &options)).await
}

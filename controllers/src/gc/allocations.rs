//! All allocations of the cluster's blocks, and for whom each is. Pure.

use std::net::IpAddr;

use caracal_api::v3::AllocationAttribute;
use caracal_ipam::Block;
use caracal_ipam::check::Claimant;
use ipnet::IpNet;

use crate::cluster::Cluster;

/// Tells an allocation from all others, also later ones of the same address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The address.
    pub address: IpAddr,
    /// The handle, as stored.
    pub handle: Option<String>,
    /// The sequence number that the address was assigned with.
    pub sequence_number: u64,
}

/// For whom an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The node itself: its tunnel devices, and what it keeps for the time when the API server is away.
    Node,
    /// A virtual machine, which may keep its address without a pod.
    Machine,
    /// Addresses that Windows nodes set aside.
    Windows,
    /// Services, and anything else that nobody here can judge: never touched.
    Other,
}

/// One assigned address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// What tells it from others.
    pub id: Id,
    /// Its block.
    pub block: IpNet,
    /// The node that the block belongs to, if it belongs to one.
    pub block_node: Option<String>,
    /// The node that it was assigned on; empty when nobody wrote that down.
    pub node: String,
    /// For whom it is.
    pub holder: Holder,
}

/// All allocations that were not released. Blocks that cannot be read have none; `caracalctl ipam check` names them.
#[must_use]
pub fn allocations(cluster: &Cluster) -> Vec<Allocation> {
    let mut all = Vec::new();
    for (cidr, stored) in cluster.live_blocks() {
        let Ok(block) = Block::from_spec(stored.spec.clone()) else {
            continue;
        };
        let block_node = stored
            .spec
            .affinity
            .as_deref()
            .and_then(host_of)
            .map(ToOwned::to_owned);
        for (address, attribute) in block.assignments() {
            let Some(sequence_number) = block.assigned_at(address) else {
                continue;
            };
            let holder = holder(attribute);
            all.push(Allocation {
                id: Id {
                    address,
                    handle: attribute.handle_id.clone(),
                    sequence_number,
                },
                block: cidr,
                block_node: block_node.clone(),
                node: node_of(attribute, &holder, block_node.as_deref()),
                holder,
            });
        }
    }
    all
}

/// The node of an affinity `host:<node>`.
#[must_use]
pub(crate) fn host_of(affinity: &str) -> Option<&str> {
    affinity.strip_prefix("host:")
}

fn holder(attribute: &AllocationAttribute) -> Holder {
    match Claimant::of(attribute) {
        Claimant::Pod { namespace, name } => Holder::Pod { namespace, name },
        Claimant::Machine { .. } => Holder::Machine,
        Claimant::Tunnel { .. } | Claimant::Reserve => Holder::Node,
        Claimant::Windows => Holder::Windows,
        Claimant::Service { .. } | Claimant::Unknown => Holder::Other,
    }
}

/// The node that an address was assigned on. What a node keeps for itself is in its own block.
fn node_of(attribute: &AllocationAttribute, holder: &Holder, block_node: Option<&str>) -> String {
    let written = attribute.secondary.get("node").cloned().unwrap_or_default();
    if written.is_empty() && *holder == Holder::Node {
        return block_node.unwrap_or_default().to_owned();
    }
    written
}

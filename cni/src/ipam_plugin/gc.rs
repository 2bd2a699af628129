//! GC: releasing what this node's containers hold that the runtime no longer lists.
//!
//! Only addresses of this network and this node, and only by the sequence number that was seen: an address that was
//! assigned anew meanwhile is left alone. Source: CNI specification 1.1.0, "GC".

use std::collections::BTreeSet;
use std::net::IpAddr;

use caracal_api::net::address_at;
use caracal_api::v3::{IPAMBlock, IPAMBlockSpec};
use caracal_datastore::{Client, ListOptions};
use caracal_ipam::{Ipam, Release};
use ipnet::IpNet;

use crate::error::{Code, Error, Result};
use crate::skel::Call;

/// Handles of virtual machines outlive containers.
const VIRTUAL_MACHINE_PREFIX: &str = "vmi.";

pub(super) async fn collect(call: &Call, node: &str, client: Client) -> Result<()> {
    let listed = call.conf.valid_attachments.as_ref().ok_or_else(|| {
        Error::new(
            Code::InvalidConfig,
            "network configuration: cni.dev/valid-attachments is missing",
        )
        .hint("the runtime lists the containers that it has; without the list everything would be released")
    })?;
    let valid: BTreeSet<&str> = listed
        .iter()
        .map(|attachment| attachment.container_id.as_str())
        .collect();
    let blocks: Vec<IPAMBlock> = client.list(None, &ListOptions::default()).await?;
    let stale: Vec<Release> = blocks
        .iter()
        .flat_map(|block| stale_of(&block.spec, &call.conf.name, node, &valid))
        .collect();
    if stale.is_empty() {
        return Ok(());
    }
    let addresses: Vec<IpAddr> = stale.iter().map(|release| release.address).collect();
    tracing::info!(node, addresses = ?addresses, "releasing addresses of containers that are gone");
    Ipam::new(client).release_ips(&stale).await?;
    Ok(())
}

fn stale_of(block: &IPAMBlockSpec, network: &str, node: &str, valid: &BTreeSet<&str>) -> Vec<Release> {
    let Ok(cidr) = block.cidr.parse::<IpNet>() else {
        tracing::warn!(block = block.cidr, "a block's cidr cannot be read");
        return Vec::new();
    };
    let prefix = format!("{network}.");
    let mut stale = Vec::new();
    for (ordinal, index) in block.allocations.iter().enumerate() {
        let attribute = index
            .and_then(|index| usize::try_from(index).ok())
            .and_then(|index| block.attributes.get(index));
        let Some(attribute) = attribute else {
            continue;
        };
        let handle = attribute.handle_id.as_deref().unwrap_or_default();
        let is_own_node = attribute.secondary.get("node").is_some_and(|owner| owner == node);
        let Some(container) = handle.strip_prefix(&prefix).filter(|_| is_own_node) else {
            continue;
        };
        // Network "a" must not take "b" of network "a.b" for a container.
        let is_other = container.starts_with(VIRTUAL_MACHINE_PREFIX) || container.contains('.');
        if is_other || valid.contains(container) || attribute.released_at.is_some() {
            continue;
        }
        let Some(address) = u128::try_from(ordinal).ok().and_then(|at| address_at(&cidr, at)) else {
            continue;
        };
        let sequence = block.sequence_number_for_allocation.get(&ordinal.to_string());
        stale.push(Release {
            address,
            handle: Some(handle.to_owned()),
            sequence_number: Some(sequence.copied().unwrap_or(0)),
        });
    }
    stale
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_this_network_and_node_are_collected() {
        let attribute = |handle: &str, node: &str| json!({"handle_id": handle, "secondary": {"node": node}});
        let block: IPAMBlockSpec = serde_json::from_value(json!({
            "cidr": "10.0.0.0/29", "unallocated": [6, 7],
            "allocations": [0, 1, 2, 3, 4, 5, null, null],
            "attributes": [
                attribute("net.live", "n1"), attribute("net.gone", "n1"), attribute("net.gone", "n2"),
                attribute("net.b.gone", "n1"), attribute("net.vmi.x", "n1"), attribute("other.gone", "n1"),
            ],
            "sequenceNumberForAllocation": {"1": 7},
        }))
        .unwrap();
        let stale = stale_of(&block, "net", "n1", &BTreeSet::from(["live"]));
        assert_eq!(
            stale,
            [Release {
                address: "10.0.0.1".parse().unwrap(),
                handle: Some("net.gone".into()),
                sequence_number: Some(7),
            }]
        );
    }
}

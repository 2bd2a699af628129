//! GC: releasing what this node's containers hold that the runtime no longer lists: host interfaces, then addresses.
//!
//! An interface goes only if the host still routes the stale address to it, and no listed container of the same pod
//! has an address: it could be the newer container's.
//! Only addresses of this network and this node, and only by the sequence number that was seen: an address that was
//! assigned anew meanwhile is left alone. Source: CNI specification 1.1.0, "GC".

use std::collections::BTreeSet;
use std::net::IpAddr;

use caracal_api::net::address_at;
use caracal_api::v3::{IPAMBlock, IPAMBlockSpec, IPAMHandle};
use caracal_datastore::{Client, ListOptions};
use caracal_ipam::{Ipam, Owner, Release};
use caracal_linux::netlink::Netlink;
use ipnet::IpNet;

use crate::endpoint;
use crate::error::{Code, Error, Result};
use crate::skel::Call;
use crate::turn::Turn;
use crate::veth;

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
    let mut found = Found::default();
    for block in &blocks {
        sort_out(&block.spec, &call.conf.name, node, &valid, &mut found);
    }
    let ipam = Ipam::new(client.clone());
    if !found.stale.is_empty() {
        release(call, node, &ipam, found).await?;
    }
    forget_handles(call, node, &client, &ipam, &valid).await
}

async fn release(call: &Call, node: &str, ipam: &Ipam, found: Found) -> Result<()> {
    let addresses: Vec<IpAddr> = found.stale.iter().map(|stale| stale.release.address).collect();
    tracing::info!(node, addresses = ?addresses, "releasing addresses of containers that are gone");
    for stale in &found.stale {
        if stale.pod.as_ref().is_none_or(|pod| !found.live.contains(pod)) {
            remove_interface(call, stale).await?;
        }
    }
    let releases: Vec<Release> = found.stale.into_iter().map(|stale| stale.release).collect();
    ipam.release_ips(&releases).await?;
    Ok(())
}

/// Handles that count what nobody has: calls that were killed before they wrote a block, or after. Only those that
/// count in blocks of this node alone.
async fn forget_handles(
    call: &Call,
    node: &str,
    client: &Client,
    ipam: &Ipam,
    valid: &BTreeSet<&str>,
) -> Result<()> {
    let prefix = format!("{}.", call.conf.name);
    let own = Owner::host(node);
    let handles: Vec<IPAMHandle> = client.list(None, &ListOptions::default()).await?;
    let blocks: Vec<IPAMBlock> = client.list(None, &ListOptions::default()).await?;
    let is_own = |cidr: &String| {
        let block = blocks.iter().find(|block| block.spec.cidr == *cidr);
        block.is_some_and(|block| block.spec.affinity.as_ref() == Some(&own.0))
    };
    for handle in &handles {
        let id = handle.spec.handle_id.as_str();
        let stale = id.strip_prefix(&prefix).is_some_and(|container| {
            !container.starts_with(VIRTUAL_MACHINE_PREFIX)
                && !container.contains('.')
                && !valid.contains(container)
        });
        if !stale || !handle.spec.block.keys().all(is_own) {
            continue;
        }
        // Looking at one that is marked as deleted completes its deletion.
        if ipam.has_handle(id).await? {
            match ipam.release_by_handle(id).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

/// An address of a container that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stale {
    release: Release,
    container: String,
    pod: Option<(String, String)>,
}

/// What a node has in its blocks.
#[derive(Clone, Debug, Default)]
struct Found {
    stale: Vec<Stale>,
    /// Pods of which a container is listed.
    live: BTreeSet<(String, String)>,
}

async fn remove_interface(call: &Call, stale: &Stale) -> Result<()> {
    let pod = stale
        .pod
        .as_ref()
        .map(|(namespace, name)| (namespace.as_str(), name.as_str()));
    let name = endpoint::interface_of(&call.interface_prefix, pod, &stale.container);
    let _turn = Turn::take(&name).await?;
    let netlink = Netlink::open()?;
    let link = match netlink.link_by_name(&name).await {
        Ok(link) => link,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let destination = IpNet::from(stale.release.address);
    let routes = netlink.routes_of(stale.release.address.is_ipv6()).await?;
    let mut own = routes.iter().filter(|route| route.oif == Some(link.index));
    if own.any(|route| route.destination == destination) {
        veth::remove_host_end(&name).await?;
    }
    Ok(())
}

fn sort_out(block: &IPAMBlockSpec, network: &str, node: &str, valid: &BTreeSet<&str>, found: &mut Found) {
    let Ok(cidr) = block.cidr.parse::<IpNet>() else {
        tracing::warn!(block = block.cidr, "a block's cidr cannot be read");
        return;
    };
    let prefix = format!("{network}.");
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
        if is_other || attribute.released_at.is_some() {
            continue;
        }
        let of_pod = |key: &str| attribute.secondary.get(key).cloned();
        let pod = of_pod("namespace").zip(of_pod("pod"));
        if valid.contains(container) {
            found.live.extend(pod);
            continue;
        }
        let Some(address) = u128::try_from(ordinal).ok().and_then(|at| address_at(&cidr, at)) else {
            continue;
        };
        let sequence = block.sequence_number_for_allocation.get(&ordinal.to_string());
        found.stale.push(Stale {
            release: Release {
                address,
                handle: Some(handle.to_owned()),
                sequence_number: Some(sequence.copied().unwrap_or(0)),
            },
            container: container.to_owned(),
            pod,
        });
    }
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
        let mut found = Found::default();
        sort_out(&block, "net", "n1", &BTreeSet::from(["live"]), &mut found);
        assert_eq!(
            found.stale,
            [Stale {
                release: Release {
                    address: "10.0.0.1".parse().unwrap(),
                    handle: Some("net.gone".into()),
                    sequence_number: Some(7),
                },
                container: "gone".into(),
                pod: None,
            }]
        );
    }
}

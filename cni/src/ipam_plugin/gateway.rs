//! A next hop for main plugins that want one in the address plugin's result.
//!
//! Calico's result has none, and `ptp` fails with it: it gives the next hop to the host's end of each pair, and routes
//! through it. For `ptp` alone, the node takes one address of the block for itself, under a handle of its own and with
//! the note of what nodes keep: collectors free it when the node is gone. Source: `plugins/main/ptp/ptp.go` of the
//! reference plugins.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_ipam::reserve::NOTE;
use caracal_ipam::{AssignIp, Ipam};
use ipnet::IpNet;
use serde_json::Value;

use super::held_by;
use crate::conf::Conf;
use crate::error::{Code, Error, Result};
use crate::result::{AddResult, IpConfig, Route};

/// The main plugin that wants a next hop.
const PTP: &str = "ptp";

/// True when the configuration is of such a main plugin.
pub(super) fn is_wanted(conf: &Conf) -> bool {
    conf.raw.get("type").and_then(Value::as_str) == Some(PTP)
}

/// The result with next hops, and a default route through each unless the configuration has routes.
///
/// # Errors
/// When a block has no address left for it. Any failed request.
pub(super) async fn result(ipam: &Ipam, conf: &Conf, node: &str, addresses: &[IpNet]) -> Result<AddResult> {
    let mut result = AddResult::default();
    for address in addresses {
        let address = address.addr();
        let owner = ipam.assignment_of(address).await?.ok_or_else(|| {
            Error::new(
                Code::TryAgainLater,
                format!("{address} was released while it was assigned"),
            )
        })?;
        result.ips.push(IpConfig {
            interface: None,
            address: IpNet::new(address, owner.block.prefix_len()).unwrap_or_else(|_| IpNet::from(address)),
            gateway: Some(next_hop(ipam, node, owner.block).await?),
        });
        if conf.ipam.routes.is_empty() {
            let all = match address {
                IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
                IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
            };
            result.routes.push(Route::to(all));
        }
    }
    result.routes.extend(conf.ipam.routes.iter().cloned());
    Ok(result)
}

/// The node's own address in a block.
async fn next_hop(ipam: &Ipam, node: &str, block: IpNet) -> Result<IpAddr> {
    let handle = format!("caracal-gateway-{node}");
    let held = held_by(ipam, &handle).await?;
    if let Some(own) = held.into_iter().find(|address| block.contains(address)) {
        return Ok(own);
    }
    let note = format!("{NOTE}: next hop of containers plugged in by ptp");
    let attributes = BTreeMap::from([("node".to_owned(), node.to_owned()), ("note".to_owned(), note)]);
    // The first and the last are broadcast addresses of the container's subnet, where there is one.
    let (first, last) = (block.network(), block.broadcast());
    let mut usable: Vec<IpAddr> = block
        .hosts()
        .filter(|one| *one != first && *one != last)
        .collect();
    usable.reverse();
    for address in usable {
        let request = AssignIp {
            address,
            host: node.to_owned(),
            handle: Some(handle.clone()),
            attributes: attributes.clone(),
            use_: None,
        };
        match ipam.assign_ip(&request).await {
            Ok(_) => return Ok(address),
            Err(caracal_ipam::Error::AlreadyAssigned { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::new(
        Code::TryAgainLater,
        format!("block {block} has no address left for the next hop that ptp wants"),
    )
    .hint("release an address, or use the main plugin calico, which wants none"))
}

//! Neighbour entries (ARP and NDP).

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use super::routes::family;
use super::{MacAddr, Neighbour, Netlink};
use crate::Result;

impl Netlink {
    /// All neighbour entries of both families.
    ///
    /// # Errors
    /// When the listing fails.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>> {
        let dump = self
            .dump(
                "list neighbours",
                RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
            )
            .await?;
        Ok(dump
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewNeighbour(neighbour) => neighbour_from(&neighbour),
                _ => None,
            })
            .collect())
    }

    /// Sets a permanent entry, whatever was there.
    ///
    /// # Errors
    /// `is_not_found` when the device is gone.
    pub async fn set_neighbour(&self, index: u32, address: IpAddr, mac: MacAddr) -> Result<()> {
        self.request(
            || format!("set neighbour {address} on link {index}"),
            RouteNetlinkMessage::NewNeighbour(permanent_message(index, address, mac)),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .await
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// `is_not_found` when there is none.
    pub async fn delete_neighbour(&self, index: u32, address: IpAddr) -> Result<()> {
        self.request(
            || format!("delete neighbour {address} on link {index}"),
            RouteNetlinkMessage::DelNeighbour(neighbour_message(index, address)),
            0,
        )
        .await
    }
}

pub(super) fn permanent_message(index: u32, address: IpAddr, mac: MacAddr) -> NeighbourMessage {
    let mut message = neighbour_message(index, address);
    message.header.state = NeighbourState::Permanent;
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message
}

fn neighbour_message(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address.is_ipv6());
    message.header.ifindex = index;
    message
        .attributes
        .push(NeighbourAttribute::Destination(match address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        }));
    message
}

fn neighbour_from(message: &NeighbourMessage) -> Option<Neighbour> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::from(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::from(*ip)),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddr);
            }
            _ => {}
        }
    }
    Some(Neighbour {
        index: message.header.ifindex,
        address: address?,
        mac,
        permanent: message.header.state == NeighbourState::Permanent,
    })
}

//! Addresses on devices.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Address, Netlink};
use crate::Result;

impl Netlink {
    /// All addresses of all devices.
    ///
    /// # Errors
    /// When the listing fails.
    pub async fn addresses(&self) -> Result<Vec<Address>> {
        let dump = self
            .dump(
                "list addresses",
                RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            )
            .await?;
        Ok(dump
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewAddress(address) => address_from(&address),
                _ => None,
            })
            .collect())
    }

    /// The addresses of one device.
    ///
    /// # Errors
    /// When the listing fails.
    pub async fn addresses_of(&self, index: u32) -> Result<Vec<Address>> {
        let mut addresses = self.addresses().await?;
        addresses.retain(|address| address.index == index);
        Ok(addresses)
    }

    /// Adds an address. IPv6 addresses are usable at once: no duplicate address detection.
    ///
    /// # Errors
    /// `is_exists` when the device has it already.
    pub async fn add_address(&self, index: u32, address: IpNet) -> Result<()> {
        self.request(
            || format!("add address {address} to link {index}"),
            RouteNetlinkMessage::NewAddress(new_address_message(index, address)),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .await
    }

    /// Removes an address.
    ///
    /// # Errors
    /// `is_not_found` when the device has not got it.
    pub async fn delete_address(&self, index: u32, address: IpNet) -> Result<()> {
        self.request(
            || format!("remove address {address} from link {index}"),
            RouteNetlinkMessage::DelAddress(address_message(index, address)),
            0,
        )
        .await
    }
}

pub(super) fn new_address_message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = address_message(index, address);
    if address.addr().is_ipv6() {
        message.header.flags |= AddressHeaderFlags::Nodad;
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    if let IpNet::V4(net) = address
        && net.prefix_len() < 31
    {
        message
            .attributes
            .push(AddressAttribute::Broadcast(net.broadcast()));
    }
    message
}

fn address_message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = address.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.family = match address {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message.attributes.push(AddressAttribute::Address(address.addr()));
    message
}

pub(super) fn address_from(message: &AddressMessage) -> Option<Address> {
    let mut local: Option<IpAddr> = None;
    let mut address: Option<IpAddr> = None;
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    Some(Address {
        index: message.header.index,
        // On point-to-point links "address" is the other side; "local" is always ours.
        address: IpNet::new(local.or(address)?, message.header.prefix_len).ok()?,
        scope: message.header.scope.into(),
        tentative: flags.contains(AddressFlags::Tentative),
        permanent: flags.contains(AddressFlags::Permanent),
    })
}

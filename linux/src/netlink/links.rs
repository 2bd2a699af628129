//! Devices: list, look up, make veth pairs and bridges, change, delete.

use std::os::fd::AsRawFd;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::{Link, MacAddr, Netlink, VethEnd};
use crate::{Error, Result};

/// Longest interface name in bytes (IFNAMSIZ − 1).
const NAME_LEN_MAX: usize = 15;

impl Netlink {
    /// All devices of the namespace, in index order.
    ///
    /// # Errors
    /// When the listing fails.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let dump = self
            .dump("list links", RouteNetlinkMessage::GetLink(LinkMessage::default()))
            .await?;
        let mut links: Vec<Link> = dump
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewLink(link) => Some(link_from(&link)),
                _ => None,
            })
            .collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// The device with a name.
    ///
    /// # Errors
    /// `is_not_found` when there is none.
    pub async fn link_by_name(&self, name: &str) -> Result<Link> {
        self.get_link(&format!("look up link {name}"), named(name)?).await
    }

    /// The device with an index.
    ///
    /// # Errors
    /// `is_not_found` when there is none.
    pub async fn link_by_index(&self, index: u32) -> Result<Link> {
        self.get_link(&format!("look up link {index}"), numbered(index))
            .await
    }

    async fn get_link(&self, what: &str, message: LinkMessage) -> Result<Link> {
        match self.get(what, RouteNetlinkMessage::GetLink(message)).await? {
            RouteNetlinkMessage::NewLink(link) => Ok(link_from(&link)),
            _ => Err(Error::protocol(what, "the answer is not a link")),
        }
    }

    /// Makes a veth pair in one request: both names, hardware addresses, MTUs and namespaces at once, so a crash
    /// leaves either the whole pair or nothing.
    ///
    /// # Errors
    /// `is_exists` when either name is taken in its namespace.
    pub async fn create_veth(&self, near: VethEnd<'_>, far: VethEnd<'_>) -> Result<()> {
        self.new_link(
            || format!("create veth pair {} and {}", near.name, far.name),
            veth_message(near, far)?,
        )
        .await
    }

    /// Makes a bridge.
    ///
    /// # Errors
    /// `is_exists` when the name is taken.
    pub async fn create_bridge(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message
            .attributes
            .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        self.new_link(|| format!("create bridge {name}"), message).await
    }

    async fn new_link(&self, what: impl FnOnce() -> String, message: LinkMessage) -> Result<()> {
        self.request(
            what,
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .await
    }

    /// Takes a device up. Addresses and routes that went with a past "down" do not come back by themselves.
    ///
    /// # Errors
    /// `is_not_found` when the device is gone.
    pub async fn set_up(&self, index: u32) -> Result<()> {
        self.set_admin(index, true).await
    }

    /// Takes a device down; the kernel removes its routes.
    ///
    /// # Errors
    /// `is_not_found` when the device is gone.
    pub async fn set_down(&self, index: u32) -> Result<()> {
        self.set_admin(index, false).await
    }

    async fn set_admin(&self, index: u32, up: bool) -> Result<()> {
        self.set_link(
            || format!("set link {index} {}", if up { "up" } else { "down" }),
            up_message(index, up),
        )
        .await
    }

    /// Changes the hardware address.
    ///
    /// # Errors
    /// `is_not_found` when the device is gone.
    pub async fn set_mac(&self, index: u32, mac: MacAddr) -> Result<()> {
        let mut message = numbered(index);
        message.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
        self.set_link(
            || format!("set hardware address of link {index} to {mac}"),
            message,
        )
        .await
    }

    /// Changes the MTU.
    ///
    /// # Errors
    /// `is_not_found` when the device is gone.
    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<()> {
        let mut message = numbered(index);
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.set_link(|| format!("set MTU of link {index} to {mtu}"), message)
            .await
    }

    /// Puts a device into a bridge, or takes it out.
    ///
    /// # Errors
    /// `is_not_found` when one of them is gone.
    pub async fn set_master(&self, index: u32, master: Option<u32>) -> Result<()> {
        let mut message = numbered(index);
        message
            .attributes
            .push(LinkAttribute::Controller(master.unwrap_or(0)));
        self.set_link(|| format!("set master of link {index}"), message)
            .await
    }

    /// Renames a device, which must be down.
    ///
    /// # Errors
    /// `is_exists` when the name is taken, `is_busy` when the device is up.
    pub async fn rename_link(&self, index: u32, name: &str) -> Result<()> {
        check_name(name)?;
        let mut message = numbered(index);
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.set_link(|| format!("rename link {index} to {name}"), message)
            .await
    }

    /// Moves a device to another namespace.
    ///
    /// # Errors
    /// `is_exists` when its name is taken there.
    pub async fn move_link(&self, index: u32, netns: &crate::netns::NetNs) -> Result<()> {
        let mut message = numbered(index);
        message.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
        self.set_link(|| format!("move link {index} to another namespace"), message)
            .await
    }

    async fn set_link(&self, what: impl FnOnce() -> String, message: LinkMessage) -> Result<()> {
        self.request(what, RouteNetlinkMessage::SetLink(message), 0).await
    }

    /// Deletes a device (for a veth, both ends).
    ///
    /// # Errors
    /// `is_not_found` when it is gone already.
    pub async fn delete_link(&self, index: u32) -> Result<()> {
        self.request(
            || format!("delete link {index}"),
            RouteNetlinkMessage::DelLink(numbered(index)),
            0,
        )
        .await
    }
}

/// Refuses names that the kernel would refuse or cut.
fn check_name(name: &str) -> Result<()> {
    let valid = !name.is_empty()
        && name.len() <= NAME_LEN_MAX
        && name != "."
        && name != ".."
        && !name
            .bytes()
            .any(|byte| byte == b'/' || byte == b':' || byte.is_ascii_whitespace() || byte == 0);
    if valid {
        return Ok(());
    }
    Err(Error::invalid(
        format!("interface name {name:?}"),
        format!("must have 1 to {NAME_LEN_MAX} bytes, no slash, colon or white space"),
    ))
}

fn numbered(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

pub(super) fn named(name: &str) -> Result<LinkMessage> {
    check_name(name)?;
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    Ok(message)
}

pub(super) fn up_message(index: u32, up: bool) -> LinkMessage {
    let mut message = numbered(index);
    message.header.change_mask |= LinkFlags::Up;
    if up {
        message.header.flags |= LinkFlags::Up;
    }
    message
}

pub(super) fn veth_message(near: VethEnd<'_>, far: VethEnd<'_>) -> Result<LinkMessage> {
    let mut message = veth_end(near)?;
    let peer = veth_end(far)?;
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    Ok(message)
}

fn veth_end(end: VethEnd<'_>) -> Result<LinkMessage> {
    check_name(end.name)?;
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(end.name.to_owned()));
    if let Some(mac) = end.mac {
        message.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
    }
    if let Some(mtu) = end.mtu {
        message.attributes.push(LinkAttribute::Mtu(mtu));
    }
    if let Some(queues) = end.queues {
        message.attributes.push(LinkAttribute::NumTxQueues(queues));
        message.attributes.push(LinkAttribute::NumRxQueues(queues));
    }
    if let Some(netns) = end.netns {
        message.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
    }
    Ok(message)
}

pub(super) fn link_from(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        mac: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        // A carrier alone is not enough: the kernel drops what is sent until it has also activated the queue, which
        // it does a moment later and shows as "running".
        running: flags.contains(LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Running),
        master: None,
        peer: None,
        loopback: flags.contains(LinkFlags::Loopback),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => {
                link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddr)
            }
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.master = Some(*index).filter(|index| *index != 0),
            LinkAttribute::Link(index) => link.peer = Some(*index).filter(|index| *index != 0),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_checked() {
        for good in ["eth0", "cali0123456789a", "vxlan.calico"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "cali0123456789ab"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}

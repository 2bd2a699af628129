//! The floor: the kernel work of one ADD by a bare netlink loop, with nothing around it.
//!
//! The same objects as `veth.rs` makes: the pair, the host end's parameters, both ends up, the container's address,
//! gateway and routes, the host's route.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use caracal_linux::netns::NetNs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

const ADD: u16 = 0x5 | 0x400 | 0x200;
const CHANGE: u16 = 0x5;

/// A request being written.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut octets = vec![0; 16];
        octets[4..6].copy_from_slice(&kind.to_ne_bytes());
        octets[6..8].copy_from_slice(&flags.to_ne_bytes());
        octets.extend_from_slice(header);
        Self(octets)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        append(&mut self.0, kind, value);
        self
    }
}

fn append(octets: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(4);
    octets.extend_from_slice(&length.to_ne_bytes());
    octets.extend_from_slice(&kind.to_ne_bytes());
    octets.extend_from_slice(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
}

fn open() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socket(
        AddressFamily::Netlink,
        SockType::Raw,
        flags,
        SockProtocol::NetlinkRoute,
    )?)
}

/// Sends a request and waits for its verdict.
fn ask(socket: &OwnedFd, message: Message) -> io::Result<()> {
    let mut octets = message.0;
    let length = u32::try_from(octets.len()).unwrap_or_default();
    octets[..4].copy_from_slice(&length.to_ne_bytes());
    send(socket.as_raw_fd(), &octets, MsgFlags::empty())?;
    let mut answer = [0; 1024];
    recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(-code))
    }
}

fn link(index: u32, up: bool) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&u32::from(up).to_ne_bytes());
    header[12..16].copy_from_slice(&u32::from(up).to_ne_bytes());
    header
}

fn name(text: &str) -> Vec<u8> {
    let mut octets = text.as_bytes().to_vec();
    octets.push(0);
    octets
}

fn pair(host: &str, netns: &NetNs) -> Message {
    let mut far = link(0, false).to_vec();
    append(&mut far, 3, &name("eth0"));
    append(
        &mut far,
        28,
        &u32::try_from(netns.as_raw_fd()).unwrap_or_default().to_ne_bytes(),
    );
    let mut data = Vec::new();
    append(&mut data, 1, &far);
    let mut info = Vec::new();
    append(&mut info, 1, &name("veth"));
    append(&mut info, 2, &data);
    Message::new(16, ADD, &link(0, false))
        .attribute(3, &name(host))
        .attribute(1, &[0xee; 6])
        .attribute(18, &info)
}

fn route(destination: Option<Ipv4Addr>, gateway: Option<Ipv4Addr>, index: u32) -> Message {
    let scope = if gateway.is_some() { 0 } else { 253 };
    let length = if destination.is_some() { 32 } else { 0 };
    let mut message = Message::new(24, ADD, &[2, length, 0, 0, 254, 3, scope, 1, 0, 0, 0, 0]);
    if let Some(destination) = destination {
        message = message.attribute(1, &destination.octets());
    }
    if let Some(gateway) = gateway {
        message = message.attribute(5, &gateway.octets());
    }
    message.attribute(4, &index.to_ne_bytes())
}

fn index_of(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

/// One ADD.
pub fn add(host: &str, netns: &NetNs, address: Ipv4Addr) -> io::Result<()> {
    let gateway = Ipv4Addr::new(169, 254, 1, 1);
    let socket = open()?;
    ask(&socket, pair(host, netns))?;
    for (key, value) in [
        ("route_localnet", "1"),
        ("proxy_arp", "1"),
        ("forwarding", "1"),
        ("rp_filter", "1"),
    ] {
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{host}/{key}"), value)?;
    }
    std::fs::write(format!("/proc/sys/net/ipv4/neigh/{host}/proxy_delay"), "0")?;
    let near = index_of(host)?;
    ask(&socket, Message::new(19, CHANGE, &link(near, true)))?;
    let inside = netns.run(|| -> io::Result<()> {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0")?;
        let (socket, far) = (open()?, index_of("eth0")?);
        ask(&socket, Message::new(19, CHANGE, &link(far, true)))?;
        let mut header = vec![2, 32, 0, 0];
        header.extend_from_slice(&far.to_ne_bytes());
        let own = Message::new(20, ADD, &header);
        ask(
            &socket,
            own.attribute(2, &address.octets())
                .attribute(1, &address.octets()),
        )?;
        let mut header = vec![2, 0, 0, 0];
        header.extend_from_slice(&far.to_ne_bytes());
        header.extend_from_slice(&[0x80, 0, 0, 0]);
        let neighbour = Message::new(28, ADD, &header);
        ask(
            &socket,
            neighbour.attribute(1, &gateway.octets()).attribute(2, &[0xee; 6]),
        )?;
        ask(&socket, route(Some(gateway), None, far))?;
        ask(&socket, route(None, Some(gateway), far))
    });
    inside.map_err(io::Error::other)??;
    ask(&socket, route(Some(address), None, near))
}

/// One DEL.
pub fn del(host: &str) -> io::Result<()> {
    ask(&open()?, Message::new(17, CHANGE, &link(index_of(host)?, false)))
}

//! Several requests in one system call, on a socket that the calling thread waits at.
//!
//! For work on the kernel that is one chain of requests, as plugging a container in: each round trip through the
//! runtime's tasks costs more than what the kernel does for it. Requests of one call are carried out in order, and one
//! that is refused does not stop those after it. Blocks the calling thread; never use it on a runtime's worker.
//! Source: `rtnetlink(7)`, `linux/netlink.h`.

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::links::{link_from, named, up_message, veth_message};
use super::{Link, MacAddr, Route, VethEnd};
use super::{addresses::new_address_message, neighbours::permanent_message, routes::route_message};
use crate::{Error, Result};

/// How long the kernel may take: the removal of a device waits for readers on all processors.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest datagram that is read: the description of one device has some 2 KiB.
const DATAGRAM_BYTES: usize = 32 << 10;

/// One thing to ask for.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// Make a veth pair: see [`super::Netlink::create_veth`].
    Veth(VethEnd<'a>, VethEnd<'a>),
    /// Look a device up.
    Link(&'a str),
    /// Take a device up.
    Up(u32),
    /// Delete a device; for a veth, both ends.
    Delete(&'a str),
    /// Add an address: see [`super::Netlink::add_address`].
    Address(u32, IpNet),
    /// Set a permanent neighbour entry.
    Neighbour(u32, IpAddr, MacAddr),
    /// Add a route; refused when there is one with its prefix and metric.
    AddRoute(&'a Route),
    /// Add a route, or take the place of the one with its prefix and metric.
    ReplaceRoute(&'a Route),
}

impl Request<'_> {
    fn what(&self) -> String {
        match self {
            Self::Veth(near, far) => format!("create veth pair {} and {}", near.name, far.name),
            Self::Link(name) => format!("look up link {name}"),
            Self::Up(index) => format!("set link {index} up"),
            Self::Delete(name) => format!("delete link {name}"),
            Self::Address(index, address) => format!("add address {address} to link {index}"),
            Self::Neighbour(index, address, _) => format!("set neighbour {address} on link {index}"),
            Self::AddRoute(route) => format!("add route {} in table {}", route.destination, route.table),
            Self::ReplaceRoute(route) => {
                format!("replace route {} in table {}", route.destination, route.table)
            }
        }
    }

    fn message(&self) -> Result<(RouteNetlinkMessage, u16)> {
        let create = NLM_F_CREATE | NLM_F_EXCL;
        Ok(match self {
            Self::Veth(near, far) => (RouteNetlinkMessage::NewLink(veth_message(*near, *far)?), create),
            Self::Link(name) => (RouteNetlinkMessage::GetLink(named(name)?), 0),
            Self::Up(index) => (RouteNetlinkMessage::SetLink(up_message(*index, true)), 0),
            Self::Delete(name) => (RouteNetlinkMessage::DelLink(named(name)?), 0),
            Self::Address(index, address) => (
                RouteNetlinkMessage::NewAddress(new_address_message(*index, *address)),
                create,
            ),
            Self::Neighbour(index, address, mac) => (
                RouteNetlinkMessage::NewNeighbour(permanent_message(*index, *address, *mac)),
                NLM_F_CREATE | NLM_F_REPLACE,
            ),
            Self::AddRoute(route) => (RouteNetlinkMessage::NewRoute(route_message(route)), create),
            Self::ReplaceRoute(route) => (
                RouteNetlinkMessage::NewRoute(route_message(route)),
                NLM_F_CREATE | NLM_F_REPLACE,
            ),
        })
    }
}

/// A socket in the namespace of the thread that opened it.
#[derive(Debug)]
pub struct Direct {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Direct {
    /// Connects in the calling thread's namespace.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub fn open() -> Result<Self> {
        let failed = |error| Error::io("open a netlink socket", error);
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        // Best effort: without it the answer to a refused request carries the request.
        let _ = socket.set_cap_ack(true);
        let seconds = i64::try_from(ANSWER_TIMEOUT.as_secs()).unwrap_or(i64::MAX);
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(seconds, 0))
            .map_err(|errno| Error::kernel("set the timeout of a netlink socket", errno as i32))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; DATAGRAM_BYTES],
        })
    }

    /// Carries out requests, and returns the answer to each: the device for [`Request::Link`], nothing for others.
    pub fn ask(&mut self, requests: &[Request<'_>]) -> Vec<Result<Option<Link>>> {
        self.try_ask(requests).unwrap_or_else(|error| {
            let text = error.to_string();
            let lost = |request: &Request<'_>| Err(Error::protocol(request.what(), &text));
            requests.iter().map(lost).collect()
        })
    }

    /// Carries out one request.
    ///
    /// # Errors
    /// The kernel's verdict.
    pub fn one(&mut self, request: Request<'_>) -> Result<Option<Link>> {
        self.ask(&[request]).pop().unwrap_or(Ok(None))
    }

    /// The device with a name.
    ///
    /// # Errors
    /// `is_not_found` when there is none.
    pub fn link(&mut self, name: &str) -> Result<Link> {
        let found = self.one(Request::Link(name))?;
        found.ok_or_else(|| Error::protocol(format!("look up link {name}"), "the kernel did not answer"))
    }

    fn try_ask(&mut self, requests: &[Request<'_>]) -> Result<Vec<Result<Option<Link>>>> {
        let failed = |error| Error::io("talk to the kernel", error);
        let mut answers: Vec<Result<Option<Link>>> = requests.iter().map(|_| Ok(None)).collect();
        let Some(last) = requests.len().checked_sub(1) else {
            return Ok(answers);
        };
        let first = self.sequence.wrapping_add(1);
        let mut octets = Vec::with_capacity(1024);
        for (at, request) in requests.iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let (message, mut flags) = request.message()?;
            // Refusals come without being asked for, and in order: what precedes the last verdict has succeeded.
            if at == last {
                flags |= NLM_F_ACK;
            }
            let mut message = NetlinkMessage::from(message);
            message.header.flags = NLM_F_REQUEST | flags;
            message.header.sequence_number = self.sequence;
            message.finalize();
            let start = octets.len();
            octets.resize(start + message.buffer_len().next_multiple_of(4), 0);
            if let Some(room) = octets.get_mut(start..) {
                message.serialize(room);
            }
        }
        self.socket
            .send_to(&octets, &SocketAddr::new(0, 0), 0)
            .map_err(failed)?;
        loop {
            let count = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(failed(errno.into())),
            };
            let datagram = self.buffer.get(..count).unwrap_or_default();
            if read_answers(datagram, first, requests, &mut answers) {
                return Ok(answers);
            }
        }
    }
}

/// Takes the answers of a datagram to their requests. True when the last request has its verdict.
fn read_answers(
    mut datagram: &[u8],
    first: u32,
    requests: &[Request<'_>],
    answers: &mut [Result<Option<Link>>],
) -> bool {
    let last = answers.len().saturating_sub(1);
    while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram) {
        let at = usize::try_from(message.header.sequence_number.wrapping_sub(first)).unwrap_or(usize::MAX);
        if let (Some(answer), Some(request)) = (answers.get_mut(at), requests.get(at)) {
            match message.payload {
                NetlinkPayload::Error(error) => {
                    if let Some(code) = error.code {
                        *answer = Err(Error::kernel(request.what(), code.get()));
                    }
                    if at == last {
                        return true;
                    }
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    *answer = Ok(Some(link_from(&link)));
                }
                _ => {}
            }
        }
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_find_their_requests_and_garbage_is_ignored() {
        let mut datagram = Vec::new();
        for (sequence, code) in [(7_u32, -19_i32), (8, 0)] {
            datagram.extend(36_u32.to_ne_bytes());
            datagram.extend([2, 0, 0, 0]);
            datagram.extend(sequence.to_ne_bytes());
            datagram.extend([0; 4]);
            datagram.extend(code.to_ne_bytes());
            datagram.extend([0; 16]);
        }
        let requests = [Request::Delete("a"), Request::Up(3)];
        let mut answers = vec![Ok(None), Ok(None)];
        assert!(read_answers(&datagram, 7, &requests, &mut answers));
        assert!(answers[0].as_ref().unwrap_err().is_not_found());
        assert_eq!(*answers[1].as_ref().unwrap(), None);
        for garbage in [&[0; 20][..], &[0xff; 64], &datagram[..30]] {
            let mut answers = vec![Ok(None), Ok(None)];
            assert!(!read_answers(garbage, 7, &requests, &mut answers));
        }
    }
}

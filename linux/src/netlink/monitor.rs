//! Notifications about links, addresses and routes, as a stream that says when it missed some.

use std::collections::VecDeque;
use std::io;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use socket2::{SockFilter, SockRef};

use super::addresses::address_from;
use super::links::link_from;
use super::routes::route_from;
use super::{Address, Link, Netlink, Route};
use crate::netns::NetNs;
use crate::{Error, Result};

const GROUP_LINK: u32 = 1;
const GROUP_IPV4_ADDRESS: u32 = 5;
const GROUP_IPV4_ROUTE: u32 = 7;
const GROUP_IPV6_ADDRESS: u32 = 9;
const GROUP_IPV6_ROUTE: u32 = 11;

/// Large enough for a burst of some ten thousand route changes.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Length and alignment of a netlink message header's length field.
const HEADER_LEN: usize = 16;

/// Something changed in the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A device appeared or changed.
    Link(Link),
    /// A device is gone.
    LinkGone(Link),
    /// An address appeared or changed.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// A route appeared or changed.
    Route(Route),
    /// A route is gone. Routes that vanish with their device are not always reported.
    RouteGone(Route),
    /// Notifications were lost: list everything again.
    Resync,
}

impl Netlink {
    /// Notifications in the calling thread's namespace, from now on. List after this call, and nothing is missed.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub fn monitor() -> Result<Monitor> {
        Monitor::open()
    }

    /// Notifications in another namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the socket cannot be opened.
    pub fn monitor_in(netns: &NetNs) -> Result<Monitor> {
        let runtime = tokio::runtime::Handle::current();
        netns.run(move || {
            let _guard = runtime.enter();
            Monitor::open()
        })?
    }
}

/// A stream of [`Event`]s.
pub struct Monitor {
    socket: TokioSocket,
    pending: VecDeque<Event>,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor")
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl Monitor {
    fn open() -> Result<Self> {
        let failed = |e| Error::io("open a netlink notification socket", e);
        let mut socket = TokioSocket::new(NETLINK_ROUTE).map_err(failed)?;
        let inner = socket.socket_mut();
        inner.bind(&SocketAddr::new(0, 0)).map_err(failed)?;
        // Best effort: a smaller buffer only means more resyncs.
        let _ = inner.set_rx_buf_sz(RECEIVE_BUFFER_BYTES);
        for group in [
            GROUP_LINK,
            GROUP_IPV4_ADDRESS,
            GROUP_IPV4_ROUTE,
            GROUP_IPV6_ADDRESS,
            GROUP_IPV6_ROUTE,
        ] {
            inner.add_membership(group).map_err(failed)?;
        }
        Ok(Self {
            socket,
            pending: VecDeque::new(),
        })
    }

    /// Leaves out what was changed through the socket with this port number, which its owner knows.
    ///
    /// # Errors
    /// When the kernel refuses the filter.
    pub fn ignore_port(&self, port: u32) -> Result<()> {
        // The filter reads words in network byte order, the header has them in that of the host. Numbers are those of
        // `linux/filter.h`: load the word at an offset, jump if equal, return how much to keep.
        const LOAD: u16 = 0x20;
        const JUMP_IF_EQUAL: u16 = 0x15;
        const RETURN: u16 = 0x06;
        const PORT_OFFSET: u32 = 12;
        let filter = [
            SockFilter::new(LOAD, 0, 0, PORT_OFFSET),
            SockFilter::new(JUMP_IF_EQUAL, 0, 1, u32::from_be_bytes(port.to_ne_bytes())),
            SockFilter::new(RETURN, 0, 0, 0),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
        ];
        SockRef::from(self.socket.socket_ref())
            .attach_filter(&filter)
            .map_err(|e| Error::io("filter notifications", e))
    }

    /// The next event.
    ///
    /// # Errors
    /// When the socket fails for good; an overrun is an [`Event::Resync`], not an error.
    ///
    /// # Cancel safety
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            match self.socket.recv_from_full().await {
                Ok((datagram, _)) => parse(&datagram, &mut self.pending),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Event::Resync),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("receive notifications", error)),
            }
        }
    }
}

/// Splits a datagram into messages; one that cannot be read asks for a resync instead of being dropped silently.
fn parse(mut datagram: &[u8], events: &mut VecDeque<Event>) {
    while datagram.len() >= HEADER_LEN {
        let Some(length) = datagram
            .first_chunk::<4>()
            .map(|bytes| u32::from_ne_bytes(*bytes) as usize)
        else {
            return;
        };
        let Some(bytes) = datagram.get(..length).filter(|_| length >= HEADER_LEN) else {
            events.push_back(Event::Resync);
            return;
        };
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
            Ok(message) => events.extend(event_from(message)),
            Err(_) => events.push_back(Event::Resync),
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn event_from(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Event> {
    let NetlinkPayload::InnerMessage(message) = message.payload else {
        return None;
    };
    match message {
        RouteNetlinkMessage::NewLink(link) => Some(Event::Link(link_from(&link))),
        RouteNetlinkMessage::DelLink(link) => Some(Event::LinkGone(link_from(&link))),
        RouteNetlinkMessage::NewAddress(address) => address_from(&address).map(Event::Address),
        RouteNetlinkMessage::DelAddress(address) => address_from(&address).map(Event::AddressGone),
        RouteNetlinkMessage::NewRoute(route) => route_from(&route).map(Event::Route),
        RouteNetlinkMessage::DelRoute(route) => route_from(&route).map(Event::RouteGone),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_asks_for_a_resync_and_ends() {
        let mut events = VecDeque::new();
        let mut datagram = vec![0xff; 64];
        parse(&datagram, &mut events);
        assert_eq!(events.pop_front(), Some(Event::Resync));
        // A length shorter than the header must not loop.
        datagram[..4].copy_from_slice(&1u32.to_ne_bytes());
        parse(&datagram, &mut events);
        assert_eq!(events.pop_front(), Some(Event::Resync));
        assert!(events.is_empty());
    }
}

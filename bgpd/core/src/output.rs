//! What a speaker wants done: connections, octets to send, kernel routes, events for people.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;

use crate::config::{Listen, Password};
use crate::input::ConnId;

/// One wish of the speaker. They are to be carried out in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Listen on exactly these, with exactly these peers' socket options. Comes first and after every change.
    Listen {
        /// Where to.
        listen: Vec<Listen>,
        /// What accepted connections of each peer need.
        peers: Vec<Transport>,
        /// The same for peers that are known by the network they connect from. The address of each is unspecified.
        ranges: Vec<(IpNet, Transport)>,
    },
    /// Open a connection and answer with `Input::Connected` or `Input::ConnectFailed`.
    Connect {
        /// Its name from now on.
        conn: ConnId,
        /// The peer's port.
        port: u16,
        /// Where to, and the socket's options.
        transport: Transport,
    },
    /// Send these octets: one or more whole messages.
    Send {
        /// On which connection.
        conn: ConnId,
        /// What; shared between connections where the same is sent to several.
        bytes: Bytes,
    },
    /// Close after what was sent before. The speaker is done with this connection: no `Input::Closed` is needed.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// A kernel route.
    Route(RouteDelta),
    /// Report the way to this next hop by `Input::NextHop`, at once and after every change.
    WatchNextHop(IpAddr),
    /// The next hop is not needed any more.
    UnwatchNextHop(IpAddr),
    /// Something that people may want to read.
    Event(Event),
}

/// Socket options towards one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// The peer's address.
    pub address: IpAddr,
    /// Source address; `None` leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// TCP-MD5 key.
    pub md5: Option<Password>,
    /// TTL or hop limit to send with.
    pub ttl: u8,
    /// Least TTL to accept (`IP_MINTTL`, RFC 5082), when TTL security is on.
    pub min_ttl: Option<u8>,
}

/// What the kernel should have for a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteDelta {
    /// The prefix.
    pub prefix: IpNet,
    /// The route, shared between prefixes that are reached the same way; `None` removes it.
    pub route: Option<Arc<KernelRoute>>,
}

/// A kernel route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelRoute {
    /// Where packets go.
    pub target: Target,
    /// The metric that policy set; `None` leaves it to the shell's default.
    pub metric: Option<u32>,
}

/// Where a kernel route leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// To these next hops, in ascending order, at least one.
    NextHops(Vec<NextHop>),
    /// Nowhere: an own prefix that more specific routes fill.
    Blackhole,
}

/// One next hop of a kernel route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// The BGP next hop; the shell resolves it when it is not on a connected network.
    pub address: IpAddr,
    /// Device that policy chose, to be used with `onlink`.
    pub device: Option<String>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session is up.
    PeerUp {
        /// The peer's name.
        peer: String,
    },
    /// A session that was up is down.
    PeerDown {
        /// The peer's name.
        peer: String,
        /// Why.
        reason: String,
        /// Its routes are kept as stale (RFC 4724).
        routes_kept: bool,
    },
    /// A connection was refused or a message had to be answered with an error.
    PeerError {
        /// The peer's name, or its address when it is not configured.
        peer: String,
        /// What, and what to do.
        reason: String,
    },
    /// An UPDATE had an error that did not need the session to end (RFC 7606).
    UpdateError {
        /// The peer's name.
        peer: String,
        /// What.
        reason: String,
    },
    /// All End-of-RIB markers are in or the timer is up: kernel routes that were not confirmed may go.
    RestartComplete {
        /// Peers whose routes did not come in time.
        missing: Vec<String>,
    },
    /// A configuration was refused; the one before stays.
    ConfigRefused {
        /// Why.
        reason: String,
    },
}

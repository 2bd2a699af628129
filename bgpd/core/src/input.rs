//! What happens to a speaker: connections, messages, routes of the host, a new configuration.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::policy::Source;

/// Names a connection. The two kinds are numbered independently, so both sides can allocate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConnId {
    /// Asked for by the speaker with `Output::Connect`, which chose the number.
    Outbound(u64),
    /// Accepted by the shell, which chose the number. Numbers are not used twice.
    Inbound(u64),
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outbound(number) => write!(f, "out{number}"),
            Self::Inbound(number) => write!(f, "in{number}"),
        }
    }
}

/// One event.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Input {
    /// A new configuration. One that does not validate is refused with an event and changes nothing.
    Config(Box<Config>),
    /// A TCP connection stands.
    Connected {
        /// Which.
        conn: ConnId,
        /// The peer's address. IPv4-mapped addresses are taken as IPv4.
        peer: IpAddr,
        /// Own address on this connection: next hop of what is sent.
        local: IpAddr,
    },
    /// A connection that was asked for did not come about.
    ConnectFailed {
        /// Which.
        conn: ConnId,
        /// Why, for status and log.
        reason: String,
    },
    /// One message with its header, as [`crate::wire::framing`] cut it.
    Message {
        /// From where.
        conn: ConnId,
        /// The octets.
        #[serde(with = "hexadecimal")]
        bytes: Bytes,
    },
    /// The connection ended, or its output will not be read any more.
    Closed {
        /// Which.
        conn: ConnId,
        /// Why, for status and log.
        reason: String,
    },
    /// The shell's send queue of this connection is full: nothing but small messages until `SendReady`.
    SendBlocked {
        /// Which.
        conn: ConnId,
    },
    /// The send queue has room.
    SendReady {
        /// Which.
        conn: ConnId,
    },
    /// A route of the host came, changed or went.
    Local(LocalDelta),
    /// What is known about the way to a next hop (see `Output::WatchNextHop`).
    NextHop {
        /// The next hop.
        address: IpAddr,
        /// The way there; `None` is none.
        resolution: Option<Resolution>,
    },
    /// Ask the peer for its routes (RFC 2918), or close the session, or open it.
    Command {
        /// The peer's name.
        peer: String,
        /// What.
        command: Command,
    },
    /// End all sessions with Cease. Peers with graceful restart keep the routes when `graceful`.
    Shutdown {
        /// Close without a NOTIFICATION, as RFC 4724 §5 wants it of a speaker that will be back.
        graceful: bool,
        /// Shutdown text for the peers (RFC 9003).
        message: String,
    },
}

/// An operator's command on one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Command {
    /// Send ROUTE-REFRESH.
    RefreshIn,
    /// Send all routes again.
    RefreshOut,
    /// Administrative reset (Cease/4).
    Reset,
    /// End the session because BFD says that the peer is gone (Cease/10, RFC 9384).
    BfdDown,
}

/// A change of the host's own routes, from the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalDelta {
    /// The prefix.
    pub prefix: IpNet,
    /// The route; `None` withdraws it.
    pub route: Option<LocalRoute>,
}

/// A route of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalRoute {
    /// `Kernel` or `Direct`; `Static` and `Bgp` are the configuration's and the peers', and are refused here.
    pub source: Source,
    /// Its gateway.
    pub next_hop: Option<IpAddr>,
    /// Its interface.
    pub interface: Option<String>,
    /// Its kernel metric.
    pub metric: Option<u32>,
}

/// The way to a next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolution {
    /// Cost of the way, compared in step (e) of the decision process.
    pub metric: u32,
    /// Gateway of the route that covers it, `None` when it is on a connected network.
    pub gateway: Option<IpAddr>,
    /// Interface of that route.
    pub interface: Option<String>,
}

/// Octets as two digits each.
mod hexadecimal {
    use std::fmt::Write;

    use bytes::Bytes;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 * bytes.len());
        for octet in bytes {
            // Writing to a String cannot fail.
            let _ = write!(text, "{octet:02x}");
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        let octet = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        };
        let octets: Option<Vec<u8>> = text.as_bytes().chunks(2).map(octet).collect();
        octets
            .map(Bytes::from)
            .ok_or_else(|| D::Error::custom("octets are two hexadecimal digits each"))
    }
}

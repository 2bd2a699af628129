//! Packet filter rules as typed data, the same for every backend.
//!
//! Owns what a rule can say: criteria, action, comments. Never knows how a backend writes it; that is
//! [`render`](crate::render). A rule matches when all its criteria do. Source: the vocabulary that Calico's chains
//! need (`felix/generictables`).

pub mod dispatch;
pub mod endpoint;
pub mod failsafe;
pub mod merge;
pub mod nflog;
pub mod policy;
pub mod static_chains;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// What happens to a packet for which they do.
    pub action: Action,
    /// Texts for the reader of the kernel's table.
    pub comments: Vec<String>,
}

impl Rule {
    /// A rule without comments.
    #[must_use]
    pub fn new(matches: impl Into<Vec<Match>>, action: Action) -> Self {
        Self {
            matches: matches.into(),
            action,
            comments: Vec::new(),
        }
    }

    /// The rule with one more comment.
    #[must_use]
    pub fn comment(mut self, text: impl Into<String>) -> Self {
        self.comments.push(text.into());
        self
    }
}

/// One end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// Where it comes from.
    Source,
    /// Where it goes to.
    Destination,
}

/// Ports from `min` to `max`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// First port.
    pub min: u16,
    /// Last port.
    pub max: u16,
}

impl PortRange {
    /// True for ports within.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.min <= port && port <= self.max
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            self.min.fmt(f)
        } else {
            write!(f, "{}:{}", self.min, self.max)
        }
    }
}

/// State of the connection that a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnState {
    /// First packet.
    New,
    /// Of a connection that packets of both directions were seen of.
    Established,
    /// Of a new connection that belongs to another one.
    Related,
    /// Of no connection.
    Invalid,
    /// Of none that is tracked, because a rule said so.
    Untracked,
    /// Of a connection whose destination was translated.
    Dnat,
}

/// A criterion. `negated` ones hold when the plain one does not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// `mark & mask == value`.
    Mark {
        /// Bits to compare with.
        value: u32,
        /// Bits to look at.
        mask: u32,
        /// Inverts the criterion.
        negated: bool,
    },
    /// The packet came in by this interface; a `+` at the end stands for any rest.
    InInterface {
        /// Name or prefix and `+`.
        name: String,
        /// Inverts the criterion.
        negated: bool,
    },
    /// The packet leaves by this interface; a `+` at the end stands for any rest.
    OutInterface {
        /// Name or prefix and `+`.
        name: String,
        /// Inverts the criterion.
        negated: bool,
    },
    /// The address is one of the host's own.
    LocalAddress {
        /// Which address.
        end: End,
        /// Look at the addresses of the outgoing interface only.
        limit_to_out_interface: bool,
        /// Inverts the criterion.
        negated: bool,
    },
    /// The reverse path of the packet's source is not the interface that it came in by.
    ReversePathFailed,
    /// The connection has one of these states.
    ConnState {
        /// The states.
        states: Vec<ConnState>,
        /// Inverts the criterion.
        negated: bool,
    },
    /// The IP protocol.
    Protocol {
        /// Its number.
        number: u8,
        /// Inverts the criterion.
        negated: bool,
    },
    /// The address is in one of these prefixes.
    Nets {
        /// Which address.
        end: End,
        /// Prefixes, of the table's family. More than one only for backends that can.
        nets: Vec<IpNet>,
        /// Inverts the criterion.
        negated: bool,
    },
    /// The address (or address, protocol and port) is in an IP set.
    Set {
        /// Which address.
        end: End,
        /// Key of the set in [`Desired::ip_sets`](crate::Desired).
        set: String,
        /// For sets with ports: which port of the packet is looked up beside the address.
        port: Option<End>,
        /// Inverts the criterion.
        negated: bool,
    },
    /// The port is in one of these ranges; needs a protocol criterion.
    Ports {
        /// Which port.
        end: End,
        /// Ranges.
        ports: Vec<PortRange>,
        /// Inverts the criterion.
        negated: bool,
    },
    /// ICMP (or ICMPv6, by the table's family) type and code.
    Icmp {
        /// Type.
        type_: u8,
        /// Code; any if absent.
        code: Option<u8>,
        /// Inverts the criterion.
        negated: bool,
    },
    /// Packets that meet this criterion come faster than this; those within the limit do not match.
    RateAbove {
        /// Name of the bucket, unique in the node.
        bucket: String,
        /// Packets per second.
        per_second: u32,
        /// Packets that may come at once.
        burst: u32,
    },
    /// Packets that meet this criterion come no faster than this; those beyond the limit do not match.
    RateWithin {
        /// Packets.
        packets: u32,
        /// In this time.
        per: TimeUnit,
        /// Packets that may come at once.
        burst: u32,
    },
    /// There are more connections than this through the rule.
    ConnectionsAbove {
        /// Connections.
        count: u32,
    },
}

/// Time of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum TimeUnit {
    Second,
    Minute,
    Hour,
    Day,
}

impl TimeUnit {
    /// The word that every backend has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It passes this table.
    Accept,
    /// It is dropped.
    Drop,
    /// It is dropped and the sender is told.
    Reject,
    /// It is dropped and the sender's connection is reset (TCP only).
    Reset,
    /// It goes on in the calling chain.
    Return,
    /// It goes to the chain that a map of the table has for its interface and does not come back; without an entry it
    /// goes on. Only for backends with maps.
    Dispatch {
        /// Which interface: that it came in by, or that it leaves by.
        end: End,
        /// Key of the map in [`Table::maps`](crate::desired::Table).
        map: String,
    },
    /// It goes through a chain and comes back.
    Jump(String),
    /// It goes through a chain and does not come back.
    Goto(String),
    /// Bits of its mark are set: `mark = mark & !mask | value`.
    SetMark {
        /// Bits to set.
        value: u32,
        /// Bits that are replaced.
        mask: u32,
    },
    /// It is logged, and goes on.
    Log {
        /// Beginning of the message.
        prefix: String,
    },
    /// It is shown to the reader of a group of nfnetlink_log, and goes on.
    Nflog {
        /// The group.
        group: u16,
        /// What the reader is told with it; at most 63 bytes.
        prefix: String,
    },
    /// Its connection is not tracked.
    NoTrack,
    /// Its source becomes the address of the outgoing interface.
    Masquerade {
        /// Ports to choose from.
        ports: Option<PortRange>,
    },
    /// Its source becomes this address.
    Snat {
        /// The address.
        to: IpAddr,
        /// Ports to choose from.
        ports: Option<PortRange>,
    },
    /// Its destination becomes this address.
    Dnat {
        /// The address.
        to: IpAddr,
    },
}

impl Action {
    /// The chain that a jump or goto refers to.
    #[must_use]
    pub fn target_chain(&self) -> Option<&str> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            Self::Accept
            | Self::Drop
            | Self::Reject
            | Self::Reset
            | Self::Return
            | Self::Dispatch { .. }
            | Self::SetMark { .. }
            | Self::Log { .. }
            | Self::Nflog { .. }
            | Self::NoTrack
            | Self::Masquerade { .. }
            | Self::Snat { .. }
            | Self::Dnat { .. } => None,
        }
    }
}

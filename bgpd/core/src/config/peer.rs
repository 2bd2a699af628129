//! One neighbour of the configuration: who it is, how its session is held, what goes over it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};

use super::defaults;
use crate::bfd;
use crate::family::Family;

/// How next hops are set towards a peer (RFC 4271 §5.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NextHopMode {
    /// Own address for eBGP and for local routes, unchanged for the rest.
    #[default]
    Auto,
    /// Always the own address.
    #[serde(rename = "self")]
    Own,
    /// Unchanged wherever there is one to keep.
    Keep,
}

/// Which way more than one path per prefix may go (RFC 7911).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AddPath {
    /// Neither.
    #[default]
    Off,
    /// Several paths are accepted from the peer; one is sent.
    Receive,
    /// All usable paths are sent; one is accepted.
    Send,
    /// Both.
    Both,
}

impl AddPath {
    /// Returns the code of RFC 7911 §4: 1 for receiving, 2 for sending, 3 for both, 0 for neither.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Receive => 1,
            Self::Send => 2,
            Self::Both => 3,
        }
    }
}

/// What this speaker is to a peer of another AS (RFC 9234 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It sells the way to the rest of the world.
    Provider = 0,
    /// It is a route server.
    RouteServer = 1,
    /// It is a client of a route server.
    RouteServerClient = 2,
    /// It buys the way to the rest of the world.
    Customer = 3,
    /// Both exchange their own routes and those of their customers.
    Peer = 4,
}

impl Role {
    /// What the other side has to be.
    pub fn counterpart(self) -> Self {
        match self {
            Self::Provider => Self::Customer,
            Self::Customer => Self::Provider,
            Self::RouteServer => Self::RouteServerClient,
            Self::RouteServerClient => Self::RouteServer,
            Self::Peer => Self::Peer,
        }
    }

    /// Whether routes that came from above or from the side may not go to the other side.
    pub(crate) fn is_below_or_beside(self) -> bool {
        matches!(self, Self::Customer | Self::RouteServerClient | Self::Peer)
    }

    /// Whether routes that go to the other side go downwards or sideways.
    pub(crate) fn is_above_or_beside(self) -> bool {
        matches!(self, Self::Provider | Self::RouteServer | Self::Peer)
    }
}

/// An inclusive range of AS numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AsRange {
    /// The lowest.
    pub min: u32,
    /// The highest.
    pub max: u32,
}

impl AsRange {
    /// Whether the number is within.
    pub fn contains(self, number: u32) -> bool {
        (self.min..=self.max).contains(&number)
    }
}

/// One neighbour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peer {
    /// Unique name, in every status and log line.
    pub name: String,
    /// The peer's address; left out together with `listenRange`.
    #[serde(default = "defaults::no_address")]
    pub address: IpAddr,
    /// Any number of peers, known by the network that they connect from. They are never dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_range: Option<IpNet>,
    /// Peers at once from `listenRange`.
    #[serde(default = "defaults::listen_limit")]
    pub listen_limit: u32,
    /// The peer's port.
    #[serde(default = "defaults::port")]
    pub port: u16,
    /// The peer's AS number; 0 leaves it to `remoteAsRanges`.
    #[serde(default)]
    pub remote_as: u32,
    /// AS numbers that the peer may have beside `remoteAs`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remote_as_ranges: Vec<AsRange>,
    /// AS number to use towards this peer; the speaker's by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_as: Option<u32>,
    /// Source address of connections, and next hop of routes sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_address: Option<IpAddr>,
    /// Never connect, only accept.
    #[serde(default)]
    pub passive: bool,
    /// Administratively down.
    #[serde(default)]
    pub shutdown: bool,
    /// The peer may be any number of hops away. Without it an eBGP connection is sent with a TTL of 1.
    #[serde(default)]
    pub multihop: bool,
    /// Hops for the Generalized TTL Security Mechanism (RFC 5082); 1 is a direct neighbour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_security_hops: Option<u8>,
    /// TCP-MD5 password (RFC 2385).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// Timers.
    #[serde(default)]
    pub timers: Timers,
    /// Families to negotiate; at least one.
    #[serde(default = "defaults::families")]
    pub families: Vec<Family>,
    /// Restart time announced in seconds (RFC 4724); 0 turns graceful restart off for this peer.
    #[serde(default = "defaults::restart_seconds")]
    pub graceful_restart_seconds: u16,
    /// Seconds announced for routes to be kept as stale after the restart time (RFC 9494). 0 keeps those of the peer
    /// for as long as it asks and asks for nothing itself; without it neither is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_lived_seconds: Option<u32>,
    /// Send long-lived stale routes to a peer of the own AS that does not know of them too, as the last choice
    /// (RFC 9494 §4.6). Right only where every router between the two takes part in BGP or is tunnelled over.
    #[serde(default)]
    pub long_lived_partial: bool,
    /// Take routes with the community GRACEFUL_SHUTDOWN as the last choice (RFC 8326 §4.1).
    #[serde(default = "defaults::yes")]
    pub graceful_shutdown: bool,
    /// What this speaker is to the peer, against route leaks (RFC 9234).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Refuse a peer that does not say its role.
    #[serde(default)]
    pub strict_role: bool,
    /// This peer is a client of a route reflector, which is this speaker with this cluster ID (RFC 4456).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reflector_client: Option<Ipv4Addr>,
    /// Next hop of routes sent.
    #[serde(default)]
    pub next_hop: NextHopMode,
    /// Several paths per prefix.
    #[serde(default)]
    pub add_path: AddPath,
    /// How often the own AS may stand in a received AS_PATH.
    #[serde(default)]
    pub allow_own_as: u8,
    /// Import policies in order. A route that no term decides is accepted.
    #[serde(default)]
    pub import: Vec<String>,
    /// Export policies in order. A route that no term decides is accepted.
    #[serde(default)]
    pub export: Vec<String>,
    /// Prefixes accepted from this peer per family; more ends the session (Cease/1, RFC 4486).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_limit: Option<u32>,
    /// Watch the peer with BFD, and end the session as soon as that says that it is gone (RFC 5882).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<bfd::Settings>,
}

/// Session timers in seconds (RFC 4271 §8, §10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Timers {
    /// Proposed hold time: 0 or at least 3.
    pub hold_seconds: u16,
    /// Interval of KEEPALIVE messages; a third of the negotiated hold time by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_seconds: Option<u16>,
    /// ConnectRetryTime.
    pub connect_retry_seconds: u16,
    /// Wait before the first connection attempt.
    pub connect_delay_seconds: u16,
    /// Shortest wait after a session error.
    pub error_wait_min_seconds: u16,
    /// Longest wait after repeated session errors.
    pub error_wait_max_seconds: u16,
    /// SendHoldTimer (RFC 9687); by default the greater of eight minutes and twice the hold time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_hold_seconds: Option<u16>,
}

/// A TCP-MD5 key that does not show in logs or printed configurations.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Wraps a key.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// Returns the key itself, for the socket option.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Password {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl Peer {
    /// Returns a peer with defaults in everything but its identity.
    pub fn new(name: impl Into<String>, address: IpAddr, remote_as: u32) -> Self {
        Self {
            name: name.into(),
            address,
            listen_range: None,
            listen_limit: defaults::listen_limit(),
            port: defaults::port(),
            remote_as,
            remote_as_ranges: Vec::new(),
            local_as: None,
            local_address: None,
            passive: false,
            shutdown: false,
            multihop: false,
            ttl_security_hops: None,
            password: None,
            timers: Timers::default(),
            families: vec![Family::of_address(address)],
            graceful_restart_seconds: defaults::restart_seconds(),
            long_lived_seconds: None,
            long_lived_partial: false,
            graceful_shutdown: true,
            role: None,
            strict_role: false,
            reflector_client: None,
            next_hop: NextHopMode::Auto,
            add_path: AddPath::Off,
            allow_own_as: 0,
            import: Vec::new(),
            export: Vec::new(),
            prefix_limit: None,
            bfd: None,
        }
    }

    /// The peer that connects from an address within `listen_range`.
    pub(crate) fn member(&self, address: IpAddr) -> Self {
        Self {
            name: format!("{}@{address}", self.name),
            address,
            listen_range: None,
            passive: true,
            ..self.clone()
        }
    }

    /// Whether `other` differs in nothing that needs a new session; policies, limits and waits may differ, and one
    /// password may take the place of another while the session is up.
    pub fn same_session(&self, other: &Self) -> bool {
        let identity = |peer: &Self| {
            let mut peer = peer.clone();
            peer.import.clear();
            peer.export.clear();
            peer.prefix_limit = None;
            peer.bfd = None;
            peer.listen_limit = 0;
            peer.long_lived_partial = false;
            peer.graceful_shutdown = true;
            peer.password = peer.password.map(|_| Password::new(""));
            peer.next_hop = NextHopMode::Auto;
            peer.allow_own_as = 0;
            let hold_seconds = peer.timers.hold_seconds;
            peer.timers = Timers {
                hold_seconds,
                ..Timers::default()
            };
            peer
        };
        identity(self) == identity(other)
    }
}

//! What a speaker is told to be: its identity, its neighbours, its policies and the routes it originates.
//!
//! The serde form is the file format of a stand-alone speaker (camelCase, unknown fields refused). [`Config::validate`]
//! names field, value and remedy; a `crate::Speaker` takes validated configurations only. Never reads a file itself.
//! Terms follow RFC 4271 §1.1 and §8.

mod defaults;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};

use crate::family::Family;
use crate::policy::{Community, Policy};
pub use validate::ConfigError;

/// The configuration of one speaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Own AS number.
    pub local_as: u32,
    /// BGP Identifier; not zero.
    pub router_id: Ipv4Addr,
    /// Where to listen; empty listens nowhere.
    #[serde(default)]
    pub listen: Vec<Listen>,
    /// The neighbours; names are unique.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Named policies that peers and the kernel filter refer to.
    #[serde(default)]
    pub policies: BTreeMap<String, Policy>,
    /// Policies, in order, for what best routes go to the kernel. A route that no term decides goes.
    #[serde(default)]
    pub kernel_export: Vec<String>,
    /// Routes originated here.
    #[serde(default)]
    pub routes: Vec<Originate>,
    /// Next hops of one kernel route at most (ECMP); 1 turns multipath off.
    #[serde(default = "defaults::multipath_max")]
    pub multipath_max: u8,
    /// Preferences between sources for the same prefix; the higher wins before any BGP attribute is looked at.
    #[serde(default)]
    pub preference: Preference,
    /// Compare MED between routes of different neighbouring ASes as well.
    #[serde(default)]
    pub always_compare_med: bool,
    /// Hold back paths whose next hop has not been reported reachable by `Input::NextHop`.
    #[serde(default)]
    pub track_next_hops: bool,
    /// Seconds a restarting speaker waits for its peers' End-of-RIB (Selection_Deferral_Timer, RFC 4724 §4.1).
    #[serde(default = "defaults::deferral_seconds")]
    pub deferral_seconds: u16,
}

/// An address and port to accept connections on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listen {
    /// The address; unspecified for all of its family.
    pub address: IpAddr,
    /// The port.
    #[serde(default = "defaults::port")]
    pub port: u16,
}

/// Preferences of route sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Preference {
    /// Routes learned by BGP, before an import policy sets another.
    pub bgp: u32,
    /// Routes of this configuration.
    pub originated: u32,
    /// Routes of connected interfaces.
    pub direct: u32,
    /// Routes that others put into the kernel.
    pub kernel: u32,
}

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
}

/// One neighbour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peer {
    /// Unique name, in every status and log line.
    pub name: String,
    /// The peer's address.
    pub address: IpAddr,
    /// The peer's port.
    #[serde(default = "defaults::port")]
    pub port: u16,
    /// The peer's AS number.
    pub remote_as: u32,
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

/// A route originated by this speaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Originate {
    /// The prefix; no host bits set.
    pub prefix: IpNet,
    /// Communities to attach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<Community>,
    /// MULTI_EXIT_DISC to attach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    /// Kernel metric that policy terms see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// Put a blackhole for it into the kernel.
    #[serde(default)]
    pub blackhole: bool,
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

impl Config {
    /// Returns a configuration with this identity, no peer and no route.
    pub fn new(local_as: u32, router_id: Ipv4Addr) -> Self {
        Self {
            local_as,
            router_id,
            listen: Vec::new(),
            peers: Vec::new(),
            policies: BTreeMap::new(),
            kernel_export: Vec::new(),
            routes: Vec::new(),
            multipath_max: defaults::multipath_max(),
            preference: Preference::default(),
            always_compare_med: false,
            track_next_hops: false,
            deferral_seconds: defaults::deferral_seconds(),
        }
    }

    /// Returns the AS number that this speaker shows to `peer`.
    pub fn as_towards(&self, peer: &Peer) -> u32 {
        peer.local_as.unwrap_or(self.local_as)
    }
}

impl Peer {
    /// Returns a peer with defaults in everything but its identity.
    pub fn new(name: impl Into<String>, address: IpAddr, remote_as: u32) -> Self {
        Self {
            name: name.into(),
            address,
            port: defaults::port(),
            remote_as,
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
            reflector_client: None,
            next_hop: NextHopMode::Auto,
            add_path: AddPath::Off,
            allow_own_as: 0,
            import: Vec::new(),
            export: Vec::new(),
            prefix_limit: None,
        }
    }

    /// Whether `other` differs in nothing that needs a new session; policies, limits and waits may differ.
    pub fn same_session(&self, other: &Self) -> bool {
        let identity = |peer: &Self| {
            let mut peer = peer.clone();
            peer.import.clear();
            peer.export.clear();
            peer.prefix_limit = None;
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

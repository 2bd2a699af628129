//! The state of a speaker as data for status commands and tests (serde, camelCase). Times are seconds before the call.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::policy::{Community, PeerType, Source};

/// A speaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpeakerStatus {
    /// Own AS number.
    pub local_as: u32,
    /// BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Waiting for End-of-RIB markers after a restart.
    pub restarting: bool,
    /// Prefixes with at least one path.
    pub prefixes: usize,
    /// Paths of all sources.
    pub paths: usize,
    /// The peers, in the order of their names.
    pub peers: Vec<PeerStatus>,
}

/// States of RFC 4271 §8.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SessionState {
    /// Refuses connections.
    Idle,
    /// Waits for a TCP connection that it opens.
    Connect,
    /// Waits for a TCP connection that the peer opens, or for the time to open one.
    Active,
    /// OPEN sent, none received.
    OpenSent,
    /// OPEN received, KEEPALIVE awaited.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Own address on the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_address: Option<IpAddr>,
    /// Its AS number.
    pub remote_as: u32,
    /// Own AS number towards it.
    pub local_as: u32,
    /// Inside or outside the AS.
    pub peer_type: PeerType,
    /// It is only waited for.
    pub passive: bool,
    /// The peer of the configuration whose `listenRange` it connected from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_range: Option<String>,
    /// Its BGP Identifier, once known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router_id: Option<Ipv4Addr>,
    /// The session's state.
    pub state: SessionState,
    /// Seconds in this state.
    pub state_seconds: u64,
    /// Times the session was up.
    pub established_count: u64,
    /// Negotiated hold time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_seconds: Option<u16>,
    /// Its routes are kept while it restarts.
    pub routes_stale: bool,
    /// They are kept past the restart time, as the last choice (RFC 9494).
    #[serde(default)]
    pub routes_long_lived_stale: bool,
    /// Names of capabilities in use.
    pub capabilities: Vec<String>,
    /// The last error, with its remedy where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Seconds since the last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error_seconds: Option<u64>,
    /// Message counters.
    pub counters: Counters,
    /// Routes received (Adj-RIB-In).
    pub prefixes_received: usize,
    /// Routes that passed the import policy.
    pub prefixes_accepted: usize,
    /// Routes sent (Adj-RIB-Out).
    pub prefixes_sent: usize,
    /// BFD with it, where that is configured. Whoever runs BFD puts it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<crate::bfd::Status>,
}

/// Counters of one peer since the speaker's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Messages received.
    pub messages_in: u64,
    /// Messages sent.
    pub messages_out: u64,
    /// UPDATE messages received.
    pub updates_in: u64,
    /// UPDATE messages sent.
    pub updates_out: u64,
    /// NOTIFICATION messages received.
    pub notifications_in: u64,
    /// NOTIFICATION messages sent.
    pub notifications_out: u64,
    /// UPDATEs whose routes were taken as withdrawn (RFC 7606).
    pub treat_as_withdraw: u64,
    /// Attributes discarded (RFC 7606).
    pub attributes_discarded: u64,
}

/// Whether a peer is told of a prefix, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// It is.
    pub advertised: bool,
    /// Everything that keeps it from that, with remedies.
    pub reasons: Vec<String>,
}

/// Which routes to list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "table", deny_unknown_fields)]
pub enum RouteQuery {
    /// All usable paths.
    LocRib,
    /// What a peer sent.
    AdjRibIn {
        /// The peer's name.
        peer: String,
    },
    /// What a peer was sent.
    AdjRibOut {
        /// The peer's name.
        peer: String,
    },
}

/// One path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// The prefix.
    pub prefix: IpNet,
    /// Where it is from.
    pub source: Source,
    /// The peer it is from, for BGP routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// That peer's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<IpAddr>,
    /// Path identifier (RFC 7911), 0 without add-path.
    pub path_id: u32,
    /// Its next hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<IpAddr>,
    /// Its interface, for routes of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The decision process chose it.
    pub best: bool,
    /// It goes to the kernel together with the best one.
    pub multipath: bool,
    /// It is kept from before its peer restarted.
    pub stale: bool,
    /// The import policy rejected it, its AS_PATH has a loop or its next hop is not reachable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unusable: Option<String>,
    /// ORIGIN: `IGP`, `EGP` or `incomplete`.
    pub origin: String,
    /// AS_PATH as text; sets in braces.
    pub as_path: String,
    /// LOCAL_PREF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    /// Kernel metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// Standard and large communities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<Community>,
    /// Extended communities and attributes that are only passed on, as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other: Vec<String>,
}

//! What a speaker is told to be: its identity, its neighbours, its policies and the routes it originates.
//!
//! The serde form is the file format of a stand-alone speaker (camelCase, unknown fields refused). [`Config::validate`]
//! names field, value and remedy; a `crate::Speaker` takes validated configurations only. Never reads a file itself.
//! Terms follow RFC 4271 §1.1 and §8.

mod defaults;
mod peer;
mod validate;
mod validate_peer;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::policy::{Community, Policy};
pub use peer::{AddPath, AsRange, NextHopMode, Password, Peer, Role, Timers};
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
    /// This speaker is about to go: peers are told to prefer other ways (RFC 8326 §4.2).
    #[serde(default)]
    pub drain: bool,
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
            drain: false,
        }
    }

    /// Returns the AS number that this speaker shows to `peer`.
    pub fn as_towards(&self, peer: &Peer) -> u32 {
        peer.local_as.unwrap_or(self.local_as)
    }
}

//! Import, export and kernel policies as data: terms with matches, actions and a verdict.
//!
//! A policy is a list of terms. The terms of a chain of policies are tried in order; all criteria of a term are ANDed;
//! the first term that matches runs its actions, then accepts, rejects or goes on with the next. The meaning is
//! standard BGP vocabulary (RFC 4271 §9.1, RFC 1997, RFC 8092); the evaluator is pure.

mod community;
pub(crate) mod eval;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::family::Family;
pub use community::{Community, CommunityParseError};

/// A list of terms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// The terms, in order.
    #[serde(default)]
    pub terms: Vec<Term>,
}

/// One term: when it matches, what it does, and what comes of the route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Term {
    /// Where the term comes from, for those who read the configuration.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The criteria; none matches every route.
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// The actions, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
    /// The verdict.
    pub then: Verdict,
}

/// What comes of a route that a term matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The route passes; later terms are not tried.
    Accept,
    /// The route is dropped.
    Reject,
    /// The next term is tried.
    Next,
}

/// The criteria of a term; every one given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Match {
    /// The address family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// At least one of these holds for the prefix; an empty list is no criterion.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<PrefixMatch>,
    /// The route is from one of these; an empty list is no criterion.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// Type of the session that the policy runs for (not of the one the route came from).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<PeerType>,
    /// Outgoing interface; `*` and `?` are wildcards. At least one matches; an empty list is no criterion.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    /// All of these are attached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<Community>,
    /// The AS_PATH starts with these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub as_path_prefix: Vec<u32>,
    /// LOCAL_PREF is there and in this range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<Range>,
    /// The kernel metric is there and in this range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<Range>,
    /// The next hop is an address in one of these; an empty list is no criterion.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub next_hops: Vec<IpNet>,
}

/// A comparison of a route's prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrefixMatch {
    /// What it is compared with.
    pub cidr: IpNet,
    /// How.
    pub operator: PrefixOperator,
    /// Shortest length that counts as within `cidr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_length: Option<u8>,
    /// Longest length that counts as within `cidr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u8>,
}

/// How prefixes are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PrefixOperator {
    /// The same prefix.
    Equal,
    /// Another prefix.
    NotEqual,
    /// The same or a longer one within it.
    In,
    /// Neither the same nor one within it.
    NotIn,
}

/// Where a route is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A peer.
    Bgp,
    /// The configuration.
    Static,
    /// A connected interface.
    Direct,
    /// Somebody else's kernel route.
    Kernel,
}

/// Whether a session stays inside the AS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PeerType {
    /// Same AS.
    Ibgp,
    /// Another AS.
    Ebgp,
}

/// An inclusive range of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Range {
    /// Lower end; none by default.
    #[serde(default)]
    pub min: u32,
    /// Upper end; none by default.
    #[serde(default = "u32_max")]
    pub max: u32,
}

fn u32_max() -> u32 {
    u32::MAX
}

impl Range {
    /// Returns the range of one number.
    pub fn exactly(number: u32) -> Self {
        Self {
            min: number,
            max: number,
        }
    }

    /// Whether the number is within.
    pub fn contains(self, number: u32) -> bool {
        (self.min..=self.max).contains(&number)
    }
}

/// A change of a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Action {
    /// LOCAL_PREF.
    SetLocalPref(u32),
    /// LOCAL_PREF := base − kernel metric (of `default` when the route has none).
    LocalPrefFromMetric(MetricScale),
    /// Kernel metric := base − LOCAL_PREF (`default` when the route has none).
    MetricFromLocalPref(MetricScale),
    /// MULTI_EXIT_DISC.
    SetMed(u32),
    /// Adds communities that are not there.
    AddCommunities(Vec<Community>),
    /// Puts these in front of the AS_PATH, in this order.
    PrependAsPath(Vec<u32>),
    /// Next hop towards the peer, instead of what the peer's mode says.
    SetNextHop(NextHopAction),
    /// Kernel metric.
    SetMetric(u32),
    /// Preference against other sources of the same prefix.
    SetPreference(u32),
    /// Device of the kernel route, whose next hops are then reached over it without a look-up (`onlink`).
    SetDevice(String),
}

/// The line on which kernel metric and LOCAL_PREF mirror one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricScale {
    /// Their sum.
    pub base: u32,
    /// The metric of a route that has none.
    pub default: u32,
}

/// A next hop chosen by policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NextHopAction {
    /// The own address on the session.
    #[serde(rename = "self")]
    Own,
    /// As it is.
    Keep,
    /// This one.
    Address(IpAddr),
}

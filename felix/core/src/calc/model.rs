//! Policies, rules and peers with everything parsed.
//!
//! Owns the form that both the table compiler and the evaluator read. What could not be parsed is not in here: it was
//! closed by [`compile`](super::compile).

use std::cmp::Ordering;
use std::sync::Arc;

use caracal_api::names::{self, PolicyKind};
use caracal_api::selector::Selector;
use ipnet::IpNet;

use crate::desired::{IpSetKind, IpVersion};
use crate::rules::PortRange;
use crate::update::Key;

/// Identity of a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId {
    /// Kind, namespace and name.
    pub kind: PolicyKind,
    /// Namespace (empty for cluster-wide kinds) and name.
    pub key: Key,
}

impl PolicyId {
    /// The id that chain names are made of.
    #[must_use]
    pub fn text(&self) -> String {
        names::policy_id(self.kind, &self.key.namespace, &self.key.name)
    }

    /// Kind and name for people.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{} {}", self.kind.as_str(), self.key)
    }
}

/// A direction as the endpoint sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the endpoint.
    Ingress,
    /// From the endpoint.
    Egress,
}

/// Where on a packet's way a policy applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Where packets are filtered.
    #[default]
    Normal,
    /// Host endpoints: before the destination is translated.
    PreDnat,
    /// Host endpoints: before connections are tracked.
    Untracked,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The word in names of things.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// A policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Tier.
    pub tier: String,
    /// Place in the tier; last if absent.
    pub order: Option<f64>,
    /// Endpoints that it applies to.
    pub selector: Selector,
    /// Where on a packet's way it applies.
    pub stage: Stage,
    /// Host endpoints: it applies to forwarded packets too.
    pub is_applied_on_forward: bool,
    /// Rules for traffic to the endpoint, if the policy has a say there.
    pub ingress: Option<Vec<RuleModel>>,
    /// Rules for traffic from the endpoint, if the policy has a say there.
    pub egress: Option<Vec<RuleModel>>,
}

impl Policy {
    /// Rules of a direction, if the policy has a say there.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> Option<&[RuleModel]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// Compares orders: numbers first, absent ones last.
#[must_use]
pub fn compare_orders(a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// Let pass.
    Allow,
    /// Deny.
    Deny,
    /// Go to the next tier.
    Pass,
    /// Log and go on.
    Log,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleModel {
    /// Number of the rule in its direction, as the policy has it.
    pub index: usize,
    /// What it does.
    pub action: RuleAction,
    /// Only for this IP version.
    pub version: Option<IpVersion>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// Not this IP protocol.
    pub not_protocol: Option<u8>,
    /// ICMP type and code.
    pub icmp: Option<(u8, Option<u8>)>,
    /// Not this ICMP type and code.
    pub not_icmp: Option<(u8, Option<u8>)>,
    /// Where packets come from.
    pub source: Peer,
    /// Where packets go to.
    pub destination: Peer,
}

impl RuleModel {
    /// A rule without criteria.
    #[must_use]
    pub fn any(index: usize, action: RuleAction) -> Self {
        Self {
            index,
            action,
            version: None,
            protocol: None,
            not_protocol: None,
            icmp: None,
            not_icmp: None,
            source: Peer::default(),
            destination: Peer::default(),
        }
    }

    /// The sets that the rule refers to.
    pub fn sets(&self) -> impl Iterator<Item = &Arc<SetSpec>> {
        [&self.source, &self.destination].into_iter().flat_map(|peer| {
            let address = peer.sets.iter().chain(&peer.not_sets);
            address.chain(&peer.named_ports).chain(&peer.not_named_ports)
        })
    }

    /// True when packets of an IP version can match.
    #[must_use]
    pub fn applies_to(&self, version: IpVersion) -> bool {
        // A rule that lists addresses of the other family only says nothing about this one.
        let has_nets = |peer: &Peer| peer.version.is_none_or(|own| own == version);
        // Nothing is outside everything; kernels have no form for it.
        let excludes_all = |peer: &Peer| {
            let mut nets = peer.not_nets.iter();
            nets.any(|net| net.prefix_len() == 0 && version_of(net) == version)
        };
        let icmp_fits = (self.icmp.is_none() && self.not_icmp.is_none())
            || self.protocol
                == Some(match version {
                    IpVersion::V4 => 1,
                    IpVersion::V6 => 58,
                });
        self.version.is_none_or(|own| own == version)
            && icmp_fits
            && has_nets(&self.source)
            && has_nets(&self.destination)
            && !excludes_all(&self.source)
            && !excludes_all(&self.destination)
    }
}

/// Family of a prefix.
#[must_use]
pub const fn version_of(net: &IpNet) -> IpVersion {
    match net {
        IpNet::V4(_) => IpVersion::V4,
        IpNet::V6(_) => IpVersion::V6,
    }
}

/// Criteria for one end of a packet; all must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peer {
    /// Family of the prefixes that were listed.
    pub version: Option<IpVersion>,
    /// In one of these prefixes.
    pub nets: Vec<IpNet>,
    /// In none of these prefixes.
    pub not_nets: Vec<IpNet>,
    /// In all of these sets.
    pub sets: Vec<Arc<SetSpec>>,
    /// In none of these sets.
    pub not_sets: Vec<Arc<SetSpec>>,
    /// Port in one of these ranges, or address and port in one of `named_ports`.
    pub ports: Vec<PortRange>,
    /// See `ports`.
    pub named_ports: Vec<Arc<SetSpec>>,
    /// Port in none of these ranges.
    pub not_ports: Vec<PortRange>,
    /// Address and port in none of these sets.
    pub not_named_ports: Vec<Arc<SetSpec>>,
}

/// A set of addresses and where its members come from.
#[derive(Clone, Debug, PartialEq)]
pub struct SetSpec {
    /// Id, from which the kernel's name is made.
    pub id: String,
    /// Where members come from.
    pub source: SetSource,
}

/// Where the members of a set come from.
#[derive(Clone, Debug, PartialEq)]
pub enum SetSource {
    /// Addresses of what a selector selects.
    Selector(Selector),
    /// Address and port of that name of what a selector selects.
    NamedPort {
        /// The selector.
        selector: Selector,
        /// IP protocol number.
        protocol: u8,
        /// Name of the port.
        port: String,
    },
    /// Prefixes that a rule lists.
    Nets(Vec<IpNet>),
    /// Endpoints of a Service.
    Service {
        /// The Service.
        service: Key,
        /// Addresses with ports.
        with_ports: bool,
    },
}

impl SetSpec {
    /// Kind of the kernel set.
    #[must_use]
    pub const fn kind(&self) -> IpSetKind {
        match self.source {
            SetSource::Selector(_)
            | SetSource::Nets(_)
            | SetSource::Service {
                with_ports: false, ..
            } => IpSetKind::HashNet,
            SetSource::NamedPort { .. } | SetSource::Service { with_ports: true, .. } => {
                IpSetKind::HashIpPort
            }
        }
    }
}

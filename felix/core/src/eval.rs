//! Would this packet pass, and by which rule: the meaning of policy, rule by rule.
//!
//! Owns no state: it reads what the calculation knows of the cluster ([`Core::evaluate`], [`Core::trace`]). It goes
//! through tiers, policies and profiles as they are written, and looks up addresses by selector, not by compiled set:
//! so it says independently what the compiled chains must do, and tests hold both together. It is about the first
//! packet of a connection; what belongs to a known one passes.
//!
//! [`Core::evaluate`]: crate::Core::evaluate
//! [`Core::trace`]: crate::Core::trace

use std::fmt;
use std::net::IpAddr;

use crate::calc::model::{Direction, Peer, PolicyId, RuleAction, RuleModel, SetSource, SetSpec};
use crate::calc::sets::{Item, Sets};
use crate::desired::IpVersion;

/// The first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes to, after translation of Service addresses.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port; 0 for protocols without.
    pub source_port: u16,
    /// Destination port; 0 for protocols without.
    pub destination_port: u16,
    /// ICMP type and code, for ICMP and ICMPv6.
    pub icmp: Option<(u8, u8)>,
}

impl Packet {
    /// Family of the packet.
    #[must_use]
    pub const fn version(&self) -> IpVersion {
        if self.destination.is_ipv4() {
            IpVersion::V4
        } else {
            IpVersion::V6
        }
    }

    /// True for protocols whose ports can be matched.
    #[must_use]
    pub const fn has_ports(&self) -> bool {
        matches!(self.protocol, 6 | 17 | 132 | 136)
    }
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It passes.
    Allow,
    /// It is denied.
    Deny,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

/// Why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A rule of a policy decided.
    Policy {
        /// Tier of the policy.
        tier: String,
        /// The policy.
        policy: PolicyId,
        /// Number of the rule in its direction, from 0.
        rule: usize,
    },
    /// A rule of a profile decided.
    Profile {
        /// The profile.
        profile: String,
        /// Number of the rule in its direction, from 0.
        rule: usize,
    },
    /// Policies of a tier apply, and none of their rules matches.
    EndOfTier {
        /// The tier.
        tier: String,
    },
    /// No policy decided, and no profile allows.
    NoProfile,
    /// A failsafe port of a host endpoint.
    Failsafe,
    /// Workloads must not send encapsulated packets.
    Encapsulated,
    /// No policy is about it: forwarded by a host endpoint, or before translation or tracking.
    NotConcerned,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy { tier, policy, rule } => {
                write!(f, "rule {rule} of {} in tier {tier}", policy.shown())
            }
            Self::Profile { profile, rule } => write!(f, "rule {rule} of profile {profile}"),
            Self::EndOfTier { tier } => write!(
                f,
                "policies of tier {tier} apply and none of their rules matches: a rule that allows it is missing"
            ),
            Self::NoProfile => f.write_str("no policy decided and no profile allows it"),
            Self::Failsafe => f.write_str("a failsafe port"),
            Self::Encapsulated => f.write_str("workloads must not send encapsulated packets"),
            Self::NotConcerned => f.write_str("no policy is about it"),
        }
    }
}

/// What a policy or profile said on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Tier; none for profiles.
    pub tier: Option<String>,
    /// The policy; none for profiles.
    pub policy: Option<PolicyId>,
    /// Kind, namespace and name of the policy, or the profile.
    pub name: String,
    /// The first rule that matches and is no Log, with what it does; none if no rule does.
    pub rule: Option<(usize, RuleAction)>,
    /// Rules of action Log that match before it.
    pub logged: Vec<usize>,
    /// The policy is staged: what it says does not count.
    pub is_staged: bool,
}

/// The answer for one endpoint and direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// The endpoint.
    pub endpoint: Item,
    /// The direction, as the endpoint sees it.
    pub direction: Direction,
    /// Whether it passes.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// What was asked, in order.
    pub steps: Vec<Step>,
}

/// The answer for a packet between two ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Whether it passes all.
    pub verdict: Verdict,
    /// What the policies of the source say, if it is a workload.
    pub source: Option<Evaluation>,
    /// What the policies of the destination say, if it is a workload. Also given when the source denies.
    pub destination: Option<Evaluation>,
}

/// What is known of a packet that was seen on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Who has the source address.
    pub source: Vec<Item>,
    /// Who has the destination address.
    pub destination: Vec<Item>,
    /// What the policies of the endpoint of this node say; none when it has no such endpoint.
    pub evaluation: Option<Evaluation>,
}

/// For which packets of a host endpoint policies are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Of the workload, or of the host's own processes.
    Own,
    /// Forwarded by the host.
    Forward,
    /// Before translation.
    PreDnat,
    /// Before connection tracking.
    Untracked,
}

/// What a rule can demand of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Criterion {
    /// Its family.
    Version,
    /// Its IP protocol.
    Protocol,
    /// Its ICMP type and code.
    Icmp,
    /// Where it comes from.
    Source,
    /// The port that it comes from.
    SourcePort,
    /// Where it goes to.
    Destination,
    /// The port that it goes to.
    DestinationPort,
}

impl Criterion {
    /// All, in the order in which they are asked.
    pub const ALL: [Self; 7] = [
        Self::Version,
        Self::Protocol,
        Self::Icmp,
        Self::Source,
        Self::SourcePort,
        Self::Destination,
        Self::DestinationPort,
    ];
}

/// A rule that does not match, and what it demands in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Number of the rule in its direction, from 0.
    pub rule: usize,
    /// What it does with packets that match.
    pub action: RuleAction,
    /// What it demands, and in which words the rule says so.
    pub wanted: Vec<(Criterion, String)>,
}

/// A packet with what is known of its ends.
pub(crate) struct Question<'a> {
    pub(crate) packet: &'a Packet,
    sets: &'a Sets,
    source: Vec<&'a Item>,
    destination: Vec<&'a Item>,
}

impl<'a> Question<'a> {
    pub(crate) fn new(packet: &'a Packet, sets: &'a Sets) -> Self {
        Self {
            packet,
            sets,
            source: sets.items_with(packet.source),
            destination: sets.items_with(packet.destination),
        }
    }

    /// The same when it is known already who has the addresses.
    pub(crate) fn between(
        packet: &'a Packet,
        sets: &'a Sets,
        source: Vec<&'a Item>,
        destination: Vec<&'a Item>,
    ) -> Self {
        Self {
            packet,
            sets,
            source,
            destination,
        }
    }

    /// The first rule that matches and is no Log, and the Logs before it.
    pub(crate) fn first(&self, rules: &[RuleModel]) -> (Option<(usize, RuleAction)>, Vec<usize>) {
        let mut logged = Vec::new();
        for rule in rules.iter().filter(|rule| self.is_match(rule)) {
            if rule.action != RuleAction::Log {
                return (Some((rule.index, rule.action)), logged);
            }
            logged.push(rule.index);
        }
        (None, logged)
    }

    fn is_match(&self, rule: &RuleModel) -> bool {
        Criterion::ALL
            .iter()
            .all(|criterion| self.holds(rule, *criterion))
    }

    /// What keeps a rule from matching.
    pub(crate) fn misses(&self, rule: &RuleModel) -> Vec<Criterion> {
        let missed = Criterion::ALL.into_iter();
        missed.filter(|criterion| !self.holds(rule, *criterion)).collect()
    }

    fn holds(&self, rule: &RuleModel, criterion: Criterion) -> bool {
        let packet = self.packet;
        match criterion {
            Criterion::Version => rule.applies_to(packet.version()),
            Criterion::Protocol => {
                rule.protocol.is_none_or(|number| number == packet.protocol)
                    && rule.not_protocol.is_none_or(|number| number != packet.protocol)
            }
            Criterion::Icmp => {
                let is_icmp = |(type_, code): (u8, Option<u8>)| {
                    let fits = |own: (u8, u8)| own.0 == type_ && code.is_none_or(|code| own.1 == code);
                    packet.icmp.is_some_and(fits)
                };
                rule.icmp.is_none_or(is_icmp) && !rule.not_icmp.is_some_and(is_icmp)
            }
            Criterion::Source => self.is_at(&rule.source, true),
            Criterion::SourcePort => self.is_port(&rule.source, true),
            Criterion::Destination => self.is_at(&rule.destination, false),
            Criterion::DestinationPort => self.is_port(&rule.destination, false),
        }
    }

    fn is_at(&self, peer: &Peer, is_source: bool) -> bool {
        let packet = self.packet;
        let address = if is_source {
            packet.source
        } else {
            packet.destination
        };
        let in_nets = |nets: &[ipnet::IpNet]| nets.iter().any(|net| net.contains(&address));
        let in_set = |set: &std::sync::Arc<SetSpec>| self.is_member(set, is_source);
        (peer.nets.is_empty() || in_nets(&peer.nets))
            && !in_nets(&peer.not_nets)
            && peer.sets.iter().all(in_set)
            && !peer.not_sets.iter().any(in_set)
    }

    fn is_port(&self, peer: &Peer, is_source: bool) -> bool {
        let packet = self.packet;
        let port = if is_source {
            packet.source_port
        } else {
            packet.destination_port
        };
        let in_set = |set: &std::sync::Arc<SetSpec>| self.is_member(set, is_source);
        let in_ports = |ranges: &[crate::rules::PortRange]| {
            packet.has_ports() && ranges.iter().any(|range| range.contains(port))
        };
        let wants_port = !peer.ports.is_empty() || !peer.named_ports.is_empty();
        (!wants_port || in_ports(&peer.ports) || peer.named_ports.iter().any(in_set))
            && !in_ports(&peer.not_ports)
            && !peer.not_named_ports.iter().any(in_set)
    }

    fn is_member(&self, set: &SetSpec, is_source: bool) -> bool {
        let (items, address, number) = if is_source {
            (&self.source, self.packet.source, self.packet.source_port)
        } else {
            let packet = self.packet;
            (&self.destination, packet.destination, packet.destination_port)
        };
        let has_port = |ports: &[(String, u8, u16)], name: Option<&str>| {
            let wanted = |(own, protocol, port): &(String, u8, u16)| {
                name.is_none_or(|name| name == own)
                    && (*protocol, *port) == (self.packet.protocol, number)
                    && self.packet.has_ports()
            };
            ports.iter().any(wanted)
        };
        match &set.source {
            SetSource::Nets(nets) => nets.iter().any(|net| net.contains(&address)),
            SetSource::Selector(selector) => items.iter().any(|item| self.sets.is_selected(item, selector)),
            SetSource::NamedPort {
                selector,
                protocol,
                port,
            } => {
                *protocol == self.packet.protocol
                    && items.iter().any(|item| {
                        let addresses = self.sets.addresses_of(item);
                        let own = addresses.is_some_and(|addresses| {
                            addresses.nets.iter().any(|net| net.addr() == address)
                                && has_port(&addresses.ports, Some(port))
                        });
                        own && self.sets.is_selected(item, selector)
                    })
            }
            SetSource::Service { service, with_ports } => self.sets.service(service).any(|slice| {
                let mut nets = slice.nets.iter();
                if *with_ports {
                    nets.any(|net| net.addr() == address) && has_port(&slice.ports, None)
                } else {
                    nets.any(|net| net.contains(&address))
                }
            }),
        }
    }
}

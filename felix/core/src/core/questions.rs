//! Questions about other nodes, and about what rules demand in vain: for those who explain.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Core, network};
use crate::calc::model::{Direction, PolicyId, RuleModel, SetSource, SetSpec, version_of};
use crate::config::{self, Config, Layers};
use crate::desired::{IpVersion, RouteTarget};
use crate::eval::{Criterion, Miss, Packet, Question};
use crate::rules::PortRange;
use crate::way::Way;

impl Core {
    /// The parameters of any node, by the resources alone: what is set on the node itself is not known here.
    #[must_use]
    pub fn config_of(&self, node: &str) -> Config {
        let merged = config::merge(&Layers {
            local: &[],
            objects: self.cluster.configurations(),
            node,
            labels: self.cluster.labels_of(node),
        });
        Config::from_spec(&merged.spec, self.backend).0
    }

    /// The rules of a policy that do not match a packet, and why. Empty for a policy without a say in that direction.
    #[must_use]
    pub fn misses(&self, policy: &PolicyId, direction: Direction, packet: &Packet) -> Vec<Miss> {
        let question = Question::new(packet, &self.cluster.sets);
        let policy = self.cluster.policies.get(policy);
        let rules = policy.and_then(|policy| policy.rules(direction));
        let mut misses = Vec::new();
        for rule in rules.unwrap_or_default() {
            let missed = question.misses(rule);
            if missed.is_empty() {
                continue;
            }
            let wanted = missed
                .into_iter()
                .map(|criterion| (criterion, wanted(rule, criterion)));
            misses.push(Miss {
                rule: rule.index,
                action: rule.action,
                wanted: wanted.collect(),
            });
        }
        misses
    }

    /// The way of packets from a workload's address on a node to a destination; `to` is the node of the destination
    /// when that is a workload.
    #[must_use]
    pub fn way(&self, from: &str, source: IpAddr, destination: IpAddr, to: Option<&str>) -> Way {
        let cluster = &self.cluster;
        let host = IpNet::from(destination);
        if let Some(node) = to {
            if node == from {
                return Way::Local;
            }
            let affinities = cluster.affinities.values();
            let around = affinities.filter(|affinity| affinity.state.is_confirmed() && !affinity.deleted);
            let around = around.filter_map(|affinity| {
                let block = caracal_api::net::parse_cidr_or_address(&affinity.cidr)?;
                block.contains(&host).then_some((block, affinity.node.as_str()))
            });
            let found = around.max_by_key(|(block, _)| block.prefix_len());
            let (block, holder) = (found.map(|found| found.0), found.map(|found| found.1));
            let pool = network::pool_of(cluster, &host);
            let target = pool.and_then(|pool| network::remote(cluster, (from, node), pool, &host));
            let (gateway, device) = match target {
                Some(RouteTarget::ViaNode { gateway, .. }) => (Some(gateway), None),
                Some(RouteTarget::ViaTunnel { gateway, device }) => (Some(gateway), Some(device)),
                Some(RouteTarget::Interface(_) | RouteTarget::Blackhole) | None => (None, None),
            };
            return Way::ToNode {
                node: node.to_owned(),
                block,
                lender: holder.filter(|holder| *holder != node).map(str::to_owned),
                gateway,
                device,
                owner: pool.map(|pool| network::owner(cluster, pool, &self.spec)),
            };
        }
        let is_of = |node: &caracal_api::virtual_::node::Node| {
            let own = [node.ipv4(), node.ipv6()].into_iter().flatten();
            own.map(|net| net.addr()).any(|address| address == destination)
        };
        if let Some((name, _)) = cluster.nodes.iter().find(|(_, node)| is_of(node)) {
            return if name == from {
                Way::Host
            } else {
                Way::OtherHost { node: name.clone() }
            };
        }
        if network::pool_of(cluster, &host).is_some() {
            return Way::Nowhere;
        }
        let own_pool = network::pool_of(cluster, &IpNet::from(source));
        Way::Outside {
            is_masqueraded: own_pool.is_some_and(|pool| pool.nat_outgoing),
        }
    }
}

/// What a rule says about a criterion, for people.
pub(super) fn wanted(rule: &RuleModel, criterion: Criterion) -> String {
    let not = |is_not: bool| if is_not { "not " } else { "" };
    let mut parts: Vec<String> = Vec::new();
    match criterion {
        Criterion::Version => {
            let family = |net: &IpNet| match version_of(net) {
                IpVersion::V4 => "IPv4",
                IpVersion::V6 => "IPv6",
            };
            let nets = rule.source.nets.iter().chain(&rule.destination.nets);
            parts.push(nets.map(family).next().unwrap_or("the other family").to_owned());
        }
        Criterion::Protocol => {
            for (number, is_not) in [(rule.protocol, false), (rule.not_protocol, true)] {
                parts.extend(number.map(|number| format!("{}{}", not(is_not), protocol_name(number))));
            }
        }
        Criterion::Icmp => {
            for (icmp, is_not) in [(rule.icmp, false), (rule.not_icmp, true)] {
                parts.extend(icmp.map(|(type_, code)| {
                    let code = code.map(|code| format!(" code {code}")).unwrap_or_default();
                    format!("{}type {type_}{code}", not(is_not))
                }));
            }
        }
        Criterion::Source | Criterion::Destination => {
            let peer = if criterion == Criterion::Source {
                &rule.source
            } else {
                &rule.destination
            };
            for (nets, is_not) in [(&peer.nets, false), (&peer.not_nets, true)] {
                if !nets.is_empty() {
                    parts.push(format!("{}in {}", not(is_not), joined(nets)));
                }
            }
            for (sets, is_not) in [(&peer.sets, false), (&peer.not_sets, true)] {
                parts.extend(sets.iter().map(|set| format!("{}{}", not(is_not), set_text(set))));
            }
        }
        Criterion::SourcePort | Criterion::DestinationPort => {
            let peer = if criterion == Criterion::SourcePort {
                &rule.source
            } else {
                &rule.destination
            };
            let lists = [
                (&peer.ports, &peer.named_ports, false),
                (&peer.not_ports, &peer.not_named_ports, true),
            ];
            for (ports, named, is_not) in lists {
                let names = named.iter().map(|set| set_text(set));
                let texts: Vec<String> = ports.iter().map(PortRange::to_string).chain(names).collect();
                if !texts.is_empty() {
                    parts.push(format!("{}{}", not(is_not), texts.join(", ")));
                }
            }
        }
    }
    parts.join(" and ")
}

fn joined(nets: &[IpNet]) -> String {
    const SHOWN_MAX: usize = 4;
    let shown: Vec<String> = nets.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    let rest = nets.len().saturating_sub(SHOWN_MAX);
    let rest = if rest > 0 {
        format!(" and {rest} more")
    } else {
        String::new()
    };
    format!("{}{rest}", shown.join(", "))
}

fn set_text(set: &SetSpec) -> String {
    match &set.source {
        SetSource::Selector(selector) => selector.canonical().to_owned(),
        SetSource::NamedPort { selector, port, .. } => format!("port {port:?} of {}", selector.canonical()),
        SetSource::Nets(nets) => format!("in {}", joined(nets)),
        SetSource::Service { service, .. } => format!("endpoints of Service {service}"),
    }
}

fn protocol_name(number: u8) -> String {
    let names = caracal_api::v3::Protocol::NAMES;
    let named = names.iter().find(|(_, known)| *known == number);
    named.map_or_else(|| format!("protocol {number}"), |(name, _)| (*name).to_owned())
}

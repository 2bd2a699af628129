//! What overlays and Services need of the static chains.

use ipnet::IpNet;

use super::{ALL_HOSTS, Facts, VXLAN_HOSTS, in_set, jump, local, protocol};
use crate::config::{Config, ServiceLoopPrevention};
use crate::desired::IpVersion;
use crate::rules::{Action, End, Match, PortRange, Rule};

/// Packets of the VXLAN overlay.
pub(super) fn vxlan(config: &Config) -> Vec<Match> {
    let (min, max) = (config.vxlan_port, config.vxlan_port);
    let port = Match::Ports {
        end: End::Destination,
        ports: vec![PortRange { min, max }],
        negated: false,
    };
    vec![protocol(17), port]
}

/// Encapsulated packets come from nodes of the cluster only.
pub(super) fn tunnel_input(version: IpVersion, config: &Config, facts: &Facts) -> Vec<Rule> {
    let mut rules = Vec::new();
    if facts.ipip {
        let from = in_set(version, End::Source, ALL_HOSTS);
        let known = [protocol(4), from, local(End::Destination)];
        rules.push(Rule::new(known, config.filter_allow()).comment("Allow IPIP packets from Calico hosts"));
        rules
            .push(Rule::new([protocol(4)], config.deny()).comment("Drop IPIP packets from non-Calico hosts"));
    }
    if facts.vxlan {
        let mut known = vxlan(config);
        known.extend([in_set(version, End::Source, VXLAN_HOSTS), local(End::Destination)]);
        rules.push(Rule::new(known, config.filter_allow()).comment("Allow VXLAN packets from allowed hosts"));
        let mut others = vxlan(config);
        others.push(local(End::Destination));
        rules.push(Rule::new(others, config.deny()).comment("Drop VXLAN packets from other hosts"));
    }
    rules
}

/// Own encapsulated packets pass whatever policy a host endpoint has.
pub(super) fn tunnel_output(version: IpVersion, config: &Config, facts: &Facts) -> Vec<Rule> {
    let mut rules = Vec::new();
    if facts.ipip {
        let to = in_set(version, End::Destination, ALL_HOSTS);
        let own = [protocol(4), to, local(End::Source)];
        rules.push(Rule::new(own, config.filter_allow()).comment("Allow IPIP packets to other Calico hosts"));
    }
    if facts.vxlan {
        let mut own = vxlan(config);
        own.extend([local(End::Source), in_set(version, End::Destination, VXLAN_HOSTS)]);
        rules.push(
            Rule::new(own, config.filter_allow()).comment("Allow VXLAN packets to other allowed hosts"),
        );
    }
    rules
}

/// Translation on the way out. What the host itself sends through a tunnel has the tunnel's address, so that answers
/// come back through the tunnel.
pub(super) fn postrouting(version: IpVersion, facts: &Facts) -> Vec<Rule> {
    let mut rules = vec![
        Rule::new([], jump("cali-fip-snat")),
        Rule::new([], jump("cali-nat-outgoing")),
    ];
    let vxlan = match version {
        IpVersion::V4 => "vxlan.calico",
        IpVersion::V6 => "vxlan-v6.calico",
    };
    for (device, is_used) in [("tunl0", facts.ipip), (vxlan, facts.vxlan)] {
        if !is_used {
            continue;
        }
        let out = Match::OutInterface {
            name: device.to_owned(),
            negated: false,
        };
        let local = |limit_to_out_interface, negated| Match::LocalAddress {
            end: End::Source,
            limit_to_out_interface,
            negated,
        };
        let criteria = [out, local(true, true), local(false, false)];
        rules.push(Rule::new(criteria, Action::Masquerade { ports: None }));
    }
    rules
}

/// Packets to Services that nobody serves would go back and forth between node and fabric.
pub(super) fn service_loops(config: &Config, facts: &Facts) -> Vec<Rule> {
    let action = match config.service_loop_prevention {
        ServiceLoopPrevention::Drop => Action::Drop,
        ServiceLoopPrevention::Reject => Action::Reject,
        ServiceLoopPrevention::Disabled => return Vec::new(),
    };
    let rule = |net: &IpNet| {
        let to = Match::Nets {
            end: End::Destination,
            nets: vec![*net],
            negated: false,
        };
        Rule::new([to], action.clone())
    };
    facts.service_nets.iter().map(rule).collect()
}

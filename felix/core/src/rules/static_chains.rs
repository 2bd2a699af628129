//! Chains that every node has, and our rules in the kernel's chains. Source: Calico `felix/rules/static.go`.

mod overlay;

use std::collections::BTreeMap;

use caracal_api::names;
use ipnet::IpNet;

use super::policy::{clear_mark, mark, set_mark};
use super::{Action, ConnState, End, Match, Rule, failsafe};
use crate::calc::model::Direction;
use crate::config::{Config, EndpointToHostAction};
use crate::desired::{IpVersion, KernelChain, Table, TableName};
use overlay::{postrouting, service_loops, tunnel_input, tunnel_output, vxlan};

/// Set of all pools.
pub const ALL_POOLS: &str = "network-ip-pools";
/// Set of the pools whose traffic is translated on its way out.
pub const MASQUERADED_POOLS: &str = "masq-ipam-pools";
/// Set of the nodes' addresses.
pub const ALL_HOSTS: &str = "all-hosts-net";

/// Set of the addresses that packets of the VXLAN overlay come from.
pub const VXLAN_HOSTS: &str = "all-vxlan-net";

/// What static chains depend on beside the configuration, for one IP version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Some pool is translated on its way out.
    pub masquerades: bool,
    /// IP-in-IP is in use.
    pub ipip: bool,
    /// VXLAN is in use.
    pub vxlan: bool,
    /// Addresses of Services that must not be routed back and forth.
    pub service_nets: Vec<IpNet>,
}

/// Our part of a table that does not depend on endpoints and policies.
#[must_use]
pub fn table(name: TableName, version: IpVersion, config: &Config, facts: &Facts) -> Table {
    let mut table = match name {
        TableName::Raw => raw(version, config, facts),
        TableName::Mangle => mangle(version, config),
        TableName::Nat => nat(version, config, facts),
        TableName::Filter => filter(version, config, facts),
    };
    if config.is_append_mode {
        for chain in table.kernel_chains.values_mut() {
            chain.inserted.append(&mut chain.appended);
            std::mem::swap(&mut chain.inserted, &mut chain.appended);
        }
    }
    table
}

fn jump(chain: &str) -> Action {
    Action::Jump(chain.to_owned())
}

fn hooks(chains: &[(&str, &str)]) -> BTreeMap<String, KernelChain> {
    let hook = |(kernel, own): &(&str, &str)| {
        let inserted = vec![Rule::new([], jump(own))];
        let appended = Vec::new();
        ((*kernel).to_owned(), KernelChain { inserted, appended })
    };
    chains.iter().map(hook).collect()
}

fn chains(chains: impl IntoIterator<Item = (&'static str, Vec<Rule>)>) -> BTreeMap<String, Vec<Rule>> {
    let named = chains.into_iter().map(|(name, rules)| (name.to_owned(), rules));
    named.collect()
}

fn from_workload(prefix: &str) -> Match {
    Match::InInterface {
        name: format!("{prefix}+"),
        negated: false,
    }
}

fn to_workload(prefix: &str) -> Match {
    Match::OutInterface {
        name: format!("{prefix}+"),
        negated: false,
    }
}

fn raw(version: IpVersion, config: &Config, facts: &Facts) -> Table {
    let marks = config.marks;
    let is_from_workload = mark(marks.scratch0, true);
    let mut prerouting = vec![Rule::new([], clear_mark(marks.all()))];
    let untracked = facts.vxlan.then(|| Rule::new(vxlan(config), Action::NoTrack));
    prerouting.extend(untracked.clone());
    for prefix in &config.interface_prefixes {
        prerouting.push(Rule::new([from_workload(prefix)], set_mark(marks.scratch0)));
    }
    prerouting.extend([
        Rule::new([is_from_workload.clone()], jump("cali-rpf-skip")),
        Rule::new([is_from_workload, Match::ReversePathFailed], Action::Drop),
        Rule::new([mark(marks.scratch0, false)], jump("cali-from-host-endpoint")),
        Rule::new([mark(marks.accept, true)], Action::Accept),
    ]);
    let mut output = vec![
        Rule::new([], clear_mark(marks.all())),
        Rule::new([], jump("cali-to-host-endpoint")),
    ];
    output.extend(untracked);
    output.push(Rule::new([mark(marks.accept, true)], Action::Accept));
    let mut own = chains([("cali-PREROUTING", prerouting), ("cali-OUTPUT", output)]);
    own.extend(failsafe_chains(TableName::Raw, version, config));
    Table {
        chains: own,
        kernel_chains: hooks(&[("PREROUTING", "cali-PREROUTING"), ("OUTPUT", "cali-OUTPUT")]),
        ..Table::default()
    }
}

fn conn_state(states: &[ConnState], negated: bool) -> Match {
    Match::ConnState {
        states: states.to_vec(),
        negated,
    }
}

fn mangle(version: IpVersion, config: &Config) -> Table {
    let marks = config.marks;
    let accepted = || mark(marks.accept, true);
    let established = conn_state(&[ConnState::Related, ConnState::Established], false);
    let prerouting = vec![
        Rule::new([established], config.mangle_allow()),
        Rule::new([accepted()], config.mangle_allow()),
        Rule::new([], jump("cali-from-host-endpoint")),
        Rule::new([accepted()], config.mangle_allow()).comment("Host endpoint policy accepted packet."),
    ];
    let postrouting = vec![
        Rule::new([accepted()], Action::Return),
        Rule::new([], clear_mark(marks.all())),
        Rule::new(
            [conn_state(&[ConnState::Dnat], false)],
            jump("cali-to-host-endpoint"),
        ),
        Rule::new([accepted()], Action::Return).comment("Host endpoint policy accepted packet."),
    ];
    let mut own = chains([("cali-PREROUTING", prerouting), ("cali-POSTROUTING", postrouting)]);
    own.extend(failsafe_chains(TableName::Mangle, version, config));
    Table {
        chains: own,
        kernel_chains: hooks(&[
            ("PREROUTING", "cali-PREROUTING"),
            ("POSTROUTING", "cali-POSTROUTING"),
        ]),
        ..Table::default()
    }
}

fn nat(version: IpVersion, config: &Config, facts: &Facts) -> Table {
    let mut kernel_chains = hooks(&[("PREROUTING", "cali-PREROUTING"), ("OUTPUT", "cali-OUTPUT")]);
    // Last, so that the masquerade rules of others come first.
    let appended = vec![Rule::new([], jump("cali-POSTROUTING"))];
    let inserted = Vec::new();
    kernel_chains.insert("POSTROUTING".to_owned(), KernelChain { inserted, appended });
    let outgoing = if facts.masquerades {
        outgoing(version, config)
    } else {
        Vec::new()
    };
    Table {
        chains: chains([
            ("cali-PREROUTING", vec![Rule::new([], jump("cali-fip-dnat"))]),
            ("cali-OUTPUT", vec![Rule::new([], jump("cali-fip-dnat"))]),
            ("cali-POSTROUTING", postrouting(version, facts)),
            ("cali-nat-outgoing", outgoing),
        ]),
        kernel_chains,
        ..Table::default()
    }
}

/// Translation of what leaves the pools.
fn outgoing(version: IpVersion, config: &Config) -> Vec<Rule> {
    let set = |end, id: &str, negated| Match::Set {
        end,
        set: names::ip_set_name(version, id),
        port: None,
        negated,
    };
    let mut matches = vec![
        set(End::Source, MASQUERADED_POOLS, false),
        set(End::Destination, ALL_POOLS, true),
    ];
    if config.nat_exclude_hosts {
        matches.push(set(End::Destination, ALL_HOSTS, true));
    }
    if let Some(name) = &config.nat_outgoing_interface {
        matches.push(Match::OutInterface {
            name: name.clone(),
            negated: false,
        });
    }
    let action = |ports| match config.nat_outgoing_address {
        Some(to) if to.is_ipv4() == (version == IpVersion::V4) => Action::Snat { to, ports },
        Some(_) | None => Action::Masquerade { ports },
    };
    let mut rules = Vec::new();
    if config.nat_port_range.is_some() {
        for number in [6, 17] {
            let protocol = Match::Protocol {
                number,
                negated: false,
            };
            let matches: Vec<Match> = [protocol].into_iter().chain(matches.clone()).collect();
            rules.push(Rule::new(matches.clone(), action(config.nat_port_range)));
            rules.push(Rule::new(matches, Action::Return));
        }
    }
    rules.push(Rule::new(matches, action(None)));
    rules
}

fn filter(version: IpVersion, config: &Config, facts: &Facts) -> Table {
    let marks = config.marks;
    let accepted = || mark(marks.accept, true);
    let prefixes = || config.interface_prefixes.iter();
    let mut input = tunnel_input(version, config, facts);
    input.extend(prefixes().map(|prefix| {
        let to_host = Action::Goto("cali-wl-to-host".to_owned());
        Rule::new([from_workload(prefix)], to_host)
    }));
    input.extend([
        Rule::new([accepted()], config.filter_allow()),
        Rule::new([], clear_mark(marks.all())),
        Rule::new([], jump("cali-from-host-endpoint")),
        Rule::new([accepted()], config.filter_allow()).comment("Host endpoint policy accepted packet."),
    ]);
    let mut forward = vec![
        Rule::new([], clear_mark(marks.all() & !marks.accept)),
        Rule::new([mark(marks.accept, false)], jump("cali-from-hep-forward")),
    ];
    for prefix in prefixes() {
        forward.push(Rule::new([from_workload(prefix)], jump("cali-from-wl-dispatch")));
        forward.push(Rule::new([to_workload(prefix)], jump("cali-to-wl-dispatch")));
    }
    forward.push(Rule::new([], jump("cali-to-hep-forward")));
    forward.push(Rule::new([], jump("cali-cidr-block")));
    let mut output = vec![Rule::new([accepted()], config.filter_allow())];
    // The node may always reach its own workloads.
    output.extend(prefixes().map(|prefix| Rule::new([to_workload(prefix)], Action::Return)));
    output.extend(tunnel_output(version, config, facts));
    output.extend([
        Rule::new([], clear_mark(marks.all())),
        Rule::new(
            [conn_state(&[ConnState::Dnat], true)],
            jump("cali-to-host-endpoint"),
        ),
        Rule::new([accepted()], config.filter_allow()).comment("Host endpoint policy accepted packet."),
    ]);
    let mut kernel_chains = hooks(&[
        ("INPUT", "cali-INPUT"),
        ("FORWARD", "cali-FORWARD"),
        ("OUTPUT", "cali-OUTPUT"),
    ]);
    if let Some(chain) = kernel_chains.get_mut("FORWARD") {
        chain.appended = vec![
            Rule::new([accepted()], config.filter_allow()).comment("Policy explicitly accepted packet."),
            Rule::new([], set_mark(marks.accept)),
        ];
    }
    let mut own = chains([
        ("cali-INPUT", input),
        ("cali-FORWARD", forward),
        ("cali-OUTPUT", output),
        ("cali-wl-to-host", workload_to_host(version, config)),
        ("cali-cidr-block", service_loops(config, facts)),
    ]);
    own.extend(failsafe_chains(TableName::Filter, version, config));
    Table {
        chains: own,
        kernel_chains,
        ..Table::default()
    }
}

fn failsafe_chains(table: TableName, version: IpVersion, config: &Config) -> BTreeMap<String, Vec<Rule>> {
    let rules = |direction| failsafe::chain(direction, table, version, config);
    chains([
        ("cali-failsafe-in", rules(Direction::Ingress)),
        ("cali-failsafe-out", rules(Direction::Egress)),
    ])
}

fn protocol(number: u8) -> Match {
    Match::Protocol {
        number,
        negated: false,
    }
}

fn local(end: End) -> Match {
    Match::LocalAddress {
        end,
        limit_to_out_interface: false,
        negated: false,
    }
}

fn in_set(version: IpVersion, end: End, id: &str) -> Match {
    Match::Set {
        end,
        set: names::ip_set_name(version, id),
        port: None,
        negated: false,
    }
}

fn workload_to_host(version: IpVersion, config: &Config) -> Vec<Rule> {
    let mut rules = Vec::new();
    if version == IpVersion::V6 {
        // Multicast listener and router discovery, neighbour discovery: without them a workload has no network.
        for type_ in [130, 131, 132, 133, 135, 136] {
            let protocol = Match::Protocol {
                number: 58,
                negated: false,
            };
            let icmp = Match::Icmp {
                type_,
                code: None,
                negated: false,
            };
            rules.push(Rule::new([protocol, icmp], Action::Accept));
        }
    }
    rules.push(Rule::new([], jump("cali-from-wl-dispatch")));
    let action = match config.endpoint_to_host_action {
        EndpointToHostAction::Drop => Action::Drop,
        EndpointToHostAction::Return => Action::Return,
        EndpointToHostAction::Accept => Action::Accept,
    };
    rules.push(Rule::new([], action).comment("Configured DefaultEndpointToHostAction"));
    rules
}

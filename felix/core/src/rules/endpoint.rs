//! Chains of endpoints: state of the connection, limits, tiers of policies, profiles. Source: Calico
//! `felix/rules/endpoints.go`.

use super::nflog;
use super::policy::{clear_mark, mark, set_mark};
use super::{Action, ConnState, End, Match, PortRange, Rule};
use crate::calc::model::Direction;
use crate::config::Config;
use crate::desired::Backend;

/// The chains of a tier that apply to an endpoint in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierChains {
    /// Name.
    pub name: String,
    /// Packets that no rule decided are denied.
    pub is_deny_default: bool,
    /// What is gone through, in order.
    pub steps: Vec<Step>,
}

/// A chain of a policy, or of several merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Name of the chain.
    pub chain: String,
    /// It counts and decides nothing.
    pub is_staged: bool,
}

/// Limits of a workload in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Packets per second, and packets at once.
    pub packets: Option<(u32, u32)>,
    /// Connections.
    pub connections: Option<u32>,
}

/// The chain of a policy in a direction.
#[must_use]
pub fn policy_chain(backend: Backend, direction: Direction, id: &str) -> String {
    let prefix = match direction {
        Direction::Ingress => "cali-pi-",
        Direction::Egress => "cali-po-",
    };
    backend.chain_name(prefix, id)
}

/// The chain of merged policies in a direction.
#[must_use]
pub fn bundle_chain(backend: Backend, direction: Direction, id: &str) -> String {
    let prefix = match direction {
        Direction::Ingress => "cali-gi-",
        Direction::Egress => "cali-go-",
    };
    backend.chain_name(prefix, id)
}

/// The chain of a profile in a direction.
#[must_use]
pub fn profile_chain(backend: Backend, direction: Direction, name: &str) -> String {
    let prefix = match direction {
        Direction::Ingress => "cali-pri-",
        Direction::Egress => "cali-pro-",
    };
    backend.chain_name(prefix, name)
}

/// The chain of a workload's interface in a direction.
#[must_use]
pub fn workload_chain(backend: Backend, direction: Direction, interface: &str) -> String {
    let prefix = match direction {
        Direction::Ingress => "cali-tw-",
        Direction::Egress => "cali-fw-",
    };
    backend.chain_name(prefix, interface)
}

/// The chain of a host's interface: packets that come in by it are its ingress.
#[must_use]
pub fn host_chain(backend: Backend, direction: Direction, interface: &str) -> String {
    let prefix = match direction {
        Direction::Ingress => "cali-fh-",
        Direction::Egress => "cali-th-",
    };
    backend.chain_name(prefix, interface)
}

/// The chain of a host's interface for forwarded packets.
#[must_use]
pub fn host_forward_chain(backend: Backend, direction: Direction, interface: &str) -> String {
    let prefix = match direction {
        Direction::Ingress => "cali-fhfw-",
        Direction::Egress => "cali-thfw-",
    };
    backend.chain_name(prefix, interface)
}

/// Rules of a workload's chain.
#[must_use]
pub fn workload(
    direction: Direction,
    interface: &str,
    tiers: &[TierChains],
    profiles: &[String],
    limits: Limits,
    config: &Config,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    if let Some((per_second, burst)) = limits.packets {
        let bucket = format!("{}-{interface}", direction.as_str());
        let above = Match::RateAbove {
            bucket,
            per_second,
            burst,
        };
        rules.push(Rule::new([above], Action::Drop).comment("Drop packets over the packet rate limit"));
    }
    rules.extend(tracked(config, config.filter_allow()));
    if let Some(count) = limits.connections {
        let above = [protocol(6), Match::ConnectionsAbove { count }];
        rules.push(Rule::new(above, Action::Reset).comment("Reject connections over the connection limit"));
    }
    rules.push(Rule::new([], clear_mark(config.marks.accept | config.marks.pass)));
    if direction == Direction::Egress {
        rules.extend(no_tunnels(config));
    }
    rules.extend(tier_rules(direction, tiers, config, true, false));
    rules.extend(profile_rules(direction, profiles, config));
    rules
}

/// Rules of a host endpoint's chain for packets of local processes. `allow` is that of the table.
#[must_use]
pub fn host(
    direction: Direction,
    tiers: &[TierChains],
    profiles: &[String],
    allow: Action,
    config: &Config,
) -> Vec<Rule> {
    let mut rules = tracked(config, allow);
    rules.push(Rule::new([], failsafe_jump(direction)));
    rules.push(Rule::new([], clear_mark(config.marks.accept | config.marks.pass)));
    rules.extend(tier_rules(direction, tiers, config, true, false));
    rules.extend(profile_rules(direction, profiles, config));
    rules
}

/// Rules of a host endpoint's chain for forwarded packets. Without a policy that is about them they pass.
#[must_use]
pub fn host_forward(direction: Direction, tiers: &[TierChains], config: &Config) -> Vec<Rule> {
    let marks = config.marks;
    let mut rules = tracked(config, config.filter_allow());
    rules.push(Rule::new([], clear_mark(marks.accept | marks.pass)));
    rules.extend(tier_rules(direction, tiers, config, true, false));
    if tiers.is_empty() {
        let allow = Rule::new([], set_mark(marks.accept));
        rules.push(allow.comment("Allow forwarded traffic by default"));
    }
    rules
}

/// Rules of a host endpoint's chain before translation: what no policy decides goes on.
#[must_use]
pub fn host_pre_dnat(tiers: &[TierChains], config: &Config) -> Vec<Rule> {
    let mut rules = vec![
        Rule::new([], failsafe_jump(Direction::Ingress)),
        Rule::new([], clear_mark(config.marks.accept | config.marks.pass)),
    ];
    rules.extend(tier_rules(Direction::Ingress, tiers, config, false, false));
    rules
}

/// Rules of a host endpoint's chain before connection tracking: what no policy decides goes on.
#[must_use]
pub fn host_untracked(direction: Direction, tiers: &[TierChains], config: &Config) -> Vec<Rule> {
    let mut rules = vec![
        Rule::new([], failsafe_jump(direction)),
        Rule::new([], clear_mark(config.marks.accept | config.marks.pass)),
    ];
    rules.extend(tier_rules(direction, tiers, config, false, true));
    rules
}

fn failsafe_jump(direction: Direction) -> Action {
    Action::Jump(
        match direction {
            Direction::Ingress => "cali-failsafe-in",
            Direction::Egress => "cali-failsafe-out",
        }
        .to_owned(),
    )
}

/// What belongs to a known connection passes; what belongs to none is denied.
fn tracked(config: &Config, allow: Action) -> Vec<Rule> {
    let states = |states: &[ConnState]| Match::ConnState {
        states: states.to_vec(),
        negated: false,
    };
    let mut rules = vec![Rule::new(
        [states(&[ConnState::Related, ConnState::Established])],
        allow,
    )];
    if !config.disable_conntrack_invalid_check {
        rules.push(Rule::new([states(&[ConnState::Invalid])], config.deny()));
    }
    rules
}

fn tier_rules(
    direction: Direction,
    tiers: &[TierChains],
    config: &Config,
    has_end: bool,
    is_untracked: bool,
) -> Vec<Rule> {
    let marks = config.marks;
    let accepted = || mark(marks.accept, true);
    let mut rules = Vec::new();
    for tier in tiers {
        let start = format!("Start of tier {}", tier.name);
        rules.push(Rule::new([], clear_mark(marks.pass)).comment(start));
        for step in &tier.steps {
            let jump = Action::Jump(step.chain.clone());
            rules.push(Rule::new([mark(marks.pass, false)], jump));
            if step.is_staged {
                continue;
            }
            if is_untracked {
                rules.push(Rule::new([accepted()], Action::NoTrack));
            }
            rules.push(Rule::new([accepted()], Action::Return).comment("Return if policy accepted"));
        }
        // Staged policies alone end nothing.
        let is_enforced = tier.steps.iter().any(|step| !step.is_staged);
        if has_end && is_enforced && tier.is_deny_default {
            let end = format!("End of tier {}. Drop if no policies passed packet", tier.name);
            if config.is_denial_logged {
                let shown = nflog::end_of_tier(direction, &tier.name);
                rules.push(Rule::new([mark(marks.pass, false)], shown));
            }
            rules.push(Rule::new([mark(marks.pass, false)], config.deny()).comment(end));
        }
    }
    rules
}

fn profile_rules(direction: Direction, profiles: &[String], config: &Config) -> Vec<Rule> {
    let mut rules = Vec::new();
    for chain in profiles {
        rules.push(Rule::new([], Action::Jump(chain.clone())));
        let accepted = mark(config.marks.accept, true);
        rules.push(Rule::new([accepted], Action::Return).comment("Return if profile accepted"));
    }
    if config.is_denial_logged {
        rules.push(Rule::new([], nflog::no_profile(direction)));
    }
    rules.push(Rule::new([], config.deny()).comment("Drop if no profiles matched"));
    rules
}

const fn protocol(number: u8) -> Match {
    Match::Protocol {
        number,
        negated: false,
    }
}

/// Workloads must not send packets that look like those of a tunnel.
fn no_tunnels(config: &Config) -> Vec<Rule> {
    let mut rules = Vec::new();
    if !config.allow_vxlan_packets_from_workloads {
        let (min, max) = (config.vxlan_port, config.vxlan_port);
        let port = Match::Ports {
            end: End::Destination,
            ports: vec![PortRange { min, max }],
            negated: false,
        };
        let rule = Rule::new([protocol(17), port], config.deny());
        rules.push(rule.comment("Drop VXLAN encapped packets originating in workloads"));
    }
    if !config.allow_ipip_packets_from_workloads {
        let rule = Rule::new([protocol(4)], config.deny());
        rules.push(rule.comment("Drop IPinIP encapped packets originating in workloads"));
    }
    rules
}

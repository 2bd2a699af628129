//! Chains of workload endpoints. Source: Calico `felix/rules/endpoints.go`.

use caracal_api::names;

use super::policy::{clear_mark, mark};
use super::{Action, ConnState, End, Match, PortRange, Rule};
use crate::calc::model::Direction;
use crate::config::Config;

/// The policies of a tier that apply to an endpoint in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointTier {
    /// Name.
    pub name: String,
    /// Packets that no rule decided are denied.
    pub is_deny_default: bool,
    /// Ids of the policies, in order.
    pub policies: Vec<String>,
}

/// The chain of a policy in a direction.
#[must_use]
pub fn policy_chain(direction: Direction, id: &str) -> String {
    let prefix = match direction {
        Direction::Ingress => "cali-pi-",
        Direction::Egress => "cali-po-",
    };
    names::chain_name(prefix, id)
}

/// The chain of a profile in a direction.
#[must_use]
pub fn profile_chain(direction: Direction, name: &str) -> String {
    let prefix = match direction {
        Direction::Ingress => "cali-pri-",
        Direction::Egress => "cali-pro-",
    };
    names::chain_name(prefix, name)
}

/// The chain of a workload's interface in a direction.
#[must_use]
pub fn workload_chain(direction: Direction, interface: &str) -> String {
    let prefix = match direction {
        Direction::Ingress => "cali-tw-",
        Direction::Egress => "cali-fw-",
    };
    names::chain_name(prefix, interface)
}

/// Rules of a workload's chain.
#[must_use]
pub fn workload(
    direction: Direction,
    tiers: &[EndpointTier],
    profiles: &[String],
    config: &Config,
) -> Vec<Rule> {
    let marks = config.marks;
    let states = |states: &[ConnState]| Match::ConnState {
        states: states.to_vec(),
        negated: false,
    };
    let mut rules = vec![Rule::new(
        [states(&[ConnState::Related, ConnState::Established])],
        config.filter_allow(),
    )];
    if !config.disable_conntrack_invalid_check {
        rules.push(Rule::new([states(&[ConnState::Invalid])], config.deny()));
    }
    rules.push(Rule::new([], clear_mark(marks.accept | marks.pass)));
    if direction == Direction::Egress {
        rules.extend(no_tunnels(config));
    }
    for tier in tiers {
        let start = format!("Start of tier {}", tier.name);
        rules.push(Rule::new([], clear_mark(marks.pass)).comment(start));
        for policy in &tier.policies {
            let chain = policy_chain(direction, policy);
            rules.push(Rule::new([mark(marks.pass, false)], Action::Jump(chain)));
            rules.push(
                Rule::new([mark(marks.accept, true)], Action::Return).comment("Return if policy accepted"),
            );
        }
        if tier.is_deny_default {
            let end = format!("End of tier {}. Drop if no policies passed packet", tier.name);
            rules.push(Rule::new([mark(marks.pass, false)], config.deny()).comment(end));
        }
    }
    for profile in profiles {
        rules.push(Rule::new([], Action::Jump(profile_chain(direction, profile))));
        rules.push(
            Rule::new([mark(marks.accept, true)], Action::Return).comment("Return if profile accepted"),
        );
    }
    rules.push(Rule::new([], config.deny()).comment("Drop if no profiles matched"));
    rules
}

/// Workloads must not send packets that look like those of a tunnel.
fn no_tunnels(config: &Config) -> Vec<Rule> {
    let protocol = |number| Match::Protocol {
        number,
        negated: false,
    };
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

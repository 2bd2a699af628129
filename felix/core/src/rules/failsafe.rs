//! Ports of the host that no policy of a host endpoint can close. Source: Calico `felix/rules/static.go`.

use super::{Action, End, Match, PortRange, Rule};
use crate::calc::model::{Direction, version_of};
use crate::config::{Config, FailsafePort};
use crate::desired::{IpVersion, TableName};

/// Router and neighbour discovery: without them a host has no IPv6 at all.
const NEIGHBOUR_DISCOVERY: [u8; 4] = [133, 134, 135, 136];

/// Rules of `cali-failsafe-in` or `cali-failsafe-out`.
#[must_use]
pub fn chain(direction: Direction, table: TableName, version: IpVersion, config: &Config) -> Vec<Rule> {
    let mut rules = Vec::new();
    if version == IpVersion::V6 {
        for type_ in NEIGHBOUR_DISCOVERY {
            let icmp = Match::Icmp {
                type_,
                code: None,
                negated: false,
            };
            rules.push(Rule::new([protocol(58), icmp], Action::Accept));
        }
    }
    let (own, other) = match direction {
        Direction::Ingress => (&config.failsafe_inbound, &config.failsafe_outbound),
        Direction::Egress => (&config.failsafe_outbound, &config.failsafe_inbound),
    };
    let far = match direction {
        Direction::Ingress => End::Source,
        Direction::Egress => End::Destination,
    };
    rules.extend(
        own.iter()
            .filter_map(|port| open(port, End::Destination, far, version)),
    );
    // Before connection tracking nothing knows answers, so they are recognised by their source port.
    if table == TableName::Raw {
        rules.extend(
            other
                .iter()
                .filter_map(|port| open(port, End::Source, far, version)),
        );
    }
    rules
}

const fn protocol(number: u8) -> Match {
    Match::Protocol {
        number,
        negated: false,
    }
}

fn open(port: &FailsafePort, port_end: End, far: End, version: IpVersion) -> Option<Rule> {
    if port.net.as_ref().is_some_and(|net| version_of(net) != version) {
        return None;
    }
    let ports = vec![PortRange {
        min: port.port,
        max: port.port,
    }];
    let mut matches = vec![
        protocol(port.protocol),
        Match::Ports {
            end: port_end,
            ports,
            negated: false,
        },
    ];
    matches.extend(port.net.map(|net| Match::Nets {
        end: far,
        nets: vec![net],
        negated: false,
    }));
    Some(Rule::new(matches, Action::Accept))
}

//! What the kernel would do with a packet, worked out from the wanted tables alone.
//!
//! A small interpreter of the rule model: chains, marks, sets, maps. For tests and for `trace`, to hold what was
//! compiled against what is meant ([`eval`](crate::eval)). It knows no clock: rates are never exceeded.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::desired::{Desired, IpSetMember, Table, TableKey, TableName};
use crate::eval::Packet;
use crate::rules::{Action, ConnState, End, Match, Rule};

/// Chains within chains; the kernel stops at 16.
const DEPTH_MAX: usize = 16;

/// A packet on its way through this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    /// The packet.
    pub packet: Packet,
    /// The interface that it came in by; none for packets of local processes.
    pub came_in: Option<String>,
    /// The interface that it leaves by; none for packets to local processes.
    pub leaves: Option<String>,
    /// Its mark.
    pub mark: u32,
    /// States of its connection.
    pub states: Vec<ConnState>,
    /// The reverse path of its source is another interface.
    pub is_reverse_path_wrong: bool,
    /// Its connection is not tracked.
    pub is_untracked: bool,
    /// Prefixes of messages that were logged.
    pub logged: Vec<String>,
}

impl Flight {
    /// The first packet of a connection.
    #[must_use]
    pub fn new(packet: Packet, came_in: Option<&str>, leaves: Option<&str>) -> Self {
        Self {
            packet,
            came_in: came_in.map(str::to_owned),
            leaves: leaves.map(str::to_owned),
            mark: 0,
            states: vec![ConnState::New],
            is_reverse_path_wrong: false,
            is_untracked: false,
            logged: Vec::new(),
        }
    }
}

/// How a chain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The packet passes this table.
    Accepted,
    /// The packet is gone.
    Dropped,
    /// The chain had no more to say.
    Continued,
}

/// Runs our rules in a chain of the kernel, such as `FORWARD`.
#[must_use]
pub fn run(desired: &Desired, table: TableName, chain: &str, flight: &mut Flight) -> Outcome {
    let key = TableKey {
        version: flight.packet.version(),
        name: table,
    };
    let Some(table) = desired.tables.get(&key) else {
        return Outcome::Continued;
    };
    let Some(kernel) = table.kernel_chains.get(chain) else {
        return Outcome::Continued;
    };
    let run = Run { desired, table };
    match run.rules(&kernel.inserted, flight, 0) {
        Outcome::Continued => run.rules(&kernel.appended, flight, 0),
        end => end,
    }
}

struct Run<'a> {
    desired: &'a Desired,
    table: &'a Table,
}

impl Run<'_> {
    fn chain(&self, name: &str, flight: &mut Flight, depth: usize) -> Outcome {
        match self.table.chains.get(name) {
            Some(rules) if depth < DEPTH_MAX => self.rules(rules, flight, depth),
            // What is not there, or goes round in circles, must show.
            Some(_) | None => Outcome::Dropped,
        }
    }

    fn rules(&self, rules: &[Rule], flight: &mut Flight, depth: usize) -> Outcome {
        for rule in rules {
            if !rule.matches.iter().all(|criterion| self.holds(criterion, flight)) {
                continue;
            }
            match &rule.action {
                Action::Accept => return Outcome::Accepted,
                Action::Drop | Action::Reject | Action::Reset => return Outcome::Dropped,
                Action::Return => return Outcome::Continued,
                Action::Jump(chain) => match self.chain(chain, flight, depth + 1) {
                    Outcome::Continued => {}
                    end => return end,
                },
                Action::Goto(chain) => return self.chain(chain, flight, depth + 1),
                Action::Dispatch { end, map } => {
                    let interface = match end {
                        End::Source => &flight.came_in,
                        End::Destination => &flight.leaves,
                    };
                    let target = interface
                        .as_ref()
                        .and_then(|name| self.table.maps.get(map)?.get(name));
                    if let Some(chain) = target {
                        return self.chain(chain, flight, depth + 1);
                    }
                }
                Action::SetMark { value, mask } => flight.mark = flight.mark & !mask | value,
                Action::Log { prefix } | Action::Nflog { prefix, .. } => flight.logged.push(prefix.clone()),
                Action::NoTrack => flight.is_untracked = true,
                Action::Masquerade { .. } | Action::Snat { .. } | Action::Dnat { .. } => {
                    return Outcome::Accepted;
                }
            }
        }
        Outcome::Continued
    }

    fn holds(&self, criterion: &Match, flight: &Flight) -> bool {
        let packet = &flight.packet;
        match criterion {
            Match::Mark { value, mask, negated } => (flight.mark & mask == *value) != *negated,
            Match::InInterface { name, negated } => is_named(flight.came_in.as_ref(), name) != *negated,
            Match::OutInterface { name, negated } => is_named(flight.leaves.as_ref(), name) != *negated,
            Match::LocalAddress { end, negated, .. } => {
                let is_local = match end {
                    End::Source => flight.came_in.is_none(),
                    End::Destination => flight.leaves.is_none(),
                };
                is_local != *negated
            }
            Match::ReversePathFailed => flight.is_reverse_path_wrong,
            Match::ConnState { states, negated } => {
                states.iter().any(|state| flight.states.contains(state)) != *negated
            }
            Match::Protocol { number, negated } => (packet.protocol == *number) != *negated,
            Match::Nets { end, nets, negated } => {
                let address = address(packet, *end);
                nets.iter().any(|net| net.contains(&address)) != *negated
            }
            Match::Set {
                end,
                set,
                port,
                negated,
            } => self.in_set(packet, *end, set, *port) != *negated,
            Match::Ports { end, ports, negated } => {
                let port = port_of(packet, *end);
                packet.has_ports() && ports.iter().any(|range| range.contains(port)) != *negated
            }
            Match::Icmp { type_, code, negated } => packet
                .icmp
                .is_some_and(|own| (own.0 == *type_ && code.is_none_or(|code| own.1 == code)) != *negated),
            Match::RateAbove { .. } | Match::ConnectionsAbove { .. } => false,
            Match::RateWithin { .. } => true,
        }
    }

    fn in_set(&self, packet: &Packet, end: End, set: &str, port: Option<End>) -> bool {
        let Some(set) = self.desired.ip_sets.get(set) else {
            return false;
        };
        let address = address(packet, end);
        let protocol = packet.protocol;
        let Some(port) = port else {
            return set.members.contains(&IpSetMember::Ip(address))
                || around(address).any(|net| set.members.contains(&IpSetMember::Net(net)));
        };
        if !packet.has_ports() {
            return false;
        }
        let port = port_of(packet, port);
        let exact = IpSetMember::IpPort {
            address,
            protocol,
            port,
        };
        let with_port = |net| IpSetMember::NetPort { net, protocol, port };
        set.members.contains(&exact) || around(address).any(|net| set.members.contains(&with_port(net)))
    }
}

/// All prefixes that contain an address.
fn around(address: IpAddr) -> impl Iterator<Item = IpNet> {
    let length = match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    (0..=length).filter_map(move |length| IpNet::new(address, length).ok().map(|net| net.trunc()))
}

const fn address(packet: &Packet, end: End) -> IpAddr {
    match end {
        End::Source => packet.source,
        End::Destination => packet.destination,
    }
}

const fn port_of(packet: &Packet, end: End) -> u16 {
    match end {
        End::Source => packet.source_port,
        End::Destination => packet.destination_port,
    }
}

fn is_named(interface: Option<&String>, name: &str) -> bool {
    interface.is_some_and(|interface| match name.strip_suffix('+') {
        Some(prefix) => interface.starts_with(prefix),
        None => interface == name,
    })
}

/// What the tables for forwarded packets do with one: its way from interface to interface.
#[must_use]
pub fn forwarded(desired: &Desired, flight: &mut Flight) -> Outcome {
    let ways = [
        (TableName::Raw, "PREROUTING"),
        (TableName::Mangle, "PREROUTING"),
        (TableName::Filter, "FORWARD"),
        (TableName::Mangle, "POSTROUTING"),
    ];
    through(desired, flight, &ways)
}

/// What the tables for packets to local processes do with one.
#[must_use]
pub fn received(desired: &Desired, flight: &mut Flight) -> Outcome {
    let ways = [
        (TableName::Raw, "PREROUTING"),
        (TableName::Mangle, "PREROUTING"),
        (TableName::Filter, "INPUT"),
    ];
    through(desired, flight, &ways)
}

/// What the tables for packets of local processes do with one.
#[must_use]
pub fn sent(desired: &Desired, flight: &mut Flight) -> Outcome {
    let ways = [
        (TableName::Raw, "OUTPUT"),
        (TableName::Filter, "OUTPUT"),
        (TableName::Mangle, "POSTROUTING"),
    ];
    through(desired, flight, &ways)
}

fn through(desired: &Desired, flight: &mut Flight, ways: &[(TableName, &str)]) -> Outcome {
    for (table, chain) in ways {
        if run(desired, *table, chain, flight) == Outcome::Dropped {
            return Outcome::Dropped;
        }
    }
    Outcome::Accepted
}

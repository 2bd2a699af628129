//! Rules of the model as the kernel's expressions. Pure.

use std::net::IpAddr;

use caracal_felix_core::desired::{IpVersion, port_set_name};
use caracal_felix_core::render::nftables::seconds;
use caracal_felix_core::rules::{Action, ConnState, End, Match, PortRange, Rule};
use caracal_linux::nftables::{
    CtKey, Expression, Family, FibResult, MetaKey, NatKind, PayloadBase, Register, RejectWith, Verdict,
};
use ipnet::IpNet;

/// Room for the name of an interface.
const INTERFACE_LEN: usize = 16;
/// NF_NAT_RANGE_PROTO_RANDOM_FULLY.
const RANDOM_FULLY: u32 = 0x10;
/// Status bit of connections whose destination is translated.
const STATUS_DST_NAT: u32 = 0x20;
/// RTN_LOCAL.
const ADDRESS_TYPE_LOCAL: u32 = 2;
const FIB_SOURCE: u32 = 1;
const FIB_DESTINATION: u32 = 2;
const FIB_MARK: u32 = 4;
const FIB_IN_INTERFACE: u32 = 8;
const FIB_OUT_INTERFACE: u32 = 0x10;
/// Longest beginning of a message.
const LOG_PREFIX_LEN_MAX: usize = 126;
/// KERN_NOTICE.
const LOG_LEVEL: u32 = 5;
const R0: Register = Register(0);

/// The expressions of a rule whose names are the kernel's: criteria, a counter, the action.
#[must_use]
pub fn rule(rule: &Rule, version: IpVersion) -> Vec<Expression> {
    let mut out = Vec::with_capacity(2 * rule.matches.len() + 2);
    for criterion in &rule.matches {
        push_match(&mut out, criterion, version);
    }
    out.push(Expression::Counter);
    push_action(&mut out, &rule.action, version);
    out
}

/// The family of a version's table.
#[must_use]
pub const fn family(version: IpVersion) -> Family {
    match version {
        IpVersion::V4 => Family::Ip,
        IpVersion::V6 => Family::Ip6,
    }
}

fn compare(value: impl Into<Vec<u8>>, is_not: bool) -> Expression {
    Expression::Compare {
        register: R0,
        is_not,
        value: value.into(),
    }
}

fn push_match(out: &mut Vec<Expression>, criterion: &Match, version: IpVersion) {
    match criterion {
        Match::Mark { value, mask, negated } => {
            let key = MetaKey::Mark;
            out.extend([Expression::Meta { key, into: R0 }, masked(*mask)]);
            out.push(compare(value.to_ne_bytes(), *negated));
        }
        Match::InInterface { name, negated } => {
            push_interface(out, MetaKey::InInterfaceName, name, *negated);
        }
        Match::OutInterface { name, negated } => {
            push_interface(out, MetaKey::OutInterfaceName, name, *negated);
        }
        Match::LocalAddress {
            end,
            limit_to_out_interface,
            negated,
        } => {
            let address = match end {
                End::Source => FIB_SOURCE,
                End::Destination => FIB_DESTINATION,
            };
            let out_interface = if *limit_to_out_interface {
                FIB_OUT_INTERFACE
            } else {
                0
            };
            out.push(Expression::Fib {
                result: FibResult::AddressType,
                flags: address | out_interface,
                into: R0,
            });
            out.push(compare(ADDRESS_TYPE_LOCAL.to_ne_bytes(), *negated));
        }
        Match::ReversePathFailed => {
            out.push(Expression::Fib {
                result: FibResult::Interface,
                flags: FIB_SOURCE | FIB_MARK | FIB_IN_INTERFACE,
                into: R0,
            });
            out.push(compare(0u32.to_ne_bytes(), false));
        }
        Match::ConnState { states, negated } => push_states(out, states, *negated),
        Match::Protocol { number, negated } => {
            let key = MetaKey::TransportProtocol;
            out.push(Expression::Meta { key, into: R0 });
            out.push(compare([*number], *negated));
        }
        Match::Nets { end, nets, negated } => {
            // Rendering leaves one.
            nets.iter().for_each(|net| push_net(out, *end, net, *negated));
        }
        Match::Set {
            end,
            set,
            port,
            negated,
        } => push_set(out, *end, set, *port, *negated, version),
        Match::Ports { end, ports, negated } => push_ports(out, *end, ports, *negated),
        Match::Icmp { type_, code, negated } => {
            let value: Vec<u8> = [*type_].into_iter().chain(*code).collect();
            let len = if code.is_some() { 2 } else { 1 };
            out.push(transport(0, len, R0));
            out.push(compare(value, *negated));
        }
        Match::RateAbove {
            bucket: _,
            per_second,
            burst,
        } => out.push(Expression::Limit {
            packets: u64::from(*per_second),
            per_seconds: 1,
            burst: *burst,
            is_above: true,
        }),
        Match::RateWithin { packets, per, burst } => out.push(Expression::Limit {
            packets: u64::from(*packets),
            per_seconds: seconds(*per),
            burst: *burst,
            is_above: false,
        }),
        Match::ConnectionsAbove { count } => out.push(Expression::ConnectionsAbove { count: *count }),
    }
}

/// Keeps the bits of a mask in the first register.
fn masked(mask: u32) -> Expression {
    Expression::Bitwise {
        register: R0,
        mask: mask.to_ne_bytes().to_vec(),
        xor: vec![0; 4],
    }
}

fn push_interface(out: &mut Vec<Expression>, key: MetaKey, name: &str, negated: bool) {
    out.push(Expression::Meta { key, into: R0 });
    let value = match name.strip_suffix('+') {
        // Only the prefix is compared; an empty one is every name.
        Some("") => Vec::new(),
        Some(prefix) => prefix.bytes().take(INTERFACE_LEN - 1).collect(),
        None => interface_key(name),
    };
    match (value.is_empty(), negated) {
        (false, _) => out.push(compare(value, negated)),
        (true, false) => {}
        // No name is none: a comparison that never holds.
        (true, true) => out.push(compare([0xff; INTERFACE_LEN], false)),
    }
}

/// The name of an interface as the kernel compares it.
#[must_use]
pub fn interface_key(name: &str) -> Vec<u8> {
    let mut key: Vec<u8> = name.bytes().take(INTERFACE_LEN - 1).collect();
    key.resize(INTERFACE_LEN, 0);
    key
}

fn push_states(out: &mut Vec<Expression>, states: &[ConnState], negated: bool) {
    let bits = states.iter().fold(0, |bits, state| bits | state_bit(*state));
    let (key, bits) = if states == [ConnState::Dnat] {
        (CtKey::Status, STATUS_DST_NAT)
    } else {
        (CtKey::State, bits)
    };
    out.extend([Expression::Ct { key, into: R0 }, masked(bits)]);
    // Some bit is set: not zero.
    out.push(compare(0u32.to_ne_bytes(), !negated));
}

const fn state_bit(state: ConnState) -> u32 {
    match state {
        ConnState::Invalid => 1,
        ConnState::Established => 2,
        ConnState::Related => 4,
        ConnState::New => 8,
        ConnState::Untracked => 64,
        // No state; rendering keeps it apart.
        ConnState::Dnat => 0,
    }
}

/// Where an address is in its header, and how long it is.
const fn place(end: End, version: IpVersion) -> (u32, u32) {
    match (version, end) {
        (IpVersion::V4, End::Source) => (12, 4),
        (IpVersion::V4, End::Destination) => (16, 4),
        (IpVersion::V6, End::Source) => (8, 16),
        (IpVersion::V6, End::Destination) => (24, 16),
    }
}

fn address(end: End, version: IpVersion) -> Expression {
    let (offset, len) = place(end, version);
    Expression::Payload {
        base: PayloadBase::Network,
        offset,
        len,
        into: R0,
    }
}

const fn transport(offset: u32, len: u32, into: Register) -> Expression {
    Expression::Payload {
        base: PayloadBase::Transport,
        offset,
        len,
        into,
    }
}

const fn port(end: End, into: Register) -> Expression {
    match end {
        End::Source => transport(0, 2, into),
        End::Destination => transport(2, 2, into),
    }
}

/// The bytes of an address.
#[must_use]
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn push_net(out: &mut Vec<Expression>, end: End, net: &IpNet, negated: bool) {
    let version = match net {
        IpNet::V4(_) => IpVersion::V4,
        IpNet::V6(_) => IpVersion::V6,
    };
    out.push(address(end, version));
    if net.prefix_len() < net.max_prefix_len() {
        let mask = octets(net.netmask());
        let xor = vec![0; mask.len()];
        out.push(Expression::Bitwise {
            register: R0,
            mask,
            xor,
        });
    }
    out.push(compare(octets(net.trunc().addr()), negated));
}

fn push_set(
    out: &mut Vec<Expression>,
    end: End,
    set: &str,
    with_port: Option<End>,
    is_not: bool,
    version: IpVersion,
) {
    out.push(address(end, version));
    if let Some(end) = with_port {
        let words = match version {
            IpVersion::V4 => 1,
            IpVersion::V6 => 4,
        };
        out.push(Expression::Meta {
            key: MetaKey::TransportProtocol,
            into: Register(words),
        });
        out.push(port(end, Register(words + 1)));
    }
    out.push(Expression::Lookup {
        set: set.to_owned(),
        register: R0,
        is_not,
    });
}

fn push_ports(out: &mut Vec<Expression>, end: End, ports: &[PortRange], is_not: bool) {
    out.push(port(end, R0));
    out.push(match ports {
        [PortRange { min, max }] if min == max => compare(min.to_be_bytes(), is_not),
        [PortRange { min, max }] => Expression::Range {
            register: R0,
            is_not,
            from: min.to_be_bytes().to_vec(),
            to: max.to_be_bytes().to_vec(),
        },
        several => Expression::Lookup {
            set: port_set_name(several),
            register: R0,
            is_not,
        },
    });
}

fn push_action(out: &mut Vec<Expression>, action: &Action, version: IpVersion) {
    let verdict = match action {
        Action::Accept => Verdict::Accept,
        Action::Drop => Verdict::Drop,
        Action::Return => Verdict::Return,
        Action::Jump(chain) => Verdict::Jump(chain.clone()),
        Action::Goto(chain) => Verdict::Goto(chain.clone()),
        Action::Reject => {
            let code = match version {
                IpVersion::V4 => 3,
                IpVersion::V6 => 4,
            };
            return out.push(Expression::Reject(RejectWith::Unreachable(code)));
        }
        Action::Reset => return out.push(Expression::Reject(RejectWith::Reset)),
        Action::Dispatch { end, map } => {
            let key = match end {
                End::Source => MetaKey::InInterfaceName,
                End::Destination => MetaKey::OutInterfaceName,
            };
            out.push(Expression::Meta { key, into: R0 });
            return out.push(Expression::VerdictMap {
                map: map.clone(),
                register: R0,
            });
        }
        Action::SetMark { value, mask } => {
            out.push(Expression::Meta {
                key: MetaKey::Mark,
                into: R0,
            });
            out.push(Expression::Bitwise {
                register: R0,
                mask: (!mask).to_ne_bytes().to_vec(),
                xor: value.to_ne_bytes().to_vec(),
            });
            return out.push(Expression::SetMark { from: R0 });
        }
        Action::Log { prefix } => {
            let prefix = prefix
                .chars()
                .filter(char::is_ascii)
                .take(LOG_PREFIX_LEN_MAX)
                .collect();
            let level = LOG_LEVEL;
            return out.push(Expression::Log { prefix, level });
        }
        Action::Nflog { group, prefix } => {
            let (group, prefix) = (*group, prefix.clone());
            return out.push(Expression::NetlinkLog { group, prefix });
        }
        Action::NoTrack => return out.push(Expression::NoTrack),
        Action::Masquerade { ports } => {
            let ports = ports.map(|ports| push_port_range(out, ports));
            let flags = RANDOM_FULLY;
            return out.push(Expression::Masquerade { flags, ports });
        }
        Action::Snat { to, ports } => return push_nat(out, NatKind::Source, *to, *ports),
        Action::Dnat { to } => return push_nat(out, NatKind::Destination, *to, None),
    };
    out.push(Expression::Verdict(verdict));
}

/// Ports to choose from, in registers behind the longest address.
fn push_port_range(out: &mut Vec<Expression>, ports: PortRange) -> (Register, Register) {
    let (min, max) = (Register(4), Register(5));
    for (value, into) in [(ports.min, min), (ports.max, max)] {
        let value = value.to_be_bytes().to_vec();
        out.push(Expression::Immediate { value, into });
    }
    (min, max)
}

fn push_nat(out: &mut Vec<Expression>, kind: NatKind, to: IpAddr, ports: Option<PortRange>) {
    out.push(Expression::Immediate {
        value: octets(to),
        into: R0,
    });
    let ports = ports.map(|ports| push_port_range(out, ports));
    out.push(Expression::Nat {
        kind,
        family: if to.is_ipv4() { Family::Ip } else { Family::Ip6 },
        address: R0,
        ports,
        flags: if kind == NatKind::Source { RANDOM_FULLY } else { 0 },
    });
}

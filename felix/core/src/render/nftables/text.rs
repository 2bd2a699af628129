//! What a rule says, in nftables' language: for the hash and for readers.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::desired::{IpVersion, port_set_name};
use crate::render::iptables::safe_comment;
use crate::rules::{Action, ConnState, End, Match, PortRange, Rule, TimeUnit};

/// The rule's criteria and action.
#[must_use]
pub fn text(rule: &Rule, version: IpVersion) -> String {
    let mut out = String::new();
    for criterion in &rule.matches {
        write_match(&mut out, criterion, version);
        out.push(' ');
    }
    write_action(&mut out, &rule.action);
    out
}

fn write_to(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(arguments);
}

const fn not(negated: bool) -> &'static str {
    if negated { "!= " } else { "" }
}

const fn equals(negated: bool) -> &'static str {
    if negated { "!=" } else { "==" }
}

const fn ip(version: IpVersion) -> &'static str {
    match version {
        IpVersion::V4 => "ip",
        IpVersion::V6 => "ip6",
    }
}

const fn address(end: End) -> &'static str {
    match end {
        End::Source => "saddr",
        End::Destination => "daddr",
    }
}

const fn port_of(end: End) -> &'static str {
    match end {
        End::Source => "sport",
        End::Destination => "dport",
    }
}

fn write_match(out: &mut String, criterion: &Match, version: IpVersion) {
    match criterion {
        Match::Mark { value, mask, negated } => {
            write_to(
                out,
                format_args!("meta mark & {mask:#010x} {} {value:#010x}", equals(*negated)),
            );
        }
        Match::InInterface { name, negated } => write_interface(out, "iifname", name, *negated),
        Match::OutInterface { name, negated } => write_interface(out, "oifname", name, *negated),
        Match::LocalAddress {
            end,
            limit_to_out_interface,
            negated,
        } => {
            let limit = if *limit_to_out_interface { " . oif" } else { "" };
            write_to(
                out,
                format_args!("fib {}{limit} type {}local", address(*end), not(*negated)),
            );
        }
        Match::ReversePathFailed => out.push_str("fib saddr . mark . iif oif 0"),
        Match::ConnState { states, negated } => write_states(out, states, *negated),
        Match::Protocol { number, negated } => {
            write_to(out, format_args!("meta l4proto {}{number}", not(*negated)));
        }
        Match::Nets { end, nets, negated } => {
            let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
            let (ip, end, not) = (ip(version), address(*end), not(*negated));
            write_to(out, format_args!("{ip} {end} {not}{}", nets.join(",")));
        }
        Match::Set {
            end,
            set,
            port,
            negated,
        } => {
            write_to(out, format_args!("{} {}", ip(version), address(*end)));
            if let Some(port) = port {
                write_to(out, format_args!(" . meta l4proto . th {}", port_of(*port)));
            }
            write_to(out, format_args!(" {}@{set}", not(*negated)));
        }
        Match::Ports { end, ports, negated } => {
            write_to(out, format_args!("th {} {}", port_of(*end), not(*negated)));
            match ports.as_slice() {
                [PortRange { min, max }] if min == max => write_to(out, format_args!("{min}")),
                [PortRange { min, max }] => write_to(out, format_args!("{min}-{max}")),
                several => write_to(out, format_args!("@{}", port_set_name(several))),
            }
        }
        Match::Icmp { type_, code, negated } => {
            let code = code.map_or_else(String::new, |code| format!(" . {code}"));
            let key = if code.is_empty() { "type" } else { "type . code" };
            write_to(out, format_args!("icmp {key} {}{type_}{code}", not(*negated)));
        }
        Match::RateAbove {
            bucket,
            per_second,
            burst,
        } => {
            let bucket = safe_comment(bucket);
            let rate = format_args!("limit rate over {per_second}/second burst {burst} packets # {bucket}\n");
            write_to(out, rate);
        }
        Match::RateWithin { packets, per, burst } => {
            let per = per.as_str();
            write_to(
                out,
                format_args!("limit rate {packets}/{per} burst {burst} packets"),
            );
        }
        Match::ConnectionsAbove { count } => write_to(out, format_args!("ct count over {count}")),
    }
}

fn write_interface(out: &mut String, key: &str, name: &str, negated: bool) {
    let name = name
        .strip_suffix('+')
        .map_or_else(|| name.to_owned(), |prefix| format!("{prefix}*"));
    write_to(out, format_args!("{key} {}\"{name}\"", not(negated)));
}

fn write_states(out: &mut String, states: &[ConnState], negated: bool) {
    if states == [ConnState::Dnat] {
        let equals = if negated { "==" } else { "!=" };
        return write_to(out, format_args!("ct status & dnat {equals} 0"));
    }
    let words: Vec<&str> = states.iter().map(|state| state_word(*state)).collect();
    let words = words.join(",");
    if negated {
        write_to(out, format_args!("ct state & ({words}) == 0"));
    } else {
        write_to(out, format_args!("ct state {words}"));
    }
}

const fn state_word(state: ConnState) -> &'static str {
    match state {
        ConnState::New => "new",
        ConnState::Established => "established",
        ConnState::Related => "related",
        ConnState::Invalid => "invalid",
        ConnState::Untracked => "untracked",
        ConnState::Dnat => "dnat",
    }
}

/// Seconds of a unit.
#[must_use]
pub const fn seconds(unit: TimeUnit) -> u64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Minute => 60,
        TimeUnit::Hour => 3_600,
        TimeUnit::Day => 86_400,
    }
}

fn write_action(out: &mut String, action: &Action) {
    match action {
        Action::Accept => out.push_str("accept"),
        Action::Drop => out.push_str("drop"),
        Action::Reject => out.push_str("reject with port-unreachable"),
        Action::Reset => out.push_str("reject with tcp reset"),
        Action::Return => out.push_str("return"),
        Action::Dispatch { end, map } => {
            let key = match end {
                End::Source => "iifname",
                End::Destination => "oifname",
            };
            write_to(out, format_args!("{key} vmap @{map}"));
        }
        Action::Jump(chain) => write_to(out, format_args!("jump {chain}")),
        Action::Goto(chain) => write_to(out, format_args!("goto {chain}")),
        Action::SetMark { value, mask } => {
            write_to(
                out,
                format_args!("meta mark set mark & {:#010x} ^ {value:#010x}", !mask),
            );
        }
        Action::Log { prefix } => {
            write_to(
                out,
                format_args!("log prefix \"{}\" level notice", safe_comment(prefix)),
            );
        }
        Action::Nflog { group, prefix } => {
            let prefix = prefix.replace(['"', '\\'], "_");
            write_to(out, format_args!("log prefix \"{prefix}\" group {group}"));
        }
        Action::NoTrack => out.push_str("notrack"),
        Action::Masquerade { ports } => {
            out.push_str("masquerade");
            if let Some(PortRange { min, max }) = ports {
                write_to(out, format_args!(" to :{min}-{max}"));
            }
            out.push_str(" fully-random");
        }
        Action::Snat { to, ports } => {
            write_to(out, format_args!("snat to {}", bracketed(to)));
            if let Some(PortRange { min, max }) = ports {
                write_to(out, format_args!(":{min}-{max}"));
            }
            out.push_str(" fully-random");
        }
        Action::Dnat { to } => write_to(out, format_args!("dnat to {}", bracketed(to))),
    }
}

fn bracketed(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

//! Rules as the text that `iptables-restore` reads, each with a comment that identifies it.
//!
//! Owns the text and the hashes; never runs anything. Every rule of ours has the comment `cali:<hash>`, a hash over
//! the chain's name and all rules up to this one, so that comparing the comments of a chain in the kernel with those
//! wanted tells whether it must be written. Source: Calico `felix/iptables/renderer.go`, `felix/generictables/rules.go`.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha224};

use crate::desired::IpVersion;
use crate::rules::{Action, ConnState, End, Match, PortRange, Rule, nflog};

/// Beginning of the comment that marks a rule as ours.
pub const COMMENT_PREFIX: &str = "cali:";
/// Digits of a rule's hash.
pub const HASH_LENGTH: usize = 16;
/// Longest comment that iptables admits.
const COMMENT_LENGTH_MAX: usize = 256;
/// What stands in place of the hash while it is computed.
const HASH_PLACEHOLDER: &str = "HASH";

/// What the installed iptables and the kernel can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `MASQUERADE` and `SNAT` know `--random-fully`.
    pub random_fully: bool,
}

/// A rule as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedRule {
    /// The hash in the rule's comment, without `cali:`.
    pub hash: String,
    /// Everything after `-A <chain> ` in the language of `iptables-restore`.
    pub text: String,
}

/// The rules of a chain as text. Rules of ours in a chain of the kernel are rendered with that chain's name, those at
/// its beginning and those at its end apart.
#[must_use]
pub fn chain(name: &str, rules: &[Rule], version: IpVersion, features: Features) -> Vec<RenderedRule> {
    let mut state = Sha224::digest(name);
    rules
        .iter()
        .map(|rule| {
            let body = body(rule, version, features);
            let mut hasher = Sha224::new();
            hasher.update(state);
            hasher.update(format!("-A {name} {}", with_hash(HASH_PLACEHOLDER, &body)));
            state = hasher.finalize();
            let mut hash = URL_SAFE_NO_PAD.encode(state);
            hash.truncate(HASH_LENGTH);
            RenderedRule {
                text: with_hash(&hash, &body),
                hash,
            }
        })
        .collect()
}

fn with_hash(hash: &str, body: &str) -> String {
    format!("-m comment --comment \"{COMMENT_PREFIX}{hash}\"{body}")
}

/// Comments, criteria and action, each with a space before it.
fn body(rule: &Rule, version: IpVersion, features: Features) -> String {
    let mut text = String::new();
    for comment in &rule.comments {
        write_to(
            &mut text,
            format_args!(" -m comment --comment \"{}\"", safe_comment(comment)),
        );
    }
    for criterion in &rule.matches {
        text.push(' ');
        write_match(&mut text, criterion, version);
    }
    write_action(&mut text, &rule.action, version, features);
    text
}

fn write_to(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(arguments);
}

/// A comment without characters that could end it early, cut to what iptables admits.
pub(in crate::render) fn safe_comment(comment: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "_ @%+=:,./-".contains(c);
    comment
        .chars()
        .map(|c| if is_safe(c) { c } else { '_' })
        .take(COMMENT_LENGTH_MAX)
        .collect()
}

const fn not(negated: bool) -> &'static str {
    if negated { "! " } else { "" }
}

/// A name between quotes, as far as that is needed: names of interfaces come from outside.
fn word(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && *c != '"').collect()
}

fn write_match(text: &mut String, criterion: &Match, version: IpVersion) {
    match criterion {
        Match::Mark { value, mask, negated } => {
            let value = if *value == 0 {
                "0".to_owned()
            } else {
                format!("{value:#x}")
            };
            write_to(
                text,
                format_args!("-m mark {}--mark {value}/{mask:#x}", not(*negated)),
            );
        }
        Match::InInterface { name, negated } => {
            write_to(
                text,
                format_args!("{}--in-interface {}", not(*negated), word(name)),
            );
        }
        Match::OutInterface { name, negated } => {
            write_to(
                text,
                format_args!("{}--out-interface {}", not(*negated), word(name)),
            );
        }
        Match::LocalAddress {
            end,
            limit_to_out_interface,
            negated,
        } => {
            let option = match end {
                End::Source => "--src-type",
                End::Destination => "--dst-type",
            };
            let limit = if *limit_to_out_interface {
                " --limit-iface-out"
            } else {
                ""
            };
            write_to(
                text,
                format_args!("-m addrtype {}{option} LOCAL{limit}", not(*negated)),
            );
        }
        Match::ReversePathFailed => text.push_str("-m rpfilter --validmark --invert"),
        Match::ConnState { states, negated } => {
            let states = list(states.iter().map(|state| conn_state(*state).to_owned()));
            write_to(
                text,
                format_args!("-m conntrack {}--ctstate {states}", not(*negated)),
            );
        }
        Match::Protocol { number, negated } => {
            write_to(
                text,
                format_args!("{}-p {}", not(*negated), protocol(*number, version)),
            );
        }
        Match::Nets { end, nets, negated } => {
            let option = match end {
                End::Source => "--source",
                End::Destination => "--destination",
            };
            let nets = list(nets.iter().map(ToString::to_string));
            write_to(text, format_args!("{}{option} {nets}", not(*negated)));
        }
        Match::Set {
            end,
            set,
            port,
            negated,
        } => write_set(text, *end, set, *port, *negated),
        Match::Ports { end, ports, negated } => {
            let option = match end {
                End::Source => "--source-ports",
                End::Destination => "--destination-ports",
            };
            let ports = list(ports.iter().map(ToString::to_string));
            write_to(
                text,
                format_args!("-m multiport {}{option} {ports}", not(*negated)),
            );
        }
        Match::Icmp { type_, code, negated } => write_icmp(text, *type_, *code, *negated, version),
        Match::RateAbove {
            bucket,
            per_second,
            burst,
        } => write_to(
            text,
            format_args!(
                "-m hashlimit --hashlimit-above {per_second}/sec --hashlimit-burst {burst} --hashlimit-name {}",
                word(bucket)
            ),
        ),
        Match::RateWithin { packets, per, burst } => write_to(
            text,
            format_args!(
                "-m limit --limit {packets}/{} --limit-burst {burst}",
                per.as_str()
            ),
        ),
        // Counted together, whatever the addresses: the criterion stands for the whole rule.
        Match::ConnectionsAbove { count } => write_to(
            text,
            format_args!("-m connlimit --connlimit-above {count} --connlimit-mask 0 --connlimit-saddr"),
        ),
    }
}

fn write_set(text: &mut String, end: End, set: &str, port: Option<End>, negated: bool) {
    let word = |end: End| match end {
        End::Source => "src",
        End::Destination => "dst",
    };
    let port = port.map_or_else(String::new, |port| format!(",{}", word(port)));
    write_to(
        text,
        format_args!("-m set {}--match-set {set} {}{port}", not(negated), word(end)),
    );
}

fn write_icmp(text: &mut String, type_: u8, code: Option<u8>, negated: bool, version: IpVersion) {
    let option = match version {
        IpVersion::V4 => "-m icmp {}--icmp-type",
        IpVersion::V6 => "-m icmp6 {}--icmpv6-type",
    };
    text.push_str(&option.replace("{}", not(negated)));
    write_to(text, format_args!(" {type_}"));
    if let Some(code) = code {
        write_to(text, format_args!("/{code}"));
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",")
}

const fn conn_state(state: ConnState) -> &'static str {
    match state {
        ConnState::New => "NEW",
        ConnState::Established => "ESTABLISHED",
        ConnState::Related => "RELATED",
        ConnState::Invalid => "INVALID",
        ConnState::Untracked => "UNTRACKED",
        ConnState::Dnat => "DNAT",
    }
}

/// The name that iptables-save prints, where there is one.
fn protocol(number: u8, version: IpVersion) -> String {
    match (number, version) {
        (1, IpVersion::V4) => "icmp".to_owned(),
        (58, IpVersion::V6) => "ipv6-icmp".to_owned(),
        (6, _) => "tcp".to_owned(),
        (17, _) => "udp".to_owned(),
        (132, _) => "sctp".to_owned(),
        (136, _) => "udplite".to_owned(),
        (other, _) => other.to_string(),
    }
}

fn write_action(text: &mut String, action: &Action, version: IpVersion, features: Features) {
    match action {
        Action::Accept => text.push_str(" --jump ACCEPT"),
        Action::Drop => text.push_str(" --jump DROP"),
        Action::Reject => {
            let with = match version {
                IpVersion::V4 => "icmp-port-unreachable",
                IpVersion::V6 => "icmp6-port-unreachable",
            };
            write_to(text, format_args!(" --jump REJECT --reject-with {with}"));
        }
        Action::Reset => text.push_str(" --jump REJECT --reject-with tcp-reset"),
        // Without maps there is nothing to look up; the calculation writes trees for this backend.
        Action::Return | Action::Dispatch { .. } => text.push_str(" --jump RETURN"),
        Action::Jump(chain) => write_to(text, format_args!(" --jump {chain}")),
        Action::Goto(chain) => write_to(text, format_args!(" --goto {chain}")),
        Action::SetMark { value: 0, mask } => {
            write_to(text, format_args!(" --jump MARK --set-mark 0/{mask:#x}"));
        }
        Action::SetMark { value, mask } => {
            write_to(text, format_args!(" --jump MARK --set-mark {value:#x}/{mask:#x}"));
        }
        Action::Log { prefix } => {
            let prefix = safe_comment(prefix);
            write_to(
                text,
                format_args!(" --jump LOG --log-prefix \"{prefix}\" --log-level 5"),
            );
        }
        Action::Nflog { group, prefix } => {
            let size = nflog::SNAP_LEN;
            let prefix = prefix.replace(['"', '\\'], "_");
            write_to(
                text,
                format_args!(
                    " --jump NFLOG --nflog-group {group} --nflog-prefix \"{prefix}\" --nflog-size {size}"
                ),
            );
        }
        Action::NoTrack => text.push_str(" --jump NOTRACK"),
        Action::Masquerade { ports } => {
            text.push_str(" --jump MASQUERADE");
            write_ports(text, *ports);
            write_random(text, features);
        }
        Action::Snat { to, ports } => {
            write_to(text, format_args!(" --jump SNAT --to-source {to}"));
            if let Some(PortRange { min, max }) = ports {
                write_to(text, format_args!(":{min}-{max}"));
            }
            write_random(text, features);
        }
        Action::Dnat { to } => write_to(text, format_args!(" --jump DNAT --to-destination {to}")),
    }
}

fn write_ports(text: &mut String, ports: Option<PortRange>) {
    if let Some(PortRange { min, max }) = ports {
        write_to(text, format_args!(" --to-ports {min}-{max}"));
    }
}

fn write_random(text: &mut String, features: Features) {
    if features.random_fully {
        text.push_str(" --random-fully");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_rule_depends_on_the_rules_before_it() {
        let drop = Rule::new([], Action::Drop);
        let accept = Rule::new([], Action::Accept);
        let render = |rules: &[Rule]| chain("cali-x", rules, IpVersion::V4, Features::default());
        let two = render(&[accept, drop.clone()]);
        let one = render(&[drop]);
        assert_eq!(two.len(), 2);
        assert_ne!(two[1].hash, one[0].hash);
        assert_eq!(one[0].hash.len(), HASH_LENGTH);
        assert_eq!(
            one[0].text,
            format!("-m comment --comment \"cali:{}\" --jump DROP", one[0].hash)
        );
    }

    #[test]
    fn comments_cannot_break_out() {
        let rule = Rule::new([], Action::Drop).comment("a\" -j ACCEPT\n\u{e9}");
        let text = chain("cali-x", &[rule], IpVersion::V4, Features::default())
            .remove(0)
            .text;
        assert!(
            text.contains("--comment \"a_ -j ACCEPT__\" --jump DROP"),
            "{text}"
        );
    }

    #[test]
    fn criteria_read_as_iptables_wants_them() {
        let check = |criterion: Match, version: IpVersion, want: &str| {
            let mut text = String::new();
            write_match(&mut text, &criterion, version);
            assert_eq!(text, want);
        };
        let (value, mask, negated) = (0, 0x1_0000, false);
        check(
            Match::Mark { value, mask, negated },
            IpVersion::V4,
            "-m mark --mark 0/0x10000",
        );
        let set = Match::Set {
            end: End::Destination,
            set: "cali40n:x".to_owned(),
            port: Some(End::Destination),
            negated: true,
        };
        check(set, IpVersion::V4, "-m set ! --match-set cali40n:x dst,dst");
        let icmp = Match::Icmp {
            type_: 0,
            code: Some(0),
            negated: true,
        };
        check(icmp, IpVersion::V6, "-m icmp6 ! --icmpv6-type 0/0");
        let ports = Match::Ports {
            end: End::Source,
            ports: vec![PortRange { min: 1, max: 1 }, PortRange { min: 2, max: 9 }],
            negated: false,
        };
        check(ports, IpVersion::V4, "-m multiport --source-ports 1,2:9");
    }
}

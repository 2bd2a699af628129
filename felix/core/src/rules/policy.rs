//! Chains of policies and profiles: one rule of the model becomes a few rules of the table.
//!
//! Several values of one criterion that the table cannot hold in one rule become blocks: a scratch bit says that all
//! blocks held so far, another that the present one does. Source: Calico `felix/rules/policy.go`.

use std::sync::Arc;

use caracal_api::names;
use ipnet::IpNet;

use super::{Action, End, Match, PortRange, Rule};
use crate::calc::model::{Peer, RuleAction, RuleModel, SetSpec, version_of};
use crate::config::Config;
use crate::desired::IpVersion;

/// Ports that one rule can hold; a range counts as two.
const PORT_SLOTS: usize = 15;

/// A criterion on a mark bit.
#[must_use]
pub const fn mark(bit: u32, is_set: bool) -> Match {
    Match::Mark {
        value: if is_set { bit } else { 0 },
        mask: bit,
        negated: false,
    }
}

/// A rule that sets a mark bit.
#[must_use]
pub const fn set_mark(bit: u32) -> Action {
    Action::SetMark {
        value: bit,
        mask: bit,
    }
}

/// A rule that clears mark bits.
#[must_use]
pub const fn clear_mark(bits: u32) -> Action {
    Action::SetMark { value: 0, mask: bits }
}

/// The rules of a policy's or profile's chain.
#[must_use]
pub fn chain(rules: &[RuleModel], version: IpVersion, config: &Config, title: &str) -> Vec<Rule> {
    let mut out = Vec::new();
    for rule in rules.iter().filter(|rule| rule.applies_to(version)) {
        expand(rule, version, config, &mut out);
    }
    // A chain ends in a return anyway.
    while out.last().is_some_and(|rule| rule.action == Action::Return) {
        out.pop();
    }
    if let Some(first) = out.first_mut() {
        first.comments.push(title.to_owned());
    }
    out
}

fn expand(rule: &RuleModel, version: IpVersion, config: &Config, out: &mut Vec<Rule>) {
    let mut blocks = Vec::new();
    let mut matches = plain_matches(rule);
    for (end, peer) in [(End::Source, &rule.source), (End::Destination, &rule.destination)] {
        peer_matches(end, peer, version, &mut matches, &mut blocks, rule.protocol);
    }
    if let Some((type_, code)) = rule.icmp {
        matches.push(icmp(type_, code, false));
    }
    if let Some((type_, code)) = rule.not_icmp {
        matches.push(icmp(type_, code, true));
    }
    let marks = config.marks;
    if !blocks.is_empty() {
        let action = Action::SetMark {
            value: marks.scratch0,
            mask: marks.scratch0 | marks.scratch1,
        };
        out.push(Rule::new([], action));
        for (index, block) in blocks.into_iter().enumerate() {
            write_block(index, block, config, out);
        }
        matches.push(mark(marks.scratch0, true));
    }
    let (bit, verdict) = match rule.action {
        RuleAction::Allow => (marks.accept, Action::Return),
        RuleAction::Pass => (marks.pass, Action::Return),
        RuleAction::Deny => (marks.drop, config.deny()),
        RuleAction::Log => {
            let prefix = format!("{}: ", config.log_prefix);
            out.push(Rule::new(matches, Action::Log { prefix }));
            return;
        }
    };
    out.push(Rule::new(matches, set_mark(bit)));
    out.push(Rule::new([mark(bit, true)], verdict));
}

fn plain_matches(rule: &RuleModel) -> Vec<Match> {
    let protocol = |number: Option<u8>, negated| number.map(|number| Match::Protocol { number, negated });
    let both = [protocol(rule.protocol, false), protocol(rule.not_protocol, true)];
    // One rule cannot say both. A protocol that is demanded and is not the excluded one says it all; the other case
    // matches nothing and was refused before.
    match both {
        [Some(positive), _] => vec![positive],
        [None, negative] => negative.into_iter().collect(),
    }
}

const fn icmp(type_: u8, code: Option<u8>, negated: bool) -> Match {
    Match::Icmp { type_, code, negated }
}

/// Criteria of which any (or, negated, none) must hold.
struct Block {
    negated: bool,
    any: Vec<Vec<Match>>,
}

fn peer_matches(
    end: End,
    peer: &Peer,
    version: IpVersion,
    matches: &mut Vec<Match>,
    blocks: &mut Vec<Block>,
    protocol: Option<u8>,
) {
    for (nets, negated) in [(&peer.nets, false), (&peer.not_nets, true)] {
        let own = nets.iter().filter(|net| version_of(net) == version);
        let mut any: Vec<Match> = own.map(|net| net_match(end, *net)).collect();
        match any.len() {
            0 => {}
            1 => matches.extend(any.pop().map(|one| negate(one, negated))),
            _ => blocks.push(Block {
                negated,
                any: any.into_iter().map(|one| vec![one]).collect(),
            }),
        }
    }
    let sets = peer.sets.iter().map(|set| (set, false));
    for (set, negated) in sets.chain(peer.not_sets.iter().map(|set| (set, true))) {
        matches.push(set_match(end, set, version, negated));
    }
    let ports = [
        (&peer.ports, &peer.named_ports, false),
        (&peer.not_ports, &peer.not_named_ports, true),
    ];
    for (ranges, named, negated) in ports {
        let mut any: Vec<Match> = split_ports(ranges)
            .into_iter()
            .map(|ports| Match::Ports {
                end,
                ports,
                negated: false,
            })
            .collect();
        any.extend(named.iter().map(|set| set_match(end, set, version, false)));
        match any.len() {
            0 => {}
            1 => matches.extend(any.pop().map(|one| negate(one, negated))),
            _ => {
                let with_protocol = |one| {
                    let protocol = protocol.map(|number| Match::Protocol {
                        number,
                        negated: false,
                    });
                    protocol.into_iter().chain([one]).collect()
                };
                blocks.push(Block {
                    negated,
                    any: any.into_iter().map(with_protocol).collect(),
                });
            }
        }
    }
}

fn net_match(end: End, net: IpNet) -> Match {
    Match::Nets {
        end,
        nets: vec![net],
        negated: false,
    }
}

fn set_match(end: End, set: &Arc<SetSpec>, version: IpVersion, negated: bool) -> Match {
    Match::Set {
        end,
        set: names::ip_set_name(version, &set.id),
        port: (set.kind() == crate::desired::IpSetKind::HashIpPort).then_some(end),
        negated,
    }
}

fn negate(criterion: Match, invert: bool) -> Match {
    match criterion {
        Match::Nets { end, nets, negated } => Match::Nets {
            end,
            nets,
            negated: negated != invert,
        },
        Match::Ports { end, ports, negated } => Match::Ports {
            end,
            ports,
            negated: negated != invert,
        },
        Match::Set {
            end,
            set,
            port,
            negated,
        } => Match::Set {
            end,
            set,
            port,
            negated: negated != invert,
        },
        other => other,
    }
}

fn split_ports(ranges: &[PortRange]) -> Vec<Vec<PortRange>> {
    let mut groups: Vec<Vec<PortRange>> = Vec::new();
    let mut used = PORT_SLOTS;
    for range in ranges {
        let slots = if range.min == range.max { 1 } else { 2 };
        if used + slots > PORT_SLOTS {
            groups.push(Vec::new());
            used = 0;
        }
        used += slots;
        if let Some(group) = groups.last_mut() {
            group.push(*range);
        }
    }
    groups
}

fn write_block(index: usize, block: Block, config: &Config, out: &mut Vec<Rule>) {
    let marks = config.marks;
    if block.negated {
        for matches in block.any {
            out.push(Rule::new(matches, clear_mark(marks.scratch0)));
        }
        return;
    }
    if index > 0 {
        out.push(Rule::new([], clear_mark(marks.scratch1)));
    }
    for matches in block.any {
        out.push(Rule::new(matches, set_mark(marks.scratch1)));
    }
    out.push(Rule::new(
        [mark(marks.scratch1, false)],
        clear_mark(marks.scratch0),
    ));
}

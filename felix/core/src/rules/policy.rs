//! Chains of policies and profiles: one rule of the model becomes a few rules of the table.
//!
//! Several values of one criterion that the table cannot hold in one rule become blocks: a scratch bit says that all
//! blocks held so far, another that the present one does. Source: Calico `felix/rules/policy.go`.

use std::sync::Arc;

use caracal_api::names;
use ipnet::IpNet;

use super::{Action, End, Match, PortRange, Rule, nflog};
use crate::calc::model::{Peer, RuleAction, RuleModel, SetSpec, version_of};
use crate::config::Config;
use crate::desired::IpVersion;

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
pub fn chain(
    rules: &[RuleModel],
    version: IpVersion,
    config: &Config,
    title: &str,
    owner: &nflog::Owner<'_>,
) -> Vec<Rule> {
    let mut out = Vec::new();
    for rule in rules.iter().filter(|rule| rule.applies_to(version)) {
        expand(rule, version, config, &mut out);
        if config.is_denial_logged && rule.action == RuleAction::Deny {
            nflog::before_last(&mut out, owner.denied_by(rule.index));
        }
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

/// The rules of a staged policy's chain: they count what each rule would decide, and decide nothing.
#[must_use]
pub fn staged_chain(rules: &[RuleModel], version: IpVersion, config: &Config, title: &str) -> Vec<Rule> {
    let mut out = Vec::new();
    let enforced = rules.iter().filter(|rule| rule.action != RuleAction::Log);
    for rule in enforced.filter(|rule| rule.applies_to(version)) {
        let matches = criteria(rule, version, config, &mut out);
        let action = match rule.action {
            RuleAction::Allow => "allow",
            RuleAction::Deny => "deny",
            RuleAction::Pass => "pass",
            RuleAction::Log => "log",
        };
        out.push(Rule::new(matches, Action::Return).comment(format!("Would {action}")));
    }
    if let Some(first) = out.first_mut() {
        first.comments.push(title.to_owned());
    }
    out
}

/// The rules of the table for one rule of the model.
pub(super) fn expand(rule: &RuleModel, version: IpVersion, config: &Config, out: &mut Vec<Rule>) {
    let matches = criteria(rule, version, config, out);
    verdict(matches, rule.action, config, out);
}

/// What is done with packets that meet criteria.
pub(super) fn verdict(mut matches: Vec<Match>, action: RuleAction, config: &Config, out: &mut Vec<Rule>) {
    let marks = config.marks;
    let (bit, verdict) = match action {
        RuleAction::Allow => (marks.accept, Action::Return),
        RuleAction::Pass => (marks.pass, Action::Return),
        RuleAction::Deny => (marks.drop, config.deny()),
        RuleAction::Log => {
            let prefix = format!("{}: ", config.log_prefix);
            matches.extend(config.log_rate.map(|(packets, per)| Match::RateWithin {
                packets,
                per,
                burst: config.log_burst,
            }));
            out.push(Rule::new(matches, Action::Log { prefix }));
            return;
        }
    };
    out.push(Rule::new(matches, set_mark(bit)));
    out.push(Rule::new([mark(bit, true)], verdict));
}

/// Criteria of one rule of the table, after rules that work out what one rule cannot say.
fn criteria(rule: &RuleModel, version: IpVersion, config: &Config, out: &mut Vec<Rule>) -> Vec<Match> {
    let mut blocks = Vec::new();
    let mut matches = plain_matches(rule);
    for (end, peer) in [(End::Source, &rule.source), (End::Destination, &rule.destination)] {
        let of = Of {
            end,
            version,
            slots: config.backend.port_slots(),
            protocol: rule.protocol,
        };
        peer_matches(of, peer, &mut matches, &mut blocks);
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
    matches
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

/// Of what criteria are.
#[derive(Clone, Copy)]
struct Of {
    end: End,
    version: IpVersion,
    slots: Option<usize>,
    protocol: Option<u8>,
}

fn peer_matches(of: Of, peer: &Peer, matches: &mut Vec<Match>, blocks: &mut Vec<Block>) {
    let Of {
        end,
        version,
        slots,
        protocol,
    } = of;
    for (nets, negated) in [(&peer.nets, false), (&peer.not_nets, true)] {
        let own = nets.iter().filter(|net| version_of(net) == version);
        let mut any: Vec<Match> = own.map(|net| net_match(end, *net)).collect();
        // iptables takes one prefix an end: "in this, but not in that" is two rules.
        let is_second = negated && slots.is_some() && has_nets(matches, end);
        match any.len() {
            0 => {}
            1 if !is_second => matches.extend(any.pop().map(|one| negate(one, negated))),
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
        let mut any: Vec<Match> = split_ports(ranges, slots)
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

fn has_nets(matches: &[Match], end: End) -> bool {
    let of_end = |one: &Match| matches!(one, Match::Nets { end: other, .. } if *other == end);
    matches.iter().any(of_end)
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

/// Lists of ports that one criterion can hold each.
pub(super) fn split_ports(ranges: &[PortRange], slots: Option<usize>) -> Vec<Vec<PortRange>> {
    let ranges = normal(ranges.to_vec());
    let Some(slots_max) = slots else {
        return if ranges.is_empty() {
            Vec::new()
        } else {
            vec![ranges]
        };
    };
    let mut groups: Vec<Vec<PortRange>> = Vec::new();
    let mut used = slots_max;
    for range in ranges {
        let slots = if range.min == range.max { 1 } else { 2 };
        if used + slots > slots_max {
            groups.push(Vec::new());
            used = 0;
        }
        used += slots;
        if let Some(group) = groups.last_mut() {
            group.push(range);
        }
    }
    groups
}

/// Ranges sorted, and joined where they touch.
pub(super) fn normal(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort();
    let mut joined: Vec<PortRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if u32::from(range.min) <= u32::from(last.max) + 1 => {
                last.max = last.max.max(range.max);
            }
            _ => joined.push(range),
        }
    }
    joined
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_takes_two_of_fifteen_places() {
        let range = |min, max| PortRange { min, max };
        let ranges: Vec<PortRange> = (0..9).map(|n| range(n * 10, n * 10 + 5)).collect();
        let lens = |slots| -> Vec<usize> { split_ports(&ranges, slots).iter().map(Vec::len).collect() };
        assert_eq!(lens(Some(15)), [7, 2]);
        assert_eq!(lens(None), [9]);
        assert!(split_ports(&[], None).is_empty() && split_ports(&[], Some(15)).is_empty());
    }

    #[test]
    fn a_prefix_without_a_part_of_it_never_names_two_prefixes_in_a_rule_of_iptables() {
        let mut rule = RuleModel::any(0, RuleAction::Allow);
        rule.destination.nets = vec!["0.0.0.0/4".parse().unwrap()];
        rule.destination.not_nets = vec!["10.0.0.1/32".parse().unwrap()];
        let mut out = Vec::new();
        expand(&rule, IpVersion::V4, &Config::default(), &mut out);
        let prefixes = |rule: &Rule| {
            let all = rule.matches.iter();
            all.filter(|one| matches!(one, Match::Nets { .. })).count()
        };
        assert!(out.iter().all(|rule| prefixes(rule) <= 1), "{out:?}");
        assert_eq!(out.iter().map(prefixes).sum::<usize>(), 2, "{out:?}");
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let range = |min, max| PortRange { min, max };
        let joined = normal(vec![
            range(80, 90),
            range(1, 1),
            range(91, 91),
            range(65_535, 65_535),
        ]);
        assert_eq!(joined, [range(1, 1), range(80, 91), range(65_535, 65_535)]);
    }
}

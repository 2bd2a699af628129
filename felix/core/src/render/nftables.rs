//! Rules as nftables has them: names of its own tables, chains, sets and maps, and what each rule says in its language.
//!
//! One table, `calico`, for each family holds everything; a chain's name begins with that of the table that it would be
//! in with iptables (its layer). A rule of the model that nftables cannot say at once becomes several, of which a packet
//! meets at most one. Every rule has the comment `cali:<hash>;`, a hash over the chain's name and the rule's own text
//! alone, so that a rule that stays keeps its counters when one before it changes. The text serves the hash and readers;
//! what is sent to the kernel is made of the same rules elsewhere. Source: Calico `felix/nftables/renderer.go`,
//! `table_layer.go`.

mod text;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha224};

pub use text::{seconds, text};

use super::iptables::{COMMENT_PREFIX, HASH_LENGTH, safe_comment};
use crate::desired::{IpVersion, TableName};
use crate::rules::{Action, ConnState, Match, Rule};

/// Name of the table in every family.
pub const TABLE: &str = "calico";
/// Longest name of a chain, a set or a map.
const NAME_LENGTH_MAX: usize = 255;
/// Longest comment of a rule.
const COMMENT_LENGTH_MAX: usize = 127;

/// A rule of one chain, as nftables can say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedRule {
    /// What identifies it, without `cali:`.
    pub hash: String,
    /// Its comment, with the hash.
    pub comment: String,
    /// The rule. Names of chains, sets and maps in it are those of the kernel; see [`expand`] for what it cannot have.
    pub rule: Rule,
    /// What it says, in nftables' language.
    pub text: String,
}

/// The rules of a chain. `name` is the chain's name in the model.
#[must_use]
pub fn chain(table: TableName, name: &str, rules: &[Rule], version: IpVersion) -> Vec<RenderedRule> {
    let name = chain_name(table, name);
    let mut rendered = Vec::with_capacity(rules.len());
    for rule in rules {
        for rule in expand(table, rule) {
            let text = text(&rule, version);
            let comments = rule.comments.iter().map(|comment| safe_comment(comment));
            let comments = comments.collect::<Vec<_>>().join(", ");
            let mut hash = URL_SAFE_NO_PAD.encode(Sha224::digest(format!("{name}\n{text}\n{comments}")));
            hash.truncate(HASH_LENGTH);
            let mut comment = format!("{COMMENT_PREFIX}{hash}; {comments}");
            comment.truncate(COMMENT_LENGTH_MAX);
            rendered.push(RenderedRule {
                hash,
                comment: comment.trim_end().to_owned(),
                rule,
                text,
            });
        }
    }
    rendered
}

/// The hash in a rule's comment.
#[must_use]
pub fn hash_of(comment: &str) -> Option<&str> {
    let hash = comment.strip_prefix(COMMENT_PREFIX)?.split(';').next()?;
    (!hash.is_empty()).then_some(hash)
}

/// How a chain of ours hangs in the kernel's path of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `filter`, `nat` or `route`.
    pub kind: &'static str,
    /// Number of the hook.
    pub number: u32,
    /// Place among the chains of the hook.
    pub priority: i32,
}

/// The hook of a chain that iptables has of itself, such as `FORWARD` of `filter`.
#[must_use]
pub fn hook(table: TableName, kernel_chain: &str) -> Option<Hook> {
    let number = match kernel_chain {
        "PREROUTING" => 0,
        "INPUT" => 1,
        "FORWARD" => 2,
        "OUTPUT" => 3,
        "POSTROUTING" => 4,
        _ => return None,
    };
    let (kind, priority) = match (table, number) {
        (TableName::Raw, _) => ("filter", -300),
        (TableName::Mangle, 3) => ("route", -150),
        (TableName::Mangle, _) => ("filter", -150),
        // Destinations before the translation of others at their usual place; sources behind it.
        (TableName::Nat, 0 | 1) => ("nat", -100),
        (TableName::Nat, _) => ("nat", 110),
        (TableName::Filter, _) => ("filter", 0),
    };
    Some(Hook {
        kind,
        number,
        priority,
    })
}

/// The kernel's name of a chain of a layer.
#[must_use]
pub fn chain_name(table: TableName, chain: &str) -> String {
    limited(format!("{table}-{chain}"))
}

/// The kernel's name of a map of a layer.
#[must_use]
pub fn map_name(table: TableName, map: &str) -> String {
    limited(format!("{table}-{map}"))
}

/// The kernel's name of a set; all layers share sets.
#[must_use]
pub fn set_name(set: &str) -> String {
    set.replace(':', "-")
}

/// A name that the kernel admits: too long ones end in a hash of the whole.
fn limited(name: String) -> String {
    const HASH: usize = 24;
    if name.len() <= NAME_LENGTH_MAX {
        return name;
    }
    let hash = URL_SAFE_NO_PAD.encode(Sha224::digest(&name));
    let kept: String = name
        .chars()
        .filter(char::is_ascii)
        .take(NAME_LENGTH_MAX - HASH - 1)
        .collect();
    format!("{kept}_{}", hash.get(..HASH).unwrap_or(&hash))
}

/// The rules that say together what one rule of the model says, with the kernel's names. In them
/// [`Match::ConnState`] has either states or the translated destination alone, and the latter not negated
/// for packets without a connection; [`Match::Nets`] has one prefix; rejecting is left to the filter layer.
#[must_use]
pub fn expand(table: TableName, rule: &Rule) -> Vec<Rule> {
    let mut alternatives: Vec<Vec<Match>> = vec![Vec::new()];
    for criterion in &rule.matches {
        let choices = choices(criterion);
        let mut longer = Vec::with_capacity(alternatives.len() * choices.len());
        for begun in &alternatives {
            for choice in &choices {
                longer.push(begun.iter().chain(choice).cloned().collect());
            }
        }
        alternatives = longer;
    }
    let action = named(table, &rule.action);
    let rule = |matches| Rule {
        matches,
        action: action.clone(),
        comments: rule.comments.clone(),
    };
    alternatives.into_iter().map(rule).collect()
}

/// Lists of criteria of which a packet that meets the criterion meets exactly one.
fn choices(criterion: &Match) -> Vec<Vec<Match>> {
    match criterion {
        Match::ConnState { states, negated } => states_of(states, *negated),
        Match::Nets { end, nets, negated } => {
            let one = |net: &ipnet::IpNet, negated| Match::Nets {
                end: *end,
                nets: vec![*net],
                negated,
            };
            if *negated {
                return vec![nets.iter().map(|net| one(net, true)).collect()];
            }
            let others = |index| nets.iter().take(index).map(|net| one(net, true));
            let choice = |(index, net)| others(index).chain([one(net, false)]).collect();
            nets.iter().enumerate().map(choice).collect()
        }
        Match::Ports { ports, negated, .. } if ports.is_empty() => {
            if *negated {
                vec![Vec::new()]
            } else {
                Vec::new()
            }
        }
        Match::Set {
            end,
            set,
            port,
            negated,
        } => vec![vec![Match::Set {
            end: *end,
            set: set_name(set),
            port: *port,
            negated: *negated,
        }]],
        other => vec![vec![other.clone()]],
    }
}

/// Whether the destination was translated is known of connections only, and asking for it of a packet without one ends
/// the rule: such packets are taken apart by their state.
fn states_of(states: &[ConnState], negated: bool) -> Vec<Vec<Match>> {
    let criterion = |states: Vec<ConnState>, negated| Match::ConnState { states, negated };
    let plain: Vec<ConnState> = states
        .iter()
        .copied()
        .filter(|state| *state != ConnState::Dnat)
        .collect();
    let has_dnat = plain.len() < states.len();
    let none_of_plain = || (!plain.is_empty()).then(|| criterion(plain.clone(), true));
    let translated = |negated| criterion(vec![ConnState::Dnat], negated);
    let unconnected = || criterion(vec![ConnState::Invalid, ConnState::Untracked], false);
    match (negated, has_dnat) {
        (_, false) => vec![vec![criterion(plain, negated)]],
        (false, true) => {
            let second = none_of_plain().into_iter().chain([translated(false)]).collect();
            let first = (!plain.is_empty()).then(|| vec![criterion(plain.clone(), false)]);
            first.into_iter().chain([second]).collect()
        }
        (true, true) => [unconnected(), translated(true)]
            .into_iter()
            .map(|last| none_of_plain().into_iter().chain([last]).collect())
            .collect(),
    }
}

/// An action with the kernel's names.
fn named(table: TableName, action: &Action) -> Action {
    match action {
        Action::Jump(chain) => Action::Jump(chain_name(table, chain)),
        Action::Goto(chain) => Action::Goto(chain_name(table, chain)),
        Action::Dispatch { end, map } => Action::Dispatch {
            end: *end,
            map: map_name(table, map),
        },
        // The kernel admits it at some hooks only.
        Action::Reject | Action::Reset if table != TableName::Filter => Action::Drop,
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::End;

    #[test]
    fn a_rule_keeps_its_hash_when_one_before_it_changes() {
        let (drop, accept) = (Rule::new([], Action::Drop), Rule::new([], Action::Accept));
        let render = |rules: &[Rule]| chain(TableName::Filter, "cali-x", rules, IpVersion::V4);
        let (two, one) = (render(&[accept, drop.clone()]), render(&[drop]));
        assert_eq!(two[1], one[0]);
        assert_ne!(two[0].hash, two[1].hash);
        assert_eq!(hash_of(&one[0].comment), Some(one[0].hash.as_str()));
        assert_eq!(hash_of("cali:; x"), None);
        let other = chain(
            TableName::Raw,
            "cali-x",
            &[Rule::new([], Action::Drop)],
            IpVersion::V4,
        );
        assert_ne!(other[0].hash, one[0].hash);
    }

    #[test]
    fn names_fit_and_differ() {
        let name = |last: char| chain_name(TableName::Filter, &format!("cali-pi-{}{last}", "x".repeat(247)));
        assert!(name('a').len() <= NAME_LENGTH_MAX && name('a') != name('b'));
        assert_eq!(chain_name(TableName::Nat, "cali-fip-dnat"), "nat-cali-fip-dnat");
        assert_eq!(set_name("cali40s:abc"), "cali40s-abc");
    }

    #[test]
    fn a_packet_without_a_connection_is_not_a_translated_one() {
        let rule = |states: &[ConnState], negated| {
            let states = states.to_vec();
            let rule = Rule::new([Match::ConnState { states, negated }], Action::Accept);
            let texts = expand(TableName::Filter, &rule);
            texts
                .iter()
                .map(|rule| text(rule, IpVersion::V4))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            rule(&[ConnState::Dnat], true),
            [
                "ct state invalid,untracked accept",
                "ct status & dnat == 0 accept"
            ]
        );
        assert_eq!(
            rule(&[ConnState::New, ConnState::Dnat], false),
            [
                "ct state new accept",
                "ct state & (new) == 0 ct status & dnat != 0 accept"
            ]
        );
    }

    #[test]
    fn several_prefixes_become_rules_that_exclude_each_other() {
        let nets = vec!["10.0.0.0/8".parse().unwrap(), "10.1.0.0/16".parse().unwrap()];
        let end = End::Source;
        let rule = |negated| {
            let nets = nets.clone();
            let rule = Rule::new([Match::Nets { end, nets, negated }], Action::Drop);
            let texts = expand(TableName::Filter, &rule);
            texts
                .iter()
                .map(|rule| text(rule, IpVersion::V4))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            rule(true),
            ["ip saddr != 10.0.0.0/8 ip saddr != 10.1.0.0/16 drop"]
        );
        assert_eq!(
            rule(false),
            [
                "ip saddr 10.0.0.0/8 drop",
                "ip saddr != 10.0.0.0/8 ip saddr 10.1.0.0/16 drop"
            ]
        );
    }
}

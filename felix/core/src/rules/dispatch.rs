//! From an interface to its chain, in two steps when there are many. Source: Calico `felix/rules/dispatch.go`.

use std::collections::{BTreeMap, BTreeSet};

use super::endpoint::workload_chain;
use super::{Action, Match, Rule};
use crate::calc::model::Direction;
use crate::config::Config;

/// The chains that send packets of workload interfaces to the chains of these; unknown interfaces are denied.
#[must_use]
pub fn workloads(
    direction: Direction,
    interfaces: &BTreeSet<String>,
    config: &Config,
) -> BTreeMap<String, Vec<Rule>> {
    let root = match direction {
        Direction::Ingress => "cali-to-wl-dispatch",
        Direction::Egress => "cali-from-wl-dispatch",
    };
    let prefix = common_prefix(interfaces);
    let mut groups: BTreeMap<Option<char>, Vec<&String>> = BTreeMap::new();
    for interface in interfaces {
        let next = interface.get(prefix.len()..).and_then(|rest| rest.chars().next());
        groups.entry(next).or_default().push(interface);
    }
    let end = || Rule::new([], config.deny()).comment("Unknown interface");
    let direct = |interface: &str| {
        let goto = Action::Goto(workload_chain(direction, interface));
        Rule::new([interface_match(direction, interface.to_owned())], goto)
    };
    let mut chains = BTreeMap::new();
    let mut rules = Vec::new();
    for (next, members) in groups {
        match next.filter(|next| next.is_ascii_alphanumeric() && members.len() > 1) {
            None => rules.extend(members.iter().map(|interface| direct(interface))),
            Some(next) => {
                let child = format!("{root}-{next}");
                let criterion = interface_match(direction, format!("{prefix}{next}+"));
                rules.push(Rule::new([criterion], Action::Goto(child.clone())));
                let gotos = members.iter().map(|interface| direct(interface));
                chains.insert(child, gotos.chain([end()]).collect());
            }
        }
    }
    rules.push(end());
    chains.insert(root.to_owned(), rules);
    chains
}

/// The criterion for packets of an interface, as the workload's direction has it.
#[must_use]
pub const fn interface_match(direction: Direction, name: String) -> Match {
    let negated = false;
    match direction {
        Direction::Ingress => Match::OutInterface { name, negated },
        Direction::Egress => Match::InInterface { name, negated },
    }
}

fn common_prefix(names: &BTreeSet<String>) -> String {
    // Of sorted names, what the first and the last share, all share.
    let (Some(first), Some(last)) = (names.first(), names.last()) else {
        return String::new();
    };
    let shared = first.chars().zip(last.chars()).take_while(|(a, b)| a == b);
    shared.map(|(a, _)| a).collect()
}

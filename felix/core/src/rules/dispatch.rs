//! From an interface to its chain: by a map where the backend has maps, else in two steps when there are many. Source:
//! Calico `felix/rules/dispatch.go`.

use std::collections::BTreeMap;

use super::{Action, End, Match, Rule};
use crate::calc::model::Direction;

/// How packets are told apart.
#[derive(Clone, Debug)]
pub struct Dispatch<'a> {
    /// Name of the first chain; names of the others begin with it.
    pub root: &'a str,
    /// By the interface that packets came in by (source) or leave by (destination).
    pub end: End,
    /// Chains by interface.
    pub chains: &'a BTreeMap<String, String>,
    /// What comes before everything else.
    pub first: Vec<Rule>,
    /// What happens to packets of other interfaces.
    pub last: Vec<Rule>,
}

impl Dispatch<'_> {
    /// Chains that compare the interface step by step.
    #[must_use]
    pub fn tree(&self) -> BTreeMap<String, Vec<Rule>> {
        let prefix = common_prefix(self.chains);
        let mut groups: BTreeMap<Option<char>, Vec<(&String, &String)>> = BTreeMap::new();
        for (interface, chain) in self.chains {
            let next = interface.get(prefix.len()..).and_then(|rest| rest.chars().next());
            groups.entry(next).or_default().push((interface, chain));
        }
        let direct = |(interface, chain): &(&String, &String)| {
            let criterion = interface_match(self.end, (*interface).clone());
            Rule::new([criterion], Action::Goto((*chain).clone()))
        };
        let mut chains = BTreeMap::new();
        let mut rules = self.first.clone();
        for (next, members) in groups {
            match next.filter(|next| next.is_ascii_alphanumeric() && members.len() > 1) {
                None => rules.extend(members.iter().map(direct)),
                Some(next) => {
                    let child = format!("{}-{next}", self.root);
                    let criterion = interface_match(self.end, format!("{prefix}{next}+"));
                    rules.push(Rule::new([criterion], Action::Goto(child.clone())));
                    let gotos = members.iter().map(direct);
                    chains.insert(child, gotos.chain(self.last.iter().cloned()).collect());
                }
            }
        }
        rules.extend(self.last.iter().cloned());
        chains.insert(self.root.to_owned(), rules);
        chains
    }

    /// One chain that looks the interface up in a map of the chain's name.
    #[must_use]
    pub fn by_map(&self) -> Vec<Rule> {
        let lookup = Action::Dispatch {
            end: self.end,
            map: self.root.to_owned(),
        };
        let mut rules = self.first.clone();
        rules.push(Rule::new([], lookup));
        rules.extend(self.last.iter().cloned());
        rules
    }
}

/// The end of a packet at which a workload's interface is met.
#[must_use]
pub const fn workload_end(direction: Direction) -> End {
    match direction {
        Direction::Ingress => End::Destination,
        Direction::Egress => End::Source,
    }
}

/// The end of a packet at which a host's interface is met: what comes in by it is its ingress.
#[must_use]
pub const fn host_end(direction: Direction) -> End {
    match direction {
        Direction::Ingress => End::Source,
        Direction::Egress => End::Destination,
    }
}

/// The criterion for packets that came in (source) or leave (destination) by an interface.
#[must_use]
pub const fn interface_match(end: End, name: String) -> Match {
    let negated = false;
    match end {
        End::Destination => Match::OutInterface { name, negated },
        End::Source => Match::InInterface { name, negated },
    }
}

fn common_prefix(names: &BTreeMap<String, String>) -> String {
    // Of sorted names, what the first and the last share, all share.
    let (Some((first, _)), Some((last, _))) = (names.first_key_value(), names.last_key_value()) else {
        return String::new();
    };
    let shared = first.chars().zip(last.chars()).take_while(|(a, b)| a == b);
    shared.map(|(a, _)| a).collect()
}

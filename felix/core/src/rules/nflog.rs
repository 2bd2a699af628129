//! What a denied packet's reader is told: Calico's prefixes of nfnetlink_log, and where they go.
//!
//! A prefix has three letters, for the verdict (`D`), whose rule it is (`P` policy, `R` profile) and the direction (`I`,
//! `E`), then the number of the rule if one decided, then after `|` the policy, profile or tier. Merged policies and the
//! end of a tier say the tier alone: who of them denied follows from the packet. Source: Calico
//! `felix/rules/nflog_defs.go`.

use caracal_api::names;

use super::{Action, Rule};
use crate::calc::model::Direction;

/// The group of packets to endpoints.
pub const INGRESS_GROUP: u16 = 1;
/// The group of packets from endpoints.
pub const EGRESS_GROUP: u16 = 2;
/// Bytes of each packet that are shown.
pub const SNAP_LEN: u32 = 80;
/// Longest prefix that the kernel takes, in bytes.
const PREFIX_LEN_MAX: usize = 63;

/// Whose rules are logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    direction: Direction,
    letter: char,
    name: std::borrow::Cow<'a, str>,
}

impl<'a> Owner<'a> {
    /// Rules of a policy, by its id.
    #[must_use]
    pub fn policy(direction: Direction, id: String) -> Self {
        Self {
            direction,
            letter: 'P',
            name: id.into(),
        }
    }

    /// Rules of a profile.
    #[must_use]
    pub fn profile(direction: Direction, name: &'a str) -> Self {
        Self {
            direction,
            letter: 'R',
            name: name.into(),
        }
    }

    /// A rule of the owner denied.
    #[must_use]
    pub fn denied_by(&self, rule: usize) -> Action {
        let letters = format!("D{}{}{rule}|", self.letter, letter(self.direction));
        action(self.direction, &letters, &self.name)
    }
}

/// Policies of a tier applied and none of them decided.
#[must_use]
pub fn end_of_tier(direction: Direction, tier: &str) -> Action {
    action(direction, &format!("DP{}|", letter(direction)), tier)
}

/// No profile allowed.
#[must_use]
pub fn no_profile(direction: Direction) -> Action {
    action(direction, &format!("DR{}", letter(direction)), "")
}

/// Shows what the last rule denies.
pub fn before_last(rules: &mut Vec<Rule>, action: Action) {
    if let Some(denial) = rules.pop() {
        rules.push(Rule::new(denial.matches.clone(), action));
        rules.push(denial);
    }
}

/// Shows what any of the rules denies.
#[must_use]
pub fn before_denials(rules: Vec<Rule>, deny: &Action, action: &Action) -> Vec<Rule> {
    let mut out = Vec::with_capacity(rules.len());
    for rule in rules {
        let is_denial = rule.action == *deny;
        out.push(rule);
        if is_denial {
            before_last(&mut out, action.clone());
        }
    }
    out
}

const fn letter(direction: Direction) -> char {
    match direction {
        Direction::Ingress => 'I',
        Direction::Egress => 'E',
    }
}

fn action(direction: Direction, letters: &str, name: &str) -> Action {
    let prefix = if name.is_empty() {
        letters.to_owned()
    } else {
        names::limit_length(letters, name, PREFIX_LEN_MAX)
    };
    Action::Nflog {
        group: match direction {
            Direction::Ingress => INGRESS_GROUP,
            Direction::Egress => EGRESS_GROUP,
        },
        prefix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(action: Action) -> (u16, String) {
        match action {
            Action::Nflog { group, prefix } => (group, prefix),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn prefixes_are_calicos() {
        let policy = Owner::policy(Direction::Ingress, "np/default/foo".to_owned());
        assert_eq!(prefix(policy.denied_by(3)), (1, "DPI3|np/default/foo".to_owned()));
        let profile = Owner::profile(Direction::Egress, "kns.default");
        assert_eq!(prefix(profile.denied_by(0)), (2, "DRE0|kns.default".to_owned()));
        assert_eq!(
            prefix(end_of_tier(Direction::Ingress, "default")),
            (1, "DPI|default".to_owned())
        );
        assert_eq!(prefix(no_profile(Direction::Egress)), (2, "DRE".to_owned()));
    }

    #[test]
    fn long_names_fit_and_stay_apart() {
        let name = |end: &str| format!("np/{}/{end}", "n".repeat(63));
        let of = |end: &str| prefix(Owner::policy(Direction::Ingress, name(end)).denied_by(10)).1;
        assert!(of("a").len() <= PREFIX_LEN_MAX && of("a") != of("b"));
    }
}

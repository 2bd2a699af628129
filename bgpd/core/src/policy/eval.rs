//! Runs chains of policies: pure functions of a route and the terms.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{
    Action, Community, Match, NextHopAction, PeerType, Policy, PrefixMatch, PrefixOperator, Source, Term,
    Verdict,
};
use crate::family::Family;
use crate::rib::attrs::Attrs;
use crate::rib::rewrite::Rewrite;
use crate::wire::as_path;

/// Policies in the order in which they are tried.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Chain(pub(crate) Vec<Arc<Policy>>);

impl Chain {
    /// Whether prefixes that are reached the same way may fare differently.
    pub(crate) fn looks_at_prefixes(&self) -> bool {
        let mut terms = self.0.iter().flat_map(|policy| &policy.terms);
        terms.any(|term| !term.matches.prefixes.is_empty() || term.matches.family.is_some())
    }
}

/// A route as policies see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'a> {
    pub(crate) prefix: IpNet,
    pub(crate) source: Source,
    /// Type of the session that the policy runs for; none towards the kernel.
    pub(crate) peer_type: Option<PeerType>,
    pub(crate) interface: Option<&'a str>,
    pub(crate) next_hop: Option<IpAddr>,
    pub(crate) metric: Option<u32>,
    pub(crate) attrs: &'a Attrs,
}

/// What the terms did to an accepted route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) local_pref: Option<u32>,
    pub(crate) med: Option<u32>,
    pub(crate) communities: Vec<Community>,
    pub(crate) prepend: Vec<u32>,
    pub(crate) next_hop: Option<NextHopAction>,
    pub(crate) metric: Option<u32>,
    pub(crate) preference: Option<u32>,
    pub(crate) device: Option<String>,
}

impl Outcome {
    /// The change of the attributes.
    pub(crate) fn rewrite(&self) -> Rewrite {
        Rewrite {
            prepend: self.prepend.clone(),
            local_pref: self.local_pref.into(),
            med: self.med.into(),
            communities: self.communities.clone(),
            ..Rewrite::default()
        }
    }
}

/// Tries the terms in order. `None` is a rejection; a route that no term decides is accepted.
pub(crate) fn evaluate(chain: &Chain, route: &Route<'_>) -> Option<Outcome> {
    let mut outcome = Outcome::default();
    for term in chain.0.iter().flat_map(|policy| &policy.terms) {
        if !matches(&term.matches, route, &outcome) {
            continue;
        }
        act(term, route, &mut outcome);
        match term.then {
            Verdict::Accept => return Some(outcome),
            Verdict::Reject => return None,
            Verdict::Next => {}
        }
    }
    Some(outcome)
}

/// The term that rejects a route, with its place in the chain, from 1 on; for people.
pub(crate) fn rejecting<'a>(chain: &'a Chain, route: &Route<'_>) -> Option<(usize, &'a Term)> {
    let mut outcome = Outcome::default();
    let terms = chain.0.iter().flat_map(|policy| &policy.terms);
    for (index, term) in terms.enumerate() {
        if !matches(&term.matches, route, &outcome) {
            continue;
        }
        act(term, route, &mut outcome);
        match term.then {
            Verdict::Accept => return None,
            Verdict::Reject => return Some((index + 1, term)),
            Verdict::Next => {}
        }
    }
    None
}

/// Criteria see what earlier terms did.
fn matches(criteria: &Match, route: &Route<'_>, outcome: &Outcome) -> bool {
    let family = criteria.family;
    let any_of = |empty: bool, found: bool| empty || found;
    family.is_none_or(|family| family == Family::of_prefix(&route.prefix))
        && any_of(
            criteria.prefixes.is_empty(),
            criteria.prefixes.iter().any(|want| holds(want, &route.prefix)),
        )
        && any_of(
            criteria.sources.is_empty(),
            criteria.sources.contains(&route.source),
        )
        && criteria
            .peer_type
            .is_none_or(|kind| route.peer_type == Some(kind))
        && any_of(
            criteria.interfaces.is_empty(),
            route.interface.is_some_and(|name| {
                let fits = |pattern: &String| glob(pattern.as_bytes(), name.as_bytes());
                criteria.interfaces.iter().any(fits)
            }),
        )
        && criteria
            .communities
            .iter()
            .all(|want| outcome.communities.contains(want) || route.attrs.has_community(*want))
        && path_starts_with(route.attrs, &outcome.prepend, &criteria.as_path_prefix)
        && criteria.local_pref.is_none_or(|range| {
            let value = outcome.local_pref.or(route.attrs.local_pref());
            value.is_some_and(|value| range.contains(value))
        })
        && criteria.metric.is_none_or(|range| {
            let value = outcome.metric.or(route.metric);
            value.is_some_and(|value| range.contains(value))
        })
        && any_of(
            criteria.next_hops.is_empty(),
            route
                .next_hop
                .is_some_and(|address| criteria.next_hops.iter().any(|net| net.contains(&address))),
        )
}

fn holds(want: &PrefixMatch, prefix: &IpNet) -> bool {
    let within = || {
        let length = prefix.prefix_len();
        want.cidr.contains(prefix)
            && want.min_length.is_none_or(|min| length >= min)
            && want.max_length.is_none_or(|max| length <= max)
    };
    match want.operator {
        PrefixOperator::Equal => want.cidr.trunc() == *prefix,
        PrefixOperator::NotEqual => want.cidr.trunc() != *prefix,
        PrefixOperator::In => within(),
        PrefixOperator::NotIn => !within(),
    }
}

fn path_starts_with(attrs: &Attrs, prepended: &[u32], want: &[u32]) -> bool {
    if want.is_empty() {
        return true;
    }
    let (front, rest) = want.split_at(want.len().min(prepended.len()));
    prepended.starts_with(front) && as_path::starts_with(attrs.as_path(), rest)
}

/// `*` is any run of characters, `?` any one.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where to go on after the last star, with one more character given to it.
    let mut retry: Option<(usize, usize)> = None;
    while let Some(octet) = name.get(from) {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, from));
                at += 1;
            }
            Some(want) if want == octet || *want == b'?' => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((star, taken)) = retry else { return false };
                retry = Some((star, taken + 1));
                (at, from) = (star, taken + 1);
            }
        }
    }
    pattern
        .get(at..)
        .unwrap_or_default()
        .iter()
        .all(|octet| *octet == b'*')
}

fn act(term: &Term, route: &Route<'_>, outcome: &mut Outcome) {
    for action in &term.actions {
        match action {
            Action::SetLocalPref(value) => outcome.local_pref = Some(*value),
            Action::LocalPrefFromMetric(scale) => {
                let metric = outcome.metric.or(route.metric).unwrap_or(scale.default);
                outcome.local_pref = Some(scale.base.saturating_sub(metric));
            }
            Action::MetricFromLocalPref(scale) => {
                let local_pref = outcome.local_pref.or(route.attrs.local_pref());
                let mirrored = local_pref.map(|value| scale.base.saturating_sub(value));
                outcome.metric = Some(mirrored.unwrap_or(scale.default));
            }
            Action::SetMed(value) => outcome.med = Some(*value),
            Action::AddCommunities(list) => {
                for community in list {
                    if !outcome.communities.contains(community) {
                        outcome.communities.push(*community);
                    }
                }
            }
            Action::PrependAsPath(numbers) => {
                outcome.prepend.splice(0..0, numbers.iter().copied());
            }
            Action::SetNextHop(next_hop) => outcome.next_hop = Some(*next_hop),
            Action::SetMetric(value) => outcome.metric = Some(*value),
            Action::SetPreference(value) => outcome.preference = Some(*value),
            Action::SetDevice(name) => outcome.device = Some(name.clone()),
        }
    }
}

#[cfg(test)]
mod tests;

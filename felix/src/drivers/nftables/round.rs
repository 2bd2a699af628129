//! One round: what is to be looked at is read, compared and written.
//!
//! First comes what nothing refers to yet: sets with their elements, chains, rules of new chains; much of it is written
//! in pieces. Then one transaction changes everything that packets meet and removes what is not wanted, so that a packet
//! meets either the old state or the new one.

use std::collections::{BTreeMap, BTreeSet};

use caracal_felix_core::render::nftables::{Hook, RenderedRule, TABLE, hash_of};
use caracal_linux::nftables::{Base, ChainInfo, Nftables, Place, RuleInfo, SetInfo, TableId, comment_of};

use super::elements::Changes;
use super::lower::family;
use super::wanted::{Wanted, WantedChain};
use super::writer::{Failure, Writer};

/// With more chains than this the whole table is listed at once.
const SINGLE_CHAINS_MAX: usize = 48;
/// Largest comparison of rules in which every order is tried.
const COMPARE_MAX: usize = 1 << 16;

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Everything.
    pub all: bool,
    /// Chains, by the kernel's names.
    pub chains: BTreeSet<String>,
    /// Sets and maps to be compared as a whole.
    pub sets: BTreeSet<String>,
    /// Changes of sets to be written without reading.
    pub elements: BTreeMap<String, Changes>,
}

impl Scope {
    /// True when nothing is to be looked at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.chains.is_empty() && self.sets.is_empty() && self.elements.is_empty()
    }
}

/// A chain as the kernel has it.
#[derive(Clone, Debug, Default)]
struct PresentChain {
    base: Option<Base>,
    /// Hash, if it has one, and handle of each rule.
    rules: Vec<(Option<String>, u64)>,
}

/// What the kernel has of what is looked at.
#[derive(Debug, Default)]
struct Present {
    has_table: bool,
    chains: BTreeMap<String, PresentChain>,
    sets: BTreeMap<String, SetInfo>,
}

/// Brings what is in scope to what is wanted. Gives the number of messages written.
///
/// # Errors
/// When the kernel refuses something; what changes packets' ways is then as it was.
pub fn run(kernel: &mut Nftables, scope: &Scope, wanted: &Wanted<'_>) -> Result<usize, Failure> {
    let table = TableId {
        family: family(wanted.version),
        name: TABLE,
    };
    let mut present = read(kernel, table, scope)?;
    let mut writer = Writer::new(kernel, table, wanted.version);
    let mut names = Names::of(scope, wanted, &present);
    if !is_compatible(&present, &names, wanted) {
        writer.keep_whole();
        writer.delete_table();
        present = Present::default();
        names = Names::of(
            &Scope {
                all: true,
                ..Scope::default()
            },
            wanted,
            &present,
        );
    }
    if !present.has_table {
        writer.add_table();
    }
    prepare(&mut writer, &names, &present, wanted)?;
    switch(&mut writer, scope, &names, &present, wanted)?;
    remove(&mut writer, &names, &present, wanted);
    writer.commit()?;
    Ok(writer.messages())
}

/// Removes the table of a family with all that is in it. True if it was there.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_table(kernel: &mut Nftables, table: TableId<'static>) -> Result<bool, Failure> {
    if !kernel.has_table(table)? {
        return Ok(false);
    }
    let mut writer = Writer::new(kernel, table, caracal_felix_core::desired::IpVersion::V4);
    writer.delete_table();
    writer.commit()?;
    Ok(true)
}

fn read(kernel: &mut Nftables, table: TableId<'_>, scope: &Scope) -> Result<Present, Failure> {
    let mut present = Present {
        has_table: true,
        ..Present::default()
    };
    let is_in_scope = |chain: &str| scope.all || scope.chains.contains(chain);
    if scope.all {
        present.has_table = kernel.has_table(table)?;
        if !present.has_table {
            return Ok(present);
        }
        present.sets = kernel
            .sets(table)?
            .into_iter()
            .map(|set| (set.name.clone(), set))
            .collect();
    } else {
        for name in &scope.sets {
            present
                .sets
                .extend(kernel.set(table, name)?.map(|set| (name.clone(), set)));
        }
    }
    let (chains, rules): (Vec<ChainInfo>, Vec<RuleInfo>) =
        if scope.all || scope.chains.len() > SINGLE_CHAINS_MAX {
            (kernel.chains(table)?, kernel.rules(table, None)?)
        } else {
            let (mut chains, mut rules) = (Vec::new(), Vec::new());
            for name in &scope.chains {
                chains.extend(kernel.chain(table, name)?);
                rules.extend(kernel.rules(table, Some(name))?);
            }
            (chains, rules)
        };
    for ChainInfo { name, base } in chains.into_iter().filter(|chain| is_in_scope(&chain.name)) {
        let rules = Vec::new();
        present.chains.insert(name, PresentChain { base, rules });
    }
    for rule in rules {
        if let Some(chain) = present.chains.get_mut(&rule.chain) {
            let hash = comment_of(&rule.userdata).and_then(hash_of).map(str::to_owned);
            chain.rules.push((hash, rule.handle));
        }
    }
    Ok(present)
}

/// The kernel's names of what is looked at, without what it refused.
#[derive(Debug)]
struct Names {
    chains: BTreeSet<String>,
    sets: BTreeSet<String>,
}

impl Names {
    fn of(scope: &Scope, wanted: &Wanted<'_>, present: &Present) -> Self {
        let (mut chains, mut sets) = if scope.all {
            (wanted.chain_names(), wanted.set_names())
        } else {
            (scope.chains.clone(), scope.sets.clone())
        };
        chains.extend(present.chains.keys().cloned());
        sets.extend(present.sets.keys().cloned());
        chains.retain(|name| !wanted.refused.chains.contains_key(name));
        sets.retain(|name| !wanted.refused.sets.contains_key(name));
        Self { chains, sets }
    }
}

fn base(hook: &Hook) -> Base {
    Base {
        kind: hook.kind.to_owned(),
        hook: hook.number,
        priority: hook.priority,
    }
}

/// What cannot be changed in place: the kind of a set, the hook of a chain.
fn is_compatible(present: &Present, names: &Names, wanted: &Wanted<'_>) -> bool {
    let is_same_set = |name: &String| match (present.sets.get(name), wanted.set(name)) {
        (Some(present), Some(wanted)) => present.matches(&wanted.spec()),
        _ => true,
    };
    let is_same_chain = |name: &String| {
        let Some(chain) = present.chains.get(name) else {
            return true;
        };
        let Some(hook) = wanted.hook(name) else {
            return true;
        };
        chain.base == hook.as_ref().map(base)
    };
    names.sets.iter().all(is_same_set) && names.chains.iter().all(is_same_chain)
}

/// What no packet meets yet.
fn prepare(
    writer: &mut Writer<'_>,
    names: &Names,
    present: &Present,
    wanted: &Wanted<'_>,
) -> Result<(), Failure> {
    for name in names.sets.iter().filter(|name| !present.sets.contains_key(*name)) {
        let Some(set) = wanted.set(name) else { continue };
        writer.add_set(name, &set.spec());
        if !set.is_map() {
            writer.add_elements(name, &set.elements());
            writer.may_commit()?;
        }
    }
    let is_new = |name: &&String| !present.chains.contains_key(*name);
    for name in names.chains.iter().filter(is_new) {
        if let Some(hook) = wanted.hook(name) {
            writer.add_chain(name, hook.as_ref().map(base).as_ref());
        }
    }
    for name in names.chains.iter().filter(is_new) {
        let Some(WantedChain { hook: None, rules }) = wanted.chain(name) else {
            continue;
        };
        for rule in &rules {
            writer.add_rule(name, Place::End, rule);
        }
        writer.may_commit()?;
    }
    Ok(())
}

/// What packets meet.
fn switch(
    writer: &mut Writer<'_>,
    scope: &Scope,
    names: &Names,
    present: &Present,
    wanted: &Wanted<'_>,
) -> Result<(), Failure> {
    for name in &names.sets {
        let is_present = present.sets.contains_key(name);
        let Some(set) = wanted.set(name).filter(|set| is_present || set.is_map()) else {
            continue;
        };
        let elements = set.elements();
        let found = if is_present {
            writer.present_elements(name)?
        } else {
            BTreeSet::new()
        };
        writer.delete_elements(name, found.difference(&elements));
        writer.add_elements(name, elements.difference(&found));
    }
    if !scope.all {
        for (name, changes) in &scope.elements {
            writer.delete_elements(name, &changes.removed);
            writer.add_elements(name, &changes.added);
        }
    }
    let none = PresentChain::default();
    for name in &names.chains {
        let chain = present.chains.get(name);
        let Some(wanted) = wanted
            .chain(name)
            .filter(|wanted| chain.is_some() || wanted.hook.is_some())
        else {
            continue;
        };
        rules(writer, name, &chain.unwrap_or(&none).rules, &wanted.rules);
    }
    Ok(())
}

/// What is not wanted, in an order in which nothing refers to what goes.
fn remove(writer: &mut Writer<'_>, names: &Names, present: &Present, wanted: &Wanted<'_>) {
    let chains = names
        .chains
        .iter()
        .filter(|name| present.chains.contains_key(*name));
    let chains: Vec<&String> = chains.filter(|name| wanted.hook(name).is_none()).collect();
    for name in &chains {
        writer.flush_chain(name);
    }
    let sets = names.sets.iter().filter(|name| present.sets.contains_key(*name));
    for name in sets.filter(|name| wanted.set(name).is_none()) {
        writer.delete_set(name);
    }
    for name in chains {
        writer.delete_chain(name);
    }
}

/// Rules that stay keep their counters; others go in before the next that stays.
fn rules(writer: &mut Writer<'_>, chain: &str, present: &[(Option<String>, u64)], wanted: &[RenderedRule]) {
    let kept = common(present, wanted);
    for ((_, handle), _) in present.iter().zip(&kept).filter(|(_, is_kept)| !**is_kept) {
        writer.delete_rule(chain, *handle);
    }
    let mut stay = present
        .iter()
        .zip(&kept)
        .filter(|(_, is_kept)| **is_kept)
        .map(|(rule, _)| rule)
        .peekable();
    for rule in wanted {
        match stay.peek() {
            Some((hash, _)) if hash.as_ref() == Some(&rule.hash) => {
                stay.next();
            }
            Some((_, next)) => writer.add_rule(chain, Place::Before(*next), rule),
            None => writer.add_rule(chain, Place::End, rule),
        }
    }
}

/// Which rules of the kernel stay: a longest common part of both lists, in order. Between the common beginning and the
/// common end none stay when there are very many.
fn common(present: &[(Option<String>, u64)], wanted: &[RenderedRule]) -> Vec<bool> {
    let is_same = |(present, wanted): &(&(Option<String>, u64), &RenderedRule)| {
        present.0.as_ref() == Some(&wanted.hash)
    };
    let first = present.iter().zip(wanted).take_while(is_same).count();
    let rest = present.len().min(wanted.len()) - first;
    let last = present
        .iter()
        .rev()
        .zip(wanted.iter().rev())
        .take_while(is_same)
        .take(rest)
        .count();
    let middle = (
        present.get(first..present.len() - last).unwrap_or_default(),
        wanted.get(first..wanted.len() - last).unwrap_or_default(),
    );
    let mut kept = vec![true; first];
    kept.extend(longest(middle.0, middle.1));
    kept.resize(present.len(), true);
    kept
}

fn longest(present: &[(Option<String>, u64)], wanted: &[RenderedRule]) -> Vec<bool> {
    let width = wanted.len() + 1;
    let mut kept = vec![false; present.len()];
    if present.is_empty() || wanted.is_empty() || present.len() * width > COMPARE_MAX {
        return kept;
    }
    // lengths[i * width + j]: longest common part of the rests from i and j on.
    let mut lengths = vec![0u32; (present.len() + 1) * width];
    let at = |lengths: &[u32], i: usize, j: usize| lengths.get(i * width + j).copied().unwrap_or(0);
    for (i, (hash, _)) in present.iter().enumerate().rev() {
        for (j, rule) in wanted.iter().enumerate().rev() {
            let length = if hash.as_ref() == Some(&rule.hash) {
                at(&lengths, i + 1, j + 1) + 1
            } else {
                at(&lengths, i + 1, j).max(at(&lengths, i, j + 1))
            };
            if let Some(place) = lengths.get_mut(i * width + j) {
                *place = length;
            }
        }
    }
    let (mut i, mut j) = (0, 0);
    while let (Some((hash, _)), Some(rule)) = (present.get(i), wanted.get(j)) {
        if hash.as_ref() == Some(&rule.hash) {
            if let Some(place) = kept.get_mut(i) {
                *place = true;
            }
            (i, j) = (i + 1, j + 1);
        } else if at(&lengths, i + 1, j) >= at(&lengths, i, j + 1) {
            i += 1;
        } else {
            j += 1;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use caracal_felix_core::rules::{Action, Rule};

    use super::*;

    fn check(present: &str, wanted: &str, kept: &str) {
        let rule = |hash: char| RenderedRule {
            hash: hash.to_string(),
            comment: String::new(),
            rule: Rule::new([], Action::Drop),
            text: String::new(),
        };
        let rules: Vec<RenderedRule> = wanted.chars().map(rule).collect();
        let found: Vec<(Option<String>, u64)> =
            present.chars().map(|hash| (Some(hash.to_string()), 0)).collect();
        let stays: String = present
            .chars()
            .zip(common(&found, &rules))
            .filter(|(_, stays)| *stays)
            .map(|(hash, _)| hash)
            .collect();
        assert_eq!(stays, kept, "{present} -> {wanted}");
    }

    #[test]
    fn as_many_rules_as_possible_stay() {
        check("abc", "abc", "abc");
        check("abc", "axc", "ac");
        check("abc", "xabc", "abc");
        check("abcd", "bxd", "bd");
        check("aab", "ab", "ab");
        check("abab", "ba", "ba");
        check("", "abc", "");
        check("abc", "", "");
        check("aaa", "aa", "aa");
    }
}

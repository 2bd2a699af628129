//! What is wanted of one family's table, by the kernel's names. Pure.

use std::collections::{BTreeMap, BTreeSet};

use caracal_felix_core::desired::{Desired, IpSet, IpVersion, KernelChain, Table, TableKey, TableName};
use caracal_felix_core::render::nftables::{self as render, Hook, RenderedRule};
use caracal_felix_core::rules::{Action, PortRange, Rule};
use caracal_linux::nftables::{Element, SetSpec};

use super::elements::{self, Written};
use crate::drivers::refused::DECIDING;

/// What the kernel refused although everything was as read just before, with its error numbers.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    /// Rules, by chain and hash.
    pub rules: BTreeMap<(String, String), i32>,
    /// Sets and maps that are left as they are.
    pub sets: BTreeMap<String, i32>,
    /// Chains that are left as they are.
    pub chains: BTreeMap<String, i32>,
}

/// An IP set that is wanted.
#[derive(Clone, Debug)]
pub struct IpSetState {
    /// Its name in the model.
    pub name: String,
    /// What of its members is written.
    pub written: Written,
}

/// What is wanted of one family's table.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The whole wanted state.
    pub desired: &'a Desired,
    /// The family.
    pub version: IpVersion,
    /// IP sets by the kernel's names.
    pub ip_sets: &'a BTreeMap<String, IpSetState>,
    /// What the kernel does not take.
    pub refused: &'a Refused,
}

/// A chain that is wanted.
#[derive(Clone, Debug)]
pub struct WantedChain {
    /// How it hangs in the path of packets, if it does.
    pub hook: Option<Hook>,
    /// Its rules.
    pub rules: Vec<RenderedRule>,
}

/// A set or map that is wanted.
#[derive(Clone, Copy, Debug)]
pub enum WantedSet<'a> {
    /// An IP set.
    Members(&'a IpSet, &'a Written),
    /// Port ranges.
    Ports(&'a [PortRange]),
    /// From interfaces to chains.
    Map(TableName, &'a BTreeMap<String, String>),
}

impl WantedSet<'_> {
    /// Its kind.
    #[must_use]
    pub fn spec(&self) -> SetSpec {
        match self {
            Self::Members(set, _) => elements::spec(set.kind, set.version),
            Self::Ports(_) => elements::ports_spec(),
            Self::Map(..) => elements::map_spec(),
        }
    }

    /// Its elements.
    #[must_use]
    pub fn elements(&self) -> BTreeSet<Element> {
        match self {
            Self::Members(set, written) => written.all(set),
            Self::Ports(ranges) => elements::of_ports(ranges),
            Self::Map(table, entries) => elements::of_map(*table, entries),
        }
    }

    /// Its elements refer to chains.
    #[must_use]
    pub const fn is_map(&self) -> bool {
        matches!(self, Self::Map(..))
    }
}

impl<'a> Wanted<'a> {
    fn tables(&self) -> impl Iterator<Item = (TableName, &'a Table)> {
        let Self { desired, version, .. } = *self;
        TableName::ALL
            .into_iter()
            .filter_map(move |name| Some((name, desired.tables.get(&TableKey { version, name })?)))
    }

    /// The layer that a name belongs to, and what the name is in the model.
    fn layer<'n>(&self, name: &'n str) -> Option<(TableName, &'a Table, &'n str)> {
        let (layer, rest) = name.split_once('-')?;
        let (name, table) = self.tables().find(|(name, _)| name.as_str() == layer)?;
        Some((name, table, rest))
    }

    /// A chain by the kernel's name; none when it is not wanted.
    #[must_use]
    pub fn chain(&self, name: &str) -> Option<WantedChain> {
        let (layer, table, rest) = self.layer(name)?;
        if let Some(chain) = table.kernel_chains.get(rest) {
            let KernelChain { inserted, appended } = chain;
            let rules: Vec<Rule> = inserted.iter().chain(appended).cloned().collect();
            let hook = render::hook(layer, rest).filter(|_| !rules.is_empty())?;
            let rules = self.rules(layer, rest, name, &rules);
            let hook = Some(hook);
            return Some(WantedChain { hook, rules });
        }
        let (model, rules) = table.chains.get_key_value(rest).or_else(|| {
            // A name that was too long is found by what it became.
            let mut chains = table.chains.iter();
            chains.find(|(chain, _)| chain.len() > rest.len() && render::chain_name(layer, chain) == name)
        })?;
        let rules = self.rules(layer, model, name, rules);
        Some(WantedChain { hook: None, rules })
    }

    /// The hook of a chain by the kernel's name, without rendering its rules; none when the chain is not wanted.
    #[must_use]
    pub fn hook(&self, name: &str) -> Option<Option<Hook>> {
        let (layer, table, rest) = self.layer(name)?;
        if let Some(KernelChain { inserted, appended }) = table.kernel_chains.get(rest) {
            let is_empty = inserted.is_empty() && appended.is_empty();
            return render::hook(layer, rest).filter(|_| !is_empty).map(Some);
        }
        let is_wanted = table.chains.contains_key(rest)
            || table
                .chains
                .keys()
                .any(|chain| chain.len() > rest.len() && render::chain_name(layer, chain) == name);
        is_wanted.then_some(None)
    }

    fn rules(&self, layer: TableName, model: &str, name: &str, rules: &[Rule]) -> Vec<RenderedRule> {
        let mut rendered = render::chain(layer, model, rules, self.version);
        if self.refused.rules.is_empty() {
            return rendered;
        }
        let is_refused = |rule: &RenderedRule| {
            self.refused
                .rules
                .contains_key(&(name.to_owned(), rule.hash.clone()))
        };
        if DECIDING.iter().any(|prefix| model.starts_with(prefix)) {
            for rule in rendered.iter_mut().filter(|rule| is_refused(rule)) {
                let text = format!("In place of rule {} that the kernel refused", rule.hash);
                let closing = Rule::new([], Action::Drop).comment(text);
                let closing = render::chain(layer, model, &[closing], self.version);
                if let Some(closing) = closing.into_iter().next() {
                    *rule = closing;
                }
            }
        }
        rendered.retain(|rule| !is_refused(rule));
        rendered
    }

    /// The kernel's names of all chains that are wanted.
    #[must_use]
    pub fn chain_names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (layer, table) in self.tables() {
            let hooked = table.kernel_chains.iter();
            let hooked =
                hooked.filter(|(_, chain)| !(chain.inserted.is_empty() && chain.appended.is_empty()));
            let chains = table.chains.keys().chain(hooked.map(|(name, _)| name));
            names.extend(chains.map(|chain| render::chain_name(layer, chain)));
        }
        names
    }

    /// A set or map by the kernel's name; none when it is not wanted.
    #[must_use]
    pub fn set(&self, name: &str) -> Option<WantedSet<'a>> {
        if let Some(IpSetState { name, written }) = self.ip_sets.get(name) {
            let set = self.desired.ip_sets.get(name)?;
            return Some(WantedSet::Members(set, written));
        }
        if let Some(ranges) = self.desired.port_sets.get(name) {
            return Some(WantedSet::Ports(ranges));
        }
        let (layer, table, rest) = self.layer(name)?;
        let (_, entries) = table.maps.get_key_value(rest).or_else(|| {
            table
                .maps
                .iter()
                .find(|(map, _)| render::map_name(layer, map) == name)
        })?;
        Some(WantedSet::Map(layer, entries))
    }

    /// The kernel's names of all sets and maps that are wanted.
    #[must_use]
    pub fn set_names(&self) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = self
            .ip_sets
            .keys()
            .chain(self.desired.port_sets.keys())
            .cloned()
            .collect();
        for (layer, table) in self.tables() {
            names.extend(table.maps.keys().map(|map| render::map_name(layer, map)));
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_place_of_a_refused_rule_a_deciding_chain_is_closed_and_another_goes_without() {
        let rules = vec![
            Rule::new(
                [],
                Action::Log {
                    prefix: "x".to_owned(),
                },
            ),
            Rule::new([], Action::Return),
        ];
        let version = IpVersion::V4;
        let name = TableName::Filter;
        let mut desired = Desired::default();
        let table = desired.tables.entry(TableKey { version, name }).or_default();
        for chain in ["cali-pi-knp/a/b", "cali-FORWARD"] {
            table.chains.insert(chain.to_owned(), rules.clone());
        }
        let mut refused = Refused::default();
        let chains = ["filter-cali-pi-knp/a/b", "filter-cali-FORWARD"];
        let ip_sets = BTreeMap::new();
        let of = |refused: &Refused, chain: &str| {
            let desired = &desired;
            let ip_sets = &ip_sets;
            let wanted = Wanted {
                desired,
                version,
                ip_sets,
                refused,
            };
            let rules = wanted.chain(chain).unwrap().rules;
            rules.into_iter().map(|rule| rule.rule.action).collect::<Vec<_>>()
        };
        for chain in chains {
            let wanted = Wanted {
                desired: &desired,
                version,
                ip_sets: &ip_sets,
                refused: &refused,
            };
            let hash = wanted.chain(chain).unwrap().rules.remove(0).hash;
            refused.rules.insert((chain.to_owned(), hash), 22);
        }
        assert_eq!(of(&refused, chains[0]), [Action::Drop, Action::Return]);
        assert_eq!(of(&refused, chains[1]), [Action::Return]);
        assert_eq!(of(&Refused::default(), chains[0]).len(), 2);
    }

    #[test]
    fn names_too_long_for_the_kernel_are_found_by_what_they_became() {
        let version = IpVersion::V6;
        let name = TableName::Mangle;
        let mut desired = Desired::default();
        let table = desired.tables.entry(TableKey { version, name }).or_default();
        let long = format!("cali-pi-{}", "x".repeat(248));
        table
            .chains
            .insert(long.clone(), vec![Rule::new([], Action::Drop)]);
        let wanted = Wanted {
            desired: &desired,
            version,
            ip_sets: &BTreeMap::new(),
            refused: &Refused::default(),
        };
        let names = wanted.chain_names();
        let kernel = names.first().unwrap();
        assert!(kernel.len() <= 255 && *kernel != format!("mangle-{long}"));
        assert_eq!(wanted.chain(kernel).unwrap().rules.len(), 1);
        assert_eq!(wanted.hook(kernel), Some(None));
        assert_eq!(wanted.hook("mangle-cali-pi-y"), None);
    }
}

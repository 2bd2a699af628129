//! Which selectors select which labelled items, kept up to date change by change.
//!
//! Items inherit labels from parents (profiles): own labels win, then the first parent that has one. A selector whose
//! conjunction demands a label (and a value) is looked at only for items that have it. Source: Calico
//! `felix/labelindex`; design after `felix/design/calc-graph.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use caracal_api::meta;
use caracal_api::selector::{Labels, Node, Selector};

/// Labels of an item or parent.
pub type LabelMap = BTreeMap<String, String>;

/// A selector began or ceased to select an item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change<K, S> {
    /// The item.
    pub item: K,
    /// The selector.
    pub selector: S,
    /// Whether it selects the item.
    pub is_match: bool,
}

#[derive(Debug)]
struct Item<S> {
    labels: LabelMap,
    parents: Vec<String>,
    matched: BTreeSet<S>,
}

#[derive(Debug)]
struct Parent<K> {
    labels: LabelMap,
    items: BTreeSet<K>,
}

#[derive(Debug)]
struct Entry<K> {
    selector: Selector,
    demand: Demand,
    matched: BTreeSet<K>,
}

/// What a selector cannot do without.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Demand {
    Value(String, String),
    Label(String),
    Nothing,
}

/// The index. `K` names items, `S` selectors.
#[derive(Debug)]
pub struct LabelIndex<K, S> {
    items: BTreeMap<K, Item<S>>,
    parents: BTreeMap<String, Parent<K>>,
    selectors: BTreeMap<S, Entry<K>>,
    by_value: BTreeMap<String, BTreeMap<String, BTreeSet<S>>>,
    by_label: BTreeMap<String, BTreeSet<S>>,
    undemanding: BTreeSet<S>,
    holders: BTreeMap<String, BTreeMap<String, BTreeSet<K>>>,
}

impl<K, S> Default for LabelIndex<K, S> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            parents: BTreeMap::new(),
            selectors: BTreeMap::new(),
            by_value: BTreeMap::new(),
            by_label: BTreeMap::new(),
            undemanding: BTreeSet::new(),
            holders: BTreeMap::new(),
        }
    }
}

/// Own labels over those of the parents.
struct Effective<'a, K> {
    own: &'a LabelMap,
    names: &'a [String],
    parents: &'a BTreeMap<String, Parent<K>>,
}

impl<K> Labels for Effective<'_, K> {
    fn label(&self, name: &str) -> Option<&str> {
        let inherited = || {
            self.names
                .iter()
                .find_map(|parent| self.parents.get(parent)?.labels.get(name))
        };
        self.own.get(name).or_else(inherited).map(String::as_str)
    }
}

impl<K: Ord + Clone + Debug, S: Ord + Clone + Debug> LabelIndex<K, S> {
    /// The selectors that select an item, as one set; none for an item that is not there.
    pub fn matched(&self, item: &K) -> Option<&BTreeSet<S>> {
        self.items.get(item).map(|item| &item.matched)
    }

    /// The selectors that select an item.
    pub fn selectors_of(&self, item: &K) -> impl Iterator<Item = &S> {
        self.items.get(item).into_iter().flat_map(|item| &item.matched)
    }

    /// The items that a selector selects.
    pub fn items_of(&self, selector: &S) -> impl Iterator<Item = &K> {
        self.selectors
            .get(selector)
            .into_iter()
            .flat_map(|entry| &entry.matched)
    }

    /// True when a selector, of the index or not, selects an item.
    pub fn is_selected(&self, item: &K, selector: &Selector) -> bool {
        self.items.get(item).is_some_and(|item| {
            selector.matches(&Effective {
                own: &item.labels,
                names: &item.parents,
                parents: &self.parents,
            })
        })
    }

    /// What a selector selects that need not be of the index.
    pub fn selected(&self, selector: &Selector) -> BTreeSet<K> {
        let candidates = self.candidates(&demand(selector.root()));
        let selected = candidates.into_iter();
        selected.filter(|item| self.is_selected(item, selector)).collect()
    }

    /// The parents of an item, in order.
    pub fn parents_of(&self, item: &K) -> &[String] {
        self.items.get(item).map_or(&[], |item| item.parents.as_slice())
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True when there are no items.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds or changes an item.
    pub fn set_item(&mut self, key: &K, labels: LabelMap, parents: Vec<String>) -> Vec<Change<K, S>> {
        let is_same = |item: &Item<S>| item.labels == labels && item.parents == parents;
        if self.items.get(key).is_some_and(is_same) {
            return Vec::new();
        }
        let matched = self.take_item(key);
        for parent in &parents {
            self.parent(parent).items.insert(key.clone());
        }
        for (label, value) in &labels {
            let values = self.holders.entry(label.clone()).or_default();
            values.entry(value.clone()).or_default().insert(key.clone());
        }
        self.items.insert(
            key.clone(),
            Item {
                labels,
                parents,
                matched,
            },
        );
        self.rescan(key)
    }

    /// Removes an item; what selected it ceases to.
    pub fn remove_item(&mut self, key: &K) -> Vec<Change<K, S>> {
        let matched = self.take_item(key);
        for selector in &matched {
            if let Some(entry) = self.selectors.get_mut(selector) {
                entry.matched.remove(key);
            }
        }
        let change = |selector| Change {
            item: key.clone(),
            selector,
            is_match: false,
        };
        matched.into_iter().map(change).collect()
    }

    /// Sets the labels of a parent; none when it is gone.
    pub fn set_parent(&mut self, name: &str, labels: LabelMap) -> Vec<Change<K, S>> {
        let parent = self.parent(name);
        if parent.labels == labels {
            return Vec::new();
        }
        parent.labels = labels;
        let items: Vec<K> = parent.items.iter().cloned().collect();
        self.drop_idle_parent(name);
        items.iter().flat_map(|item| self.rescan(item)).collect()
    }

    /// Adds or changes a selector.
    pub fn set_selector(&mut self, id: &S, selector: Selector) -> Vec<Change<K, S>> {
        if self
            .selectors
            .get(id)
            .is_some_and(|entry| entry.selector == selector)
        {
            return Vec::new();
        }
        let before = self.take_selector(id);
        let demand = demand(selector.root());
        match &demand {
            Demand::Value(label, value) => {
                let values = self.by_value.entry(label.clone()).or_default();
                values.entry(value.clone()).or_default().insert(id.clone());
            }
            Demand::Label(label) => {
                self.by_label.entry(label.clone()).or_default().insert(id.clone());
            }
            Demand::Nothing => {
                self.undemanding.insert(id.clone());
            }
        }
        let mut candidates = self.candidates(&demand);
        candidates.extend(before.iter().cloned());
        self.selectors.insert(
            id.clone(),
            Entry {
                selector,
                demand,
                matched: before,
            },
        );
        let changes = candidates.iter().filter_map(|item| self.check(item, id));
        let changes: Vec<_> = changes.collect();
        for change in &changes {
            self.note(change);
        }
        changes
    }

    /// Removes a selector; it ceases to select anything.
    pub fn remove_selector(&mut self, id: &S) -> Vec<Change<K, S>> {
        let matched = self.take_selector(id);
        for item in &matched {
            if let Some(item) = self.items.get_mut(item) {
                item.matched.remove(id);
            }
        }
        let change = |item| Change {
            item,
            selector: id.clone(),
            is_match: false,
        };
        matched.into_iter().map(change).collect()
    }

    fn parent(&mut self, name: &str) -> &mut Parent<K> {
        self.parents.entry(name.to_owned()).or_insert_with(|| Parent {
            labels: LabelMap::new(),
            items: BTreeSet::new(),
        })
    }

    fn drop_idle_parent(&mut self, name: &str) {
        let is_idle = |parent: &Parent<K>| parent.items.is_empty() && parent.labels.is_empty();
        if self.parents.get(name).is_some_and(is_idle) {
            self.parents.remove(name);
        }
    }

    /// Takes an item out of all indexes but the selectors' matches, and returns what selected it.
    fn take_item(&mut self, key: &K) -> BTreeSet<S> {
        let Some(item) = self.items.remove(key) else {
            return BTreeSet::new();
        };
        for parent in &item.parents {
            if let Some(parent) = self.parents.get_mut(parent) {
                parent.items.remove(key);
            }
            self.drop_idle_parent(parent);
        }
        for (label, value) in &item.labels {
            remove_nested(&mut self.holders, label, value, key);
        }
        item.matched
    }

    fn take_selector(&mut self, id: &S) -> BTreeSet<K> {
        let Some(entry) = self.selectors.remove(id) else {
            return BTreeSet::new();
        };
        match &entry.demand {
            Demand::Value(label, value) => remove_nested(&mut self.by_value, label, value, id),
            Demand::Label(label) => {
                if let Some(ids) = self.by_label.get_mut(label) {
                    ids.remove(id);
                    if ids.is_empty() {
                        self.by_label.remove(label);
                    }
                }
            }
            Demand::Nothing => {
                self.undemanding.remove(id);
            }
        }
        entry.matched
    }

    /// Items that a selector with this demand may select.
    fn candidates(&self, demand: &Demand) -> BTreeSet<K> {
        let (label, value) = match demand {
            Demand::Value(label, value) => (label, Some(value)),
            Demand::Label(label) => (label, None),
            Demand::Nothing => return self.items.keys().cloned().collect(),
        };
        let fits = |own: &str| value.is_none_or(|value| own == value);
        let own = self.holders.get(label).into_iter().flat_map(|values| {
            let values = values.iter().filter(|(own, _)| fits(own));
            values.flat_map(|(_, items)| items)
        });
        let inheriting = self.parents.values().filter(|parent| {
            let own = parent.labels.get(label);
            own.is_some_and(|own| fits(own))
        });
        let inherited = inheriting.flat_map(|parent| &parent.items);
        own.chain(inherited).cloned().collect()
    }

    /// Looks at all selectors that may select an item or did.
    fn rescan(&mut self, key: &K) -> Vec<Change<K, S>> {
        let Some(item) = self.items.get(key) else {
            return Vec::new();
        };
        let inherited = item
            .parents
            .iter()
            .filter_map(|name| self.parents.get(name))
            .flat_map(|parent| &parent.labels);
        let mut candidates: BTreeSet<S> = item.matched.union(&self.undemanding).cloned().collect();
        for (label, value) in item.labels.iter().chain(inherited) {
            let by_value = self.by_value.get(label).and_then(|values| values.get(value));
            candidates.extend(by_value.into_iter().flatten().cloned());
            candidates.extend(self.by_label.get(label).into_iter().flatten().cloned());
        }
        let changes = candidates.iter().filter_map(|id| self.check(key, id));
        let changes: Vec<_> = changes.collect();
        for change in &changes {
            self.note(change);
        }
        changes
    }

    fn check(&self, key: &K, id: &S) -> Option<Change<K, S>> {
        let entry = self.selectors.get(id)?;
        let is_match = self.items.get(key).is_some_and(|item| {
            entry.selector.matches(&Effective {
                own: &item.labels,
                names: &item.parents,
                parents: &self.parents,
            })
        });
        (is_match != entry.matched.contains(key)).then(|| Change {
            item: key.clone(),
            selector: id.clone(),
            is_match,
        })
    }

    fn note(&mut self, change: &Change<K, S>) {
        let Change {
            item,
            selector,
            is_match,
        } = change;
        if let Some(entry) = self.selectors.get_mut(selector) {
            if *is_match {
                entry.matched.insert(item.clone());
            } else {
                entry.matched.remove(item);
            }
        }
        if let Some(item) = self.items.get_mut(item) {
            if *is_match {
                item.matched.insert(selector.clone());
            } else {
                item.matched.remove(selector);
            }
        }
    }
}

fn remove_nested<T: Ord>(
    index: &mut BTreeMap<String, BTreeMap<String, BTreeSet<T>>>,
    label: &str,
    value: &str,
    member: &T,
) {
    let Some(values) = index.get_mut(label) else {
        return;
    };
    if let Some(members) = values.get_mut(value) {
        members.remove(member);
        if members.is_empty() {
            values.remove(value);
        }
    }
    if values.is_empty() {
        index.remove(label);
    }
}

/// The most telling demand of a conjunction: a value before a mere label, and neither the label that all pods have
/// nor, if there is another, the namespace.
fn demand(root: &Node) -> Demand {
    let mut demands = Vec::new();
    collect_demands(root, &mut demands);
    let rank = |demand: &Demand| match demand {
        Demand::Value(label, _) if label == meta::LABEL_ORCHESTRATOR => 3,
        Demand::Value(label, _) if label == meta::LABEL_NAMESPACE => 1,
        Demand::Value(..) => 0,
        Demand::Label(_) => 2,
        Demand::Nothing => 4,
    };
    demands.into_iter().min_by_key(rank).unwrap_or(Demand::Nothing)
}

fn collect_demands(node: &Node, demands: &mut Vec<Demand>) {
    match node {
        Node::And(operands) => operands
            .iter()
            .for_each(|operand| collect_demands(operand, demands)),
        Node::Equal(label, value) => demands.push(Demand::Value(label.clone(), value.clone())),
        Node::In(label, values) if values.len() == 1 => {
            demands.extend(
                values
                    .first()
                    .map(|value| Demand::Value(label.clone(), value.clone())),
            );
        }
        Node::Has(label)
        | Node::Contains(label, _)
        | Node::StartsWith(label, _)
        | Node::EndsWith(label, _)
        | Node::In(label, _) => demands.push(Demand::Label(label.clone())),
        Node::All | Node::Global | Node::NotEqual(..) | Node::NotIn(..) | Node::Not(_) | Node::Or(_) => {}
    }
}

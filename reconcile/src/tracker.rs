//! The pending difference between what is wanted and what is there, kept up to date with every change of either side.

use std::collections::{BTreeMap, BTreeSet};

/// Two views of one keyed structure, and the keys in which they differ.
#[derive(Clone, Debug)]
pub struct DeltaTracker<K, V> {
    desired: BTreeMap<K, V>,
    observed: BTreeMap<K, V>,
    /// Keys that are wanted, and absent or different.
    updates: BTreeSet<K>,
    /// Keys that are there and not wanted.
    deletions: BTreeSet<K>,
}

impl<K: Ord + Clone, V: PartialEq + Clone> Default for DeltaTracker<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Clone, V: PartialEq + Clone> DeltaTracker<K, V> {
    /// Nothing wanted, nothing there.
    pub fn new() -> Self {
        Self {
            desired: BTreeMap::new(),
            observed: BTreeMap::new(),
            updates: BTreeSet::new(),
            deletions: BTreeSet::new(),
        }
    }

    /// Wants a key to have a value.
    pub fn set_desired(&mut self, key: K, value: V) {
        self.desired.insert(key.clone(), value);
        self.compare(key);
    }

    /// Wants a key to be absent.
    pub fn remove_desired(&mut self, key: &K) {
        if self.desired.remove(key).is_some() {
            self.compare(key.clone());
        }
    }

    /// Wants exactly these keys and values.
    pub fn replace_desired(&mut self, desired: BTreeMap<K, V>) {
        self.desired = desired;
        self.compare_all();
    }

    /// Notes that a key has a value in the real world (after an update, or learned from a notification).
    pub fn set_observed(&mut self, key: K, value: V) {
        self.observed.insert(key.clone(), value);
        self.compare(key);
    }

    /// Notes that a key is absent in the real world.
    pub fn remove_observed(&mut self, key: &K) {
        if self.observed.remove(key).is_some() {
            self.compare(key.clone());
        }
    }

    /// Notes that exactly these keys are in the real world (after a full listing).
    pub fn replace_observed(&mut self, observed: BTreeMap<K, V>) {
        self.observed = observed;
        self.compare_all();
    }

    /// Notes that the desired value of a key is in the real world.
    pub fn mark_updated(&mut self, key: &K) {
        if let Some(value) = self.desired.get(key) {
            self.observed.insert(key.clone(), value.clone());
            self.updates.remove(key);
            self.deletions.remove(key);
        }
    }

    /// What is wanted.
    pub fn desired(&self) -> &BTreeMap<K, V> {
        &self.desired
    }

    /// What is known to be there.
    pub fn observed(&self) -> &BTreeMap<K, V> {
        &self.observed
    }

    /// Keys to create or change, with their wanted values, in key order.
    pub fn pending_updates(&self) -> impl Iterator<Item = (&K, &V)> {
        self.updates
            .iter()
            .filter_map(|key| Some((key, self.desired.get(key)?)))
    }

    /// Keys to delete, with the values they have, in key order.
    pub fn pending_deletions(&self) -> impl Iterator<Item = (&K, &V)> {
        self.deletions
            .iter()
            .filter_map(|key| Some((key, self.observed.get(key)?)))
    }

    /// Both sides agree.
    pub fn in_sync(&self) -> bool {
        self.updates.is_empty() && self.deletions.is_empty()
    }

    /// Number of keys in which the sides differ.
    pub fn pending_len(&self) -> usize {
        self.updates.len() + self.deletions.len()
    }

    fn compare(&mut self, key: K) {
        self.updates.remove(&key);
        self.deletions.remove(&key);
        match (self.desired.get(&key), self.observed.get(&key)) {
            (Some(desired), observed) if observed != Some(desired) => {
                self.updates.insert(key);
            }
            (None, Some(_)) => {
                self.deletions.insert(key);
            }
            _ => {}
        }
    }

    fn compare_all(&mut self) {
        self.updates = self
            .desired
            .iter()
            .filter(|(key, value)| self.observed.get(key) != Some(value))
            .map(|(key, _)| key.clone())
            .collect();
        self.deletions = self
            .observed
            .keys()
            .filter(|key| !self.desired.contains_key(key))
            .cloned()
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_becomes_wanted_again_is_no_longer_deleted() {
        let mut tracker = DeltaTracker::new();
        tracker.set_observed("a", 1);
        assert_eq!(tracker.pending_deletions().collect::<Vec<_>>(), [(&"a", &1)]);
        tracker.set_desired("a", 1);
        assert!(tracker.in_sync());
        tracker.set_desired("a", 2);
        assert_eq!(tracker.pending_updates().collect::<Vec<_>>(), [(&"a", &2)]);
        tracker.mark_updated(&"a");
        assert!(tracker.in_sync());
        tracker.remove_desired(&"a");
        assert_eq!(tracker.pending_deletions().collect::<Vec<_>>(), [(&"a", &2)]);
        tracker.remove_observed(&"a");
        assert!(tracker.in_sync());
    }
}

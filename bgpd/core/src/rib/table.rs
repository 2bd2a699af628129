//! All paths of all prefixes, and which prefixes have to be decided anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::decision::{Rules, Selection, select};
use super::next_hop::NextHops;
use super::path::{Key, Path};
use crate::input::Resolution;
use crate::output::{KernelRoute, Output};

/// What is known about one prefix.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) paths: SmallVec<[Path; 1]>,
    pub(crate) selection: Option<Selection>,
    /// What the kernel was told.
    pub(crate) kernel: Option<Box<KernelRoute>>,
}

impl Entry {
    pub(crate) fn best(&self) -> Option<&Path> {
        self.paths.get(self.selection.as_ref()?.best)
    }
}

/// What becomes of a path that [`Table::visit`] shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    /// It is as it was.
    Keep,
    /// It changed.
    Changed,
    /// It goes.
    Remove,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: BTreeMap<IpNet, Entry>,
    dirty: BTreeSet<IpNet>,
    paths: usize,
    next_hops: NextHops,
}

impl Table {
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&IpNet, &Entry)> {
        self.entries.iter()
    }

    pub(crate) fn get(&self, prefix: &IpNet) -> Option<&Entry> {
        self.entries.get(prefix)
    }

    pub(crate) fn path_count(&self) -> usize {
        self.paths
    }

    pub(crate) fn prefix_count(&self) -> usize {
        self.entries
            .values()
            .filter(|entry| !entry.paths.is_empty())
            .count()
    }

    pub(crate) fn is_reachable(&self, path: &Path) -> bool {
        self.next_hops.cost(path).is_some()
    }

    pub(crate) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    pub(crate) fn take_dirty(&mut self) -> BTreeSet<IpNet> {
        std::mem::take(&mut self.dirty)
    }

    pub(crate) fn mark_all(&mut self) {
        self.dirty.extend(self.entries.keys().copied());
    }

    /// Puts a path in place of the one with the same key and identifier, which is returned.
    pub(crate) fn insert(&mut self, prefix: IpNet, path: Path, out: &mut VecDeque<Output>) -> Option<Path> {
        self.dirty.insert(prefix);
        self.next_hops.add(self.next_hops.address_of(&path), out);
        let paths = &mut self.entries.entry(prefix).or_default().paths;
        let key = path.key();
        let same = |old: &&mut Path| old.key() == key && old.path_id == path.path_id;
        if let Some(old) = paths.iter_mut().find(same) {
            let old = std::mem::replace(old, path);
            self.next_hops.remove(self.next_hops.address_of(&old), out);
            return Some(old);
        }
        paths.push(path);
        self.paths += 1;
        None
    }

    /// Takes a path out and returns it.
    pub(crate) fn remove(
        &mut self,
        prefix: &IpNet,
        key: Key,
        path_id: u32,
        out: &mut VecDeque<Output>,
    ) -> Option<Path> {
        let paths = &mut self.entries.get_mut(prefix)?.paths;
        let at = paths
            .iter()
            .position(|path| path.key() == key && path.path_id == path_id)?;
        let path = paths.remove(at);
        self.paths -= 1;
        self.dirty.insert(*prefix);
        self.next_hops.remove(self.next_hops.address_of(&path), out);
        Some(path)
    }

    /// Shows every path with this key, which may change anything in it but where it is from.
    pub(crate) fn visit(
        &mut self,
        key: Key,
        out: &mut VecDeque<Output>,
        mut each: impl FnMut(&IpNet, &mut Path) -> Visit,
    ) {
        for (prefix, entry) in &mut self.entries {
            let before = entry.paths.len();
            let mut changed = false;
            let next_hops = &mut self.next_hops;
            entry.paths.retain(|path| {
                if path.key() != key {
                    return true;
                }
                let old = next_hops.address_of(path);
                match each(prefix, path) {
                    Visit::Keep => true,
                    Visit::Changed => {
                        changed = true;
                        next_hops.add(next_hops.address_of(path), out);
                        next_hops.remove(old, out);
                        true
                    }
                    Visit::Remove => {
                        next_hops.remove(old, out);
                        false
                    }
                }
            });
            self.paths -= before - entry.paths.len();
            if changed || before != entry.paths.len() {
                self.dirty.insert(*prefix);
            }
        }
    }

    /// Runs the decision process on a prefix and returns its entry. One without paths is gone after `forget`.
    pub(crate) fn decide(&mut self, prefix: &IpNet, rules: Rules) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(prefix)?;
        let next_hops = &self.next_hops;
        entry.selection = select(&entry.paths, rules, |path| next_hops.cost(path));
        Some(entry)
    }

    /// Drops the entry of a prefix without paths.
    pub(crate) fn forget(&mut self, prefix: &IpNet) {
        if self
            .entries
            .get(prefix)
            .is_some_and(|entry| entry.paths.is_empty())
        {
            self.entries.remove(prefix);
        }
    }

    /// Takes a report on a next hop.
    pub(crate) fn report_next_hop(&mut self, address: IpAddr, resolution: Option<Resolution>) {
        if self.next_hops.report(address, resolution) {
            let uses = |path: &Path| path.next_hop.is_some_and(|hop| hop.address == address);
            let users = self
                .entries
                .iter()
                .filter(|(_, entry)| entry.paths.iter().any(uses));
            self.dirty.extend(users.map(|(prefix, _)| *prefix));
        }
    }

    /// Turns next-hop tracking on or off.
    pub(crate) fn track_next_hops(&mut self, enabled: bool, out: &mut VecDeque<Output>) {
        if self.next_hops.enable(enabled, out) {
            for path in self.entries.values().flat_map(|entry| &entry.paths) {
                self.next_hops.add(self.next_hops.address_of(path), out);
            }
            self.mark_all();
        }
    }
}

//! All paths of all prefixes, and which prefixes have to be decided anew.
//!
//! A prefix has a number while anything is known of it or a peer is still to be told that it went; a hash table of
//! numbers finds it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use ipnet::IpNet;

use super::decision::{Rules, Selection, select};
use super::entry::{CHOSEN, DIRTY, Entry, FREE, Pages, PrefixId};
use super::index::Index;
use super::next_hop::NextHops;
use super::numbers::Numbers;
use super::path::{Path, Paths};
use super::way::{Key, PeerId, Tag, Way};
use crate::family::Family;
use crate::input::Resolution;
use crate::output::{KernelRoute, Output};

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

/// Paths of one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Received, IPv4 and IPv6.
    pub(crate) received: [usize; 2],
    /// Those that the import policy accepted.
    pub(crate) accepted: usize,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: Pages,
    free: Vec<PrefixId>,
    index: Index,
    /// Prefixes to be decided, with what was chosen before they changed.
    dirty: Vec<Dirty>,
    prefixes: usize,
    paths: usize,
    counts: HashMap<PeerId, Counts>,
    kernel_routes: Numbers<KernelRoute>,
    tags: Numbers<Tag>,
    next_hops: NextHops,
}

/// A prefix to be decided, with what was chosen before.
type Dirty = (PrefixId, Option<Arc<Way>>);

impl Table {
    /// Numbers given out so far, used or free: walks run to here.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Entries from a number on, in the order of their numbers.
    pub(crate) fn entries_from(&self, from: usize) -> impl Iterator<Item = (PrefixId, &Entry)> {
        self.entries.iter_from(from)
    }

    /// Entries in the order of their prefixes, for people.
    pub(crate) fn sorted(&self) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.entries_from(0).map(|(_, entry)| entry).collect();
        entries.sort_by_key(|entry| entry.prefix);
        entries
    }

    pub(crate) fn entry(&self, id: PrefixId) -> Option<&Entry> {
        self.entries.get(id)
    }

    fn find(&self, prefix: &IpNet) -> Option<PrefixId> {
        let of = |number| Some(self.entry(PrefixId::of(number))?.prefix);
        self.index.find(prefix, of).map(PrefixId::of)
    }

    /// What is known of a prefix.
    pub(crate) fn lookup(&self, prefix: &IpNet) -> Option<&Entry> {
        self.entry(self.find(prefix)?)
    }

    fn find_or_add(&mut self, prefix: IpNet) -> Option<PrefixId> {
        if let Some(id) = self.find(&prefix) {
            return Some(id);
        }
        let entry = Entry {
            prefix,
            state: 0,
            number: 0,
            paths: Paths::None,
        };
        let id = match self.free.pop() {
            Some(id) => {
                *self.entries.get_mut(id)? = entry;
                id
            }
            None => self.entries.push(entry)?,
        };
        let of = |number| Some(self.entries.get(PrefixId::of(number))?.prefix);
        self.index.insert(&prefix, id.number(), of);
        Some(id)
    }

    pub(crate) fn path_count(&self) -> usize {
        self.paths
    }

    /// Prefixes with at least one path.
    pub(crate) fn prefix_count(&self) -> usize {
        self.prefixes
    }

    pub(crate) fn counts(&self, peer: PeerId) -> Counts {
        self.counts.get(&peer).copied().unwrap_or_default()
    }

    /// Forgets the counts of a peer that is gone with all its paths.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.counts.remove(&peer);
    }

    pub(crate) fn is_reachable(&self, path: &Path) -> bool {
        self.next_hops.cost(&path.used).is_some()
    }

    pub(crate) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Prefixes to be decided, in the order in which they changed, with what was chosen before.
    pub(crate) fn take_dirty(&mut self) -> Vec<Dirty> {
        std::mem::take(&mut self.dirty)
    }

    /// What was chosen when all changes so far had been decided.
    pub(crate) fn choices(&self) -> impl Iterator<Item = (&IpNet, &Arc<Way>)> {
        let settled = self.entries_from(0).map(|(_, entry)| (entry, entry.chosen()));
        let dirty = self.dirty.iter();
        let dirty = dirty.filter_map(|(id, before)| Some((self.entry(*id)?, before.as_ref())));
        settled
            .chain(dirty)
            .filter_map(|(entry, way)| Some((&entry.prefix, way?)))
    }

    /// Marks a prefix to be decided, before any of its paths changes.
    fn mark(&mut self, id: PrefixId) {
        let before = self.entry(id).and_then(Entry::chosen).cloned();
        self.mark_after(id, before);
    }

    /// The same when its paths have changed already.
    fn mark_after(&mut self, id: PrefixId, before: Option<Arc<Way>>) {
        if self.entries.get_mut(id).is_some_and(Entry::mark) {
            self.dirty.push((id, before));
        }
    }

    pub(crate) fn mark_all(&mut self) {
        self.mark_where(|_| true);
    }

    fn mark_where(&mut self, wanted: impl Fn(&Entry) -> bool) {
        let ids = self.entries_from(0).filter(|(_, entry)| wanted(entry));
        let ids: Vec<PrefixId> = ids.map(|(id, _)| id).collect();
        for id in ids {
            self.mark(id);
        }
    }

    fn count(counts: &mut HashMap<PeerId, Counts>, path: &Path, family: Family, add: bool) {
        let Some(peer) = path.used.peer() else { return };
        let counts = counts.entry(peer.id).or_default();
        let [v4, v6] = &mut counts.received;
        let received = if family == Family::Ipv4 { v4 } else { v6 };
        let accepted = usize::from(path.is_usable());
        if add {
            *received += 1;
            counts.accepted += accepted;
        } else {
            *received -= 1;
            counts.accepted -= accepted;
        }
    }

    /// Puts a path in place of the one with the same key and identifier; true when there was none.
    pub(crate) fn insert(&mut self, prefix: IpNet, path: Path, out: &mut VecDeque<Output>) -> bool {
        let Some(id) = self.find_or_add(prefix) else {
            return false;
        };
        let family = Family::of_prefix(&prefix);
        self.mark(id);
        self.next_hops.add(self.next_hops.address_of(&path.used), out);
        Self::count(&mut self.counts, &path, family, true);
        let Some(entry) = self.entries.get_mut(id) else {
            return false;
        };
        let key = path.key();
        let same = |old: &&mut Path| old.path_id == path.path_id && old.key() == key;
        if let Some(old) = entry.paths.as_mut_slice().iter_mut().find(same) {
            let old = std::mem::replace(old, path);
            Self::count(&mut self.counts, &old, family, false);
            self.next_hops.remove(self.next_hops.address_of(&old.used), out);
            return false;
        }
        self.prefixes += usize::from(entry.paths.is_empty());
        entry.paths.push(path);
        self.paths += 1;
        true
    }

    /// Takes a path out, if it is there.
    pub(crate) fn remove(&mut self, prefix: &IpNet, key: Key, path_id: u32, out: &mut VecDeque<Output>) {
        if let Some(id) = self.find(prefix) {
            let matches = |path: &mut Path| path.path_id == path_id && path.key() == key;
            self.take_where(id, matches, out);
        }
    }

    fn take_where(&mut self, id: PrefixId, goes: impl FnMut(&mut Path) -> bool, out: &mut VecDeque<Output>) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        let family = Family::of_prefix(&entry.prefix);
        let had_any = !entry.paths.is_empty();
        let before = entry.chosen().cloned();
        let (counts, next_hops) = (&mut self.counts, &mut self.next_hops);
        let mut taken = 0;
        entry.paths.take_where(goes, |path| {
            taken += 1;
            Self::count(counts, &path, family, false);
            next_hops.remove(next_hops.address_of(&path.used), out);
        });
        self.prefixes -= usize::from(had_any && entry.paths.is_empty());
        self.paths -= taken;
        if taken > 0 {
            self.mark_after(id, before);
        }
    }

    /// Shows every path with this key, which may change what is used of it and whether it is stale.
    pub(crate) fn visit(
        &mut self,
        key: Key,
        out: &mut VecDeque<Output>,
        mut each: impl FnMut(&IpNet, &mut Path) -> Visit,
    ) {
        let has = |entry: &Entry| entry.paths.as_slice().iter().any(|path| path.key() == key);
        let ids = self.entries_from(0).filter(|(_, entry)| has(entry));
        let ids: Vec<PrefixId> = ids.map(|(id, _)| id).collect();
        for id in ids {
            let mut changed: Vec<(Path, Path)> = Vec::new();
            let Some(entry) = self.entry(id) else { continue };
            let (prefix, chosen) = (entry.prefix, entry.chosen().cloned());
            let goes = |path: &mut Path| {
                if path.key() != key {
                    return false;
                }
                let before = path.clone();
                match each(&prefix, path) {
                    Visit::Keep => false,
                    Visit::Changed => {
                        changed.push((before, path.clone()));
                        false
                    }
                    Visit::Remove => true,
                }
            };
            self.take_where(id, goes, out);
            let family = Family::of_prefix(&prefix);
            if !changed.is_empty() {
                self.mark_after(id, chosen);
            }
            for (before, after) in &changed {
                self.next_hops.add(self.next_hops.address_of(&after.used), out);
                self.next_hops
                    .remove(self.next_hops.address_of(&before.used), out);
                Self::count(&mut self.counts, after, family, true);
                Self::count(&mut self.counts, before, family, false);
            }
        }
    }

    /// Runs the decision process on a prefix that was marked. Returns its entry, with the new selection.
    pub(crate) fn decide(&self, id: PrefixId, rules: Rules) -> Option<(&Entry, Option<Selection>)> {
        let entry = self.entry(id)?;
        Some((entry, self.selection(entry, rules)))
    }

    /// The same for status: nothing is changed.
    pub(crate) fn selection(&self, entry: &Entry, rules: Rules) -> Option<Selection> {
        select(entry.paths.as_slice(), rules, |way| self.next_hops.cost(way))
    }

    /// Notes the choice for a prefix, by the place of its path, and what the kernel has for it, or where the choice of
    /// before came from when there is none now. True when the kernel is to be told.
    pub(crate) fn choose(
        &mut self,
        id: PrefixId,
        best: Option<usize>,
        route: Option<&KernelRoute>,
        before: Option<Tag>,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(id) else {
            return false;
        };
        let old = if entry.is(CHOSEN) { entry.number } else { 0 };
        let new = self.kernel_routes.number(route);
        entry.set(DIRTY, false);
        entry.set(CHOSEN, best.is_some());
        entry.number = match best {
            Some(best) => {
                entry.paths.lead_with(best);
                new
            }
            None => self.tags.number(before.as_ref()),
        };
        old != new
    }

    /// Where the route to a prefix comes from, or came from while peers are still to be told that it went.
    pub(crate) fn tag(&self, id: PrefixId) -> Option<Tag> {
        let entry = self.entry(id)?;
        let gone = || self.tags.value(entry.number).copied();
        match entry.chosen() {
            Some(way) => Some(way.tag()),
            None if entry.is(CHOSEN) => None,
            None => gone(),
        }
    }

    /// Frees the number of a prefix of which nothing is left; false when there is something. The caller knows that
    /// nobody waits for it.
    pub(crate) fn release(&mut self, id: PrefixId) -> bool {
        let Some(entry) = self.entries.get_mut(id) else {
            return false;
        };
        if entry.state != 0 || !entry.paths.is_empty() {
            return false;
        }
        entry.set(FREE, true);
        let prefix = entry.prefix;
        self.index.remove(&prefix, id.number());
        self.free.push(id);
        if self.free.len() == self.len() {
            self.entries = Pages::default();
            self.free = Vec::new();
            self.index.clear();
            self.kernel_routes.clear();
            self.tags.clear();
        }
        true
    }

    /// Takes a report on a next hop.
    pub(crate) fn report_next_hop(&mut self, address: IpAddr, resolution: Option<Resolution>) {
        if self.next_hops.report(address, resolution) {
            let uses = |path: &Path| path.used.next_hop().is_some_and(|hop| hop.address == address);
            self.mark_where(|entry| entry.paths.as_slice().iter().any(uses));
        }
    }

    /// Whether there is a next hop that nothing is known about yet.
    pub(crate) fn awaits_next_hops(&self) -> bool {
        self.next_hops.awaits_answers()
    }

    /// Turns next-hop tracking on or off.
    pub(crate) fn track_next_hops(&mut self, enabled: bool, out: &mut VecDeque<Output>) {
        if self.next_hops.enable(enabled, out) {
            let entries = self.entries.iter_from(0);
            for path in entries.flat_map(|(_, entry)| entry.paths.as_slice()) {
                self.next_hops.add(self.next_hops.address_of(&path.used), out);
            }
            self.mark_all();
        }
    }
}

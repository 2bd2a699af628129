//! All paths of all prefixes, and which prefixes have to be decided anew.
//!
//! A prefix has a number while anything is known of it or a peer is still to be told that it went. Entries lie in pages
//! by that number; a hash table of numbers finds them.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use ipnet::IpNet;

use super::decision::{Rules, Selection, select};
use super::kernel_routes::{KernelRouteId, KernelRoutes};
use super::next_hop::NextHops;
use super::path::{Path, Paths};
use super::way::{Key, PeerId, Tag, Way};
use crate::family::Family;
use crate::input::Resolution;
use crate::output::{KernelRoute, Output};

/// The number of a prefix in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PrefixId(u32);

impl PrefixId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    #[cfg(test)]
    pub(crate) fn of(number: u32) -> Self {
        Self(number)
    }
}

/// What is known about one prefix.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) prefix: IpNet,
    is_dirty: bool,
    /// The number stands for no prefix.
    is_free: bool,
    pub(crate) paths: Paths,
    /// What the decision process chose last.
    pub(crate) chosen: Option<Arc<Way>>,
    /// What the kernel was told.
    kernel: KernelRouteId,
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

/// Paths of one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Received, IPv4 and IPv6.
    pub(crate) received: [usize; 2],
    /// Those that the import policy accepted.
    pub(crate) accepted: usize,
}

/// Entries of one page: 48 KiB.
const PAGE: usize = 1024;

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pages: Vec<Vec<Entry>>,
    free: Vec<PrefixId>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    dirty: Vec<PrefixId>,
    /// Where the last path of a prefix without one was from.
    gone: HashMap<PrefixId, Tag>,
    prefixes: usize,
    paths: usize,
    counts: HashMap<PeerId, Counts>,
    kernel_routes: KernelRoutes,
    next_hops: NextHops,
}

impl Table {
    /// Numbers given out so far, used or free: walks run to here.
    pub(crate) fn len(&self) -> usize {
        let last = self.pages.last().map_or(0, Vec::len);
        self.pages.len().saturating_sub(1) * PAGE + last
    }

    /// Entries from a number on, in the order of their numbers.
    pub(crate) fn entries_from(&self, from: usize) -> impl Iterator<Item = (PrefixId, &Entry)> {
        let pages = self.pages.iter().enumerate().skip(from / PAGE);
        let entries = pages.flat_map(move |(page, entries)| {
            let skip = if page == from / PAGE { from % PAGE } else { 0 };
            let numbered = entries.iter().enumerate().skip(skip);
            numbered.map(move |(at, entry)| (page * PAGE + at, entry))
        });
        entries.filter_map(|(at, entry)| {
            let id = PrefixId(u32::try_from(at).ok()?);
            (!entry.is_free).then_some((id, entry))
        })
    }

    /// Entries in the order of their prefixes, for people.
    pub(crate) fn sorted(&self) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.entries_from(0).map(|(_, entry)| entry).collect();
        entries.sort_by_key(|entry| entry.prefix);
        entries
    }

    pub(crate) fn entry(&self, id: PrefixId) -> Option<&Entry> {
        self.pages.get(id.index() / PAGE)?.get(id.index() % PAGE)
    }

    fn entry_mut(&mut self, id: PrefixId) -> Option<&mut Entry> {
        self.pages.get_mut(id.index() / PAGE)?.get_mut(id.index() % PAGE)
    }

    fn find(&self, prefix: &IpNet) -> Option<PrefixId> {
        let hash = self.hasher.hash_one(prefix);
        let is_it = |id: &u32| {
            self.entry(PrefixId(*id))
                .is_some_and(|entry| entry.prefix == *prefix)
        };
        self.index.find(hash, is_it).map(|id| PrefixId(*id))
    }

    fn find_or_add(&mut self, prefix: IpNet) -> Option<PrefixId> {
        if let Some(id) = self.find(&prefix) {
            return Some(id);
        }
        let entry = Entry {
            prefix,
            is_dirty: false,
            is_free: false,
            paths: Paths::None,
            chosen: None,
            kernel: KernelRouteId::default(),
        };
        let id = match self.free.pop() {
            Some(id) => {
                *self.entry_mut(id)? = entry;
                id
            }
            None => {
                let id = PrefixId(u32::try_from(self.len()).ok()?);
                if self.pages.last().is_none_or(|page| page.len() == PAGE) {
                    self.pages.push(Vec::with_capacity(PAGE));
                }
                self.pages.last_mut()?.push(entry);
                id
            }
        };
        let (pages, hasher) = (&self.pages, &self.hasher);
        let rehash = |id: &u32| {
            let at = *id as usize;
            let entry = pages.get(at / PAGE).and_then(|page| page.get(at % PAGE));
            entry.map_or(0, |entry| hasher.hash_one(entry.prefix))
        };
        self.index.insert_unique(hasher.hash_one(prefix), id.0, rehash);
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

    /// Prefixes to be decided, in the order in which they changed.
    pub(crate) fn take_dirty(&mut self) -> Vec<PrefixId> {
        std::mem::take(&mut self.dirty)
    }

    fn mark(&mut self, id: PrefixId) {
        if let Some(entry) = self.entry_mut(id)
            && !std::mem::replace(&mut entry.is_dirty, true)
        {
            self.dirty.push(id);
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
        let (page, at) = (id.index() / PAGE, id.index() % PAGE);
        let Some(entry) = self.pages.get_mut(page).and_then(|page| page.get_mut(at)) else {
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

    fn take_where(
        &mut self,
        id: PrefixId,
        goes: impl FnMut(&mut Path) -> bool,
        out: &mut VecDeque<Output>,
    ) -> bool {
        let (page, at) = (id.index() / PAGE, id.index() % PAGE);
        let Some(entry) = self.pages.get_mut(page).and_then(|page| page.get_mut(at)) else {
            return false;
        };
        let family = Family::of_prefix(&entry.prefix);
        let had_any = !entry.paths.is_empty();
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
            self.mark(id);
        }
        taken > 0
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
            let Some(prefix) = self.entry(id).map(|entry| entry.prefix) else {
                continue;
            };
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
            for (before, after) in &changed {
                self.mark(id);
                self.next_hops.add(self.next_hops.address_of(&after.used), out);
                self.next_hops
                    .remove(self.next_hops.address_of(&before.used), out);
                Self::count(&mut self.counts, after, family, true);
                Self::count(&mut self.counts, before, family, false);
            }
        }
    }

    /// Runs the decision process on a prefix that was marked. Returns its entry, in which `chosen` is still the choice
    /// of before, with the new selection.
    pub(crate) fn decide(&mut self, id: PrefixId, rules: Rules) -> Option<(&Entry, Option<Selection>)> {
        let (page, at) = (id.index() / PAGE, id.index() % PAGE);
        let entry = self.pages.get_mut(page)?.get_mut(at)?;
        entry.is_dirty = false;
        let next_hops = &self.next_hops;
        let selection = select(entry.paths.as_slice(), rules, |way| next_hops.cost(way));
        Some((entry, selection))
    }

    /// The same for status: nothing is changed.
    pub(crate) fn selection(&self, entry: &Entry, rules: Rules) -> Option<Selection> {
        select(entry.paths.as_slice(), rules, |way| self.next_hops.cost(way))
    }

    /// Notes what the kernel has for a prefix; true when it is to be told.
    pub(crate) fn tell_kernel(&mut self, id: PrefixId, route: Option<&KernelRoute>) -> bool {
        let number = self.kernel_routes.number(route);
        let entry = self.entry_mut(id);
        entry.is_some_and(|entry| std::mem::replace(&mut entry.kernel, number) != number)
    }

    /// Notes the choice for a prefix, and where the one before came from when there is none now.
    pub(crate) fn choose(&mut self, id: PrefixId, chosen: Option<Arc<Way>>) {
        let is_none = chosen.is_none();
        let Some(entry) = self.entry_mut(id) else { return };
        let before = std::mem::replace(&mut entry.chosen, chosen);
        if is_none {
            if let Some(before) = before {
                self.gone.insert(id, before.tag());
            }
        } else {
            self.gone.remove(&id);
        }
    }

    /// Where the route to a prefix comes from, or came from while peers are still to be told that it went.
    pub(crate) fn tag(&self, id: PrefixId) -> Option<Tag> {
        let chosen = self.entry(id).and_then(|entry| entry.chosen.as_ref());
        chosen
            .map(|way| way.tag())
            .or_else(|| self.gone.get(&id).copied())
    }

    /// Frees the number of a prefix of which nothing is left; false when there is something. The caller knows that
    /// nobody waits for it.
    pub(crate) fn release(&mut self, id: PrefixId) -> bool {
        let Some(entry) = self.entry_mut(id) else {
            return false;
        };
        if entry.is_free || entry.is_dirty || entry.chosen.is_some() || !entry.paths.is_empty() {
            return false;
        }
        entry.is_free = true;
        let prefix = entry.prefix;
        let hash = self.hasher.hash_one(prefix);
        if let Ok(found) = self.index.find_entry(hash, |known| *known == id.0) {
            found.remove();
        }
        self.gone.remove(&id);
        self.free.push(id);
        if self.free.len() == self.len() {
            self.pages = Vec::new();
            self.free = Vec::new();
            self.index = HashTable::new();
            self.kernel_routes.clear();
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

    /// Turns next-hop tracking on or off.
    pub(crate) fn track_next_hops(&mut self, enabled: bool, out: &mut VecDeque<Output>) {
        if self.next_hops.enable(enabled, out) {
            let entries = self.pages.iter().flatten();
            for path in entries.flat_map(|entry| entry.paths.as_slice()) {
                self.next_hops.add(self.next_hops.address_of(&path.used), out);
            }
            self.mark_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A bigger entry costs megabytes for each octet.
    #[test]
    fn entry_takes_six_words() {
        assert_eq!(size_of::<Entry>(), 48);
    }
}

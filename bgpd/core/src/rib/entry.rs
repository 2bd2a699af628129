//! What is known about one prefix, and where that is kept: in pages, by the number of the prefix.

use std::sync::Arc;

use ipnet::IpNet;

use super::path::Paths;
use super::way::Way;

/// The number of a prefix in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PrefixId(u32);

/// What the change log has room for in a word.
const PREFIXES_MAX: u32 = (1 << 30) - 1;

impl PrefixId {
    /// The prefix at a place, if there can be so many.
    fn at(place: usize) -> Option<Self> {
        let number = u32::try_from(place).ok()?;
        (number < PREFIXES_MAX).then_some(Self(number))
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn number(self) -> u32 {
        self.0
    }

    pub(crate) fn of(number: u32) -> Self {
        Self(number)
    }
}

/// What is known about one prefix.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) prefix: IpNet,
    /// Bits: see below.
    pub(super) state: u8,
    /// With a choice: of the route that the kernel was told. Without: of where the last choice was from, while peers
    /// are still to be told that it went.
    pub(super) number: u32,
    /// What the decision process chose comes first.
    pub(crate) paths: Paths,
}

/// The prefix is to be decided. What was chosen before is in the list of these.
pub(super) const DIRTY: u8 = 1;
/// The number stands for no prefix.
pub(super) const FREE: u8 = 2;
/// Something was chosen.
pub(super) const CHOSEN: u8 = 4;

impl Entry {
    pub(super) fn is(&self, bit: u8) -> bool {
        self.state & bit != 0
    }

    pub(super) fn set(&mut self, bit: u8, on: bool) {
        self.state = if on { self.state | bit } else { self.state & !bit };
    }

    fn first(&self) -> Option<&Arc<Way>> {
        self.paths.as_slice().first().map(|path| &path.used)
    }

    /// What the decision process chose; nothing while the prefix is to be decided.
    pub(crate) fn chosen(&self) -> Option<&Arc<Way>> {
        let is_settled = self.is(CHOSEN) && !self.is(DIRTY);
        self.first().filter(|_| is_settled)
    }

    /// Marks it to be decided; false when it was marked already.
    pub(super) fn mark(&mut self) -> bool {
        let is_new = !self.is(DIRTY);
        self.set(DIRTY, true);
        is_new
    }
}

/// Entries of one page: 40 KiB.
const PAGE: usize = 1024;

/// All entries.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pages: Vec<Vec<Entry>>,
}

impl Pages {
    /// Numbers given out so far, used or free: walks run to here.
    pub(crate) fn len(&self) -> usize {
        let last = self.pages.last().map_or(0, Vec::len);
        self.pages.len().saturating_sub(1) * PAGE + last
    }

    pub(crate) fn get(&self, id: PrefixId) -> Option<&Entry> {
        self.pages.get(id.index() / PAGE)?.get(id.index() % PAGE)
    }

    pub(crate) fn get_mut(&mut self, id: PrefixId) -> Option<&mut Entry> {
        self.pages.get_mut(id.index() / PAGE)?.get_mut(id.index() % PAGE)
    }

    /// Appends an entry, if there can be so many.
    pub(crate) fn push(&mut self, entry: Entry) -> Option<PrefixId> {
        let id = PrefixId::at(self.len())?;
        if self.pages.last().is_none_or(|page| page.len() == PAGE) {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        self.pages.last_mut()?.push(entry);
        Some(id)
    }

    /// Entries that stand for a prefix, from a number on, in the order of their numbers.
    pub(crate) fn iter_from(&self, from: usize) -> impl Iterator<Item = (PrefixId, &Entry)> {
        let pages = self.pages.iter().enumerate().skip(from / PAGE);
        let entries = pages.flat_map(move |(page, entries)| {
            let skip = if page == from / PAGE { from % PAGE } else { 0 };
            let numbered = entries.iter().enumerate().skip(skip);
            numbered.map(move |(at, entry)| (page * PAGE + at, entry))
        });
        entries.filter_map(|(at, entry)| (!entry.is(FREE)).then_some((PrefixId::at(at)?, entry)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A bigger entry costs megabytes for each octet.
    #[test]
    fn entry_takes_five_words() {
        assert_eq!(size_of::<Entry>(), 40);
    }
}

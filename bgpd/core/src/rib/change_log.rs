//! What a group of peers is still to be told, in order: each prefix once, at its latest change.
//!
//! A reader is a position. Those at the end have been told all; one that does not read its socket falls behind and costs
//! nothing but the entries that it has before it, which are never more than the prefixes of the table.

use std::collections::VecDeque;

use super::entry::PrefixId;

/// A place in the log. Larger is later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(u64);

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) id: PrefixId,
    /// The route comes from somebody else than before: a peer that it does not go to may still have the one before.
    pub(crate) moved: bool,
    /// Those who have not read of it may have been told of a route before.
    pub(crate) had: bool,
}

/// A change in the log, or where a later one of the same prefix took its place: in one word, as a full table that comes
/// at once is in the log whole.
#[derive(Clone, Copy, Debug)]
struct Slot(u32);

impl Slot {
    const DEAD: Self = Self(u32::MAX);

    /// The number of the prefix in the high bits; the table gives none out that does not fit.
    fn of(change: Change) -> Self {
        let flags = u32::from(change.moved) << 1 | u32::from(change.had);
        Self(change.id.number() << 2 | flags)
    }

    fn change(self) -> Option<Change> {
        (self.0 != Self::DEAD.0).then(|| Change {
            id: PrefixId::of(self.0 >> 2),
            moved: self.0 & 2 != 0,
            had: self.0 & 1 != 0,
        })
    }

    fn take(&mut self) -> Option<Change> {
        std::mem::replace(self, Self::DEAD).change()
    }
}

/// The log.
#[derive(Debug, Default)]
pub(crate) struct ChangeLog {
    /// Position of the first entry.
    base: u64,
    entries: VecDeque<Slot>,
    /// By prefix number: the low half of the position of its entry, if it has one.
    latest: Vec<u32>,
    /// Entries that are not dead.
    live: usize,
    /// Entries from here on nobody has acted on.
    unread: u64,
}

/// The low half of a position. A log is never as long as that half counts.
fn low(position: u64) -> u32 {
    (position & u64::from(u32::MAX)) as u32
}

/// Dead entries that a log may have besides as many as it has live ones.
const SLACK: usize = 4096;

impl ChangeLog {
    /// Where the next entry will be.
    pub(crate) fn end(&self) -> Position {
        Position(self.base + self.entries.len() as u64)
    }

    fn offset(&self, id: PrefixId) -> Option<usize> {
        let position = self.latest.get(id.index())?;
        let offset = position.wrapping_sub(low(self.base)) as usize;
        // What is left from an entry that is gone may point anywhere.
        let found = self.entries.get(offset)?.change()?;
        (found.id == id).then_some(offset)
    }

    /// Whether somebody may still have to read of this prefix.
    pub(crate) fn contains(&self, id: PrefixId) -> bool {
        self.offset(id).is_some()
    }

    /// Appends a change, in place of an earlier one of the same prefix. A route that came and went before anybody was
    /// told leaves nothing; `gone` says that there is no route now.
    pub(crate) fn append(&mut self, mut change: Change, gone: bool) {
        if let Some(offset) = self.offset(change.id)
            && let Some(earlier) = self.entries.get_mut(offset).and_then(Slot::take)
        {
            self.live -= 1;
            change.moved |= earlier.moved;
            let is_unread = self.base + offset as u64 >= self.unread;
            change.had = earlier.had || change.had && !is_unread;
            if gone && !change.had {
                return;
            }
        }
        let at = change.id.index();
        if self.latest.len() <= at {
            self.latest.resize(at + 1, 0);
        }
        let position = low(self.end().0);
        self.entries.push_back(Slot::of(change));
        self.live += 1;
        if let Some(latest) = self.latest.get_mut(at) {
            *latest = position;
        }
    }

    /// Notes that a peer is told of all up to here, or of the table as it is now when here is the end.
    pub(crate) fn note_told(&mut self, position: Position) {
        self.unread = self.unread.max(position.0);
    }

    /// Up to `max` changes from a position on, and the position after them.
    pub(crate) fn read(&self, from: Position, max: usize) -> (Vec<Change>, Position) {
        let start = usize::try_from(from.0.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let mut changes = Vec::new();
        let mut next = start;
        for entry in self.entries.range(start.min(self.entries.len())..) {
            if changes.len() == max {
                break;
            }
            next += 1;
            changes.extend(entry.change());
        }
        (changes, Position(self.base + next as u64))
    }

    /// Drops what every reader has read. Returns the prefixes that nobody waits for any more.
    pub(crate) fn trim(&mut self, slowest: Position) -> Vec<PrefixId> {
        let mut told = Vec::new();
        while self.base < slowest.0
            && let Some(entry) = self.entries.pop_front()
        {
            self.base += 1;
            if let Some(change) = entry.change() {
                self.live -= 1;
                told.push(change.id);
            }
        }
        told
    }

    /// Whether there is more to gain by [`ChangeLog::compact`] than it costs.
    pub(crate) fn is_sparse(&self) -> bool {
        self.entries.len() > 2 * self.live + SLACK
    }

    /// Removes the dead entries, and moves each reader to where it is then.
    pub(crate) fn compact<'a>(&mut self, readers: impl Iterator<Item = &'a mut Position>) {
        let mut kept_before = Vec::with_capacity(self.entries.len() + 1);
        let mut kept = 0_u64;
        for entry in &self.entries {
            kept_before.push(kept);
            kept += u64::from(entry.change().is_some());
        }
        kept_before.push(kept);
        for reader in readers {
            let offset = usize::try_from(reader.0.saturating_sub(self.base)).unwrap_or(usize::MAX);
            reader.0 = self.base + kept_before.get(offset).copied().unwrap_or(kept);
        }
        let offset = usize::try_from(self.unread.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.unread = self.base + kept_before.get(offset).copied().unwrap_or(kept);
        self.entries.retain(|entry| entry.change().is_some());
        let changes = self.entries.iter().filter_map(|entry| entry.change());
        for (position, change) in (self.base..).zip(changes) {
            if let Some(latest) = self.latest.get_mut(change.id.index()) {
                *latest = low(position);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn change(id: u32, moved: bool) -> Change {
        Change {
            id: PrefixId::of(id),
            moved,
            had: true,
        }
    }

    #[test]
    fn later_change_takes_the_place_of_an_earlier_one() {
        let mut log = ChangeLog::default();
        let start = log.end();
        for (id, moved) in [(1, true), (2, false), (1, false)] {
            log.append(change(id, moved), false);
        }
        let (changes, next) = log.read(start, 10);
        assert_eq!(changes, [change(2, false), change(1, true)]);
        assert_eq!(next, log.end());
        assert_eq!(log.trim(next).len(), 2);
        assert!(!log.contains(PrefixId::of(1)));
    }

    #[test]
    fn route_that_nobody_heard_of_goes_without_a_word() {
        let mut log = ChangeLog::default();
        let start = log.end();
        let new = Change {
            had: false,
            ..change(1, false)
        };
        log.append(new, false);
        log.append(change(1, false), true);
        assert_eq!(log.read(start, 10).0, []);
        assert!(!log.contains(PrefixId::of(1)));
        log.append(new, false);
        log.note_told(log.end());
        log.append(change(1, false), true);
        assert_eq!(log.read(start, 10).0, [change(1, false)]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append(u32),
        Read(usize, usize),
        Trim,
        Compact,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..6_u32).prop_map(Step::Append),
            3 => (0..3_usize, 1..4_usize).prop_map(|(reader, max)| Step::Read(reader, max)),
            1 => Just(Step::Trim),
            1 => Just(Step::Compact),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        // A reader that reads on hears of each prefix after its last change, and of nothing twice without one.
        #[test]
        fn readers_hear_of_each_change(steps in steps()) {
            let mut log = ChangeLog::default();
            let mut readers = [log.end(); 3];
            let mut owed: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Append(id) => {
                        log.append(change(id, false), false);
                        for reader in 0..3 {
                            owed.entry(reader).or_default().insert(id as usize);
                        }
                    }
                    Step::Read(reader, max) => {
                        let (changes, next) = log.read(readers[reader], max);
                        readers[reader] = next;
                        for change in changes {
                            prop_assert!(owed.entry(reader).or_default().remove(&change.id.index()));
                        }
                    }
                    Step::Trim => {
                        for id in log.trim(*readers.iter().min().unwrap()) {
                            prop_assert!(owed.values().all(|ids| !ids.contains(&id.index())));
                        }
                    }
                    Step::Compact => log.compact(readers.iter_mut()),
                }
            }
            for (reader, from) in readers.iter().enumerate() {
                let (changes, next) = log.read(*from, 100);
                prop_assert_eq!(next, log.end());
                let heard: BTreeSet<usize> = changes.iter().map(|change| change.id.index()).collect();
                prop_assert_eq!(heard, owed.remove(&reader).unwrap_or_default());
            }
        }
    }
}

//! The recent changes of one kind, bounded in number and in bytes; watches read from here and own no buffer.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::object::{Attributes, Object};

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

impl ChangeKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One change, with the line that tells watches of it.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) kind: ChangeKind,
    /// The new state; of a deletion the last one, at the revision of the deletion.
    pub(crate) object: Arc<Object>,
    /// What selectors saw before.
    pub(crate) before: Option<Attributes>,
    pub(crate) line: Bytes,
}

/// How much is remembered of each kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HistoryLimits {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Changes up to this revision are not here any more.
    forgotten: u64,
}

impl History {
    pub(crate) fn starting_at(revision: u64) -> Self {
        Self {
            forgotten: revision,
            ..Self::default()
        }
    }

    pub(crate) fn push(&mut self, change: Arc<Change>, limits: HistoryLimits) {
        self.bytes += change.line.len();
        self.changes.push_back(change);
        while self.changes.len() > limits.events || self.bytes > limits.bytes && self.changes.len() > 1 {
            let Some(oldest) = self.changes.pop_front() else {
                return;
            };
            self.bytes -= oldest.line.len();
            self.forgotten = oldest.object.revision;
        }
    }

    /// At most `limit` changes after `revision`, oldest first; `None` when some of them are forgotten.
    pub(crate) fn after(&self, revision: u64, limit: usize) -> Option<Vec<Arc<Change>>> {
        if revision < self.forgotten {
            return None;
        }
        let start = self
            .changes
            .partition_point(|change| change.object.revision <= revision);
        Some(self.changes.range(start..).take(limit).cloned().collect())
    }

    pub(crate) fn oldest(&self) -> u64 {
        self.forgotten
    }
}

//! The end of cooling down: released addresses go to the tail of the free list.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Block, seconds};

/// Longest cooldown that can be configured. A mark further in the future than this was written by a clock that was
/// set back since.
pub(crate) const COOLDOWN_SECONDS_MAX: i64 = 1200;

impl Block {
    /// Lets a cooldown that would begin in the far future begin now: a clock was set back.
    fn redate(&mut self, now: Timestamp) {
        let latest = now.as_second().saturating_add(COOLDOWN_SECONDS_MAX);
        for attribute in &mut self.spec.attributes {
            let at = attribute
                .released_at
                .as_deref()
                .and_then(|at| at.parse::<Timestamp>().ok());
            if at.is_some_and(|at| at.as_second() > latest) {
                attribute.released_at = Some(seconds(now));
            }
        }
    }

    /// Frees what was released more than the cooldown ago (marks have whole seconds), and drops attributes that nothing refers to.
    pub fn collect(&mut self, cooldown_seconds: i32, now: Timestamp) {
        self.redate(now);
        let limit = now.as_second().saturating_sub(i64::from(cooldown_seconds));
        for ordinal in (0..).take(self.spec.allocations.len()) {
            let over = self
                .held(ordinal)
                .and_then(|held| held.released_at.as_deref())
                // A mark that cannot be read would keep its address for ever.
                .is_some_and(|at| {
                    at.parse::<Timestamp>()
                        .map_or(true, |at| cooldown_seconds <= 0 || at.as_second() < limit)
                });
            if over {
                self.set(ordinal, None);
                self.spec.unallocated.push(ordinal);
                self.spec
                    .sequence_number_for_allocation
                    .remove(&ordinal.to_string());
            }
        }
        self.drop_unused_attributes();
    }

    pub(super) fn drop_unused_attributes(&mut self) {
        let mut renumbered: BTreeMap<i32, i32> = self
            .spec
            .allocations
            .iter()
            .flatten()
            .map(|index| (*index, 0))
            .collect();
        for (new, (_, target)) in (0..).zip(&mut renumbered) {
            *target = new;
        }
        let mut old = 0..;
        self.spec
            .attributes
            .retain(|_| old.next().is_some_and(|old: i32| renumbered.contains_key(&old)));
        for index in self.spec.allocations.iter_mut().flatten() {
            *index = renumbered.get(index).copied().unwrap_or(*index);
        }
    }
}

//! The seam to the real world, and the loop around it: list, compare, apply, keep what failed.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::future::Future;

use crate::DeltaTracker;

/// What must change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delta<K, V> {
    /// Create or change to this value, in key order.
    pub updates: Vec<(K, V)>,
    /// Delete; the value is the one that is there, in key order.
    pub deletions: Vec<(K, V)>,
}

impl<K, V> Delta<K, V> {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.updates.is_empty() && self.deletions.is_empty()
    }
}

/// A kind of kernel (or remote) object.
///
/// An implementation's module documentation says under "Ownership" how a process without memory recognises its own
/// objects; [`Driver::list`] returns those and no others, because what is listed and not wanted is deleted.
pub trait Driver {
    /// Identifies an object.
    type Key: Ord + Clone + Debug;
    /// Everything about an object that is compared.
    type Value: PartialEq + Clone + Debug;
    /// Why an operation failed.
    type Error: Display;

    /// Lists the objects that are ours.
    fn list(&mut self) -> impl Future<Output = Result<BTreeMap<Self::Key, Self::Value>, Self::Error>>;

    /// Carries out changes and returns one verdict for each key of the delta. Updating is idempotent, and deleting
    /// what is absent succeeds. A failing key does not stop its neighbours.
    fn apply(
        &mut self,
        delta: &Delta<Self::Key, Self::Value>,
    ) -> impl Future<Output = Verdicts<Self::Key, Self::Error>>;
}

/// What became of each key of a delta.
pub type Verdicts<K, E> = Vec<(K, Result<(), E>)>;

/// What one round of applying did.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Outcome {
    /// Keys changed or deleted.
    pub applied: usize,
    /// Keys that failed and stay pending.
    pub failed: usize,
}

/// Both sides of one kind of object. Nothing is assumed about the real world before the first listing.
#[derive(Clone, Debug)]
pub struct Reconciler<K, V> {
    tracker: DeltaTracker<K, V>,
    listed: bool,
}

impl<K: Ord + Clone + Debug, V: PartialEq + Clone + Debug> Default for Reconciler<K, V> {
    fn default() -> Self {
        Self {
            tracker: DeltaTracker::new(),
            listed: false,
        }
    }
}

impl<K: Ord + Clone + Debug, V: PartialEq + Clone + Debug> Reconciler<K, V> {
    /// The two sides.
    pub fn tracker(&self) -> &DeltaTracker<K, V> {
        &self.tracker
    }

    /// The two sides, to change what is wanted or note what was learned.
    pub fn tracker_mut(&mut self) -> &mut DeltaTracker<K, V> {
        &mut self.tracker
    }

    /// Distrusts what is known of the real world: the next round lists again.
    pub fn invalidate(&mut self) {
        self.listed = false;
    }

    /// Something is to be done: a listing, an update or a deletion.
    pub fn is_pending(&self) -> bool {
        !self.listed || !self.tracker.in_sync()
    }

    /// Lists if needed, then applies what is pending (deletions only if `delete`).
    ///
    /// # Errors
    /// Only when the listing fails; then nothing was changed. Failed keys are counted, logged and stay pending.
    pub async fn round<D>(&mut self, driver: &mut D, delete: bool) -> Result<Outcome, D::Error>
    where
        D: Driver<Key = K, Value = V>,
    {
        if !self.listed {
            self.tracker.replace_observed(driver.list().await?);
            self.listed = true;
        }
        let own = |(key, value): (&K, &V)| (key.clone(), value.clone());
        let delta = Delta {
            updates: self.tracker.pending_updates().map(own).collect(),
            deletions: if delete {
                self.tracker.pending_deletions().map(own).collect()
            } else {
                Vec::new()
            },
        };
        let mut outcome = Outcome::default();
        if delta.is_empty() {
            return Ok(outcome);
        }
        for (key, verdict) in driver.apply(&delta).await {
            match verdict {
                Ok(()) => {
                    outcome.applied += 1;
                    if self.tracker.desired().contains_key(&key) {
                        self.tracker.mark_updated(&key);
                    } else {
                        self.tracker.remove_observed(&key);
                    }
                }
                Err(error) => {
                    outcome.failed += 1;
                    tracing::warn!(key = ?key, error = %error, "change failed, it stays pending");
                }
            }
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[derive(Default)]
    struct Fake {
        world: BTreeMap<u8, u8>,
        failing: BTreeSet<u8>,
        writes: usize,
    }

    impl Driver for Fake {
        type Key = u8;
        type Value = u8;
        type Error = &'static str;

        async fn list(&mut self) -> Result<BTreeMap<u8, u8>, &'static str> {
            Ok(self.world.clone())
        }

        async fn apply(&mut self, delta: &Delta<u8, u8>) -> Verdicts<u8, &'static str> {
            let mut verdicts = Vec::new();
            for (key, value) in delta.updates.iter().chain(&delta.deletions) {
                self.writes += 1;
                if self.failing.contains(key) {
                    verdicts.push((*key, Err("on purpose")));
                    continue;
                }
                if delta.deletions.contains(&(*key, *value)) {
                    self.world.remove(key);
                } else {
                    self.world.insert(*key, *value);
                }
                verdicts.push((*key, Ok(())));
            }
            verdicts
        }
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("the fake never waits"),
        }
    }

    #[test]
    fn a_failing_key_stays_pending_and_does_not_stop_the_others() {
        let mut fake = Fake {
            world: BTreeMap::from([(9, 9)]),
            failing: BTreeSet::from([1]),
            writes: 0,
        };
        let mut reconciler = Reconciler::default();
        reconciler
            .tracker_mut()
            .replace_desired(BTreeMap::from([(1, 1), (2, 2)]));
        assert_eq!(
            now(reconciler.round(&mut fake, false)),
            Ok(Outcome {
                applied: 1,
                failed: 1
            })
        );
        assert_eq!(fake.world, BTreeMap::from([(2, 2), (9, 9)]));
        assert!(reconciler.is_pending());
        fake.failing.clear();
        assert_eq!(
            now(reconciler.round(&mut fake, true)),
            Ok(Outcome {
                applied: 2,
                failed: 0
            })
        );
        assert_eq!(fake.world, BTreeMap::from([(1, 1), (2, 2)]));
        assert!(!reconciler.is_pending());
    }

    #[test]
    fn a_fresh_reconciler_writes_nothing_when_the_world_is_right() {
        let mut fake = Fake {
            world: BTreeMap::from([(1, 1)]),
            ..Fake::default()
        };
        let mut reconciler = Reconciler::default();
        reconciler.tracker_mut().set_desired(1, 1);
        assert_eq!(now(reconciler.round(&mut fake, true)), Ok(Outcome::default()));
        assert_eq!(fake.writes, 0);
        fake.world.clear();
        assert_eq!(now(reconciler.round(&mut fake, true)), Ok(Outcome::default()));
        reconciler.invalidate();
        assert_eq!(
            now(reconciler.round(&mut fake, true)),
            Ok(Outcome {
                applied: 1,
                failed: 0
            })
        );
    }
}

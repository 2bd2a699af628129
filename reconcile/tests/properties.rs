//! Against naive models.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use caracal_reconcile::{Backoff, DeltaTracker, Throttle};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    SetDesired(u8, u8),
    RemoveDesired(u8),
    ReplaceDesired(BTreeMap<u8, u8>),
    SetObserved(u8, u8),
    RemoveObserved(u8),
    ReplaceObserved(BTreeMap<u8, u8>),
    MarkUpdated(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..6u8;
    let value = 0..3u8;
    let map = || prop::collection::btree_map(0..6u8, 0..3u8, 0..6);
    prop_oneof![
        (key.clone(), value.clone()).prop_map(|(k, v)| Op::SetDesired(k, v)),
        key.clone().prop_map(Op::RemoveDesired),
        map().prop_map(Op::ReplaceDesired),
        (key.clone(), value).prop_map(|(k, v)| Op::SetObserved(k, v)),
        key.clone().prop_map(Op::RemoveObserved),
        map().prop_map(Op::ReplaceObserved),
        key.prop_map(Op::MarkUpdated),
    ]
}

proptest! {
    #[test]
    fn the_tracker_agrees_with_comparing_two_maps(ops in prop::collection::vec(op(), 0..60)) {
        let mut tracker = DeltaTracker::new();
        let mut desired = BTreeMap::new();
        let mut observed = BTreeMap::new();
        for op in ops {
            match op {
                Op::SetDesired(k, v) => { tracker.set_desired(k, v); desired.insert(k, v); }
                Op::RemoveDesired(k) => { tracker.remove_desired(&k); desired.remove(&k); }
                Op::ReplaceDesired(m) => { tracker.replace_desired(m.clone()); desired = m; }
                Op::SetObserved(k, v) => { tracker.set_observed(k, v); observed.insert(k, v); }
                Op::RemoveObserved(k) => { tracker.remove_observed(&k); observed.remove(&k); }
                Op::ReplaceObserved(m) => { tracker.replace_observed(m.clone()); observed = m; }
                Op::MarkUpdated(k) => {
                    tracker.mark_updated(&k);
                    if let Some(v) = desired.get(&k) { observed.insert(k, *v); }
                }
            }
            let updates: Vec<_> = desired.iter().filter(|(k, v)| observed.get(k) != Some(v)).collect();
            let deletions: Vec<_> = observed.iter().filter(|(k, _)| !desired.contains_key(k)).collect();
            prop_assert_eq!(tracker.pending_updates().collect::<Vec<_>>(), updates.clone());
            prop_assert_eq!(tracker.pending_deletions().collect::<Vec<_>>(), deletions.clone());
            prop_assert_eq!(tracker.in_sync(), updates.is_empty() && deletions.is_empty());
            prop_assert_eq!(tracker.pending_len(), updates.len() + deletions.len());
        }
    }

    #[test]
    fn delays_grow_within_bounds_and_repeat_with_the_seed(seed in any::<u64>(), attempts in 1..80usize) {
        let initial = Duration::from_millis(100);
        let max = Duration::from_secs(30);
        let mut backoff = Backoff::new(initial, max, seed);
        let mut again = Backoff::new(initial, max, seed);
        for attempt in 0..attempts {
            let delay = backoff.next_delay();
            let ceiling = initial.saturating_mul(1 << attempt.min(20)).min(max);
            prop_assert!(delay <= ceiling && delay >= ceiling / 2, "{:?} of {:?}", delay, ceiling);
            prop_assert_eq!(delay, again.next_delay());
        }
        backoff.reset();
        prop_assert!(backoff.next_delay() <= initial);
    }

    #[test]
    fn a_throttle_never_allows_more_than_burst_and_rate(
        steps in prop::collection::vec(0..400u64, 1..200),
        burst in 1..5u32,
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut throttle = Throttle::new(Duration::from_millis(100), burst);
        let mut allowed = 0u64;
        for step in steps {
            now += Duration::from_millis(step);
            match throttle.try_acquire(now) {
                Ok(()) => allowed += 1,
                Err(when) => {
                    prop_assert!(when > now && when <= now + Duration::from_millis(100));
                    prop_assert!(throttle.clone().try_acquire(when).is_ok());
                }
            }
            let limit = u64::from(burst) + (now - start).as_millis() as u64 / 100;
            prop_assert!(allowed <= limit, "{} of {}", allowed, limit);
        }
    }
}

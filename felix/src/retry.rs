//! When a part of the node's state is to be programmed: now, not at all, or again after a pause.
//!
//! Pure: instants are arguments.

use std::time::{Duration, Instant};

use caracal_reconcile::Backoff;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The appointment of one part.
#[derive(Clone, Debug)]
pub struct Retry {
    backoff: Backoff,
    /// Something is to be done, not before this instant (at once if `None`).
    pending: Option<Option<Instant>>,
}

impl Retry {
    /// A part with nothing to do. The seed keeps many nodes apart.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, seed),
            pending: None,
        }
    }

    /// There is something new to do, at once: what failed before may have failed for want of it.
    pub fn request(&mut self) {
        self.pending = Some(None);
    }

    /// It is to be done at this instant.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.pending.is_some_and(|at| at.is_none_or(|at| at <= now))
    }

    /// It is to be done at some time.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// It failed at least once since it last succeeded.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.backoff.attempts() > 0
    }

    /// When it wants to be done, if not at once.
    #[must_use]
    pub fn at(&self, now: Instant) -> Option<Instant> {
        self.pending.map(|at| at.unwrap_or(now))
    }

    /// Takes the result of an attempt.
    pub fn done(&mut self, succeeded: bool, now: Instant) {
        if succeeded {
            self.backoff.reset();
            self.pending = None;
        } else {
            self.pending = Some(Some(now + self.backoff.next_delay()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_waits_longer_each_time_and_news_do_not_wait() {
        let now = Instant::now();
        let mut retry = Retry::new(1);
        assert!(!retry.is_due(now) && !retry.is_pending());
        retry.request();
        assert!(retry.is_due(now));
        retry.done(false, now);
        let first = retry.at(now).unwrap();
        assert!(!retry.is_due(now) && retry.is_due(first) && first <= now + FIRST_PAUSE);
        for _ in 0..20 {
            retry.done(false, now);
        }
        assert!(retry.is_failing() && retry.at(now).unwrap() >= now + LONGEST_PAUSE / 2);
        retry.request();
        assert!(retry.is_due(now));
        retry.done(true, now);
        assert!(!retry.is_pending() && !retry.is_failing());
    }
}

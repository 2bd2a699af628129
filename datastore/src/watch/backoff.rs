//! How long to wait after failures: twice as long each time, up to a maximum, with jitter so that the watches of a
//! cluster do not come back together.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// Length of the next wait.
#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(super) const fn new() -> Self {
        Self { failures: 0 }
    }

    /// The next wait: between half and the whole of a length that doubles.
    pub(super) fn next(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        // The standard library seeds its hashers at random: enough for jitter.
        let random = RandomState::new().hash_one(self.failures) % 1024;
        let share = u32::try_from(random).unwrap_or_default();
        whole / 2 + whole * share / 2048
    }

    /// Something worked: begin with short waits again.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over() {
        let mut backoff = Backoff::new();
        for step in 0..40 {
            let whole = FIRST.saturating_mul(1 << step.min(16)).min(LONGEST);
            let wait = backoff.next();
            assert!(wait >= whole / 2 && wait <= whole, "step {step}: {wait:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}

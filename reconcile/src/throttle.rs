//! A token bucket: so many at once, then so many per interval.

use std::time::{Duration, Instant};

/// Limits how often something is done.
#[derive(Clone, Debug)]
pub struct Throttle {
    interval: Duration,
    burst: u32,
    tokens: u32,
    /// When the last token was put in.
    filled: Option<Instant>,
}

impl Throttle {
    /// Allows `burst` at once and one more per `interval` (which must not be zero; a nanosecond is taken instead).
    pub fn new(interval: Duration, burst: u32) -> Self {
        Self {
            interval: interval.max(Duration::from_nanos(1)),
            burst: burst.max(1),
            tokens: burst.max(1),
            filled: None,
        }
    }

    /// Takes a token if there is one; otherwise says when there will be.
    ///
    /// # Errors
    /// The instant at which to try again.
    pub fn try_acquire(&mut self, now: Instant) -> Result<(), Instant> {
        let filled = *self.filled.get_or_insert(now);
        let passed = now.saturating_duration_since(filled).as_nanos() / self.interval.as_nanos();
        let earned = u32::try_from(passed).unwrap_or(u32::MAX);
        let full = u64::from(self.tokens) + u64::from(earned) >= u64::from(self.burst);
        let filled = if full {
            now
        } else {
            filled + self.interval * earned
        };
        self.tokens = self.tokens.saturating_add(earned).min(self.burst);
        self.filled = Some(filled);
        match self.tokens.checked_sub(1) {
            Some(rest) => {
                self.tokens = rest;
                Ok(())
            }
            None => Err(filled + self.interval),
        }
    }
}

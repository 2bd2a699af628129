//! How the use of addresses grew, and when they will have run out if it goes on so. Pure.

use std::collections::VecDeque;

use super::room::Room;

/// How long samples count, in seconds.
const WINDOW: u64 = 3600;
/// Shortest time over which growth is measured, in seconds: a single rollout is no trend.
const BASE: u64 = 300;
/// Least distance of samples that are kept, in seconds.
const DISTANCE: u64 = 30;
/// A shortage within this time is worth a word, in seconds.
const HORIZON: u64 = 3600;
/// Free addresses, as a part of all, below which a word is due whatever the trend.
const LOW_ONE_OF: u128 = 20;

/// How it will go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// Nothing is free.
    Empty,
    /// Little is free.
    Low,
    /// At this growth it runs out after so many seconds, which is soon.
    RunsOut(u64),
    /// At this growth it runs out after so many seconds, which is not soon.
    Lasts(u64),
    /// It does not grow.
    Enough,
}

/// The samples of the last hour.
#[derive(Clone, Debug, Default)]
pub struct Trend {
    samples: VecDeque<(u64, u128)>,
}

impl Trend {
    /// Notes how much is in use. One that follows too closely replaces the last.
    pub fn add(&mut self, seconds: u64, in_use: u128) {
        let newest_but_one = self.samples.iter().rev().nth(1).map(|(at, _)| *at);
        if newest_but_one.is_some_and(|at| seconds.saturating_sub(at) < DISTANCE) {
            self.samples.pop_back();
        }
        self.samples.push_back((seconds, in_use));
        while self
            .samples
            .front()
            .is_some_and(|(at, _)| seconds.saturating_sub(*at) > WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Addresses per second by least squares; 0 without a long enough base.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let (Some((first, _)), Some((last, _))) = (self.samples.front(), self.samples.back()) else {
            return 0.0;
        };
        if last.saturating_sub(*first) < BASE {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let points = || {
            self.samples
                .iter()
                .map(|(at, used)| ((at - first) as f64, *used as f64))
        };
        #[expect(clippy::cast_precision_loss, reason = "at most some hundred")]
        let count = self.samples.len() as f64;
        let (sum_x, sum_y) = points().fold((0.0, 0.0), |(x, y), (a, b)| (x + a, y + b));
        let (mean_x, mean_y) = (sum_x / count, sum_y / count);
        let (covariance, variance) = points().fold((0.0, 0.0), |(c, v), (x, y)| {
            (c + (x - mean_x) * (y - mean_y), v + (x - mean_x) * (x - mean_x))
        });
        if variance > 0.0 {
            covariance / variance
        } else {
            0.0
        }
    }

    /// How it will go on.
    #[must_use]
    pub fn outlook(&self, room: Room) -> Outlook {
        if room.free == 0 {
            return Outlook::Empty;
        }
        let rate = self.rate();
        let after = (rate > 1e-9).then(|| {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "an estimate of a positive number; the cast saturates"
            )]
            let seconds = (room.free as f64 / rate).round() as u64;
            seconds
        });
        match after {
            Some(after) if after <= HORIZON => Outlook::RunsOut(after),
            _ if room.free.saturating_mul(LOW_ONE_OF) <= room.capacity => Outlook::Low,
            Some(after) => Outlook::Lasts(after),
            None => Outlook::Enough,
        }
    }
}

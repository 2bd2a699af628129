//! Desired state, observed state, and the difference between them.
//!
//! Owns the one shape in which anything is programmed: keep both sides in a [`DeltaTracker`], hand the difference to a
//! [`Driver`], keep what failed pending, try it again after a [`Backoff`], no more often than a [`Throttle`] allows.
//! Never touches a clock, a socket or a random source: time and seeds are arguments.

mod backoff;
mod driver;
mod throttle;
mod tracker;

pub use backoff::Backoff;
pub use driver::{Delta, Driver, Outcome, Reconciler, Verdicts};
pub use throttle::Throttle;
pub use tracker::DeltaTracker;

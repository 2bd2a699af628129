//! A simulation of nodes that contend for addresses: the allocator's own code over a server in memory, where a
//! scheduler decides whose request is carried out next, which answers are lost or late or old, and who dies when.
//!
//! Everything between two requests of a program is deterministic, so a run is determined by the choices of the
//! scheduler: it can be repeated, and all runs of a small cluster can be gone through. Programs are tasks of a
//! single-threaded runtime; time stands still while they run, and pauses only yield.
//! Invariants are looked at after every write; at the end, what was left by the dead is collected by check and fix,
//! and then every address must be somebody's or free.
//!
//! What a test run goes through (nodes; faults, switches: interleavings through states): two claim one block (0, 2: 150
//! through 695; 1, 0: 74 through 643), three claim two (0, 1: 168 through 2131), an empty block changes hands (1, 0: 91
//! through 962), one releases what another borrows (1, 1: 273 through 1165), a reserve is used (1, 0: 115 through
//! 1388). Three with two switches are 3154 through 14285. `make explore-ipam` goes wider and prints its figures.

mod explore;
mod ledger;
mod node;
mod processes;
mod server;
mod tests;
mod world;

use std::cell::Cell;

use jiff::Timestamp;

use crate::step::Step;

/// When simulations take place.
const EPOCH_SECONDS: i64 = 1_790_000_000;

thread_local! {
    static NOW: Cell<Option<i64>> = const { Cell::new(None) };
    static TICK: Cell<i32> = const { Cell::new(0) };
    static NUMBER: Cell<u128> = const { Cell::new(0) };
    static LEFT_OUT: Cell<Option<Step>> = const { Cell::new(None) };
}

/// The simulated time; `None` outside of a simulation.
pub(crate) fn now() -> Option<Timestamp> {
    let seconds = NOW.get()?;
    Timestamp::new(seconds, TICK.get()).ok()
}

/// The step that a test has taken out.
pub(crate) fn left_out() -> Option<Step> {
    LEFT_OUT.get()
}

/// A number that no other journal of a run has; `None` outside of a simulation.
pub(crate) fn number() -> Option<u128> {
    NOW.get()?;
    NUMBER.set(NUMBER.get() + 1);
    Some(NUMBER.get())
}

/// Time stands still within a second, but no two readings of different requests are the same.
fn set_tick(tick: u64) {
    TICK.set(i32::try_from(tick % 1_000_000_000).unwrap_or_default());
}

/// Simulated time, until it is dropped.
struct Clock;

impl Clock {
    fn start() -> Self {
        NOW.set(Some(EPOCH_SECONDS));
        NUMBER.set(0);
        Self
    }

    fn advance(seconds: i64) {
        NOW.set(NOW.get().map(|now| now + seconds));
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        NOW.set(None);
    }
}

/// A step taken out, until it is dropped.
struct LeftOut;

impl LeftOut {
    fn step(step: Option<Step>) -> Self {
        LEFT_OUT.set(step);
        Self
    }
}

impl Drop for LeftOut {
    fn drop(&mut self) {
        LEFT_OUT.set(None);
    }
}

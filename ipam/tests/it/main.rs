//! The allocator against the embedded API server, in process.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

mod ahead;
mod assign;
mod check;
mod cluster;
mod contention;
mod faults;
mod killed;
mod outages;
mod reserve;
mod utilization;

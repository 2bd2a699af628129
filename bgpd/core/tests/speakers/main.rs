//! Whole speakers against each other, under a virtual clock.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the lints know test functions, not the network that they share"
)]

mod add_path;
mod drain;
mod dynamic;
mod faults;
mod hostile;
mod long_lived;
mod net;
mod restart;
mod roles;
mod routes;
mod sessions;
mod simulation;
mod why_not;

//! Whole speakers against each other, under a virtual clock.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the lints know test functions, not the network that they share"
)]

mod hostile;
mod net;
mod restart;
mod routes;
mod sessions;
mod simulation;

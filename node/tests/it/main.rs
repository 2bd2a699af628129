//! The node container's program in its world: an API, a machine made of a network namespace, and daemons.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::large_futures,
    missing_docs,
    reason = "a test"
)]

mod process;
mod startup;

//! The speaker in network namespaces: against the kernel alone, and against BIRD. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests"
)]

mod cluster;
mod interop;
mod kernel;
mod lab;

//! Our speaker beside those of others: BIRD, FRR, GoBGP and ExaBGP as Debian 12 packages them, and peers written by
//! hand. Each feature is tried with every daemon that has it, and both sides' tables are compared with what they have
//! to be. Needs root; everything happens in network namespaces without names, which end with their test.
//!
//! A daemon that is not installed is left out, which is said on standard error even when the test passes;
//! `scripts/deps.sh` installs them all. The results are the table in `docs/bgp-interop.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod dut;
mod foreign;
mod lab;
mod peers;
mod raw;

mod add_path;
mod detection;
mod malformed;
mod monitoring;
mod reflection;
mod restart;
mod security;
mod sessions;

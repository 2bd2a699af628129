//! The controllers against the embedded API server, in process: real requests, real watches.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

mod cluster;
mod configuration;
mod leader;
mod pools;
mod tiers;

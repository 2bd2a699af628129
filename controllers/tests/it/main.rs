//! The controllers against the embedded API server, in process: real requests, real watches.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

mod cluster;
mod configuration;
mod faults;
mod forecast;
mod gc;
mod host_endpoints;
mod leader;
mod policy_names;
mod pools;
mod tiers;

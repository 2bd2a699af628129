//! felix against the real kernel, in network namespaces of its own: what packets do, what heals, what is left alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a test"
)]

mod agent;
mod confirmation;
mod dataplane;
mod denials;
mod machine;
mod nftables;
mod waiting;

//! The client and its watches against the embedded API server, in process.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

mod door;
mod requests;
mod watches;

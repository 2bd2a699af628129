//! Whole commands against the embedded API server, in process: what they print, where, and how they end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod cluster;
mod datastore;
mod form;
mod ipam;
mod node;
mod policy;
mod reference;
mod refusal;
mod verbs;
mod words;

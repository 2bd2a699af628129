//! Routing tables: interned attributes, all paths per prefix, the decision process, what groups of peers are sent
//! (RFC 4271 §3.2, §9).
//!
//! The Adj-RIB-In of a peer is the set of paths in [`table::Table`] that carry its name; a path keeps what was received
//! beside what the import policy made of it, so that a changed policy needs nothing from the peer. An Adj-RIB-Out is
//! not stored: what a peer has been sent follows from the table, its group's rules and how far it is in the group's
//! [`change_log::ChangeLog`].

pub(crate) mod attrs;
pub(crate) mod change_log;
pub(crate) mod decision;
pub(crate) mod entry;
pub(crate) mod index;
pub(crate) mod next_hop;
pub(crate) mod numbers;
pub(crate) mod pack;
pub(crate) mod path;
pub(crate) mod rewrite;
pub(crate) mod table;
pub(crate) mod way;

//! Routing tables: interned attributes, all paths per prefix, the decision process, what each peer was sent
//! (RFC 4271 §3.2, §9).
//!
//! The Adj-RIB-In of a peer is the set of paths in [`table::Table`] that carry its name; a path keeps what was received
//! beside what the import policy made of it, so that a changed policy needs nothing from the peer.

pub(crate) mod adj_out;
pub(crate) mod attrs;
pub(crate) mod decision;
pub(crate) mod next_hop;
pub(crate) mod path;
pub(crate) mod rewrite;
pub(crate) mod table;

//! What passes over the sessions, for others to look at: a BMP station (RFC 7854) and MRT files (RFC 6396).
//!
//! The owner loop shows every message here, when somebody looks; nothing here changes what the speaker does. Messages
//! are passed on as they came; an UPDATE whose routes count as withdrawn (RFC 7606) is passed on as their withdrawal.

pub mod bmp;
pub mod mrt;
mod station;
mod tap;

pub use station::Station;
pub use tap::{Monitor, Peer, Session, TYPE_AT};

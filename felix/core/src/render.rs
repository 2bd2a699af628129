//! Rules in the language of a backend.

pub mod iptables;

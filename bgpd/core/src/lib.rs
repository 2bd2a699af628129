//! BGP as a library: wire format, sessions, routing tables and policy, without a socket, a clock or a file.
//!
//! [`Speaker`] is the whole surface: feed it [`Input`]s and the time, carry out its [`Output`]s, wake it at
//! [`Speaker::poll_timeout`]. The same seed and the same inputs give the same outputs. It knows RFCs only; what a
//! Kubernetes resource means in BGP is decided by whoever makes the [`config::Config`].

pub mod bfd;
pub mod config;
pub mod family;
pub mod input;
pub mod output;
pub mod policy;
mod rib;
mod session;
pub mod snapshot;
pub mod speaker;
pub mod wire;

pub use config::Config;
pub use family::Family;
pub use input::Input;
pub use output::Output;
pub use speaker::{Speaker, UnknownPeer};

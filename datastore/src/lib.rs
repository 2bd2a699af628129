//! Typed access to the Kubernetes API: requests with compare-and-swap, error classes, and watches that never end.
//!
//! Owns every request that our programs send to an API server, how they find it, and what an error of it means.
//! Never interprets the objects, never caches them: a watch remembers the names and a hash of the version only.
//!
//! The seam for tests is the `tower::Service` below [`Client::from_service`]: the embedded API server and layers that
//! inject faults go there, and everything above is the code that runs in production.

mod client;
mod connect;
mod error;
pub mod init;
mod object;
mod watch;

pub use client::Client;
pub use connect::{ConnectOptions, Credentials};
pub use error::{Error, Result, Verb};
pub use object::{Key, ListOptions, Object, Preconditions};
pub use watch::{Event, WatchScope};

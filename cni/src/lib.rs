//! The CNI plugins calico and calico-ipam.
//!
//! Owns plugging a container into the network: the protocol, the request for addresses, the kernel objects of one
//! container, the Pod's annotations. Keeps no state of its own. Source: CNI specification 1.1.0; Calico's
//! `cni-plugin/`.

pub mod args;
pub mod aside;
pub mod board;
pub mod cluster;
pub mod conf;
pub mod delegate;
pub mod endpoint;
pub mod error;
mod fields;
mod front;
pub mod host_local;
pub mod ipam_plugin;
mod log;
pub mod mirror;
pub mod node;
pub mod plugin;
pub mod pod;
pub mod result;
pub mod rollback;
pub mod service;
pub mod skel;
pub mod talk;
mod turn;
pub mod version;
pub mod veth;
pub mod wishes;

pub use error::{Code, Error, Result};
pub use version::Version;

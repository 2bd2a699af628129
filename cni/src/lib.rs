//! The CNI plugins calico and calico-ipam.
//!
//! Owns what the CNI protocol and Calico's network configuration say: versions, results, errors, arguments, fields.
//! Keeps no state of its own. Source: CNI specification 1.1.0; Calico's `cni-plugin/`.

pub mod args;
pub mod conf;
pub mod error;
mod fields;
pub mod result;
pub mod version;

pub use error::{Code, Error, Result};
pub use version::Version;

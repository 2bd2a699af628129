//! A data centre on one machine: nodes, fabric, top-of-rack and pods as network namespaces.

pub mod anchor;
pub mod cni_chain;
pub mod enter;
pub mod error;
pub mod fabric;
pub mod listen;
pub mod peers;
pub mod pod_runner;
pub mod pod_server;
pub mod probe;
pub mod process;
pub mod programs;
pub mod scheduler;
pub mod state;
pub mod sweep;
pub mod topology;

pub use error::{Error, Result};

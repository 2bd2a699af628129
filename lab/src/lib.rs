//! A data centre on one machine: nodes, fabric, top-of-rack and pods as network namespaces.

pub mod anchor;
pub mod apply;
pub mod args;
pub mod cluster;
pub mod cni_chain;
pub mod control;
pub mod definitions;
pub mod down;
pub mod enter;
pub mod error;
pub mod fabric;
pub mod kube;
pub mod listen;
pub mod machines;
pub mod node_files;
pub mod peers;
pub mod pod_runner;
pub mod pod_server;
pub mod preflight;
pub mod probe;
pub mod process;
pub mod programs;
pub mod ready;
pub mod run_in;
pub mod scheduler;
pub mod state;
pub mod status;
pub mod supervisor;
pub mod sweep;
pub mod topology;
pub mod up;

pub use error::{Error, Result};

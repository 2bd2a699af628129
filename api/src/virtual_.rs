//! Objects that are never stored: views of Pods, Nodes, Namespaces and ServiceAccounts.

pub mod node;
pub mod profile;
pub mod workload_endpoint;

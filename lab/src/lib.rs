//! A data centre on one machine: nodes, fabric, top-of-rack and pods as network namespaces.

pub mod peers;
pub mod pod_server;
pub mod state;
pub mod topology;

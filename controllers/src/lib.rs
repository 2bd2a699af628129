//! The cluster controllers: what one process does for the whole cluster.
//!
//! Owns leaked addresses and blocks of nodes that are gone, the life of pools and tiers, automatic host endpoints,
//! and the forecast of address shortage. Each controller is a pure `plan` from what the watches told to actions, and one
//! `apply` that carries them out by compare-and-swap while this process holds the Lease. Never touches a node, never
//! keeps state that a fresh process could not rebuild. Source of the rules: Calico's `kube-controllers`.

pub mod cluster;
pub mod conditions;
pub mod configuration;
pub mod context;
pub mod forecast;
pub mod gc;
pub mod host_endpoints;
pub mod lease;
pub mod load_balancer;
pub mod mend;
pub mod metrics;
pub mod node_statuses;
pub mod policy_names;
pub mod pools;
pub mod run;
pub mod settings;
pub mod tiers;
pub mod watches;

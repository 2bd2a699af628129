//! The node container: what is done once at start, then felix and bgpd under supervision, and what is said of them.
//!
//! Owns the node's name and address, the default pools, the installed CNI plugins, the tunnel addresses and the node's
//! conditions. Never programs the kernel and never speaks BGP: the children do, in processes of their own, so that
//! neither takes the other down. Decisions are pure and apart from what reads and writes.
//! Source of the behaviour: Calico's `node/pkg/lifecycle` and `cni-plugin/pkg/install`.

pub mod address;
pub mod args;
pub mod children;
pub mod condition;
pub mod defaults;
pub mod detect;
pub mod drain;
pub mod environment;
pub mod files;
pub mod health;
pub mod host;
pub mod install;
pub mod output;
pub mod probe;
pub mod run;
pub mod startup;
pub mod supervise;
pub mod tunnels;

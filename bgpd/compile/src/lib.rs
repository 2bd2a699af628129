//! From Kubernetes and Calico resources to a BGP configuration; pure.
//!
//! [`compile`] takes a [`Snapshot`] of everything that matters and the name of a node, and returns what that node's
//! speaker is to be: a `caracal_bgpd_core::Config`, what the shell needs beside it ([`Host`]), and a [`Problem`] for
//! every value that could not be used. It is the one place where Calico's meaning becomes BGP's. Never does I/O,
//! never fails as a whole because of one object: what cannot be used is left out and said.
//! Sources: Calico `confd/pkg/backends/calico`, `node/filesystem/etc/calico/confd/templates`.

mod compiled;
mod export;
mod extensions;
mod filters;
mod kernel;
mod local;
mod mesh;
mod originate;
mod peers;
mod problem;
mod selection;
mod services;
mod session;
mod snapshot;
mod targets;
mod workloads;

pub use compiled::{Compiled, Host, StaticRoute, compile};
pub use problem::Problem;
pub use selection::Selected;
pub use services::{Endpoint, Service};
pub use snapshot::{DRAIN, RouterIdRule, Snapshot};
pub use workloads::Workload;

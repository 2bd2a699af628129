//! The node agent: what is wanted in, the kernel's state out.
//!
//! Owns the programs and kernel interfaces that felix writes to, when it does so, and what it says about itself.
//! Decides no policy: that is `felix_core`'s.

pub mod agent;
pub mod args;
pub mod confirmation;
pub mod dataplane;
pub mod denials;
pub mod drivers;
pub mod exec;
pub mod features;
pub mod host_interfaces;
pub mod metrics;
pub mod parameters;
mod pods;
pub mod retry;
pub mod servers;
pub mod watches;

//! The node agent's drivers: what is wanted in, the kernel's state out.
//!
//! Owns the programs and kernel interfaces that felix writes to. Decides no policy: that is `felix_core`'s.

pub mod drivers;
pub mod exec;

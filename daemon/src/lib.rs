//! What every long-running program has: logging, metrics, health, signals.
//!
//! Owns the process-wide plumbing so that daemons look alike from outside. Knows nothing of what they do.

pub mod health;
pub mod http;
pub mod logging;
pub mod metrics;
mod process;
pub mod signals;

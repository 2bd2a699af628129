//! Kernel parameters of the node and of workload interfaces.
//!
//! # Ownership
//! Exactly the parameters that are wanted; nothing is listed and nothing is ever put back.

use caracal_felix_core::desired::Sysctl;
use caracal_linux::sysctl;

/// Writes a parameter unless it has its value. Returns whether a write was needed.
///
/// # Errors
/// When a parameter that the node needs cannot be written. An optional one is logged and passed over.
pub fn ensure(wanted: &Sysctl) -> caracal_linux::Result<bool> {
    let path: Vec<&str> = wanted.path.iter().map(String::as_str).collect();
    match sysctl::ensure(&path, &wanted.value) {
        Err(error) if wanted.is_optional => {
            tracing::debug!(error = %error, "optional kernel parameter not set");
            Ok(false)
        }
        result => result,
    }
}

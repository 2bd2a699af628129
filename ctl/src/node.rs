//! The commands about this node. Source of their texts: calicoctl's `node` commands.

pub(crate) mod checksystem;
pub(crate) mod diags;
pub(crate) mod status;

use crate::error::Failure;

/// Refuses users who may not look into everything of the node.
fn require_root() -> Result<(), Failure> {
    // The owner of its own entry in /proc is the user that a process acts as.
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|entry| {
        use std::os::unix::fs::MetadataExt as _;
        entry.uid() == 0
    });
    if is_root {
        return Ok(());
    }
    Err(Failure::new("Need super user privileges: Operation not permitted").on_stdout())
}

//! Whether a speaker ran here before this process, so that peers may still hold its routes (RFC 4724 §4.1).
//!
//! Kernel routes of ours say so. Where this speaker had none to program, a note beside the control socket does; it
//! counts for the same boot and network namespace only.

use std::fs;
use std::path::Path;

/// Looks for the traces of a process before this one, and leaves this one's.
pub(super) fn is_restart(control: &Path, kernel_routes: usize) -> bool {
    let note = control.with_extension("started");
    let place = place();
    let was_here = !place.is_empty() && fs::read_to_string(&note).is_ok_and(|before| before == place);
    if let Err(error) = fs::write(&note, &place) {
        tracing::warn!(path = %note.display(), error = %error, "a restart will only be known by kernel routes");
    }
    was_here || kernel_routes > 0
}

/// Boot and network namespace.
fn place() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/net").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_start_in_one_place_is_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path().join("bgpd.sock");
        assert!(!is_restart(&control, 0));
        assert!(is_restart(&control, 0));
        fs::write(control.with_extension("started"), "another boot").unwrap();
        assert!(!is_restart(&control, 0));
        fs::write(control.with_extension("started"), "another boot").unwrap();
        assert!(is_restart(&control, 1));
    }
}

//! Kernel parameters under `/proc/sys`, by path components.
//!
//! Components, not dotted keys: device names may contain dots (`eth0.5`, `vxlan.calico`). `/proc/sys/net` shows the
//! network namespace of the thread that opens the file, so call these on a thread inside the namespace
//! ([`crate::netns::NetNs::run`]); `/proc/thread-self` is not needed because the kernel resolves it at open.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Where parameters are.
const ROOT: &str = "/proc/sys";
/// Where a container has them once more: its own `/proc/sys` is read-only unless it is privileged.
const WRITABLE_ROOT: &str = "/host/proc/sys";

/// The file of a parameter: `path(&["net", "ipv4", "conf", "vxlan.calico", "rp_filter"])`.
///
/// # Errors
/// A component that is empty, `.`, `..` or has a slash is refused, because names come from outside.
pub fn path(parts: &[&str]) -> Result<PathBuf> {
    let mut path = PathBuf::from(ROOT);
    for part in parts {
        if part.is_empty() || *part == "." || *part == ".." || part.contains('/') {
            return Err(Error::invalid(
                format!("kernel parameter component {part:?}"),
                "must be a file name: not empty, not `.` or `..`, no slash",
            ));
        }
        path.push(part);
    }
    Ok(path)
}

/// The value of a parameter, without the line end.
///
/// # Errors
/// `is_not_found` when the kernel has no such parameter (or no such device).
pub fn read(parts: &[&str]) -> Result<String> {
    let path = path(parts)?;
    let text =
        fs::read_to_string(&path).map_err(|source| Error::io(format!("read {}", path.display()), source))?;
    Ok(text.trim_end().to_owned())
}

/// Sets a parameter.
///
/// # Errors
/// `is_not_found` when the kernel has no such parameter; of a read-only `/proc/sys`, unless the same is at
/// `/host/proc/sys` to be written.
pub fn write(parts: &[&str], value: &str) -> Result<()> {
    let path = path(parts)?;
    let failed = |source| Error::io(format!("write {value:?} to {}", path.display()), source);
    let mut file = open(&path, Path::new(WRITABLE_ROOT)).map_err(failed)?;
    file.write_all(value.as_bytes()).map_err(failed)
}

fn open(path: &Path, elsewhere: &Path) -> io::Result<File> {
    let open = |path: &Path| fs::OpenOptions::new().write(true).open(path);
    match open(path) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            let below = path.strip_prefix(ROOT).unwrap_or(path);
            open(&elsewhere.join(below)).map_err(|_| error)
        }
        result => result,
    }
}

/// Sets a parameter unless it has the value already. Returns whether a write was needed.
///
/// # Errors
/// As [`read`] and [`write`].
pub fn ensure(parts: &[&str], value: &str) -> Result<bool> {
    if read(parts)? == value {
        return Ok(false);
    }
    write(parts, value)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_with_dots_are_one_component() {
        let path = path(&["net", "ipv4", "conf", "vxlan.calico", "rp_filter"]).unwrap();
        assert_eq!(
            path,
            PathBuf::from("/proc/sys/net/ipv4/conf/vxlan.calico/rp_filter")
        );
    }

    #[test]
    fn components_cannot_leave_the_directory() {
        for bad in ["", ".", "..", "a/b", "/etc"] {
            assert!(
                matches!(path(&["net", bad]), Err(Error::Invalid { .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_missing_parameter_is_not_found() {
        assert!(
            read(&["net", "ipv4", "no_such_parameter"])
                .unwrap_err()
                .is_not_found()
        );
    }
}

//! The file lock that makes the plugins of one host take addresses one after the other.
//!
//! Correctness does not need it: compare-and-swap does. It saves the conflicts of pods that start together, and
//! keeps order with other programs that use the same file (`/var/run/calico/ipam.lock`).

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The lock, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct HostLock {
    _file: File,
}

impl HostLock {
    /// Waits for the lock. The file and its directory are made when they are missing.
    ///
    /// # Errors
    ///
    /// When the file cannot be made or locked.
    ///
    /// # Cancel safety
    ///
    /// A wait that was given up goes on in a thread of its own, and lets the lock go as soon as it has it.
    pub async fn acquire(path: &Path) -> Result<Self> {
        let owned = path.to_owned();
        tokio::task::spawn_blocking(move || lock(&owned))
            .await
            .map_err(|error| Error::Lock {
                path: path.to_owned(),
                problem: error.to_string(),
            })?
    }
}

fn lock(path: &Path) -> Result<HostLock> {
    let failed = |error: std::io::Error| Error::Lock {
        path: PathBuf::from(path),
        problem: error.to_string(),
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(HostLock { _file: file })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_second_waits_until_the_first_lets_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/ipam.lock");
        let first = HostLock::acquire(&path).await.unwrap();
        let mut second = Box::pin(HostLock::acquire(&path));
        assert!(
            tokio::time::timeout(Duration::from_millis(50), &mut second)
                .await
                .is_err()
        );
        drop(first);
        second.await.unwrap();
    }

    #[tokio::test]
    async fn a_path_that_cannot_be_made_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = HostLock::acquire(&file.join("ipam.lock"))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("file/ipam.lock"), "{error}");
    }
}

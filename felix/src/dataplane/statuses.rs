//! Status files of endpoints, by which others learn that an endpoint is programmed.
//!
//! # Ownership
//! The folder `<prefix>/endpoint-status` and every file in it are ours. A file is written after everything of its
//! endpoint is in the kernel, whole or not at all, and removed when the endpoint goes.
//! Source: Calico `libcalico-go/lib/epstatusfile`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use caracal_felix_core::desired::{Desired, EndpointStatus};
use caracal_linux::netlink::Link;

use crate::retry::Retry;

const FOLDER: &str = "endpoint-status";
/// Names with this beginning are files being written.
const TEMPORARY: &str = ".new-";

/// Writes status files.
#[derive(Debug)]
pub(super) struct Statuses {
    folder: Option<PathBuf>,
    /// What the folder has; `None` before it was read.
    present: Option<BTreeMap<String, EndpointStatus>>,
    retry: Retry,
}

impl Statuses {
    /// Files below a prefix; none at all if it is empty.
    #[must_use]
    pub(super) fn new(prefix: &str) -> Self {
        let mut retry = Retry::new(u64::from(std::process::id()));
        retry.request();
        Self {
            folder: (!prefix.is_empty()).then(|| Path::new(prefix).join(FOLDER)),
            present: None,
            retry,
        }
    }

    /// When something is to be done next.
    #[must_use]
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.retry.at(now).filter(|_| self.retry.is_failing())
    }

    /// Brings the folder to what is wanted: removals always, new files only if `is_programmed`, and only of endpoints
    /// whose interface is up.
    pub(super) fn apply(&mut self, desired: &Desired, links: &BTreeMap<String, Link>, is_programmed: bool) {
        let now = Instant::now();
        if self.retry.is_failing() && !self.retry.is_due(now) {
            return;
        }
        let result = self.try_apply(desired, links, is_programmed);
        if let Err(error) = &result {
            tracing::warn!(error = %error, folder = ?self.folder, "status files of endpoints not written, they stay pending");
        }
        self.retry.done(result.is_ok(), now);
    }

    fn try_apply(
        &mut self,
        desired: &Desired,
        links: &BTreeMap<String, Link>,
        is_programmed: bool,
    ) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let present = match &mut self.present {
            Some(present) => present,
            none => none.insert(read(folder)?),
        };
        let is_up = |status: &EndpointStatus| links.get(&status.iface_name).is_some_and(|link| link.up);
        let gone: Vec<String> = present
            .keys()
            .filter(|name| {
                desired
                    .endpoint_statuses
                    .get(*name)
                    .is_none_or(|status| !is_up(status))
            })
            .cloned()
            .collect();
        for name in gone {
            match std::fs::remove_file(folder.join(&name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => drop(present.remove(&name)),
            }
        }
        for (name, status) in desired.endpoint_statuses.iter().filter(|_| is_programmed) {
            if is_up(status) && present.get(name) != Some(status) {
                write(folder, name, status)?;
                present.insert(name.clone(), status.clone());
            }
        }
        Ok(())
    }
}

/// What the folder has; files that cannot be read count as empty, so that they are written anew or removed.
fn read(folder: &Path) -> io::Result<BTreeMap<String, EndpointStatus>> {
    std::fs::create_dir_all(folder)?;
    let mut present = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str() {
            let text = std::fs::read(entry.path()).unwrap_or_default();
            let status = serde_json::from_slice(&text).unwrap_or_default();
            present.insert(name.to_owned(), status);
        }
    }
    Ok(present)
}

fn write(folder: &Path, name: &str, status: &EndpointStatus) -> io::Result<()> {
    let temporary = folder.join(format!("{TEMPORARY}{}", std::process::id()));
    std::fs::write(&temporary, serde_json::to_vec(status)?)?;
    std::fs::rename(&temporary, folder.join(name))
}

//! Why the owner loop cannot run.

use std::path::{Path, PathBuf};

use crate::monitor::mrt;

/// Why the speaker could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Kernel routes cannot be read.
    #[error("kernel routes; is this process allowed to use netlink (CAP_NET_ADMIN)?")]
    Kernel(#[source] caracal_linux::Error),
    /// The control socket cannot be made.
    #[error("control socket {path}")]
    Control {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The MRT file cannot be written.
    #[error("MRT file {path}")]
    Mrt {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The record cannot be written.
    #[error("record")]
    Record(#[from] crate::record::Error),
    /// Signals cannot be caught.
    #[error("signals cannot be caught")]
    Signals(#[source] std::io::Error),
    /// A task that must not end has ended.
    #[error("the {0} task ended; the process ends too, so that it is started anew")]
    Task(&'static str),
}

/// Opens the MRT file of messages.
pub(super) fn open_mrt(path: &Path) -> Result<mrt::Writer, Error> {
    mrt::Writer::open(path).map_err(|source| Error::Mrt {
        path: path.to_owned(),
        source,
    })
}

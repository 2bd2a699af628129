//! What goes wrong in a lab, as one line for its user.

use std::io;

use crate::state::StateError;
use crate::topology::OptionError;

/// A failed operation of the lab.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lab's own files.
    #[error(transparent)]
    State(#[from] StateError),
    /// An option that cannot be served.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The kernel refused something.
    #[error("{what}: {source}{}", cause(source))]
    Kernel {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: caracal_linux::Error,
    },
    /// A file, socket or process operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Refused before anything was changed; the text says what would be right.
    #[error("{0}")]
    Refused(String),
}

/// Result of the lab's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failed file, socket or process operation.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }

    /// A failed kernel operation.
    pub fn kernel(what: impl Into<String>, source: caracal_linux::Error) -> Self {
        Self::Kernel {
            what: what.into(),
            source,
        }
    }

    /// A system call that failed.
    pub fn errno(what: impl Into<String>, errno: nix::errno::Errno) -> Self {
        Self::io(what, io::Error::from_raw_os_error(errno as i32))
    }

    /// A refusal.
    pub fn refused(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }
}

/// Errors of the kernel keep the operating system's reason as their source: one line shows both.
fn cause(error: &caracal_linux::Error) -> String {
    std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"))
}

//! What can go wrong with the kernel, by what was attempted and by errno class.
//!
//! Callers decide by class (`is_exists`, `is_not_found`, ...), never by text.

use std::fmt;
use std::io;

/// Result of a kernel operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error number as the kernel returned it (positive).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.0))
    }
}

impl std::error::Error for Errno {}

/// A failed operation on kernel state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a request.
    #[error("{what}: {errno}")]
    Kernel {
        /// What was attempted, with its object.
        what: String,
        /// The kernel's verdict.
        errno: Errno,
    },
    /// The connection to the kernel is gone, or its answer could not be read.
    #[error("{what}: {problem}")]
    Protocol {
        /// What was attempted.
        what: String,
        /// What was wrong with the exchange.
        problem: String,
    },
    /// A file or socket operation failed.
    #[error("{what}")]
    Io {
        /// What was attempted, with its object.
        what: String,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// A value that the kernel would not take, refused before it was sent.
    #[error("{what}: {problem}")]
    Invalid {
        /// Which value.
        what: String,
        /// Why, and what would be right.
        problem: String,
    },
}

impl Error {
    pub(crate) fn kernel(what: impl Into<String>, errno: i32) -> Self {
        Self::Kernel {
            what: what.into(),
            errno: Errno(errno.saturating_abs()),
        }
    }

    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }

    pub(crate) fn protocol(what: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self::Protocol {
            what: what.into(),
            problem: problem.to_string(),
        }
    }

    pub(crate) fn invalid(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid {
            what: what.into(),
            problem: problem.into(),
        }
    }

    /// The error number behind this error, if the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { errno, .. } => Some(errno.0),
            Self::Io { source, .. } => source.raw_os_error(),
            Self::Protocol { .. } | Self::Invalid { .. } => None,
        }
    }

    /// The object is there already (EEXIST).
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// The object, its device or its file is not there (ENOENT, ESRCH, ENODEV, ENXIO, EADDRNOTAVAIL).
    pub fn is_not_found(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::ENOENT | libc::ESRCH | libc::ENODEV | libc::ENXIO | libc::EADDRNOTAVAIL)
        )
    }

    /// The object is used by another one (EBUSY).
    pub fn is_busy(&self) -> bool {
        self.errno() == Some(libc::EBUSY)
    }

    /// The caller lacks a capability (EPERM, EACCES).
    pub fn is_permission(&self) -> bool {
        matches!(self.errno(), Some(libc::EPERM | libc::EACCES))
    }

    /// The kernel has no such feature (EOPNOTSUPP, EPROTONOSUPPORT, EAFNOSUPPORT).
    pub fn is_unsupported(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT)
        )
    }

    /// The device is down, or the next hop cannot be reached through it (ENETDOWN, ENETUNREACH).
    pub fn is_down(&self) -> bool {
        matches!(self.errno(), Some(libc::ENETDOWN | libc::ENETUNREACH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_the_error_number() {
        let error = |errno| Error::kernel("add route", errno);
        assert!(error(-libc::EEXIST).is_exists());
        assert!(error(libc::ESRCH).is_not_found());
        assert!(error(libc::ENODEV).is_not_found());
        assert!(error(libc::EBUSY).is_busy());
        assert!(error(libc::EPERM).is_permission());
        assert!(error(libc::EOPNOTSUPP).is_unsupported());
        assert!(error(libc::ENETDOWN).is_down());
        assert!(!error(libc::EINVAL).is_not_found());
        assert!(!Error::invalid("name", "too long").is_exists());
    }

    #[test]
    fn text_names_the_attempt_and_the_reason() {
        assert_eq!(
            Error::kernel("create link eth0", libc::EEXIST).to_string(),
            "create link eth0: File exists (os error 17)"
        );
    }
}

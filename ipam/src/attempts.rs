//! How often a read-modify-write is repeated, and after which errors.
//!
//! Owns the decision only; what is read again is the caller's business. A conflict is repeated at once: somebody else
//! made progress. A lost answer is repeated a few times with a growing pause, because the server may be restarting;
//! the caller must then find out whether the lost write was carried out.

use std::time::Duration;

use caracal_datastore::Error as DatastoreError;

use crate::clock;
use crate::error::{Error, Result};

/// Attempts against others who change the same object (Calico's `datastoreRetries`).
const ATTEMPTS_MAX: u32 = 100;
/// Attempts against a server that does not answer.
const LOST_MAX: u32 = 6;
/// First pause after a lost answer; doubles each time.
const LOST_PAUSE: Duration = Duration::from_millis(20);

/// The attempts of one read-modify-write.
#[derive(Debug)]
pub(crate) struct Attempts {
    what: String,
    made: u32,
    lost: u32,
}

/// How a failed write may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// The write was not carried out.
    Changed,
    /// The write may have been carried out.
    Lost,
}

impl Attempts {
    /// For an object that errors call `what`.
    pub(crate) fn of(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            made: 0,
            lost: 0,
        }
    }

    /// Counts an attempt that others were faster than.
    ///
    /// # Errors
    ///
    /// After too many.
    pub(crate) fn changed(&mut self) -> Result<Again> {
        self.made += 1;
        if self.made >= ATTEMPTS_MAX {
            return Err(Error::Contended {
                what: self.what.clone(),
                attempts: self.made,
            });
        }
        Ok(Again::Changed)
    }

    /// Counts a failed write.
    ///
    /// # Errors
    ///
    /// The error itself when repeating cannot help, and after too many attempts.
    pub(crate) async fn after(&mut self, error: DatastoreError) -> Result<Again> {
        let vanished = error.is_not_found() && !error.is_unknown_kind();
        if error.is_conflict() || error.is_already_exists() || vanished {
            return self.changed();
        }
        if !error.is_transient() || self.lost >= LOST_MAX {
            return Err(error.into());
        }
        clock::pause(LOST_PAUSE * 2u32.saturating_pow(self.lost)).await;
        self.lost += 1;
        Ok(Again::Lost)
    }
}

//! What a controller is given when it runs, and the shape of all of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use caracal_datastore::{Client, Object};
use caracal_ipam::Ipam;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Kind};
use crate::lease::{Error, Fence};
use crate::metrics::Metrics;
use crate::settings::Effective;

/// What a run of a controller is given.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The API.
    pub client: &'a Client,
    /// Address management.
    pub ipam: &'a Ipam,
    /// What the watches told.
    pub cluster: &'a Cluster,
    /// What to run with.
    pub effective: &'a Effective,
    /// What writes pass.
    pub fence: &'a Fence,
    /// Metrics.
    pub metrics: &'a Metrics,
    /// Set when a write was refused because its object had changed: the controller runs again soon, even if no
    /// change comes to its watches.
    pub conflicts: &'a AtomicBool,
    /// The time by the process's own clock.
    pub now: Instant,
    /// The time of day.
    pub wall: Timestamp,
}

/// When a controller wants to run again by itself; `None` = when something changes.
pub type Again = Option<Duration>;

/// A controller.
pub trait Controller: Send {
    /// Its name in logs and metrics.
    fn name(&self) -> &'static str;

    /// Whether a change of this kind is a reason to run.
    fn wakes(&self, kind: Kind) -> bool;

    /// Shortest time between two runs.
    fn pause(&self) -> Duration {
        Duration::from_millis(100)
    }

    /// Plans and carries out. Calling it again after an error goes on where it stopped.
    fn run<'a>(&'a mut self, context: &'a Context<'a>) -> BoxFuture<'a, Result<Again, Error>>;
}

impl Context<'_> {
    /// Changes fields of an object, if it has not changed since this version. False when it has: what changed wakes
    /// the controller again, and it plans anew.
    ///
    /// # Errors
    /// Any other failed request; this process no longer being the leader.
    pub async fn patch<K: Object>(
        &self,
        name: &str,
        version: Option<&str>,
        fields: Value,
    ) -> Result<bool, Error> {
        let patch = versioned(version, fields);
        self.settled(
            self.fence
                .write(self.client.patch_merge::<K>(None, name, &patch))
                .await,
        )
    }

    /// As [`Self::patch`], of the status.
    ///
    /// # Errors
    /// As [`Self::patch`].
    pub async fn patch_status<K: Object>(
        &self,
        name: &str,
        version: Option<&str>,
        status: Value,
    ) -> Result<bool, Error> {
        let patch = versioned(version, json!({"status": status}));
        self.settled(
            self.fence
                .write(self.client.patch_status::<K>(None, name, &patch))
                .await,
        )
    }

    /// Takes "it changed meanwhile" and "it is gone" as an answer: false.
    ///
    /// # Errors
    /// Any other error.
    pub fn settled<T>(&self, result: Result<T, Error>) -> Result<bool, Error> {
        match result {
            Ok(_) => Ok(true),
            Err(Error::Datastore(error)) if error.is_conflict() => {
                self.conflicts.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(Error::Datastore(error)) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A merge patch that holds only for this version of the object.
fn versioned(version: Option<&str>, mut fields: Value) -> Value {
    if let Some(version) = version {
        fields["metadata"]["resourceVersion"] = version.into();
    }
    fields
}

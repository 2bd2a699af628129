//! The pod runner: a kubelet's part for networking, for one node.

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "written by the runner, which comes next")
)]
mod record;

pub use record::{PodRecord, all, find, on_node};

use std::sync::Arc;

use caracal_datastore::Client;

use crate::error::{Error, Result};
use crate::state::Layout;
use crate::topology::{Machine, Plan};

/// What a runner needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The lab's directory.
    pub layout: Layout,
    /// The lab.
    pub plan: Arc<Plan>,
    /// The node whose pods are run.
    pub node: Machine,
    /// The process that keeps the node's namespaces.
    pub anchor: u32,
    /// Access to the API.
    pub client: Client,
}

/// A runner at work.
#[derive(Debug)]
pub struct PodRunner {}

impl PodRunner {
    /// Starts running the node's pods. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The node's namespaces cannot be opened.
    pub fn start(config: Config) -> Result<Self> {
        Err(Error::refused(format!(
            "pods of {} are not run in this version",
            config.node.name
        )))
    }

    /// Ends every pod: processes, CNI DEL, namespaces. The Pod objects stay.
    pub async fn stop(self) {
        tokio::task::yield_now().await;
    }
}

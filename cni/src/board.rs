//! Which pods' policy is in the kernel, as felix tells it to the service.
//!
//! Pods are named by their UID: a pod that came back under the same name has other labels and so another policy.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;

/// The UIDs of the pods whose policy holds. Clones share it.
#[derive(Clone, Debug)]
pub struct Board {
    pods: watch::Sender<BTreeSet<String>>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            pods: watch::Sender::new(BTreeSet::new()),
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

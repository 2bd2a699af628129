//! The pods of this node between the CNI service and the calculation: whose policy is in the kernel, for those who
//! wait for a pod to be protected before its container runs; and addresses that Pods do not say yet, because the API
//! server was away when they started.
//!
//! Bookkeeping only; both directions go over the service's board.

use std::collections::BTreeMap;

use caracal_api::meta;
use caracal_api::virtual_::workload_endpoint;
use caracal_cni::board::{Board, Unwritten};
use caracal_felix_core::Update;
use caracal_felix_core::update::Key;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

/// The pods of this node on their way into the kernel.
#[derive(Debug)]
pub(crate) struct Pods {
    node: String,
    board: Option<Board>,
    changes: Option<watch::Receiver<BTreeMap<String, Unwritten>>>,
    /// The pods of this node as the API server has them.
    own: BTreeMap<Key, Box<Pod>>,
    unwritten: BTreeMap<String, Unwritten>,
    seen: Vec<String>,
    calculated: Vec<String>,
}

impl Pods {
    /// None yet.
    pub(crate) fn of(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            board: None,
            changes: None,
            own: BTreeMap::new(),
            unwritten: BTreeMap::new(),
            seen: Vec::new(),
            calculated: Vec::new(),
        }
    }

    /// Where to tell.
    pub(crate) fn tell(&mut self, board: Board) {
        self.changes = Some(board.unwritten());
        self.board = Some(board);
    }

    /// Takes in what the calculation takes in.
    pub(crate) fn on_update(&mut self, update: &Update) {
        let (Update::Pod(key, pod), Some(board)) = (update, &self.board) else {
            return;
        };
        let own = pod.as_ref().filter(|pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
            node == Some(&self.node)
        });
        let uid = own.and_then(|pod| pod.metadata.uid.clone());
        let before = match own {
            Some(pod) => self.own.insert(key.clone(), pod.clone()),
            None => self.own.remove(key),
        };
        let before = before.and_then(|pod| pod.metadata.uid);
        if before == uid {
            return;
        }
        if let Some(before) = before {
            self.seen.retain(|seen| *seen != before);
            self.calculated.retain(|calculated| *calculated != before);
            board.remove(&before);
        }
        self.seen.extend(uid);
    }

    /// The update with the addresses that its Pod does not say yet.
    pub(crate) fn complete(&self, update: Update) -> Update {
        match update {
            Update::Pod(key, Some(pod)) => Update::Pod(key, Some(self.completed(pod))),
            other => other,
        }
    }

    fn completed(&self, mut pod: Box<Pod>) -> Box<Pod> {
        let unwritten = pod.metadata.uid.as_ref().and_then(|uid| self.unwritten.get(uid));
        if let Some(unwritten) = unwritten.filter(|_| !workload_endpoint::has_address(&pod)) {
            let texts: Vec<String> = unwritten.addresses.iter().map(ToString::to_string).collect();
            let annotations = pod.metadata.annotations.get_or_insert_default();
            annotations.insert(
                meta::POD_IP.to_owned(),
                texts.first().cloned().unwrap_or_default(),
            );
            annotations.insert(meta::POD_IPS.to_owned(), texts.join(","));
            annotations.insert(meta::POD_CONTAINER_ID.to_owned(), unwritten.container_id.clone());
        }
        pod
    }

    /// Waits until what Pods do not say changes; returns the updates that follow. Never ends without a board.
    pub(crate) async fn next(&mut self) -> Vec<Update> {
        let changed = match &mut self.changes {
            Some(changes) => changes.changed().await.is_ok(),
            None => false,
        };
        let Some(changes) = self.changes.as_mut().filter(|_| changed) else {
            return std::future::pending().await;
        };
        let after = changes.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.unwritten, after);
        let differs = |pod: &Pod| {
            let uid = pod.metadata.uid.as_ref();
            uid.is_some_and(|uid| before.get(uid) != self.unwritten.get(uid))
        };
        let concerned = self.own.iter().filter(|(_, pod)| differs(pod));
        concerned
            .map(|(key, pod)| Update::Pod(key.clone(), Some(self.completed(pod.clone()))))
            .collect()
    }

    /// Everything taken in so far has been calculated.
    pub(crate) fn calculated(&mut self) {
        self.calculated.append(&mut self.seen);
    }

    /// Everything calculated so far is in the kernel.
    pub(crate) fn programmed(&mut self) {
        if let Some(board) = self.board.as_ref().filter(|_| !self.calculated.is_empty()) {
            board.add(self.calculated.drain(..));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::api::core::v1::PodSpec;

    use super::*;

    fn update(name: &str, node: &str, uid: &str) -> Update {
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid.to_owned());
        pod.spec = Some(PodSpec {
            node_name: Some(node.to_owned()),
            ..PodSpec::default()
        });
        Update::Pod(key(name), Some(Box::new(pod)))
    }

    fn key(name: &str) -> Key {
        Key {
            namespace: "default".to_owned(),
            name: name.to_owned(),
        }
    }

    async fn holds(board: &Board, uid: &str) -> bool {
        board.wait_for(uid, Duration::from_millis(1)).await
    }

    #[tokio::test]
    async fn a_pod_is_told_after_it_was_calculated_and_programmed() {
        let board = Board::default();
        let mut pods = Pods::of("node-1");
        pods.tell(board.clone());
        pods.on_update(&update("a", "node-1", "u1"));
        pods.on_update(&update("b", "node-2", "u2"));
        pods.programmed();
        assert!(!holds(&board, "u1").await, "not calculated yet");
        pods.calculated();
        assert!(!holds(&board, "u1").await, "not programmed yet");
        pods.programmed();
        assert!(holds(&board, "u1").await);
        assert!(!holds(&board, "u2").await, "of another node");
        // The same name with another pod behind it.
        pods.on_update(&update("a", "node-1", "u3"));
        assert!(!holds(&board, "u1").await);
        pods.on_update(&Update::Pod(key("a"), None));
        pods.calculated();
        pods.programmed();
        assert!(!holds(&board, "u3").await, "gone before it was programmed");
    }

    #[tokio::test]
    async fn an_address_that_the_pod_does_not_say_is_calculated_with() {
        let board = Board::default();
        let mut pods = Pods::of("node-1");
        pods.tell(board.clone());
        pods.on_update(&update("a", "node-1", "u1"));
        pods.on_update(&update("b", "node-1", "u2"));
        let address = |update: &Update| match update {
            Update::Pod(_, Some(pod)) => pod.metadata.annotations.as_ref()?.get(meta::POD_IPS).cloned(),
            _ => None,
        };
        board.note_unwritten(
            "u1",
            Unwritten {
                container_id: "c1".to_owned(),
                addresses: vec!["10.0.0.1/32".parse().unwrap()],
            },
        );
        let updates = pods.next().await;
        assert_eq!(updates.len(), 1);
        assert_eq!(address(&updates[0]).as_deref(), Some("10.0.0.1/32"));
        let seen = pods.complete(update("a", "node-1", "u1"));
        assert_eq!(
            address(&seen).as_deref(),
            Some("10.0.0.1/32"),
            "also when the pod is told again"
        );
        board.forget_unwritten("c1");
        let updates = pods.next().await;
        assert_eq!(address(&updates[0]), None);
    }
}

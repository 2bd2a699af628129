//! Whose policy is in the kernel: the pods of this node whose latest appearance was calculated and programmed.
//!
//! Pure bookkeeping for those who wait for a pod to be protected before its container runs.

use std::collections::BTreeMap;

use caracal_cni::board::Board;
use caracal_felix_core::Update;
use caracal_felix_core::update::Key;

/// The pods of this node on their way into the kernel.
#[derive(Debug)]
pub(crate) struct Pods {
    node: String,
    board: Option<Board>,
    uids: BTreeMap<Key, String>,
    seen: Vec<String>,
    calculated: Vec<String>,
}

impl Pods {
    /// None yet.
    pub(crate) fn of(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            board: None,
            uids: BTreeMap::new(),
            seen: Vec::new(),
            calculated: Vec::new(),
        }
    }

    /// Where to tell.
    pub(crate) fn tell(&mut self, board: Board) {
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
        let before = match &uid {
            Some(uid) => self.uids.insert(key.clone(), uid.clone()),
            None => self.uids.remove(key),
        };
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

    use k8s_openapi::api::core::v1::{Pod, PodSpec};

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
}

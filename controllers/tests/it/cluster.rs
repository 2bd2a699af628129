//! A cluster of an embedded API server, and processes of controllers over it.

use std::collections::BTreeMap;
use std::time::Duration;

use caracal_apiserver::ApiServer;
use caracal_controllers::lease::{Candidate, Times};
use caracal_controllers::run::{Addresses, Options, run};
use caracal_datastore::{Client, ListOptions, Object};
use caracal_ipam::Ipam;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a condition may take to come true on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// Times of an election that ends within a test.
pub(crate) const TIMES: Times = Times {
    duration: Duration::from_secs(3),
    renew_deadline: Duration::from_secs(2),
    retry_period: Duration::from_millis(200),
};

pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) ipam: Ipam,
}

/// A process of controllers.
pub(crate) struct Process {
    task: JoinHandle<()>,
    shutdown: Option<oneshot::Sender<()>>,
}

impl Process {
    /// As by SIGTERM.
    pub(crate) async fn stop(mut self) {
        let _ = self.shutdown.take().unwrap().send(());
        (&mut self.task).await.unwrap();
    }

    /// As by SIGKILL.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self::over(&ApiServer::in_memory())
    }

    pub(crate) fn over(server: &ApiServer) -> Self {
        let client = Client::from_service(server.service(), "default");
        let ipam = Ipam::new(client.clone());
        Self { client, ipam }
    }

    /// Deletes a pod as the pod garbage collector does for nodes that are gone: nobody is left to end it gracefully.
    pub(crate) async fn force_delete_pod(&self, name: &str) {
        let pods: kube::Api<Pod> = kube::Api::namespaced(self.client.kube().clone(), "default");
        let now = kube::api::DeleteParams::default().grace_period(0);
        pods.delete(name, &now).await.unwrap();
    }

    pub(crate) fn start(&self, identity: &str) -> Process {
        start_over(self.client.clone(), identity, &[])
    }

    pub(crate) async fn node(&self, name: &str, metadata: Value) -> Node {
        let mut object = json!({"metadata": metadata});
        object["metadata"]["name"] = name.into();
        let node: Node = serde_json::from_value(object).unwrap();
        self.client.create(&node).await.unwrap()
    }

    /// Makes an object from its JSON form.
    pub(crate) async fn make<K: Object>(&self, value: Value) -> K {
        let object: K = serde_json::from_value(value).unwrap();
        self.client.create(&object).await.unwrap()
    }

    pub(crate) async fn get<K: Object>(&self, name: &str) -> Option<K> {
        self.client.get(None, name).await.unwrap()
    }

    pub(crate) async fn all<K: Object>(&self) -> Vec<K> {
        self.client.list(None, &ListOptions::default()).await.unwrap()
    }

    pub(crate) async fn delete<K: Object>(&self, namespace: Option<&str>, name: &str) {
        let deleted = self
            .client
            .delete::<K>(namespace, name, caracal_datastore::Preconditions::default())
            .await;
        assert!(deleted.unwrap(), "there was no {name}");
    }
}

pub(crate) fn start_over(client: Client, identity: &str, environment: &[(&str, &str)]) -> Process {
    if std::env::var_os("CARACAL_LOG").is_some() {
        let _ = caracal_daemon::logging::init("controllers", caracal_daemon::logging::Format::Text);
    }
    let (shutdown, ended) = oneshot::channel::<()>();
    let options = Options {
        candidate: Candidate {
            namespace: "kube-system".to_owned(),
            name: "caracal-controllers".to_owned(),
            identity: identity.to_owned(),
            times: TIMES,
        },
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        addresses: Addresses {
            metrics: None,
            health: None,
        },
        level: None,
        seed: 1,
    };
    let task = tokio::spawn(async move {
        let ended = async move {
            let _ = ended.await;
        };
        run(client, options, ended).await.unwrap();
    });
    Process {
        task,
        shutdown: Some(shutdown),
    }
}

/// Waits until something is so.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "not within the time: {what}"
        );
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Looks for a while that something stays so.
pub(crate) async fn stays(what: &str, time: Duration, mut look: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < deadline {
        assert!(look().await, "did not stay so: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

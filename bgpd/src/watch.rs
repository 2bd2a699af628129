//! Watches of the Kubernetes API, and the snapshot that they keep up to date.
//!
//! One task for each kind turns objects into small changes; the owner puts them into a [`Store`]. When the API is
//! away, the store keeps what it knows. Never decides what objects mean.

mod objects;
mod services;
mod store;

use std::collections::BTreeMap;

use caracal_api::v3;
use caracal_datastore::{Client, Event, Key, Object, WatchScope};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use store::{Change, Kind, Store};

/// Changes waiting for the owner.
const CHANGES_MAX: usize = 256;

/// The running watches. Dropping them ends the tasks.
#[derive(Debug)]
pub struct Watches {
    client: Client,
    node: String,
    secrets_namespace: String,
    changes: mpsc::Sender<Change>,
    tasks: Vec<Task>,
    secrets: BTreeMap<String, Task>,
    services: Vec<Task>,
    workloads: Option<Task>,
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watches {
    /// Starts watching everything but Secrets and Services, which are followed when they matter.
    #[must_use]
    pub fn start(client: Client, node: &str, secrets_namespace: &str) -> (Self, mpsc::Receiver<Change>) {
        let (changes, receiver) = mpsc::channel(CHANGES_MAX);
        let mut watches = Self {
            client,
            node: node.to_owned(),
            secrets_namespace: secrets_namespace.to_owned(),
            changes,
            tasks: Vec::new(),
            secrets: BTreeMap::new(),
            services: Vec::new(),
            workloads: None,
        };
        watches.start_all();
        (watches, receiver)
    }

    fn start_all(&mut self) {
        let all = WatchScope::default;
        let node = self.node.clone();
        let asked = self.node.clone();
        let tasks = vec![
            self.follow(Kind::Node, all(), |key, object: Option<Node>| {
                Change::Node(key.name, object.as_ref().and_then(objects::node).map(Box::new))
            }),
            self.follow(
                Kind::Configuration,
                all(),
                |key, object: Option<v3::BGPConfiguration>| {
                    Change::Configuration(key.name, object.map(|object| Box::new(object.spec)))
                },
            ),
            self.follow(Kind::Peer, all(), |key, object: Option<v3::BGPPeer>| {
                Change::Peer(key.name, object.map(|object| Box::new(object.spec)))
            }),
            self.follow(Kind::Filter, all(), |key, object: Option<v3::BGPFilter>| {
                Change::Filter(key.name, object.map(|object| Box::new(object.spec)))
            }),
            self.follow(Kind::Pool, all(), |key, object: Option<v3::IPPool>| {
                Change::Pool(key.name, object.map(|object| Box::new(object.spec)))
            }),
            self.follow(
                Kind::Affinity,
                all(),
                move |key, object: Option<v3::BlockAffinity>| {
                    // Those of other nodes are of no interest and would only cost memory.
                    let own = object.map(|object| object.spec).filter(|spec| spec.node == node);
                    Change::Affinity(key.name, own.map(Box::new))
                },
            ),
            self.follow(
                Kind::Felix,
                all(),
                |key, object: Option<v3::FelixConfiguration>| {
                    Change::Felix(key.name, object.map(|object| Box::new(object.spec)))
                },
            ),
            self.follow(
                Kind::NodeStatus,
                all(),
                move |key, object: Option<v3::CalicoNodeStatus>| {
                    let own = object.map(|object| object.spec).filter(|spec| spec.node == asked);
                    Change::NodeStatus(key.name, own)
                },
            ),
        ];
        self.tasks = tasks;
    }

    /// Follows exactly these Secrets.
    pub fn follow_secrets(&mut self, names: impl IntoIterator<Item = String>) {
        let mut running = std::mem::take(&mut self.secrets);
        for name in names {
            if self.secrets.contains_key(&name) {
                continue;
            }
            let task = running.remove(&name).unwrap_or_else(|| {
                let scope = WatchScope {
                    namespace: Some(self.secrets_namespace.clone()),
                    fields: Some(format!("metadata.name={name}")),
                    ..WatchScope::default()
                };
                self.follow(Kind::Secret, scope, |key, object: Option<Secret>| {
                    Change::Secret(key.name, object.map(store::secret_values))
                })
            });
            self.secrets.insert(name, task);
        }
    }

    /// Follows Services and their endpoints, or stops to.
    pub fn follow_services(&mut self, on: bool) {
        if !on {
            self.services.clear();
        } else if self.services.is_empty() {
            self.services = vec![
                self.follow(
                    Kind::Service,
                    WatchScope::default(),
                    |key, object: Option<Service>| {
                        let service = object.as_ref().map(caracal_bgpd_compile::Service::from_k8s);
                        Change::Service(key.to_string(), service.map(Box::new))
                    },
                ),
                self.follow(
                    Kind::EndpointSlice,
                    WatchScope::default(),
                    |key, object: Option<EndpointSlice>| {
                        Change::Endpoints(key.to_string(), object.as_ref().and_then(services::endpoints))
                    },
                ),
            ];
        }
    }

    /// Follows the Pods of this node, or stops to.
    pub fn follow_workloads(&mut self, on: bool) {
        if !on {
            self.workloads = None;
        } else if self.workloads.is_none() {
            let scope = WatchScope {
                fields: Some(format!("spec.nodeName={}", self.node)),
                ..WatchScope::default()
            };
            self.workloads = Some(self.follow(Kind::Workload, scope, |key, object: Option<Pod>| {
                let workload = object.as_ref().and_then(objects::workload);
                Change::Workload(key.to_string(), workload.map(Box::new))
            }));
        }
    }

    fn follow<K: Object>(
        &self,
        kind: Kind,
        scope: WatchScope,
        to_change: impl Fn(Key, Option<K>) -> Change + Send + 'static,
    ) -> Task {
        let events = self.client.watch::<K>(scope);
        let changes = self.changes.clone();
        Task(tokio::spawn(async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                let change = match event {
                    Event::Applied(object) => to_change(Key::of(&object), Some(object)),
                    Event::Deleted(key) => to_change(key, None),
                    Event::InSync => Change::InSync(kind),
                    Event::Trouble(reason) => Change::Trouble(kind, reason),
                };
                if changes.send(change).await.is_err() {
                    return;
                }
            }
        }))
    }
}

//! The pod runner: a kubelet's part for networking, for one node.
//!
//! Owns the pods of its node: their sandboxes, processes and status. Never places pods, pulls images or programs the
//! network itself: the CNI chain does. Each pod name has a worker of its own, which knows the newest object only.

mod container;
mod record;
mod reporter;
mod sandbox;
mod spec;
mod status;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;

use caracal_datastore::{Client, Event, Key, WatchScope};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

pub(crate) use container::bind_everywhere;
pub use record::{PodRecord, all, find, on_node};

use crate::cni_chain::Runtime;
use crate::enter::{Namespaces, Place};
use crate::error::Result;
use crate::state::Layout;
use crate::topology::{Machine, Plan};

/// CNI chains that run at the same time on one node.
const PLUGINS_MAX: usize = 8;

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

/// What the workers of a node share.
struct Context {
    config: Config,
    place: Arc<Place>,
    chain: Runtime,
    /// Plugins that may run at once: a burst of pods must not become a burst of processes.
    plugins: Semaphore,
    /// The runner ends: what cannot be taken down is left to the sweep.
    stopping: watch::Receiver<bool>,
}

/// A runner at work. [`PodRunner::stop`] ends it and its pods; dropping it leaves the pods to the sweep.
#[derive(Debug)]
pub struct PodRunner {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl PodRunner {
    /// Starts running the node's pods. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The node's namespaces cannot be opened.
    pub fn start(config: Config) -> Result<Self> {
        let place = Arc::new(Place::Machine(Namespaces::of_process(config.anchor)?));
        let chain = Runtime::new(Arc::clone(&place), &config.plan.id);
        let (stop, stopping) = watch::channel(false);
        let context = Arc::new(Context {
            config,
            place,
            chain,
            plugins: Semaphore::new(PLUGINS_MAX),
            stopping: stopping.clone(),
        });
        let task = tokio::spawn(dispatch(context, stopping));
        Ok(Self { stop, task })
    }

    /// Ends every pod: processes, CNI DEL, namespaces. The Pod objects stay.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

struct Worker {
    wanted: watch::Sender<Option<Pod>>,
    task: JoinHandle<()>,
}

/// Hands each pod to the worker of its name.
async fn dispatch(context: Arc<Context>, mut stopping: watch::Receiver<bool>) {
    let scope = WatchScope {
        fields: Some(format!("spec.nodeName={}", context.config.node.name)),
        ..WatchScope::default()
    };
    let mut events = Box::pin(context.config.client.watch::<Pod>(scope));
    let mut workers: BTreeMap<(String, String), Worker> = BTreeMap::new();
    let (idle, mut idle_names) = mpsc::unbounded_channel();
    for left in on_node(&context.config.layout, &context.config.node).unwrap_or_default() {
        // A worker begins by taking down what was left under its name.
        let key = (left.namespace, left.name);
        workers.insert(key.clone(), start_worker(&context, key, None, &idle));
    }
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::Applied(pod)) => {
                    let of = Key::of(&pod);
                    let key = (of.namespace.unwrap_or_default(), of.name);
                    match workers.get(&key) {
                        Some(worker) => { worker.wanted.send_replace(Some(pod)); }
                        None => {
                            let worker = start_worker(&context, key.clone(), Some(pod), &idle);
                            workers.insert(key, worker);
                        }
                    }
                }
                Some(Event::Deleted(key)) => {
                    if let Some(worker) = workers.get(&(key.namespace.unwrap_or_default(), key.name)) {
                        worker.wanted.send_replace(None);
                    }
                }
                Some(Event::InSync) => {}
                Some(Event::Trouble(error)) => {
                    tracing::debug!(node = %context.config.node.name, error = %error, "pods are not watched");
                }
                None => break,
            },
            Some(key) = idle_names.recv() => {
                // Unless a pod came under the name meanwhile.
                if workers.get(&key).is_some_and(|worker| worker.wanted.borrow().is_none()) {
                    workers.remove(&key);
                }
            }
            _ = stopping.wait_for(|stopping| *stopping) => break,
        }
    }
    let tasks: Vec<_> = workers
        .into_values()
        .map(|Worker { wanted, task }| {
            wanted.send_replace(None);
            task
        })
        .collect();
    futures::future::join_all(tasks).await;
}

fn start_worker(
    context: &Arc<Context>,
    key: (String, String),
    pod: Option<Pod>,
    idle: &mpsc::UnboundedSender<(String, String)>,
) -> Worker {
    let (wanted, wanted_out) = watch::channel(pod);
    let task = tokio::spawn(worker::serve(Arc::clone(context), key, wanted_out, idle.clone()));
    Worker { wanted, task }
}

#[cfg(test)]
mod tests;

//! The versioned store: compare-and-swap by revision, one order of all changes, watches over a bounded history.
//!
//! What readers and watches see is durable: a change becomes visible when the backend has it. Writers compare with the
//! newest state, durable or on its way; changes become durable in the order of their revisions, so one that builds on
//! another never outlives it.

mod commit;
mod history;
mod object;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

pub(crate) use commit::{Pending, Write, run_committer};
pub(crate) use history::{Change, ChangeKind, HistoryLimits};
pub(crate) use object::{Attributes, Object, ObjectKey};

use crate::backend::{Backend, Loaded};
use history::History;

/// Why a write did not happen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum WriteError {
    /// The object is not at the revision that the writer saw.
    Stale,
    /// There is one already.
    Exists,
    /// There is one already, which is being deleted.
    ExistsTerminating,
    /// The namespace does not exist.
    NoNamespace,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// The object is too large.
    TooLarge,
    /// The disk is full; nothing was written.
    Full(String),
    /// The backend failed; nothing was written.
    Storage(String),
}

/// What a writer saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expect {
    Absent,
    Revision(u64),
}

/// The name under which namespaces are stored; new objects look there whether they may be.
pub(crate) const NAMESPACES: &str = "namespaces";

pub(crate) struct Collection {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    /// What is on its way to the backend: newest state of a key, and how many changes of it are on their way.
    pending: HashMap<ObjectKey, (Option<Arc<Object>>, usize)>,
    history: History,
    signal: watch::Sender<u64>,
}

impl Collection {
    fn new(revision: u64) -> Self {
        Self {
            objects: BTreeMap::new(),
            pending: HashMap::new(),
            history: History::starting_at(revision),
            signal: watch::Sender::new(revision),
        }
    }

    fn latest(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        match self.pending.get(key) {
            Some((newest, _)) => newest.as_ref(),
            None => self.objects.get(key),
        }
    }
}

pub(crate) struct State {
    /// The newest durable revision.
    revision: u64,
    /// The newest revision given out.
    assigned: u64,
    collections: HashMap<Arc<str>, Collection>,
}

impl State {
    fn collection(&mut self, name: &Arc<str>) -> &mut Collection {
        let revision = self.revision;
        self.collections
            .entry(Arc::clone(name))
            .or_insert_with(|| Collection::new(revision))
    }
}

/// Everything at one revision, each object with the name of its collection.
pub(crate) struct Snapshot {
    pub(crate) revision: u64,
    pub(crate) objects: Vec<(Arc<str>, Arc<Object>)>,
}

/// A list at one revision.
pub(crate) struct Listing {
    pub(crate) objects: Vec<Arc<Object>>,
    pub(crate) revision: u64,
}

/// What a watch finds when it looks.
pub(crate) enum Found {
    Changes { changes: Vec<Arc<Change>>, up_to: u64 },
    Forgotten { oldest: u64 },
}

/// The store. See the module.
pub(crate) struct Store {
    state: Mutex<State>,
    limits: HistoryLimits,
    queue: Option<std::sync::mpsc::Sender<Pending>>,
    /// Why the last commit failed, if it did.
    failing: Mutex<Option<String>>,
}

impl Store {
    /// A store that keeps nothing.
    pub(crate) fn in_memory(limits: HistoryLimits) -> Arc<Self> {
        let state = State {
            revision: 1,
            assigned: 1,
            collections: HashMap::new(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            limits,
            queue: None,
            failing: Mutex::default(),
        })
    }

    /// A store over a backend, with what was loaded from it. Its thread ends when the store is dropped.
    pub(crate) fn durable(
        backend: Box<dyn Backend>,
        loaded: Loaded,
        limits: HistoryLimits,
    ) -> std::io::Result<Arc<Self>> {
        let revision = loaded.revision.max(1);
        let mut state = State {
            revision,
            assigned: revision,
            collections: HashMap::new(),
        };
        for (name, changed) in &loaded.changed {
            let name: Arc<str> = name.as_str().into();
            state.collections.insert(name, Collection::new(*changed));
        }
        let mut shared_paths: HashMap<Arc<str>, Arc<[String]>> = HashMap::new();
        for (name, key, json) in loaded.objects {
            let name: Arc<str> = name.as_str().into();
            let value: Value = serde_json::from_slice(&json).map_err(std::io::Error::other)?;
            let paths = shared_paths.entry(Arc::clone(&name));
            let paths = paths.or_insert_with(|| crate::resource::selectable_paths(&name).into());
            let object = commit::restored(key.clone(), &value, json.into(), paths);
            state.collection(&name).objects.insert(key, Arc::new(object));
        }
        let (queue, incoming) = std::sync::mpsc::channel();
        let store = Arc::new(Self {
            state: Mutex::new(state),
            limits,
            queue: Some(queue),
            failing: Mutex::default(),
        });
        let weak = Arc::downgrade(&store);
        std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || run_committer(&weak, backend, &incoming))?;
        Ok(store)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest durable revision.
    pub(crate) fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// The durable state of an object.
    pub(crate) fn get(&self, collection: &Arc<str>, key: &ObjectKey) -> Option<Arc<Object>> {
        self.lock().collections.get(collection)?.objects.get(key).cloned()
    }

    /// The newest state of an object, for a write to build on.
    pub(crate) fn latest(&self, collection: &Arc<str>, key: &ObjectKey) -> Option<Arc<Object>> {
        self.lock().collections.get(collection)?.latest(key).cloned()
    }

    /// The durable objects of a kind, in a namespace or in all.
    pub(crate) fn list(&self, collection: &Arc<str>, namespace: Option<&str>) -> Listing {
        let state = self.lock();
        let revision = state.revision;
        let Some(collection) = state.collections.get(collection) else {
            return Listing {
                objects: Vec::new(),
                revision,
            };
        };
        let objects = match namespace {
            None => collection.objects.values().cloned().collect(),
            Some(namespace) => collection
                .objects
                .range(ObjectKey::new(namespace, "")..)
                .take_while(|(key, _)| key.namespace == namespace)
                .map(|(_, object)| Arc::clone(object))
                .collect(),
        };
        Listing { objects, revision }
    }

    /// Why the store could not be written last; nothing when it could.
    pub(crate) fn failing(&self) -> Option<String> {
        self.failing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_failing(&self, why: Option<String>) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// How many objects and watches each kind has.
    pub(crate) fn counts(&self) -> Vec<(Arc<str>, usize, usize)> {
        let count = |(name, collection): (&Arc<str>, &Collection)| {
            (
                Arc::clone(name),
                collection.objects.len(),
                collection.signal.receiver_count(),
            )
        };
        self.lock().collections.iter().map(count).collect()
    }

    /// Everything that is durable, and the revision of that moment.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        let mut all = Vec::new();
        for (name, collection) in &state.collections {
            all.extend(
                collection
                    .objects
                    .values()
                    .map(|object| (Arc::clone(name), Arc::clone(object))),
            );
        }
        Snapshot {
            revision: state.revision,
            objects: all,
        }
    }

    /// The names of all kinds that were stored or watched.
    pub(crate) fn collections(&self) -> Vec<Arc<str>> {
        self.lock().collections.keys().cloned().collect()
    }

    /// Tells of revisions at which something of a kind changed.
    pub(crate) fn subscribe(&self, collection: &Arc<str>) -> watch::Receiver<u64> {
        self.lock().collection(collection).signal.subscribe()
    }

    /// What changed after `revision`.
    pub(crate) fn changes_after(&self, collection: &Arc<str>, revision: u64, limit: usize) -> Found {
        let mut state = self.lock();
        let up_to = state.revision;
        let history = &state.collection(collection).history;
        // A revision that was never given out is from another life of this server.
        let known = if revision > up_to {
            None
        } else {
            history.after(revision, limit)
        };
        match known {
            None => Found::Forgotten {
                oldest: history.oldest().max(if revision > up_to { up_to } else { 0 }),
            },
            Some(changes) => {
                let full = changes.len() == limit;
                let last = changes.last().map(|change| change.object.revision);
                Found::Changes {
                    up_to: if full { last.unwrap_or(up_to) } else { up_to },
                    changes,
                }
            }
        }
    }

    /// Writes, and returns when what was written is durable.
    pub(crate) async fn write(&self, write: Write) -> Result<Arc<Object>, WriteError> {
        let waiting = {
            let mut state = self.lock();
            let prepared = commit::prepare(&mut state, write)?;
            match &self.queue {
                None => {
                    let object = Arc::clone(&prepared.change.object);
                    commit::apply(&mut state, prepared, self.limits);
                    return Ok(object);
                }
                Some(queue) => {
                    let (done, waiting) = oneshot::channel();
                    commit::enqueue(&mut state, prepared, done, queue)?;
                    waiting
                }
            }
        };
        waiting
            .await
            .unwrap_or_else(|_| Err(WriteError::Storage("the store is closed".to_owned())))
    }
}

/// A line of a watch.
pub(crate) fn watch_line(kind: &str, json: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(json.len() + kind.len() + 24);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(json);
    line.extend_from_slice(b"}\n");
    line.into()
}

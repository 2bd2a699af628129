//! From a write to a durable, visible change. Many writes share one commit of the backend.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Weak};

use serde_json::Value;
use tokio::sync::oneshot;

use super::history::{Change, ChangeKind, HistoryLimits};
use super::object::{Attributes, Object, ObjectKey};
use super::{Expect, NAMESPACES, State, Store, WriteError, watch_line};
use crate::backend::{Backend, BackendError, Record};

/// Objects larger than this are refused.
const OBJECT_LIMIT: usize = 3 << 19;
/// At most this many changes go into one commit.
const BATCH: usize = 512;

/// A write that someone wants done.
pub(crate) struct Write {
    pub(crate) collection: Arc<str>,
    pub(crate) key: ObjectKey,
    pub(crate) expect: Expect,
    /// The new state; of a deletion the last one.
    pub(crate) value: Value,
    pub(crate) delete: bool,
    /// Paths of the fields that selectors may look at.
    pub(crate) paths: Arc<[String]>,
}

pub(crate) struct Prepared {
    collection: Arc<str>,
    pub(super) change: Arc<Change>,
}

/// A prepared change on its way to the backend.
pub(crate) struct Pending {
    prepared: Prepared,
    done: oneshot::Sender<Result<Arc<Object>, WriteError>>,
}

/// An object as it was stored before this start.
pub(super) fn restored(key: ObjectKey, value: &Value, json: bytes::Bytes, paths: &Arc<[String]>) -> Object {
    let revision = value.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    Object {
        key,
        revision: revision.and_then(|text| text.parse().ok()).unwrap_or(0),
        attributes: Attributes::of(value, paths),
        deleting: value.pointer("/metadata/deletionTimestamp").is_some(),
        written: std::time::Instant::now(),
        json,
    }
}

/// Compares with the newest state, gives the change its revision and encodes it.
pub(super) fn prepare(state: &mut State, mut write: Write) -> Result<Prepared, WriteError> {
    let newest = state
        .collections
        .get(&write.collection)
        .and_then(|collection| collection.latest(&write.key));
    match (write.expect, newest) {
        (Expect::Absent, Some(object)) if object.deleting => return Err(WriteError::ExistsTerminating),
        (Expect::Absent, Some(_)) => return Err(WriteError::Exists),
        (Expect::Revision(_), None) => return Err(WriteError::Stale),
        (Expect::Revision(wanted), Some(object)) if object.revision != wanted => {
            return Err(WriteError::Stale);
        }
        (Expect::Absent, None) | (Expect::Revision(_), Some(_)) => {}
    }
    let before = newest.map(|object| object.attributes.clone());
    if write.expect == Expect::Absent && !write.key.namespace.is_empty() {
        namespace_takes_objects(state, &write.key.namespace)?;
    }
    let revision = state.assigned + 1;
    if let Some(metadata) = write.value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), revision.to_string().into());
    }
    let kind = match (write.delete, write.expect) {
        (true, _) => ChangeKind::Deleted,
        (false, Expect::Absent) => ChangeKind::Added,
        (false, Expect::Revision(_)) => ChangeKind::Modified,
    };
    let json = serde_json::to_vec(&write.value).map_err(|error| WriteError::Storage(error.to_string()))?;
    if json.len() > OBJECT_LIMIT && !write.delete {
        return Err(WriteError::TooLarge);
    }
    let line = watch_line(kind.name(), &json);
    // The object is a part of the line: one copy serves reads and watches.
    let start = line.len() - json.len() - 2;
    let json = line.slice(start..line.len() - 2);
    let object = Arc::new(Object {
        key: write.key,
        revision,
        attributes: Attributes::of(&write.value, &write.paths),
        deleting: write.value.pointer("/metadata/deletionTimestamp").is_some(),
        written: std::time::Instant::now(),
        json,
    });
    state.assigned = revision;
    let change = Arc::new(Change {
        kind,
        object,
        before,
        line,
    });
    Ok(Prepared {
        collection: write.collection,
        change,
    })
}

fn namespace_takes_objects(state: &State, namespace: &str) -> Result<(), WriteError> {
    let namespaces = state.collections.get(NAMESPACES);
    match namespaces.and_then(|all| all.latest(&ObjectKey::new("", namespace))) {
        None => Err(WriteError::NoNamespace),
        Some(namespace) if namespace.deleting => Err(WriteError::NamespaceTerminating),
        Some(_) => Ok(()),
    }
}

/// Makes a durable change visible.
pub(super) fn apply(state: &mut State, prepared: Prepared, limits: HistoryLimits) {
    let revision = prepared.change.object.revision;
    let collection = state.collection(&prepared.collection);
    let key = prepared.change.object.key.clone();
    if let Some((_, count)) = collection.pending.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            collection.pending.remove(&key);
        }
    }
    match prepared.change.kind {
        ChangeKind::Deleted => drop(collection.objects.remove(&key)),
        ChangeKind::Added | ChangeKind::Modified => {
            collection
                .objects
                .insert(key, Arc::clone(&prepared.change.object));
        }
    }
    collection.history.push(prepared.change, limits);
    collection.signal.send_replace(revision);
    state.revision = revision;
}

pub(super) fn enqueue(
    state: &mut State,
    prepared: Prepared,
    done: oneshot::Sender<Result<Arc<Object>, WriteError>>,
    queue: &Sender<Pending>,
) -> Result<(), WriteError> {
    let object = Arc::clone(&prepared.change.object);
    let newest = (prepared.change.kind != ChangeKind::Deleted).then(|| Arc::clone(&object));
    let collection = state.collection(&prepared.collection);
    let entry = collection.pending.entry(object.key.clone()).or_insert((None, 0));
    entry.0 = newest;
    entry.1 += 1;
    queue
        .send(Pending { prepared, done })
        .map_err(|_| WriteError::Storage("the store is closed".to_owned()))
}

/// What a failed commit may have left in the file, although it was refused.
type Unsure = BTreeSet<(Arc<str>, ObjectKey)>;

/// The thread that owns the backend.
pub(crate) fn run_committer(
    store: &Weak<Store>,
    mut backend: Box<dyn Backend>,
    incoming: &Receiver<Pending>,
) {
    let mut unsure = Unsure::new();
    while let Ok(first) = incoming.recv() {
        let mut batch = vec![first];
        batch.extend(incoming.try_iter().take(BATCH - 1));
        let Some(store) = store.upgrade() else { return };
        let truth = truth(&store, &unsure);
        let mut records: Vec<Record<'_>> = truth.iter().map(Truth::record).collect();
        records.extend(batch.iter().map(|pending| record(&pending.prepared)));
        match backend.commit(&records) {
            Ok(()) => {
                unsure.clear();
                store.set_failing(None);
                finish(&store, batch);
            }
            Err(error) => {
                let place = |pending: &Pending| {
                    let key = pending.prepared.change.object.key.clone();
                    (Arc::clone(&pending.prepared.collection), key)
                };
                unsure.extend(batch.iter().map(place));
                store.set_failing(Some(error.to_string()));
                fail(&store, batch, incoming, &error);
            }
        }
    }
}

/// What is true of an object, to be written over what a failed commit may have left.
struct Truth {
    collection: Arc<str>,
    key: ObjectKey,
    object: Option<Arc<Object>>,
    revision: u64,
}

impl Truth {
    fn record(&self) -> Record<'_> {
        Record {
            collection: &self.collection,
            key: &self.key,
            revision: self.revision,
            json: self.object.as_ref().map(|object| &*object.json),
        }
    }
}

fn truth(store: &Store, unsure: &Unsure) -> Vec<Truth> {
    let revision = store.revision();
    let of = |(collection, key): &(Arc<str>, ObjectKey)| Truth {
        collection: Arc::clone(collection),
        key: key.clone(),
        object: store.get(collection, key),
        revision,
    };
    unsure.iter().map(of).collect()
}

fn record(prepared: &Prepared) -> Record<'_> {
    let object = &prepared.change.object;
    Record {
        collection: &prepared.collection,
        key: &object.key,
        revision: object.revision,
        json: (prepared.change.kind != ChangeKind::Deleted).then_some(&*object.json),
    }
}

fn finish(store: &Store, batch: Vec<Pending>) {
    let mut answers = Vec::with_capacity(batch.len());
    {
        let mut state = store.lock();
        for pending in batch {
            answers.push((pending.done, Arc::clone(&pending.prepared.change.object)));
            apply(&mut state, pending.prepared, store.limits);
        }
    }
    for (done, object) in answers {
        // A writer that went away does not need the answer.
        let _ = done.send(Ok(object));
    }
}

/// Nothing of the batch was written, and what came after it may build on it: all of it fails.
fn fail(store: &Store, mut batch: Vec<Pending>, incoming: &Receiver<Pending>, error: &BackendError) {
    let why = error.to_string();
    tracing::error!(error = why, "changes could not be stored and were refused");
    {
        let mut state = store.lock();
        batch.extend(incoming.try_iter());
        for collection in state.collections.values_mut() {
            collection.pending.clear();
        }
    }
    for pending in batch {
        let answer = if error.is_full() {
            WriteError::Full(why.clone())
        } else {
            WriteError::Storage(why.clone())
        };
        let _ = pending.done.send(Err(answer));
    }
}

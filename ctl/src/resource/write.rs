//! `create`, `apply` and `replace`.
//!
//! Resources are written in the order of the input. Neighbours of one kind do not depend on each other and go
//! together, a few at a time; a kind begins when all of the kind before it are done.

use std::time::Duration;

use caracal_datastore::init;
use futures::StreamExt as _;
use serde_json::{Map, Value, json};

use super::report::{self, Verb};
use super::trial::{self, Change};
use crate::args::{Apply, Create, Crud, DryRun, Replace};
use crate::error::Failure;
use crate::input::{self, Resource};
use crate::judge;
use crate::store::{Store, StoreError, id};
use crate::terminal::Terminal;

/// How often a replacement is tried when others write too.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// Resources of one kind that are written at a time.
const TOGETHER: usize = 8;

/// Carries out `create`.
pub(crate) async fn create(terminal: &Terminal, store: &Store, arguments: &Create) -> Result<(), Failure> {
    let way = Way {
        verb: Verb::CREATE,
        skip_exists: arguments.skip_exists,
    };
    each(terminal, store, &arguments.crud, way).await
}

/// Carries out `apply`: create, or replace what exists.
pub(crate) async fn apply(terminal: &Terminal, store: &Store, arguments: &Apply) -> Result<(), Failure> {
    let way = Way {
        verb: Verb::APPLY,
        skip_exists: false,
    };
    each(terminal, store, &arguments.crud, way).await
}

/// Carries out `replace`.
pub(crate) async fn replace(terminal: &Terminal, store: &Store, arguments: &Replace) -> Result<(), Failure> {
    let way = Way {
        verb: Verb::REPLACE,
        skip_exists: false,
    };
    each(terminal, store, &arguments.crud, way).await
}

#[derive(Clone, Copy)]
struct Way {
    verb: Verb,
    skip_exists: bool,
}

/// Writes each resource of the input and says how it went.
async fn each(terminal: &Terminal, store: &Store, crud: &Crud, way: Way) -> Result<(), Failure> {
    let Some(resources) = input::read(terminal, &crud.source)? else {
        return Ok(());
    };
    let how = crud.trial.dry_run;
    let writing = trial::store_for(store, how);
    if how == DryRun::None
        && let Err(error) = init::ensure_defaults(store.client()).await
    {
        tracing::info!(error = %error, "what every cluster has could not be made");
    }
    let mut errors = Vec::new();
    for group in groups(&resources) {
        let results = futures::stream::iter(group.iter().map(async |resource| {
            let flag = crud.source.namespace.as_deref();
            one(&writing, resource, flag, way, how).await
        }))
        .buffered(TOGETHER)
        .collect::<Vec<_>>()
        .await;
        for (resource, result) in group.iter().zip(results) {
            match result {
                Err(error) => errors.push(error.to_string()),
                Ok(outcome) if how != DryRun::None => {
                    let change = Change {
                        kind: resource.kind,
                        namespace: outcome.namespace.as_deref(),
                        name: resource.name(),
                        before: outcome.before.as_ref(),
                        after: Some(&outcome.after),
                    };
                    trial::show(terminal, &change)?;
                }
                Ok(_) => {}
            }
        }
    }
    report::say(terminal, way.verb, &resources, &errors, trial::suffix(how))
}

/// Neighbours of one kind, none of them twice.
fn groups(resources: &[Resource]) -> Vec<&[Resource]> {
    let mut groups = Vec::new();
    let mut start = 0;
    let mut seen = std::collections::BTreeSet::new();
    for (index, resource) in resources.iter().enumerate() {
        let key = (
            resource.namespace().map(str::to_owned),
            resource.name().to_owned(),
        );
        let begins = resources
            .get(start)
            .is_some_and(|first| first.kind != resource.kind)
            || seen.contains(&key);
        if begins {
            groups.push(resources.get(start..index).unwrap_or_default());
            start = index;
            seen.clear();
        }
        seen.insert(key);
    }
    groups.push(resources.get(start..).unwrap_or_default());
    groups
}

/// What became of one resource.
struct Outcome {
    namespace: Option<String>,
    /// The stored object, known in a trial only.
    before: Option<Value>,
    after: Value,
}

async fn one(
    store: &Store,
    resource: &Resource,
    flag: Option<&str>,
    way: Way,
    how: DryRun,
) -> Result<Outcome, StoreError> {
    let kind = resource.kind;
    let namespace = input::namespace(kind, resource.namespace(), flag, false)
        .map_err(|failure| StoreError::Other(failure.to_string()))?;
    if kind.kind == "ClusterInformation" {
        return Err(StoreError::Unsupported {
            verb: way.verb.name,
            id: kind.kind.to_owned(),
            reason: Some("resource is readonly".to_owned()),
        });
    }
    if let Some(refusal) = judge::refusal(resource) {
        return Err(StoreError::Other(refusal));
    }
    let before = match how {
        DryRun::None => None,
        DryRun::Client | DryRun::Server => {
            trial::stored(store, kind, namespace.as_deref(), resource.name()).await?
        }
    };
    let after = match how {
        DryRun::Client => {
            let mut after = locally(resource, namespace.as_deref(), before.as_ref(), way)?;
            judge::fill_in(kind, &mut after, before.is_none());
            after
        }
        DryRun::None | DryRun::Server => written(store, resource, namespace.as_deref(), way).await?,
    };
    Ok(Outcome {
        namespace,
        before,
        after,
    })
}

async fn written(
    store: &Store,
    resource: &Resource,
    namespace: Option<&str>,
    way: Way,
) -> Result<Value, StoreError> {
    if way.verb.name == Verb::REPLACE.name {
        return replace_one(store, resource, namespace).await;
    }
    let created = if way.verb.name == Verb::CREATE.name && has_version(resource) {
        Err(StoreError::Other(format!(
            "error with field Metadata.ResourceVersion = '{}' (field must not be set for a Create request)",
            version(&resource.object)
        )))
    } else {
        store
            .create(resource.kind, namespace, &bare(&resource.object, namespace))
            .await
    };
    match (created, way.verb.name == Verb::APPLY.name) {
        (Err(StoreError::Exists { .. } | StoreError::Unsupported { .. }), true) => {
            replace_one(store, resource, namespace).await
        }
        (Err(StoreError::Exists { .. }), false) if way.skip_exists => Ok(resource.object.clone()),
        (result, _) => result,
    }
}

/// What would be written, without a server that checks it.
fn locally(
    resource: &Resource,
    namespace: Option<&str>,
    before: Option<&Value>,
    way: Way,
) -> Result<Value, StoreError> {
    let id = || id(resource.kind, namespace, resource.name());
    match (before, way.verb.name) {
        (Some(before), "create") if way.skip_exists => Ok(before.clone()),
        (Some(_), "create") => Err(StoreError::Exists {
            id: id(),
            message: "it is stored already; use apply or replace".to_owned(),
        }),
        (None, "replace") => Err(StoreError::NotFound {
            id: id(),
            message: "nothing of this name is stored; use apply or create".to_owned(),
        }),
        (Some(before), _) => {
            let mut after = merged(before, &resource.object);
            if let (Some(status), Value::Object(map)) = (before.get("status"), &mut after) {
                map.insert("status".to_owned(), status.clone());
            }
            Ok(after)
        }
        (None, _) => Ok(bare(&resource.object, namespace)),
    }
}

fn version(object: &Value) -> &str {
    crate::store::text_at(object, "/metadata/resourceVersion")
}

fn has_version(resource: &Resource) -> bool {
    !version(&resource.object).is_empty()
}

/// Replaces an object: everything but labels and annotations of its metadata stays.
async fn replace_one(
    store: &Store,
    resource: &Resource,
    namespace: Option<&str>,
) -> Result<Value, StoreError> {
    let wanted = version(&resource.object);
    let mut attempt = 1;
    loop {
        let stored = store.get(resource.kind, namespace, resource.name()).await?;
        if has_version(resource) && wanted != version(&stored) {
            return Err(StoreError::Conflict {
                id: id(resource.kind, namespace, resource.name()),
            });
        }
        let object = merged(&stored, &resource.object);
        match store.update(resource.kind, namespace, &object).await {
            Err(StoreError::Conflict { .. }) if !has_version(resource) && attempt < ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}

/// The input's object with the stored metadata; labels and annotations are the input's.
fn merged(stored: &Value, input: &Value) -> Value {
    let mut object = input.clone();
    let mut metadata = stored
        .get("metadata")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    for key in ["labels", "annotations"] {
        match input.pointer(&format!("/metadata/{key}")) {
            Some(value) => metadata.insert(key.to_owned(), value.clone()),
            None => metadata.remove(key),
        };
    }
    metadata.remove("managedFields");
    let kind = crate::store::text_at(input, "/kind");
    let is_node = kind == "Node";
    // The size of a pool's blocks never changes: an input that does not name it means the one that is stored.
    if kind == "IPPool"
        && let Some(size) = stored.pointer("/spec/blockSize")
        && let Some(Value::Object(spec)) = object.get_mut("spec")
    {
        spec.entry("blockSize").or_insert_with(|| size.clone());
    }
    if let Value::Object(map) = &mut object {
        map.insert("metadata".to_owned(), Value::Object(metadata));
        // What a node announces is kept; the status of other kinds is no part of a write.
        match stored.get("status").filter(|_| is_node) {
            Some(status) => drop(map.insert("status".to_owned(), status.clone())),
            None => drop(map.remove("status")),
        }
    }
    object
}

/// An object with no more metadata than a new one may have.
fn bare(object: &Value, namespace: Option<&str>) -> Value {
    let mut bare = object.clone();
    let mut kept: Map<String, Value> = object
        .get("metadata")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(key, _)| matches!(key.as_str(), "name" | "labels" | "annotations"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if let Some(namespace) = namespace {
        kept.insert("namespace".to_owned(), namespace.into());
    }
    if let Value::Object(map) = &mut bare {
        map.insert("metadata".to_owned(), json!(kept));
        map.remove("status");
    }
    bare
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_keeps_the_stored_identity_and_takes_the_inputs_labels() {
        let stored =
            json!({"metadata": {"name": "a", "uid": "1", "resourceVersion": "7", "labels": {"old": "x"}}});
        let input =
            json!({"metadata": {"name": "a", "labels": {"new": "y"}}, "spec": {"cidr": "10.0.0.0/8"}});
        assert_eq!(
            merged(&stored, &input),
            json!({"metadata": {"name": "a", "uid": "1", "resourceVersion": "7", "labels": {"new": "y"}},
                   "spec": {"cidr": "10.0.0.0/8"}})
        );
    }
}

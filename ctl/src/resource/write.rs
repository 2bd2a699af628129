//! `create`, `apply` and `replace`.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::args::{Create, Crud, Source};
use crate::error::Failure;
use crate::input::{self, Resource};
use crate::output;
use crate::store::{Store, StoreError};

/// How often a replacement is tried when others write too.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// Carries out `create`.
pub(crate) async fn create(store: &Store, arguments: &Create) -> Result<(), Failure> {
    each(
        &arguments.source,
        Verb {
            name: "create",
            past: "created",
        },
        async |resource, namespace| match store
            .create(resource.kind, namespace, &bare(&resource.object))
            .await
        {
            Err(StoreError::Exists { .. }) if arguments.skip_exists => Ok(()),
            result => result,
        },
    )
    .await
}

/// Carries out `apply`: create, or replace what exists.
pub(crate) async fn apply(store: &Store, arguments: &Crud) -> Result<(), Failure> {
    each(
        &arguments.source,
        Verb {
            name: "apply",
            past: "applied",
        },
        async |resource, namespace| match store
            .create(resource.kind, namespace, &bare(&resource.object))
            .await
        {
            Err(StoreError::Exists { .. }) => replace_one(store, resource, namespace).await,
            result => result,
        },
    )
    .await
}

/// Carries out `replace`.
pub(crate) async fn replace(store: &Store, arguments: &Crud) -> Result<(), Failure> {
    each(
        &arguments.source,
        Verb {
            name: "replace",
            past: "replaced",
        },
        async |resource, namespace| replace_one(store, resource, namespace).await,
    )
    .await
}

#[derive(Clone, Copy)]
struct Verb {
    name: &'static str,
    past: &'static str,
}

/// Does something with each resource of the input and says how it went.
async fn each<F>(source: &Source, verb: Verb, act: F) -> Result<(), Failure>
where
    F: AsyncFn(&Resource, Option<&str>) -> Result<(), StoreError>,
{
    let Some(resources) = input::read(source)? else {
        return Ok(());
    };
    let mut errors = Vec::new();
    for resource in &resources {
        let namespace = input::namespace(
            resource.kind,
            resource.namespace(),
            source.namespace.as_deref(),
            false,
        )
        .map_err(|failure| StoreError::Other(failure.to_string()));
        let result = match namespace {
            Ok(_) if resource.kind.kind == "ClusterInformation" => Err(StoreError::Other(format!(
                "operation {} is not supported on ClusterInformation: resource is readonly",
                verb.name
            ))),
            Ok(namespace) => act(resource, namespace.as_deref()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            errors.push(error.to_string());
        }
    }
    report(verb, &resources, &errors)
}

fn report(verb: Verb, resources: &[Resource], errors: &[String]) -> Result<(), Failure> {
    let total = resources.len();
    let kind = resources.first().map_or("", |resource| resource.kind.kind);
    let what = if resources.iter().all(|resource| resource.kind.kind == kind) {
        format!("'{kind}' ")
    } else {
        String::new()
    };
    if errors.is_empty() {
        output::line(&format!("Successfully {} {total} {what}resource(s)", verb.past));
        return Ok(());
    }
    let list = errors.join(" ");
    if errors.len() == total {
        let any = if total == 1 { "" } else { "any " };
        let plural = if total == 1 { "resource" } else { "resources" };
        return Err(Failure::new(format!(
            "failed to {} {any}{what}{plural}: [{list}]",
            verb.name
        )));
    }
    output::line(&format!(
        "Partial success: {} the first {} out of {total} {what}resources:",
        verb.past,
        total - errors.len()
    ));
    Err(Failure::new(format!("hit error: [{list}]")))
}

/// Replaces an object: everything but labels and annotations of its metadata stays.
async fn replace_one(store: &Store, resource: &Resource, namespace: Option<&str>) -> Result<(), StoreError> {
    let wanted_version = resource
        .object
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str);
    let mut attempt = 1;
    loop {
        let stored = store.get(resource.kind, namespace, resource.name()).await?;
        let version = stored
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str);
        if wanted_version.is_some_and(|wanted| Some(wanted) != version) {
            return Err(StoreError::Conflict {
                kind: resource.kind.kind.to_owned(),
                name: resource.name().to_owned(),
            });
        }
        match store
            .update(resource.kind, namespace, &merged(&stored, &resource.object))
            .await
        {
            Err(StoreError::Conflict { .. }) if wanted_version.is_none() && attempt < ATTEMPTS => {
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
    if let Value::Object(map) = &mut object {
        map.insert("metadata".to_owned(), Value::Object(metadata));
        map.remove("status");
    }
    object
}

/// An object with no more metadata than a new one may have.
fn bare(object: &Value) -> Value {
    let mut bare = object.clone();
    let kept: Map<String, Value> = object
        .get("metadata")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(key, _)| matches!(key.as_str(), "name" | "namespace" | "labels" | "annotations"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
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

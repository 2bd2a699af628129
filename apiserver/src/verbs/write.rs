//! Create, replace and patch: from a body to a checked object in the store.

use rand::Rng as _;
use serde_json::{Map, Value, json};

use super::Change;
use super::change::{changed, keep};
use super::check::{fill, judge, mutate, unknown_fields};
use super::define;
use crate::apply;
use crate::request::Query;
use crate::resource::{DEFINITIONS, Resource};
use crate::server::ApiServer;
use crate::status::ApiError;
use crate::store::{Expect, NAMESPACES, Object, ObjectKey, Write, WriteError};

const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

pub(crate) fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}

pub(super) fn metadata(value: &Value, key: &str) -> Value {
    value
        .get("metadata")
        .and_then(|metadata| metadata.get(key))
        .cloned()
        .unwrap_or_default()
}

pub(super) fn set_metadata(value: &mut Value, key: &str, to: Value) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        match to {
            Value::Null => drop(metadata.remove(key)),
            to => drop(metadata.insert(key.to_owned(), to)),
        }
    }
}

pub(super) fn refused(resource: &Resource, key: &ObjectKey, error: WriteError) -> ApiError {
    let (group, plural, name) = (&resource.group, &resource.plural, &key.name);
    match error {
        WriteError::Stale => ApiError::modified(group, plural, name),
        WriteError::Exists => ApiError::already_exists(group, plural, name),
        WriteError::ExistsTerminating => ApiError::deleting_already_exists(group, plural, name),
        WriteError::NoNamespace => ApiError::not_found("", NAMESPACES, &key.namespace),
        WriteError::NamespaceTerminating => {
            let namespace = &key.namespace;
            let why = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            let cause = json!({"reason": "NamespaceTerminating", "field": "metadata.namespace",
                "message": format!("namespace {namespace} is being terminated")});
            ApiError::forbidden(group, plural, name, &why).causes(vec![cause])
        }
        WriteError::TooLarge => ApiError::object_too_large(),
        WriteError::Full(why) => ApiError::new(
            507,
            "InsufficientStorage",
            format!(
                "no space is left for the store; nothing that was acknowledged is lost, and writing works again when there is space: {why}"
            ),
        ),
        WriteError::Storage(why) => ApiError::internal(why),
    }
}

/// Checks that a body is of the kind and in the place that the path names, and gives it its metadata.
fn place(resource: &Resource, namespace: &str, value: &mut Value) -> Result<(), ApiError> {
    let Some(fields) = value.as_object_mut() else {
        return Err(ApiError::bad_request(format!(
            "the object provided is not a {}",
            resource.kind
        )));
    };
    for (key, wanted) in [
        ("kind", resource.kind.clone()),
        ("apiVersion", resource.api_version()),
    ] {
        let found = fields.entry(key).or_insert_with(|| wanted.clone().into());
        if found.as_str() != Some(&wanted) {
            let message = format!(
                "the object provided is unrecognized (must be of type {}): its {key} is {found}, and {wanted:?} is served here",
                resource.kind
            );
            return Err(ApiError::bad_request(message));
        }
    }
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else {
        return Err(ApiError::bad_request("metadata must be an object"));
    };
    metadata.retain(|key, value| match key.as_str() {
        "labels" | "annotations" => !value.is_null() && *value != json!({}),
        "finalizers" | "ownerReferences" => !value.is_null() && *value != json!([]),
        _ => !value.is_null(),
    });
    let own = metadata
        .get("namespace")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !own.is_empty() && own != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(message));
    }
    if namespace.is_empty() {
        metadata.remove("namespace");
    } else {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    Ok(())
}

/// Everything but metadata and, where it is a part of its own, status.
fn wanted(resource: &Resource, value: &Value) -> Map<String, Value> {
    let mut fields = value.as_object().cloned().unwrap_or_default();
    fields.remove("metadata");
    if resource.has_status {
        fields.remove("status");
    }
    fields
}

impl ApiServer {
    pub(crate) async fn create(
        &self,
        resource: &Resource,
        namespace: &str,
        mut value: Value,
        query: &Query,
    ) -> Result<Value, ApiError> {
        // What clients say of managers is not true of a new object.
        set_metadata(&mut value, "managedFields", Value::Null);
        self.create_managed(resource, namespace, value, query, false)
            .await
    }

    /// Applies, also to what is not there yet. Says whether it was created.
    pub(crate) async fn apply(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        status: bool,
        change: Change,
        query: &Query,
    ) -> Result<(bool, Value), ApiError> {
        let key = ObjectKey::new(namespace, name);
        if let Change::Apply(applied) = &change {
            super::change::same_name(&applied.value, name, true)?;
        }
        let absent = || self.store().latest(&resource.storage, &key).is_none();
        if let Change::Apply(applied) = &change
            && !status
            && absent()
        {
            let mut value = apply::apply(resource, false, &Value::Null, applied, &now())?;
            set_metadata(&mut value, "name", name.into());
            match self.create_managed(resource, namespace, value, query, true).await {
                // Someone else was faster: then it is applied to that.
                Err(error) if error.reason == "AlreadyExists" => {}
                result => return result.map(|value| (true, value)),
            }
        }
        let value = self
            .update(resource, namespace, name, status, change, query)
            .await?;
        Ok((false, value))
    }

    async fn create_managed(
        &self,
        resource: &Resource,
        namespace: &str,
        mut value: Value,
        query: &Query,
        applied: bool,
    ) -> Result<Value, ApiError> {
        if resource.namespaced && namespace.is_empty() {
            return Err(ApiError::method_not_allowed());
        }
        place(resource, namespace, &mut value)?;
        if !metadata(&value, "resourceVersion")
            .as_str()
            .unwrap_or_default()
            .is_empty()
        {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(ApiError::new(500, "", message));
        }
        generate_name(&mut value);
        unknown_fields(resource, &mut value, query, false)?;
        set_metadata(&mut value, "uid", uuid::Uuid::new_v4().to_string().into());
        set_metadata(&mut value, "creationTimestamp", now().into());
        for key in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "resourceVersion",
            "selfLink",
        ] {
            set_metadata(&mut value, key, Value::Null);
        }
        let generation = if resource.counts_generations() {
            1.into()
        } else {
            Value::Null
        };
        set_metadata(&mut value, "generation", generation);
        // Nodes register themselves with their status.
        if resource.has_status
            && &*resource.storage != "nodes"
            && let Some(fields) = value.as_object_mut()
        {
            fields.remove("status");
        }
        fill(resource, &mut value);
        if !applied {
            apply::track_new(resource, &mut value, query.get("fieldManager"), &now());
        }
        mutate(resource, &mut value, None);
        judge(resource, &value, None, query)?;
        if &*resource.storage == DEFINITIONS {
            define::establish(&mut value)?;
        }
        if &*resource.storage == "services" {
            self.give_address(&mut value)?;
        }
        let name = metadata(&value, "name");
        let key = ObjectKey::new(namespace, name.as_str().unwrap_or_default());
        if query.dry_run()? {
            return match self.store().latest(&resource.storage, &key) {
                Some(_) => Err(refused(resource, &key, WriteError::Exists)),
                None => {
                    if &*resource.storage == DEFINITIONS {
                        define::not_established(&mut value);
                    }
                    Ok(value)
                }
            };
        }
        let object = self.commit(resource, key, Expect::Absent, value, false).await?;
        if &*resource.storage == NAMESPACES {
            let account = json!({"metadata": {"name": "default"}});
            Box::pin(self.ensure("", "serviceaccounts", Some(&object.key.name), account)).await?;
        }
        let mut value = object.value();
        if &*resource.storage == DEFINITIONS {
            define::not_established(&mut value);
        }
        Ok(value)
    }

    /// Writes to the store, and serves what definitions define as soon as they are written.
    pub(super) async fn commit(
        &self,
        resource: &Resource,
        key: ObjectKey,
        expect: Expect,
        value: Value,
        delete: bool,
    ) -> Result<std::sync::Arc<Object>, ApiError> {
        let write = Write {
            collection: resource.storage.clone(),
            key: key.clone(),
            expect,
            value,
            delete,
            paths: resource.paths.clone(),
        };
        let object = self
            .store()
            .write(write)
            .await
            .map_err(|error| refused(resource, &key, error))?;
        if &*resource.storage == DEFINITIONS {
            self.refresh_resources();
        }
        Ok(object)
    }

    pub(crate) async fn update(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        status: bool,
        change: Change,
        query: &Query,
    ) -> Result<Value, ApiError> {
        let key = ObjectKey::new(namespace, name);
        let dry_run = query.dry_run()?;
        if let Change::Replace(new) = &change {
            // What cannot be read is refused before anything is looked up.
            let mut new = new.clone();
            place(resource, namespace, &mut new)?;
            unknown_fields(resource, &mut new, query, false)?;
        }
        loop {
            let Some(current) = self.store().latest(&resource.storage, &key) else {
                return Err(ApiError::not_found(&resource.group, &resource.plural, name));
            };
            let old = current.value();
            let (mut new, must_be) = changed(resource, &old, &change, name, status)?;
            place(resource, namespace, &mut new)?;
            if must_be
                .as_deref()
                .is_some_and(|revision| revision != current.revision.to_string())
            {
                return Err(ApiError::modified(&resource.group, &resource.plural, name));
            }
            let patched = matches!(change, Change::Merge(_) | Change::Strategic(_) | Change::Json(_));
            unknown_fields(resource, &mut new, query, patched)?;
            keep(resource, status, &old, &mut new)?;
            fill(resource, &mut new);
            if !matches!(change, Change::Apply(_)) {
                apply::track(
                    resource,
                    status,
                    &old,
                    &mut new,
                    query.get("fieldManager"),
                    &now(),
                );
            }
            mutate(resource, &mut new, Some(&old));
            judge(resource, &new, Some(&old), query)?;
            if &*resource.storage == DEFINITIONS && old.get("spec") != new.get("spec") {
                define::establish(&mut new)?;
            }
            if resource.counts_generations() && wanted(resource, &old) != wanted(resource, &new) {
                let generation = metadata(&old, "generation").as_u64().unwrap_or(0) + 1;
                set_metadata(&mut new, "generation", generation.into());
            }
            if new == old || dry_run {
                return Ok(new);
            }
            let no_finalizers = metadata(&new, "finalizers").as_array().is_none_or(Vec::is_empty);
            let expect = Expect::Revision(current.revision);
            if current.deleting
                && no_finalizers
                && metadata(&new, "deletionGracePeriodSeconds").as_u64().unwrap_or(0) == 0
                && &*resource.storage != NAMESPACES
                && &*resource.storage != DEFINITIONS
            {
                match self.remove(resource, &current, new).await {
                    Err(error) if error.reason == "Conflict" && must_be.is_none() => continue,
                    result => return result,
                }
            }
            match self.commit(resource, key.clone(), expect, new, false).await {
                Ok(object) => return Ok(object.value()),
                // Someone else was faster. Who named no version wants the change on top of whatever there is.
                Err(error) if error.reason == "Conflict" && must_be.is_none() => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn generate_name(value: &mut Value) {
    let name = metadata(value, "name");
    let prefix = metadata(value, "generateName");
    if let (true, Some(prefix)) = (name.as_str().unwrap_or_default().is_empty(), prefix.as_str()) {
        let mut random = rand::rng();
        let letter = |_| {
            SUFFIX
                .get(random.random_range(0..SUFFIX.len()))
                .map_or('x', |byte| char::from(*byte))
        };
        let suffix: String = (0..5).map(letter).collect();
        let prefix: String = prefix.chars().take(58).collect();
        set_metadata(value, "name", format!("{prefix}{suffix}").into());
    }
}

//! Deletion in the foreground: what an object owns goes before the object does.
//!
//! On a whole cluster this is the garbage collector's work. Source: the cascading deletion of Kubernetes.

use std::sync::Arc;

use serde_json::{Value, json};

use super::write::{metadata, set_metadata};
use crate::request::Query;
use crate::resource::Resource;
use crate::server::ApiServer;
use crate::status::ApiError;
use crate::store::{Expect, Object, ObjectKey};

/// What keeps an object until everything that it owns is gone.
const FINALIZER: &str = "foregroundDeletion";

fn finalizers(value: &Value) -> Vec<Value> {
    metadata(value, "finalizers")
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// Is this a request for a deletion in the foreground?
pub(super) fn wanted(options: &Value, query: &Query) -> bool {
    let policy = options.get("propagationPolicy").and_then(Value::as_str);
    policy.unwrap_or_else(|| query.get("propagationPolicy")) == "Foreground"
}

/// Adds the finalizer.
pub(super) fn hold(value: &mut Value) {
    let mut list = finalizers(value);
    if !list.iter().any(|one| one == FINALIZER) {
        list.push(FINALIZER.into());
    }
    set_metadata(value, "finalizers", list.into());
}

/// Does this reference name the object with this id as the owner?
fn refers(reference: &Value, uid: &str) -> bool {
    reference.get("uid").is_some_and(|found| found == uid)
}

impl ApiServer {
    /// What an object owns.
    fn dependents(&self, uid: &str) -> Vec<(Arc<Resource>, Arc<Object>, bool)> {
        let resources = self.resources();
        let mut found = Vec::new();
        for storage in self.store().collections() {
            let Some(resource) = resources.iter().find(|other| other.storage == storage) else {
                continue;
            };
            for object in self.store().list(&storage, None).objects {
                // Most objects do not even have these letters: they need not be read.
                let has = object.json.windows(uid.len()).any(|part| part == uid.as_bytes());
                if !has {
                    continue;
                }
                let references = metadata(&object.value(), "ownerReferences");
                let own = references
                    .as_array()
                    .and_then(|list| list.iter().find(|one| refers(one, uid)));
                if let Some(own) = own {
                    let blocks = own.get("blockOwnerDeletion").is_some_and(|set| *set == true);
                    found.push((Arc::clone(resource), object, blocks));
                }
            }
        }
        found
    }

    /// Deletes what an object owns, and lets the object go when nothing is left that blocks it.
    pub(super) async fn finish_foreground(
        &self,
        resource: &Resource,
        key: &ObjectKey,
    ) -> Result<(), ApiError> {
        let Some(owner) = self.store().latest(&resource.storage, key) else {
            return Ok(());
        };
        let mut value = owner.value();
        let mut list = finalizers(&value);
        if !owner.deleting || !list.iter().any(|one| one == FINALIZER) {
            return Ok(());
        }
        let uid = metadata(&value, "uid");
        let uid = uid.as_str().filter(|uid| !uid.is_empty());
        let mut blocked = false;
        for (kind, dependent, blocks) in uid.map(|uid| self.dependents(uid)).unwrap_or_default() {
            let options = json!({"propagationPolicy": "Foreground"});
            if !dependent.deleting {
                match Box::pin(self.delete_one(&kind, &dependent.key, &options, &Query::default())).await {
                    Ok(_) => {}
                    Err(error) if error.code == 404 => {}
                    Err(error) => return Err(error),
                }
            }
            blocked |= blocks && self.store().latest(&kind.storage, &dependent.key).is_some();
        }
        if blocked {
            return Ok(());
        }
        list.retain(|one| one != FINALIZER);
        let last = list.is_empty();
        set_metadata(
            &mut value,
            "finalizers",
            if last { Value::Null } else { list.into() },
        );
        let expect = Expect::Revision(owner.revision);
        let result = if last {
            self.remove(resource, &owner, value).await.map(drop)
        } else {
            self.commit(resource, key.clone(), expect, value, false)
                .await
                .map(drop)
        };
        match result {
            // Someone else changed it, and comes by here again when it goes.
            Err(error) if error.reason == "Conflict" || error.code == 404 => Ok(()),
            result => result,
        }
    }

    /// After an object went: do its owners wait for that?
    pub(super) async fn release_owners(&self, key: &ObjectKey, value: &Value) -> Result<(), ApiError> {
        let owners = metadata(value, "ownerReferences");
        for owner in owners.as_array().into_iter().flatten() {
            let text = |name: &str| owner.get(name).and_then(Value::as_str).unwrap_or_default();
            let resources = self.resources();
            let found = resources
                .iter()
                .find(|one| one.api_version() == text("apiVersion") && one.kind == text("kind"));
            if let Some(resource) = found {
                let namespace = if resource.namespaced {
                    key.namespace.as_str()
                } else {
                    ""
                };
                let key = ObjectKey::new(namespace, text("name"));
                Box::pin(self.finish_foreground(resource, &key)).await?;
            }
        }
        Ok(())
    }
}

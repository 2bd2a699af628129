//! Deletion: preconditions, finalizers, collections, and the content of namespaces and of definitions.

use std::sync::Arc;

use caracal_api::admission::Refusal;
use http::Response;
use serde_json::{Value, json};

use super::write::{metadata, now, set_metadata};
use super::{foreground, grace};
use crate::request::Query;
use crate::resource::{DEFINITIONS, Resource};
use crate::selector::Selector;
use crate::server::ApiServer;
use crate::service::{ResponseBody, json as answer};
use crate::status::{ApiError, deleted};
use crate::store::{Expect, NAMESPACES, Object, ObjectKey};

fn check_preconditions(
    resource: &Resource,
    object: &Object,
    value: &Value,
    options: &Value,
) -> Result<(), ApiError> {
    let wanted = |key: &str| {
        options
            .pointer(&format!("/preconditions/{key}"))
            .and_then(Value::as_str)
    };
    let conflict = |why: String| {
        // Kubernetes names the kind here, where it names the resource elsewhere.
        let kind = &resource.kind;
        Err(ApiError::conflict(&resource.group, kind, &object.key.name, &why))
    };
    let uid = metadata(value, "uid");
    let uid = uid.as_str().unwrap_or_default();
    if let Some(wanted) = wanted("uid").filter(|wanted| *wanted != uid) {
        return conflict(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        ));
    }
    let version = object.revision.to_string();
    if let Some(wanted) = wanted("resourceVersion").filter(|wanted| *wanted != version) {
        return conflict(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
        ));
    }
    Ok(())
}

/// Namespaces that every cluster has.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// What Kubernetes keeps, and what Calico's admission policies keep.
fn refuse_kept(resource: &Resource, key: &ObjectKey) -> Result<(), ApiError> {
    if &*resource.storage == NAMESPACES && IMMORTAL.contains(&key.name.as_str()) {
        let why = "this namespace may not be deleted";
        return Err(ApiError::forbidden("", NAMESPACES, &key.name, why));
    }
    if resource.group != caracal_api::v3::GROUP {
        return Ok(());
    }
    match caracal_api::admission::refuse_deletion(&resource.kind, &key.name) {
        None => Ok(()),
        Some(refusal) => {
            let error = ApiError::new(Refusal::CODE, Refusal::REASON, refusal.to_string());
            let cause = json!({"message": refusal.to_string()});
            Err(error
                .about(&resource.group, &resource.plural, &key.name)
                .causes(vec![cause]))
        }
    }
}

fn owns_content(resource: &Resource) -> bool {
    matches!(&*resource.storage, NAMESPACES | DEFINITIONS)
}

impl ApiServer {
    pub(crate) async fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        body: &[u8],
        query: &Query,
    ) -> Result<Response<ResponseBody>, ApiError> {
        let options = if body.is_empty() {
            json!({})
        } else {
            super::decode(body)?
        };
        let value = self
            .delete_one(resource, &ObjectKey::new(namespace, name), &options, query)
            .await?;
        // Of some kinds the last state is told, of others that they are gone.
        let told =
            !resource.is_custom() && matches!(&*resource.storage, "services" | "serviceaccounts" | "pods");
        if metadata(&value, "deletionTimestamp").is_null() && !told {
            let uid = metadata(&value, "uid");
            let uid = uid.as_str().unwrap_or_default();
            return Ok(answer(
                200,
                &deleted(&resource.group, &resource.plural, name, uid),
            ));
        }
        Ok(answer(200, &value))
    }

    /// Deletes, or marks as being deleted when finalizers or content are in the way. Returns the last state.
    pub(super) async fn delete_one(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        options: &Value,
        query: &Query,
    ) -> Result<Value, ApiError> {
        let dry_run = query.dry_run()? || options.get("dryRun").is_some_and(|list| list == &json!(["All"]));
        let mut marked: Option<Value> = None;
        loop {
            let Some(current) = self.store().latest(&resource.storage, key) else {
                // Whoever writes what is marked may bring it to its end.
                let gone = || ApiError::not_found(&resource.group, &resource.plural, &key.name);
                return marked.ok_or_else(gone);
            };
            let value = current.value();
            match marked.take() {
                // Its own mark is no change that a precondition is about.
                None => check_preconditions(resource, &current, &value, options)?,
                Some(mine) if metadata(&mine, "uid") == metadata(&value, "uid") => marked = Some(mine),
                // It went, and another one has its name.
                Some(mine) => return Ok(mine),
            }
            refuse_kept(resource, key)?;
            if dry_run {
                return Ok(value);
            }
            let held = metadata(&value, "finalizers")
                .as_array()
                .is_some_and(|list| !list.is_empty());
            let grace = grace::of(resource, &value, options, query)?;
            let in_foreground = foreground::wanted(options, query) && !owns_content(resource);
            let ends_at_once = &*resource.storage == "pods" && grace == 0 && !held && !current.deleting;
            let result = if ends_at_once && !in_foreground {
                // Those who watch learn that a pod ends before they learn that it is gone.
                match self.mark(resource, &current, value).await {
                    Ok(value) => {
                        marked = Some(value);
                        continue;
                    }
                    refused => refused,
                }
            } else if grace > 0 {
                self.mark_graceful(resource, &current, value, grace).await
            } else if in_foreground {
                let mut value = value;
                foreground::hold(&mut value);
                self.mark_held(resource, &current, value).await
            } else if held || owns_content(resource) {
                self.mark(resource, &current, value).await
            } else {
                self.remove(resource, &current, value).await
            };
            match result {
                Err(error) if error.reason == "Conflict" => {}
                result => return result,
            }
        }
    }

    async fn mark_graceful(
        &self,
        resource: &Resource,
        current: &Arc<Object>,
        mut value: Value,
        grace: u64,
    ) -> Result<Value, ApiError> {
        if !grace::mark(&mut value, grace) {
            return Ok(value);
        }
        let expect = Expect::Revision(current.revision);
        let object = self
            .commit(resource, current.key.clone(), expect, value, false)
            .await?;
        Ok(object.value())
    }

    /// Marks what goes once everything that it owns is gone, and goes about that. Returns the marked state.
    async fn mark_held(
        &self,
        resource: &Resource,
        current: &Arc<Object>,
        value: Value,
    ) -> Result<Value, ApiError> {
        let marked = self.mark(resource, current, value).await?;
        Box::pin(self.finish_foreground(resource, &current.key)).await?;
        Ok(marked)
    }

    async fn mark(
        &self,
        resource: &Resource,
        current: &Arc<Object>,
        mut value: Value,
    ) -> Result<Value, ApiError> {
        // One that was ending gracefully has no more time now.
        let graceful = metadata(&value, "deletionGracePeriodSeconds")
            .as_u64()
            .is_some_and(|grace| grace > 0);
        if !current.deleting || graceful {
            set_metadata(&mut value, "deletionTimestamp", now().into());
            // That it is to go is a change of what is wanted.
            if let (Some(generation), false) = (metadata(&value, "generation").as_u64(), current.deleting) {
                set_metadata(&mut value, "generation", (generation + 1).into());
            }
            if &*resource.storage == NAMESPACES {
                value["status"]["phase"] = "Terminating".into();
            } else {
                set_metadata(&mut value, "deletionGracePeriodSeconds", 0.into());
            }
            let expect = Expect::Revision(current.revision);
            value = self
                .commit(resource, current.key.clone(), expect, value, false)
                .await?
                .value();
        }
        if owns_content(resource) {
            Box::pin(self.finish(resource, &current.key)).await?;
        }
        Ok(value)
    }

    pub(crate) async fn remove(
        &self,
        resource: &Resource,
        current: &Arc<Object>,
        value: Value,
    ) -> Result<Value, ApiError> {
        let expect = Expect::Revision(current.revision);
        let object = self
            .commit(resource, current.key.clone(), expect, value, true)
            .await?;
        Box::pin(self.finish_owners(resource, &current.key)).await?;
        let value = object.value();
        self.release_owners(&current.key, &value).await?;
        Ok(value)
    }

    /// After an object went: is its namespace or its definition waiting for that?
    async fn finish_owners(&self, resource: &Resource, key: &ObjectKey) -> Result<(), ApiError> {
        let owners = [
            (NAMESPACES, key.namespace.as_str()),
            (DEFINITIONS, &*resource.storage),
        ];
        for (storage, name) in owners.into_iter().filter(|(_, name)| !name.is_empty()) {
            let key = ObjectKey::new("", name);
            let owner = self.store().latest(&storage.into(), &key);
            if owner.is_some_and(|owner| owner.deleting)
                && let Some(resource) = self.resources().iter().find(|other| &*other.storage == storage)
            {
                self.finish(resource, &key).await?;
            }
        }
        Ok(())
    }

    /// Deletes what a namespace or a definition that is being deleted holds, and then itself when nothing is left.
    async fn finish(&self, resource: &Resource, key: &ObjectKey) -> Result<(), ApiError> {
        let is_namespace = &*resource.storage == NAMESPACES;
        let mut left = false;
        for storage in self.store().collections() {
            if !is_namespace && *storage != *key.name {
                continue;
            }
            let Some(content) = self
                .resources()
                .iter()
                .find(|other| other.storage == storage)
                .cloned()
            else {
                continue;
            };
            let listing = self
                .store()
                .list(&storage, is_namespace.then_some(key.name.as_str()));
            for object in listing.objects {
                if object.deleting {
                    left = true;
                    continue;
                }
                match Box::pin(self.delete_one(&content, &object.key, &json!({}), &Query::default())).await {
                    Ok(_) => left |= self.store().latest(&storage, &object.key).is_some(),
                    Err(error) if error.code == 404 => {}
                    Err(error) => return Err(error),
                }
            }
        }
        if left {
            return Ok(());
        }
        let Some(owner) = self.store().latest(&resource.storage, key) else {
            return Ok(());
        };
        let value = owner.value();
        if metadata(&value, "finalizers")
            .as_array()
            .is_some_and(|list| !list.is_empty())
        {
            return Ok(());
        }
        let expect = Expect::Revision(owner.revision);
        match self.commit(resource, key.clone(), expect, value, true).await {
            // Someone else finished it, or changed it and will come by here again.
            Err(error) if error.reason == "Conflict" || error.code == 404 => Ok(()),
            result => result.map(drop),
        }
    }

    /// Goes on with deletions that the last run did not finish.
    pub(crate) async fn resume_deletions(&self) -> Result<(), ApiError> {
        for resource in self.resources().iter().filter(|resource| owns_content(resource)) {
            for owner in self.store().list(&resource.storage, None).objects {
                if owner.deleting {
                    self.finish(resource, &owner.key).await?;
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn delete_collection(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        body: &[u8],
        query: &Query,
    ) -> Result<Response<ResponseBody>, ApiError> {
        let options = if body.is_empty() {
            json!({})
        } else {
            super::decode(body)?
        };
        let selector = Selector::parse(query.get("labelSelector"), query.get("fieldSelector"))?;
        super::read::check_fields(resource, &selector)?;
        let mut items = Vec::new();
        let listing = self.store().list(&resource.storage, namespace);
        for object in listing
            .objects
            .iter()
            .filter(|object| selector.matches(&object.attributes))
        {
            match self.delete_one(resource, &object.key, &options, query).await {
                Ok(value) => items.push(value),
                Err(error) if error.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let mut list = json!({"kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": self.store().revision().to_string()}, "items": items});
        if resource.is_custom() {
            list["metadata"]["continue"] = "".into();
        }
        Ok(answer(200, &list))
    }
}

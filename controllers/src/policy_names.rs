//! Renaming of policies that older versions stored with their tier before the name: `default.web` becomes `web`.
//!
//! # Ownership
//! Policies of the tier default whose stored name is `default.<name>` while their own name is `<name>`. In
//! `crd.projectcalico.org/v1` that is every such object, unless its metadata annotation says that `default.<name>` is its
//! own name; in `projectcalico.org/v3`, where names are stored as given, only one whose annotation gives the shorter name
//! (a copy out of the old storage).
//!
//! The new object is made before the old one goes, so that its rules are in force all the time.
//! Source: Calico's `kube-controllers/pkg/controllers/networkpolicy/policy_name_migrator.go`.

mod kinds;

use std::time::Duration;

use caracal_datastore::{ListOptions, Object, Preconditions};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::cluster::Kind;
use crate::context::{Again, Context, Controller};
use crate::lease::Error;

/// The annotation in which old storage keeps the metadata as users gave it.
const METADATA: &str = "projectcalico.org/metadata";
const PREFIX: &str = "default.";
/// How often it is looked whether an older program made such objects again.
const PERIOD: Duration = Duration::from_secs(10 * 60);

/// Which storage an object is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// `crd.projectcalico.org/v1`: the stored name may differ from the policy's.
    V1,
    /// `projectcalico.org/v3`: the stored name is the policy's.
    V3,
}

/// The object under its new name; `None` when it is to stay as it is. Everything else of it is kept.
#[must_use]
pub fn renamed(object: &Value, storage: Storage) -> Option<Value> {
    let stored = object.pointer("/metadata/name")?.as_str()?;
    let new = stored.strip_prefix(PREFIX).filter(|name| !name.is_empty())?;
    let tier = object
        .pointer("/spec/tier")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !matches!(tier, "" | "default") {
        return None;
    }
    let annotation = object
        .pointer("/metadata/annotations")
        .and_then(|all| all.get(METADATA)?.as_str())
        .and_then(|text| serde_json::from_str::<Value>(text).ok());
    let own = annotation.as_ref().and_then(|meta| meta.get("name")?.as_str());
    let old = match storage {
        Storage::V1 => own.is_none_or(|own| own != stored),
        Storage::V3 => own == Some(new),
    };
    if !old {
        return None;
    }
    let mut metadata = object.get("metadata")?.clone();
    let fields = metadata.as_object_mut()?;
    for server in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "managedFields",
        "selfLink",
    ] {
        fields.remove(server);
    }
    fields.insert("name".to_owned(), new.into());
    if storage == Storage::V1 {
        // Older readers take the name from here.
        let mut meta = annotation.filter(Value::is_object).unwrap_or_else(|| json!({}));
        meta["name"] = new.into();
        let annotations = fields.entry("annotations").or_insert_with(|| json!({}));
        if annotations.is_null() {
            *annotations = json!({});
        }
        annotations
            .as_object_mut()?
            .insert(METADATA.to_owned(), meta.to_string().into());
    }
    let mut renamed = object.clone();
    renamed["metadata"] = metadata;
    if let Some(fields) = renamed.as_object_mut() {
        fields.remove("status");
    }
    Some(renamed)
}

/// The controller.
#[derive(Debug, Default)]
pub struct PolicyNames;

impl Controller for PolicyNames {
    fn name(&self) -> &'static str {
        "migration"
    }

    fn wakes(&self, kind: Kind) -> bool {
        kind == Kind::Policy
    }

    fn pause(&self) -> Duration {
        // A look lists every policy, and old names are rare.
        Duration::from_secs(30)
    }

    fn run<'a>(&'a mut self, context: &'a Context<'a>) -> BoxFuture<'a, Result<Again, Error>> {
        async move {
            if !context.effective.settings.rename_policies {
                return Ok(None);
            }
            Box::pin(migrate::<kinds::v1::NetworkPolicy>(context, Storage::V1)).await?;
            Box::pin(migrate::<kinds::v1::GlobalNetworkPolicy>(context, Storage::V1)).await?;
            Box::pin(migrate::<kinds::v1::StagedNetworkPolicy>(context, Storage::V1)).await?;
            Box::pin(migrate::<kinds::v1::StagedGlobalNetworkPolicy>(
                context,
                Storage::V1,
            ))
            .await?;
            Box::pin(migrate::<kinds::v3::NetworkPolicy>(context, Storage::V3)).await?;
            Box::pin(migrate::<kinds::v3::GlobalNetworkPolicy>(context, Storage::V3)).await?;
            Box::pin(migrate::<kinds::v3::StagedNetworkPolicy>(context, Storage::V3)).await?;
            Box::pin(migrate::<kinds::v3::StagedGlobalNetworkPolicy>(
                context,
                Storage::V3,
            ))
            .await?;
            Ok(Some(PERIOD))
        }
        .boxed()
    }
}

async fn migrate<K: Object>(context: &Context<'_>, storage: Storage) -> Result<(), Error> {
    let objects: Vec<K> = match context.client.list(None, &ListOptions::default()).await {
        Ok(objects) => objects,
        // No such storage in this cluster, or not for us to touch.
        Err(error) if error.is_unknown_kind() || error.is_forbidden() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for object in objects {
        let Ok(value) = serde_json::to_value(&object) else {
            continue;
        };
        let Some(new) = renamed(&value, storage) else {
            continue;
        };
        let Ok(new) = serde_json::from_value::<K>(new) else {
            continue;
        };
        rename(context, &object, &new).await?;
    }
    Ok(())
}

async fn rename<K: Object>(context: &Context<'_>, old: &K, new: &K) -> Result<(), Error> {
    let kind = K::kind(&()).into_owned();
    let (from, to) = (old.meta(), new.meta());
    let (from_name, to_name) = (
        from.name.as_deref().unwrap_or_default(),
        to.name.as_deref().unwrap_or_default(),
    );
    let namespace = from.namespace.as_deref();
    match context.fence.write(context.client.create(new)).await {
        Ok(_) => {}
        Err(Error::Datastore(error)) if error.is_already_exists() => {
            let existing: Option<K> = context.client.get(namespace, to_name).await?;
            let same = existing.is_some_and(|existing| spec(&existing) == spec(new));
            if !same {
                tracing::warn!(
                    kind,
                    namespace = namespace.unwrap_or_default(),
                    policy = from_name,
                    taken = to_name,
                    "policy not renamed: another one has the name; rename or delete one of them"
                );
                return Ok(());
            }
        }
        Err(error) => return Err(error),
    }
    let preconditions = Preconditions {
        uid: from.uid.clone(),
        resource_version: from.resource_version.clone(),
    };
    let delete = context.client.delete::<K>(namespace, from_name, preconditions);
    if context.settled(context.fence.write(delete).await)? {
        tracing::info!(
            kind,
            namespace = namespace.unwrap_or_default(),
            policy = from_name,
            new = to_name,
            "policy renamed"
        );
    }
    Ok(())
}

fn spec<K: Object>(object: &K) -> Value {
    serde_json::to_value(object)
        .ok()
        .and_then(|value| value.get("spec").cloned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, tier: Option<&str>, own: Option<&str>) -> Value {
        let mut object = json!({
            "metadata": {"name": name, "namespace": "web", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}},
            "spec": {"selector": "all()", "unknown": {"kept": true}},
        });
        if let Some(tier) = tier {
            object["spec"]["tier"] = tier.into();
        }
        if let Some(own) = own {
            let meta = json!({"name": own, "labels": {"user": "label"}}).to_string();
            object["metadata"]["annotations"] = json!({METADATA: meta, "other": "x"});
        }
        object
    }

    #[test]
    fn an_old_object_gets_its_own_name_and_keeps_everything_else() {
        let new = renamed(&policy("default.web", Some("default"), Some("web")), Storage::V1).unwrap();
        assert_eq!(new["metadata"]["name"], "web");
        assert_eq!(new["metadata"]["uid"], Value::Null);
        assert_eq!(new["metadata"]["resourceVersion"], Value::Null);
        assert_eq!(new["metadata"]["labels"]["a"], "b");
        assert_eq!(new["metadata"]["annotations"]["other"], "x");
        assert_eq!(new["spec"]["unknown"]["kept"], true);
        let meta: Value =
            serde_json::from_str(new["metadata"]["annotations"][METADATA].as_str().unwrap()).unwrap();
        assert_eq!(meta, json!({"name": "web", "labels": {"user": "label"}}));
        // Made by kubectl: no annotation. Older readers strip the prefix, so it is an old one.
        let new = renamed(&policy("default.web", None, None), Storage::V1).unwrap();
        let meta: Value =
            serde_json::from_str(new["metadata"]["annotations"][METADATA].as_str().unwrap()).unwrap();
        assert_eq!(meta, json!({"name": "web"}));
    }

    #[test]
    fn what_is_named_so_on_purpose_stays() {
        for (object, storage) in [
            (policy("web", None, None), Storage::V1),
            (policy("default.", None, None), Storage::V1),
            (policy("default.web", Some("security"), Some("web")), Storage::V1),
            (policy("default.web", None, Some("default.web")), Storage::V1),
            (policy("default.web", None, None), Storage::V3),
            (policy("default.web", None, Some("default.web")), Storage::V3),
        ] {
            assert_eq!(renamed(&object, storage), None, "{object}");
        }
        assert!(renamed(&policy("default.web", None, Some("web")), Storage::V3).is_some());
    }
}

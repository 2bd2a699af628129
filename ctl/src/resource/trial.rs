//! What a change would do, shown as a diff of YAML, without making it.

use caracal_api::yaml;
use serde_json::Value;

use crate::args::DryRun;
use crate::diff;
use crate::error::Failure;
use crate::store::{Store, StoreError, id};
use crate::terminal::{Terminal, sorted};
use caracal_api::kinds::Kind;

/// What a result line says behind a trial.
pub(super) fn suffix(how: DryRun) -> &'static str {
    match how {
        DryRun::None => "",
        DryRun::Client => " (dry run)",
        DryRun::Server => " (server dry run)",
    }
}

/// The access that a way of writing needs.
pub(super) fn store_for(store: &Store, how: DryRun) -> Store {
    match how {
        DryRun::Server => store.trying(),
        DryRun::None | DryRun::Client => store.clone(),
    }
}

/// An object before and after a change.
pub(super) struct Change<'a> {
    /// Its kind.
    pub(super) kind: &'a Kind,
    /// Its namespace.
    pub(super) namespace: Option<&'a str>,
    /// Its name.
    pub(super) name: &'a str,
    /// The stored object, if there is one.
    pub(super) before: Option<&'a Value>,
    /// The object as it would be stored; `None` = it would be deleted.
    pub(super) after: Option<&'a Value>,
}

/// Prints the difference that a change makes; nothing for none.
pub(super) fn show(terminal: &Terminal, change: &Change<'_>) -> Result<(), Failure> {
    let id = id(change.kind, change.namespace, change.name);
    let text = |object: Option<&Value>| object.map_or_else(|| Ok(String::new()), written);
    let (before, after) = (text(change.before)?, text(change.after)?);
    terminal.text(&diff::unified(
        &format!("{id} stored"),
        &format!("{id} wanted"),
        &before,
        &after,
    ));
    Ok(())
}

/// An object as text, without what the server counts for itself.
fn written(object: &Value) -> Result<String, Failure> {
    let mut object = object.clone();
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        for key in [
            "managedFields",
            "resourceVersion",
            "generation",
            "uid",
            "creationTimestamp",
        ] {
            metadata.remove(key);
        }
    }
    yaml::to_string(&sorted(object)).map_err(|error| Failure::new(error.to_string()))
}

/// The stored object, if there is one.
pub(super) async fn stored(
    store: &Store,
    kind: &Kind,
    namespace: Option<&str>,
    name: &str,
) -> Result<Option<Value>, StoreError> {
    match store.get(kind, namespace, name).await {
        Ok(object) => Ok(Some(object)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

//! `label`: one label set, changed or removed.

use caracal_api::kinds::Kind;
use caracal_api::meta;
use serde_json::{Map, Value};

use super::trial::{self, Change};
use crate::args::{DryRun, Label};
use crate::error::Failure;
use crate::input;
use crate::store::{Store, StoreError};
use crate::terminal::Terminal;

/// How often a label is set anew when others write too.
const ATTEMPTS: usize = 5;

/// What is done with a label.
struct Edit<'a> {
    key: &'a str,
    /// `None` = it is removed.
    value: Option<&'a str>,
}

/// Carries out `label`.
pub(crate) async fn run(terminal: &Terminal, store: &Store, arguments: &Label) -> Result<(), Failure> {
    let kind = input::kind(&arguments.kind)?;
    if arguments.name.is_empty() {
        return Err(Failure::new("resource name may not be empty"));
    }
    let edits: Vec<Edit<'_>> = arguments
        .labels
        .iter()
        .map(|text| edit(text, arguments.remove))
        .collect::<Result<_, _>>()?;
    let namespace = input::namespace(kind, None, arguments.namespace.as_deref(), false)?;
    for edit in &edits {
        one(terminal, store, arguments, kind, namespace.as_deref(), edit).await?;
    }
    Ok(())
}

fn edit(text: &str, remove: bool) -> Result<Edit<'_>, Failure> {
    let invalid = || {
        Failure::new(format!(
            "invalid label {text}{}",
            if remove {
                "; with --remove give the key alone"
            } else {
                "; write it as key=value"
            }
        ))
    };
    if remove {
        let is_key = !text.is_empty() && !text.contains('=');
        return if is_key {
            Ok(Edit {
                key: text,
                value: None,
            })
        } else {
            Err(invalid())
        };
    }
    let (key, value) = text.split_once('=').ok_or_else(invalid)?;
    if key.is_empty() || value.contains('=') {
        return Err(invalid());
    }
    Ok(Edit {
        key,
        value: Some(value),
    })
}

async fn one(
    terminal: &Terminal,
    store: &Store,
    arguments: &Label,
    kind: &'static Kind,
    namespace: Option<&str>,
    edit: &Edit<'_>,
) -> Result<(), Failure> {
    let name = &arguments.name;
    let what = format!("{} {name}", arguments.kind);
    let how = arguments.trial.dry_run;
    let writing = trial::store_for(store, how);
    let mut attempt = 1;
    let (before, after, said) = loop {
        let before = store
            .get(kind, namespace, name)
            .await
            .map_err(|error| match error {
                StoreError::NotFound { .. } => Failure::new(format!("{what} not found")),
                error => Failure::new(format!("failed to get {what}, error {error}")),
            })?;
        let (after, said) = edited(&before, kind, &what, edit, arguments.overwrite)?;
        let result = match how {
            DryRun::Client => Ok(after),
            DryRun::None | DryRun::Server => writing.update(kind, namespace, &after).await,
        };
        match result {
            Ok(after) => break (before, after, said),
            Err(StoreError::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => {
                return Err(Failure::new(format!(
                    "failed to update {what}, label not changed: {error}"
                )));
            }
        }
    };
    if how != DryRun::None {
        let change = Change {
            kind,
            namespace,
            name,
            before: Some(&before),
            after: Some(&after),
        };
        trial::show(terminal, &change)?;
    }
    let Edit { key, .. } = edit;
    terminal.line(&format!("Successfully {said} {what}{}", trial::suffix(how)).replace("KEY", key));
    Ok(())
}

/// The object with the label changed, and what is said of it.
fn edited(
    before: &Value,
    kind: &Kind,
    what: &str,
    edit: &Edit<'_>,
    overwrite: bool,
) -> Result<(Value, &'static str), Failure> {
    let key = edit.key;
    let mut after = before.clone();
    let Some(Value::Object(metadata)) = after.get_mut("metadata") else {
        return Err(Failure::new(format!(
            "failed to get {what}, error it has no metadata"
        )));
    };
    metadata.remove("managedFields");
    let belongs_to_kubernetes = kind.kind == "Node" && kubernetes_labels(metadata).contains_key(key);
    let labels = metadata
        .entry("labels")
        .or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(labels) = labels else {
        return Err(Failure::new(format!(
            "failed to get {what}, error its labels are no map"
        )));
    };
    let had = labels.get(key).and_then(Value::as_str).map(str::to_owned);
    if belongs_to_kubernetes && edit.value != had.as_deref() {
        return Err(Failure::new(format!(
            "failed to update {what}, label not changed: {key} belongs to Kubernetes; use kubectl label {what}"
        )));
    }
    let said = match (edit.value, had) {
        (None, None) => {
            return Err(Failure::new(format!(
                "cannot remove label of {what}, key {key} does not exist"
            )));
        }
        (None, Some(_)) => {
            labels.remove(key);
            "removed label KEY from"
        }
        (Some(value), Some(had)) => {
            if !overwrite && had != value {
                return Err(Failure::new(format!(
                    "failed to update label of {what}, key {key} is already present. please use '--overwrite' to set a new value"
                )));
            }
            labels.insert(key.to_owned(), value.into());
            "updated label KEY on"
        }
        (Some(value), None) => {
            labels.insert(key.to_owned(), value.into());
            "set label KEY on"
        }
    };
    Ok((after, said))
}

/// The labels that a node has from Kubernetes.
fn kubernetes_labels(metadata: &Map<String, Value>) -> Map<String, Value> {
    metadata
        .get("annotations")
        .and_then(|annotations| annotations.get(meta::NODE_KUBE_LABELS))
        .and_then(Value::as_str)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

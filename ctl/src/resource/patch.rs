//! `patch`: an object read, changed and written.

use caracal_api::yaml;
use serde_json::Value;

use super::patching;
use super::trial::{self, Change};
use crate::args::{DryRun, Patch};
use crate::error::Failure;
use crate::input;
use crate::judge;
use crate::store::{Store, StoreError};
use crate::terminal::Terminal;

/// How often a patch is made anew when others write too.
const ATTEMPTS: usize = 5;

/// Carries out `patch`.
pub(crate) async fn run(terminal: &Terminal, store: &Store, arguments: &Patch) -> Result<(), Failure> {
    let kind = input::kind(&arguments.kind)?;
    if arguments.name.is_empty() {
        return Err(Failure::new("resource name may not be empty"));
    }
    let namespace = input::namespace(kind, None, arguments.namespace.as_deref(), false)?;
    let namespace = namespace.as_deref();
    let patch = yaml::document(&arguments.patch).map_err(|error| {
        Failure::new(format!(
            "failed to execute command: the patch cannot be read: {error}; write it as '{{\"spec\": {{…}}}}'"
        ))
    })?;
    let how = arguments.trial.dry_run;
    let writing = trial::store_for(store, how);
    let failed = |error: StoreError| Failure::new(format!("hit error: {error}"));
    let mut attempt = 1;
    let (before, after) = loop {
        let before = store
            .get(kind, namespace, &arguments.name)
            .await
            .map_err(failed)?;
        let wanted = patched(arguments, &before, &patch).map_err(|text| failed(StoreError::Other(text)))?;
        let result = match how {
            DryRun::Client => Ok(wanted),
            DryRun::None | DryRun::Server if kind.kind == "ClusterInformation" => {
                Err(StoreError::Unsupported {
                    verb: "patch",
                    id: kind.kind.to_owned(),
                    reason: Some("resource is readonly".to_owned()),
                })
            }
            DryRun::None | DryRun::Server => writing.update(kind, namespace, &wanted).await,
        };
        match result {
            Err(StoreError::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
            result => break (before, result.map_err(failed)?),
        }
    };
    if how != DryRun::None {
        let change = Change {
            kind,
            namespace,
            name: &arguments.name,
            before: Some(&before),
            after: Some(&after),
        };
        trial::show(terminal, &change)?;
    }
    terminal.line(&format!(
        "Successfully patched 1 '{}' resource{}",
        kind.kind,
        trial::suffix(how)
    ));
    Ok(())
}

/// The object with the patch, if it is still one of its kind and itself.
fn patched(arguments: &Patch, before: &Value, patch: &Value) -> Result<Value, String> {
    let mut after = patching::patched(arguments.type_, before, patch)?;
    for pointer in [
        "/kind",
        "/apiVersion",
        "/metadata/name",
        "/metadata/namespace",
        "/metadata/uid",
    ] {
        if after.pointer(pointer) != before.pointer(pointer) {
            return Err(format!(
                "the patch changes {}; it names the object and stays",
                pointer.trim_start_matches('/').replace('/', ".")
            ));
        }
    }
    let kind = input::kind(&arguments.kind).map_err(|failure| failure.to_string())?;
    let mut judged = after.clone();
    if let Value::Object(map) = &mut judged {
        map.remove("status");
    }
    if let Some(refusal) = judge::refusal_of(kind, &judged) {
        return Err(refusal);
    }
    if let Some(Value::Object(metadata)) = after.get_mut("metadata") {
        metadata.remove("managedFields");
    }
    Ok(after)
}

//! `delete`: by kind and names, or what a file lists.

use serde_json::Value;

use crate::args::Delete;
use crate::error::Failure;
use crate::input;
use crate::output;
use crate::store::{Store, StoreError};

/// Carries out `delete`.
pub(crate) async fn run(store: &Store, arguments: &Delete) -> Result<(), Failure> {
    let flag = arguments.source.namespace.as_deref();
    let mut wanted = Vec::new();
    match &arguments.kind {
        Some(name) => {
            let kind = input::kind(name)?;
            if arguments.names.is_empty() {
                return Err(Failure::new(format!(
                    "name what to delete: caracalctl delete {name} NAME"
                )));
            }
            let namespace = input::namespace(kind, None, flag, false)?;
            wanted.extend(
                arguments
                    .names
                    .iter()
                    .map(|name| (kind, namespace.clone(), name.clone(), None)),
            );
        }
        None => {
            let Some(resources) = input::read(&arguments.source)? else {
                return Ok(());
            };
            for resource in resources {
                let namespace = input::namespace(resource.kind, resource.namespace(), flag, false)?;
                let version = resource
                    .object
                    .pointer("/metadata/resourceVersion")
                    .and_then(Value::as_str);
                wanted.push((
                    resource.kind,
                    namespace,
                    resource.name().to_owned(),
                    version.map(str::to_owned),
                ));
            }
        }
    }
    let mut errors = Vec::new();
    for (kind, namespace, name, version) in &wanted {
        match store
            .delete(kind, namespace.as_deref(), name, version.as_deref())
            .await
        {
            Err(StoreError::NotFound { .. }) if arguments.skip_not_exists => {}
            Err(error) => errors.push(format!("Failed to delete '{}' resource: {error}", kind.kind)),
            Ok(()) => {}
        }
    }
    if errors.is_empty() {
        let first = wanted.first().map_or("", |(kind, ..)| kind.kind);
        let what = if wanted.iter().all(|(kind, ..)| kind.kind == first) {
            format!("'{first}' ")
        } else {
            String::new()
        };
        output::line(&format!(
            "Successfully deleted {} {what}resource(s)",
            wanted.len()
        ));
        return Ok(());
    }
    Err(Failure::new(errors.join("\n")))
}

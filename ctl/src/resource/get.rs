//! `get`: objects found by kind and names, or as a file lists them.

use serde_json::{Value, json};

use super::print::{self, Form, Found};
use crate::args::Get;
use crate::error::Failure;
use crate::input;
use crate::store::{Store, StoreError};
use crate::terminal::Terminal;

/// Carries out `get`.
pub(crate) async fn run(terminal: &Terminal, store: &Store, arguments: &Get) -> Result<(), Failure> {
    let form = Form::parse(&arguments.output)?;
    let Some((found, errors)) = read(terminal, store, arguments).await? else {
        return Ok(());
    };
    if !found.is_empty() {
        let with_namespace = arguments.all_namespaces || arguments.source.namespace.is_some();
        print::print(terminal, store, found, &form, with_namespace).await?;
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(errors.join("\n")))
    }
}

async fn read(
    terminal: &Terminal,
    store: &Store,
    arguments: &Get,
) -> Result<Option<(Vec<Found>, Vec<String>)>, Failure> {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    let source = &arguments.source;
    let flag = source.namespace.as_deref();
    let mut collect = |kind, result: Result<Value, StoreError>| match result {
        Ok(object) => found.push(Found { kind, object }),
        Err(error) => errors.push(error.to_string()),
    };
    let Some(word) = &arguments.kind else {
        if source.filename.is_none() {
            return Err(Failure::new(
                "name a kind, as `get ippools`, or a file with --filename",
            ));
        }
        let Some(resources) = input::read(terminal, source)? else {
            return Ok(None);
        };
        for resource in resources {
            let kind = resource.kind;
            let namespace = input::namespace(kind, resource.namespace(), flag, arguments.all_namespaces)?;
            collect(kind, store.get(kind, namespace.as_deref(), resource.name()).await);
        }
        return Ok(Some((found, errors)));
    };
    let kind = input::kind(word)?;
    let namespace = input::namespace(kind, None, flag, arguments.all_namespaces)?;
    if arguments.names.is_empty() {
        let list = store
            .list(kind, namespace.as_deref())
            .await
            .map_err(|error| Failure::new(error.to_string()))?;
        return Ok(Some((vec![Found { kind, object: list }], errors)));
    }
    if arguments.all_namespaces {
        return Err(Failure::new(
            "cannot use --all-namespace flag for getting a single resource",
        ));
    }
    for name in &arguments.names {
        if name.is_empty() {
            return Err(Failure::new("resource name may not be empty"));
        }
        collect(kind, store.get(kind, namespace.as_deref(), name).await);
    }
    if arguments.export {
        found.iter_mut().for_each(|found| strip(&mut found.object));
    }
    Ok(Some((found, errors)))
}

/// Leaves out what belongs to one cluster.
fn strip(object: &mut Value) {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        for key in [
            "namespace",
            "uid",
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ] {
            metadata.remove(key);
        }
        metadata.insert("creationTimestamp".to_owned(), json!(null));
    }
}

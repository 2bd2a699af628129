//! `delete`: by kind and names, or what a file lists.

use caracal_api::kinds::Kind;

use super::trial::{self, Change};
use crate::args::{Delete, DryRun};
use crate::error::Failure;
use crate::input;
use crate::store::{Store, StoreError, text_at};
use crate::terminal::Terminal;

/// What is to go.
struct Wanted {
    kind: &'static Kind,
    namespace: Option<String>,
    name: String,
    version: Option<String>,
}

/// Carries out `delete`.
pub(crate) async fn run(terminal: &Terminal, store: &Store, arguments: &Delete) -> Result<(), Failure> {
    let Some(wanted) = wanted(terminal, arguments)? else {
        return Ok(());
    };
    let how = arguments.crud.trial.dry_run;
    let writing = trial::store_for(store, how);
    let mut errors = Vec::new();
    for wanted in &wanted {
        match one(terminal, &writing, wanted, how).await? {
            Err(StoreError::NotFound { .. }) if arguments.skip_not_exists => {}
            Err(error) => errors.push(error),
            Ok(()) => {}
        }
    }
    let first = wanted.first().map_or("", |wanted| wanted.kind.kind);
    let is_one_kind = wanted.iter().all(|wanted| wanted.kind.kind == first);
    let what = if is_one_kind {
        format!("'{first}' ")
    } else {
        String::new()
    };
    let handled = wanted.len() - errors.len();
    if handled > 0 {
        terminal.line(&format!(
            "Successfully deleted {handled} {what}resource(s){}",
            trial::suffix(how)
        ));
    }
    if errors.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = errors
        .iter()
        .map(|error| format!("Failed to delete {what}resource: {error}"))
        .collect();
    Err(Failure::new(lines.join("\n")))
}

/// Deletes one object, or shows that it would go.
async fn one(
    terminal: &Terminal,
    store: &Store,
    wanted: &Wanted,
    how: DryRun,
) -> Result<Result<(), StoreError>, Failure> {
    let namespace = wanted.namespace.as_deref();
    if wanted.kind.kind == "ClusterInformation" {
        return Ok(Err(StoreError::Unsupported {
            verb: "delete",
            id: wanted.kind.kind.to_owned(),
            reason: Some("resource is readonly".to_owned()),
        }));
    }
    let before = match how {
        DryRun::None => None,
        DryRun::Client | DryRun::Server => match store.get(wanted.kind, namespace, &wanted.name).await {
            Ok(object) => Some(object),
            Err(error) => return Ok(Err(error)),
        },
    };
    if how != DryRun::Client
        && let Err(error) = store
            .delete(wanted.kind, namespace, &wanted.name, wanted.version.as_deref())
            .await
    {
        return Ok(Err(error));
    }
    if how != DryRun::None {
        let change = Change {
            kind: wanted.kind,
            namespace,
            name: &wanted.name,
            before: before.as_ref(),
            after: None,
        };
        trial::show(terminal, &change)?;
    }
    Ok(Ok(()))
}

fn wanted(terminal: &Terminal, arguments: &Delete) -> Result<Option<Vec<Wanted>>, Failure> {
    let source = &arguments.crud.source;
    let flag = source.namespace.as_deref();
    let Some(word) = &arguments.kind else {
        let Some(resources) = input::read(terminal, source)? else {
            return Ok(None);
        };
        let wanted = resources.into_iter().map(|resource| {
            let version = text_at(&resource.object, "/metadata/resourceVersion").to_owned();
            Ok(Wanted {
                kind: resource.kind,
                namespace: input::namespace(resource.kind, resource.namespace(), flag, false)?,
                name: resource.name().to_owned(),
                version: Some(version).filter(|version| !version.is_empty()),
            })
        });
        return wanted.collect::<Result<_, Failure>>().map(Some);
    };
    let kind = input::kind(word)?;
    if source.filename.is_some() {
        return Err(Failure::new(
            "give either a kind with names, or a file with --filename, and not both",
        ));
    }
    if arguments.names.is_empty() {
        return Err(Failure::new(format!(
            "name what to delete: caracalctl delete {word} NAME"
        )));
    }
    if arguments.names.iter().any(String::is_empty) {
        return Err(Failure::new("resource name may not be empty"));
    }
    let namespace = input::namespace(kind, None, flag, false)?;
    let wanted = arguments.names.iter().map(|name| Wanted {
        kind,
        namespace: namespace.clone(),
        name: name.clone(),
        version: None,
    });
    Ok(Some(wanted.collect()))
}

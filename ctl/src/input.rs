//! Resources from files, directories and stdin.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use caracal_api::kinds::{self, Kind};
use caracal_api::yaml;
use serde_json::Value;

use crate::args::Source;
use crate::error::Failure;

/// One resource of the input.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// Its kind.
    pub(crate) kind: &'static Kind,
    /// The whole object.
    pub(crate) object: Value,
}

impl Resource {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.object
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The namespace written in it.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.object
            .pointer("/metadata/namespace")
            .and_then(Value::as_str)
            .filter(|namespace| !namespace.is_empty())
    }
}

/// Reads all resources that `-f` names; `None` when there are none and that is allowed.
pub(crate) fn read(source: &Source) -> Result<Option<Vec<Resource>>, Failure> {
    let Some(path) = &source.filename else {
        return Err(Failure::new(
            "name a file with resources: --filename FILE, a directory, or - for stdin",
        ));
    };
    let failed = |text: String| Failure::new(format!("failed to execute command: {text}"));
    let (mut resources, place) = if path == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| failed(format!("reading stdin: {error}")))?;
        (
            parse(&text).map_err(|error| failed(format!("stdin: {error}")))?,
            "file -".to_owned(),
        )
    } else {
        let root = Path::new(path);
        let is_folder = fs::metadata(root)
            .map_err(|error| failed(format!("{path}: {error}")))?
            .is_dir();
        let files = if is_folder {
            files_below(root, source.recursive)?
        } else {
            vec![root.to_path_buf()]
        };
        let mut resources = Vec::new();
        for file in files {
            let text =
                fs::read_to_string(&file).map_err(|error| failed(format!("{}: {error}", file.display())))?;
            resources.extend(parse(&text).map_err(|error| failed(format!("{}: {error}", file.display())))?);
        }
        (
            resources,
            format!("{} {path}", if is_folder { "directory" } else { "file" }),
        )
    };
    if resources.is_empty() {
        if source.skip_empty {
            crate::output::line("No resources specified");
            return Ok(None);
        }
        return Err(Failure::new(format!("no resources specified in {place}")));
    }
    for resource in &mut resources {
        if resource.name().is_empty() {
            return Err(failed(format!(
                "a {} without a name: set metadata.name",
                resource.kind.kind
            )));
        }
    }
    Ok(Some(resources))
}

fn files_below(folder: &Path, recursive: bool) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!(
            "failed to execute command: {}: {error}",
            folder.display()
        ))
    };
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        if path.is_dir() {
            if recursive {
                files.extend(files_below(&path, true)?);
            }
            continue;
        }
        let ending = path
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default()
            .to_ascii_lowercase();
        if matches!(ending.as_str(), "yaml" | "yml" | "json") {
            files.push(path);
        }
    }
    Ok(files)
}

/// The resources of a text: single objects, `…List` objects and bare arrays.
fn parse(text: &str) -> Result<Vec<Resource>, String> {
    let mut resources = Vec::new();
    for document in yaml::documents(text).map_err(|error| error.to_string())? {
        flatten(document, &mut resources)?;
    }
    Ok(resources)
}

fn flatten(document: Value, resources: &mut Vec<Resource>) -> Result<(), String> {
    if let Value::Array(items) = document {
        return items.into_iter().try_for_each(|item| flatten(item, resources));
    }
    let word = |key: &str| {
        document
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (kind, version) = (word("kind"), word("apiVersion"));
    if kind.ends_with("List")
        && let Some(Value::Array(items)) = document.get("items")
    {
        return items
            .clone()
            .into_iter()
            .try_for_each(|item| flatten(item, resources));
    }
    match kinds::of_manifest(&kind) {
        Some(known) if version == "projectcalico.org/v3" => {
            resources.push(Resource {
                kind: known,
                object: document,
            });
            Ok(())
        }
        _ => Err(format!(
            "unknown resource type ({kind}) and/or version ({version})"
        )),
    }
}

/// The kind that a command line names.
pub(crate) fn kind(name: &str) -> Result<&'static Kind, Failure> {
    kinds::named(name).ok_or_else(|| Failure::new(format!("resource type '{name}' is not supported")))
}

/// The namespace of an object, or of a request when `object` is none. `None` = all namespaces or none at all.
pub(crate) fn namespace(
    kind: &Kind,
    object: Option<&str>,
    flag: Option<&str>,
    all: bool,
) -> Result<Option<String>, Failure> {
    if flag.is_some() && all {
        return Err(Failure::new(
            "cannot use both --namespace and --all-namespaces flags at the same time",
        ));
    }
    if !kind.namespaced {
        return match (object, flag.is_some() || all) {
            (Some(_), _) => Err(Failure::new(format!(
                "namespace should not be specified for a non-namespaced resource. {} is not a namespaced resource",
                kind.kind
            ))),
            (None, true) => Err(Failure::new(format!("{} is not namespaced", kind.kind))),
            (None, false) => Ok(None),
        };
    }
    match (object, flag) {
        (_, _) if all => Ok(None),
        (Some(object), Some(flag)) if object != flag => Err(Failure::new(format!(
            "resource namespace does not match client namespace. {object} != {flag}"
        ))),
        (Some(namespace), _) | (None, Some(namespace)) => Ok(Some(namespace.to_owned())),
        (None, None) => Ok(Some("default".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_arrays_and_documents_become_single_resources() {
        let text = "apiVersion: projectcalico.org/v3\nkind: IPPoolList\nitems:\n\
                    - {apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: a}}\n---\n\
                    [{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: b}}]\n";
        let names: Vec<_> = parse(text)
            .unwrap()
            .iter()
            .map(|r| (r.kind.kind, r.name().to_owned()))
            .collect();
        assert_eq!(names, [("IPPool", "a".to_owned()), ("Tier", "b".to_owned())]);
    }

    #[test]
    fn a_foreign_kind_is_refused() {
        let error = parse("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n").unwrap_err();
        assert_eq!(error, "unknown resource type (Pod) and/or version (v1)");
    }

    #[test]
    fn namespaces_come_from_the_object_the_flag_or_the_default() {
        let policy = kinds::of_manifest("NetworkPolicy").unwrap();
        let pool = kinds::of_manifest("IPPool").unwrap();
        assert_eq!(
            namespace(policy, None, None, false).unwrap().as_deref(),
            Some("default")
        );
        assert_eq!(
            namespace(policy, Some("a"), None, false).unwrap().as_deref(),
            Some("a")
        );
        assert_eq!(namespace(policy, None, None, true).unwrap(), None);
        assert!(namespace(policy, Some("a"), Some("b"), false).is_err());
        assert!(namespace(policy, None, Some("b"), true).is_err());
        assert!(namespace(pool, None, Some("b"), false).is_err());
        assert_eq!(namespace(pool, None, None, false).unwrap(), None);
    }
}

//! Resources from files, directories and stdin, each with the place that it stands at.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use caracal_api::kinds::{self, Kind};
use caracal_api::yaml;
use serde_json::Value;

use crate::args::Source;
use crate::error::Failure;
use crate::store::{rewritten, text_at};
use crate::terminal::Terminal;

/// A text and what it is called.
#[derive(Debug)]
struct File {
    name: String,
    text: String,
}

/// Where a resource stands.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    file: Rc<File>,
    /// Which document of the file, from 0, not counting empty ones.
    document: usize,
    /// Path of the resource within the document: empty, or `items[3]`.
    path: String,
}

impl Origin {
    /// File, line and document of a field of the resource.
    pub(crate) fn of_field(&self, field: &str) -> String {
        let path = format!("{}.{field}", self.path);
        let line = yaml::line_of(&self.file.text, self.document, &path);
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{}{line} (document {})", self.file.name, self.document + 1)
    }
}

/// One resource of the input.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// Its kind.
    pub(crate) kind: &'static Kind,
    /// The whole object.
    pub(crate) object: Value,
    /// Where it stands.
    pub(crate) origin: Origin,
}

impl Resource {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        text_at(&self.object, "/metadata/name")
    }

    /// The namespace written in it.
    pub(crate) fn namespace(&self) -> Option<&str> {
        Some(text_at(&self.object, "/metadata/namespace")).filter(|namespace| !namespace.is_empty())
    }
}

/// One document with its place, of whatever kind.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// The object.
    pub(crate) object: Value,
    /// Where it stands.
    pub(crate) origin: Origin,
}

/// Reads all objects that `-f` names; `None` when there are none and that is allowed.
pub(crate) fn documents(terminal: &Terminal, source: &Source) -> Result<Option<Vec<Document>>, Failure> {
    let Some(path) = &source.filename else {
        return Err(Failure::new(
            "name a file with resources: --filename FILE, a directory, or - for stdin",
        ));
    };
    let failed = |text: String| Failure::new(format!("failed to execute command: {text}"));
    let mut documents = Vec::new();
    let mut place = format!("file {path}");
    if path == "-" {
        let text = terminal
            .input()
            .map_err(|error| failed(format!("reading stdin: {error}")))?;
        parse("stdin", text, &mut documents).map_err(failed)?;
    } else {
        let root = Path::new(path);
        let is_folder = fs::metadata(root)
            .map_err(|error| failed(format!("{path}: {error}")))?
            .is_dir();
        let files = if is_folder {
            place = format!("directory {path}");
            files_below(root, source.recursive)?
        } else {
            vec![root.to_path_buf()]
        };
        for file in files {
            let name = file.display().to_string();
            let text = fs::read_to_string(&file).map_err(|error| failed(format!("{name}: {error}")))?;
            parse(&name, text, &mut documents).map_err(failed)?;
        }
    }
    if documents.is_empty() {
        if source.skip_empty {
            terminal.line("No resources specified");
            return Ok(None);
        }
        return Err(Failure::new(format!("no resources specified in {place}")));
    }
    Ok(Some(documents))
}

/// Reads all resources of `projectcalico.org/v3` that `-f` names; `None` when there are none and that is allowed.
pub(crate) fn read(terminal: &Terminal, source: &Source) -> Result<Option<Vec<Resource>>, Failure> {
    let Some(documents) = documents(terminal, source)? else {
        return Ok(None);
    };
    documents
        .into_iter()
        .map(resource)
        .collect::<Result<_, _>>()
        .map(Some)
        .map_err(|text| Failure::new(format!("failed to execute command: {text}")))
}

fn resource(document: Document) -> Result<Resource, String> {
    let Document { object, origin } = document;
    let (kind, version) = (text_at(&object, "/kind"), text_at(&object, "/apiVersion"));
    let known = kinds::of_manifest(kind).filter(|_| version == "projectcalico.org/v3");
    let Some(known) = known else {
        return Err(format!(
            "{}: unknown resource type ({kind}) and/or version ({version})",
            origin.of_field("kind")
        ));
    };
    if text_at(&object, "/metadata/name").is_empty() {
        return Err(format!(
            "{}: a {kind} without a name: set metadata.name",
            origin.of_field("metadata")
        ));
    }
    Ok(Resource {
        kind: known,
        object,
        origin,
    })
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

/// The objects of a text: single objects, `…List` objects and bare arrays.
fn parse(name: &str, text: String, documents: &mut Vec<Document>) -> Result<(), String> {
    let read = yaml::documents(&text).map_err(|error| {
        let message = error.to_string();
        format!("{name}: {}", rewritten(&message).unwrap_or(message))
    })?;
    let file = Rc::new(File {
        name: name.to_owned(),
        text,
    });
    for (document, object) in read.into_iter().enumerate() {
        let origin = Origin {
            file: Rc::clone(&file),
            document,
            path: String::new(),
        };
        flatten(object, origin, documents);
    }
    Ok(())
}

fn flatten(object: Value, origin: Origin, documents: &mut Vec<Document>) {
    let below = |index: usize, list: &str| Origin {
        path: format!("{}.{list}[{index}]", origin.path)
            .trim_start_matches('.')
            .to_owned(),
        ..origin.clone()
    };
    match object {
        Value::Array(items) => {
            for (index, item) in items.into_iter().enumerate() {
                flatten(item, below(index, ""), documents);
            }
        }
        Value::Object(mut map)
            if map
                .get("kind")
                .and_then(Value::as_str)
                .is_some_and(|kind| kind.ends_with("List"))
                && map.get("items").is_some_and(Value::is_array) =>
        {
            if let Some(Value::Array(items)) = map.remove("items") {
                for (index, item) in items.into_iter().enumerate() {
                    flatten(item, below(index, "items"), documents);
                }
            }
        }
        object => documents.push(Document { object, origin }),
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

    fn parsed(text: &str) -> Result<Vec<Resource>, String> {
        let mut documents = Vec::new();
        parse("x.yaml", text.to_owned(), &mut documents)?;
        documents.into_iter().map(resource).collect()
    }

    #[test]
    fn lists_arrays_and_documents_become_single_resources_with_their_places() {
        let text = "apiVersion: projectcalico.org/v3\nkind: IPPoolList\nitems:\n\
                    - {apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: a}}\n---\n\
                    [{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: b}}]\n";
        let found: Vec<_> = parsed(text)
            .unwrap()
            .iter()
            .map(|r| {
                (
                    r.kind.kind,
                    r.name().to_owned(),
                    r.origin.of_field("metadata.name"),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("IPPool", "a".to_owned(), "x.yaml:4 (document 1)".to_owned()),
                ("Tier", "b".to_owned(), "x.yaml:6 (document 2)".to_owned())
            ]
        );
    }

    #[test]
    fn a_foreign_kind_is_refused() {
        let error = parsed("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n").unwrap_err();
        assert_eq!(
            error,
            "x.yaml:2 (document 1): unknown resource type (Pod) and/or version (v1)"
        );
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

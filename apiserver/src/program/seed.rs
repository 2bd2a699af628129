//! Objects from a directory of YAML and JSON files, added at the start unless they are there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use caracal_apiserver::ApiServer;
use serde_json::Value;

/// Adds what the files of `directory` hold, in the order of their names; definitions and namespaces go first.
pub(crate) async fn load(server: &ApiServer, directory: &Path) -> Result<usize> {
    let mut objects = Vec::new();
    for path in files(directory)? {
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let documents =
            caracal_api::yaml::documents(&text).with_context(|| format!("read {}", path.display()))?;
        for (index, document) in documents.into_iter().enumerate() {
            let place = format!("{} document {}", path.display(), index + 1);
            objects.extend(items(document).into_iter().map(|object| (place.clone(), object)));
        }
    }
    objects.sort_by_key(|(_, object)| rank(object));
    let count = objects.len();
    for (place, object) in objects {
        server.add(object).await.with_context(|| format!("add {place}"))?;
    }
    Ok(count)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("read the directory {}", directory.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path
            .extension()
            .is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending == *known))
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The objects of a list; anything else is one object.
fn items(document: Value) -> Vec<Value> {
    match document {
        Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
            match list.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }
        }
        other => vec![other],
    }
}

fn rank(object: &Value) -> u8 {
    match object.get("kind").and_then(Value::as_str) {
        Some("CustomResourceDefinition") => 0,
        Some("Namespace") => 1,
        _ => 2,
    }
}

//! Manifests from files, folders and standard input.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use caracal_api::yaml;
use serde_json::Value;

use crate::error::{Error, Result};

/// Reads every object of a file, a folder, or standard input (`-`). Lists are taken apart.
///
/// # Errors
/// Something that cannot be read, or holds no object.
pub fn read(source: &Path) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    if source == Path::new("-") {
        let mut text = String::new();
        let mut input = std::io::stdin().lock().take(yaml::TEXT_LEN_MAX as u64 + 1);
        input
            .read_to_string(&mut text)
            .map_err(|e| Error::io("read standard input", e))?;
        parse("standard input", &text, &mut objects)?;
    } else {
        for file in files(source)? {
            let name = file.display().to_string();
            let text = fs::read_to_string(&file).map_err(|e| Error::io(format!("read {name}"), e))?;
            parse(&name, &text, &mut objects)?;
        }
    }
    if objects.is_empty() {
        return Err(Error::refused(format!("{}: no object in it", source.display())));
    }
    Ok(objects)
}

fn files(source: &Path) -> Result<Vec<PathBuf>> {
    if !source.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let failed = |e| Error::io(format!("read {}", source.display()), e);
    let mut files = Vec::new();
    for entry in fs::read_dir(source).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_manifest = path
            .extension()
            .is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if is_manifest && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn parse(name: &str, text: &str, objects: &mut Vec<Value>) -> Result<()> {
    let documents = yaml::documents(text).map_err(|e| Error::refused(format!("{name}: {e}")))?;
    for (index, document) in documents.into_iter().enumerate() {
        match document {
            Value::Object(mut map) => match map.remove("items") {
                Some(Value::Array(items)) if kind(&map).ends_with("List") => objects.extend(items),
                Some(items) => {
                    map.insert("items".to_owned(), items);
                    objects.push(Value::Object(map));
                }
                None => objects.push(Value::Object(map)),
            },
            _ => {
                return Err(Error::refused(format!(
                    "{name}: document {}: not an object; give apiVersion, kind and metadata",
                    index + 1
                )));
            }
        }
    }
    Ok(())
}

fn kind(map: &serde_json::Map<String, Value>) -> &str {
    map.get("kind").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_in_order_and_lists_taken_apart() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("b.yaml"), "kind: B\n---\nkind: C\n").unwrap();
        fs::write(
            dir.path().join("a.json"),
            r#"{"kind":"List","items":[{"kind":"A1"},{"kind":"A2"}]}"#,
        )
        .unwrap();
        fs::write(dir.path().join("notes.txt"), "kind: X").unwrap();
        let kinds: Vec<String> = read(dir.path())
            .unwrap()
            .iter()
            .map(|object| object["kind"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(kinds, ["A1", "A2", "B", "C"]);
    }

    #[test]
    fn what_holds_no_object_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text, words) in [
            ("empty.yaml", "---\n", "no object"),
            ("list.yaml", "- 1\n", "document 1"),
            ("bad.yaml", "a: [", "document 1"),
        ] {
            let file = dir.path().join(name);
            fs::write(&file, text).unwrap();
            let message = read(&file).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(words), "{message}");
        }
        assert!(
            read(&dir.path().join("none.yaml"))
                .unwrap_err()
                .to_string()
                .contains("none.yaml")
        );
    }
}

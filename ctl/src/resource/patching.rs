//! The three kinds of patches, on JSON. Pure.
//!
//! Strategic patches are those of Kubernetes for types without merge keys, which Calico's are: maps merge, lists are
//! replaced, `null` removes, `$patch: replace` and `$patch: delete` say so of a whole map. Of the metadata, which all
//! kinds share, `finalizers` are merged.

use serde_json::{Map, Value};

use crate::args::PatchType;

/// The directive of strategic patches.
const DIRECTIVE: &str = "$patch";

/// The object with a patch applied.
pub(super) fn patched(type_: PatchType, object: &Value, patch: &Value) -> Result<Value, String> {
    let mut result = object.clone();
    match type_ {
        PatchType::Json => {
            let operations: json_patch::Patch = serde_json::from_value(patch.clone()).map_err(|error| {
                format!("the patch is no list of operations as [{{\"op\": \"add\", \"path\": …}}]: {error}")
            })?;
            json_patch::patch(&mut result, &operations).map_err(|error| error.to_string())?;
        }
        PatchType::Merge | PatchType::Strategic => {
            if !patch.is_object() {
                return Err("the patch is no object; write it as {\"spec\": {…}}".to_owned());
            }
            if type_ == PatchType::Merge {
                json_patch::merge(&mut result, patch);
            } else {
                strategic(&mut result, patch, "")?;
            }
        }
    }
    Ok(result)
}

fn strategic(target: &mut Value, patch: &Value, path: &str) -> Result<(), String> {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    let directive = changes.get(DIRECTIVE).and_then(Value::as_str);
    if !target.is_object() || directive == Some("replace") {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else {
        return Ok(());
    };
    for (key, change) in changes {
        let below = format!("{path}/{key}");
        match (key.as_str(), change) {
            (DIRECTIVE, Value::String(word)) if word == "replace" || word == "merge" => {}
            (key, change) if key.starts_with('$') => {
                return Err(format!(
                    "the directive {key}: {change} at {} has no meaning here; use $patch: replace or $patch: delete",
                    if path.is_empty() { "the top" } else { path }
                ));
            }
            (key, Value::Null) => drop(fields.remove(key)),
            (key, Value::Object(map)) if map.get(DIRECTIVE).and_then(Value::as_str) == Some("delete") => {
                fields.remove(key);
            }
            ("finalizers", Value::Array(added)) if path == "/metadata" => {
                let list = fields
                    .entry(key.clone())
                    .or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    let new: Vec<Value> = added
                        .iter()
                        .filter(|item| !list.contains(item))
                        .cloned()
                        .collect();
                    list.extend(new);
                }
            }
            (key, Value::Array(items)) => {
                let items = items.iter().filter(|item| item.get(DIRECTIVE).is_none());
                fields.insert(key.to_owned(), Value::Array(items.cloned().collect()));
            }
            (key, change) => {
                strategic(fields.entry(key).or_insert(Value::Null), change, &below)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(type_: PatchType, patch: Value, expected: Result<Value, &str>) {
        let object = json!({"metadata": {"finalizers": ["a"]}, "spec": {"x": 1, "l": [1, 2], "m": {"k": "v", "w": 1}}});
        match (patched(type_, &object, &patch), expected) {
            (Ok(result), Ok(expected)) => assert_eq!(result, expected, "{patch}"),
            (Err(error), Err(part)) => assert!(error.contains(part), "{patch}: {error}"),
            (result, _) => panic!("{patch}: {result:?}"),
        }
    }

    #[test]
    fn strategic_patches_merge_maps_replace_lists_and_obey_directives() {
        let meta = json!({"finalizers": ["a"]});
        for (patch, spec) in [
            (
                json!({"x": 2, "l": [3]}),
                json!({"x": 2, "l": [3], "m": {"k": "v", "w": 1}}),
            ),
            (
                json!({"m": {"k": null}}),
                json!({"x": 1, "l": [1, 2], "m": {"w": 1}}),
            ),
            (
                json!({"m": {"$patch": "replace", "z": 1}}),
                json!({"x": 1, "l": [1, 2], "m": {"z": 1}}),
            ),
            (json!({"m": {"$patch": "delete"}}), json!({"x": 1, "l": [1, 2]})),
            (
                json!({"l": [{"$patch": "replace"}, 9], "n": {"o": 1}}),
                json!({"x": 1, "l": [9], "m": {"k": "v", "w": 1}, "n": {"o": 1}}),
            ),
        ] {
            check(
                PatchType::Strategic,
                json!({"spec": patch}),
                Ok(json!({"metadata": meta, "spec": spec})),
            );
        }
        check(
            PatchType::Strategic,
            json!({"spec": {"$retainKeys": ["x"]}}),
            Err("$retainKeys"),
        );
        let object = json!({"metadata": {"finalizers": ["a"]}});
        let patch = json!({"metadata": {"finalizers": ["b", "a"]}});
        assert_eq!(
            patched(PatchType::Strategic, &object, &patch).unwrap(),
            json!({"metadata": {"finalizers": ["a", "b"]}})
        );
    }

    #[test]
    fn merge_and_json_patches_follow_their_rfcs() {
        check(
            PatchType::Merge,
            json!({"spec": {"l": [7], "m": null}}),
            Ok(json!({"metadata": {"finalizers": ["a"]}, "spec": {"x": 1, "l": [7]}})),
        );
        check(
            PatchType::Json,
            json!([{"op": "add", "path": "/spec/l/-", "value": 3}, {"op": "remove", "path": "/spec/m"}]),
            Ok(json!({"metadata": {"finalizers": ["a"]}, "spec": {"x": 1, "l": [1, 2, 3]}})),
        );
        check(
            PatchType::Json,
            json!([{"op": "remove", "path": "/spec/none"}]),
            Err("/spec/none"),
        );
        check(PatchType::Json, json!({"spec": {}}), Err("no list of operations"));
        check(PatchType::Merge, json!([1]), Err("no object"));
    }
}

//! Strategic merge patches: lists of built-in kinds are joined by the keys that their schemas name.
//!
//! Pure. Source: the behaviour that `kubectl` and the API conventions of Kubernetes describe, directives included
//! (`$patch`, `$retainKeys`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…`).

use serde_json::{Map, Value};

use crate::builtin::resolve;

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// How a list is joined.
enum Joined<'a> {
    Not,
    Plain,
    By(&'a str),
}

fn joined(schema: Option<&Value>) -> Joined<'_> {
    let text = |key| schema.and_then(|schema| schema.get(key)).and_then(Value::as_str);
    let merges =
        text("x-kubernetes-patch-strategy").is_some_and(|all| all.split(',').any(|one| one == "merge"));
    match (merges, text("x-kubernetes-patch-merge-key")) {
        (false, _) => Joined::Not,
        (true, None) => Joined::Plain,
        (true, Some(key)) => Joined::By(key),
    }
}

fn below<'a>(schema: Option<&'a Value>, field: &str) -> Option<&'a Value> {
    let schema = resolve(schema?);
    let property = schema.get("properties").and_then(|all| all.get(field));
    property.or_else(|| schema.get("additionalProperties"))
}

/// Applies `patch` to `value`, an object of the kind that `schema` describes.
pub(crate) fn apply(value: &mut Value, patch: &Value, schema: Option<&Value>) -> Result<(), String> {
    let Some(patch) = patch.as_object() else {
        return Err("a strategic merge patch must be an object".to_owned());
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value.as_object_mut() {
        Some(fields) => object(fields, patch, schema),
        None => Ok(()),
    }
}

fn object(
    fields: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    schema: Option<&Value>,
) -> Result<(), String> {
    match patch
        .get(PATCH)
        .map(|directive| directive.as_str().unwrap_or_default())
    {
        None | Some("merge") => {}
        Some("delete") => {
            fields.clear();
            return Ok(());
        }
        Some("replace") => fields.clear(),
        Some(other) => {
            return Err(format!(
                "unrecognized directive $patch: {other:?}; use replace, delete or merge"
            ));
        }
    }
    if let Some(retained) = patch.get(RETAIN) {
        let retained = retained
            .as_array()
            .ok_or_else(|| format!("{RETAIN} must be a list of field names"))?;
        fields.retain(|key, _| retained.iter().any(|name| name == key));
    }
    let before = fields.clone();
    for (key, change) in patch {
        if let Some(list) = key.strip_prefix(DELETE) {
            let gone = change.as_array().ok_or_else(|| format!("{key} must be a list"))?;
            if let Some(Value::Array(items)) = fields.get_mut(list) {
                items.retain(|item| !gone.contains(item));
            }
        } else if !key.starts_with('$') {
            field(fields, key, change, below(schema, key))?;
        }
    }
    for (key, order) in patch {
        if let (Some(list), Some(order)) = (key.strip_prefix(ORDER), order.as_array())
            && let Some(Value::Array(items)) = fields.get_mut(list)
        {
            let old = before.get(list).and_then(Value::as_array);
            let by = match joined(below(schema, list)) {
                Joined::By(key) => Some(key),
                Joined::Plain | Joined::Not => None,
            };
            reorder(items, order, old.map_or(&[][..], Vec::as_slice), by);
        }
    }
    Ok(())
}

fn field(
    fields: &mut Map<String, Value>,
    key: &str,
    change: &Value,
    schema: Option<&Value>,
) -> Result<(), String> {
    match change {
        Value::Null => drop(fields.remove(key)),
        Value::Object(_) => {
            let slot = fields.entry(key).or_insert(Value::Null);
            apply(slot, change, schema)?;
        }
        Value::Array(changes) => {
            let slot = fields.entry(key).or_insert_with(|| Value::Array(Vec::new()));
            let items = match slot {
                Value::Array(items) => std::mem::take(items),
                _ => Vec::new(),
            };
            *slot = Value::Array(list(items, changes, schema).map_err(|why| format!("{key}: {why}"))?);
        }
        plain => drop(fields.insert(key.to_owned(), plain.clone())),
    }
    Ok(())
}

fn directive(item: &Value) -> Option<&str> {
    item.get(PATCH).and_then(Value::as_str)
}

fn list(mut items: Vec<Value>, changes: &[Value], schema: Option<&Value>) -> Result<Vec<Value>, String> {
    let replaced = changes
        .iter()
        .any(|change| directive(change) == Some("replace") && is_only(change));
    let item_schema = schema.and_then(|schema| schema.get("items"));
    match joined(schema) {
        Joined::Plain => {
            for change in changes {
                if !items.contains(change) {
                    items.push(change.clone());
                }
            }
        }
        Joined::By(key) if !replaced => {
            for change in changes {
                let wanted = change
                    .get(key)
                    .ok_or_else(|| format!("map: {change} does not contain declared merge key: {key}"))?;
                let position = items.iter().position(|item| item.get(key) == Some(wanted));
                match (directive(change), position) {
                    (Some("delete"), _) => items.retain(|item| item.get(key) != Some(wanted)),
                    (_, Some(position)) => {
                        if let Some(item) = items.get_mut(position) {
                            apply(item, change, item_schema)?;
                        }
                    }
                    (_, None) => items.push(clean(change, item_schema)?),
                }
            }
        }
        Joined::By(_) | Joined::Not => {
            items = changes
                .iter()
                .filter(|change| !is_only(change))
                .map(|change| clean(change, item_schema))
                .collect::<Result<_, _>>()?;
        }
    }
    Ok(items)
}

/// Nothing but a directive.
fn is_only(change: &Value) -> bool {
    directive(change).is_some() && change.as_object().is_some_and(|fields| fields.len() == 1)
}

/// A new value, without directives.
fn clean(change: &Value, schema: Option<&Value>) -> Result<Value, String> {
    if !change.is_object() {
        return Ok(change.clone());
    }
    let mut value = Value::Null;
    apply(&mut value, change, schema)?;
    Ok(value)
}

/// Puts the items that `order` names in its order; the others stay where they were between those.
fn reorder(items: &mut Vec<Value>, order: &[Value], old: &[Value], by: Option<&str>) {
    let identity = |item: &Value| match by {
        Some(key) => item.get(key).cloned().unwrap_or_default(),
        None => item.clone(),
    };
    let rank = |item: &Value| order.iter().position(|wanted| identity(wanted) == identity(item));
    let place = |item: &Value| old.iter().position(|other| identity(other) == identity(item));
    let (mut named, others): (Vec<Value>, Vec<Value>) = std::mem::take(items)
        .into_iter()
        .partition(|item| rank(item).is_some());
    named.sort_by_key(rank);
    let mut others = others.into_iter().peekable();
    for item in named {
        if let Some(place_of_named) = place(&item) {
            while let Some(other) = others.next_if(|other| place(other).is_some_and(|p| p < place_of_named)) {
                items.push(other);
            }
        }
        items.push(item);
    }
    items.extend(others);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(mut value: Value, patch: &Value) -> Value {
        let schema = crate::builtin::schema("io.k8s.api.core.v1.Pod");
        apply(&mut value, patch, schema).unwrap();
        value
    }

    #[test]
    fn lists_are_joined_by_their_keys() {
        let value = json!({"spec": {"containers": [
            {"name": "a", "image": "1", "ports": [{"containerPort": 80, "protocol": "TCP"}]}, {"name": "b"}],
            "tolerations": [{"key": "x"}], "volumes": [{"name": "v", "emptyDir": {}}]}});
        let patch = json!({"spec": {"containers": [
            {"name": "a", "image": "2", "ports": [{"containerPort": 81}]}, {"name": "b", "$patch": "delete"}, {"name": "c"}],
            "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "tolerations": [{"key": "y"}],
            "volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}});
        assert_eq!(
            pod(value, &patch),
            json!({"spec": {"containers": [{"name": "c"}, {"name": "a", "image": "2",
                "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 81}]}],
                "tolerations": [{"key": "y"}], "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}})
        );
    }

    #[test]
    fn directives_delete_replace_and_keep_what_others_added() {
        let value = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1", "y": "2"}},
            "status": {"conditions": [{"type": "A", "status": "False"}, {"type": "S"}, {"type": "B"}]}});
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"],
            "labels": {"x": null, "z": "3"}}, "status": {"conditions": [{"type": "A", "status": "True"}],
            "$setElementOrder/conditions": [{"type": "B"}, {"type": "A"}]}});
        assert_eq!(
            pod(value.clone(), &patch),
            json!({"metadata": {"finalizers": ["b", "c"], "labels": {"y": "2", "z": "3"}}, "status":
                {"conditions": [{"type": "S"}, {"type": "B"}, {"type": "A", "status": "True"}]}})
        );
        let replaced = pod(
            value,
            &json!({"metadata": {"$patch": "replace", "name": "n"},
            "status": {"conditions": [{"$patch": "replace"}, {"type": "C"}]}}),
        );
        assert_eq!(
            replaced,
            json!({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "C"}]}})
        );
        let mut bad = json!({});
        assert!(apply(&mut bad, &json!({"$patch": "x"}), None).is_err());
        let schema = crate::builtin::schema("io.k8s.api.core.v1.Pod");
        let error = apply(
            &mut bad,
            &json!({"spec": {"containers": [{"image": "x"}]}}),
            schema,
        )
        .unwrap_err();
        assert!(error.contains("merge key: name"), "{error}");
    }
}

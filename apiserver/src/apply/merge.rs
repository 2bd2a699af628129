//! Merging an applied configuration into an object, and removing what it does not have any more.

use serde_json::Value;

use super::set::{Items, Set, field_schema, is_atomic, item_name, item_schema, items_of};

/// Merges: objects by field, lists by the names of their items, everything else as a whole.
pub(super) fn merge(value: &mut Value, applied: &Value, schema: Option<&Value>) {
    below(value, applied, schema, true);
}

fn below(value: &mut Value, applied: &Value, schema: Option<&Value>, root: bool) {
    match (value, applied) {
        (Value::Object(fields), Value::Object(applied)) if !is_atomic(schema) => {
            for (name, change) in applied {
                match fields.get_mut(name) {
                    Some(field) => below(field, change, field_schema(schema, name, root), false),
                    None => drop(fields.insert(name.clone(), change.clone())),
                }
            }
        }
        (Value::Array(list), Value::Array(applied)) if !matches!(items_of(schema), Items::Atomic) => {
            let (items, item_schema) = (items_of(schema), item_schema(schema));
            for change in applied {
                let name = item_name(change, &items, item_schema);
                match list
                    .iter_mut()
                    .find(|item| item_name(item, &items, item_schema) == name)
                {
                    Some(item) => below(item, change, item_schema, false),
                    None => list.push(change.clone()),
                }
            }
        }
        (value, applied) => applied.clone_into(value),
    }
}

/// Removes the members of `gone`, except where `kept` has something of them.
pub(super) fn remove(value: &mut Value, gone: &Set, kept: &Set, schema: Option<&Value>) {
    shrink(value, gone, Some(kept), schema, true);
}

/// Says whether the value itself is to go.
fn shrink(value: &mut Value, gone: &Set, kept: Option<&Set>, schema: Option<&Value>, root: bool) -> bool {
    if gone.is_member() && kept.is_none_or(Set::is_empty) {
        return true;
    }
    match value {
        Value::Object(fields) => {
            let before = fields.len();
            fields.retain(|name, field| {
                let step = format!("f:{name}");
                gone.below(&step).is_none_or(|gone| {
                    let kept = kept.and_then(|kept| kept.below(&step));
                    !shrink(field, gone, kept, field_schema(schema, name, root), false)
                })
            });
            !root && fields.is_empty() && before > 0
        }
        Value::Array(list) => {
            let (items, item_schema) = (items_of(schema), item_schema(schema));
            let before = list.len();
            list.retain_mut(|item| {
                let step = item_name(item, &items, item_schema).unwrap_or_default();
                gone.below(&step).is_none_or(|gone| {
                    let kept = kept.and_then(|kept| kept.below(&step));
                    !shrink(item, gone, kept, item_schema, false)
                })
            });
            list.is_empty() && before > 0
        }
        _ => false,
    }
}

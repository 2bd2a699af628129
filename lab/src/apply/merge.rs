//! The difference between what is wanted, what was wanted before, and what is there, as a merge patch (RFC 7386).

use serde_json::{Map, Value};

/// The patch that brings `live` to `modified`, taking away what `original` had and `modified` has no more.
pub(super) fn patch(original: Option<&Value>, modified: &Value, live: &Value) -> Map<String, Value> {
    let empty = Map::new();
    let map = |value: Option<&'_ Value>| value.and_then(Value::as_object).cloned();
    let original = map(original).unwrap_or_default();
    let modified = modified.as_object().unwrap_or(&empty);
    let live = live.as_object().unwrap_or(&empty);
    let mut patch = Map::new();
    for (key, wanted) in modified {
        let before = original.get(key);
        match (wanted, live.get(key)) {
            (Value::Null, None) => {}
            (Value::Object(_), Some(there @ Value::Object(_))) => {
                let inner = self::patch(before, wanted, there);
                if !inner.is_empty() {
                    patch.insert(key.clone(), Value::Object(inner));
                }
            }
            (_, Some(there)) if is_as_wanted(before, wanted, there) => {}
            _ => {
                patch.insert(key.clone(), wanted.clone());
            }
        }
    }
    for key in original.keys() {
        if !modified.contains_key(key) && live.contains_key(key) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    patch
}

/// The server fills defaults into the entries of lists: those are no difference, unless the wish itself changed.
fn is_as_wanted(before: Option<&Value>, wanted: &Value, there: &Value) -> bool {
    wanted == there || (before.is_none_or(|before| before == wanted) && covers(there, wanted))
}

/// Everything in `wanted` is in `there` too.
fn covers(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, value)| there.get(key).is_some_and(|there| covers(there, value))),
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len()
                && there
                    .iter()
                    .zip(wanted)
                    .all(|(there, wanted)| covers(there, wanted))
        }
        _ => there == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn diff(original: Value, modified: Value, live: Value) -> Value {
        Value::Object(patch(Some(&original), &modified, &live))
    }

    #[test]
    fn others_fields_stay_and_dropped_ones_go() {
        let patch = diff(
            json!({"a": 1, "b": {"x": 1, "y": 2}}),
            json!({"b": {"x": 3}}),
            json!({"a": 1, "b": {"x": 1, "y": 2, "other": 5}, "status": {}}),
        );
        assert_eq!(patch, json!({"a": null, "b": {"x": 3, "y": null}}));
    }

    #[test]
    fn defaults_within_lists_are_no_difference_but_a_changed_list_is() {
        let live = json!({"ports": [{"port": 80, "protocol": "TCP"}]});
        let wanted = json!({"ports": [{"port": 80}]});
        assert_eq!(diff(wanted.clone(), wanted.clone(), live.clone()), json!({}));
        assert_eq!(
            diff(
                json!({"ports": [{"port": 80, "protocol": "TCP"}]}),
                wanted.clone(),
                live.clone()
            ),
            json!({"ports": [{"port": 80}]}),
            "a field was dropped from an entry"
        );
        assert_eq!(
            diff(wanted, json!({"ports": [{"port": 81}]}), live),
            json!({"ports": [{"port": 81}]})
        );
    }

    #[test]
    fn null_means_absent() {
        assert_eq!(diff(json!({}), json!({"a": null}), json!({})), json!({}));
        assert_eq!(
            diff(json!({}), json!({"a": null}), json!({"a": 1})),
            json!({"a": null})
        );
    }
}

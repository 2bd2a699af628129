//! What the definitions say beyond the Rust types: required fields, defaults, list types, patterns, and rules across
//! fields in CEL (`x-kubernetes-validations`).
//!
//! Owns the tables; the same checks in Rust are in [`validate`](crate::validate), and a test runs cases through both.
//! Lists and texts that a CEL rule walks through have a limit, so that its estimated cost stays within what a
//! Kubernetes API server admits.

mod bgp;
mod felix;
mod networking;
mod policy;

use serde_json::{Map, Value, json};

/// One addition to the schemas of some kinds.
pub(super) struct Amendment {
    kinds: &'static [&'static str],
    /// Path of the field: names separated by dots, `[]` for the items of a list; empty for the object.
    at: String,
    with: Value,
}

/// Additions to one path of some kinds.
fn amend(kinds: &'static [&'static str], at: impl Into<String>, with: Value) -> Amendment {
    Amendment {
        kinds,
        at: at.into(),
        with,
    }
}

/// Rules in CEL: expression and message.
fn rules<'a>(rules: impl IntoIterator<Item = (impl Into<String>, &'a str)>) -> Value {
    let rules: Vec<Value> = rules
        .into_iter()
        .map(|(rule, message)| json!({"rule": rule.into(), "message": message}))
        .collect();
    json!({"x-kubernetes-validations": rules})
}

/// CEL: the text or list is present and not empty.
fn is_set(field: &str) -> String {
    format!("(has(self.{field}) && size(self.{field}) > 0)")
}

/// CEL: the text or list is absent or empty.
fn is_unset(field: &str) -> String {
    format!("(!has(self.{field}) || size(self.{field}) == 0)")
}

/// Makes the additions that are for a kind.
pub(super) fn schema(kind: &str, schema: &mut Value, amendments: &[Amendment]) {
    for amendment in amendments {
        if amendment.kinds.contains(&kind)
            && let Some(Value::Object(target)) = find(schema, &amendment.at)
        {
            merge(target, &amendment.with);
        }
    }
}

/// All additions.
pub(super) fn all() -> Vec<Amendment> {
    let mut all = policy::all();
    all.extend(networking::all());
    all.extend(bgp::all());
    all.extend(felix::all());
    all
}

fn find<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.')
        .filter(|part| !part.is_empty())
        .try_fold(schema, |schema, part| {
            let name = part.strip_suffix("[]");
            let field = schema.get_mut("properties")?.get_mut(name.unwrap_or(part))?;
            if name.is_some() {
                field.get_mut("items")
            } else {
                Some(field)
            }
        })
}

/// Lists grow, properties are added, all else is replaced; null removes.
fn merge(target: &mut Map<String, Value>, with: &Value) {
    for (key, value) in with.as_object().into_iter().flatten() {
        match (target.get_mut(key), value) {
            (Some(Value::Array(list)), Value::Array(more)) if key != "enum" => {
                list.extend(more.iter().cloned());
            }
            (Some(Value::Object(fields)), Value::Object(_)) if key == "properties" => merge(fields, value),
            (_, Value::Null) => {
                target.remove(key);
            }
            _ => {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_addition_has_a_place() {
        let mut schemas = std::collections::BTreeMap::new();
        for amendment in all() {
            for kind in amendment.kinds {
                let schema = schemas.entry(*kind).or_insert_with(|| {
                    crate::crd::schema_of(kind).unwrap_or_else(|| panic!("no kind {kind}"))
                });
                assert!(
                    find(schema, &amendment.at).is_some(),
                    "{kind} has no {}",
                    amendment.at
                );
            }
        }
    }
}

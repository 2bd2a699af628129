//! Structural schemas: what is unknown is removed, what is absent gets its default, what is wrong is named.
//!
//! CEL rules are the module `cel`.

mod mistyped;

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use regex::Regex;
use serde_json::{Map, Value};

use crate::builtin::resolve;
use crate::status::FieldError;
pub(crate) use mistyped::mistyped;

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// The schema of a field, if it is known; `None` within is "anything".
fn schema_of<'a>(schema: &'a Value, name: &str) -> Option<Option<&'a Value>> {
    let schema = resolve(schema);
    if let Some(property) = schema.get("properties").and_then(|all| all.get(name)) {
        return Some(Some(property));
    }
    match schema.get("additionalProperties") {
        Some(Value::Bool(true)) => Some(None),
        Some(below @ Value::Object(_)) => Some(Some(below)),
        _ => None,
    }
}

/// Removes unknown fields and returns their paths. `root` keeps the fields that every object has.
pub(crate) fn prune(value: &mut Value, schema: &Value, path: &str, root: bool) -> Vec<String> {
    let mut unknown = Vec::new();
    let schema = resolve(schema);
    match value {
        Value::Object(fields) => {
            let root = root || flag(schema, "x-kubernetes-embedded-resource");
            let keep = flag(schema, "x-kubernetes-preserve-unknown-fields");
            fields.retain(|name, below| {
                if root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                    return true;
                }
                let path = join(path, name);
                match schema_of(schema, name) {
                    Some(Some(schema)) => unknown.extend(prune(below, schema, &path, false)),
                    Some(None) => {}
                    None if keep => {}
                    None => {
                        unknown.push(path);
                        return false;
                    }
                }
                true
            });
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter_mut().enumerate() {
                    unknown.extend(prune(item, schema, &format!("{path}[{index}]"), false));
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    unknown
}

/// Fills in defaults; a null that is not allowed is as good as nothing.
pub(crate) fn default(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
                fields.retain(|name, value| {
                    !value.is_null() || properties.get(name).is_none_or(|schema| flag(schema, "nullable"))
                });
                for (name, schema) in properties {
                    if let (None, Some(default)) = (fields.get(name), schema.get("default")) {
                        fields.insert(name.clone(), default.clone());
                    }
                }
            }
            for (name, below) in fields.iter_mut() {
                if let Some(Some(schema)) = schema_of(schema, name) {
                    default(below, schema);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| default(item, schema));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The item of the old list that has the same keys. Items of other lists have no counterpart.
pub(crate) fn counterpart<'a>(schema: &Value, item: &Value, old: &'a Value) -> Option<&'a Value> {
    if schema.get("x-kubernetes-list-type")? != "map" {
        return None;
    }
    let keys = schema.get("x-kubernetes-list-map-keys")?.as_array()?;
    let same = |other: &&Value| {
        keys.iter().all(|key| {
            let key = key.as_str().unwrap_or_default();
            item.get(key) == other.get(key)
        })
    };
    old.as_array()?.iter().find(same)
}

/// Says what is wrong with a value. What is as it was in `old` stays: it was judged when it came.
pub(crate) fn validate(
    value: &Value,
    old: Option<&Value>,
    schema: &Value,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    if old == Some(value) || value.is_null() && flag(schema, "nullable") {
        return;
    }
    if !has_type(value, schema) {
        let wanted = schema
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or("integer,string");
        errors.push(FieldError::wrong_type(path, value, wanted));
    }
    if let Some(Value::Array(allowed)) = schema.get("enum")
        && !allowed.contains(value)
    {
        let texts: Vec<String> = allowed
            .iter()
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
            .collect();
        errors.push(FieldError::not_supported(path, value, &texts));
    }
    if !has_type(value, schema) {
        return;
    }
    match value {
        Value::Object(fields) => validate_object(fields, old, schema, path, errors),
        Value::Array(items) => validate_array(items, old, schema, path, errors),
        Value::String(text) => validate_string(text, value, schema, path, errors),
        Value::Number(number) => validate_number(number.as_f64().unwrap_or(0.0), value, schema, path, errors),
        Value::Null | Value::Bool(_) => {}
    }
    validate_combined(value, schema, path, errors);
}

fn has_type(value: &Value, schema: &Value) -> bool {
    if flag(schema, "x-kubernetes-int-or-string") {
        return value.is_string() || value.is_i64() || value.is_u64();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("number") => value.is_number(),
        Some("integer") => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
        }
        _ => true,
    }
}

fn limit(schema: &Value, key: &str) -> Option<u64> {
    schema.get(key).and_then(Value::as_u64)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn required(schema: &Value, name: &str) -> bool {
    let list = schema.get("required").and_then(Value::as_array);
    list.into_iter().flatten().any(|required| required == name)
}

fn validate_object(
    fields: &Map<String, Value>,
    old: Option<&Value>,
    schema: &Value,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    for name in schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let name = name.as_str().unwrap_or_default();
        // A null that is not allowed is as good as nothing.
        let nullable = schema_of(schema, name)
            .flatten()
            .is_none_or(|below| flag(below, "nullable"));
        if fields.get(name).is_none_or(|value| value.is_null() && !nullable) {
            errors.push(FieldError::required(&join(path, name), ""));
        }
    }
    if let Some(limit) = limit(schema, "maxProperties").filter(|limit| count(fields.len()) > *limit) {
        errors.push(FieldError::too_many(path, fields.len(), limit));
    }
    if let Some(limit) = limit(schema, "minProperties").filter(|limit| count(fields.len()) < *limit) {
        let detail = format!("{path} in body should have at least {limit} properties");
        errors.push(FieldError::invalid(path, &Value::from(fields.len()), detail));
    }
    for (name, value) in fields {
        if let Some(Some(below)) = schema_of(schema, name) {
            if value.is_null() && !flag(below, "nullable") && required(schema, name) {
                continue;
            }
            let schema = below;
            let old = old.and_then(|old| old.get(name));
            validate(value, old, schema, &join(path, name), errors);
        }
    }
}

fn validate_array(
    items: &[Value],
    old: Option<&Value>,
    list: &Value,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    let schema = list;
    if let Some(limit) = limit(schema, "maxItems").filter(|limit| count(items.len()) > *limit) {
        errors.push(FieldError::too_many(path, items.len(), limit));
    }
    if let Some(limit) = limit(schema, "minItems").filter(|limit| count(items.len()) < *limit) {
        let detail = format!("{path} in body should have at least {limit} items");
        errors.push(FieldError::invalid(path, &Value::from(items.len()), detail));
    }
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    let list_type = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
    let unique = list_type == Some("set") || flag(schema, "uniqueItems");
    let mut seen = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let identity = match keys {
            Some(keys) if list_type == Some("map") => {
                let key = |key: &Value| {
                    let name = key.as_str()?;
                    Some((name.to_owned(), item.get(name)?.clone()))
                };
                Some(Value::Object(keys.iter().filter_map(key).collect()))
            }
            _ => unique.then(|| item.clone()),
        };
        if let Some(identity) = identity {
            if seen.contains(&identity) {
                errors.push(FieldError::duplicate(&path, &identity));
            }
            seen.push(identity);
        }
        if let Some(schema) = schema.get("items") {
            let old = old.and_then(|old| counterpart(list, item, old));
            validate(item, old, schema, &path, errors);
        }
    }
}

fn pattern_matches(pattern: &str, text: &str) -> bool {
    static PATTERNS: LazyLock<Mutex<HashMap<String, Option<Regex>>>> = LazyLock::new(Mutex::default);
    let mut patterns = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    if patterns.len() > 1024 {
        patterns.clear();
    }
    let compiled = patterns
        .entry(pattern.to_owned())
        .or_insert_with(|| Regex::new(pattern).ok());
    compiled.as_ref().is_none_or(|regex| regex.is_match(text))
}

fn validate_string(text: &str, value: &Value, schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let length = count(text.chars().count());
    if let Some(limit) = limit(schema, "maxLength").filter(|limit| length > *limit) {
        errors.push(FieldError::too_long(path, limit));
        return;
    }
    if let Some(limit) = limit(schema, "minLength").filter(|limit| length < *limit) {
        let detail = format!("{path} in body should be at least {limit} chars long");
        errors.push(FieldError::invalid(path, value, detail));
        return;
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && !pattern_matches(pattern, text)
    {
        errors.push(FieldError::invalid(
            path,
            value,
            format!("{path} in body should match '{pattern}'"),
        ));
    }
    let good = match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => text.parse::<jiff::Timestamp>().is_ok(),
        Some("ipv4") => text.parse::<std::net::Ipv4Addr>().is_ok(),
        Some("ipv6") => text.parse::<std::net::Ipv6Addr>().is_ok(),
        Some("cidr") => text.parse::<ipnet::IpNet>().is_ok(),
        _ => true,
    };
    if !good {
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        let detail = format!("{path} in body must be of type {format}: \"{text}\"");
        let mut error = FieldError::invalid(path, value, detail);
        error.reason = "FieldValueTypeInvalid";
        errors.push(error);
    }
}

fn validate_number(number: f64, value: &Value, schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    if let Some(minimum) = bound("minimum") {
        let exclusive = flag(schema, "exclusiveMinimum");
        if number < minimum || exclusive && number <= minimum {
            let than = if exclusive {
                "greater than"
            } else {
                "greater than or equal to"
            };
            errors.push(FieldError::invalid(
                path,
                value,
                format!("{path} in body should be {than} {minimum}"),
            ));
        }
    }
    if let Some(maximum) = bound("maximum") {
        let exclusive = flag(schema, "exclusiveMaximum");
        if number > maximum || exclusive && number >= maximum {
            let than = if exclusive {
                "less than"
            } else {
                "less than or equal to"
            };
            errors.push(FieldError::invalid(
                path,
                value,
                format!("{path} in body should be {than} {maximum}"),
            ));
        }
    }
    if let Some(step) = bound("multipleOf").filter(|step| *step > 0.0 && (number / step).fract() != 0.0) {
        errors.push(FieldError::invalid(
            path,
            value,
            format!("{path} in body should be a multiple of {step}"),
        ));
    }
}

fn validate_combined(value: &Value, schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let list = |key: &str| schema.get(key).and_then(Value::as_array);
    let fits = |schema: &Value| {
        let mut errors = Vec::new();
        validate(value, None, schema, path, &mut errors);
        errors.is_empty()
    };
    for schema in list("allOf").into_iter().flatten() {
        validate(value, None, schema, path, errors);
    }
    if list("anyOf").is_some_and(|all| !all.iter().any(fits)) {
        let detail = format!("{path} in body must validate at least one schema (anyOf)");
        errors.push(FieldError::invalid(path, value, detail));
    }
    if list("oneOf").is_some_and(|all| all.iter().filter(|schema| fits(schema)).count() != 1) {
        let detail = format!("{path} in body must validate one and only one schema (oneOf)");
        errors.push(FieldError::invalid(path, value, detail));
    }
    if schema.get("not").is_some_and(fits) {
        let detail = format!("{path} in body must not validate the schema (not)");
        errors.push(FieldError::invalid(path, value, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_goes_defaults_come_and_wrong_is_named() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["cidr"],
            "properties": {"cidr": {"type": "string", "pattern": "^1"}, "size": {"type": "integer", "default": 26, "maximum": 32}}}}});
        let mut value = json!({"kind": "X", "spec": {"cidr": "10", "typo": 1, "size": null}});
        assert_eq!(prune(&mut value, &schema, "", true), ["spec.typo"]);
        default(&mut value, &schema);
        assert_eq!(value, json!({"kind": "X", "spec": {"cidr": "10", "size": 26}}));
        let mut errors = Vec::new();
        validate(&json!({"spec": {"size": 33}}), None, &schema, "", &mut errors);
        let fields: Vec<_> = errors.iter().map(|e| (e.field.as_str(), e.reason)).collect();
        assert_eq!(
            fields,
            [
                ("spec.cidr", "FieldValueRequired"),
                ("spec.size", "FieldValueInvalid")
            ]
        );
    }
}

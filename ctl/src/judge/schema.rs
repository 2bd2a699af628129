//! An object against the structural schema of its kind: unknown fields, types, enumerations, ranges and lengths.
//!
//! Rules in CEL are not run here; the checks of the resource model say the same.

use caracal_api::validate::{FieldError, Layer};
use regex::Regex;
use serde_json::Value;

/// The problem of a field that the kind does not have.
pub(super) const UNKNOWN: &str = "is no field here";
/// Metadata that Kubernetes gives to every object.
const METADATA: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];
/// Names that differ by more letters than this are not taken for a slip.
const SLIP_MAX: usize = 3;

/// What of an object contradicts its schema.
pub(super) fn check(object: &Value, schema: &Value) -> Vec<FieldError> {
    let mut findings = Vec::new();
    let Value::Object(fields) = object else {
        return vec![finding(
            "",
            object,
            "is no object",
            "write it as apiVersion, kind, metadata and spec",
        )];
    };
    let properties = schema.get("properties");
    for (name, value) in fields {
        match name.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => metadata(value, &mut findings),
            name => match properties.and_then(|properties| properties.get(name)) {
                Some(schema) => walk(value, schema, name, &mut findings),
                None => findings.push(unknown(name, keys(schema).chain(["metadata"]))),
            },
        }
    }
    findings
}

/// Gives absent fields their default.
pub(super) fn fill_in(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, schema) in properties.into_iter().flatten() {
                if let (None, Some(default)) = (fields.get(name), schema.get("default")) {
                    fields.insert(name.clone(), default.clone());
                }
                if let Some(value) = fields.get_mut(name) {
                    fill_in(value, schema);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| fill_in(item, schema));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn metadata(value: &Value, findings: &mut Vec<FieldError>) {
    let Value::Object(fields) = value else {
        findings.push(finding(
            "metadata",
            value,
            "is no object",
            "write it as name: NAME",
        ));
        return;
    };
    for (name, value) in fields {
        let path = join("metadata", name);
        if !METADATA.contains(&name.as_str()) {
            findings.push(unknown(&path, METADATA.iter().copied()));
            continue;
        }
        if matches!(name.as_str(), "labels" | "annotations") {
            for (key, value) in value.as_object().into_iter().flatten() {
                if !value.is_string() {
                    let path = join(&path, key);
                    findings.push(finding(&path, value, "is no text", "put it in quotes"));
                }
            }
        }
    }
}

fn walk(value: &Value, schema: &Value, path: &str, findings: &mut Vec<FieldError>) {
    // Kubernetes decodes null as absent.
    if value.is_null() {
        return;
    }
    if let Some(wanted) = wrong_type(value, schema) {
        findings.push(finding(
            path,
            value,
            &format!("is no {wanted}"),
            &format!("write {}", article(wanted)),
        ));
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = join(path, name);
                match below(schema, name) {
                    Below::Schema(schema) => walk(value, schema, &path, findings),
                    Below::Anything => {}
                    Below::Unknown => findings.push(unknown(&path, keys(schema))),
                }
            }
            for name in schema
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let name = name.as_str().unwrap_or_default();
                if !fields.contains_key(name) {
                    let path = join(path, name);
                    findings.push(finding(&path, &Value::Null, "is required", "set it"));
                }
            }
        }
        Value::Array(items) => {
            limits(
                path,
                value,
                schema,
                ("minItems", "maxItems", "entries"),
                items.len(),
                findings,
            );
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    walk(item, schema, &format!("{path}[{index}]"), findings);
                }
            }
        }
        Value::String(text) => {
            let length = text.chars().count();
            limits(
                path,
                value,
                schema,
                ("minLength", "maxLength", "characters"),
                length,
                findings,
            );
            pattern(path, value, text, schema, findings);
            choice(path, value, schema, findings);
        }
        Value::Number(_) => {
            range(path, value, schema, findings);
            choice(path, value, schema, findings);
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// What a schema says of a field.
enum Below<'a> {
    Schema(&'a Value),
    Anything,
    Unknown,
}

fn below<'a>(schema: &'a Value, name: &str) -> Below<'a> {
    if let Some(schema) = schema.get("properties").and_then(|all| all.get(name)) {
        return Below::Schema(schema);
    }
    match schema.get("additionalProperties") {
        Some(Value::Bool(true)) => Below::Anything,
        Some(schema @ Value::Object(_)) => Below::Schema(schema),
        _ if flag(schema, "x-kubernetes-preserve-unknown-fields") => Below::Anything,
        _ => Below::Unknown,
    }
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn keys(schema: &Value) -> impl Iterator<Item = &str> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(name, _)| name.as_str())
}

/// The type that a value should have and has not.
fn wrong_type(value: &Value, schema: &Value) -> Option<&'static str> {
    if flag(schema, "x-kubernetes-int-or-string") {
        let fits = value.is_string() || value.is_i64() || value.is_u64();
        return (!fits).then_some("number or text");
    }
    let (fits, name) = match schema.get("type").and_then(Value::as_str)? {
        "object" => (value.is_object(), "object"),
        "array" => (value.is_array(), "list"),
        "string" => (value.is_string(), "text"),
        "boolean" => (value.is_boolean(), "boolean"),
        "integer" => (is_integer(value), "integer"),
        "number" => (value.is_number(), "number"),
        _ => return None,
    };
    (!fits).then_some(name)
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn article(wanted: &str) -> String {
    match wanted {
        "boolean" => "true or false".to_owned(),
        "text" => "a text, in quotes if it looks like something else".to_owned(),
        "integer" | "object" => format!("an {wanted}"),
        other => format!("a {other}"),
    }
}

fn limits(
    path: &str,
    value: &Value,
    schema: &Value,
    (min, max, what): (&str, &str, &str),
    count: usize,
    findings: &mut Vec<FieldError>,
) {
    let limit = |key: &str| {
        let limit = schema.get(key).and_then(Value::as_u64)?;
        usize::try_from(limit).ok()
    };
    if let Some(limit) = limit(max).filter(|limit| count > *limit) {
        findings.push(finding(
            path,
            value,
            &format!("has {count} {what}"),
            &format!("use at most {limit}"),
        ));
    }
    if let Some(limit) = limit(min).filter(|limit| count < *limit) {
        findings.push(finding(
            path,
            value,
            &format!("has {count} {what}"),
            &format!("use at least {limit}"),
        ));
    }
}

fn pattern(path: &str, value: &Value, text: &str, schema: &Value, findings: &mut Vec<FieldError>) {
    let Some(pattern) = schema.get("pattern").and_then(Value::as_str) else {
        return;
    };
    // A pattern that cannot be read is the server's to judge.
    if Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text)) {
        findings.push(finding(
            path,
            value,
            "does not have the form that is wanted",
            &format!("match {pattern}"),
        ));
    }
}

fn choice(path: &str, value: &Value, schema: &Value, findings: &mut Vec<FieldError>) {
    let Some(allowed) = schema.get("enum").and_then(Value::as_array) else {
        return;
    };
    if allowed.contains(value) {
        return;
    }
    let names: Vec<String> = allowed
        .iter()
        .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        .collect();
    findings.push(finding(
        path,
        value,
        "is not one of the values",
        &format!("use {}", names.join(", ")),
    ));
}

fn range(path: &str, value: &Value, schema: &Value, findings: &mut Vec<FieldError>) {
    let Some(number) = value.as_f64() else { return };
    let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
    let (format_min, format_max) = match schema.get("format").and_then(Value::as_str) {
        Some("int32") => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
        _ => (None, None),
    };
    if let Some(max) = limit("maximum").or(format_max).filter(|max| number > *max) {
        findings.push(finding(
            path,
            value,
            "is too large",
            &format!("use at most {max}"),
        ));
    }
    if let Some(min) = limit("minimum").or(format_min).filter(|min| number < *min) {
        findings.push(finding(
            path,
            value,
            "is too small",
            &format!("use at least {min}"),
        ));
    }
}

/// The path of a field.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        return name.to_owned();
    }
    format!("{path}.{name}")
}

/// The finding about a field that is none, with the one that was probably meant.
pub(super) fn unknown<'a>(path: &str, known: impl Iterator<Item = &'a str>) -> FieldError {
    let name = path.rsplit('.').next().unwrap_or(path);
    let near = known
        .map(|known| {
            (
                distance(&name.to_ascii_lowercase(), &known.to_ascii_lowercase()),
                known,
            )
        })
        .min()
        .filter(|(distance, known)| *distance <= SLIP_MAX.min(known.len() / 2));
    FieldError {
        layer: Layer::Schema,
        field: path.to_owned(),
        value: String::new(),
        problem: UNKNOWN.to_owned(),
        remedy: near.map_or_else(
            || "remove it or move it where it belongs".to_owned(),
            |(_, known)| format!("did you mean {known}?"),
        ),
    }
}

fn finding(path: &str, value: &Value, problem: &str, remedy: &str) -> FieldError {
    FieldError {
        layer: Layer::Schema,
        field: path.to_owned(),
        value: value.to_string(),
        problem: problem.to_owned(),
        remedy: remedy.to_owned(),
    }
}

/// Letters to add, remove or change to make one name of another (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let cost = diagonal + usize::from(x != *y);
            diagonal = *cell;
            left = cost.min(*cell + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::schema_of;
    use serde_json::json;

    #[test]
    fn each_contradiction_is_named_with_its_path() {
        for (kind, object, expected) in [
            (
                "IPPool",
                json!({"metadata": {"name": "p", "lables": {}}, "spec": {"cidr": "10.0.0.0/8", "cider": 1}}),
                vec![
                    "metadata.lables is no field here: did you mean labels?",
                    "spec.cider is no field here: did you mean cidr?",
                ],
            ),
            (
                "IPPool",
                json!({"metadata": {"name": "p", "labels": {"a": 1}}, "spec": {"cidr": 10, "natOutgoing": "yes"}}),
                vec![
                    "metadata.labels.a is no text: put it in quotes",
                    "spec.cidr is no text: write a text, in quotes if it looks like something else",
                    "spec.natOutgoing is no boolean: write true or false",
                ],
            ),
            (
                "BGPConfiguration",
                json!({"metadata": {"name": "default"}, "spec": {"listenPort": 700_000}, "extra": 1}),
                vec![
                    "extra is no field here: remove it or move it where it belongs",
                    "spec.listenPort is too large: use at most 65535",
                ],
            ),
        ] {
            let found: Vec<String> = check(&object, schema_of(kind).unwrap())
                .iter()
                .map(|f| format!("{} {}: {}", f.field, f.problem, f.remedy))
                .collect();
            assert_eq!(found, expected, "{kind}");
        }
    }

    #[test]
    fn distances_count_letters() {
        for (a, b, expected) in [
            ("", "ab", 2),
            ("cider", "cidr", 1),
            ("kitten", "sitting", 3),
            ("x", "x", 0),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}

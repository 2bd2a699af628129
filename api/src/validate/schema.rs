//! What a kind's definition says of an object: unknown and required fields, types, bounds, patterns, sets.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex, PoisonError};

use regex::Regex;
use serde_json::{Map, Value};

use super::Findings;

/// The problem of a field that the kind does not have.
pub const NO_FIELD: &str = "is not a field";
/// Names that differ by more letters than this are not taken for a slip.
const SLIP_MAX: usize = 3;

/// The schemas of all kinds.
static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    crate::crd::all()
        .into_iter()
        .filter_map(|definition| {
            let schema = definition.spec.versions.into_iter().next()?.schema?;
            let schema = serde_json::to_value(schema.open_api_v3_schema?).ok()?;
            Some((definition.spec.names.kind, schema))
        })
        .collect()
});

/// Checks an object against the schema of its kind.
pub(super) fn check(findings: &mut Findings, object: &Value) {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let Some(schema) = SCHEMAS.get(kind) else { return };
    let Value::Object(fields) = object else { return };
    for (name, field) in fields {
        match name.as_str() {
            "apiVersion" | "kind" | "metadata" => {}
            _ => match schema.get("properties").and_then(|all| all.get(name)) {
                Some(schema) => value(findings, schema, field, name),
                None => unknown(findings, name, schema),
            },
        }
    }
    required(findings, schema, fields, "");
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn unknown(findings: &mut Findings, path: &str, schema: &Value) {
    let known = schema.get("properties").and_then(Value::as_object);
    let name = path.rsplit('.').next().unwrap_or(path);
    let known = known.into_iter().flat_map(Map::keys).map(String::as_str);
    findings.add(path, name, NO_FIELD, &remedy_of_unknown(name, known));
}

/// What to do about a field that is none, with the one that was probably meant.
#[must_use]
pub fn remedy_of_unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let name = name.to_ascii_lowercase();
    let near = known
        .map(|known| (distance(&name, &known.to_ascii_lowercase()), known))
        .min()
        .filter(|(distance, known)| *distance <= SLIP_MAX.min(known.len() / 2));
    near.map_or_else(
        || "remove it, or correct its name".to_owned(),
        |(_, known)| format!("did you mean {known}?"),
    )
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

fn required(findings: &mut Findings, schema: &Value, fields: &Map<String, Value>, path: &str) {
    for name in schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let Some(name) = name.as_str() else { continue };
        let has_default = schema.pointer(&format!("/properties/{name}/default")).is_some();
        if !has_default && fields.get(name).is_none_or(Value::is_null) {
            findings.add(join(path, name), "", "is required", "add it");
        }
    }
}

fn value(findings: &mut Findings, schema: &Value, value: &Value, path: &str) {
    // A null is an absent field.
    if value.is_null() {
        return;
    }
    if !has_type(schema, value) {
        let wanted = schema
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or("integer or string");
        findings.add(
            path,
            format_args!("{value}"),
            &format!("is not of type {wanted}"),
            "correct the value, or its quotes",
        );
        return;
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array)
        && !values.contains(value)
    {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        findings.add(
            path,
            format_args!("{value}"),
            "is not a value of the field",
            &format!("use one of {}", values.join(", ")),
        );
    }
    match value {
        Value::Object(fields) => object(findings, schema, fields, path),
        Value::Array(items) => list(findings, schema, items, path),
        Value::String(text) => self::text(findings, schema, text, path),
        Value::Number(number) => self::number(findings, schema, number.as_f64().unwrap_or_default(), path),
        Value::Null | Value::Bool(_) => {}
    }
}

fn has_type(schema: &Value, value: &Value) -> bool {
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return value.is_string() || value.is_i64() || value.is_u64();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("number") => value.is_number(),
        Some("integer") => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    }
}

fn limit(schema: &Value, key: &str) -> Option<usize> {
    schema
        .get(key)
        .and_then(Value::as_u64)
        .and_then(|limit| usize::try_from(limit).ok())
}

fn object(findings: &mut Findings, schema: &Value, fields: &Map<String, Value>, path: &str) {
    let extra = schema.get("additionalProperties");
    for (name, field) in fields {
        let path = join(path, name);
        match schema.get("properties").and_then(|all| all.get(name)).or(extra) {
            Some(schema) => value(findings, schema, field, &path),
            None => unknown(findings, &path, schema),
        }
    }
    required(findings, schema, fields, path);
    if limit(schema, "maxProperties").is_some_and(|most| fields.len() > most) {
        let names: Vec<&String> = fields.keys().collect();
        findings.add(path, names, "has too many fields", "keep one of them");
    }
    if limit(schema, "minProperties").is_some_and(|least| fields.len() < least) {
        findings.add(path, "", "has no field", "set one");
    }
}

fn list(findings: &mut Findings, schema: &Value, items: &[Value], path: &str) {
    if let Some(most) = limit(schema, "maxItems").filter(|most| items.len() > *most) {
        findings.add(
            path,
            items.len(),
            "entries are too many",
            &format!("write at most {most}"),
        );
    }
    if let Some(least) = limit(schema, "minItems").filter(|least| items.len() < *least) {
        findings.add(
            path,
            items.len(),
            "entries are too few",
            &format!("write at least {least}, or leave the field out"),
        );
    }
    let is_set = schema.get("x-kubernetes-list-type").and_then(Value::as_str) == Some("set");
    let mut seen = std::collections::HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if is_set && !seen.insert(item) {
            findings.add(&path, format_args!("{item}"), "comes twice", "write it once");
        }
        if let Some(schema) = schema.get("items") {
            value(findings, schema, item, &path);
        }
    }
}

fn text(findings: &mut Findings, schema: &Value, text: &str, path: &str) {
    if let Some(most) = limit(schema, "maxLength").filter(|most| text.chars().count() > *most) {
        let start: String = text.chars().take(64).collect();
        findings.add(
            path,
            format!("{start}..."),
            "is too long",
            &format!("write at most {most} characters"),
        );
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && !matches(pattern, text)
    {
        findings.add(
            path,
            text,
            "has not the form of the field",
            &format!("write it as {pattern} says"),
        );
    }
    if schema.get("format").and_then(Value::as_str) == Some("cidr") && text.parse::<ipnet::IpNet>().is_err() {
        findings.add(path, text, "is not a CIDR", "write one as 10.0.0.0/8 or fd00::/8");
    }
}

/// Patterns of our own definitions: few, so they are kept.
fn matches(pattern: &str, text: &str) -> bool {
    static PATTERNS: LazyLock<Mutex<HashMap<String, Option<Regex>>>> = LazyLock::new(Mutex::default);
    let mut patterns = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    let regex = patterns
        .entry(pattern.to_owned())
        .or_insert_with(|| Regex::new(pattern).ok());
    regex.as_ref().is_none_or(|regex| regex.is_match(text))
}

fn number(findings: &mut Findings, schema: &Value, number: f64, path: &str) {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let (least, most) = (bound("minimum"), bound("maximum"));
    if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
        let remedy = match (least, most) {
            (Some(least), Some(most)) => format!("use {least} to {most}"),
            (Some(least), None) => format!("use {least} or more"),
            (_, most) => format!("use at most {}", most.unwrap_or_default()),
        };
        findings.add(path, number, "is out of range", &remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_slip_is_corrected_and_anything_else_is_not_guessed() {
        let known = ["cidr", "natOutgoing"];
        for (name, remedy) in [
            ("cider", "did you mean cidr?"),
            ("NATOutgoing", "did you mean natOutgoing?"),
            ("colour", "remove it, or correct its name"),
        ] {
            assert_eq!(remedy_of_unknown(name, known.into_iter()), remedy);
        }
    }
}

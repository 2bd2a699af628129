//! `docs/reference/resources.md`: every field of every kind with type, default and checks, from the definitions.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use caracal_api::crd;
use serde_json::Value;

const FILE: &str = "docs/reference/resources.md";
const HEAD: &str = "# Resources\n\n\
Written by `make reference` from the definitions in `charts/caracal-crds`; do not edit by hand.\n\n\
Every kind is of `projectcalico.org/v3`. A field that is *required* must be there whenever what holds it is. `[]` is an\n\
item of a list, `{}` a value of a map. What stands under *Checks* is judged by the API server, and the same by\n\
`caracalctl validate` without one; rules that look at more than one field follow the table of their kind.\n";

/// Writes the page.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(root: &Path) -> Result<()> {
    let path = root.join(FILE);
    fs::write(&path, page()?).with_context(|| format!("writing {}", path.display()))
}

/// Fails when the page is not what would be written.
///
/// # Errors
/// With the name of the page.
pub(crate) fn check(root: &Path) -> Result<()> {
    if fs::read_to_string(root.join(FILE)).unwrap_or_default() != page()? {
        bail!("not as generated, run `make reference`: {FILE}");
    }
    Ok(())
}

fn page() -> Result<String> {
    let mut kinds: Vec<Value> = crd::all()
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<_, _>>()?;
    kinds.sort_by_key(|kind| text(kind, "/spec/names/kind").to_owned());
    let mut page = HEAD.to_owned();
    page.push_str("\n| Kind | Short names | Scope | Status by its own path |\n|---|---|---|---|\n");
    for kind in &kinds {
        let names: Vec<String> = list(kind, "/spec/names/shortNames").map(code).collect();
        let status = kind.pointer("/spec/versions/0/subresources/status").is_some();
        let name = text(kind, "/spec/names/kind");
        writeln!(
            page,
            "| [{name}](#{}) | {} | {} | {} |",
            name.to_lowercase(),
            names.join(", "),
            text(kind, "/spec/scope"),
            if status { "yes" } else { "no" }
        )?;
    }
    for kind in &kinds {
        section(&mut page, kind)?;
    }
    Ok(page)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// A value as it is written in a manifest.
fn code(value: &Value) -> String {
    let shown = match (value.as_str(), value.as_f64()) {
        (Some(text), _) => text.to_owned(),
        // Limits are kept as fractions.
        (None, Some(number)) => format!("{number}"),
        (None, None) => value.to_string(),
    };
    if shown.is_empty() {
        "`\"\"`".to_owned()
    } else {
        format!("`{}`", shown.replace('|', "\\|"))
    }
}

fn section(page: &mut String, kind: &Value) -> Result<()> {
    let schema = kind
        .pointer("/spec/versions/0/schema/openAPIV3Schema")
        .context("every definition has a schema")?;
    let name = text(kind, "/spec/names/kind");
    write!(page, "\n## {name}\n\n{}\n", text(schema, "/description"))?;
    page.push_str("\n| Field | Type | Default | Checks | Meaning |\n|---|---|---|---|---|\n");
    let mut rules = Vec::new();
    fields(page, schema, "", &mut rules)?;
    if !rules.is_empty() {
        page.push_str("\nRules:\n\n");
        for (path, rule) in rules {
            let place = if path.is_empty() {
                "the object"
            } else {
                path.as_str()
            };
            writeln!(page, "- `{place}`: {}", said(rule))?;
        }
    }
    Ok(())
}

/// What a rule says when it is broken.
fn said(rule: &Value) -> String {
    match (text(rule, "/message"), text(rule, "/messageExpression")) {
        ("", "") => format!("`{}`", text(rule, "/rule").replace('|', "\\|")),
        ("", expression) => format!("message `{expression}`"),
        (message, _) => message.to_owned(),
    }
}

/// The fields of an object and of all below it.
fn fields<'a>(
    page: &mut String,
    schema: &'a Value,
    path: &str,
    rules: &mut Vec<(String, &'a Value)>,
) -> Result<()> {
    if schema.get("properties").is_some() {
        rules.extend(list(schema, "/x-kubernetes-validations").map(|rule| (path.to_owned(), rule)));
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, field) in properties.into_iter().flatten() {
        // What every object has is described by Kubernetes.
        if path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let required = list(schema, "/required").any(|one| one == name.as_str());
        row(page, &path, field, required)?;
        below(page, field, &path, rules)?;
    }
    Ok(())
}

/// What an object, a list or a map holds.
fn below<'a>(
    page: &mut String,
    field: &'a Value,
    path: &str,
    rules: &mut Vec<(String, &'a Value)>,
) -> Result<()> {
    fields(page, field, path, rules)?;
    for (key, sign) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(inner) = field.get(key).filter(|inner| inner.is_object()) {
            below(page, inner, &format!("{path}{sign}"), rules)?;
        }
    }
    Ok(())
}

fn row(page: &mut String, path: &str, field: &Value, required: bool) -> Result<()> {
    let default = field.get("default").map_or_else(|| "–".to_owned(), code);
    let mut checks = Vec::new();
    if required {
        checks.push("*required*".to_owned());
    }
    checks_of(field, "", &mut checks);
    let meaning = text(field, "/description").replace('|', "\\|").replace('\n', " ");
    writeln!(
        page,
        "| `{path}` | {} | {default} | {} | {meaning} |",
        type_of(field),
        checks.join("; ")
    )?;
    Ok(())
}

fn type_of(field: &Value) -> String {
    if field.get("x-kubernetes-int-or-string").is_some() {
        return "number or text".to_owned();
    }
    let inner = |key: &str| field.get(key).filter(|inner| inner.is_object());
    match text(field, "/type") {
        "array" => format!(
            "list of {}",
            inner("items").map_or_else(|| "anything".to_owned(), type_of)
        ),
        "object" => match inner("additionalProperties") {
            Some(values) => format!("map of {}", type_of(values)),
            None => "object".to_owned(),
        },
        "string" => "text".to_owned(),
        "integer" => "integer".to_owned(),
        "number" => "number".to_owned(),
        "boolean" => "boolean".to_owned(),
        _ => "anything".to_owned(),
    }
}

/// What is checked of a value, and of the items of a list.
fn checks_of(field: &Value, of: &str, checks: &mut Vec<String>) {
    let allowed: Vec<String> = list(field, "/enum").map(code).collect();
    if !allowed.is_empty() {
        checks.push(format!("{of}one of {}", allowed.join(", ")));
    }
    for (key, words) in [
        ("minimum", "at least"),
        ("maximum", "at most"),
        ("minLength", "letters: at least"),
        ("maxLength", "letters: at most"),
        ("minItems", "items: at least"),
        ("maxItems", "items: at most"),
        ("minProperties", "entries: at least"),
        ("maxProperties", "entries: at most"),
        ("pattern", "matches"),
        ("format", "format"),
    ] {
        if let Some(limit) = field.get(key) {
            checks.push(format!("{of}{words} {}", code(limit)));
        }
    }
    match text(field, "/x-kubernetes-list-type") {
        "set" => checks.push("no item twice".to_owned()),
        "map" => {
            let keys: Vec<String> = list(field, "/x-kubernetes-list-map-keys").map(code).collect();
            checks.push(format!("one item for each {}", keys.join(", ")));
        }
        _ => {}
    }
    if field.get("nullable").is_some_and(|set| *set == true) {
        checks.push("may be null".to_owned());
    }
    // The rules of an object are listed below its kind; those of a plain value are its own.
    if field.get("properties").is_none() {
        checks.extend(list(field, "/x-kubernetes-validations").map(|rule| format!("{of}{}", said(rule))));
    }
    if let Some(items) = field
        .get("items")
        .filter(|items| items.get("properties").is_none())
    {
        checks_of(items, "each: ", checks);
    }
}

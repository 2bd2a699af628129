//! What differs between two runs of the same requests: times, ages, ids and versions, and what is ordered by them.
//! All else must agree.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap()
}

static UID: LazyLock<Regex> =
    LazyLock::new(|| regex(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"));
static TIME: LazyLock<Regex> = LazyLock::new(|| regex(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"));
static MESSAGE_VERSION: LazyLock<Regex> = LazyLock::new(|| regex(r"(resource version: |current: |\()\d+\b"));
static TEXT_VERSION: LazyLock<Regex> =
    LazyLock::new(|| regex(r#"(?i)(\\?"?resource ?Version\\?"?: *\\?"?)\d+"#));
static AGE: LazyLock<Regex> = LazyLock::new(|| regex(r"(^|\s|\()\d+(\.\d+)?(s|m|ms|m\d+s)(\s|\)|$)"));
static AGE_CELL: LazyLock<Regex> = LazyLock::new(|| regex(r"^\d+(s|m|m\d+s)$"));
static RFC1123: LazyLock<Regex> =
    LazyLock::new(|| regex(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w\w\w \d{4} \d\d:\d\d:\d\d [+-]\d{4}"));
static LOG: LazyLock<Regex> = LazyLock::new(|| regex(r"^[IWE]\d{4} \d\d:\d\d:\d\d\."));
static PLAIN_TIME: LazyLock<Regex> =
    LazyLock::new(|| regex(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? \+0000( UTC)?"));
static SERVER: LazyLock<Regex> = LazyLock::new(|| regex(r"\b127\.0\.0\.1:\d+\b"));
static FILE: LazyLock<Regex> = LazyLock::new(|| regex(r"/tmp/[^/\s]+"));
static SPACES: LazyLock<Regex> = LazyLock::new(|| regex(r"(\S)  +"));
static GENERATED: LazyLock<Regex> = LazyLock::new(|| regex(r"(-generated-|rand-)[a-z0-9]{5}\b"));

/// Masks one answer.
pub(crate) fn value(value: &mut Value) {
    walk(value);
    causes(value);
}

/// Faults are found in the order of a hash table: the same ones in another order are the same answer.
fn causes(status: &mut Value) {
    let Some(list) = status
        .pointer_mut("/details/causes")
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    let lines = |list: &[Value]| -> Vec<String> {
        let text = |cause: &Value, key: &str| cause[key].as_str().unwrap_or_default().to_owned();
        let line = |cause: &Value| format!("{}: {}", text(cause, "field"), text(cause, "message"));
        list.iter().map(line).collect()
    };
    let before = format!("[{}]", lines(list).join(", "));
    list.sort_by_cached_key(Value::to_string);
    // One that is found twice is told twice.
    list.dedup();
    let after = format!("[{}]", lines(list).join(", "));
    if let Some(Value::String(message)) = status.get_mut("message") {
        *message = message.replace(&before, &after);
    }
}

/// Resources of definitions are listed in the order of a hash table, too.
fn resources(list: &mut Value) {
    if let Some(list) = list.as_array_mut() {
        list.sort_by_cached_key(|one| one["name"].as_str().unwrap_or_default().to_owned());
    }
}

/// Objects that a message quotes are masked as others are; the order of their keys is that of a program's types.
fn quoted(text: &str) -> String {
    const BEFORE: &str = "Invalid value: ";
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(BEFORE) {
        let (before, after) = rest.split_at(at + BEFORE.len());
        masked.push_str(before);
        rest = after;
        let mut documents = serde_json::Deserializer::from_str(after).into_iter::<String>();
        if let Some(Ok(inner)) = documents.next()
            && let Ok(mut object @ Value::Object(_)) = serde_json::from_str::<Value>(&inner)
        {
            rest = &after[documents.byte_offset()..];
            walk(&mut object);
            masked.push_str(&Value::from(object.to_string()).to_string());
        }
    }
    masked + rest
}

/// Ages in the cells of a row. Columns are told once only, in the first table of a watch: the form has to do.
fn row(cells: &mut Value) {
    for cell in cells.as_array_mut().into_iter().flatten() {
        if cell.as_str().is_some_and(|text| AGE_CELL.is_match(text)) {
            *cell = "<age>".into();
        }
    }
}

/// Managers stand in the order of their times, in whole seconds: which of two comes first is up to the clock.
fn managers(list: &mut Value) {
    if let Some(list) = list.as_array_mut() {
        list.sort_by_cached_key(Value::to_string);
    }
}

fn walk(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(walk),
        Value::Object(fields) => {
            for (key, value) in fields {
                let mask = match key.as_str() {
                    "resourceVersion" => "<version>",
                    "continue" => "<continue>",
                    "managedFields" => {
                        walk(value);
                        managers(value);
                        continue;
                    }
                    "resources" => {
                        walk(value);
                        resources(value);
                        continue;
                    }
                    "cells" => {
                        walk(value);
                        row(value);
                        continue;
                    }
                    _ => {
                        walk(value);
                        continue;
                    }
                };
                if value.as_str().is_some_and(|text| !text.is_empty()) {
                    *value = mask.into();
                }
            }
        }
        Value::String(text) => {
            let masked = UID.replace_all(text, "<uid>");
            let masked = TIME.replace_all(&masked, "<time>");
            let masked = TEXT_VERSION.replace_all(&masked, "$1<version>");
            let masked = GENERATED.replace_all(&masked, "$1<random>");
            let masked = MESSAGE_VERSION.replace_all(&masked, "$1<version>");
            *text = quoted(&masked);
        }
        _ => {}
    }
}

/// Masks what a command printed: also ages, and the width of columns, which follows from them.
pub(crate) fn output(text: &str) -> String {
    // kubectl's own log tells nothing of the server.
    let lines = text.lines().filter(|line| !LOG.is_match(line)).map(line);
    let mut lines = faults(managers_in_yaml(lines.collect()));
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn line(line: &str) -> String {
    let line = UID.replace_all(line, "<uid>");
    let line = TIME.replace_all(&line, "<time>");
    let line = PLAIN_TIME.replace_all(&line, "<time>");
    let line = FILE.replace_all(&line, "<folder>");
    let line = SERVER.replace_all(&line, "<server>");
    let line = RFC1123.replace_all(&line, "<time>");
    let line = TEXT_VERSION.replace_all(&line, "$1<version>");
    let line = GENERATED.replace_all(&line, "$1<random>");
    // The order of keys is not a part of the API.
    if let Ok(whole @ Value::Object(_)) = serde_json::from_str::<Value>(&line) {
        return whole.to_string();
    }
    // Ages may stand next to each other, where one match would take the other's space.
    let line = AGE.replace_all(&line, "$1<age>$4");
    let line = AGE.replace_all(&line, "$1<age>$4");
    quoted(SPACES.replace_all(&line, "$1  ").trim_end())
}

/// Puts the entries of `managedFields` in an order that no clock decides.
fn managers_in_yaml(lines: Vec<String>) -> Vec<String> {
    let mut sorted = Vec::new();
    let mut lines = lines.into_iter().peekable();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        let is_list = line.trim_start() == "managedFields:";
        sorted.push(line);
        if !is_list {
            continue;
        }
        let (first, rest) = (
            format!("{}- ", " ".repeat(indent)),
            format!("{}  ", " ".repeat(indent)),
        );
        let mut entries: Vec<Vec<String>> = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with(&first) || line.starts_with(&rest)) {
            match entries.last_mut() {
                Some(entry) if !line.starts_with(&first) => entry.push(line),
                _ => entries.push(vec![line]),
            }
        }
        entries.sort();
        sorted.extend(entries.into_iter().flatten());
    }
    sorted
}

/// Puts faults that stand one below the other (`* field: fault`) in an order that no hash table decides.
fn faults(mut lines: Vec<String>) -> Vec<String> {
    for group in lines.chunk_by_mut(|a, b| a.starts_with("* ") && b.starts_with("* ")) {
        group.sort();
    }
    lines
}

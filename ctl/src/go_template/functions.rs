//! The functions of templates: Go's own, and those of calicoctl.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::Value;

use super::format::{display, printf};
use super::item::{Item, kind_of};

/// Calls a function.
pub(super) fn call<'a>(
    name: &str,
    arguments: &[Item<'a>],
    configuration: &BTreeMap<String, String>,
) -> Result<Item<'a>, String> {
    let values: Vec<&Value> = arguments.iter().map(|item| item.value.as_ref()).collect();
    let made = |value: Value| Ok(Item::made(value));
    match (name, values.as_slice()) {
        ("not", [value]) => made((!truth(value)).into()),
        ("len", [value]) => made(length(value)?.into()),
        ("index", [_, ..]) => index(arguments),
        ("slice", [value, bounds @ ..]) => made(slice(value, bounds)?),
        ("print", values) => made(print(values).into()),
        ("println", values) => {
            let texts: Vec<String> = values.iter().map(|value| display(value)).collect();
            made(format!("{}\n", texts.join(" ")).into())
        }
        ("printf", [Value::String(format), rest @ ..]) => made(printf(format, rest).into()),
        ("html", values) => made(escaped_html(&print(values)).into()),
        ("js", values) => made(escaped_js(&print(values)).into()),
        ("urlquery", values) => made(escaped_query(&print(values)).into()),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => {
            made(rest.iter().any(|other| equal(first, other)).into())
        }
        ("ne", [a, b]) => made((!equal(a, b)).into()),
        ("lt", [a, b]) => made((order(a, b)? == Ordering::Less).into()),
        ("le", [a, b]) => made((order(a, b)? != Ordering::Greater).into()),
        ("gt", [a, b]) => made((order(a, b)? == Ordering::Greater).into()),
        ("ge", [a, b]) => made((order(a, b)? != Ordering::Less).into()),
        ("join", [list, separator]) => made(joined(list, &display(separator))?.into()),
        ("joinAndTruncate", [list, separator, max]) => {
            let text = joined(list, &display(separator))?;
            let max = max.as_u64().and_then(|max| usize::try_from(max).ok());
            made(truncated(&text, max.unwrap_or(usize::MAX)).into())
        }
        ("config", [Value::String(key)]) => match configuration.get(key) {
            Some(value) => made(value.clone().into()),
            None => Err(format!("config knows asnumber, and not {key:?}")),
        },
        (
            "not" | "len" | "index" | "slice" | "printf" | "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "join"
            | "joinAndTruncate" | "config",
            values,
        ) => Err(format!("{name} does not take {} such arguments", values.len())),
        _ => Err(format!("function {name:?} not defined")),
    }
}

/// Whether a value counts as true: neither false, zero, nil nor empty.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(items) => Ok(items.len()),
        Value::Object(fields) => Ok(fields.len()),
        Value::Null => Ok(0),
        other => Err(format!("len of {}", kind_of(other))),
    }
}

fn index<'a>(arguments: &[Item<'a>]) -> Result<Item<'a>, String> {
    let Some((first, keys)) = arguments.split_first() else {
        return Err("index of nothing".to_owned());
    };
    keys.iter().try_fold(first.clone(), |item, key| {
        let wanted = key.value.as_ref();
        match item.value.as_ref() {
            Value::Object(fields) => {
                let name = display(wanted);
                if fields.contains_key(&name) {
                    item.field(&name)
                } else {
                    Ok(Item::made(Value::String(String::new())))
                }
            }
            Value::Array(items) => {
                let position = wanted.as_u64().and_then(|index| usize::try_from(index).ok());
                position
                    .and_then(|position| item.elements().ok()?.into_iter().nth(position))
                    .map(|(_, element)| element)
                    .ok_or_else(|| format!("index {wanted} is out of the list of {}", items.len()))
            }
            Value::Null => Err("index of nil".to_owned()),
            other => Err(format!("index of {}", kind_of(other))),
        }
    })
}

fn slice(value: &Value, bounds: &[&Value]) -> Result<Value, String> {
    let count = length(value)?;
    let bound = |index: usize, otherwise: usize| match bounds.get(index) {
        None => Ok(otherwise),
        Some(bound) => bound
            .as_u64()
            .and_then(|bound| usize::try_from(bound).ok())
            .filter(|bound| *bound <= count)
            .ok_or_else(|| format!("slice bound {bound} is out of range 0 to {count}")),
    };
    let (start, end) = (bound(0, 0)?, bound(1, count)?);
    let outside = || format!("slice from {start} to {end} of {count}");
    match value {
        Value::String(text) => text.get(start..end).map(|part| part.into()).ok_or_else(outside),
        Value::Array(items) => items
            .get(start..end)
            .map(|part| Value::Array(part.to_vec()))
            .ok_or_else(outside),
        other => Err(format!("slice of {}", kind_of(other))),
    }
}

/// Values one after another, with spaces between those of which neither is a string (Go's `Sprint`).
fn print(values: &[&Value]) -> String {
    let mut text = String::new();
    for (index, value) in values.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| values.get(before));
        if before.is_some_and(|before| !before.is_string() && !value.is_string()) {
            text.push(' ');
        }
        text.push_str(&display(value));
    }
    text
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    let incomparable = || format!("{} and {} cannot be compared", kind_of(a), kind_of(b));
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x
            .as_f64()
            .zip(y.as_f64())
            .and_then(|(x, y)| x.partial_cmp(&y))
            .ok_or_else(incomparable),
        (Value::String(x), Value::String(y)) => Ok(x.cmp(y)),
        _ => Err(incomparable()),
    }
}

fn joined(list: &Value, separator: &str) -> Result<String, String> {
    match list {
        Value::Array(items) => Ok(items.iter().map(display).collect::<Vec<_>>().join(separator)),
        Value::Null => Ok(String::new()),
        other => Err(format!("join of {}", kind_of(other))),
    }
}

/// A text cut to a number of characters, the last three of them dots.
fn truncated(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max.saturating_sub(3)).collect();
    format!("{kept}...")
}

fn escaped_html(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&#34;".to_owned(),
            '\'' => "&#39;".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

fn escaped_js(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\\' => "\\\\".to_owned(),
            '\'' => "\\'".to_owned(),
            '"' => "\\\"".to_owned(),
            '<' | '>' | '&' | '=' => format!("\\u{:04X}", u32::from(c)),
            c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
            c => c.to_string(),
        })
        .collect()
}

fn escaped_query(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            b' ' => "+".to_owned(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

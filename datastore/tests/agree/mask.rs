//! What differs between two runs of the same requests: times, ids and versions. All else must agree.

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
static RFC1123: LazyLock<Regex> =
    LazyLock::new(|| regex(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w\w\w \d{4} \d\d:\d\d:\d\d [+-]\d{4}"));
static LOG: LazyLock<Regex> = LazyLock::new(|| regex(r"^[IWE]\d{4} \d\d:\d\d:\d\d\."));
static PLAIN_TIME: LazyLock<Regex> =
    LazyLock::new(|| regex(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? \+0000( UTC)?"));
static FILE: LazyLock<Regex> = LazyLock::new(|| regex(r"/tmp/[^/\s]+"));
static SPACES: LazyLock<Regex> = LazyLock::new(|| regex(r"(\S)  +"));
static GENERATED: LazyLock<Regex> = LazyLock::new(|| regex(r"(-generated-|rand-)[a-z0-9]{5}\b"));

/// Masks one answer.
pub(crate) fn value(value: &mut Value) {
    if value["kind"] == "Table" {
        table(value);
    }
    walk(value);
}

/// Ages in the cells of a table.
fn table(table: &mut Value) {
    let columns = table["columnDefinitions"].as_array();
    let ages: Vec<usize> = columns
        .into_iter()
        .flatten()
        .enumerate()
        .filter(|(_, column)| {
            matches!(
                column["name"].as_str(),
                Some("Age" | "AGE" | "Created At" | "Last Seen" | "First Seen")
            )
        })
        .map(|(index, _)| index)
        .collect();
    for row in table["rows"].as_array_mut().into_iter().flatten() {
        for index in &ages {
            if let Some(cell) = row["cells"].get_mut(*index).filter(|cell| *cell != "<unknown>") {
                *cell = "<age>".into();
            }
        }
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
            *text = MESSAGE_VERSION.replace_all(&masked, "$1<version>").into_owned();
        }
        _ => {}
    }
}

/// Masks what a command printed: also ages, and the width of columns, which follows from them.
pub(crate) fn output(text: &str) -> String {
    let mut masked = String::new();
    // kubectl's own log tells nothing of the server.
    for line in text.lines().filter(|line| !LOG.is_match(line)) {
        let line = UID.replace_all(line, "<uid>");
        let line = TIME.replace_all(&line, "<time>");
        let line = PLAIN_TIME.replace_all(&line, "<time>");
        let line = FILE.replace_all(&line, "<folder>");
        let line = RFC1123.replace_all(&line, "<time>");
        let line = TEXT_VERSION.replace_all(&line, "$1<version>");
        let line = GENERATED.replace_all(&line, "$1<random>");
        // Ages may stand next to each other, where one match would take the other's space.
        let line = AGE.replace_all(&line, "$1<age>$4");
        let line = AGE.replace_all(&line, "$1<age>$4");
        masked.push_str(SPACES.replace_all(&line, "$1  ").trim_end());
        masked.push('\n');
    }
    masked
}

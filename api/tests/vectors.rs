//! Recorded behaviour of Calico, case by case: `tests/vectors/*.json` of the repository, or the folder that
//! `CARACAL_VECTORS` names.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

#[path = "vectors/conversions.rs"]
mod conversions;
#[path = "vectors/names.rs"]
mod names;
#[path = "vectors/selectors.rs"]
mod selectors;
#[path = "vectors/validation.rs"]
mod validation;

use std::path::PathBuf;

use serde_json::{Value, json};

/// Runs every case of a file and reports all that differ.
pub(crate) fn check(family: &str, run: impl Fn(&Value) -> Value) {
    check_part(family, Value::clone, run);
}

/// As [`check`], with the part of the recorded output that is contract.
pub(crate) fn check_part(family: &str, part: impl Fn(&Value) -> Value, run: impl Fn(&Value) -> Value) {
    let folder = std::env::var_os("CARACAL_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors")),
        PathBuf::from,
    );
    let path = folder.join(format!("{family}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let vectors: Value = serde_json::from_str(&text).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    let mut differences = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let (want, got) = (normal(&part(&case["out"])), normal(&run(&case["in"])));
        if want != got {
            differences.push(format!(
                "case {index}: {}\n  want {want}\n  got  {got}",
                case["in"]
            ));
        }
    }
    assert!(!cases.is_empty(), "{family}: no cases");
    let shown = differences.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        differences.is_empty(),
        "{family}: {} of {} differ\n{shown}",
        differences.len(),
        cases.len()
    );
}

/// JSON with numbers in one form: 1000 and 1000.0 are the same.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(values) => values.iter().map(normal).collect(),
        Value::Object(values) => values
            .iter()
            .map(|(key, value)| (key.clone(), normal(value)))
            .collect(),
        other => other.clone(),
    }
}

pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

//! Recorded behaviour of Calico, case by case: `tests/vectors/*.json` of the repository, or the folder that
//! `CARACAL_VECTORS` names.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

#[path = "vectors/admission.rs"]
mod admission;
#[path = "vectors/conversions.rs"]
mod conversions;
#[path = "vectors/names.rs"]
mod names;
#[path = "../../tests/vectors/reader.rs"]
mod reader;
#[path = "vectors/selectors.rs"]
mod selectors;
#[path = "vectors/validation.rs"]
mod validation;

use serde_json::{Value, json};

/// Runs every case of a family and reports all that differ.
pub(crate) fn check(family: &str, run: impl Fn(&Value) -> Value) {
    check_part(family, Value::clone, run);
}

/// As [`check`], with the part of the recorded output that is contract.
pub(crate) fn check_part(family: &str, part: impl Fn(&Value) -> Value, run: impl Fn(&Value) -> Value) {
    let cases = reader::cases(family);
    let mut differences = Vec::new();
    for reader::Case { place, value } in &cases {
        let (want, got) = (normal(&part(&value["out"])), normal(&run(&value["in"])));
        if want != got {
            differences.push(format!("{place}: {}\n  want {want}\n  got  {got}", value["in"]));
        }
    }
    assert!(
        differences.is_empty(),
        "{family}: {} of {} differ\n{}",
        differences.len(),
        cases.len(),
        differences.join("\n")
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

//! Plain words that older YAML takes for something else: `yes` is true, `0777` is 511. kubectl reads them so, and a
//! file has to mean the same to both. What is quoted is a text for everybody.

use serde_json::Value;

/// Does a text hold a word that the versions of YAML read in different ways? Where it does not, one reading is enough.
fn may_differ(text: &str) -> bool {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-'));
    text.split(ends).any(|word| {
        let digits = word.trim_start_matches(['+', '-']);
        let number = digits.starts_with(|c: char| c.is_ascii_digit())
            && (digits.len() > 1 && digits.starts_with('0') || digits.contains('_') || word.starts_with('+'));
        number || is_truth(word).is_some()
    })
}

/// What a plain word is for older YAML, if it is true or false.
fn is_truth(word: &str) -> Option<bool> {
    match word {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// Gives plain words the meaning that they have for kubectl.
pub(super) fn reread(text: &str, documents: &mut [Value]) {
    if !may_differ(text) {
        return;
    }
    let options = serde_saphyr::options! {
        strict_booleans: false,
        legacy_octal_numbers: true,
        leading_zero_numbers_as_strings: false,
        underscored_numbers_as_strings: false,
    };
    // A text that this reader refuses was read strictly already: it stays as it is.
    let Ok(read) = serde_saphyr::from_multiple_with_options::<Value>(text, options) else {
        return;
    };
    let read: Vec<Value> = read.into_iter().filter(|document| !document.is_null()).collect();
    if read.len() == documents.len() {
        documents
            .iter_mut()
            .zip(&read)
            .for_each(|(ours, older)| take(ours, older));
    }
}

/// Takes the older meaning of every text that has one.
fn take(ours: &mut Value, older: &Value) {
    match (&mut *ours, older) {
        (Value::Object(fields), Value::Object(others)) => {
            for (name, value) in fields {
                if let Some(other) = others.get(name) {
                    take(value, other);
                }
            }
        }
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
            items
                .iter_mut()
                .zip(others)
                .for_each(|(item, other)| take(item, other));
        }
        (Value::String(_), Value::Bool(_)) => *ours = older.clone(),
        (Value::String(_), Value::Number(number)) => {
            let whole = number.is_i64() || number.is_u64();
            let number = if whole {
                None
            } else {
                number.as_f64().and_then(super::float_to_json)
            };
            *ours = number.map_or_else(|| older.clone(), Value::Number);
        }
        _ => {}
    }
}

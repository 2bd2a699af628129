//! Values as Go prints them: `%v` and the other verbs of `printf`.

use serde_json::{Number, Value};

/// Decimal exponents from which on Go prints floats with an exponent.
const EXPONENT_MIN: i32 = -4;
const EXPONENT_MAX: i32 = 21;

/// A value as `%v` prints it.
pub(super) fn display(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => self::number(number),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(display).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let mut pairs: Vec<_> = fields.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            let pairs: Vec<String> = pairs
                .into_iter()
                .map(|(key, value)| format!("{key}:{}", display(value)))
                .collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

fn number(number: &Number) -> String {
    if number.is_i64() || number.is_u64() {
        return number.to_string();
    }
    shortest(number.as_f64().unwrap_or_default(), EXPONENT_MAX)
}

/// A float in the fewest digits that read back the same; with an exponent when that is large (`%v`, `%g`).
fn shortest(number: f64, exponent_max: i32) -> String {
    let text = format!("{number:e}");
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text;
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (EXPONENT_MIN..exponent_max).contains(&exponent) {
        return number.to_string();
    }
    with_exponent(mantissa, exponent)
}

fn with_exponent(mantissa: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// How a verb is to be printed.
#[derive(Clone, Copy, Debug, Default)]
struct Spec {
    left: bool,
    plus: bool,
    zero: bool,
    space: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

/// Widest field, against formats that would fill the memory.
const WIDTH_MAX: usize = 10_000;

/// A format with values put in.
pub(super) fn printf(format: &str, values: &[&Value]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = characters.next_if(|c| matches!(c, '-' | '+' | '0' | ' ' | '#')) {
            match flag {
                '-' => spec.left = true,
                '+' => spec.plus = true,
                '0' => spec.zero = true,
                ' ' => spec.space = true,
                _ => spec.alternate = true,
            }
        }
        spec.width = digits(&mut characters);
        if characters.next_if_eq(&'.').is_some() {
            spec.precision = Some(digits(&mut characters));
        }
        match characters.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match values.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => out.push_str(&padded(&verbed(verb, value, spec), spec, value)),
            },
        }
    }
    let extra: Vec<String> = values.map(|value| display(value)).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

/// The number at the front of a format, 0 without one.
fn digits(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> usize {
    let mut number = 0_usize;
    while let Some(digit) = characters.next_if(char::is_ascii_digit) {
        let digit = digit.to_digit(10).unwrap_or_default();
        number = (number * 10 + usize::try_from(digit).unwrap_or_default()).min(WIDTH_MAX);
    }
    number
}

fn verbed(verb: char, value: &Value, spec: Spec) -> String {
    let cut = |text: String| match spec.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text,
    };
    let wrong = || format!("%!{verb}({})", display(value));
    match (verb, value) {
        ('v', value) => display(value),
        ('s', Value::Null | Value::Bool(_) | Value::Number(_)) => wrong(),
        ('s', value) => cut(display(value)),
        ('q', Value::String(text)) => quoted(&cut(text.clone())),
        ('q', Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(|item| quoted(&display(item))).collect();
            format!("[{}]", items.join(" "))
        }
        ('t', Value::Bool(value)) => value.to_string(),
        ('T', value) => super::item::kind_of(value).to_owned(),
        ('x' | 'X', Value::String(text)) => {
            let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
            if verb == 'X' { hex.to_uppercase() } else { hex }
        }
        (verb, Value::Number(number)) => numbered(verb, number, spec).unwrap_or_else(wrong),
        _ => wrong(),
    }
}

fn numbered(verb: char, number: &Number, spec: Spec) -> Option<String> {
    let float = number.as_f64()?;
    let text = match (verb, number.as_i64()) {
        ('d', Some(whole)) => whole.to_string(),
        ('x', Some(whole)) => format!("{}{whole:x}", if spec.alternate { "0x" } else { "" }),
        ('X', Some(whole)) => format!("{whole:X}"),
        ('o', Some(whole)) => format!("{whole:o}"),
        ('b', Some(whole)) => format!("{whole:b}"),
        ('c', Some(whole)) => char::from_u32(u32::try_from(whole).ok()?)?.to_string(),
        ('f' | 'F', _) => format!("{float:.*}", spec.precision.unwrap_or(6)),
        ('e' | 'E', _) => {
            let text = format!("{float:.*e}", spec.precision.unwrap_or(6));
            let (mantissa, exponent) = text.split_once('e')?;
            let text = with_exponent(mantissa, exponent.parse().ok()?);
            if verb == 'E' { text.to_uppercase() } else { text }
        }
        ('g' | 'G', _) => match spec.precision {
            None => shortest(float, EXPONENT_MAX),
            Some(digits) => significant(float, digits.max(1)),
        },
        _ => return None,
    };
    Some(match (spec.plus, spec.space) {
        (true, _) if float >= 0.0 => format!("+{text}"),
        (false, true) if float >= 0.0 => format!(" {text}"),
        _ => text,
    })
}

/// A float in at most some significant digits (`%.5g`).
pub(crate) fn significant(number: f64, digits: usize) -> String {
    let text = format!("{number:.*e}", digits - 1);
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text;
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let digits = i32::try_from(digits).unwrap_or(i32::MAX);
    let trimmed = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if (EXPONENT_MIN..digits).contains(&exponent) {
        let decimals = usize::try_from(digits - 1 - exponent).unwrap_or_default();
        return trimmed(&format!("{number:.decimals$}"));
    }
    with_exponent(&trimmed(mantissa), exponent)
}

fn quoted(text: &str) -> String {
    let inner: String = text
        .chars()
        .map(|c| match c {
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            '\n' => "\\n".to_owned(),
            '\t' => "\\t".to_owned(),
            '\r' => "\\r".to_owned(),
            c if c.is_control() => format!("\\x{:02x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    format!("\"{inner}\"")
}

fn padded(text: &str, spec: Spec, value: &Value) -> String {
    let missing = spec.width.saturating_sub(text.chars().count());
    if spec.left {
        return format!("{text}{}", " ".repeat(missing));
    }
    if spec.zero && value.is_number() {
        let (sign, digits) = match text.strip_prefix(['-', '+']) {
            Some(digits) => text.split_at(text.len() - digits.len()),
            None => ("", text),
        };
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    format!("{}{text}", " ".repeat(missing))
}

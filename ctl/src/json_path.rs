//! JSONPath templates as kubectl takes them with `-o jsonpath=`. Pure.
//!
//! Text with expressions in braces: paths (`.a.b`, `['a.b']`, `[0]`, `[-1]`, `[0:2]`, `[0,1]`, `[*]`, `..name`),
//! filters (`[?(@.a == "b")]`), quoted text (`{"\n"}`) and `{range …}…{end}`. An absent field prints nothing.

mod parse;

use std::cmp::Ordering;

use serde_json::Value;

use parse::{Operand, Part, Step};

/// A template that was read.
#[derive(Debug)]
pub(crate) struct JsonPath {
    parts: Vec<Part>,
}

impl JsonPath {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Ok(Self {
            parts: parse::template(text)?,
        })
    }

    /// The text that the template makes of an object.
    pub(crate) fn render(&self, root: &Value) -> String {
        let mut out = String::new();
        render(&self.parts, root, root, &mut out);
        out
    }
}

fn render(parts: &[Part], root: &Value, here: &Value, out: &mut String) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Path(steps) => {
                let texts: Vec<String> = found(steps, root, here).into_iter().map(shown).collect();
                out.push_str(&texts.join(" "));
            }
            Part::Range(steps, below) => {
                for item in found(steps, root, here) {
                    render(below, root, item, out);
                }
            }
        }
    }
}

/// Texts as they are, everything else as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn found<'a>(steps: &[Step], root: &'a Value, here: &'a Value) -> Vec<&'a Value> {
    let mut values = vec![here];
    for step in steps {
        values = values
            .into_iter()
            .flat_map(|value| next(step, root, value))
            .collect();
    }
    values
}

fn next<'a>(step: &Step, root: &'a Value, value: &'a Value) -> Vec<&'a Value> {
    match step {
        Step::Root => vec![root],
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::All => below(value),
        Step::Anywhere(name) => {
            let mut all = Vec::new();
            anywhere(value, name, &mut all);
            all
        }
        Step::Indexes(indexes) => indexes
            .iter()
            .filter_map(|index| {
                let items = value.as_array()?;
                items.get(position(*index, items.len())?)
            })
            .collect(),
        Step::Fields(names) => names.iter().filter_map(|name| value.get(name)).collect(),
        Step::Slice { start, end, step } => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let bound = |bound: Option<i64>, otherwise: usize| {
                bound.map_or(otherwise, |bound| clamped(bound, items.len()))
            };
            let (start, end) = (bound(*start, 0), bound(*end, items.len()));
            let part = items.get(start..end).unwrap_or_default();
            part.iter().step_by((*step).max(1)).collect()
        }
        Step::Filter(left, comparison) => below(value)
            .into_iter()
            .filter(|item| {
                let left = operand(left, root, item);
                match comparison {
                    None => left.is_some(),
                    Some((operator, right)) => left
                        .zip(operand(right, root, item))
                        .is_some_and(|(left, right)| holds(left, operator, right)),
                }
            })
            .collect(),
    }
}

fn below(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

fn anywhere<'a>(value: &'a Value, name: &str, all: &mut Vec<&'a Value>) {
    all.extend(value.get(name));
    for value in below(value) {
        anywhere(value, name, all);
    }
}

/// The position that an index means; negative ones count from the end.
fn position(index: i64, count: usize) -> Option<usize> {
    let from_end = usize::try_from(index.unsigned_abs()).ok()?;
    if index < 0 {
        return count.checked_sub(from_end);
    }
    Some(from_end)
}

fn clamped(index: i64, count: usize) -> usize {
    position(index, count).unwrap_or(0).min(count)
}

fn operand<'a>(operand: &'a Operand, root: &'a Value, here: &'a Value) -> Option<&'a Value> {
    match operand {
        Operand::Constant(value) => Some(value),
        Operand::Path(steps) => found(steps, root, here).into_iter().next(),
    }
}

fn holds(left: &Value, operator: &str, right: &Value) -> bool {
    let order = match (left, right) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b))
        }
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) => (a == b).then_some(Ordering::Equal),
    };
    match operator {
        "==" => order == Some(Ordering::Equal),
        "!=" => order != Some(Ordering::Equal),
        "<" => order == Some(Ordering::Less),
        "<=" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        ">" => order == Some(Ordering::Greater),
        _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(template: &str, expected: &str) {
        let data = json!({"kind": "List", "items": [
            {"metadata": {"name": "a", "labels": {"x.y/z": "1"}}, "spec": {"nets": ["10.0.0.0/8", "fd00::/8"], "n": 5}},
            {"metadata": {"name": "b"}, "spec": {"n": 7, "on": true}},
            {"metadata": {"name": "c"}, "spec": {"n": 9}}
        ]});
        assert_eq!(
            JsonPath::parse(template).unwrap().render(&data),
            expected,
            "{template}"
        );
    }

    #[test]
    fn paths_follow_kubectl() {
        for (template, expected) in [
            ("{.items[*].metadata.name}", "a b c"),
            ("{.items[0].metadata.labels['x.y/z']}", "1"),
            ("{.items[0].metadata.labels.x\\.y/z}", "1"),
            ("{.items[-1].metadata.name}{\"\\n\"}", "c\n"),
            ("{.items[0:2].spec.n}", "5 7"),
            ("{.items[1:].spec.n}", "7 9"),
            ("{.items[0,2].metadata.name}", "a c"),
            ("{..name}", "a b c"),
            ("{.items[?(@.spec.n > 5)].metadata.name}", "b c"),
            (
                "{.items[?(@.metadata.name==\"b\")].spec}",
                "{\"n\":7,\"on\":true}",
            ),
            ("{.items[?(@.spec.on)].metadata.name}", "b"),
            (
                "{range .items[*]}{.metadata.name}={.spec.n}{';'}{end}",
                "a=5;b=7;c=9;",
            ),
            (
                "{range .items[*]}{range .spec.nets[*]}{@}{\" \"}{end}{end}",
                "10.0.0.0/8 fd00::/8 ",
            ),
            ("{$.kind}: {.absent.field}", "List: "),
            (".kind", "List"),
            ("{.items[0].spec.nets}", "[\"10.0.0.0/8\",\"fd00::/8\"]"),
        ] {
            check(template, expected);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (template, part) in [
            ("{.items", "not closed"),
            ("{.items[}", "not closed"),
            ("{range .items[*]}", "without its {end}"),
            ("{end}", "without {range}"),
            ("{.items[?(@.a ~ 1)]}", "filter"),
            ("{.items[x]}", "x"),
            ("{foo}", "foo"),
        ] {
            let error = JsonPath::parse(template).unwrap_err();
            assert!(error.contains(part), "{template}: {error}");
        }
        let whole = "{range .items[?(@.a==\"é\")]}{['x','y']}{..z[1:2:3]}{end}";
        for (end, _) in whole.char_indices() {
            let _ = JsonPath::parse(&whole[..end]);
            let _ = JsonPath::parse(&whole[end..]);
        }
    }
}

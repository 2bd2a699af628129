//! From the text of a template to its parts.

use serde_json::Value;

use crate::go_template::unescaped;

/// A part of a template.
#[derive(Debug)]
pub(super) enum Part {
    /// Text as it is.
    Text(String),
    /// What a path finds.
    Path(Vec<Step>),
    /// Parts for each value that a path finds.
    Range(Vec<Step>, Vec<Self>),
}

/// A step of a path.
#[derive(Debug)]
pub(super) enum Step {
    /// Back to the whole object.
    Root,
    /// A field.
    Field(String),
    /// Everything below.
    All,
    /// A field at any depth.
    Anywhere(String),
    /// Elements by position.
    Indexes(Vec<i64>),
    /// Several fields.
    Fields(Vec<String>),
    /// A part of a list.
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: usize,
    },
    /// What a condition holds for.
    Filter(Operand, Option<(&'static str, Operand)>),
}

/// A side of a condition.
#[derive(Debug)]
pub(super) enum Operand {
    Constant(Value),
    Path(Vec<Step>),
}

const OPERATORS: &[&str] = &["==", "!=", "<=", ">=", "<", ">"];

/// Reads a template; a text without braces is one expression.
pub(super) fn template(text: &str) -> Result<Vec<Part>, String> {
    let text = if text.contains('{') {
        text.to_owned()
    } else {
        format!("{{{text}}}")
    };
    // Ranges that are open, innermost last; the first entry is the template itself.
    let mut open: Vec<(Vec<Step>, Vec<Part>)> = vec![(Vec::new(), Vec::new())];
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let begin = rest.find('{').unwrap_or(rest.len());
        let (before, after) = rest.split_at(begin);
        if !before.is_empty() {
            push(&mut open, Part::Text(before.to_owned()));
        }
        let Some(inner) = after.strip_prefix('{') else {
            break;
        };
        let end = closing(inner, '}').ok_or_else(|| format!("{{{inner} is not closed; end it with }}"))?;
        let (expression, behind) = inner.split_at(end);
        rest = behind.get(1..).unwrap_or_default();
        let expression = expression.trim();
        match expression.split_once(char::is_whitespace) {
            _ if expression == "end" => {
                let closed = open.pop().filter(|_| !open.is_empty());
                let (steps, parts) = closed.ok_or("an {end} without {range}")?;
                push(&mut open, Part::Range(steps, parts));
            }
            Some(("range", path)) => open.push((steps(path.trim())?, Vec::new())),
            _ => push(&mut open, part(expression)?),
        }
    }
    match (open.pop(), open.is_empty()) {
        (Some((_, parts)), true) => Ok(parts),
        _ => Err("a {range} without its {end}".to_owned()),
    }
}

fn push(open: &mut [(Vec<Step>, Vec<Part>)], part: Part) {
    if let Some((_, parts)) = open.last_mut() {
        parts.push(part);
    }
}

/// Where a closing character stands, outside of quotes and brackets.
fn closing(text: &str, wanted: char) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0_usize;
    let mut escaped = false;
    for (index, character) in text.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match (quote, character) {
            (_, '\\') => escaped = true,
            (Some(open), same) if open == same => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, same) if same == wanted && depth == 0 => return Some(index),
            (None, '[' | '(') => depth += 1,
            (None, ']' | ')') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

fn part(expression: &str) -> Result<Part, String> {
    match quoted(expression)? {
        Some(text) => Ok(Part::Text(text)),
        None => Ok(Part::Path(steps(expression)?)),
    }
}

/// The content of a text that is quoted as a whole.
fn quoted(text: &str) -> Result<Option<String>, String> {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
            return unescaped(inner).map(Some);
        }
    }
    Ok(None)
}

fn steps(path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = path;
    if let Some(after) = rest.strip_prefix('$') {
        steps.push(Step::Root);
        rest = after;
    } else if let Some(after) = rest.strip_prefix('@') {
        rest = after;
    } else if !rest.starts_with(['.', '[']) && !rest.is_empty() {
        return Err(format!(
            "{path:?} is no path; begin with a dot, as .metadata.name"
        ));
    }
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("..") {
            let (name, after) = name(after);
            steps.push(Step::Anywhere(name));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('.') {
            if let Some(after) = after.strip_prefix('*') {
                steps.push(Step::All);
                rest = after;
                continue;
            }
            let (name, after) = name(after);
            // A dot alone, or before a bracket, is the value itself.
            if !name.is_empty() {
                steps.push(Step::Field(name));
            }
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let end = closing(after, ']').ok_or_else(|| format!("a bracket of {path:?} is not closed"))?;
            let (inner, behind) = after.split_at(end);
            steps.push(bracket(inner.trim())?);
            rest = behind.get(1..).unwrap_or_default();
        } else {
            return Err(format!("{rest:?} of {path:?} is no step; use .name or [index]"));
        }
    }
    Ok(steps)
}

/// A name up to the next step; a backslash keeps a dot in it.
fn name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => name.extend(characters.next().map(|(_, character)| character)),
            '.' | '[' => return (name, text.get(index..).unwrap_or_default()),
            other => name.push(other),
        }
    }
    (name, "")
}

fn bracket(inner: &str) -> Result<Step, String> {
    if inner == "*" {
        return Ok(Step::All);
    }
    if let Some(condition) = inner.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        return filter(condition.trim());
    }
    if inner.starts_with(['"', '\'']) {
        let names: Result<Vec<String>, String> = inner
            .split(',')
            .map(|name| quoted(name.trim())?.ok_or_else(|| format!("[{inner}] has a name without quotes")))
            .collect();
        return names.map(Step::Fields);
    }
    let number = |text: &str| {
        text.trim()
            .parse::<i64>()
            .map_err(|_| format!("[{inner}] is neither an index, a range, '*', a 'name' nor a ?(filter)"))
    };
    if inner.contains(':') {
        let bounds: Vec<&str> = inner.split(':').collect();
        let bound = |index: usize| match bounds.get(index).map(|text| text.trim()) {
            None | Some("") => Ok(None),
            Some(text) => number(text).map(Some),
        };
        let step = bound(2)?.unwrap_or(1);
        return Ok(Step::Slice {
            start: bound(0)?,
            end: bound(1)?,
            step: usize::try_from(step).map_err(|_| format!("[{inner}] goes backwards"))?,
        });
    }
    let indexes: Result<Vec<i64>, String> = inner.split(',').map(number).collect();
    indexes.map(Step::Indexes)
}

fn filter(condition: &str) -> Result<Step, String> {
    let found = OPERATORS
        .iter()
        .filter_map(|operator| {
            let at = outside_of_quotes(condition, operator)?;
            Some((at, *operator))
        })
        .min_by_key(|(at, operator)| (*at, std::cmp::Reverse(operator.len())));
    let Some((at, operator)) = found else {
        return Ok(Step::Filter(operand(condition)?, None));
    };
    let (left, right) = condition.split_at(at);
    let right = right.get(operator.len()..).unwrap_or_default();
    Ok(Step::Filter(
        operand(left.trim())?,
        Some((operator, operand(right.trim())?)),
    ))
}

fn outside_of_quotes(text: &str, wanted: &str) -> Option<usize> {
    let mut quote = None;
    for (index, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), same) if open == same => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, _) if text.get(index..).is_some_and(|rest| rest.starts_with(wanted)) => {
                return Some(index);
            }
            _ => {}
        }
    }
    None
}

fn operand(text: &str) -> Result<Operand, String> {
    if let Some(text) = quoted(text)? {
        return Ok(Operand::Constant(text.into()));
    }
    if text.starts_with(['@', '$', '.']) && !text.contains(char::is_whitespace) {
        return steps(text).map(Operand::Path);
    }
    match serde_json::from_str(text) {
        Ok(value) => Ok(Operand::Constant(value)),
        Err(_) => Err(format!(
            "the filter has {text:?}, which is neither a path as @.name nor a value; compare with ==, !=, <, <=, > or >="
        )),
    }
}

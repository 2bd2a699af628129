//! The part of JSONPath that columns of definitions use: fields, indexes, `[*]` and `[?(@.field=="text")]`.

use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// Items whose field equals (or does not equal) a text.
    Where(Vec<String>, bool, String),
}

/// A path, understood once.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path(Vec<Step>);

impl Path {
    /// `None` when it uses more of JSONPath than is known here.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim().trim_start_matches('$');
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(tail) = rest.strip_prefix('[') {
                let (inside, tail) = bracket(tail)?;
                steps.push(selection(inside)?);
                rest = tail;
            } else {
                let tail = rest.strip_prefix('.').unwrap_or(rest);
                let (field, tail) = field(tail);
                match field.as_str() {
                    "" => return None,
                    "*" => steps.push(Step::All),
                    _ => steps.push(Step::Field(field)),
                }
                rest = tail;
            }
        }
        Some(Self(steps))
    }

    pub(super) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| follow(step, value)).collect();
        }
        found.retain(|value| !value.is_null());
        found
    }
}

/// A field's name up to the next step; a backslash takes the special meaning away.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '.' | '[' => return (name, text.get(at..).unwrap_or_default()),
            '\\' => name.extend(characters.next().map(|(_, escaped)| escaped)),
            other => name.push(other),
        }
    }
    (name, "")
}

/// What is inside a bracket and what follows it; brackets in quotes do not count.
fn bracket(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (None, ']') => return Some((text.get(..at)?, text.get(at + 1..)?)),
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), character) if open == character => quote = None,
            _ => {}
        }
    }
    None
}

fn unquoted(text: &str) -> Option<&str> {
    let text = text.trim();
    ['\'', '"']
        .iter()
        .find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
}

fn selection(inside: &str) -> Option<Step> {
    let inside = inside.trim();
    if inside == "*" {
        return Some(Step::All);
    }
    if let Ok(index) = inside.parse() {
        return Some(Step::Index(index));
    }
    if let Some(name) = unquoted(inside) {
        return Some(Step::Field(name.to_owned()));
    }
    let test = inside.strip_prefix("?(")?.strip_suffix(')')?;
    let (left, equal, right) = match test.split_once("==") {
        Some((left, right)) => (left, true, right),
        None => {
            let (left, right) = test.split_once("!=")?;
            (left, false, right)
        }
    };
    let fields = left
        .trim()
        .strip_prefix('@')?
        .split('.')
        .filter(|name| !name.is_empty());
    let right = unquoted(right).unwrap_or(right.trim());
    Some(Step::Where(
        fields.map(str::to_owned).collect(),
        equal,
        right.to_owned(),
    ))
}

fn follow<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Index(index) => {
            let items = value.as_array().map_or(&[][..], Vec::as_slice);
            let at = match usize::try_from(*index) {
                Ok(at) => Some(at),
                Err(_) => usize::try_from(index.unsigned_abs())
                    .ok()
                    .and_then(|back| items.len().checked_sub(back)),
            };
            at.and_then(|at| items.get(at)).into_iter().collect()
        }
        Step::All => match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(fields) => fields.values().collect(),
            _ => Vec::new(),
        },
        Step::Where(fields, equal, wanted) => {
            let matches = |item: &&Value| {
                let found = fields.iter().try_fold(*item, |value, name| value.get(name));
                found.is_some_and(|found| (super::shown(found) == *wanted) == *equal)
            };
            value.as_array().into_iter().flatten().filter(matches).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_indexes_and_conditions() {
        let value = json!({"spec": {"a.b": 1, "list": [{"n": 1}, {"n": 2}]}, "status": {"conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]}});
        for (path, found) in [
            (".spec.list[1].n", json!([2])),
            (".spec.list[-1].n", json!([2])),
            (".spec.list[-3].n", json!([])),
            ("$.spec['a.b']", json!([1])),
            (r".spec.a\.b", json!([1])),
            (".spec.list[*].n", json!([1, 2])),
            (
                r#".status.conditions[?(@.type=="Ready")].status"#,
                json!(["True"]),
            ),
            (".status.conditions[?(@.type!='Ready')].status", json!(["False"])),
            (".spec.none.at.all", json!([])),
        ] {
            let path = Path::parse(path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(json!(path.find(&value)), found, "{path:?}");
        }
        for bad in [".a[", ".a[?(@.b<1)]", "..a", ".a[b]"] {
            assert_eq!(Path::parse(bad), None, "{bad}");
        }
    }
}

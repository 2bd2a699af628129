//! Where in a text a field stands, so that a finding can name its line. Read only when there is a finding.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A document as places only.
enum Places {
    Leaf,
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

/// The line (from 1) of a field in the `ordinal`-th document that is not empty (from 0). The path is written as
/// `spec.ingress[0].source.nets[1]`; of a field that is absent, the line of what should hold it. `None` when the text
/// cannot be read.
#[must_use]
pub fn line_of(text: &str, ordinal: usize, path: &str) -> Option<u64> {
    let documents: Vec<Spanned<Places>> = serde_saphyr::from_multiple(text).ok()?;
    let document = documents.get(ordinal)?;
    Some(walk(document, path.trim_matches('.')))
}

fn walk(start: &Spanned<Places>, path: &str) -> u64 {
    let mut line = start.referenced.line();
    let mut here = start;
    let mut rest = path;
    while !rest.is_empty() {
        let step = match &here.value {
            Places::Leaf => None,
            Places::List(items) => index(rest).and_then(|(index, after)| {
                let item = items.get(index)?;
                Some((item.referenced.line(), item, after))
            }),
            Places::Map(fields) => fields
                .iter()
                .filter_map(|(key, value)| {
                    let after = rest.strip_prefix(key.value.as_str())?;
                    let ends = after.is_empty() || after.starts_with(['.', '[']);
                    ends.then_some((key.referenced.line(), value, after.trim_start_matches('.')))
                })
                // Keys may have dots themselves: the longest one that fits is meant.
                .min_by_key(|(_, _, after)| after.len()),
        };
        let Some((found, below, after)) = step else {
            return line;
        };
        line = found;
        here = below;
        rest = after;
    }
    line
}

fn index(path: &str) -> Option<(usize, &str)> {
    let (number, after) = path.strip_prefix('[')?.split_once(']')?;
    Some((number.parse().ok()?, after.trim_start_matches('.')))
}

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlacesVisitor)
    }
}

struct PlacesVisitor;

impl<'de> Visitor<'de> for PlacesVisitor {
    type Value = Places;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Places, E> {
        Ok(Places::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Places, E> {
        Ok(Places::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Places, E> {
        Ok(Places::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Places, E> {
        Ok(Places::Leaf)
    }

    fn visit_str<E>(self, _: &str) -> Result<Places, E> {
        Ok(Places::Leaf)
    }

    fn visit_unit<E>(self) -> Result<Places, E> {
        Ok(Places::Leaf)
    }

    fn visit_none<E>(self) -> Result<Places, E> {
        Ok(Places::Leaf)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Places, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Places::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Places, A::Error> {
        let mut map = Vec::new();
        while let Some(field) = fields.next_entry()? {
            map.push(field);
        }
        Ok(Places::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_their_documents() {
        let text = "# pools\na: 1\n---\n---\nkind: X\nmetadata:\n  labels:\n    a.b/c: d\nspec:\n  list:\n  - x: 1\n  \
                    - y: 2\n    z: 3\n  flow: {p: [1, 2]}\n";
        for (ordinal, path, line) in [
            (0, "a", 2),
            (1, "", 5),
            (1, "kind", 5),
            (1, "metadata.labels.a.b/c", 8),
            (1, "spec.list", 10),
            (1, "spec.list[1].z", 13),
            (1, "spec.list[7]", 10),
            (1, "spec.flow.p[1]", 14),
            (1, "spec.absent.x", 9),
        ] {
            assert_eq!(line_of(text, ordinal, path), Some(line), "{ordinal} {path}");
        }
        assert_eq!(line_of(text, 2, "a"), None);
    }
}

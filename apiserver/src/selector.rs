//! Label and field selectors of list and watch requests.

mod labels;

use crate::status::ApiError;
use crate::store::Attributes;

#[derive(Clone, Debug, PartialEq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

/// What a request selects; empty selects everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selector {
    labels: Vec<(String, Test)>,
    fields: Vec<(String, bool, String)>,
}

impl Selector {
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Self, ApiError> {
        Ok(Self {
            labels: labels::parse(labels).map_err(ApiError::bad_request)?,
            fields: parse_fields(fields)?,
        })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The names of the fields that are selected on.
    pub(crate) fn field_names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _, _)| name.as_str())
    }

    pub(crate) fn matches(&self, object: &Attributes) -> bool {
        self.labels
            .iter()
            .all(|(key, test)| passes(test, object.label(key)))
            && self
                .fields
                .iter()
                .all(|(name, equal, value)| (object.field(name) == value) == *equal)
    }
}

fn passes(test: &Test, value: Option<&str>) -> bool {
    let number = || value.and_then(|value| value.parse::<i64>().ok());
    match test {
        Test::In(values) => value.is_some_and(|value| values.iter().any(|other| other == value)),
        Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|other| other != value)),
        Test::Exists => value.is_some(),
        Test::Absent => value.is_none(),
        Test::Greater(limit) => number().is_some_and(|number| number > *limit),
        Test::Less(limit) => number().is_some_and(|number| number < *limit),
    }
}

fn parse_fields(text: &str) -> Result<Vec<(String, bool, String)>, ApiError> {
    let mut fields = Vec::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let found = [("!=", false), ("==", true), ("=", true)]
            .into_iter()
            .find_map(|(operator, equal)| part.split_once(operator).map(|(key, value)| (key, equal, value)));
        let Some((key, equal, value)) = found else {
            let message = format!("invalid selector: '{text}'; can't understand '{part}'");
            return Err(ApiError::bad_request(message));
        };
        fields.push((key.trim().to_owned(), equal, value.trim().to_owned()));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels: serde_json::Map<String, serde_json::Value> = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).into()))
            .collect();
        let object = serde_json::json!({"metadata": {"labels": labels}});
        let attributes = Attributes::of(&object, &std::sync::Arc::default());
        Selector::parse(selector, "").unwrap().matches(&attributes)
    }

    #[test]
    fn every_operator_of_label_selectors() {
        let labels = [("a", "1"), ("b", "x")];
        for yes in [
            "",
            "a=1",
            "a==1,b!=y",
            "c!=1",
            "a in (1, 2)",
            "c notin (1)",
            "a",
            "!c",
            "a>0",
            "a<2",
        ] {
            assert!(matches(yes, &labels), "{yes}");
        }
        for no in [
            "a=2",
            "a!=1",
            "a in (2,3)",
            "a notin (1)",
            "c",
            "!a",
            "a>1",
            "b>0",
        ] {
            assert!(!matches(no, &labels), "{no}");
        }
        for bad in ["a ~ b", "=x", "a in 1", "a=b c", "a>x"] {
            assert!(Selector::parse(bad, "").is_err(), "{bad}");
        }
        assert!(Selector::parse("", "metadata.name").is_err());
    }
}

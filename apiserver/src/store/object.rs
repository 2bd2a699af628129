//! Objects as the store holds them: encoded once, with the few things that lists and watches ask about.

use bytes::Bytes;
use serde_json::Value;

/// Where an object is within its kind. Cluster-scoped objects have an empty namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl ObjectKey {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// What selectors look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attributes {
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) fields: Vec<(String, String)>,
}

impl Attributes {
    /// Reads the labels, and the fields at `paths` (dotted).
    pub(crate) fn of(value: &Value, paths: &[String]) -> Self {
        let labels = value.pointer("/metadata/labels").and_then(Value::as_object);
        let labels = labels
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect();
        let fields = paths
            .iter()
            .map(|path| (path.clone(), text_at(value, path)))
            .collect();
        Self { labels, fields }
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn field(&self, path: &str) -> &str {
        self.fields
            .iter()
            .find(|(name, _)| name == path)
            .map_or("", |(_, value)| value.as_str())
    }
}

/// The text at a dotted path; numbers and truth values as JSON writes them, what is absent as nothing.
fn text_at(value: &Value, path: &str) -> String {
    let found = path
        .split('.')
        .filter(|part| !part.is_empty())
        .try_fold(value, |value, part| value.get(part));
    match found {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// A version of an object.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) key: ObjectKey,
    pub(crate) revision: u64,
    pub(crate) attributes: Attributes,
    /// It has a deletion timestamp.
    pub(crate) deleting: bool,
    /// When it was written, or read at the start.
    pub(crate) written: std::time::Instant,
    pub(crate) json: Bytes,
}

impl Object {
    /// The object as a value. What the store holds was encoded by the store, so decoding cannot fail in practice.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }
}

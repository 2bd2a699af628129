//! Objects as the store holds them: encoded once, with the few things that lists and watches ask about.

use std::sync::Arc;

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
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    labels: Box<[(Box<str>, Box<str>)]>,
    /// The paths of the fields, which all objects of a kind share, and what this one has there.
    paths: Arc<[String]>,
    fields: Box<[Box<str>]>,
}

impl Attributes {
    /// Reads the labels, and the fields at `paths` (dotted).
    pub(crate) fn of(value: &Value, paths: &Arc<[String]>) -> Self {
        let labels = value.pointer("/metadata/labels").and_then(Value::as_object);
        let label = |(key, value): (&String, &Value)| {
            (key.as_str().into(), value.as_str().unwrap_or_default().into())
        };
        Self {
            labels: labels.into_iter().flatten().map(label).collect(),
            paths: Arc::clone(paths),
            fields: paths.iter().map(|path| text_at(value, path).into()).collect(),
        }
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(name, _)| &**name == key);
        found.map(|(_, value)| &**value)
    }

    pub(crate) fn field(&self, path: &str) -> &str {
        let at = self.paths.iter().position(|known| known == path);
        at.and_then(|at| self.fields.get(at)).map_or("", |value| value)
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

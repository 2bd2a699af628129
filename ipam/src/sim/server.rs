//! An API server in memory that can be hashed, and that remembers what objects were.
//!
//! Versions count the writes of one object's name, so that writes of different objects commute: states that differ
//! only in their order are one.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use http::Method;
use serde_json::{Value, json};

/// Kinds that nothing in a simulation changes while it runs.
const STILL: &[&str] = &[
    "ipamconfigurations",
    "ippools",
    "ipreservations",
    "nodes",
    "services",
];

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) method: Method,
    pub(super) kind: String,
    /// Name, with the namespace before it; empty for lists and creations.
    pub(super) name: String,
    selector: String,
    body: Value,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    value: Option<Value>,
    before: Vec<Option<Value>>,
    writes: u64,
    births: u64,
}

#[derive(Debug, Default)]
pub(super) struct Server {
    entries: BTreeMap<(String, String), Entry>,
}

impl Op {
    pub(super) fn new(method: Method, uri: &http::Uri, body: &[u8]) -> Self {
        let mut parts = uri.path().trim_start_matches('/').split('/').skip(1);
        // Of `/apis`, the group is another part.
        if uri.path().starts_with("/apis/") {
            parts.next();
        }
        parts.next();
        let mut rest: Vec<&str> = parts.collect();
        let mut namespace = String::new();
        if rest.first() == Some(&"namespaces") && rest.len() > 2 {
            namespace = format!("{}/", rest[1]);
            rest.drain(..2);
        }
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let mut name = rest
            .get(1)
            .map(|name| format!("{namespace}{name}"))
            .unwrap_or_default();
        if method == Method::POST {
            name = format!(
                "{namespace}{}",
                body["metadata"]["name"].as_str().unwrap_or_default()
            );
        }
        let query = uri.query().unwrap_or_default();
        let selector = query
            .split('&')
            .find_map(|part| part.strip_prefix("labelSelector="))
            .map(|text| {
                text.replace("%21", "!")
                    .replace("%2F", "/")
                    .replace("%3D", "=")
                    .replace("%2C", ",")
            })
            .unwrap_or_default();
        Self {
            method,
            kind: (*rest.first().unwrap_or(&"")).to_owned(),
            name,
            selector,
            body,
        }
    }

    /// True when it does not matter when the request is carried out.
    pub(super) fn is_still(&self) -> bool {
        self.method == Method::GET && STILL.contains(&self.kind.as_str())
    }

    pub(super) fn is_write(&self) -> bool {
        self.method != Method::GET
    }
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.method, self.kind, self.name)?;
        if self.method == Method::PUT {
            let spec = &self.body["spec"];
            write!(
                f,
                " {}{}",
                spec["state"].as_str().unwrap_or_default(),
                if spec["deleted"] == true { " deleted" } else { "" }
            )?;
        }
        Ok(())
    }
}

/// A status code and a body.
pub(super) type Answer = (u16, Value);

impl Server {
    /// Carries a request out. `old`: a read is answered as of some writes ago.
    pub(super) fn answer(&mut self, op: &Op, old: usize) -> Answer {
        match op.method {
            Method::GET if op.name.is_empty() => self.list(op, old),
            Method::GET => match self.read(&op.kind, &op.name, old) {
                Some(value) => (200, value),
                None => not_found(op),
            },
            Method::POST => self.create(op),
            Method::PUT => self.update(op),
            Method::DELETE => self.delete(op),
            _ => (405, status(405, "MethodNotAllowed", op)),
        }
    }

    fn read(&self, kind: &str, name: &str, old: usize) -> Option<Value> {
        let entry = self.entries.get(&(kind.to_owned(), name.to_owned()))?;
        if old == 0 || entry.before.is_empty() {
            return entry.value.clone();
        }
        entry.before[entry.before.len().saturating_sub(old)].clone()
    }

    /// True when an answer of an earlier time would be another.
    pub(super) fn has_past(&self, op: &Op) -> bool {
        let mut of_op = self
            .entries
            .iter()
            .filter(|((kind, name), _)| *kind == op.kind && (op.name.is_empty() || *name == op.name));
        of_op.any(|(_, entry)| !entry.before.is_empty())
    }

    pub(super) fn all(&self, kind: &str) -> Vec<Value> {
        let of_kind = self.entries.iter().filter(|((of, _), _)| of == kind);
        of_kind.filter_map(|(_, entry)| entry.value.clone()).collect()
    }

    fn list(&self, op: &Op, old: usize) -> Answer {
        let names = self.entries.keys().filter(|(kind, _)| *kind == op.kind);
        let items: Vec<Value> = names
            .filter_map(|(kind, name)| self.read(kind, name, old))
            .filter(|value| selects(&op.selector, value))
            .collect();
        (200, json!({"metadata": {"resourceVersion": "1"}, "items": items}))
    }

    fn create(&mut self, op: &Op) -> Answer {
        let entry = self
            .entries
            .entry((op.kind.clone(), op.name.clone()))
            .or_default();
        if entry.value.is_some() {
            return (409, status(409, "AlreadyExists", op));
        }
        entry.births += 1;
        let mut value = op.body.clone();
        value["metadata"]["uid"] = json!(format!("{}-{}-{}", op.kind, op.name, entry.births));
        store(entry, Some(value.clone()));
        (201, entry.value.clone().unwrap_or(value))
    }

    fn update(&mut self, op: &Op) -> Answer {
        let entry = self
            .entries
            .entry((op.kind.clone(), op.name.clone()))
            .or_default();
        let Some(stored) = &entry.value else {
            return not_found(op);
        };
        let wanted = &op.body["metadata"]["resourceVersion"];
        if wanted.is_string() && *wanted != stored["metadata"]["resourceVersion"] {
            return (409, status(409, "Conflict", op));
        }
        let mut value = op.body.clone();
        value["metadata"]["uid"] = stored["metadata"]["uid"].clone();
        store(entry, Some(value));
        (200, entry.value.clone().unwrap_or_default())
    }

    fn delete(&mut self, op: &Op) -> Answer {
        let entry = self
            .entries
            .entry((op.kind.clone(), op.name.clone()))
            .or_default();
        let Some(stored) = &entry.value else {
            return not_found(op);
        };
        let wanted = &op.body["preconditions"]["uid"];
        if wanted.is_string() && *wanted != stored["metadata"]["uid"] {
            return (409, status(409, "Conflict", op));
        }
        store(entry, None);
        (200, json!({"kind": "Status", "status": "Success"}))
    }

    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (key, entry) in &self.entries {
            key.hash(&mut hasher);
            (entry.writes, entry.births).hash(&mut hasher);
            entry.value.as_ref().map(Value::to_string).hash(&mut hasher);
        }
        hasher.finish()
    }
}

fn store(entry: &mut Entry, value: Option<Value>) {
    entry.writes += 1;
    let version = entry.writes.to_string();
    let before = std::mem::replace(
        &mut entry.value,
        value.map(|mut value| {
            value["metadata"]["resourceVersion"] = json!(version);
            value
        }),
    );
    entry.before.push(before);
}

fn selects(selector: &str, value: &Value) -> bool {
    let labels = &value["metadata"]["labels"];
    selector
        .split(',')
        .filter(|term| !term.is_empty())
        .all(|term| match term.split_once('=') {
            Some((name, wanted)) => labels[name] == wanted,
            None => labels[term.trim_start_matches('!')].is_null() == term.starts_with('!'),
        })
}

fn not_found(op: &Op) -> Answer {
    (404, status(404, "NotFound", op))
}

fn status(code: u16, reason: &str, op: &Op) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code,
        "message": format!("{} \"{}\"", op.kind, op.name), "details": {"name": op.name, "kind": op.kind},
    })
}

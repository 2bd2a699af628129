//! Sets of fields, as trees in the form of `fieldsV1`: `f:` fields, `k:` items by key, `v:` items by value.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::builtin::{self, resolve};

/// A set of paths. A node is a member itself, or only leads to members.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Set {
    member: bool,
    below: BTreeMap<String, Self>,
}

/// Objects that are a part of what holds them, as Kubernetes' types have it: they are there from the beginning, empty.
const PARTS: [&str; 16] = [
    "conversion",
    "daemonEndpoints",
    "involvedObject",
    "kubeletEndpoint",
    "loadBalancer",
    "metadata",
    "names",
    "nodeInfo",
    "podSelector",
    "related",
    "resources",
    "source",
    "spec",
    "status",
    "strategy",
    "template",
];

/// Is this field, which was not there before, there from the beginning in Kubernetes' types?
fn is_part(schema: Option<&Value>, name: &str, value: &Value) -> bool {
    let required = || {
        let required = schema.and_then(|schema| resolve(schema).get("required")?.as_array());
        required.is_some_and(|all| all.iter().any(|one| one == name))
    };
    match value {
        Value::Object(_) => PARTS.contains(&name) || name == "updateStrategy",
        Value::Array(_) => required(),
        _ => false,
    }
}

/// Which new values that hold others are members themselves.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Nothing,
    /// Those that are not a part of what holds them.
    Additions,
    All,
}

impl Mark {
    fn includes(self, schema: Option<&Value>, name: &str, value: &Value) -> bool {
        match self {
            Self::Nothing => false,
            Self::Additions => !is_part(schema, name, value),
            Self::All => true,
        }
    }
}

/// How the items of a list are told apart.
pub(super) enum Items<'a> {
    /// They are not: the list is one value.
    Atomic,
    /// By their value.
    Values,
    /// By the value of these fields.
    Keys(Vec<&'a str>),
}

pub(super) fn items_of(schema: Option<&Value>) -> Items<'_> {
    let text = |key| schema.and_then(|schema| schema.get(key)).and_then(Value::as_str);
    match text("x-kubernetes-list-type") {
        Some("set") => Items::Values,
        Some("map") => {
            let keys = schema.and_then(|schema| schema.get("x-kubernetes-list-map-keys"));
            let keys = keys.and_then(Value::as_array).into_iter().flatten();
            Items::Keys(keys.filter_map(Value::as_str).collect())
        }
        _ => Items::Atomic,
    }
}

/// The schema of a field; that of metadata is everyone's.
pub(super) fn field_schema<'a>(schema: Option<&'a Value>, field: &str, root: bool) -> Option<&'a Value> {
    if root && field == "metadata" {
        return builtin::schema(builtin::OBJECT_META);
    }
    let schema = resolve(schema?);
    let property = schema.get("properties").and_then(|all| all.get(field));
    property.or_else(|| {
        schema
            .get("additionalProperties")
            .filter(|below| below.is_object())
    })
}

pub(super) fn item_schema(schema: Option<&Value>) -> Option<&Value> {
    schema.and_then(|schema| schema.get("items"))
}

pub(super) fn is_atomic(schema: Option<&Value>) -> bool {
    let atomic = |schema: &Value| {
        schema
            .get("x-kubernetes-map-type")
            .is_some_and(|kind| kind == "atomic")
    };
    schema.is_some_and(|schema| atomic(schema) || atomic(resolve(schema)))
}

/// Is a field one of a type, rather than a key that users chose?
fn is_known(schema: Option<&Value>, field: &str, root: bool) -> bool {
    root || schema.is_some_and(|schema| {
        let schema = resolve(schema);
        schema
            .get("properties")
            .is_some_and(|all| all.get(field).is_some())
    })
}

/// The name of an item within its list; keys that are absent have their default.
pub(super) fn item_name(item: &Value, items: &Items<'_>, schema: Option<&Value>) -> Option<String> {
    match items {
        Items::Atomic => None,
        Items::Values => Some(format!("v:{item}")),
        Items::Keys(keys) => {
            let mut found = Map::new();
            for key in keys {
                let default = || {
                    field_schema(schema, key, false)
                        .and_then(|schema| schema.get("default"))
                        .cloned()
                };
                let usual = || (*key == "protocol").then(|| Value::from("TCP"));
                let value = item.get(*key).cloned().or_else(default).or_else(usual);
                found.extend(value.map(|value| ((*key).to_owned(), value)));
            }
            Some(format!("k:{}", Value::Object(found)))
        }
    }
}

impl Set {
    /// The fields of a value; given an older value, only those that are new or different.
    pub(crate) fn of(value: &Value, old: Option<&Value>, schema: Option<&Value>) -> Self {
        Self::walk(value, old, schema, true, Mark::Nothing)
    }

    /// What an update changed: of what holds others and is new, it is a member itself too.
    pub(crate) fn changed(value: &Value, old: &Value, schema: Option<&Value>, custom: bool) -> Self {
        let mark = if custom { Mark::All } else { Mark::Additions };
        Self::walk(value, Some(old), schema, true, mark)
    }

    fn leaf() -> Self {
        Self {
            member: true,
            below: BTreeMap::new(),
        }
    }

    fn walk(value: &Value, old: Option<&Value>, schema: Option<&Value>, root: bool, mark: Mark) -> Self {
        if old == Some(value) {
            return Self::default();
        }
        let mut set = Self::default();
        let empty = Value::Object(Map::new());
        match value {
            Value::Object(fields) if !is_atomic(schema) && (root || !fields.is_empty()) => {
                for (name, below) in fields {
                    let before = old.and_then(|old| old.get(name));
                    // A part that is empty is as it was.
                    if mark == Mark::Additions
                        && before.is_none()
                        && *below == empty
                        && is_part(schema, name, below)
                    {
                        continue;
                    }
                    let schema_below = field_schema(schema, name, root);
                    let mut child = Self::walk(below, before, schema_below, false, mark);
                    let holds = below.is_object() || below.is_array();
                    let marked = holds && mark.includes(schema, name, below) && !(root && name == "metadata");
                    child.member |= before.is_none() && (marked || !is_known(schema, name, root));
                    set.add(format!("f:{name}"), child);
                }
            }
            Value::Array(list) if !matches!(items_of(schema), Items::Atomic) => {
                let (items, below) = (items_of(schema), item_schema(schema));
                let old = old.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                for item in list {
                    let Some(name) = item_name(item, &items, below) else {
                        continue;
                    };
                    let same = |other: &&Value| item_name(other, &items, below).as_deref() == Some(&name);
                    let before = old.iter().find(same);
                    // Within an item that is new, everything is.
                    let mark = match (mark, before) {
                        (Mark::Additions, None) => Mark::All,
                        (mark, _) => mark,
                    };
                    let mut child = match items {
                        Items::Keys(_) => Self::walk(item, before, below, false, mark),
                        Items::Values | Items::Atomic => Self::default(),
                    };
                    child.member |= before.is_none();
                    set.add(name, child);
                }
            }
            _ => return Self::leaf(),
        }
        set
    }

    fn add(&mut self, name: String, child: Self) {
        if !child.is_empty() {
            self.below.insert(name, child);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }

    pub(super) fn is_member(&self) -> bool {
        self.member
    }

    pub(super) fn below(&self, name: &str) -> Option<&Self> {
        self.below.get(name)
    }

    /// Adds all of another set.
    pub(crate) fn join(&mut self, other: &Self) {
        self.member |= other.member;
        for (name, child) in &other.below {
            self.below.entry(name.clone()).or_default().join(child);
        }
    }

    pub(crate) fn subtract(&self, other: &Self) -> Self {
        let mut set = Self {
            member: self.member && !other.member,
            below: BTreeMap::new(),
        };
        for (name, child) in &self.below {
            let rest = other
                .below
                .get(name)
                .map_or_else(|| child.clone(), |other| child.subtract(other));
            set.add(name.clone(), rest);
        }
        set
    }

    /// The set with everything that leads to its members: who has a field has what holds it.
    pub(crate) fn with_parents(&self) -> Self {
        let below = self
            .below
            .iter()
            .map(|(name, child)| (name.clone(), child.with_parents()));
        Self {
            member: self.member || !self.below.is_empty(),
            below: below.collect(),
        }
    }

    /// What of the set is still in a value.
    pub(crate) fn within(&self, value: &Value, schema: Option<&Value>) -> Self {
        self.walk_within(value, schema, true)
    }

    fn walk_within(&self, value: &Value, schema: Option<&Value>, root: bool) -> Self {
        let mut set = Self {
            member: self.member,
            below: BTreeMap::new(),
        };
        let items = items_of(schema);
        for (name, child) in &self.below {
            let field = name.strip_prefix("f:");
            let found = match (field, value) {
                (Some(field), _) => value
                    .get(field)
                    .map(|below| child.walk_within(below, field_schema(schema, field, root), false)),
                (None, Value::Array(list)) => {
                    let below = item_schema(schema);
                    let same = |item: &&Value| item_name(item, &items, below).as_deref() == Some(name);
                    list.iter()
                        .find(same)
                        .map(|item| child.walk_within(item, below, false))
                }
                (None, _) => None,
            };
            if let Some(found) = found {
                set.add(name.clone(), found);
            }
        }
        set
    }

    pub(crate) fn intersect(&self, other: &Self) -> Self {
        let mut set = Self {
            member: self.member && other.member,
            below: BTreeMap::new(),
        };
        for (name, child) in &self.below {
            if let Some(other) = other.below.get(name) {
                set.add(name.clone(), child.intersect(other));
            }
        }
        set
    }

    /// The members as people read them.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, path: &str, paths: &mut Vec<String>) {
        if self.member {
            paths.push(path.to_owned());
        }
        for (name, child) in &self.below {
            child.collect(&format!("{path}{}", step(name)), paths);
        }
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut fields = Map::new();
        if self.member && !self.below.is_empty() {
            fields.insert(".".to_owned(), Value::Object(Map::new()));
        }
        fields.extend(
            self.below
                .iter()
                .map(|(name, child)| (name.clone(), child.to_value())),
        );
        Value::Object(fields)
    }

    pub(crate) fn from_value(value: &Value) -> Self {
        let Some(fields) = value.as_object() else {
            return Self::default();
        };
        let mut set = Self::default();
        for (name, below) in fields {
            if name == "." {
                set.member = true;
                continue;
            }
            let mut child = Self::from_value(below);
            child.member |= child.below.is_empty();
            set.add(name.clone(), child);
        }
        set
    }
}

fn step(name: &str) -> String {
    match name.split_once(':') {
        Some(("f", field)) => format!(".{field}"),
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        Some(("v", value)) => format!("[={value}]"),
        _ => format!("[{name}]"),
    }
}

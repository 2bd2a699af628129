//! Tables: what `kubectl get` prints, made by the server from the columns of each kind.
//!
//! Owns columns and the form of tables. Never reads the store. Source: the printers and the table format of Kubernetes.

mod builtin;
mod duration;
mod path;

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::resource::Resource;
use path::Path;

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    /// Columns above 0 are shown with `-o wide`.
    priority: i64,
}

impl Column {
    fn new(name: &str, kind: &str, priority: i64) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            format: if name == "Name" { "name" } else { "" }.to_owned(),
            description: match name {
                "Name" => described(&[crate::builtin::OBJECT_META], "name"),
                "Age" => described(&[crate::builtin::OBJECT_META], "creationTimestamp"),
                _ => String::new(),
            },
            priority,
        }
    }

    /// A column of a built-in kind, which says what the field says that it shows.
    fn built_in(storage: &str, name: &str, kind: &str, priority: i64) -> Self {
        let mut column = Self::new(name, kind, priority);
        if let Some((schemas, field)) = builtin::shown_field(storage, name) {
            column.description = described(schemas, field);
        } else if let Some(own) = builtin::own_words(storage, name) {
            column.description = own.to_owned();
        }
        column
    }

    fn to_value(&self) -> Value {
        json!({"name": self.name, "type": self.kind, "format": self.format,
            "description": self.description, "priority": self.priority})
    }
}

/// What Kubernetes says of a field of one of its types.
fn described(schemas: &[&str], field: &str) -> String {
    static SAID: LazyLock<Map<String, Value>> = LazyLock::new(crate::builtin::described);
    let of = |schema: &&str| {
        let field = SAID.get(*schema)?.get("properties")?.get(field)?;
        Some(field.get("description")?.as_str()?.to_owned())
    };
    schemas.iter().find_map(of).unwrap_or_default()
}

/// How cells are found.
enum Cells {
    /// By code, for built-in kinds.
    Code(fn(&Value) -> Vec<Value>),
    /// By paths, after the name.
    Paths(Vec<Option<Path>>),
}

/// The columns of a kind and how to fill them.
pub(crate) struct Printer {
    columns: Vec<Column>,
    cells: Cells,
    object: Included,
}

/// How much of the object comes with its row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Included {
    None,
    Metadata,
    Object,
}

impl Printer {
    /// `included` is the query parameter `includeObject`.
    pub(crate) fn of(resource: &Resource, included: &str) -> Self {
        let object = match included {
            "None" => Included::None,
            "Object" => Included::Object,
            _ => Included::Metadata,
        };
        if let Some((columns, cells)) = builtin::printer(&resource.storage) {
            let columns = columns
                .iter()
                .map(|(name, kind, priority)| Column::built_in(&resource.storage, name, kind, *priority))
                .collect();
            let cells = Cells::Code(cells);
            return Self {
                columns,
                cells,
                object,
            };
        }
        let mut columns = vec![Column::new("Name", "string", 0)];
        let mut paths = Vec::new();
        for column in resource.columns.iter() {
            let text = |key: &str| column[key].as_str().unwrap_or_default().to_owned();
            let description = match text("description") {
                none if none.is_empty() => {
                    format!(
                        "Custom resource definition column (in JSONPath format): {}",
                        text("jsonPath")
                    )
                }
                description => description,
            };
            columns.push(Column {
                name: text("name"),
                kind: text("type"),
                format: text("format"),
                description,
                priority: column["priority"].as_i64().unwrap_or(0),
            });
            paths.push(Path::parse(&text("jsonPath")));
        }
        if resource.columns.is_empty() {
            columns.push(Column::new("Age", "date", 0));
            paths.push(Path::parse(".metadata.creationTimestamp"));
        }
        Self {
            columns,
            cells: Cells::Paths(paths),
            object,
        }
    }

    /// A table of objects. `columns` says whether it names its columns: in a watch only the first one does.
    pub(crate) fn table<'a>(
        &self,
        objects: impl IntoIterator<Item = &'a Value>,
        metadata: &Value,
        columns: bool,
    ) -> Value {
        let rows: Vec<Value> = objects.into_iter().map(|object| self.row(object)).collect();
        let definitions: Value = if columns {
            self.columns.iter().map(Column::to_value).collect()
        } else {
            Value::Null
        };
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "columnDefinitions": definitions, "rows": rows})
    }

    fn row(&self, object: &Value) -> Value {
        let cells = match &self.cells {
            Cells::Code(code) => code(object),
            Cells::Paths(paths) => {
                let mut cells = vec![object.pointer("/metadata/name").cloned().unwrap_or_default()];
                for (path, column) in paths.iter().zip(self.columns.iter().skip(1)) {
                    let found = path.as_ref().map(|path| path.find(object)).unwrap_or_default();
                    cells.push(cell(&column.kind, &found));
                }
                cells
            }
        };
        let mut row = json!({"cells": cells});
        match self.object {
            Included::None => row["object"] = Value::Null,
            Included::Metadata => row["object"] = partial(object),
            Included::Object => row["object"] = object.clone(),
        }
        row
    }
}

/// The label selector of an object as text; empty when there is none.
pub(crate) fn selector_text(object: &Value) -> String {
    builtin::selector_text(object)
}

/// An object of which only the metadata is told.
pub(crate) fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// What a column shows of what its path found; nothing for what does not fit its type.
fn cell(kind: &str, found: &[&Value]) -> Value {
    let Some(first) = found.first() else {
        return Value::Null;
    };
    match kind {
        "integer" => match first.as_i64() {
            Some(number) => number.into(),
            None => first
                .as_f64()
                .map_or(Value::Null, |number| (number.trunc()).into()),
        },
        "number" if first.is_number() => (*first).clone(),
        "boolean" if first.is_boolean() => (*first).clone(),
        "date" => first
            .as_str()
            .map_or(Value::Null, |text| duration::since(text).into()),
        "string" => {
            let texts: Vec<String> = found.iter().map(|value| shown(value)).collect();
            texts.join(",").into()
        }
        _ => Value::Null,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_the_type_of_their_column() {
        let (number, text, truth) = (json!(26), json!("x"), json!(true));
        assert_eq!(cell("integer", &[&number]), json!(26));
        assert_eq!(cell("integer", &[&text]), Value::Null);
        assert_eq!(cell("string", &[&number]), json!("26"));
        assert_eq!(cell("string", &[&text, &truth]), json!("x,true"));
        assert_eq!(cell("boolean", &[&truth]), json!(true));
        assert_eq!(cell("string", &[]), Value::Null);
        assert_eq!(cell("date", &[&text]), json!("<unknown>"));
    }
}

//! The forms in which `get` prints what it found.

use std::collections::BTreeMap;

use caracal_api::kinds::{self, Kind, Storage};
use caracal_api::yaml;
use serde_json::Value;

use crate::error::Failure;
use crate::go_template::Template;
use crate::json_path::JsonPath;
use crate::store::{Store, StoreError, name_of, text_at};
use crate::terminal::{Terminal, sorted};
use crate::{columns, table};

/// AS number of nodes when the configuration names none.
const DEFAULT_AS: &str = "64512";

/// A form.
pub(super) enum Form {
    Table { wide: bool },
    Custom(String),
    Yaml,
    Json,
    Name,
    GoTemplate(Template),
    JsonPath(JsonPath),
}

impl Form {
    /// The form that `--output` names.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let (word, argument) = match text.split_once('=') {
            Some((word, argument)) => (word, argument),
            None => (text, ""),
        };
        let needs = |what: &str| Failure::new(format!("need to specify {what}"));
        let template = |text: &str| {
            Template::parse(text)
                .map(Self::GoTemplate)
                .map_err(|error| Failure::new(format!("the go-template cannot be read: {error}")))
        };
        match (word, argument) {
            ("ps", "") => Ok(Self::Table { wide: false }),
            ("wide", "") => Ok(Self::Table { wide: true }),
            ("yaml" | "yml", "") => Ok(Self::Yaml),
            ("json", "") => Ok(Self::Json),
            ("name", "") => Ok(Self::Name),
            ("custom-columns", "") => Err(needs("at least one column")),
            ("custom-columns", names) => Ok(Self::Custom(names.to_owned())),
            ("go-template", "") => Err(needs("a template")),
            ("go-template", text) => template(text),
            ("go-template-file", "") => Err(needs("a template file")),
            ("go-template-file", path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    Failure::new(format!("the template file {path} cannot be read: {error}"))
                })?;
                template(&text)
            }
            ("jsonpath", "") => Err(needs("a template")),
            ("jsonpath", text) => JsonPath::parse(text)
                .map(Self::JsonPath)
                .map_err(|error| Failure::new(format!("the jsonpath cannot be read: {error}"))),
            _ => Err(Failure::new(format!(
                "unrecognized output format '{text}'; use ps, wide, yaml, json, name, custom-columns=HEADING,…, \
                 jsonpath=TEMPLATE, go-template=TEMPLATE or go-template-file=FILE"
            ))),
        }
    }
}

/// An object or list that was found, with its kind.
pub(super) struct Found {
    pub(super) kind: &'static Kind,
    pub(super) object: Value,
}

impl Found {
    /// The objects of a list, or the object.
    fn items(&self) -> Vec<&Value> {
        match self.object.get("items") {
            Some(Value::Array(items)) => items.iter().collect(),
            _ => vec![&self.object],
        }
    }
}

/// Prints what was found in a form.
pub(super) async fn print(
    terminal: &Terminal,
    store: &Store,
    found: Vec<Found>,
    form: &Form,
    with_namespace: bool,
) -> Result<(), Failure> {
    let unprintable = |error: String| Failure::new(error);
    match form {
        Form::Yaml => {
            let text = yaml::to_string(&document(found)).map_err(|error| unprintable(error.to_string()))?;
            terminal.text(&text);
        }
        Form::Json => {
            let text = serde_json::to_string_pretty(&document(found))
                .map_err(|error| unprintable(error.to_string()))?;
            terminal.text(&text);
        }
        Form::Name => {
            for found in &found {
                for item in found.items() {
                    terminal.line(&name(found.kind, item));
                }
            }
        }
        Form::JsonPath(path) => terminal.text(&path.render(&document(found))),
        Form::GoTemplate(template) => {
            let default_as = default_as(store).await;
            let configuration = BTreeMap::from([("asnumber".to_owned(), default_as)]);
            let data = Value::Array(found.into_iter().map(|found| tidy(found.object)).collect());
            let text = template
                .render(&data, &configuration)
                .map_err(|error| unprintable(format!("the go-template failed: {error}")))?;
            terminal.text(&text);
        }
        Form::Custom(names) => {
            for found in &found {
                tables(terminal, store, found, &columns::custom(found.kind, names)?).await;
            }
        }
        Form::Table { wide } => {
            for found in &found {
                let headings = columns::select(found.kind, *wide, with_namespace);
                tables(terminal, store, found, &headings).await;
            }
        }
    }
    Ok(())
}

/// One object as it is, several as an array.
fn document(found: Vec<Found>) -> Value {
    let mut objects: Vec<Value> = found.into_iter().map(|found| tidy(found.object)).collect();
    let one = objects.len() == 1;
    sorted(match objects.pop() {
        Some(object) if one => object,
        Some(object) => {
            objects.push(object);
            Value::Array(objects)
        }
        None => Value::Null,
    })
}

/// Kind, group and name as kubectl writes and reads them.
fn name(kind: &Kind, object: &Value) -> String {
    let word = kind.kind.to_ascii_lowercase();
    let group = match kind.storage {
        Storage::CustomResource => ".projectcalico.org",
        Storage::Derived => "",
    };
    format!("{word}{group}/{}", name_of(object))
}

/// The table of an object or list.
async fn tables(terminal: &Terminal, store: &Store, found: &Found, headings: &[&'static str]) {
    let kind = found.kind.kind;
    let default_as = if kind == "Node" && headings.contains(&"ASN") {
        default_as(store).await
    } else {
        String::new()
    };
    let mut items = found.items();
    if kind == "Tier" {
        let order = |tier: &Value| {
            tier.pointer("/spec/order")
                .and_then(Value::as_f64)
                .unwrap_or(f64::INFINITY)
        };
        items.sort_by(|a, b| order(a).total_cmp(&order(b)));
    }
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            headings
                .iter()
                .map(|heading| columns::cell(kind, heading, item, &default_as))
                .collect()
        })
        .collect();
    terminal.text(&table::plain(headings, &rows));
}

/// The AS number of nodes that name none.
async fn default_as(store: &Store) -> String {
    let Some(kind) = kinds::of_manifest("BGPConfiguration") else {
        return DEFAULT_AS.to_owned();
    };
    match store.get(kind, None, "default").await {
        Ok(object) => match object.pointer("/spec/asNumber") {
            Some(Value::Number(number)) => number.to_string(),
            _ => Some(text_at(&object, "/spec/asNumber"))
                .filter(|text| !text.is_empty())
                .unwrap_or(DEFAULT_AS)
                .to_owned(),
        },
        Err(StoreError::NotFound { .. }) => DEFAULT_AS.to_owned(),
        Err(_) => "unknown".to_owned(),
    }
}

/// Leaves out what the server keeps for itself.
fn tidy(mut object: Value) -> Value {
    let clear = |object: &mut Value| {
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            metadata.remove("managedFields");
        }
    };
    clear(&mut object);
    if let Some(Value::Array(items)) = object.get_mut("items") {
        items.iter_mut().for_each(clear);
    }
    object
}

//! `get`: objects as tables, YAML or JSON.

use caracal_api::kinds::{self, Kind};
use caracal_api::yaml;
use serde_json::{Value, json};

use crate::args::Get;
use crate::error::Failure;
use crate::store::{Store, StoreError};
use crate::{columns, input, output, table};

/// AS number of nodes when the configuration names none.
const DEFAULT_AS: &str = "64512";

/// Carries out `get`.
pub(crate) async fn run(store: &Store, arguments: &Get) -> Result<(), Failure> {
    let format = Format::parse(&arguments.output)?;
    let (kind, found, errors) = read(store, arguments).await?;
    if !found.is_empty() {
        print(store, kind, &found, arguments, &format).await?;
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(errors.join("\n")))
    }
}

enum Format {
    Table { wide: bool },
    Custom(String),
    Yaml,
    Json,
}

impl Format {
    fn parse(text: &str) -> Result<Self, Failure> {
        match text {
            "ps" => Ok(Self::Table { wide: false }),
            "wide" => Ok(Self::Table { wide: true }),
            "yaml" | "yml" => Ok(Self::Yaml),
            "json" => Ok(Self::Json),
            "custom-columns" | "custom-columns=" => Err(Failure::new("need to specify at least one column")),
            other => match other.strip_prefix("custom-columns=") {
                Some(names) => Ok(Self::Custom(names.to_owned())),
                None => Err(Failure::new(format!(
                    "unrecognized output format '{other}'; use ps, wide, yaml, json or custom-columns=HEADING,…"
                ))),
            },
        }
    }
}

type Found = (&'static Kind, Vec<Value>, Vec<String>);

async fn read(store: &Store, arguments: &Get) -> Result<Found, Failure> {
    let mut found = Vec::new();
    let mut errors = Vec::new();
    let flag = arguments.source.namespace.as_deref();
    let Some(name) = &arguments.kind else {
        let resources = input::read(&arguments.source)?.unwrap_or_default();
        let kind = resources.first().map_or(&kinds::ALL[0], |resource| resource.kind);
        for resource in resources {
            let namespace = input::namespace(
                resource.kind,
                resource.namespace(),
                flag,
                arguments.all_namespaces,
            )?;
            collect(
                store
                    .get(resource.kind, namespace.as_deref(), resource.name())
                    .await,
                &mut found,
                &mut errors,
            );
        }
        return Ok((kind, found, errors));
    };
    let kind = input::kind(name)?;
    let namespace = input::namespace(kind, None, flag, arguments.all_namespaces)?;
    if arguments.names.is_empty() {
        let list = store
            .list(kind, namespace.as_deref())
            .await
            .map_err(|error| Failure::new(error.to_string()))?;
        return Ok((kind, vec![list], errors));
    }
    if arguments.all_namespaces {
        return Err(Failure::new(
            "cannot use --all-namespace flag for getting a single resource",
        ));
    }
    for name in &arguments.names {
        if name.is_empty() {
            return Err(Failure::new("resource name may not be empty"));
        }
        collect(
            store.get(kind, namespace.as_deref(), name).await,
            &mut found,
            &mut errors,
        );
    }
    if arguments.export {
        found.iter_mut().for_each(strip);
    }
    Ok((kind, found, errors))
}

fn collect(result: Result<Value, StoreError>, found: &mut Vec<Value>, errors: &mut Vec<String>) {
    match result {
        Ok(object) => found.push(object),
        Err(error) => errors.push(error.to_string()),
    }
}

async fn print(
    store: &Store,
    kind: &'static Kind,
    found: &[Value],
    arguments: &Get,
    format: &Format,
) -> Result<(), Failure> {
    let document = || {
        let mut objects: Vec<Value> = found.iter().cloned().map(tidy).collect();
        let one = objects.len() == 1;
        output::sorted(match objects.pop() {
            Some(object) if one => object,
            Some(object) => {
                objects.push(object);
                Value::Array(objects)
            }
            None => Value::Null,
        })
    };
    match format {
        Format::Yaml => {
            output::text(&yaml::to_string(&document()).map_err(|error| Failure::new(error.to_string()))?);
        }
        Format::Json => output::text(
            &serde_json::to_string_pretty(&document()).map_err(|error| Failure::new(error.to_string()))?,
        ),
        Format::Custom(names) => tables(store, found, &columns::custom(kind, names)?, kind).await,
        Format::Table { wide } => {
            let with_namespace = arguments.all_namespaces || arguments.source.namespace.is_some();
            tables(store, found, &columns::select(kind, *wide, with_namespace), kind).await;
        }
    }
    Ok(())
}

/// A table for each object or list.
async fn tables(store: &Store, found: &[Value], headings: &[&'static str], kind: &'static Kind) {
    let default_as = if kind.kind == "Node" && headings.contains(&"ASN") {
        default_as(store).await
    } else {
        String::new()
    };
    for object in found {
        let own = std::slice::from_ref(object);
        let mut items: Vec<&Value> = match object.get("items") {
            Some(Value::Array(items)) => items.iter().collect(),
            _ => own.iter().collect(),
        };
        if kind.kind == "Tier" {
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
                    .map(|heading| columns::cell(kind.kind, heading, item, &default_as))
                    .collect()
            })
            .collect();
        output::text(&table::plain(headings, &rows));
    }
}

async fn default_as(store: &Store) -> String {
    let Some(kind) = kinds::of_manifest("BGPConfiguration") else {
        return DEFAULT_AS.to_owned();
    };
    match store.get(kind, None, "default").await {
        Ok(object) => object.pointer("/spec/asNumber").map_or_else(
            || DEFAULT_AS.to_owned(),
            |number| number.to_string().trim_matches('"').to_owned(),
        ),
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

/// Leaves out what belongs to one cluster.
fn strip(object: &mut Value) {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        for key in [
            "namespace",
            "uid",
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ] {
            metadata.remove(key);
        }
        metadata.insert("creationTimestamp".to_owned(), json!(null));
    }
}

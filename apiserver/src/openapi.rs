//! OpenAPI version 3: an index, and for each group and version a document that clients learn fields and options from.

use std::collections::BTreeSet;

use http::Response;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::builtin::{self, LIST_META, OBJECT_META, REFERENCE, schema_name};
use crate::resource::Resource;
use crate::server::ApiServer;
use crate::service::{ResponseBody, json as answer_json};

/// Answers `/openapi/v3` and what is below; `parts` is what follows that.
pub(crate) fn answer(server: &ApiServer, parts: &[&str]) -> Option<Response<ResponseBody>> {
    let (group, version) = match parts {
        [] => return Some(answer_json(200, &index(server))),
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        _ => return None,
    };
    let resources = server.resources();
    let served = resources
        .iter()
        .filter(|resource| resource.group == group && resource.version == version);
    let served: Vec<&Resource> = served.map(AsRef::as_ref).collect();
    (!served.is_empty()).then(|| answer_json(200, &document(&served)))
}

fn root(resource: &Resource) -> String {
    if resource.group.is_empty() {
        format!("api/{}", resource.version)
    } else {
        format!("apis/{}/{}", resource.group, resource.version)
    }
}

/// Clients keep documents for as long as the hash in their address stays the same.
fn index(server: &ApiServer) -> Value {
    let resources = server.resources();
    let mut paths = Map::new();
    for resource in resources.iter() {
        let root = root(resource);
        if paths.contains_key(&root) {
            continue;
        }
        let mut digest = Sha256::new();
        digest.update(env!("CARGO_PKG_VERSION"));
        for other in resources
            .iter()
            .filter(|other| other.group == resource.group && other.version == resource.version)
        {
            digest.update(&other.kind);
            digest.update(
                other
                    .schema
                    .as_ref()
                    .map(|schema| schema.to_string())
                    .unwrap_or_default(),
            );
        }
        let hash: String = digest
            .finalize()
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let url = format!("/openapi/v3/{root}?hash={hash}");
        paths.insert(root, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

fn document(resources: &[&Resource]) -> Value {
    let all = builtin::described();
    let mut schemas = Map::new();
    let mut paths = Map::new();
    for resource in resources {
        let name = schema_name(resource);
        let mut schema = match &resource.schema {
            Some(schema) => custom_schema(schema, &all),
            None => all.get(&name).cloned().unwrap_or_default(),
        };
        let kind = kind_of(resource);
        if let Some(fields) = schema.as_object_mut() {
            fields.insert("x-kubernetes-group-version-kind".to_owned(), json!([kind]));
        }
        let list = list_schema(resource, &name, &all);
        schemas.insert(format!("{name}List"), list);
        schemas.insert(name, schema);
        add_paths(resource, &mut paths);
    }
    add_referenced(&mut schemas, &all);
    json!({"openapi": "3.0.0", "info": {"title": "Caracal", "version": concat!("v", env!("CARGO_PKG_VERSION"))},
        "paths": paths, "components": {"schemas": schemas}})
}

/// What is said of a field that every object has.
fn said(all: &Map<String, Value>, field: &str) -> Value {
    let field = all
        .get("io.k8s.api.core.v1.ConfigMap")
        .and_then(|schema| schema.get("properties")?.get(field)?.get("description"));
    field.cloned().unwrap_or_default()
}

/// The schema of a list.
fn list_schema(resource: &Resource, name: &str, all: &Map<String, Value>) -> Value {
    let (kind, plural) = (&resource.kind, &resource.plural);
    let mut gvk = kind_of(resource);
    gvk["kind"] = format!("{kind}List").into();
    let metadata = json!({"allOf": [{"$ref": format!("{REFERENCE}{LIST_META}")}],
        "description": "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"});
    let items = json!({"type": "array", "items": {"$ref": format!("{REFERENCE}{name}")},
        "description": format!("List of {plural}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md")});
    json!({"type": "object", "description": format!("{kind}List is a list of {kind}"), "required": ["items"],
        "x-kubernetes-group-version-kind": [gvk], "properties": {
            "apiVersion": {"type": "string", "description": said(all, "apiVersion")},
            "kind": {"type": "string", "description": said(all, "kind")},
            "metadata": metadata, "items": items}})
}

/// A definition's schema, with the metadata that every object has.
fn custom_schema(schema: &Value, all: &Map<String, Value>) -> Value {
    let mut schema = schema.clone();
    if !schema.is_object() {
        schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    }
    let common = [
        (
            "apiVersion",
            json!({"type": "string", "description": said(all, "apiVersion")}),
        ),
        (
            "kind",
            json!({"type": "string", "description": said(all, "kind")}),
        ),
    ];
    if let Some(properties) = schema
        .as_object_mut()
        .map(|fields| fields.entry("properties").or_insert_with(|| json!({})))
        .and_then(Value::as_object_mut)
    {
        for (key, value) in common {
            properties.entry(key).or_insert(value);
        }
        let reference = json!({"allOf": [{"$ref": format!("{REFERENCE}{OBJECT_META}")}],
            "description": said(all, "metadata")});
        properties.insert("metadata".to_owned(), reference);
    }
    schema
}

fn kind_of(resource: &Resource) -> Value {
    json!({"group": resource.group, "version": resource.version, "kind": resource.kind})
}

/// Adds every schema that those in `schemas` refer to.
fn add_referenced(schemas: &mut Map<String, Value>, all: &Map<String, Value>) {
    let mut wanted = BTreeSet::new();
    schemas
        .values()
        .for_each(|schema| references(schema, &mut wanted));
    while let Some(name) = wanted.pop_first() {
        if schemas.contains_key(&name) {
            continue;
        }
        if let Some(schema) = all.get(&name) {
            references(schema, &mut wanted);
            schemas.insert(name, schema.clone());
        }
    }
}

fn references(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(name) = fields
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|reference| reference.strip_prefix(REFERENCE))
            {
                found.insert(name.to_owned());
            }
            fields.values().for_each(|below| references(below, found));
        }
        Value::Array(items) => items.iter().for_each(|below| references(below, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn add_paths(resource: &Resource, paths: &mut Map<String, Value>) {
    let (root, plural) = (root(resource), &resource.plural);
    let collection = if resource.namespaced {
        format!("/{root}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("/{root}/{plural}")
    };
    let name = schema_name(resource);
    if resource.namespaced {
        let list = operation(resource, "list", &format!("{name}List"), &[], &[]);
        paths.insert(format!("/{root}/{plural}"), json!({"get": list}));
    }
    let json_type = ["application/json"];
    let write = ["dryRun", "fieldManager", "fieldValidation"];
    let patches: &[&str] = if resource.is_custom() {
        &[
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
        ]
    } else {
        &[
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
        ]
    };
    let one = json!({
        "get": operation(resource, "get", &name, &[], &[]),
        "put": operation(resource, "put", &name, &write, &json_type),
        "patch": operation(resource, "patch", &name, &write, patches),
        "delete": operation(resource, "delete", &name, &["dryRun", "gracePeriodSeconds"], &json_type),
    });
    paths.insert(
        collection.clone(),
        json!({"get": operation(resource, "list", &format!("{name}List"), &[], &[]),
            "post": operation(resource, "post", &name, &write, &json_type)}),
    );
    if resource.has_status {
        let status = json!({"get": one["get"], "put": one["put"], "patch": one["patch"]});
        paths.insert(format!("{collection}/{{name}}/status"), status);
    }
    paths.insert(format!("{collection}/{{name}}"), one);
}

fn operation(resource: &Resource, action: &str, schema: &str, parameters: &[&str], bodies: &[&str]) -> Value {
    let parameter = |name: &&str| {
        let kind = if *name == "gracePeriodSeconds" {
            "integer"
        } else {
            "string"
        };
        json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
    };
    let reference = json!({"schema": {"$ref": format!("{REFERENCE}{schema}")}});
    let mut operation = json!({
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": kind_of(resource),
        "parameters": parameters.iter().map(parameter).collect::<Vec<_>>(),
        "responses": {"200": {"description": "OK", "content": {"application/json": reference}}},
    });
    if !bodies.is_empty() {
        let body = |kind: &&str| match *kind {
            "application/json" => ((*kind).to_owned(), reference.clone()),
            _ => ((*kind).to_owned(), json!({"schema": {}})),
        };
        operation["requestBody"] = json!({"content": bodies.iter().map(body).collect::<Map<_, _>>()});
    }
    operation
}

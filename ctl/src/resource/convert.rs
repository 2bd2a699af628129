//! `convert`: manifests of older versions, and Kubernetes policies, as `projectcalico.org/v3`.
//!
//! Read are `apiVersion: v1` (Calico 2), `crd.projectcalico.org/v1` (the stored form of Calico's classic mode) and
//! `networking.k8s.io/v1` NetworkPolicy; what is v3 already passes through.

mod stored;
mod v1;
mod v1_rule;

use caracal_api::k8s_policy::from_network_policy;
use caracal_api::kinds;
use caracal_api::yaml;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use crate::args::Convert;
use crate::error::Failure;
use crate::input::{self, Document};
use crate::judge;
use crate::store::{label, name_of, text_at};
use crate::terminal::{Terminal, sorted};

/// Carries out `convert`.
pub(crate) fn run(terminal: &Terminal, arguments: &Convert) -> Result<(), Failure> {
    let is_json = match arguments.output.as_str() {
        "yaml" | "yml" => false,
        "json" => true,
        other => {
            return Err(Failure::new(format!(
                "unrecognized output format '{other}'; use yaml or json"
            )));
        }
    };
    let Some(documents) = input::documents(terminal, &arguments.source())? else {
        return Ok(());
    };
    let mut converted = Vec::new();
    let mut errors = Vec::new();
    for document in &documents {
        match convert(document, arguments.ignore_validation) {
            Ok((object, notes)) => {
                for note in notes {
                    terminal.message(&format!("{}: {note}", document.origin.of_field("metadata.name")));
                }
                converted.push(sorted(object));
            }
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        return Err(Failure::new(format!(
            "Failed to convert resources: {}",
            errors.join("\n")
        )));
    }
    print(terminal, converted, is_json)
}

fn print(terminal: &Terminal, mut converted: Vec<Value>, is_json: bool) -> Result<(), Failure> {
    let failed = |error: String| Failure::new(error);
    if is_json {
        let document = if converted.len() == 1 {
            converted.pop().unwrap_or_default()
        } else {
            Value::Array(converted)
        };
        let text = serde_json::to_string_pretty(&document).map_err(|error| failed(error.to_string()))?;
        terminal.line(&text);
        return Ok(());
    }
    for (index, object) in converted.iter().enumerate() {
        if index > 0 {
            terminal.line("---");
        }
        terminal.text(&yaml::to_string(object).map_err(|error| failed(error.to_string()))?);
    }
    Ok(())
}

/// The object in v3, and what was lost on the way.
fn convert(document: &Document, ignore_validation: bool) -> Result<(Value, Vec<String>), String> {
    let object = &document.object;
    let (version, kind) = (text_at(object, "/apiVersion"), text_at(object, "/kind"));
    let place = || document.origin.of_field("kind");
    let (converted, notes) = match version {
        "v1" => v1::convert(kind, object),
        "crd.projectcalico.org/v1" => stored::convert(kind, object),
        "networking.k8s.io/v1" if kind == "NetworkPolicy" => kubernetes(object),
        "projectcalico.org/v3" if kinds::of_manifest(kind).is_some() => Ok((object.clone(), Vec::new())),
        _ => Err(format!(
            "unknown resource type ({kind}) and/or version ({version}); v1, crd.projectcalico.org/v1 and \
             networking.k8s.io/v1 NetworkPolicy can be converted"
        )),
    }
    .map_err(|error| format!("{}: {error}", place()))?;
    if !ignore_validation
        && let Some(kind) = kinds::of_manifest(text_at(&converted, "/kind"))
        && let Some(refusal) = judge::refusal_of(kind, &converted)
    {
        return Err(format!("{}: {}: {refusal}", place(), name_of(&converted)));
    }
    Ok((converted, notes))
}

/// A NetworkPolicy of Kubernetes as one of ours.
fn kubernetes(object: &Value) -> Result<(Value, Vec<String>), String> {
    let policy: NetworkPolicy = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
    let conversion = from_network_policy(&policy);
    let notes = conversion
        .errors
        .iter()
        .map(|error| format!("left out: {error}"))
        .collect();
    let mut converted = serde_json::to_value(&conversion.policy).map_err(|error| error.to_string())?;
    label(&mut converted, "NetworkPolicy");
    if let Some(Value::Object(metadata)) = converted.get_mut("metadata") {
        metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace"));
        for key in ["labels", "annotations"] {
            if let Some(value) = object.pointer(&format!("/metadata/{key}")) {
                metadata.insert(key.to_owned(), value.clone());
            }
        }
    }
    Ok((converted, notes))
}

/// A v3 object from its parts; what is null in the spec is left out.
fn object(kind: &str, metadata: Value, spec: Value) -> Value {
    let mut object = json!({"metadata": metadata, "spec": spec});
    label(&mut object, kind);
    for part in ["metadata", "spec"] {
        if let Some(Value::Object(map)) = object.get_mut(part) {
            map.retain(|_, value| !value.is_null());
        }
    }
    object
}

#[cfg(test)]
mod tests;

//! From the form in which Calico's classic mode stores objects (`crd.projectcalico.org/v1`).
//!
//! Source: `libcalico-go/lib/backend/k8s/resources/customresource.go`. The metadata that users see is kept as JSON in
//! an annotation, and policies of the default tier have its name in front of theirs.

use caracal_api::kinds::{self, Storage};
use serde_json::{Map, Value};

use crate::store::{label, text_at};

/// The annotation with the metadata.
const METADATA: &str = "projectcalico.org/metadata";
/// The kinds whose names may have the tier in front.
const POLICIES: &[&str] = &[
    "GlobalNetworkPolicy",
    "NetworkPolicy",
    "StagedGlobalNetworkPolicy",
    "StagedNetworkPolicy",
];

/// The object in v3.
pub(super) fn convert(kind: &str, stored: &Value) -> Result<(Value, Vec<String>), String> {
    let known = kinds::of_manifest(kind)
        .filter(|kind| kind.storage == Storage::CustomResource && kind.writable)
        .ok_or_else(|| format!("{kind} has no form that users write"))?;
    let mut object = stored.clone();
    label(&mut object, known.kind);
    let outer = stored
        .get("metadata")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let inner = match outer
        .get("annotations")
        .and_then(|annotations| annotations.get(METADATA))
        .and_then(Value::as_str)
    {
        Some(text) => serde_json::from_str::<Map<String, Value>>(text)
            .map_err(|error| format!("metadata.annotations[{METADATA}] cannot be read: {error}"))?,
        None => Map::new(),
    };
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), name(kind, stored, &outer, &inner).into());
    if let Some(namespace) = outer.get("namespace") {
        metadata.insert("namespace".to_owned(), namespace.clone());
    }
    for key in ["labels", "annotations"] {
        let mut all = Map::new();
        for source in [&outer, &inner] {
            let entries = source.get(key).and_then(Value::as_object).into_iter().flatten();
            all.extend(entries.map(|(key, value)| (key.clone(), value.clone())));
        }
        all.remove(METADATA);
        if !all.is_empty() {
            metadata.insert(key.to_owned(), Value::Object(all));
        }
    }
    if let Value::Object(map) = &mut object {
        map.insert("metadata".to_owned(), Value::Object(metadata));
        map.remove("status");
    }
    Ok((object, Vec::new()))
}

fn name(kind: &str, stored: &Value, outer: &Map<String, Value>, inner: &Map<String, Value>) -> String {
    let text = |map: &Map<String, Value>| map.get("name").and_then(Value::as_str).map(str::to_owned);
    if let Some(name) = text(inner).filter(|name| !name.is_empty()) {
        return name;
    }
    let name = text(outer).unwrap_or_default();
    let is_default_tier = matches!(text_at(stored, "/spec/tier"), "" | "default");
    if POLICIES.contains(&kind)
        && is_default_tier
        && let Some(own) = name.strip_prefix("default.")
    {
        return own.to_owned();
    }
    name
}

//! From `kubectl apply` to `kubectl apply --server-side`: what kubectl wrote down of its last apply is its own.
//!
//! Pure. Source: the way that Kubernetes describes for moving from one to the other; other managers have no part in it.

use serde_json::Value;

use super::{Applied, Set, managed_part, schema_of};
use crate::resource::Resource;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager that kubectl applies as.
const KUBECTL: &str = "kubectl";

fn written_down(value: &Value) -> Option<&str> {
    let annotations = value.get("metadata")?.get("annotations")?;
    annotations.get(ANNOTATION)?.as_str()
}

/// The fields that kubectl may take from others: those that its last apply set, and that nobody changed since.
pub(super) fn taken_over(resource: &Resource, applied: &Applied, old: &Value) -> Set {
    if applied.manager != KUBECTL {
        return Set::default();
    }
    let last = written_down(old).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(last) = last else {
        return Set::default();
    };
    let schema = schema_of(resource);
    let part = managed_part(resource, false, &last);
    let live = managed_part(resource, false, old);
    Set::of(&part, None, schema).subtract(&Set::of(&part, Some(&live), schema))
}

/// Writes down what is applied where something is written down.
pub(super) fn renew(applied: &Applied, new: &mut Value) {
    if applied.manager != KUBECTL || written_down(new).is_none() {
        return;
    }
    let mut last = applied.value.clone();
    if let Some(metadata) = last.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(ANNOTATION);
        }
    }
    if let Some(text) =
        new.pointer_mut("/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration")
    {
        *text = format!("{last}\n").into();
    }
}

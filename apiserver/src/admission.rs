//! What the server fills in and checks of built-in kinds.
//!
//! Defaults of Kubernetes that clients see. What Calico's admission policies do is `caracal_api::admission`.

use serde_json::{Map, Value, json};

use crate::names;
use crate::resource::Resource;
use crate::status::FieldError;

/// All annotations of an object together, in bytes.
const ANNOTATIONS_MAX: usize = 256 << 10;

/// The object at `key`, made when it is not one.
fn object<'a>(value: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let slot = value.entry(key).or_insert_with(|| json!({}));
    if !slot.is_object() {
        *slot = json!({});
    }
    #[expect(clippy::expect_used, reason = "the lines above made it an object")]
    slot.as_object_mut().expect("an object")
}

fn fill(fields: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    fields.entry(key).or_insert_with(|| value.into());
}

/// Fills in what is absent.
pub(crate) fn default(resource: &Resource, value: &mut Map<String, Value>) {
    // What has the wrong type is left to validation, which names it.
    let wrong = |found: Option<&Value>| found.is_some_and(|found| !found.is_object());
    let labels = value.get("metadata").and_then(|metadata| metadata.get("labels"));
    if wrong(labels)
        || ["metadata", "spec", "status"]
            .iter()
            .any(|key| wrong(value.get(*key)))
    {
        return;
    }
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace") => namespace(value),
        ("", "Pod") => pod(value),
        ("", "Service") => service(value),
        ("", "Secret") => fill(value, "type", "Opaque"),
        ("networking.k8s.io", "NetworkPolicy") => network_policy(value),
        _ => {}
    }
}

fn namespace(value: &mut Map<String, Value>) {
    let name = value
        .get("metadata")
        .and_then(|m| m.get("name"))
        .cloned()
        .unwrap_or_default();
    object(object(value, "metadata"), "labels").insert("kubernetes.io/metadata.name".to_owned(), name);
    fill(object(value, "spec"), "finalizers", json!(["kubernetes"]));
    fill(object(value, "status"), "phase", "Active");
}

fn pod(value: &mut Map<String, Value>) {
    let spec = object(value, "spec");
    let account = spec
        .get("serviceAccountName")
        .or_else(|| spec.get("serviceAccount"))
        .cloned();
    let account = account.unwrap_or_else(|| "default".into());
    fill(spec, "serviceAccountName", account.clone());
    fill(spec, "serviceAccount", account);
    fill(spec, "restartPolicy", "Always");
    fill(spec, "dnsPolicy", "ClusterFirst");
    fill(spec, "schedulerName", "default-scheduler");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill(spec, "enableServiceLinks", true);
    fill(spec, "securityContext", json!({}));
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let Some(container) = container.as_object_mut() else {
                continue;
            };
            fill(container, "imagePullPolicy", "IfNotPresent");
            fill(container, "resources", json!({}));
            fill(container, "terminationMessagePath", "/dev/termination-log");
            fill(container, "terminationMessagePolicy", "File");
            protocols(container.get_mut("ports"));
        }
    }
    let status = object(value, "status");
    fill(status, "phase", "Pending");
    fill(status, "qosClass", "BestEffort");
}

fn protocols(ports: Option<&mut Value>) {
    for port in ports.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            fill(port, "protocol", "TCP");
        }
    }
}

fn service(value: &mut Map<String, Value>) {
    let spec = object(value, "spec");
    fill(spec, "type", "ClusterIP");
    fill(spec, "sessionAffinity", "None");
    protocols(spec.get_mut("ports"));
    fill(object(value, "status"), "loadBalancer", json!({}));
}

fn network_policy(value: &mut Map<String, Value>) {
    let spec = object(value, "spec");
    fill(spec, "podSelector", json!({}));
    let egress = spec
        .get("egress")
        .and_then(Value::as_array)
        .is_some_and(|rules| !rules.is_empty());
    let types = if egress {
        json!(["Ingress", "Egress"])
    } else {
        json!(["Ingress"])
    };
    fill(spec, "policyTypes", types);
    for direction in ["ingress", "egress"] {
        for rule in spec
            .get_mut(direction)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            protocols(rule.get_mut("ports"));
        }
    }
}

/// Checks what every object has, and what users notice of built-in kinds.
pub(crate) fn validate(resource: &Resource, value: &Value, errors: &mut Vec<FieldError>) {
    let name = value
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let allowed = match resource.kind.as_str() {
        "Namespace" | "Service" => names::label(name),
        _ => names::subdomain(name),
    };
    if name.is_empty() {
        errors.push(FieldError::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else if let Err(why) = allowed {
        errors.push(FieldError::invalid("metadata.name", &name.into(), why));
    }
    for (path, wanted) in [
        ("/metadata/labels", "metadata.labels"),
        ("/metadata/annotations", "metadata.annotations"),
        ("/spec", "spec"),
    ] {
        if let Some(found) = value.pointer(path).filter(|found| !found.is_object()) {
            errors.push(FieldError::wrong_type(wanted, found, "object"));
        }
    }
    for (key, value) in value
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if let Err(why) = names::qualified(key) {
            errors.push(FieldError::invalid("metadata.labels", &key.as_str().into(), why));
        }
        match value.as_str().map(names::label_value) {
            Some(Ok(())) => {}
            Some(Err(why)) => errors.push(FieldError::invalid("metadata.labels", value, why)),
            None => errors.push(FieldError::wrong_type("metadata.labels", value, "string")),
        }
    }
    for (key, value) in value
        .pointer("/metadata/annotations")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if let Err(why) = names::qualified(&key.to_lowercase()) {
            errors.push(FieldError::invalid(
                "metadata.annotations",
                &key.as_str().into(),
                why,
            ));
        }
        if !value.is_string() {
            errors.push(FieldError::wrong_type("metadata.annotations", value, "string"));
        }
    }
    let annotations = value.pointer("/metadata/annotations").and_then(Value::as_object);
    let bytes = |(key, value): (&String, &Value)| key.len() + value.as_str().unwrap_or_default().len();
    if annotations.into_iter().flatten().map(bytes).sum::<usize>() > ANNOTATIONS_MAX {
        let limit = u64::try_from(ANNOTATIONS_MAX).unwrap_or(u64::MAX);
        errors.push(FieldError::too_long("metadata.annotations", limit));
    }
    if resource.group.is_empty() && resource.kind == "Pod" {
        containers(value, errors);
    }
    if resource.group == caracal_api::v3::GROUP {
        calico_values(value, errors);
    }
}

/// What Calico's validation refuses beyond the schema.
fn calico_values(value: &Value, errors: &mut Vec<FieldError>) {
    for finding in caracal_api::validate::values(value) {
        if errors.iter().any(|known| known.field == finding.field) {
            continue;
        }
        let shown = serde_json::from_str(&finding.value).unwrap_or(Value::String(finding.value));
        let detail = format!("{}; {}", finding.problem, finding.remedy);
        errors.push(FieldError::invalid(&finding.field, &shown, detail));
    }
}

fn containers(value: &Value, errors: &mut Vec<FieldError>) {
    let list = value.pointer("/spec/containers").and_then(Value::as_array);
    if list.is_none_or(Vec::is_empty) {
        errors.push(FieldError::required("spec.containers", ""));
    }
    for (index, container) in list.into_iter().flatten().enumerate() {
        let path = format!("spec.containers[{index}].name");
        match container.get("name").and_then(Value::as_str) {
            None | Some("") => errors.push(FieldError::required(&path, "")),
            Some(name) => {
                if let Err(why) = names::label(name) {
                    errors.push(FieldError::invalid(&path, &name.into(), why));
                }
            }
        }
        for (at, port) in container["ports"].as_array().into_iter().flatten().enumerate() {
            let number = &port["containerPort"];
            if !number
                .as_u64()
                .is_some_and(|number| (1..=65535).contains(&number))
            {
                let path = format!("spec.containers[{index}].ports[{at}].containerPort");
                errors.push(FieldError::invalid(
                    &path,
                    number,
                    "must be between 1 and 65535, inclusive",
                ));
            }
        }
    }
}

/// What of a pod's spec may change after its creation is left out; so is the node as long as there is none.
fn fixed_part(pod: &Value, old: &Value) -> Value {
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    let bound = old.pointer("/spec/nodeName").is_some_and(|node| node != "");
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|name, _| match name.as_str() {
            "activeDeadlineSeconds" | "ephemeralContainers" | "schedulingGates" => false,
            "terminationGracePeriodSeconds" | "tolerations" => false,
            "nodeName" => bound,
            _ => true,
        });
        for list in ["containers", "initContainers"] {
            let containers = fields.get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
                container.remove("image");
            }
        }
    }
    spec
}

/// Checks what may not change: a pod stays as it was created, and on its node.
pub(crate) fn validate_change(resource: &Resource, old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    if !resource.group.is_empty() || resource.kind != "Pod" {
        return;
    }
    if fixed_part(old, old) != fixed_part(new, old) {
        let detail = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        errors.push(FieldError::forbidden("spec", detail));
    }
}

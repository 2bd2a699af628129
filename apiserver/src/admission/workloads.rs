//! Pods, nodes and the sets that make pods: what is filled in, what is checked, what of a pod stays as it is.

use serde_json::{Map, Value, json};

use super::{fill, object};
use crate::names;
use crate::resource::Resource;
use crate::status::FieldError;

/// How long a pod stays on a node that is not well, in seconds.
const TOLERATED_SECONDS: u64 = 300;

/// What a node says of its machine.
const NODE_INFO: [&str; 10] = [
    "architecture",
    "bootID",
    "containerRuntimeVersion",
    "kernelVersion",
    "kubeProxyVersion",
    "kubeletVersion",
    "machineID",
    "operatingSystem",
    "osImage",
    "systemUUID",
];

pub(super) fn pod(value: &mut Map<String, Value>) {
    let spec = object(value, "spec");
    let account = spec
        .get("serviceAccountName")
        .or_else(|| spec.get("serviceAccount"))
        .cloned();
    if let Some(account) = account {
        fill(spec, "serviceAccountName", account.clone());
        fill(spec, "serviceAccount", account);
    }
    fill(spec, "enableServiceLinks", true);
    template(spec);
    let class = quality(spec);
    let status = object(value, "status");
    fill(status, "phase", "Pending");
    fill(status, "qosClass", class);
    times(status, &["lastProbeTime", "lastTransitionTime"]);
    same_first(status, "podIP", "podIPs", |address| json!({"ip": address}));
    same_first(status, "hostIP", "hostIPs", |address| json!({"ip": address}));
}

/// What the plug-ins for priorities, tolerations and service accounts add to a pod.
pub(super) fn admit_pod(value: &mut Map<String, Value>) {
    let spec = object(value, "spec");
    fill(spec, "serviceAccountName", "default");
    let account = spec.get("serviceAccountName").cloned().unwrap_or_default();
    fill(spec, "serviceAccount", account);
    fill(spec, "priority", 0);
    fill(spec, "preemptionPolicy", "PreemptLowerPriority");
    tolerations(spec);
}

/// Conditions have times, be they known or not.
fn times(status: &mut Map<String, Value>, names: &[&str]) {
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
        names.iter().for_each(|name| fill(condition, name, Value::Null));
    }
}

/// The quality of service of a pod: how its containers ask for processors and memory, and how they are limited.
fn quality(spec: &Map<String, Value>) -> &'static str {
    let (mut asks, mut all_limited) = (false, true);
    let lists = ["containers", "initContainers"];
    let containers = lists
        .iter()
        .filter_map(|list| spec.get(*list)?.as_array())
        .flatten();
    for container in containers {
        for resource in ["cpu", "memory"] {
            let of = |part: &str| {
                let found = container.pointer(&format!("/resources/{part}/{resource}"));
                found.filter(|amount| !matches!(amount.as_str(), Some("0")) && **amount != 0)
            };
            let (request, limit) = (of("requests"), of("limits"));
            asks |= request.is_some() || limit.is_some();
            all_limited &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (asks, all_limited) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// The list that goes with a single value, when it is not told.
fn same_first(fields: &mut Map<String, Value>, one: &str, all: &str, item: impl Fn(&Value) -> Value) {
    let first = fields
        .get(one)
        .filter(|first| first.as_str().is_some_and(|text| !text.is_empty()));
    if let Some(list) = first.map(|first| json!([item(first)]))
        && fields
            .get(all)
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty)
    {
        fields.insert(all.to_owned(), list);
    }
}

pub(super) fn node(value: &mut Map<String, Value>) {
    same_first(object(value, "spec"), "podCIDR", "podCIDRs", Value::clone);
    let status = object(value, "status");
    fill(
        object(object(status, "daemonEndpoints"), "kubeletEndpoint"),
        "Port",
        0,
    );
    let info = object(status, "nodeInfo");
    NODE_INFO.iter().for_each(|name| fill(info, name, ""));
    times(status, &["lastHeartbeatTime", "lastTransitionTime"]);
}

/// What every pod has, also one that is described only.
fn template(spec: &mut Map<String, Value>) {
    fill(spec, "restartPolicy", "Always");
    fill(spec, "dnsPolicy", "ClusterFirst");
    fill(spec, "schedulerName", "default-scheduler");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill(spec, "securityContext", json!({}));
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
            fill(container, "imagePullPolicy", pull_policy(image));
            fill(container, "resources", json!({}));
            fill(container, "terminationMessagePath", "/dev/termination-log");
            fill(container, "terminationMessagePolicy", "File");
            protocols(container.get_mut("ports"));
        }
    }
}

/// Images whose tag may mean another one tomorrow are pulled each time.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or_default();
    match name
        .split_once('@')
        .map_or_else(|| name.split_once(':').map(|(_, tag)| tag), |_| Some("digest"))
    {
        None | Some("latest") => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn tolerations(spec: &mut Map<String, Value>) {
    let list = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covers = |one: &Value| {
            let text = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
            (text("key") == key || text("key").is_empty()) && matches!(text("effect"), "" | "NoExecute")
        };
        if !list.iter().any(covers) {
            list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATED_SECONDS}));
        }
    }
}

pub(super) fn protocols(ports: Option<&mut Value>) {
    for port in ports.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            fill(port, "protocol", "TCP");
        }
    }
}

/// Deployments, daemon sets and replica sets.
pub(super) fn set(kind: &str, value: &mut Map<String, Value>) {
    let spec = object(value, "spec");
    if spec
        .get("template")
        .and_then(|template| template.get("spec"))
        .is_some_and(Value::is_object)
    {
        template(object(object(spec, "template"), "spec"));
    }
    match kind {
        "Deployment" => {
            fill(spec, "replicas", 1);
            fill(spec, "revisionHistoryLimit", 10);
            fill(spec, "progressDeadlineSeconds", 600);
            let strategy = object(spec, "strategy");
            fill(strategy, "type", "RollingUpdate");
            if strategy.get("type").is_some_and(|kind| kind == "RollingUpdate") {
                let rolling = object(strategy, "rollingUpdate");
                fill(rolling, "maxSurge", "25%");
                fill(rolling, "maxUnavailable", "25%");
            }
            object(value, "status");
        }
        "DaemonSet" => {
            let annotations = object(object(value, "metadata"), "annotations");
            fill(annotations, "deprecated.daemonset.template.generation", "1");
            let spec = object(value, "spec");
            fill(spec, "revisionHistoryLimit", 10);
            let strategy = object(spec, "updateStrategy");
            fill(strategy, "type", "RollingUpdate");
            if strategy.get("type").is_some_and(|kind| kind == "RollingUpdate") {
                let rolling = object(strategy, "rollingUpdate");
                fill(rolling, "maxSurge", 0);
                fill(rolling, "maxUnavailable", 1);
            }
            let status = object(value, "status");
            for count in [
                "currentNumberScheduled",
                "desiredNumberScheduled",
                "numberMisscheduled",
                "numberReady",
            ] {
                fill(status, count, 0);
            }
        }
        "ReplicaSet" => {
            fill(spec, "replicas", 1);
            fill(object(value, "status"), "replicas", 0);
        }
        _ => {}
    }
}

/// Checks a set: it selects the pods that it describes.
pub(super) fn check_set(value: &Value, errors: &mut Vec<FieldError>) {
    let spec = &value["spec"];
    let labels = spec.pointer("/selector/matchLabels").and_then(Value::as_object);
    let expressions = spec
        .pointer("/selector/matchExpressions")
        .and_then(Value::as_array);
    let own = spec.pointer("/template/metadata/labels");
    if spec.get("selector").is_none_or(|selector| !selector.is_object()) {
        errors.push(FieldError::required("spec.selector", ""));
    }
    let fits = labels.is_some_and(|labels| {
        labels
            .iter()
            .all(|(key, value)| own.and_then(|own| own.get(key)) == Some(value))
    });
    if !fits && expressions.is_none_or(Vec::is_empty) {
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(
            "spec.template.metadata.labels",
            own.unwrap_or(&Value::Null),
            detail,
        ));
    }
    check_pod(&spec["template"]["spec"], "spec.template.spec", errors);
}

/// Checks what users notice of a pod.
pub(super) fn check_pod(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let list = spec.get("containers").and_then(Value::as_array);
    if list.is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(&format!("{path}.containers"), ""));
    }
    let mut seen: Vec<&str> = Vec::new();
    for (index, container) in list.into_iter().flatten().enumerate() {
        let at = format!("{path}.containers[{index}]");
        match container.get("name").and_then(Value::as_str) {
            None | Some("") => errors.push(FieldError::required(&format!("{at}.name"), "")),
            Some(name) => {
                if let Err(why) = names::label(name) {
                    errors.push(FieldError::invalid(&format!("{at}.name"), &name.into(), why));
                }
                if seen.contains(&name) {
                    errors.push(FieldError::duplicate(&format!("{at}.name"), &name.into()));
                }
                seen.push(name);
            }
        }
        if container
            .get("image")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .is_empty()
        {
            errors.push(FieldError::required(&format!("{at}.image"), ""));
        }
        for (at_port, port) in container["ports"].as_array().into_iter().flatten().enumerate() {
            let path = format!("{at}.ports[{at_port}].containerPort");
            let number = &port["containerPort"];
            match number.as_i64() {
                Some(1..=65535) => {}
                None | Some(0) => errors.push(FieldError::required(&path, "")),
                Some(_) => {
                    let detail = "must be between 1 and 65535, inclusive";
                    errors.push(FieldError::invalid(&path, number, detail));
                }
            }
        }
    }
    let known = ["Always", "OnFailure", "Never"];
    if let Some(found) = spec
        .get("restartPolicy")
        .filter(|found| !known.iter().any(|known| *found == known))
    {
        let known = known.map(str::to_owned);
        errors.push(FieldError::not_supported(
            &format!("{path}.restartPolicy"),
            found,
            &known,
        ));
    }
}

/// What of a pod's spec may change after its creation, beside images.
const MAY_CHANGE: [&str; 5] = [
    "activeDeadlineSeconds",
    "ephemeralContainers",
    "schedulingGates",
    "terminationGracePeriodSeconds",
    "tolerations",
];

/// What of a pod's spec may change after its creation is left out.
fn fixed_part(pod: &Value) -> Value {
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|name, _| !MAY_CHANGE.contains(&name.as_str()));
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
pub(super) fn validate_change(resource: &Resource, old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    if !resource.group.is_empty() || resource.kind != "Pod" {
        return;
    }
    let count = |pod: &Value, list: &str| {
        let list = pod.pointer(list).and_then(Value::as_array);
        list.map_or(0, Vec::len)
    };
    for (list, field) in [
        ("/spec/containers", "spec.containers"),
        ("/spec/initContainers", "spec.initContainers"),
    ] {
        if count(old, list) != count(new, list) {
            let detail = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(field, detail));
            return;
        }
    }
    if fixed_part(old) != fixed_part(new) {
        let detail = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        errors.push(FieldError::forbidden("spec", detail));
    }
}

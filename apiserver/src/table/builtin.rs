//! The columns of built-in kinds. Source: the printers of Kubernetes 1.33 for the kinds that are served here.

mod columns;
mod event;
mod pod;
mod words;

use serde_json::{Value, json};

use super::duration::{age, since};
use super::shown;
use columns::{
    ACCOUNTS, CONFIGS, Columns, DAEMON_SETS, DEFINITION, DEPLOYMENTS, ENDPOINTS, EVENTS, LEASES, NAMESPACES,
    NODES, PODS, POLICIES, REPLICA_SETS, SECRETS, SERVICES, SLICES,
};

pub(super) use words::{own_words, shown_field};

type Cells = fn(&Value) -> Vec<Value>;

const NONE: &str = "<none>";

/// The columns of a stored kind and the function that fills them; `None` for kinds that have a name and an age only.
pub(super) fn printer(storage: &str) -> Option<(Columns, Cells)> {
    Some(match storage {
        "pods" => (PODS, pod::cells),
        "nodes" => (NODES, node),
        "namespaces" => (NAMESPACES, namespace),
        "networkpolicies.networking.k8s.io" => (POLICIES, network_policy),
        "services" => (SERVICES, service),
        "serviceaccounts" => (ACCOUNTS, account),
        "configmaps" => (CONFIGS, config),
        "secrets" => (SECRETS, secret),
        "endpoints" => (ENDPOINTS, endpoints),
        "endpointslices.discovery.k8s.io" => (SLICES, slice),
        "deployments.apps" => (DEPLOYMENTS, deployment),
        "replicasets.apps" => (REPLICA_SETS, replica_set),
        "daemonsets.apps" => (DAEMON_SETS, daemon_set),
        "leases.coordination.k8s.io" => (LEASES, lease),
        "events" => (EVENTS, event::cells),
        crate::resource::DEFINITIONS => (DEFINITION, definition),
        _ => return None,
    })
}

/// The text at a pointer, or something else when there is none.
fn text_or(value: &Value, pointer: &str, otherwise: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => otherwise.to_owned(),
        Some(Value::String(text)) if text.is_empty() => otherwise.to_owned(),
        Some(found) => shown(found),
    }
}

fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn name(value: &Value) -> Value {
    text_or(value, "/metadata/name", "").into()
}

fn joined(parts: impl IntoIterator<Item = String>) -> String {
    let all: Vec<String> = parts.into_iter().collect();
    if all.is_empty() {
        NONE.to_owned()
    } else {
        all.join(",")
    }
}

/// Labels or a plain selector.
fn pairs(value: &Value, pointer: &str) -> String {
    let fields = value.pointer(pointer).and_then(Value::as_object);
    joined(
        fields
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}={}", shown(value))),
    )
}

/// A label selector with expressions.
fn selector(value: &Value, pointer: &str) -> String {
    let labels = value
        .pointer(&format!("{pointer}/matchLabels"))
        .and_then(Value::as_object);
    let mut parts: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", shown(value)))
        .collect();
    for expression in items(value, &format!("{pointer}/matchExpressions")) {
        let key = text_or(expression, "/key", "");
        let values: Vec<String> = items(expression, "/values").iter().map(shown).collect();
        let values = values.join(",");
        parts.push(match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key,
        });
    }
    joined(parts)
}

/// What a set selects, also in the plain form of replication controllers.
pub(super) fn selector_text(object: &Value) -> String {
    let plain = object.pointer("/spec/selector/matchLabels").is_none()
        && object.pointer("/spec/selector/matchExpressions").is_none();
    let text = if plain {
        pairs(object, "/spec/selector")
    } else {
        selector(object, "/spec/selector")
    };
    if text == NONE { String::new() } else { text }
}

fn node(object: &Value) -> Vec<Value> {
    let ready = items(object, "/status/conditions")
        .iter()
        .find(|condition| condition["type"] == "Ready");
    let mut status = match ready {
        None => "Unknown".to_owned(),
        Some(condition) if condition["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
    };
    if object.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let roles = labels.into_iter().flatten().filter_map(|(key, value)| {
        let role = key.strip_prefix("node-role.kubernetes.io/").map(str::to_owned);
        let old = || (key == "kubernetes.io/role").then(|| shown(value));
        role.or_else(old).filter(|role| !role.is_empty())
    });
    let address = |kind: &str| {
        let found = items(object, "/status/addresses")
            .iter()
            .find(|address| address["type"] == kind);
        found.map_or_else(|| NONE.to_owned(), |address| shown(&address["address"]))
    };
    let info = |key: &str, otherwise: &str| text_or(object, &format!("/status/nodeInfo/{key}"), otherwise);
    vec![
        name(object),
        status.into(),
        joined(roles).into(),
        age(object),
        info("kubeletVersion", "").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        info("osImage", "<unknown>").into(),
        info("kernelVersion", "<unknown>").into(),
        info("containerRuntimeVersion", "<unknown>").into(),
    ]
}

fn namespace(object: &Value) -> Vec<Value> {
    vec![
        name(object),
        text_or(object, "/status/phase", "").into(),
        age(object),
    ]
}

fn network_policy(object: &Value) -> Vec<Value> {
    vec![
        name(object),
        selector(object, "/spec/podSelector").into(),
        age(object),
    ]
}

fn service(object: &Value) -> Vec<Value> {
    let kind = text_or(object, "/spec/type", "ClusterIP");
    let mut external: Vec<String> = items(object, "/status/loadBalancer/ingress")
        .iter()
        .map(|ingress| text_or(ingress, "/ip", &text_or(ingress, "/hostname", "")))
        .collect();
    external.extend(items(object, "/spec/externalIPs").iter().map(shown));
    let external = match kind.as_str() {
        "ExternalName" => text_or(object, "/spec/externalName", NONE),
        "LoadBalancer" if external.is_empty() => "<pending>".to_owned(),
        _ => joined(external),
    };
    let ports = items(object, "/spec/ports").iter().map(|port| {
        let protocol = text_or(port, "/protocol", "TCP");
        match number(port, "/nodePort") {
            0 => format!("{}/{protocol}", number(port, "/port")),
            node => format!("{}:{node}/{protocol}", number(port, "/port")),
        }
    });
    vec![
        name(object),
        kind.into(),
        text_or(object, "/spec/clusterIP", NONE).into(),
        external.into(),
        joined(ports).into(),
        age(object),
        pairs(object, "/spec/selector").into(),
    ]
}

fn account(object: &Value) -> Vec<Value> {
    let secrets = items(object, "/secrets").len();
    vec![name(object), secrets.into(), age(object)]
}

fn entries(object: &Value, keys: &[&str]) -> usize {
    let count = |key: &&str| {
        object
            .get(*key)
            .and_then(Value::as_object)
            .map_or(0, serde_json::Map::len)
    };
    keys.iter().map(count).sum()
}

fn config(object: &Value) -> Vec<Value> {
    let data = entries(object, &["data", "binaryData"]);
    vec![name(object), data.into(), age(object)]
}

fn secret(object: &Value) -> Vec<Value> {
    let data = entries(object, &["data"]);
    vec![
        name(object),
        text_or(object, "/type", "").into(),
        data.into(),
        age(object),
    ]
}

/// At most three, and how many more there are.
fn shortened(all: &[String]) -> String {
    match all {
        [] => NONE.to_owned(),
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first},{second},{third} + {} more...", rest.len())
        }
        all => all.join(","),
    }
}

fn endpoints(object: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in items(object, "/subsets") {
        for address in items(subset, "/addresses") {
            let ip = text_or(address, "/ip", "");
            let ports = items(subset, "/ports");
            if ports.is_empty() {
                all.push(ip.clone());
            }
            let bracketed = if ip.contains(':') { format!("[{ip}]") } else { ip };
            all.extend(
                ports
                    .iter()
                    .map(|port| format!("{bracketed}:{}", number(port, "/port"))),
            );
        }
    }
    vec![name(object), shortened(&all).into(), age(object)]
}

fn slice(object: &Value) -> Vec<Value> {
    let ports: Vec<String> = items(object, "/ports")
        .iter()
        .map(|port| text_or(port, "/port", "*"))
        .collect();
    let ports = if ports.is_empty() {
        "<unset>".to_owned()
    } else {
        shortened(&ports)
    };
    let addresses = items(object, "/endpoints")
        .iter()
        .flat_map(|endpoint| items(endpoint, "/addresses"));
    let addresses: Vec<String> = addresses.map(shown).collect();
    let addresses = if addresses.is_empty() {
        "<unset>".to_owned()
    } else {
        shortened(&addresses)
    };
    vec![
        name(object),
        text_or(object, "/addressType", "").into(),
        ports.into(),
        addresses.into(),
        age(object),
    ]
}

/// Names and images of the containers of a template, and the selector.
fn template(object: &Value) -> [Value; 3] {
    let containers = items(object, "/spec/template/spec/containers");
    let column = |key: &str| -> Value {
        let all: Vec<String> = containers
            .iter()
            .map(|container| text_or(container, key, ""))
            .collect();
        all.join(",").into()
    };
    [
        column("/name"),
        column("/image"),
        selector(object, "/spec/selector").into(),
    ]
}

fn deployment(object: &Value) -> Vec<Value> {
    let wanted = object
        .pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .unwrap_or(1);
    let ready = format!("{}/{wanted}", number(object, "/status/readyReplicas"));
    let count = |key: &str| -> Value { number(object, key).into() };
    let mut cells = vec![
        name(object),
        ready.into(),
        count("/status/updatedReplicas"),
        count("/status/availableReplicas"),
        age(object),
    ];
    cells.extend(template(object));
    cells
}

fn replica_set(object: &Value) -> Vec<Value> {
    let wanted = object
        .pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .unwrap_or(1);
    let mut cells = vec![
        name(object),
        wanted.into(),
        number(object, "/status/replicas").into(),
        number(object, "/status/readyReplicas").into(),
        age(object),
    ];
    cells.extend(template(object));
    cells
}

fn daemon_set(object: &Value) -> Vec<Value> {
    let count = |key: &str| -> Value { number(object, &format!("/status/{key}")).into() };
    let mut cells = vec![
        name(object),
        count("desiredNumberScheduled"),
        count("currentNumberScheduled"),
        count("numberReady"),
        count("updatedNumberScheduled"),
        count("numberAvailable"),
        pairs(object, "/spec/template/spec/nodeSelector").into(),
        age(object),
    ];
    cells.extend(template(object));
    cells
}

fn lease(object: &Value) -> Vec<Value> {
    vec![
        name(object),
        text_or(object, "/spec/holderIdentity", "").into(),
        age(object),
    ]
}

fn definition(object: &Value) -> Vec<Value> {
    let versions = items(object, "/spec/versions").iter().map(|version| {
        let stored = if version["storage"] == true {
            "(storage)"
        } else {
            ""
        };
        format!("{}{stored}", text_or(version, "/name", ""))
    });
    vec![
        name(object),
        text_or(object, "/spec/scope", "").into(),
        joined(versions).into(),
        json!(text_or(object, "/metadata/creationTimestamp", "")),
    ]
}

//! Services, endpoints and network policies: what is filled in and what is checked.

use serde_json::{Map, Value, json};

use super::workloads::protocols;
use super::{fill, object};
use crate::status::FieldError;

const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
const PORT: &str = "must be between 1 and 65535, inclusive";

fn each(list: Option<&mut Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    let items = list.and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut)
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (usize, &'a Value)> + use<'a> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
}

pub(super) fn service(value: &mut Map<String, Value>) {
    let spec = object(value, "spec");
    fill(spec, "type", "ClusterIP");
    fill(spec, "sessionAffinity", "None");
    if spec.get("type").is_some_and(|kind| kind != "ExternalName") {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    protocols(spec.get_mut("ports"));
    for port in each(spec.get_mut("ports")) {
        if let Some(number) = port.get("port").cloned() {
            fill(port, "targetPort", number);
        }
    }
    fill(object(value, "status"), "loadBalancer", json!({}));
}

/// Families and addresses: the server gives them out.
pub(super) fn admit_service(value: &mut Map<String, Value>) {
    let spec = object(value, "spec");
    if spec.get("type").is_some_and(|kind| kind != "ExternalName") {
        fill(spec, "ipFamilies", json!(["IPv4"]));
        fill(spec, "ipFamilyPolicy", "SingleStack");
    }
    if let Some(address) = spec.get("clusterIP").filter(|address| **address != "").cloned() {
        fill(spec, "clusterIPs", json!([address]));
    }
}

pub(super) fn endpoints(value: &mut Map<String, Value>) {
    for subset in each(value.get_mut("subsets")) {
        protocols(subset.get_mut("ports"));
    }
}

pub(super) fn slice(value: &mut Map<String, Value>) {
    for endpoint in each(value.get_mut("endpoints")) {
        fill(endpoint, "conditions", json!({}));
    }
    protocols(value.get_mut("ports"));
    for port in each(value.get_mut("ports")) {
        fill(port, "name", "");
    }
}

pub(super) fn policy(value: &mut Map<String, Value>) {
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
        for rule in each(spec.get_mut(direction)) {
            protocols(rule.get_mut("ports"));
        }
    }
}

pub(super) fn check_service(value: &Value, errors: &mut Vec<FieldError>) {
    let spec = &value["spec"];
    let needs_ports = spec["type"] != "ExternalName" && spec["clusterIP"] != "None";
    if needs_ports && items(spec, "ports").next().is_none() {
        errors.push(FieldError::required("spec.ports", ""));
    }
    let several = items(spec, "ports").count() > 1;
    for (index, port) in items(spec, "ports") {
        if several && port["name"].as_str().unwrap_or_default().is_empty() {
            errors.push(FieldError::required(&format!("spec.ports[{index}].name"), ""));
        }
        if !port["port"]
            .as_i64()
            .is_some_and(|number| (1..=65535).contains(&number))
        {
            errors.push(FieldError::invalid(
                &format!("spec.ports[{index}].port"),
                &port["port"],
                PORT,
            ));
        }
    }
}

pub(super) fn check_policy(value: &Value, errors: &mut Vec<FieldError>) {
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (at, rule) in items(&value["spec"], direction) {
            let path = format!("spec.{direction}[{at}]");
            for (index, peer) in items(rule, peers) {
                check_block(
                    &peer["ipBlock"],
                    &format!("{path}.{peers}[{index}].ipBlock"),
                    errors,
                );
            }
            for (index, port) in items(rule, "ports") {
                check_port(port, &format!("{path}.ports[{index}]"), errors);
            }
        }
    }
}

fn check_block(block: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if !block.is_object() {
        return;
    }
    let net = |value: &Value| value.as_str().and_then(|text| text.parse::<ipnet::IpNet>().ok());
    let whole = net(&block["cidr"]);
    match block["cidr"].as_str() {
        None | Some("") => errors.push(FieldError::required(&format!("{path}.cidr"), "")),
        Some(_) if whole.is_none() => {
            errors.push(FieldError::invalid(&format!("{path}.cidr"), &block["cidr"], CIDR));
        }
        Some(_) => {}
    }
    for (index, except) in items(block, "except") {
        let path = format!("{path}.except[{index}]");
        match (net(except), whole) {
            (None, _) => errors.push(FieldError::invalid(&path, except, CIDR)),
            (Some(part), Some(whole)) if !whole.contains(&part) || part == whole => {
                let detail = format!("must be a strict subset of `cidr` {}", block["cidr"]);
                errors.push(FieldError::invalid(&path, except, detail));
            }
            (Some(_), _) => {}
        }
    }
}

fn check_port(port: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let number = port["port"].as_i64();
    if number.is_some_and(|number| !(1..=65535).contains(&number)) {
        errors.push(FieldError::invalid(&format!("{path}.port"), &port["port"], PORT));
    }
    let end = &port["endPort"];
    let Some(last) = end.as_i64() else { return };
    let path = format!("{path}.endPort");
    match number {
        None => errors.push(FieldError::invalid(
            &path,
            end,
            "may not be specified when `port` is non-numeric",
        )),
        Some(first) if last < first => {
            errors.push(FieldError::invalid(
                &path,
                end,
                "must be greater than or equal to `port`",
            ));
        }
        Some(_) if last > 65535 => errors.push(FieldError::invalid(&path, end, PORT)),
        Some(_) => {}
    }
}

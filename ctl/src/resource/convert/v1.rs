//! From the manifests of Calico 2 (`apiVersion: v1`).
//!
//! Source: `libcalico-go/lib/upgrade/converters`. Names lose what a v3 name may not have, addresses become names, tags
//! become labels, and untracked and pre-DNAT policies get `applyOnForward`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::object;
use super::v1_rule::rules;
use crate::store::text_at;

type Converted = Result<(Value, Vec<String>), String>;

/// The object in v3.
pub(super) fn convert(kind: &str, old: &Value) -> Converted {
    match kind {
        "bgpPeer" => bgp_peer(old),
        "hostEndpoint" => host_endpoint(old),
        "ipPool" => pool(old),
        "node" => node(old),
        "policy" => policy(old),
        "profile" => profile(old),
        "workloadEndpoint" => Err(
            "workload endpoints are derived from pods and need no manifest; leave the document out"
                .to_owned(),
        ),
        other => Err(format!(
            "unknown resource type ({other}) and/or version (v1); Calico had bgpPeer, hostEndpoint, ipPool, node, \
             policy, profile and workloadEndpoint"
        )),
    }
}

fn required<'a>(old: &'a Value, pointer: &str) -> Result<&'a str, String> {
    let text = text_at(old, pointer);
    if text.is_empty() {
        let field = pointer.trim_start_matches('/').replace('/', ".");
        return Err(format!("{field} is missing; the old resource is named by it"));
    }
    Ok(text)
}

fn at<'a>(old: &'a Value, pointer: &str) -> &'a Value {
    old.pointer(pointer).unwrap_or(&Value::Null)
}

/// A name with what v3 allows: lower case, and dashes for the rest. Said when it changed.
fn name(old: &str, notes: &mut Vec<String>) -> String {
    let new: String = old
        .to_ascii_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') {
                c
            } else {
                '-'
            }
        })
        .collect();
    let new = new.trim_matches(['-', '.']).to_owned();
    if new != old {
        notes.push(format!("name {old:?} becomes {new:?}"));
    }
    new
}

/// An address or CIDR as a name.
fn address_name(address: &str) -> String {
    address.replace(['.', ':', '/'], "-")
}

fn bgp_peer(old: &Value) -> Converted {
    let peer = required(old, "/metadata/peerIP")?;
    let mut notes = Vec::new();
    let (name, node) = match text_at(old, "/metadata/scope") {
        "global" => (address_name(peer), Value::Null),
        "node" => {
            let node = name(required(old, "/metadata/node")?, &mut notes);
            (format!("{node}.{}", address_name(peer)), Value::from(node))
        }
        other => {
            return Err(format!("metadata.scope is {other:?}; it was global or node"));
        }
    };
    let spec = json!({"peerIP": peer, "node": node, "asNumber": as_number(at(old, "/spec/asNumber"))?});
    Ok((object("BGPPeer", json!({"name": name}), spec), notes))
}

/// An AS number, which could be written as a text and with a dot.
fn as_number(value: &Value) -> Result<Value, String> {
    let Value::String(text) = value else {
        return Ok(value.clone());
    };
    let parsed = match text.split_once('.') {
        Some((high, low)) => high
            .parse::<u16>()
            .ok()
            .zip(low.parse::<u16>().ok())
            .map(|(high, low)| u32::from(high) << 16 | u32::from(low)),
        None => text.parse::<u32>().ok(),
    };
    parsed
        .map(Value::from)
        .ok_or_else(|| format!("{text:?} is no AS number; write 64512 or 1.10"))
}

fn host_endpoint(old: &Value) -> Converted {
    let mut notes = Vec::new();
    let node = name(required(old, "/metadata/node")?, &mut notes);
    let own = name(required(old, "/metadata/name")?, &mut notes);
    let metadata = json!({"name": format!("{node}.{own}"), "labels": at(old, "/metadata/labels")});
    let profiles: Value = match at(old, "/spec/profiles") {
        Value::Array(profiles) => profiles
            .iter()
            .filter_map(Value::as_str)
            .map(|profile| name(profile, &mut notes))
            .collect(),
        _ => Value::Null,
    };
    let spec = json!({
        "node": node,
        "interfaceName": at(old, "/spec/interfaceName"),
        "expectedIPs": at(old, "/spec/expectedIPs"),
        "profiles": profiles,
    });
    Ok((object("HostEndpoint", metadata, spec), notes))
}

fn pool(old: &Value) -> Converted {
    let cidr = required(old, "/metadata/cidr")?;
    let is_on = at(old, "/spec/ipip/enabled") == &Value::Bool(true);
    let mode = match (is_on, text_at(old, "/spec/ipip/mode")) {
        (false, _) => "Never",
        (true, "" | "always") => "Always",
        (true, "cross-subnet") => "CrossSubnet",
        (true, other) => {
            return Err(format!(
                "spec.ipip.mode is {other:?}; it was always or cross-subnet"
            ));
        }
    };
    let spec = json!({
        "cidr": cidr,
        "ipipMode": mode,
        "natOutgoing": at(old, "/spec/nat-outgoing"),
        "disabled": at(old, "/spec/disabled"),
    });
    Ok((
        object("IPPool", json!({"name": address_name(cidr)}), spec),
        Vec::new(),
    ))
}

fn node(old: &Value) -> Converted {
    let mut notes = Vec::new();
    let name = name(required(old, "/metadata/name")?, &mut notes);
    let mut spec = json!({});
    if let Some(Value::Object(bgp)) = old.pointer("/spec/bgp") {
        let mut bgp: Map<String, Value> = bgp.clone();
        if let Some(number) = bgp.get("asNumber") {
            let number = as_number(number)?;
            bgp.insert("asNumber".to_owned(), number);
        }
        spec = json!({"bgp": bgp});
    }
    Ok((object("Node", json!({"name": name}), spec), notes))
}

fn policy(old: &Value) -> Converted {
    let mut notes = Vec::new();
    let name = name(required(old, "/metadata/name")?, &mut notes);
    let is_true = |pointer: &str| at(old, pointer) == &Value::Bool(true);
    let untracked = is_true("/spec/doNotTrack");
    let before_nat = is_true("/spec/preDNAT");
    let (ingress, egress) = (rules(at(old, "/spec/ingress"))?, rules(at(old, "/spec/egress"))?);
    let types = match at(old, "/spec/types") {
        Value::Array(types) => types.iter().map(capital).collect(),
        _ => types_of(&ingress, &egress, before_nat),
    };
    let spec = json!({
        "order": at(old, "/spec/order"),
        "selector": at(old, "/spec/selector"),
        "types": types,
        "ingress": ingress,
        "egress": egress,
        "doNotTrack": untracked.then_some(true),
        "preDNAT": before_nat.then_some(true),
        // Such policies always met forwarded traffic too; v3 wants it said.
        "applyOnForward": (untracked || before_nat).then_some(true),
    });
    let metadata = json!({"name": name, "annotations": at(old, "/metadata/annotations")});
    Ok((object("GlobalNetworkPolicy", metadata, spec), notes))
}

fn capital(word: &Value) -> Value {
    match word.as_str() {
        Some("ingress") => "Ingress".into(),
        Some("egress") => "Egress".into(),
        _ => word.clone(),
    }
}

/// The directions that a policy without types meant.
fn types_of(ingress: &Value, egress: &Value, before_nat: bool) -> Value {
    match (ingress.is_null(), egress.is_null()) {
        (_, _) if before_nat => json!(["Ingress"]),
        (true, false) => json!(["Egress"]),
        (false, true) => json!(["Ingress"]),
        _ => json!(["Ingress", "Egress"]),
    }
}

/// A profile: its tags become labels, and its rules a policy cannot be told from here, so both stay in the profile.
fn profile(old: &Value) -> Converted {
    let mut notes = Vec::new();
    let name = name(required(old, "/metadata/name")?, &mut notes);
    let mut labels: Map<String, Value> = at(old, "/metadata/labels")
        .as_object()
        .cloned()
        .unwrap_or_default();
    let tags: BTreeSet<&str> = at(old, "/metadata/tags")
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for tag in tags {
        if let Some(value) = labels.get(tag).filter(|value| value.as_str() != Some("")) {
            notes.push(format!(
                "tag {tag:?} is lost: there is a label of that name with the value {value}"
            ));
            continue;
        }
        labels.insert(tag.to_owned(), "".into());
    }
    let spec = json!({
        "labelsToApply": (!labels.is_empty()).then_some(labels),
        "ingress": rules(at(old, "/spec/ingress"))?,
        "egress": rules(at(old, "/spec/egress"))?,
    });
    Ok((object("Profile", json!({"name": name}), spec), notes))
}

//! Rules of Calico 2.

use serde_json::{Map, Value, json};

/// The rules in v3; null stays null.
pub(super) fn rules(old: &Value) -> Result<Value, String> {
    match old {
        Value::Null => Ok(Value::Null),
        Value::Array(rules) => rules
            .iter()
            .map(rule)
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array),
        other => Err(format!("{other} is no list of rules")),
    }
}

fn rule(old: &Value) -> Result<Value, String> {
    let Value::Object(old) = old else {
        return Err(format!("{old} is no rule"));
    };
    let mut new = Map::new();
    for (key, value) in old {
        let value = match key.as_str() {
            "action" => action(value)?,
            "protocol" | "notProtocol" => protocol(value),
            "icmp" | "notICMP" | "ipVersion" => value.clone(),
            "source" | "destination" => entity(value)?,
            other => return Err(format!("a rule has no field {other:?}")),
        };
        new.insert(key.clone(), value);
    }
    // Rules that match ports without a protocol, or ICMP without a version, were not allowed either.
    if old.contains_key("icmp") && !old.contains_key("protocol") {
        new.insert("protocol".to_owned(), "ICMP".into());
    }
    Ok(Value::Object(new))
}

fn action(old: &Value) -> Result<Value, String> {
    let word = old.as_str().unwrap_or_default();
    Ok(match word.to_ascii_lowercase().as_str() {
        "" | "allow" => "Allow",
        "deny" => "Deny",
        "log" => "Log",
        "pass" | "next-tier" => "Pass",
        _ => return Err(format!("action {old} is none of allow, deny, log and pass")),
    }
    .into())
}

fn protocol(old: &Value) -> Value {
    match old.as_str() {
        Some("udplite") => "UDPLite".into(),
        Some("icmpv6") => "ICMPv6".into(),
        Some(name) => name.to_ascii_uppercase().into(),
        None => old.clone(),
    }
}

/// A side of a rule: single nets join the lists, tags join the selectors.
fn entity(old: &Value) -> Result<Value, String> {
    let Value::Object(old) = old else {
        return Err(format!("{old} is no source or destination"));
    };
    let mut new = Map::new();
    let text = |key: &str| {
        old.get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    for (single, list) in [("net", "nets"), ("notNet", "notNets")] {
        let mut nets: Vec<Value> = text(single).map(Value::from).into_iter().collect();
        nets.extend(
            old.get(list)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .cloned(),
        );
        if !nets.is_empty() {
            new.insert(list.to_owned(), Value::Array(nets));
        }
    }
    for (tag, selector) in [("tag", "selector"), ("notTag", "notSelector")] {
        let by_tag = text(tag).map(|tag| format!("{tag} == ''"));
        let joined = match (text(selector), by_tag) {
            (Some(selector), Some(by_tag)) if tag == "tag" => Some(format!("({selector}) && {by_tag}")),
            // Neither of the two may match.
            (Some(selector), Some(by_tag)) => Some(format!("({selector}) || {by_tag}")),
            (selector, by_tag) => by_tag.or_else(|| selector.map(str::to_owned)),
        };
        if let Some(joined) = joined {
            new.insert(selector.to_owned(), joined.into());
        }
    }
    for key in ["ports", "notPorts"] {
        if let Some(ports) = old.get(key) {
            new.insert(key.to_owned(), ports.clone());
        }
    }
    let known = [
        "net",
        "nets",
        "notNet",
        "notNets",
        "tag",
        "notTag",
        "selector",
        "notSelector",
        "ports",
        "notPorts",
    ];
    match old.keys().find(|key| !known.contains(&key.as_str())) {
        Some(other) => Err(format!("a source or destination has no field {other:?}")),
        None => Ok(json!(new)),
    }
}

//! The selector language, and what rules and policies make of selectors.

use std::collections::BTreeMap;

use caracal_api::policy_selector;
use caracal_api::selector::Selector;
use caracal_api::v3::{EntityRule, GlobalNetworkPolicySpec, NetworkPolicySpec};
use serde_json::{Value, json};

use super::{check, text};

fn selector(input: &Value) -> Value {
    let Ok(selector) = Selector::parse(text(input, "expr")) else {
        return json!({"error": true});
    };
    let labels: Vec<BTreeMap<String, String>> = serde_json::from_value(input["labels"].clone()).unwrap();
    let matches: Vec<bool> = labels.iter().map(|labels| selector.matches(labels)).collect();
    json!({"canonical": selector.canonical(), "uniqueID": selector.unique_id(), "match": matches})
}

#[test]
fn selector_vectors() {
    check("selector", selector);
}

#[test]
fn random_selector_vectors() {
    check("selector-random", selector);
}

#[test]
fn mutated_selector_vectors() {
    check("selector-mutated", selector);
}

#[test]
fn entity_vectors() {
    check("entity", |input| {
        let entity: EntityRule = serde_json::from_value(input["entity"].clone()).unwrap();
        match policy_selector::entity_selector(&entity, text(input, "namespace")) {
            Ok(selector) => json!({"selector": selector, "notSelector": entity.not_selector}),
            Err(_) => json!({"error": true}),
        }
    });
}

#[test]
fn applies_vectors() {
    check("applies", |input| {
        let spec = input["spec"].clone();
        let selector = match text(input, "namespace") {
            "" => {
                let spec: GlobalNetworkPolicySpec = serde_json::from_value(spec).unwrap();
                policy_selector::global_network_policy_selector(&spec)
            }
            namespace => {
                let spec: NetworkPolicySpec = serde_json::from_value(spec).unwrap();
                policy_selector::network_policy_selector(&spec, namespace)
            }
        };
        selector.map_or_else(
            |_| json!({"error": true}),
            |selector| json!({"selector": selector}),
        )
    });
}

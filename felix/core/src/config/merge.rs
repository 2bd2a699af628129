//! From the layers of configuration to the effective one.
//!
//! Precedence, first wins: environment, file, FelixConfiguration `node.<node>`, those with a node selector, `default`.
//! Source: Calico `felix/config/config_params.go`.

use std::collections::BTreeMap;

use caracal_api::selector::Selector;
use caracal_api::v3::FelixConfigurationSpec;
use serde_json::{Map, Value};

/// Everything that configures this node.
#[derive(Clone, Debug, Default)]
pub struct Layers<'a> {
    /// Parameters given on the node itself, highest precedence first: names as in `FELIX_<NAME>` without the prefix, in
    /// any case.
    pub local: &'a [BTreeMap<String, String>],
    /// FelixConfiguration objects by name.
    pub objects: BTreeMap<&'a str, &'a FelixConfigurationSpec>,
    /// Name of the node.
    pub node: &'a str,
    /// Labels of the node.
    pub labels: BTreeMap<String, String>,
}

/// The effective configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merged {
    /// The configuration.
    pub spec: FelixConfigurationSpec,
    /// What could not be read.
    pub problems: Vec<String>,
}

/// Puts the layers together.
#[must_use]
pub fn merge(layers: &Layers<'_>) -> Merged {
    let mut problems = Vec::new();
    let own_name = format!("node.{}", layers.node);
    let mut fields = Map::new();
    let mut overlay = |spec: &FelixConfigurationSpec| {
        if let Ok(Value::Object(values)) = serde_json::to_value(spec) {
            fields.extend(values);
        }
    };
    if let Some(spec) = layers.objects.get("default") {
        overlay(spec);
    }
    for (name, spec) in &layers.objects {
        if *name == "default" || name.starts_with("node.") {
            continue;
        }
        match Selector::parse(spec.node_selector.as_deref().unwrap_or("!all()")) {
            Ok(selector) if selector.matches(&layers.labels) => overlay(spec),
            Ok(_) => {}
            Err(error) => problems.push(format!("FelixConfiguration {name}: nodeSelector: {error}")),
        }
    }
    if let Some(spec) = layers.objects.get(own_name.as_str()) {
        overlay(spec);
    }
    for values in layers.local.iter().rev() {
        for (name, text) in values {
            problems.extend(set(&mut fields, name, text));
        }
    }
    fields.remove("nodeSelector");
    let spec = serde_json::from_value(Value::Object(fields)).unwrap_or_else(|error| {
        problems.push(format!("configuration: {error}"));
        FelixConfigurationSpec::default()
    });
    Merged { spec, problems }
}

/// Parameters whose name in the environment is not that of the field.
const OTHER_NAMES: [(&str, &str); 4] = [
    ("ipinipenabled", "ipipEnabled"),
    ("ipinipmtu", "ipipMTU"),
    ("devicerouteprotocol", "deviceRouteProtocol"),
    ("iptablesmarkmask", "iptablesMarkMask"),
];

/// Sets one field from text: as JSON if the field takes that, else as a string. Unknown names are none of ours:
/// the same environment configures other things too.
fn set(fields: &mut Map<String, Value>, name: &str, text: &str) -> Option<String> {
    let field = field_name(name)?;
    let unquoted = || Value::String(text.to_owned());
    let number = text
        .strip_prefix("0x")
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .map(Value::from);
    let candidates = [
        number,
        serde_json::from_str(&text.to_lowercase()).ok(),
        serde_json::from_str(text).ok(),
        Some(unquoted()),
    ];
    for value in candidates.into_iter().flatten() {
        let alone = Map::from_iter([(field.clone(), value.clone())]);
        if serde_json::from_value::<FelixConfigurationSpec>(Value::Object(alone)).is_ok() {
            fields.insert(field, value);
            return None;
        }
    }
    Some(format!(
        "FELIX_{}: {text:?} is no value for {field}",
        name.to_uppercase()
    ))
}

/// The field that a name in the environment stands for.
fn field_name(name: &str) -> Option<String> {
    let name = name.to_lowercase();
    if let Some((_, field)) = OTHER_NAMES.iter().find(|(other, _)| *other == name) {
        return Some((*field).to_owned());
    }
    let schema = schemars::schema_for!(FelixConfigurationSpec);
    let properties = schema.get("properties")?.as_object()?;
    properties
        .keys()
        .find(|field| field.to_lowercase() == name)
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_layer_wins() {
        let spec = |prefix: &str, selector: Option<&str>, size: Option<i32>| FelixConfigurationSpec {
            interface_prefix: Some(prefix.to_owned()),
            node_selector: selector.map(str::to_owned),
            max_ipset_size: size,
            ..FelixConfigurationSpec::default()
        };
        let default = spec("a", None, Some(7));
        let selected = spec("b", Some("zone == 'x'"), None);
        let other = spec("c", Some("zone == 'y'"), None);
        let own = spec("d", None, None);
        let mut layers = Layers {
            objects: [("default", &default), ("zone-x", &selected), ("zone-y", &other)].into(),
            node: "n1",
            labels: [("zone".to_owned(), "x".to_owned())].into(),
            ..Layers::default()
        };
        let merged = merge(&layers);
        assert_eq!(merged.spec.interface_prefix.as_deref(), Some("b"));
        assert_eq!(merged.spec.max_ipset_size, Some(7));
        layers.objects.insert("node.n1", &own);
        assert_eq!(merge(&layers).spec.interface_prefix.as_deref(), Some("d"));
        let local = [
            [("INTERFACEPREFIX".to_owned(), "e".to_owned())].into(),
            [
                ("interfaceprefix".to_owned(), "f".to_owned()),
                ("IPV6SUPPORT".to_owned(), "False".to_owned()),
                ("IPTABLESMARKMASK".to_owned(), "0xff000000".to_owned()),
                ("MAXIPSETSIZE".to_owned(), "many".to_owned()),
                ("KUBECONFIG".to_owned(), "ignored".to_owned()),
            ]
            .into(),
        ];
        layers.local = &local;
        let merged = merge(&layers);
        assert_eq!(merged.spec.interface_prefix.as_deref(), Some("e"));
        assert_eq!(merged.spec.ipv6_support, Some(false));
        assert_eq!(merged.spec.iptables_mark_mask, Some(0xff00_0000));
        assert_eq!(merged.spec.max_ipset_size, Some(7));
        assert_eq!(merged.problems.len(), 1, "{:?}", merged.problems);
    }
}

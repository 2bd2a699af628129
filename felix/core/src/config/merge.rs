//! From the layers of configuration to the effective one.
//!
//! Precedence, first wins: environment, file, FelixConfiguration `node.<node>`, those with a node selector, `default`.
//! Source: Calico `felix/config/config_params.go`.

use std::collections::BTreeMap;

use caracal_api::selector::Selector;
use caracal_api::v3::{FelixConfigurationSpec, GoDuration};
use serde_json::{Map, Value, json};

use super::parameters::{self, Kind};

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

/// Sets one field from text. Unknown names are none of ours: the same environment configures other things too. Of what
/// cannot be read the default counts, whatever the layers below say.
fn set(fields: &mut Map<String, Value>, name: &str, text: &str) -> Option<String> {
    let parameter = parameters::find(name)?;
    let field = parameter.field.to_owned();
    let text = text.trim();
    let is_fit = |value: &Value| {
        let alone = Map::from_iter([(field.clone(), value.clone())]);
        serde_json::from_value::<FelixConfigurationSpec>(Value::Object(alone)).is_ok()
    };
    if let Some(value) = read(parameter.kind, text).into_iter().find(is_fit) {
        fields.insert(field, value);
        return None;
    }
    fields.remove(&field);
    Some(format!(
        "FELIX_{}: {text:?} is no value for {field}, the default counts",
        name.to_uppercase()
    ))
}

/// What a text may mean, the likeliest first.
fn read(kind: Kind, text: &str) -> Vec<Value> {
    let as_text = || Value::String(text.to_owned());
    let lower = text.to_lowercase();
    let items = || {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.filter(|_| lower != "none")
    };
    match kind {
        Kind::Bool => match lower.as_str() {
            "true" | "t" | "yes" | "y" | "1" => vec![Value::Bool(true)],
            "false" | "f" | "no" | "n" | "0" => vec![Value::Bool(false)],
            _ => Vec::new(),
        },
        Kind::Number => {
            let hexadecimal = lower
                .strip_prefix("0x")
                .and_then(|digits| u32::from_str_radix(digits, 16).ok());
            let number = hexadecimal.map(i64::from).or_else(|| lower.parse().ok());
            number.map(Value::from).into_iter().collect()
        }
        Kind::Text => vec![as_text()],
        Kind::Seconds => duration(text, "s").into_iter().collect(),
        Kind::Millis => duration(text, "ms").into_iter().collect(),
        Kind::List => vec![items().collect()],
        Kind::Ports => list(items().map(port)),
        Kind::RouteTables => list(items().map(|item| {
            let (min, max) = item.split_once('-')?;
            let number = |text: &str| text.trim().parse::<i64>().ok();
            Some(json!({"min": number(min)?, "max": number(max)?}))
        })),
        Kind::Timeouts => list(items().map(|item| {
            let (name, timeout) = item.split_once('=')?;
            Some(json!({"name": name.trim(), "timeout": duration(timeout.trim(), "s")?}))
        })),
        Kind::Other => {
            let number = text.parse::<i64>().ok().map(Value::from);
            number.into_iter().chain([as_text()]).collect()
        }
    }
}

fn list(items: impl Iterator<Item = Option<Value>>) -> Vec<Value> {
    let items: Option<Vec<Value>> = items.collect();
    items.map(Value::Array).into_iter().collect()
}

/// A number of units, or a text in Go's form.
fn duration(text: &str, unit: &str) -> Option<Value> {
    let is_number = text.parse::<f64>().is_ok_and(f64::is_finite);
    let text = if is_number {
        format!("{text}{unit}")
    } else {
        text.to_owned()
    };
    let parsed: GoDuration = text.parse().unwrap_or_default();
    parsed.duration().map(|_| Value::String(text))
}

/// `protocol:port`, `protocol:net:port` (an IPv6 net between brackets), or a port of TCP.
fn port(item: &str) -> Option<Value> {
    let (head, port) = item.rsplit_once(':').unwrap_or(("tcp", item));
    let port: u16 = port.trim().parse().ok()?;
    let (protocol, net) = head.split_once(':').unwrap_or((head, ""));
    let net = net.trim_start_matches('[').trim_end_matches(']');
    Some(json!({"protocol": protocol.trim().to_lowercase(), "net": net, "port": port}))
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
                ("IPTABLESREFRESHINTERVAL".to_owned(), "90".to_owned()),
                ("IPTABLESLOCKPROBEINTERVALMILLIS".to_owned(), "20".to_owned()),
                (
                    "FAILSAFEINBOUNDHOSTPORTS".to_owned(),
                    "tcp:22, udp:10.0.0.0/8:68,sctp:[fd00::/8]:9,80".to_owned(),
                ),
                ("FAILSAFEOUTBOUNDHOSTPORTS".to_owned(), "none".to_owned()),
                ("EXTERNALNODESLIST".to_owned(), "10.0.0.1,10.1.0.0/16".to_owned()),
                ("IPINIPENABLED".to_owned(), "1".to_owned()),
                ("KUBECONFIG".to_owned(), "ignored".to_owned()),
            ]
            .into(),
        ];
        layers.local = &local;
        let merged = merge(&layers);
        assert_eq!(merged.spec.interface_prefix.as_deref(), Some("e"));
        assert_eq!(merged.spec.ipv6_support, Some(false));
        assert_eq!(merged.spec.iptables_mark_mask, Some(0xff00_0000));
        // What cannot be read hides what the layers below say.
        assert_eq!(merged.spec.max_ipset_size, None);
        assert_eq!(merged.problems.len(), 1, "{:?}", merged.problems);
        let text = |duration: &Option<GoDuration>| duration.as_ref().map(ToString::to_string);
        assert_eq!(
            text(&merged.spec.iptables_refresh_interval),
            Some("1m30s".to_owned())
        );
        assert_eq!(
            text(&merged.spec.iptables_lock_probe_interval),
            Some("20ms".to_owned())
        );
        let ports = merged.spec.failsafe_inbound_host_ports.unwrap_or_default();
        let ports: Vec<(&str, &str, Option<u16>)> = ports
            .iter()
            .map(|port| (port.protocol.as_str(), port.net.as_str(), port.port))
            .collect();
        assert_eq!(
            ports,
            [
                ("tcp", "", Some(22)),
                ("udp", "10.0.0.0/8", Some(68)),
                ("sctp", "fd00::/8", Some(9)),
                ("tcp", "", Some(80))
            ]
        );
        assert_eq!(merged.spec.failsafe_outbound_host_ports, Some(Vec::new()));
        assert_eq!(merged.spec.external_nodes_list.map(|list| list.len()), Some(2));
        assert_eq!(merged.spec.ipip_enabled, Some(true));
    }
}

//! What is wrong with an object of `projectcalico.org/v3` beyond its types: values, and fields that exclude each other.
//!
//! Pure: an object in, findings out, each with path, value, problem and remedy, so that a file is judged before it is
//! sent and the embedded server refuses what Calico's validation refuses. Each finding says which [`Layer`] refuses it:
//! an API server with our definitions finds those of the schema by itself. Source: the validation tables of Calico's
//! v3 resources.

mod across;
mod bgp;
mod names;
mod networking;
mod policy;
mod schema;
mod value;

use std::fmt;

use kube_core::Resource;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::v3;

pub use schema::{NO_FIELD, remedy_of_unknown};

/// Who refuses what is wrong, beside us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layer {
    /// Calico's validation: values that no schema can judge, such as selectors.
    #[default]
    Value,
    /// The definitions of the kinds: schema and rules in CEL.
    Schema,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Who refuses it.
    pub layer: Layer,
    /// Path of the field, as `spec.ingress[0].source.nets[1]`.
    pub field: String,
    /// The value, as JSON.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} {}; {}",
            self.field, self.value, self.problem, self.remedy
        )
    }
}

/// The problem of an object whose fields have other types than its kind's.
const UNREADABLE: &str = "cannot be read";

/// Everything that is wrong with an object as it stands in a file: [`object`], and unknown fields, types, bounds,
/// values and required fields. What the schema names is not named twice.
#[must_use]
pub fn manifest(manifest: &Value) -> Vec<FieldError> {
    let mut findings = Findings {
        layer: Layer::Schema,
        ..Findings::default()
    };
    schema::check(&mut findings, manifest);
    let mut list = findings.list;
    let is_sound = list.is_empty();
    for finding in object(manifest) {
        // What the schema found is why an object cannot be read.
        let is_new = list.iter().all(|known| known.field != finding.field);
        if is_new && (is_sound || finding.problem != UNREADABLE) {
            list.push(finding);
        }
    }
    list
}

/// What is wrong with an object's values that an API server with our definitions does not find by itself.
#[must_use]
pub fn values(object: &Value) -> Vec<FieldError> {
    let mut list = self::object(object);
    list.retain(|finding| finding.layer == Layer::Value);
    list
}

/// What is wrong with an object's values and fields that exclude each other; empty for kinds that are not known here.
#[must_use]
pub fn object(object: &Value) -> Vec<FieldError> {
    let mut findings = Findings::default();
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let name = object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    names::check(&mut findings, kind, name);
    match kind {
        "NetworkPolicy" | "StagedNetworkPolicy" => with(&mut findings, object, |f, p: &v3::NetworkPolicy| {
            policy::network_policy(f, &p.spec)
        }),
        "GlobalNetworkPolicy" | "StagedGlobalNetworkPolicy" => {
            with(&mut findings, object, |f, p: &v3::GlobalNetworkPolicy| {
                policy::global_network_policy(f, &p.spec)
            });
        }
        "Tier" => with(&mut findings, object, |f, t: &v3::Tier| policy::tier(f, &t.spec)),
        "NetworkSet" => with(&mut findings, object, |f, s: &v3::NetworkSet| {
            networking::sets(f, &s.spec.nets, s.meta().labels.as_ref());
        }),
        "GlobalNetworkSet" => with(&mut findings, object, |f, s: &v3::GlobalNetworkSet| {
            networking::sets(f, &s.spec.nets, s.meta().labels.as_ref());
        }),
        "HostEndpoint" => with(&mut findings, object, |f, h: &v3::HostEndpoint| {
            networking::host_endpoint(f, &h.spec)
        }),
        "IPPool" => with(&mut findings, object, |f, p: &v3::IPPool| {
            networking::pool(f, &p.spec)
        }),
        "IPReservation" => {
            with(&mut findings, object, |f, r: &v3::IPReservation| {
                networking::reservation(f, &r.spec)
            });
        }
        "FelixConfiguration" => {
            with(&mut findings, object, |f, c: &v3::FelixConfiguration| {
                networking::felix(f, &c.spec)
            });
        }
        "BGPPeer" => with(&mut findings, object, |f, p: &v3::BGPPeer| bgp::peer(f, &p.spec)),
        "BGPConfiguration" => {
            with(&mut findings, object, |f, c: &v3::BGPConfiguration| {
                bgp::configuration(f, name, &c.spec)
            });
        }
        "BGPFilter" => with(&mut findings, object, |f, b: &v3::BGPFilter| {
            bgp::filter(f, &b.spec)
        }),
        _ => {}
    }
    findings.layer = Layer::Schema;
    across::check(&mut findings, kind, name, object);
    findings.list
}

/// What was found so far.
#[derive(Default)]
struct Findings {
    /// Who else refuses what is found next.
    layer: Layer,
    list: Vec<FieldError>,
}

impl Findings {
    /// Notes what the definitions refuse too.
    fn add_of_schema(
        &mut self,
        field: impl Into<String>,
        value: impl fmt::Debug,
        problem: &str,
        remedy: &str,
    ) {
        let before = std::mem::replace(&mut self.layer, Layer::Schema);
        self.add(field, value, problem, remedy);
        self.layer = before;
    }

    /// Notes a finding.
    fn add(&mut self, field: impl Into<String>, value: impl fmt::Debug, problem: &str, remedy: &str) {
        self.list.push(FieldError {
            layer: self.layer,
            field: field.into(),
            value: format!("{value:?}"),
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        });
    }
}

fn with<K: DeserializeOwned>(findings: &mut Findings, object: &Value, check: impl FnOnce(&mut Findings, &K)) {
    match serde_json::from_value::<K>(object.clone()) {
        Ok(typed) => check(findings, &typed),
        Err(error) => findings.add(
            "spec",
            error.to_string(),
            UNREADABLE,
            "correct the field that it names",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(kind: &str, spec: &Value) -> Vec<String> {
        object(&json!({"kind": kind, "metadata": {"name": "t"}, "spec": spec}))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_finding_names_field_value_and_remedy() {
        assert_eq!(
            found("IPPool", &json!({"cidr": "10.0.0.1/16"})),
            ["spec.cidr: \"10.0.0.1/16\" has host bits set; write 10.0.0.0/16"]
        );
        assert_eq!(
            found(
                "GlobalNetworkPolicy",
                &json!({"ingress": [{"action": "Allow", "source": {"nets": ["10.0.0.0/33"]}}]})
            ),
            [
                "spec.ingress[0].source.nets[0]: \"10.0.0.0/33\" is not a CIDR; write one as 10.0.0.0/8 or fd00::/8"
            ]
        );
    }

    #[test]
    fn fields_that_exclude_each_other_are_named() {
        for (kind, spec, field) in [
            (
                "IPPool",
                json!({"cidr": "10.0.0.0/16", "blockSize": 33}),
                "spec.blockSize",
            ),
            (
                "IPPool",
                json!({"cidr": "10.0.0.0/28", "blockSize": 26}),
                "spec.cidr",
            ),
            (
                "IPPool",
                json!({"cidr": "fd00::/64", "ipipMode": "Always"}),
                "spec.ipipMode",
            ),
            (
                "IPPool",
                json!({"cidr": "10.0.0.0/16", "ipipMode": "Always", "vxlanMode": "Always"}),
                "spec.ipipMode",
            ),
            ("IPPool", json!({"cidr": "169.254.0.0/24"}), "spec.cidr"),
            (
                "BGPPeer",
                json!({"node": "a", "nodeSelector": "all()", "peerIP": "10.0.0.1", "asNumber": 1}),
                "spec.node",
            ),
            ("BGPPeer", json!({"peerIP": "10.0.0.1"}), "spec.asNumber"),
            (
                "BGPPeer",
                json!({"peerIP": "nowhere", "asNumber": 1}),
                "spec.peerIP",
            ),
            ("HostEndpoint", json!({"node": "n"}), "spec.interfaceName"),
        ] {
            let findings = object(&json!({"kind": kind, "metadata": {"name": "t"}, "spec": spec}));
            assert!(
                findings.iter().any(|finding| finding.field == field),
                "{kind} {spec}: {findings:?}"
            );
        }
    }
}

//! BGP peers, settings and filters.

use serde_json::{Value, json};

use super::{Amendment, amend, is_set, is_unset, rules};

const PEER: &[&str] = &["BGPPeer"];
const CONFIGURATION: &[&str] = &["BGPConfiguration"];
const FILTER: &[&str] = &["BGPFilter"];

/// 0-65535.
const U16: &str =
    "([0-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
/// 0-4294967295.
const U32: &str = "([0-9]|[1-9][0-9]{1,8}|[1-3][0-9]{9}|4[01][0-9]{8}|42[0-8][0-9]{7}|429[0-3][0-9]{6}|\
                   4294[0-8][0-9]{5}|42949[0-5][0-9]{4}|429496[0-6][0-9]{3}|4294967[01][0-9]{2}|\
                   42949672[0-8][0-9]|429496729[0-5])";

/// A community or large community, as text.
fn community() -> Value {
    json!({"maxLength": 32, "pattern": format!("^({U16}:{U16}|{U32}:{U32}:{U32})$")})
}

pub(super) fn all() -> Vec<Amendment> {
    let mut all = peer();
    all.extend(configuration());
    all.extend(filter());
    for (kind, at) in [(PEER, "spec.password"), (CONFIGURATION, "spec.nodeMeshPassword")] {
        // The name of a Secret may be empty for compatibility, as everywhere in Kubernetes.
        let at = format!("{at}.secretKeyRef");
        all.push(amend(
            kind,
            &at,
            json!({"required": null, "x-kubernetes-map-type": "atomic"}),
        ));
        all.push(amend(kind, &at, json!({"required": ["key"]})));
        all.push(amend(kind, format!("{at}.name"), json!({"default": ""})));
    }
    all
}

fn peer() -> Vec<Amendment> {
    let port =
        |text: &str| format!("{text}.matches('^[0-9]{{1,5}}$') && int({text}) >= 1 && int({text}) <= 65535");
    let address = format!(
        "self == '' || isIP(self) || \
         self.matches('^[0-9.]+:[0-9]{{1,5}}$') && isIP(self.split(':')[0]) && {} || \
         self.matches('^\\\\[[0-9a-fA-F:.]+\\\\]:[0-9]{{1,5}}$') && isIP(self.substring(1, self.indexOf(']'))) && {}",
        port("self.split(':')[1]"),
        port("self.substring(self.indexOf(']') + 2)")
    );
    let has_number = "(has(self.asNumber) && self.asNumber != 0)";
    vec![
        amend(
            PEER,
            "spec",
            rules([
                (
                    format!("{} || {}", is_unset("node"), is_unset("nodeSelector")),
                    "node and nodeSelector cannot both be set",
                ),
                (
                    format!("{} || {}", is_unset("peerIP"), is_unset("peerSelector")),
                    "peerIP and peerSelector cannot both be set",
                ),
                (
                    format!("{} || !{has_number}", is_unset("peerSelector")),
                    "asNumber must be empty when peerSelector is set",
                ),
                (
                    format!("{} || {has_number}", is_unset("peerIP")),
                    "asNumber is required when peerIP is set",
                ),
                (
                    format!("{} || {}", is_unset("localWorkloadSelector"), is_unset("peerIP")),
                    "peerIP must be empty when localWorkloadSelector is set",
                ),
                (
                    format!(
                        "{} || {}",
                        is_unset("localWorkloadSelector"),
                        is_unset("peerSelector")
                    ),
                    "peerSelector must be empty when localWorkloadSelector is set",
                ),
                (
                    format!("{} || {has_number}", is_unset("localWorkloadSelector")),
                    "asNumber is required when localWorkloadSelector is set",
                ),
                (
                    format!("{} || {}", is_unset("reachableBy"), is_set("peerIP")),
                    "reachableBy must be empty when peerIP is empty",
                ),
                (
                    format!(
                        "{} || {} || self.reachableBy.contains(':') == (self.peerIP.matches('^[^:]*:[^:]*:'))",
                        is_unset("reachableBy"),
                        is_unset("peerIP")
                    ),
                    "reachableBy and peerIP must be of one IP version",
                ),
                (
                    "!has(self.keepOriginalNextHop) || !self.keepOriginalNextHop || !has(self.nextHopMode)"
                        .to_owned(),
                    "keepOriginalNextHop and nextHopMode cannot both be set",
                ),
            ]),
        ),
        amend(PEER, "spec.node", json!({"maxLength": 253})),
        amend(
            PEER,
            "spec.peerIP",
            json!({
                "maxLength": 64,
                "x-kubernetes-validations": [{
                    "rule": address,
                    "message": "peerIP must be an IP address, or one with a port as <IPv4>:<port> or [<IPv6>]:<port>",
                }],
            }),
        ),
        amend(
            PEER,
            "spec.reachableBy",
            json!({
                "maxLength": 64,
                "x-kubernetes-validations": [{
                    "rule": "self == '' || isIP(self)",
                    "message": "reachableBy must be an IP address",
                }],
            }),
        ),
    ]
}

fn configuration() -> Vec<Amendment> {
    let only_default = [
        "nodeToNodeMeshEnabled",
        "asNumber",
        "serviceClusterIPs",
        "serviceExternalIPs",
        "serviceLoadBalancerIPs",
        "nodeMeshPassword",
        "nodeMeshMaxRestartTime",
    ];
    let rules_of_default: Vec<Value> = only_default
        .iter()
        .map(|field| {
            json!({
                "rule": format!("self.metadata.name == 'default' || !has(self.spec.{field})"),
                "message": format!("Cannot set {field} on a non default BGP Configuration."),
            })
        })
        .collect();
    let mesh = |field: &str| {
        format!("!has(self.{field}) || !has(self.nodeToNodeMeshEnabled) || self.nodeToNodeMeshEnabled")
    };
    let mut all = vec![
        amend(
            CONFIGURATION,
            "",
            json!({"x-kubernetes-validations": rules_of_default}),
        ),
        amend(
            CONFIGURATION,
            "spec",
            rules([
                (
                    mesh("nodeMeshPassword"),
                    "nodeMeshPassword cannot be set when nodeToNodeMeshEnabled is false",
                ),
                (
                    mesh("nodeMeshMaxRestartTime"),
                    "nodeMeshMaxRestartTime cannot be set when nodeToNodeMeshEnabled is false",
                ),
                (
                    format!(
                        "{} || {}",
                        is_unset("communities"),
                        is_set("prefixAdvertisements")
                    ),
                    "communities need prefixAdvertisements",
                ),
            ]),
        ),
        amend(
            CONFIGURATION,
            "spec.logSeverityScreen",
            json!({"enum": null, "pattern": "^(?i)(Trace|Debug|Info|Warning|Error|Fatal)?$"}),
        ),
        amend(
            CONFIGURATION,
            "spec.serviceLoadBalancerAggregation",
            json!({"default": "Enabled"}),
        ),
        amend(CONFIGURATION, "spec.communities[].value", community()),
        amend(
            CONFIGURATION,
            "spec.prefixAdvertisements[].cidr",
            json!({"format": "cidr"}),
        ),
        amend(
            CONFIGURATION,
            "spec.ignoredInterfaces",
            json!({"x-kubernetes-list-type": "set"}),
        ),
        // A lone star would ignore all interfaces.
        amend(
            CONFIGURATION,
            "spec.ignoredInterfaces[]",
            json!({"pattern": r"^([a-zA-Z0-9_.-][a-zA-Z0-9_.*-]{0,14}|\*[a-zA-Z0-9_.*-]{1,14})$"}),
        ),
    ];
    for field in [
        "serviceClusterIPs",
        "serviceExternalIPs",
        "serviceLoadBalancerIPs",
    ] {
        all.push(amend(
            CONFIGURATION,
            format!("spec.{field}[].cidr"),
            json!({"format": "cidr"}),
        ));
    }
    for (field, version) in [("localWorkloadPeeringIPV4", 4), ("localWorkloadPeeringIPV6", 6)] {
        let rule = format!("self == '' || isIP(self) && ip(self).family() == {version}");
        let message = format!("{field} must be an IPv{version} address");
        all.push(amend(
            CONFIGURATION,
            format!("spec.{field}"),
            json!({"maxLength": 64, "x-kubernetes-validations": [{"rule": rule, "message": message}]}),
        ));
    }
    all
}

fn filter() -> Vec<Amendment> {
    let mut all = Vec::new();
    for (list, version, length, bits) in [
        ("exportV4", 4, 18, 32),
        ("importV4", 4, 18, 32),
        ("exportV6", 6, 43, 128),
        ("importV6", 6, 43, 128),
    ] {
        let at = format!("spec.{list}[]");
        let (family, family_message) = if version == 4 {
            (
                "!has(self.cidr) || !self.cidr.contains(':')",
                "cidr must be of IPv4",
            )
        } else {
            (
                "!has(self.cidr) || size(self.cidr) == 0 || self.cidr.contains(':')",
                "cidr must be of IPv6",
            )
        };
        let mut with = rules([
            (
                format!("{} == {}", is_set("cidr"), is_set("matchOperator")),
                "cidr and matchOperator must both be set or both be empty",
            ),
            (
                format!("!has(self.prefixLength) || {}", is_set("cidr")),
                "cidr is required when prefixLength is set",
            ),
            (
                format!("{} || self.action == 'Accept'", is_unset("operations")),
                "operations may only be used with action Accept",
            ),
            (family.to_owned(), family_message),
        ]);
        with["required"] = json!(["action"]);
        all.push(amend(FILTER, &at, with));
        all.push(amend(
            FILTER,
            format!("{at}.cidr"),
            json!({"format": "cidr", "maxLength": length}),
        ));
        for bound in ["min", "max"] {
            all.push(amend(
                FILTER,
                format!("{at}.prefixLength.{bound}"),
                json!({"maximum": bits}),
            ));
        }
        all.push(amend(
            FILTER,
            format!("{at}.interface"),
            json!({"pattern": "^([a-zA-Z0-9_.*-]{1,15})?$"}),
        ));
        all.push(amend(
            FILTER,
            format!("{at}.communities"),
            json!({"required": ["values"]}),
        ));
        all.push(amend(FILTER, format!("{at}.communities.values[]"), community()));
        all.push(amend(
            FILTER,
            format!("{at}.operations[]"),
            json!({"minProperties": 1, "maxProperties": 1}),
        ));
        for (operation, field) in [
            ("addCommunity", "value"),
            ("prependASPath", "prefix"),
            ("setPriority", "value"),
        ] {
            all.push(amend(
                FILTER,
                format!("{at}.operations[].{operation}"),
                json!({"required": [field]}),
            ));
        }
        all.push(amend(
            FILTER,
            format!("{at}.operations[].addCommunity.value"),
            community(),
        ));
    }
    all
}

//! Policies, their rules, tiers, network sets.

use serde_json::{Value, json};

use super::{Amendment, amend, is_set, is_unset, rules};

const ALL: &[&str] = &[
    "NetworkPolicy",
    "GlobalNetworkPolicy",
    "StagedNetworkPolicy",
    "StagedGlobalNetworkPolicy",
];
const GLOBAL: &[&str] = &["GlobalNetworkPolicy", "StagedGlobalNetworkPolicy"];
const DIRECTIONS: [&str; 2] = ["ingress", "egress"];
const ENDS: [&str; 2] = ["source", "destination"];

/// Names and numbers of protocols, as text.
pub(super) const PROTOCOL: &str =
    "^(TCP|UDP|ICMP|ICMPv6|SCTP|UDPLite|[1-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])$";
/// Numbers, ranges and names of ports, as text.
const PORT: &str = "^([0-9]{1,5}:[0-9]{1,5}|[a-z0-9_.-]{1,128})$";

pub(super) fn all() -> Vec<Amendment> {
    let mut all = specs();
    for direction in DIRECTIONS {
        let at = format!("spec.{direction}[]");
        all.push(amend(ALL, &at, rule(direction)));
        for field in ["icmp", "notICMP"] {
            let message = "an ICMP code needs a type";
            all.push(amend(
                ALL,
                format!("{at}.{field}"),
                rules([("!has(self.code) || has(self.type)", message)]),
            ));
        }
        for field in ["protocol", "notProtocol"] {
            let with = json!({"pattern": PROTOCOL, "minimum": 1, "maximum": 255});
            all.push(amend(ALL, format!("{at}.{field}"), with));
        }
        all.push(amend(
            ALL,
            format!("{at}.http.methods"),
            json!({"x-kubernetes-list-type": "set"}),
        ));
        all.push(amend(
            ALL,
            format!("{at}.http.paths[]"),
            rules([(
                "has(self.exact) != has(self.prefix)",
                "set one of exact and prefix",
            )]),
        ));
        for end in ENDS {
            all.extend(entity(&format!("{at}.{end}")));
        }
        let peer = if direction == "ingress" {
            "source"
        } else {
            "destination"
        };
        // A reserved word of CEL is escaped so.
        all.push(amend(
            GLOBAL,
            format!("{at}.{peer}.services"),
            rules([(
                is_set("__namespace__"),
                "a global policy must name the namespace of a Service",
            )]),
        ));
    }
    all
}

fn specs() -> Vec<Amendment> {
    vec![
        amend(
            GLOBAL,
            "spec",
            rules([
                (
                    "!(has(self.preDNAT) && self.preDNAT && has(self.doNotTrack) && self.doNotTrack)"
                        .to_owned(),
                    "preDNAT and doNotTrack cannot both be true",
                ),
                (
                    format!("!(has(self.preDNAT) && self.preDNAT) || {}", is_unset("egress")),
                    "preDNAT policy cannot have any egress rules",
                ),
                (
                    "!(has(self.preDNAT) && self.preDNAT) || !has(self.types) || !('Egress' in self.types)"
                        .to_owned(),
                    "preDNAT policy cannot have 'Egress' type",
                ),
                (
                    "!(has(self.preDNAT) && self.preDNAT || has(self.doNotTrack) && self.doNotTrack) || \
                     has(self.applyOnForward) && self.applyOnForward"
                        .to_owned(),
                    "applyOnForward must be true if either preDNAT or doNotTrack is true",
                ),
            ]),
        ),
        staged(
            &["StagedNetworkPolicy"],
            &[
                "order",
                "ingress",
                "egress",
                "selector",
                "serviceAccountSelector",
                "performanceHints",
            ],
        ),
        staged(
            &["StagedGlobalNetworkPolicy"],
            &[
                "order",
                "ingress",
                "egress",
                "selector",
                "serviceAccountSelector",
                "performanceHints",
                "namespaceSelector",
                "doNotTrack",
                "preDNAT",
                "applyOnForward",
            ],
        ),
        staged(
            &["StagedKubernetesNetworkPolicy"],
            &["podSelector", "ingress", "egress"],
        ),
        amend(
            &[
                "StagedNetworkPolicy",
                "StagedGlobalNetworkPolicy",
                "StagedKubernetesNetworkPolicy",
            ],
            "spec.stagedAction",
            json!({"default": "Set"}),
        ),
        amend(&["Tier"], "", tier()),
        amend(
            &["NetworkSet", "GlobalNetworkSet"],
            "spec.nets",
            json!({
                "maxItems": 100_000,
                "x-kubernetes-list-type": "set",
                "x-kubernetes-validations": [{
                    "rule": "self.all(n, isCIDR(n) || isIP(n))",
                    "message": "nets are CIDRs and addresses",
                }],
            }),
        ),
        amend(
            &["NetworkSet", "GlobalNetworkSet"],
            "spec.nets[]",
            json!({"maxLength": 49}),
        ),
    ]
}

/// Admission fills in types, so they say nothing about what was written.
fn staged(kinds: &'static [&'static str], others: &[&str]) -> Amendment {
    let others = others.iter().map(|field| format!("!has(self.{field})"));
    let rule = format!(
        "!has(self.stagedAction) || self.stagedAction != 'Delete' || ({})",
        others.collect::<Vec<_>>().join(" && ")
    );
    amend(
        kinds,
        "spec",
        rules([(rule, "a staged policy that deletes has no other fields than tier")]),
    )
}

fn rule(direction: &str) -> Value {
    let protocol_is = |field: &str, name: &str, number: u8| {
        format!("(has(self.{field}) && (self.{field} == '{name}' || self.{field} == {number}))")
    };
    let version = |field: &str, name: &str, number: u8, version: u8| {
        format!(
            "!{} || !has(self.ipVersion) || self.ipVersion == {version}",
            protocol_is(field, name, number)
        )
    };
    let has_ports = ENDS.map(|end| {
        format!(
            "(has(self.{end}) && (has(self.{end}.ports) && size(self.{end}.ports) > 0 || \
             has(self.{end}.notPorts) && size(self.{end}.notPorts) > 0))"
        )
    });
    let ports_protocol = [("TCP", 6), ("UDP", 17), ("SCTP", 132)]
        .map(|(name, number)| protocol_is("protocol", name, number))
        .join(" || ");
    // Numbers may come as text.
    let ports_protocol_text = "(has(self.protocol) && self.protocol in ['6', '17', '132'])";
    let other_end = if direction == "ingress" {
        "destination"
    } else {
        "source"
    };
    let family = |end: &str, field: &str| {
        format!(
            "!has(self.ipVersion) || !has(self.{end}) || !has(self.{end}.{field}) || \
             self.{end}.{field}.all(n, n.contains(':') == (self.ipVersion == 6))"
        )
    };
    let family_message = "nets must be of the rule's ipVersion";
    let mut list = vec![
        (
            "!has(self.http) || !has(self.protocol) || self.protocol == 'TCP' || self.protocol == 6"
                .to_owned(),
            "rules with HTTP match must have protocol TCP or unset",
        ),
        (
            "!has(self.http) || self.action == 'Allow'".to_owned(),
            "HTTP match is only valid on Allow rules",
        ),
        (
            format!(
                "!has(self.icmp) || {} || {}",
                protocol_is("protocol", "ICMP", 1),
                protocol_is("protocol", "ICMPv6", 58)
            ),
            "ICMP fields require protocol to be ICMP or ICMPv6",
        ),
        (
            format!(
                "!({}) || {ports_protocol} || {ports_protocol_text}",
                has_ports.join(" || ")
            ),
            "rules with ports must set protocol to TCP or UDP or SCTP",
        ),
        (
            "!has(self.destination) || !has(self.destination.services) || \
             !(has(self.destination.ports) && size(self.destination.ports) > 0 || \
             has(self.destination.notPorts) && size(self.destination.notPorts) > 0)"
                .to_owned(),
            "ports and notPorts cannot be specified with services",
        ),
        (
            format!("!has(self.{other_end}) || !has(self.{other_end}.services)"),
            "services are matched in the source of ingress rules and the destination of egress rules",
        ),
    ];
    for field in ["protocol", "notProtocol"] {
        list.push((version(field, "ICMP", 1, 4), "protocol ICMP requires ipVersion 4"));
        list.push((
            version(field, "ICMPv6", 58, 6),
            "protocol ICMPv6 requires ipVersion 6",
        ));
    }
    for end in ENDS {
        for field in ["nets", "notNets"] {
            list.push((family(end, field), family_message));
        }
    }
    let mut value = rules(list);
    value["required"] = json!(["action"]);
    value
}

fn entity(at: &str) -> Vec<Amendment> {
    let mut all = vec![
        amend(
            ALL,
            at,
            rules([
                (
                    "!has(self.selector) || !self.selector.contains('global(')".to_owned(),
                    "global() can only be used in a namespaceSelector",
                ),
                (
                    format!(
                        "!has(self.services) || {} && {}",
                        is_unset("selector"),
                        is_unset("notSelector")
                    ),
                    "services exclude selector and notSelector",
                ),
                (
                    format!(
                        "!has(self.services) || {} && {}",
                        is_unset("nets"),
                        is_unset("notNets")
                    ),
                    "services exclude nets and notNets",
                ),
                (
                    format!("!has(self.services) || {}", is_unset("namespaceSelector")),
                    "services exclude namespaceSelector",
                ),
                (
                    "!has(self.services) || !has(self.serviceAccounts)".to_owned(),
                    "services exclude serviceAccounts",
                ),
            ]),
        ),
        amend(
            ALL,
            format!("{at}.services"),
            rules([(is_set("name"), "services must name a Service")]),
        ),
        amend(
            ALL,
            format!("{at}.services.name"),
            json!({"pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$"}),
        ),
        amend(
            ALL,
            format!("{at}.serviceAccounts.names"),
            json!({"x-kubernetes-list-type": "set"}),
        ),
    ];
    // Host bits and mixed families of notNets are not looked for here: for all rules together that costs more than an
    // API server admits.
    let one_family = (
        "size(self.filter(n, n.contains(':'))) in [0, size(self)]",
        "one rule cannot have both IPv4 and IPv6 CIDRs",
    );
    let catch_all = (
        "self.all(n, !n.endsWith('/0'))",
        "notNets cannot exclude everything",
    );
    for (field, list) in [("nets", vec![one_family]), ("notNets", vec![catch_all])] {
        let mut with = rules(list);
        with["x-kubernetes-list-type"] = json!("set");
        all.push(amend(ALL, format!("{at}.{field}"), with));
        all.push(amend(
            ALL,
            format!("{at}.{field}[]"),
            json!({"format": "cidr", "maxLength": 43}),
        ));
    }
    for field in ["ports", "notPorts"] {
        let with = json!({"pattern": PORT, "minimum": 0, "maximum": 65535});
        all.push(amend(ALL, format!("{at}.{field}[]"), with));
    }
    all
}

fn tier() -> Value {
    let order = |name: &str, order: &str| {
        format!("self.metadata.name != '{name}' || has(self.spec.order) && self.spec.order == {order}")
    };
    let action = |name: &str, action: &str| {
        format!(
            "self.metadata.name != '{name}' || has(self.spec.defaultAction) && self.spec.defaultAction == '{action}'"
        )
    };
    rules([
        (
            "size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')".to_owned(),
            "the name of a tier has at most 63 letters, digits and dashes",
        ),
        (
            action("kube-admin", "Pass"),
            "The 'kube-admin' tier must have default action 'Pass'",
        ),
        (
            action("kube-baseline", "Pass"),
            "The 'kube-baseline' tier must have default action 'Pass'",
        ),
        (
            action("default", "Deny"),
            "The 'default' tier must have default action 'Deny'",
        ),
        (
            order("default", "1000000.0"),
            "default tier order must be 1000000",
        ),
        (
            order("kube-admin", "1000.0"),
            "kube-admin tier order must be 1000",
        ),
        (
            order("kube-baseline", "10000000.0"),
            "kube-baseline tier order must be 10000000",
        ),
    ])
}

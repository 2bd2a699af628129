//! Fields of one object that need or exclude each other: what the definitions say in CEL (`crd::amend`).

use serde_json::Value;

use super::Findings;

/// Checks an object of a kind.
pub(super) fn check(findings: &mut Findings, kind: &str, name: &str, object: &Value) {
    let Some(spec) = object.get("spec") else { return };
    match kind {
        "NetworkPolicy" | "StagedNetworkPolicy" => rules(findings, spec),
        "GlobalNetworkPolicy" | "StagedGlobalNetworkPolicy" => {
            rules(findings, spec);
            if is_true(spec, "preDNAT") && list(spec, "types").any(|direction| direction == "Egress") {
                findings.add(
                    "spec.types",
                    &spec["types"],
                    "does not go with preDNAT",
                    "remove Egress: preDNAT is for ingress",
                );
            }
        }
        "Tier" => tier(findings, name, spec),
        "IPPool" => pool(findings, spec),
        "BGPConfiguration" => bgp_configuration(findings, name, spec),
        "BGPFilter" => bgp_filter(findings, spec),
        "FelixConfiguration" => felix(findings, name, spec),
        _ => {}
    }
    if kind.starts_with("Staged") {
        staged(findings, spec);
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn is_true(value: &Value, field: &str) -> bool {
    value.get(field).and_then(Value::as_bool).unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn has(value: &Value, field: &str) -> bool {
    value.get(field).is_some_and(|value| !value.is_null())
}

/// Present and not empty.
fn is_set(value: &Value, field: &str) -> bool {
    value.get(field).is_some_and(|value| {
        value.as_str().is_none_or(|text| !text.is_empty())
            && value.as_array().is_none_or(|list| !list.is_empty())
            && !value.is_null()
    })
}

/// Admission fills in types, so they say nothing about what was written.
fn staged(findings: &mut Findings, spec: &Value) {
    if text(spec, "stagedAction") != "Delete" {
        return;
    }
    let may_stay = ["stagedAction", "tier", "types", "policyTypes"];
    for field in spec.as_object().into_iter().flat_map(serde_json::Map::keys) {
        if !may_stay.contains(&field.as_str()) {
            findings.add(
                format!("spec.{field}"),
                "Delete",
                "is the stagedAction, which has no other fields than tier",
                "remove the field",
            );
        }
    }
}

fn tier(findings: &mut Findings, name: &str, spec: &Value) {
    let (order, action) = match name {
        "default" => (1_000_000.0, "Deny"),
        "kube-admin" => (1_000.0, "Pass"),
        "kube-baseline" => (10_000_000.0, "Pass"),
        _ => return,
    };
    if spec.get("order").and_then(Value::as_f64) != Some(order) {
        let remedy = format!("use {order}");
        findings.add(
            "spec.order",
            &spec["order"],
            "is not the order of this tier",
            &remedy,
        );
    }
    let given = match text(spec, "defaultAction") {
        "" => "Deny",
        given => given,
    };
    if given != action {
        let remedy = format!("use {action}");
        findings.add(
            "spec.defaultAction",
            given,
            "is not the action of this tier",
            &remedy,
        );
    }
}

fn pool(findings: &mut Findings, spec: &Value) {
    let uses: Vec<&str> = list(spec, "allowedUses").filter_map(Value::as_str).collect();
    let is_on = |mode: &str| !matches!(text(spec, mode), "" | "Never");
    if uses.contains(&"LoadBalancer") {
        for (field, is_wrong) in [
            ("ipipMode", is_on("ipipMode")),
            ("vxlanMode", is_on("vxlanMode")),
            ("disableBGPExport", is_true(spec, "disableBGPExport")),
            (
                "nodeSelector",
                !matches!(text(spec, "nodeSelector"), "" | "all()"),
            ),
        ] {
            if is_wrong {
                let problem = "does not go with the use LoadBalancer";
                findings.add(format!("spec.{field}"), &spec[field], problem, "remove it");
            }
        }
    }
    // Without a list, tunnels are a use.
    let serves_tunnels = !has(spec, "allowedUses") || uses.contains(&"Tunnel");
    if is_set(spec, "namespaceSelector") && serves_tunnels {
        findings.add(
            "spec.namespaceSelector",
            text(spec, "namespaceSelector"),
            "does not go with the use Tunnel: tunnels have no namespace",
            "set spec.allowedUses to [Workload]",
        );
    }
    if text(spec, "nodeSelector").contains("global(") {
        let problem = "cannot use global(): nodes have no namespace";
        findings.add(
            "spec.nodeSelector",
            text(spec, "nodeSelector"),
            problem,
            "use all()",
        );
    }
}

fn bgp_configuration(findings: &mut Findings, name: &str, spec: &Value) {
    if name != "default" && has(spec, "nodeToNodeMeshEnabled") {
        findings.add(
            "spec.nodeToNodeMeshEnabled",
            name,
            "cannot have it: it is for all nodes",
            "set it in the BGPConfiguration default",
        );
    }
    if spec.get("nodeToNodeMeshEnabled") == Some(&Value::Bool(false)) {
        for field in ["nodeMeshPassword", "nodeMeshMaxRestartTime"] {
            if has(spec, field) {
                let problem = "needs the mesh, which nodeToNodeMeshEnabled turns off";
                findings.add(format!("spec.{field}"), &spec[field], problem, "remove it");
            }
        }
    }
    if is_set(spec, "communities") && !is_set(spec, "prefixAdvertisements") {
        findings.add(
            "spec.communities",
            &spec["communities"],
            "are for prefixes, and there are none",
            "add spec.prefixAdvertisements",
        );
    }
    for (field, is_v4) in [
        ("localWorkloadPeeringIPV4", true),
        ("localWorkloadPeeringIPV6", false),
    ] {
        let address = text(spec, field);
        let is_right = address
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_ipv4() == is_v4);
        if !address.is_empty() && !is_right {
            let remedy = if is_v4 {
                "write one as 169.254.1.1"
            } else {
                "write one as fe80::1"
            };
            findings.add(
                format!("spec.{field}"),
                address,
                "is not an address of that IP version",
                remedy,
            );
        }
    }
}

fn bgp_filter(findings: &mut Findings, spec: &Value) {
    for field in ["exportV4", "importV4", "exportV6", "importV6"] {
        for (index, rule) in list(spec, field).enumerate() {
            let path = format!("spec.{field}[{index}]");
            let has_cidr = is_set(rule, "cidr");
            if !has_cidr && is_set(rule, "matchOperator") {
                let operator = text(rule, "matchOperator");
                findings.add(
                    format!("{path}.cidr"),
                    operator,
                    "is the matchOperator, and needs a cidr",
                    "add it",
                );
            }
            if !has_cidr && has(rule, "prefixLength") {
                let given = &rule["prefixLength"];
                findings.add(
                    format!("{path}.prefixLength"),
                    given,
                    "needs a cidr",
                    "add cidr and matchOperator",
                );
            }
            if is_set(rule, "operations") && text(rule, "action") != "Accept" {
                let action = text(rule, "action");
                findings.add(
                    format!("{path}.operations"),
                    action,
                    "is the action, and must be Accept",
                    "remove them",
                );
            }
        }
    }
}

fn felix(findings: &mut Findings, name: &str, spec: &Value) {
    if (name == "default" || name.starts_with("node.")) && is_set(spec, "nodeSelector") {
        findings.add(
            "spec.nodeSelector",
            text(spec, "nodeSelector"),
            "is not for the objects default and node.<name>",
            "remove it, or give the object another name",
        );
    }
    if has(spec, "routeTableRange") && has(spec, "routeTableRanges") {
        findings.add(
            "spec.routeTableRange",
            &spec["routeTableRange"],
            "excludes routeTableRanges",
            "use routeTableRanges alone",
        );
    }
}

fn rules(findings: &mut Findings, spec: &Value) {
    for direction in ["ingress", "egress"] {
        for (index, checked) in list(spec, direction).enumerate() {
            rule(findings, &format!("spec.{direction}[{index}]"), checked);
        }
    }
}

fn is_protocol(rule: &Value, field: &str, name: &str, number: u64) -> bool {
    let protocol = rule.get(field);
    protocol.and_then(Value::as_str) == Some(name) || protocol.and_then(Value::as_u64) == Some(number)
}

fn rule(findings: &mut Findings, path: &str, rule: &Value) {
    if has(rule, "http") {
        if has(rule, "protocol") && !is_protocol(rule, "protocol", "TCP", 6) {
            let given = &rule["protocol"];
            findings.add(
                format!("{path}.protocol"),
                given,
                "does not carry HTTP",
                "use TCP, or remove http",
            );
        }
        if text(rule, "action") != "Allow" {
            let problem = "is the action, and HTTP can only be allowed";
            findings.add(
                format!("{path}.http"),
                text(rule, "action"),
                problem,
                "use Allow, or remove http",
            );
        }
        for (index, http) in list(&rule["http"], "paths").enumerate() {
            if has(http, "exact") == has(http, "prefix") {
                let path = format!("{path}.http.paths[{index}]");
                findings.add(path, http, "is not one of exact and prefix", "set one of both");
            }
        }
    }
    let is_icmp = is_protocol(rule, "protocol", "ICMP", 1) || is_protocol(rule, "protocol", "ICMPv6", 58);
    if has(rule, "icmp") && !is_icmp {
        let problem = "needs protocol ICMP or ICMPv6";
        findings.add(
            format!("{path}.icmp"),
            &rule["icmp"],
            problem,
            "set the rule's protocol",
        );
    }
    for field in ["icmp", "notICMP"] {
        if let Some(icmp) = rule
            .get(field)
            .filter(|icmp| has(icmp, "code") && !has(icmp, "type"))
        {
            findings.add(
                format!("{path}.{field}.code"),
                &icmp["code"],
                "needs a type",
                "add the type",
            );
        }
    }
    for field in ["protocol", "notProtocol"] {
        for (name, number, version) in [("ICMP", 1, 4), ("ICMPv6", 58, 6)] {
            let given = rule.get("ipVersion").and_then(Value::as_u64);
            if is_protocol(rule, field, name, number) && given.is_some_and(|given| given != version) {
                let remedy = format!("use ipVersion {version}, or remove it");
                findings.add(
                    format!("{path}.ipVersion"),
                    given,
                    "does not go with the protocol",
                    &remedy,
                );
            }
        }
    }
    for end in ["source", "destination"] {
        if let Some(entity) = rule.get(end) {
            self::entity(findings, &format!("{path}.{end}"), entity, end == "destination");
        }
    }
}

fn entity(findings: &mut Findings, path: &str, entity: &Value, is_destination: bool) {
    if text(entity, "selector").contains("global(") {
        findings.add(
            format!("{path}.selector"),
            text(entity, "selector"),
            "cannot use global()",
            "use it in namespaceSelector",
        );
    }
    if !has(entity, "services") {
        return;
    }
    let mut excluded = vec![
        "selector",
        "notSelector",
        "nets",
        "notNets",
        "namespaceSelector",
        "serviceAccounts",
    ];
    if is_destination {
        excluded.extend(["ports", "notPorts"]);
    }
    for field in excluded.into_iter().filter(|field| is_set(entity, field)) {
        let given = &entity[field];
        findings.add(
            format!("{path}.{field}"),
            given,
            "does not go with services",
            "remove one of both",
        );
    }
}

//! Policies, their rules, and tiers.

use std::collections::BTreeSet;

use super::{Findings, Layer, names, value};
use crate::v3::{
    Action, EntityRule, GlobalNetworkPolicySpec, Icmp, NetworkPolicySpec, PolicyPerformanceHint, Port,
    Protocol, Rule, TierSpec,
};

/// Which way a rule is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

/// Checks a NetworkPolicy.
pub(super) fn network_policy(findings: &mut Findings, spec: &NetworkPolicySpec) {
    value::selector(findings, "spec.selector", &spec.selector);
    value::selector(
        findings,
        "spec.serviceAccountSelector",
        &spec.service_account_selector,
    );
    hints(findings, &spec.performance_hints);
    rules(findings, &spec.ingress, &spec.egress, false);
}

/// Checks a GlobalNetworkPolicy.
pub(super) fn global_network_policy(findings: &mut Findings, spec: &GlobalNetworkPolicySpec) {
    value::selector(findings, "spec.selector", &spec.selector);
    value::selector(
        findings,
        "spec.serviceAccountSelector",
        &spec.service_account_selector,
    );
    value::selector(findings, "spec.namespaceSelector", &spec.namespace_selector);
    hints(findings, &spec.performance_hints);
    for (field, is_set) in [
        ("spec.doNotTrack", spec.do_not_track),
        ("spec.preDNAT", spec.pre_dnat),
    ] {
        if is_set && !spec.apply_on_forward {
            findings.add_of_schema(
                field,
                true,
                "needs applyOnForward",
                "set spec.applyOnForward to true",
            );
        }
    }
    if spec.do_not_track && spec.pre_dnat {
        findings.add_of_schema("spec.preDNAT", true, "excludes doNotTrack", "set one of both");
    }
    if spec.pre_dnat && !spec.egress.is_empty() {
        findings.add_of_schema("spec.preDNAT", true, "is for ingress only", "remove spec.egress");
    }
    rules(findings, &spec.ingress, &spec.egress, true);
}

/// Checks a Tier.
pub(super) fn tier(findings: &mut Findings, spec: &TierSpec) {
    if let Some(action) = &spec.default_action
        && !matches!(action, Action::Deny | Action::Pass)
    {
        findings.add_of_schema(
            "spec.defaultAction",
            action.as_str(),
            "is not an action for the end of a tier",
            "use Deny or Pass",
        );
    }
}

fn hints(findings: &mut Findings, hints: &[PolicyPerformanceHint]) {
    for (index, hint) in hints.iter().enumerate().filter(|(_, hint)| !hint.is_known()) {
        findings.add_of_schema(
            format!("spec.performanceHints[{index}]"),
            hint.as_str(),
            "is not a hint",
            "use AssumeNeededOnEveryNode",
        );
    }
}

fn rules(findings: &mut Findings, ingress: &[Rule], egress: &[Rule], is_global: bool) {
    for (direction, name, rules) in [
        (Direction::Ingress, "ingress", ingress),
        (Direction::Egress, "egress", egress),
    ] {
        for (index, checked) in rules.iter().enumerate() {
            rule(
                findings,
                &format!("spec.{name}[{index}]"),
                checked,
                direction,
                is_global,
            );
        }
    }
}

fn rule(findings: &mut Findings, path: &str, rule: &Rule, direction: Direction, is_global: bool) {
    for (field, checked) in [("protocol", &rule.protocol), ("notProtocol", &rule.not_protocol)] {
        if let Some(checked) = checked {
            protocol(findings, &format!("{path}.{field}"), checked);
        }
    }
    for (field, checked) in [("icmp", &rule.icmp), ("notICMP", &rule.not_icmp)] {
        if let Some(checked) = checked {
            icmp(findings, &format!("{path}.{field}"), checked);
        }
    }
    for (field, entity) in [("source", &rule.source), ("destination", &rule.destination)] {
        let Some(entity) = entity else { continue };
        let path = format!("{path}.{field}");
        nets(findings, &path, entity, rule.ip_version);
        selectors(findings, &path, entity);
        ports(findings, &path, entity, rule.protocol.as_ref());
        let is_peer = (field == "source") == (direction == Direction::Ingress);
        service(findings, &path, entity, is_peer, is_global);
    }
    if let Some(http) = &rule.http {
        let mut seen = BTreeSet::new();
        for (index, method) in http.methods.iter().enumerate() {
            if !seen.insert(method) {
                findings.add_of_schema(
                    format!("{path}.http.methods[{index}]"),
                    method,
                    "comes twice",
                    "name each method once",
                );
            }
        }
    }
}

fn protocol(findings: &mut Findings, field: &str, protocol: &Protocol) {
    const REMEDY: &str = "use TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number 1-255";
    let is_right = match protocol {
        Protocol::Number(number) => *number > 0,
        // A stored name is compared as it is written.
        Protocol::Name(name) => Protocol::NAMES.iter().any(|(known, _)| known == name),
        Protocol::Invalid(_) => false,
    };
    if !is_right {
        findings.add_of_schema(field, protocol.to_string(), "is not a protocol", REMEDY);
    }
}

fn icmp(findings: &mut Findings, path: &str, icmp: &Icmp) {
    for (field, value, max) in [("type", icmp.type_, 254), ("code", icmp.code, 255)] {
        if let Some(value) = value.filter(|value| !(0..=max).contains(value)) {
            findings.add_of_schema(
                format!("{path}.{field}"),
                value,
                "is out of range",
                &format!("use 0-{max}"),
            );
        }
    }
}

fn nets(findings: &mut Findings, path: &str, entity: &EntityRule, ip_version: Option<i32>) {
    for (field, nets, is_masked) in [("nets", &entity.nets, false), ("notNets", &entity.not_nets, true)] {
        let mut versions = BTreeSet::new();
        for (index, net) in nets.iter().enumerate() {
            let field = format!("{path}.{field}[{index}]");
            let network = if is_masked {
                value::masked_cidr(findings, &field, net)
            } else {
                value::cidr(findings, &field, net)
            };
            let Some(network) = network else { continue };
            let version = if network.addr().is_ipv4() { 4 } else { 6 };
            versions.insert(version);
            if ip_version.is_some_and(|wanted| wanted != version) {
                findings.add_of_schema(
                    &field,
                    net,
                    "is not of the rule's ipVersion",
                    "change ipVersion or the CIDR",
                );
            }
            if is_masked && network.prefix_len() == 0 {
                findings.add_of_schema(
                    &field,
                    net,
                    "excludes everything",
                    "remove it, or use a Deny rule",
                );
            }
        }
        if versions.len() > 1 {
            // Rules in CEL look at nets alone: for both they would cost too much.
            let layer = if is_masked { Layer::Value } else { Layer::Schema };
            let before = std::mem::replace(&mut findings.layer, layer);
            findings.add(
                format!("{path}.{field}"),
                nets,
                "mixes IPv4 and IPv6",
                "write one rule for each",
            );
            findings.layer = before;
        }
    }
}

fn selectors(findings: &mut Findings, path: &str, entity: &EntityRule) {
    value::selector(findings, &format!("{path}.selector"), &entity.selector);
    value::selector(findings, &format!("{path}.notSelector"), &entity.not_selector);
    value::selector(
        findings,
        &format!("{path}.namespaceSelector"),
        &entity.namespace_selector,
    );
    if let Some(accounts) = &entity.service_accounts {
        value::selector(
            findings,
            &format!("{path}.serviceAccounts.selector"),
            &accounts.selector,
        );
    }
}

fn ports(findings: &mut Findings, path: &str, entity: &EntityRule, protocol: Option<&Protocol>) {
    for (field, ports) in [("ports", &entity.ports), ("notPorts", &entity.not_ports)] {
        for (index, port) in ports.iter().enumerate() {
            let field = format!("{path}.{field}[{index}]");
            match port {
                Port::Invalid(text) => findings.add(
                    &field,
                    text,
                    "is not a port",
                    "write a number 1-65535, a range \"min:max\", or the name of a port",
                ),
                Port::Named(name) if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                    findings.add_of_schema(
                        &field,
                        name,
                        "is not the name of a port",
                        "port names are lower case",
                    );
                }
                Port::Named(_) | Port::Range { .. } => {}
            }
        }
        if !ports.is_empty() && !protocol.is_some_and(Protocol::supports_ports) {
            findings.add_of_schema(
                format!("{path}.{field}"),
                ports.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "need a protocol that has ports",
                "set the rule's protocol to TCP, UDP or SCTP",
            );
        }
    }
}

fn service(findings: &mut Findings, path: &str, entity: &EntityRule, is_peer: bool, is_global: bool) {
    let Some(service) = &entity.services else { return };
    let field = format!("{path}.services");
    if !is_peer {
        findings.add_of_schema(
            &field,
            &service.name,
            "is on the wrong end",
            "source.services is for ingress rules, destination.services for egress rules",
        );
    }
    if !names::is_label(&service.name) {
        findings.add_of_schema(
            format!("{field}.name"),
            &service.name,
            "is not the name of a Service",
            "use a Service's name",
        );
    }
    if is_global && service.namespace.is_empty() {
        findings.add_of_schema(
            format!("{field}.namespace"),
            "",
            "is needed in a global policy",
            "name the Service's namespace",
        );
    }
}

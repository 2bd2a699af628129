//! BGP peers, settings and filters.

use std::net::{IpAddr, SocketAddr};

use super::{Findings, value};
use crate::v3::{BGPConfigurationSpec, BGPFilterRule, BGPFilterSpec, BGPPeerSpec};

/// Checks a BGPPeer.
pub(super) fn peer(findings: &mut Findings, spec: &BGPPeerSpec) {
    for (field, text) in [
        ("spec.nodeSelector", &spec.node_selector),
        ("spec.peerSelector", &spec.peer_selector),
        ("spec.localWorkloadSelector", &spec.local_workload_selector),
    ] {
        value::selector(findings, field, text);
    }
    if !spec.node.is_empty() && !spec.node_selector.is_empty() {
        findings.add_of_schema(
            "spec.node",
            &spec.node,
            "excludes nodeSelector",
            "set one of both",
        );
    }
    if !spec.peer_ip.is_empty() && !spec.peer_selector.is_empty() {
        findings.add_of_schema(
            "spec.peerIP",
            &spec.peer_ip,
            "excludes peerSelector",
            "set one of both",
        );
    }
    let has_other = !spec.peer_ip.is_empty() || !spec.peer_selector.is_empty();
    if has_other && !spec.local_workload_selector.is_empty() {
        findings.add_of_schema(
            "spec.localWorkloadSelector",
            &spec.local_workload_selector,
            "excludes peerIP and peerSelector",
            "set one of the three",
        );
    }
    if !spec.peer_selector.is_empty()
        && let Some(number) = spec.as_number
    {
        findings.add_of_schema(
            "spec.asNumber",
            number.0,
            "excludes peerSelector",
            "remove it: nodes know their AS numbers",
        );
    }
    let needs_number = !spec.peer_ip.is_empty() || !spec.local_workload_selector.is_empty();
    if needs_number && spec.as_number.is_none_or(|number| number.0 == 0) {
        findings.add_of_schema(
            "spec.asNumber",
            "",
            "is needed with peerIP and localWorkloadSelector",
            "set the peer's AS number",
        );
    }
    let address = peer_address(findings, &spec.peer_ip);
    if !spec.reachable_by.is_empty()
        && let Some(gateway) = value::address(findings, "spec.reachableBy", &spec.reachable_by)
        && address.is_none_or(|address| address.is_ipv4() != gateway.is_ipv4())
    {
        findings.add_of_schema(
            "spec.reachableBy",
            &spec.reachable_by,
            "does not go with peerIP",
            "set a peerIP of the same IP version",
        );
    }
    if spec.keep_original_next_hop && spec.next_hop_mode.is_some() {
        findings.add_of_schema(
            "spec.keepOriginalNextHop",
            true,
            "excludes nextHopMode",
            "use nextHopMode: Keep alone",
        );
    }
}

fn peer_address(findings: &mut Findings, text: &str) -> Option<IpAddr> {
    if text.is_empty() {
        return None;
    }
    let address = text.parse::<IpAddr>().ok().or_else(|| {
        text.parse::<SocketAddr>()
            .ok()
            .filter(|socket| socket.port() > 0)
            .map(|socket| socket.ip())
    });
    if address.is_none() {
        findings.add_of_schema(
            "spec.peerIP",
            text,
            "is not an address of a peer",
            "write 10.0.0.1, 10.0.0.1:179, fd00::1 or [fd00::1]:179",
        );
    }
    address
}

/// Checks a BGPConfiguration.
pub(super) fn configuration(findings: &mut Findings, name: &str, spec: &BGPConfigurationSpec) {
    for (field, ranges) in [
        ("serviceLoadBalancerIPs", &spec.service_load_balancer_ips),
        ("serviceExternalIPs", &spec.service_external_ips),
        ("serviceClusterIPs", &spec.service_cluster_ips),
    ] {
        for (index, range) in ranges.iter().enumerate() {
            value::cidr(findings, &format!("spec.{field}[{index}].cidr"), &range.cidr);
        }
    }
    for (index, advertisement) in spec.prefix_advertisements.iter().enumerate() {
        value::cidr(
            findings,
            &format!("spec.prefixAdvertisements[{index}].cidr"),
            &advertisement.cidr,
        );
    }
    if name == "default" {
        return;
    }
    for (field, is_set) in [
        ("spec.asNumber", spec.as_number.is_some()),
        ("spec.serviceClusterIPs", !spec.service_cluster_ips.is_empty()),
        ("spec.serviceExternalIPs", !spec.service_external_ips.is_empty()),
        (
            "spec.serviceLoadBalancerIPs",
            !spec.service_load_balancer_ips.is_empty(),
        ),
        ("spec.nodeMeshPassword", spec.node_mesh_password.is_some()),
        (
            "spec.nodeMeshMaxRestartTime",
            spec.node_mesh_max_restart_time.is_some(),
        ),
    ] {
        if is_set {
            findings.add_of_schema(
                field,
                name,
                "cannot have it: it is for all nodes",
                "set it in the BGPConfiguration default",
            );
        }
    }
}

/// Checks a BGPFilter.
pub(super) fn filter(findings: &mut Findings, spec: &BGPFilterSpec) {
    for (field, rules, is_v4) in [
        ("exportV4", &spec.export_v4, true),
        ("importV4", &spec.import_v4, true),
        ("exportV6", &spec.export_v6, false),
        ("importV6", &spec.import_v6, false),
    ] {
        for (index, rule) in rules.iter().enumerate() {
            filter_rule(findings, &format!("spec.{field}[{index}]"), rule, is_v4);
        }
    }
}

fn filter_rule(findings: &mut Findings, path: &str, rule: &BGPFilterRule, is_v4: bool) {
    if rule.cidr.is_empty() {
        return;
    }
    let field = format!("{path}.cidr");
    let Some(network) = value::cidr(findings, &field, &rule.cidr) else {
        return;
    };
    if network.addr().is_ipv4() != is_v4 {
        let remedy = if is_v4 {
            "move the rule to a list for IPv6"
        } else {
            "move the rule to a list for IPv4"
        };
        findings.add_of_schema(&field, &rule.cidr, "is of the other IP version", remedy);
    }
    if rule.match_operator.is_none() {
        findings.add_of_schema(
            format!("{path}.matchOperator"),
            "",
            "is needed with cidr",
            "use Equal, NotEqual, In or NotIn",
        );
    }
}

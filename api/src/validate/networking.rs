//! Pools, reservations, sets, host endpoints, felix.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Findings, Layer, value};
use crate::meta::LABEL_NAMESPACE;
use crate::v3::{
    EncapsulationMode, FelixConfigurationSpec, GoDuration, HostEndpointSpec, IPPoolAllowedUse, IPPoolSpec,
    IPReservationSpec, Port,
};

/// Checks an IPPool.
pub(super) fn pool(findings: &mut Findings, spec: &IPPoolSpec) {
    let layer = std::mem::replace(&mut findings.layer, Layer::Schema);
    let network = value::masked_cidr(findings, "spec.cidr", &spec.cidr);
    findings.layer = layer;
    value::selector(findings, "spec.nodeSelector", &spec.node_selector);
    if let Some(selector) = &spec.namespace_selector {
        value::selector(findings, "spec.namespaceSelector", selector);
    }
    for (index, usage) in spec
        .allowed_uses
        .iter()
        .enumerate()
        .filter(|(_, usage)| !usage.is_known())
    {
        findings.add_of_schema(
            format!("spec.allowedUses[{index}]"),
            usage.as_str(),
            "is not a use",
            "use Workload, Tunnel or LoadBalancer",
        );
    }
    if spec.allowed_uses.contains(&IPPoolAllowedUse::LoadBalancer) && spec.allowed_uses.len() > 1 {
        findings.add_of_schema(
            "spec.allowedUses",
            &spec.cidr,
            "mixes LoadBalancer with others",
            "make a pool for load balancers",
        );
    }
    if let Some(network) = network {
        pool_network(findings, spec, network);
    }
}

fn pool_network(findings: &mut Findings, spec: &IPPoolSpec, network: IpNet) {
    let (range, default) = if network.addr().is_ipv4() {
        (20..=32, 26)
    } else {
        (116..=128, 122)
    };
    let size = spec.block_size.filter(|size| *size != 0).unwrap_or(default);
    if !range.contains(&size) {
        let remedy = format!("use {}-{}", range.start(), range.end());
        findings.add_of_schema(
            "spec.blockSize",
            size,
            "is not a prefix length for blocks of this pool",
            &remedy,
        );
    } else if i32::from(network.prefix_len()) > size && !spec.disabled {
        findings.add_of_schema(
            "spec.cidr",
            network.to_string(),
            "is smaller than one block",
            &format!("use a CIDR of /{size} or larger, or a higher spec.blockSize"),
        );
    }
    let link_local = match network.addr() {
        IpAddr::V4(_) => "169.254.0.0/16",
        IpAddr::V6(_) => "fe80::/10",
    };
    if link_local
        .parse::<IpNet>()
        .is_ok_and(|reserved| reserved.contains(&network) || network.contains(&reserved))
    {
        findings.add_of_schema(
            "spec.cidr",
            network.to_string(),
            "overlaps link-local addresses",
            "use another range",
        );
    }
    let is_on = |mode: &EncapsulationMode| *mode != EncapsulationMode::Never;
    let (ipip, vxlan) = (spec.effective_ipip_mode(), spec.effective_vxlan_mode());
    if is_on(&ipip) && !network.addr().is_ipv4() {
        findings.add_of_schema(
            "spec.ipipMode",
            ipip.as_str(),
            "is for IPv4 only",
            "use Never, or vxlanMode",
        );
    }
    if is_on(&ipip) && is_on(&vxlan) {
        findings.add_of_schema(
            "spec.ipipMode",
            ipip.as_str(),
            "excludes vxlanMode",
            "set one of both to Never",
        );
    }
}

/// Checks an IPReservation.
pub(super) fn reservation(findings: &mut Findings, spec: &IPReservationSpec) {
    for (index, cidr) in spec.reserved_cidrs.iter().enumerate() {
        value::cidr_or_address(findings, &format!("spec.reservedCIDRs[{index}]"), cidr);
    }
}

/// Checks a NetworkSet or GlobalNetworkSet.
pub(super) fn sets(findings: &mut Findings, nets: &[String], labels: Option<&BTreeMap<String, String>>) {
    for (index, net) in nets.iter().enumerate() {
        value::cidr_or_address(findings, &format!("spec.nets[{index}]"), net);
    }
    if let Some(namespace) = labels.and_then(|labels| labels.get(LABEL_NAMESPACE)) {
        findings.add(
            format!("metadata.labels[{LABEL_NAMESPACE}]"),
            namespace,
            "is a label that sets get by themselves",
            "remove it",
        );
    }
}

/// Checks a HostEndpoint.
pub(super) fn host_endpoint(findings: &mut Findings, spec: &HostEndpointSpec) {
    if spec.node.is_empty() {
        findings.add_of_schema("spec.node", "", "is needed", "name the node");
    }
    if spec.interface_name.is_empty() && spec.expected_ips.is_empty() {
        findings.add_of_schema(
            "spec.interfaceName",
            "",
            "or expectedIPs is needed",
            "name the interface, or * for all",
        );
    }
    if !spec.interface_name.is_empty() && spec.interface_name != "*" {
        value::interface(findings, "spec.interfaceName", &spec.interface_name);
    }
    for (index, address) in spec.expected_ips.iter().enumerate() {
        value::address(findings, &format!("spec.expectedIPs[{index}]"), address);
    }
}

/// Checks a FelixConfiguration.
pub(super) fn felix(findings: &mut Findings, spec: &FelixConfigurationSpec) {
    for (field, duration) in durations(spec) {
        if let Some(duration) = duration.as_ref().filter(|duration| duration.duration().is_none()) {
            findings.add_of_schema(
                format!("spec.{field}"),
                duration.to_string(),
                "is not a duration",
                "write it as 90s or 1m30s",
            );
        }
    }
    for (index, port) in spec.kube_node_port_ranges.iter().flatten().enumerate() {
        if !matches!(port, Port::Range { .. }) {
            findings.add_of_schema(
                format!("spec.kubeNodePortRanges[{index}]"),
                port.to_string(),
                "is not a range of ports",
                "write it as \"30000:32767\"",
            );
        }
    }
}

/// All intervals and timeouts, by name.
fn durations(spec: &FelixConfigurationSpec) -> [(&'static str, &Option<GoDuration>); 21] {
    [
        ("dataplaneWatchdogTimeout", &spec.dataplane_watchdog_timeout),
        ("routeRefreshInterval", &spec.route_refresh_interval),
        ("interfaceRefreshInterval", &spec.interface_refresh_interval),
        ("iptablesRefreshInterval", &spec.iptables_refresh_interval),
        (
            "iptablesPostWriteCheckInterval",
            &spec.iptables_post_write_check_interval,
        ),
        ("iptablesLockProbeInterval", &spec.iptables_lock_probe_interval),
        ("ipsetsRefreshInterval", &spec.ipsets_refresh_interval),
        ("xdpRefreshInterval", &spec.xdp_refresh_interval),
        ("netlinkTimeout", &spec.netlink_timeout),
        ("reportingInterval", &spec.reporting_interval),
        ("reportingTTL", &spec.reporting_ttl),
        ("endpointReportingDelay", &spec.endpoint_reporting_delay),
        ("usageReportingInitialDelay", &spec.usage_reporting_initial_delay),
        ("usageReportingInterval", &spec.usage_reporting_interval),
        (
            "debugSimulateCalcGraphHangAfter",
            &spec.debug_simulate_calc_graph_hang_after,
        ),
        (
            "debugSimulateDataplaneHangAfter",
            &spec.debug_simulate_dataplane_hang_after,
        ),
        (
            "debugSimulateDataplaneApplyDelay",
            &spec.debug_simulate_dataplane_apply_delay,
        ),
        ("nftablesRefreshInterval", &spec.nftables_refresh_interval),
        (
            "liveMigrationRouteConvergenceTime",
            &spec.live_migration_route_convergence_time,
        ),
        ("wireguardKeepAlive", &spec.wireguard_keep_alive),
        (
            "localSubnetL2ReachabilityRefreshInterval",
            &spec.local_subnet_l2_reachability_refresh_interval,
        ),
    ]
}

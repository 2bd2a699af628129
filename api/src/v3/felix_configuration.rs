//! FelixConfiguration: parameters of the node agent.
//!
//! Names: `default` for all nodes, `node.<name>` for one node, any other with a `nodeSelector`. Absent fields mean
//! the default of the agent, which the agent owns; no default is stored.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::rule::Port;
use super::scalar::GoDuration;

model! {
    /// A port that stays open: protocol, port and optionally the other side's network.
    pub struct ProtoPort {
        /// CIDR of the other side; empty = any.
        pub net: String,
        /// `tcp`, `udp` or `sctp`.
        pub protocol: String,
        /// The port.
        pub port: Option<u16>,
    }
}

model! {
    /// A range of routing tables, both ends included.
    pub struct RouteTableRange {
        /// First table.
        pub min: Option<i64>,
        /// Last table.
        pub max: Option<i64>,
    }
}

model! {
    /// The timeout of one health reporter.
    pub struct HealthTimeoutOverride {
        /// Name of the reporter.
        pub name: String,
        /// Its timeout.
        pub timeout: Option<GoDuration>,
    }
}

resource! {
    #[kube(
        kind = "FelixConfiguration",
        plural = "felixconfigurations",
        shortname = "felixconfig",
        shortname = "felixconfigs",
        doc = "Parameters of the node agent."
    )]
    /// Spec of a FelixConfiguration. Every field is optional.
    pub struct FelixConfigurationSpec {
        /// Nodes that the object is for; not on `default` and `node.<name>`.
        pub node_selector: Option<String>,
        /// Use the built-in dataplane rather than an external driver.
        pub use_internal_dataplane_driver: Option<bool>,
        /// Path of an external dataplane driver.
        pub dataplane_driver: Option<String>,
        /// How long the dataplane may be stuck before the node reports itself unhealthy.
        pub dataplane_watchdog_timeout: Option<GoDuration>,
        /// Program IPv6.
        pub ipv6_support: Option<bool>,
        /// How often routes are compared with the kernel's.
        pub route_refresh_interval: Option<GoDuration>,
        /// How often interfaces are listed anew.
        pub interface_refresh_interval: Option<GoDuration>,
        /// How often iptables chains are compared with the kernel's.
        pub iptables_refresh_interval: Option<GoDuration>,
        /// How long after a write iptables is checked for interference.
        pub iptables_post_write_check_interval: Option<GoDuration>,
        /// How often the iptables lock is tried.
        pub iptables_lock_probe_interval: Option<GoDuration>,
        /// Kernel features to force, as `Name=bool,...`.
        pub feature_detect_override: Option<String>,
        /// Features to turn on or off, as `Name=value,...`.
        pub feature_gates: Option<String>,
        /// How often IP sets are compared with the kernel's.
        pub ipsets_refresh_interval: Option<GoDuration>,
        /// Most members of one IP set.
        pub max_ipset_size: Option<i32>,
        /// Which iptables to use: Legacy, NFT or Auto.
        pub iptables_backend: Option<String>,
        /// How often XDP state is compared with the kernel's.
        pub xdp_refresh_interval: Option<GoDuration>,
        /// Timeout of netlink calls.
        pub netlink_timeout: Option<GoDuration>,
        /// Address of the OpenStack metadata service.
        pub metadata_addr: Option<String>,
        /// Port of the OpenStack metadata service.
        pub metadata_port: Option<i32>,
        /// OpenStack region of this node.
        pub openstack_region: Option<String>,
        /// Comma-separated prefixes of the names of workload interfaces.
        pub interface_prefix: Option<String>,
        /// Comma-separated names or /patterns/ of interfaces that are no host endpoints.
        pub interface_exclude: Option<String>,
        /// Put our jumps first (Insert) or last (Append) in the kernel's chains.
        pub chain_insert_mode: Option<String>,
        /// What happens to traffic from workloads to their host after policy: Drop, Return or Accept.
        pub default_endpoint_to_host_action: Option<String>,
        /// What happens to accepted traffic in the filter table: Accept or Return.
        pub iptables_filter_allow_action: Option<String>,
        /// What happens to accepted traffic in the mangle table: Accept or Return.
        pub iptables_mangle_allow_action: Option<String>,
        /// What happens to denied traffic: Drop or Reject.
        pub iptables_filter_deny_action: Option<String>,
        /// Prefix of the messages of Log rules.
        pub log_prefix: Option<String>,
        /// Rate limit of Log rules, such as `10/minute`.
        pub log_action_rate_limit: Option<String>,
        /// Burst of the rate limit of Log rules.
        pub log_action_rate_limit_burst: Option<i32>,
        /// Path of the log file.
        pub log_file_path: Option<String>,
        /// Level of what is logged to the file.
        pub log_severity_file: Option<String>,
        /// Level of what is logged to standard output.
        pub log_severity_screen: Option<String>,
        /// Level of what is logged to syslog.
        pub log_severity_sys: Option<String>,
        /// Source files whose debug messages are logged.
        pub log_debug_filename_regex: Option<String>,
        /// Make the IP-in-IP tunnel device; by default if a pool needs it.
        pub ipip_enabled: Option<bool>,
        /// MTU of the IP-in-IP device; 0 = detected.
        #[serde(rename = "ipipMTU")]
        pub ipip_mtu: Option<i32>,
        /// Make the VXLAN device; by default if a pool needs it.
        pub vxlan_enabled: Option<bool>,
        /// MTU of the IPv4 VXLAN device; 0 = detected.
        #[serde(rename = "vxlanMTU")]
        pub vxlan_mtu: Option<i32>,
        /// MTU of the IPv6 VXLAN device; 0 = detected.
        #[serde(rename = "vxlanMTUV6")]
        pub vxlan_mtu_v6: Option<i32>,
        /// UDP port of VXLAN.
        pub vxlan_port: Option<i32>,
        /// Network identifier of VXLAN.
        #[serde(rename = "vxlanVNI")]
        pub vxlan_vni: Option<i32>,
        /// Let workloads send VXLAN packets.
        #[serde(rename = "allowVXLANPacketsFromWorkloads")]
        pub allow_vxlan_packets_from_workloads: Option<bool>,
        /// Let workloads send IP-in-IP packets.
        #[serde(rename = "allowIPIPPacketsFromWorkloads")]
        pub allow_ipip_packets_from_workloads: Option<bool>,
        /// How often the node reports its status; 0 = never.
        pub reporting_interval: Option<GoDuration>,
        /// How long a status report is valid.
        #[serde(rename = "reportingTTL")]
        pub reporting_ttl: Option<GoDuration>,
        /// Report the status of endpoints.
        pub endpoint_reporting_enabled: Option<bool>,
        /// How long the report of an endpoint's status is delayed.
        pub endpoint_reporting_delay: Option<GoDuration>,
        /// Folder below which the endpoint status files are.
        pub endpoint_status_path_prefix: Option<String>,
        /// Bits of the packet mark that iptables rules may use.
        pub iptables_mark_mask: Option<u32>,
        /// Do not drop packets that connection tracking finds invalid.
        pub disable_conntrack_invalid_check: Option<bool>,
        /// Serve the health endpoints.
        pub health_enabled: Option<bool>,
        /// Address of the health endpoints.
        pub health_host: Option<String>,
        /// Port of the health endpoints.
        pub health_port: Option<i32>,
        /// Timeouts of single health reporters.
        pub health_timeout_overrides: Vec<HealthTimeoutOverride>,
        /// Serve metrics.
        pub prometheus_metrics_enabled: Option<bool>,
        /// Address of the metrics endpoint.
        pub prometheus_metrics_host: Option<String>,
        /// Port of the metrics endpoint.
        pub prometheus_metrics_port: Option<i32>,
        /// Serve metrics of the Go runtime.
        pub prometheus_go_metrics_enabled: Option<bool>,
        /// Serve metrics of the process.
        pub prometheus_process_metrics_enabled: Option<bool>,
        /// Serve metrics of WireGuard.
        pub prometheus_wire_guard_metrics_enabled: Option<bool>,
        /// CA file of the metrics endpoint.
        #[serde(rename = "prometheusMetricsCAFile")]
        pub prometheus_metrics_ca_file: Option<String>,
        /// Certificate file of the metrics endpoint.
        pub prometheus_metrics_cert_file: Option<String>,
        /// Key file of the metrics endpoint.
        pub prometheus_metrics_key_file: Option<String>,
        /// Whether clients of the metrics endpoint need a certificate.
        pub prometheus_metrics_client_auth: Option<String>,
        /// Ports of host endpoints that stay reachable whatever policy says; an empty list = none.
        pub failsafe_inbound_host_ports: Option<Vec<ProtoPort>>,
        /// Ports that host endpoints may always reach; an empty list = none.
        pub failsafe_outbound_host_ports: Option<Vec<ProtoPort>>,
        /// Port ranges of Services of type NodePort.
        pub kube_node_port_ranges: Option<Vec<Port>>,
        /// Folder of the policy sync sockets.
        pub policy_sync_path_prefix: Option<String>,
        /// Report anonymous usage.
        pub usage_reporting_enabled: Option<bool>,
        /// When usage is reported first.
        pub usage_reporting_initial_delay: Option<GoDuration>,
        /// How often usage is reported.
        pub usage_reporting_interval: Option<GoDuration>,
        /// Ports to use for masqueraded traffic.
        pub nat_port_range: Option<Port>,
        /// Source address for traffic that leaves the pools; by default that of the interface.
        pub nat_outgoing_address: Option<String>,
        /// Destinations that are not translated: IPPoolsOnly or IPPoolsAndHostIPs.
        pub nat_outgoing_exclusions: Option<String>,
        /// IPv4 source hint of routes to workloads.
        pub device_route_source_address: Option<String>,
        /// IPv6 source hint of routes to workloads.
        pub device_route_source_address_i_pv6: Option<String>,
        /// Route protocol number of our routes.
        pub device_route_protocol: Option<i32>,
        /// Remove routes on workload interfaces that are not ours.
        pub remove_external_routes: Option<bool>,
        /// Which routes to other nodes are programmed here rather than by BGP.
        pub program_cluster_routes: Option<String>,
        /// Turn forwarding on in the kernel.
        pub ip_forwarding: Option<String>,
        /// CIDRs of nodes outside the cluster that may send encapsulated traffic.
        pub external_nodes_list: Option<Vec<String>>,
        /// Path of memory profiles.
        pub debug_memory_profile_path: Option<String>,
        /// Never drop log messages.
        pub debug_disable_log_dropping: Option<bool>,
        /// Simulate a hang of the calculation.
        pub debug_simulate_calc_graph_hang_after: Option<GoDuration>,
        /// Simulate a hang of the dataplane.
        pub debug_simulate_dataplane_hang_after: Option<GoDuration>,
        /// Delay each apply of the dataplane.
        pub debug_simulate_dataplane_apply_delay: Option<GoDuration>,
        /// Address of the debug endpoint.
        pub debug_host: Option<String>,
        /// Port of the debug endpoint.
        pub debug_port: Option<i32>,
        /// Translate only what leaves through this interface.
        #[serde(rename = "iptablesNATOutgoingInterfaceFilter")]
        pub iptables_nat_outgoing_interface_filter: Option<String>,
        /// Accelerate sidecars; experimental.
        pub sidecar_acceleration_enabled: Option<bool>,
        /// Use XDP for untracked deny rules.
        pub xdp_enabled: Option<bool>,
        /// Use generic XDP where drivers have none.
        #[serde(rename = "genericXDPEnabled")]
        pub generic_xdp_enabled: Option<bool>,
        /// Report denied packets to readers on the node: Enabled or Disabled.
        pub flow_logs_local_reporter: Option<String>,
        /// Use nftables: Enabled, Disabled or Auto.
        pub nftables_mode: Option<String>,
        /// Use flow tables: All or Disabled.
        pub nftables_flow_table_offload: Option<String>,
        /// Interfaces that take part in flow tables.
        pub nftables_flow_table_data_iface_pattern: Option<String>,
        /// How often nftables is compared with the kernel's.
        pub nftables_refresh_interval: Option<GoDuration>,
        /// What happens to accepted traffic in the filter table: Accept or Return.
        pub nftables_filter_allow_action: Option<String>,
        /// What happens to accepted traffic in the mangle table: Accept or Return.
        pub nftables_mangle_allow_action: Option<String>,
        /// What happens to denied traffic: Drop or Reject.
        pub nftables_filter_deny_action: Option<String>,
        /// Bits of the packet mark that nftables rules may use.
        pub nftables_mark_mask: Option<u32>,
        /// Take part in Istio's ambient mode.
        pub istio_ambient_mode: Option<String>,
        /// DSCP that marks Istio traffic.
        #[serde(rename = "istioDSCPMark")]
        pub istio_dscp_mark: Option<IntOrString>,
        /// Path of the cgroup v2 hierarchy.
        pub cgroup_v2_path: Option<String>,
        /// Where routes to workloads are learned: CalicoIPAM or WorkloadIPs.
        pub route_source: Option<String>,
        /// Routing tables that may be used.
        pub route_table_ranges: Option<Vec<RouteTableRange>>,
        /// Routing tables that may be used; older form.
        pub route_table_range: Option<RouteTableRange>,
        /// Program no routes.
        pub route_sync_disabled: Option<bool>,
        /// Metric of IPv4 routes.
        pub ipv4_normal_route_priority: Option<i32>,
        /// Metric of IPv4 routes during a live migration.
        pub ipv4_elevated_route_priority: Option<i32>,
        /// Metric of IPv6 routes.
        pub ipv6_normal_route_priority: Option<i32>,
        /// Metric of IPv6 routes during a live migration.
        pub ipv6_elevated_route_priority: Option<i32>,
        /// How long elevated routes stay after a live migration.
        pub live_migration_route_convergence_time: Option<GoDuration>,
        /// Encrypt IPv4 traffic between nodes.
        pub wireguard_enabled: Option<bool>,
        /// Encrypt IPv6 traffic between nodes.
        pub wireguard_enabled_v6: Option<bool>,
        /// Use threaded NAPI for WireGuard.
        pub wireguard_threading_enabled: Option<bool>,
        /// UDP port of WireGuard for IPv4.
        pub wireguard_listening_port: Option<i32>,
        /// UDP port of WireGuard for IPv6.
        pub wireguard_listening_port_v6: Option<i32>,
        /// Priority of the routing rule of WireGuard.
        pub wireguard_routing_rule_priority: Option<i32>,
        /// Name of the IPv4 WireGuard device.
        pub wireguard_interface_name: Option<String>,
        /// Name of the IPv6 WireGuard device.
        pub wireguard_interface_name_v6: Option<String>,
        /// MTU of the IPv4 WireGuard device; 0 = detected.
        #[serde(rename = "wireguardMTU")]
        pub wireguard_mtu: Option<i32>,
        /// MTU of the IPv6 WireGuard device; 0 = detected.
        #[serde(rename = "wireguardMTUV6")]
        pub wireguard_mtu_v6: Option<i32>,
        /// Encrypt traffic of the nodes themselves.
        pub wireguard_host_encryption_enabled: Option<bool>,
        /// Keepalive interval of WireGuard peers.
        pub wireguard_keep_alive: Option<GoDuration>,
        /// What to do about AWS's source and destination check: DoNothing, Enable or Disable.
        pub aws_src_dst_check: Option<String>,
        /// What happens to traffic to service addresses that nobody serves: Drop, Reject or Disabled.
        pub service_loop_prevention: Option<String>,
        /// Let workloads send from other addresses on request: Any or Disabled.
        pub workload_source_spoofing: Option<String>,
        /// Host interfaces whose MTU counts for detection.
        pub mtu_iface_pattern: Option<String>,
        /// Serve floating addresses.
        #[serde(rename = "floatingIPs")]
        pub floating_ips: Option<String>,
        /// Answer ARP and ND for addresses of the local subnet.
        pub local_subnet_l2_reachability: Option<String>,
        /// How often those answers are checked.
        pub local_subnet_l2_reachability_refresh_interval: Option<GoDuration>,
        /// Manage the Windows firewall.
        pub windows_manage_firewall_rules: Option<String>,
        /// Garbage collection threshold of the Go runtime.
        #[serde(rename = "goGCThreshold")]
        pub go_gc_threshold: Option<i32>,
        /// Memory limit of the Go runtime.
        #[serde(rename = "goMemoryLimitMB")]
        pub go_memory_limit_mb: Option<i32>,
        /// Number of processors of the Go runtime.
        pub go_max_procs: Option<i32>,
        /// Let the CNI plugin wait for the MTU file.
        #[serde(rename = "requireMTUFile")]
        pub require_mtu_file: Option<bool>,
    }
}

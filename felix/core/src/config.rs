//! The parameters of the calculation, typed, from FelixConfiguration and the environment.
//!
//! Owns defaults and meaning of every parameter that the calculation uses. A value that cannot be read counts as
//! absent and is reported. Source: Calico `felix/config/config_params.go`; field by field in
//! `docs/reference/felix-configuration.md`, which [`reference`] writes.

mod merge;
pub mod parameters;
mod read;
pub mod reference;

use std::net::IpAddr;

use caracal_api::v3::FelixConfigurationSpec;
use ipnet::IpNet;

pub use merge::{Layers, Merged, merge};
use read::{Reader, external_nodes, failsafe, interface_prefixes, log_rate, marks, port_range};

use crate::desired::Backend;
use crate::rules::{PortRange, TimeUnit};

/// Most members of an IP set unless configured.
const MAX_IPSET_SIZE: u32 = 1_048_576;
/// Route protocol of all our routes unless configured.
const ROUTE_PROTOCOL: u8 = 80;
/// Metric of routes to workloads unless configured.
const ROUTE_METRIC: u32 = 1_024;
/// Bits of the packet mark that we may use unless configured.
const MARK_MASK: u32 = 0xffff_0000;
/// Messages of Log rules that may come at once unless configured.
const LOG_BURST: u32 = 5;
/// Bits that the rules need: accept, pass, drop and two scratch bits.
const MARK_BITS_MIN: u32 = 5;

/// What the end of a chain does with a packet that was let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowAction {
    /// Accept it in this table.
    Accept,
    /// Leave it to the rules after ours.
    Return,
}

/// What is done with a denied packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenyAction {
    /// It disappears.
    Drop,
    /// The sender is told.
    Reject,
}

/// What is done with traffic from workloads to their host after policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointToHostAction {
    /// Dropped.
    Drop,
    /// Left to the rules after ours.
    Return,
    /// Accepted.
    Accept,
}

/// What is done with traffic to service addresses that nobody serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceLoopPrevention {
    /// Dropped.
    Drop,
    /// Rejected.
    Reject,
    /// Nothing.
    Disabled,
}

/// A port of a host endpoint that stays open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailsafePort {
    /// Network of the other side; any if absent.
    pub net: Option<IpNet>,
    /// IP protocol number.
    pub protocol: u8,
    /// The port.
    pub port: u16,
}

/// Bits of the packet mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkBits {
    /// The packet is let pass.
    pub accept: u32,
    /// The packet goes to the next tier.
    pub pass: u32,
    /// The packet is denied.
    pub drop: u32,
    /// All groups of criteria hold so far; the packet comes from a workload (raw table).
    pub scratch0: u32,
    /// This group of criteria holds.
    pub scratch1: u32,
}

impl MarkBits {
    /// Takes the bits from the low end of a mask; `None` when it has too few.
    #[must_use]
    pub const fn from_mask(mask: u32) -> Option<Self> {
        if mask.count_ones() < MARK_BITS_MIN {
            return None;
        }
        let (accept, rest) = lowest(mask);
        let (pass, rest) = lowest(rest);
        let (drop, rest) = lowest(rest);
        let (scratch0, rest) = lowest(rest);
        let (scratch1, _) = lowest(rest);
        Some(Self {
            accept,
            pass,
            drop,
            scratch0,
            scratch1,
        })
    }

    /// All of them.
    #[must_use]
    pub const fn all(&self) -> u32 {
        self.accept | self.pass | self.drop | self.scratch0 | self.scratch1
    }
}

/// The lowest bit of a mask, and the mask without it.
const fn lowest(mask: u32) -> (u32, u32) {
    let bit = mask & mask.wrapping_neg();
    (bit, mask & !bit)
}

/// The parameters of the calculation.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are those of FelixConfiguration, documented there"
)]
pub struct Config {
    /// What the tables are written with: a fact of the node, not a parameter.
    pub backend: Backend,
    pub ipv6_support: bool,
    pub interface_prefixes: Vec<String>,
    pub endpoint_to_host_action: EndpointToHostAction,
    pub filter_allow_action: AllowAction,
    pub mangle_allow_action: AllowAction,
    pub deny_action: DenyAction,
    pub log_prefix: String,
    /// Denied packets are shown to the agent, which says who denied them.
    pub is_denial_logged: bool,
    /// Packets and time; none = every packet is logged.
    pub log_rate: Option<(u32, TimeUnit)>,
    pub log_burst: u32,
    pub is_append_mode: bool,
    pub marks: MarkBits,
    pub disable_conntrack_invalid_check: bool,
    pub allow_vxlan_packets_from_workloads: bool,
    pub allow_ipip_packets_from_workloads: bool,
    pub ipip_enabled: Option<bool>,
    pub vxlan_enabled: Option<bool>,
    pub vxlan_port: u16,
    pub failsafe_inbound: Vec<FailsafePort>,
    pub failsafe_outbound: Vec<FailsafePort>,
    pub max_ipset_size: u32,
    pub nat_port_range: Option<PortRange>,
    pub nat_outgoing_address: Option<IpAddr>,
    pub nat_exclude_hosts: bool,
    pub nat_outgoing_interface: Option<String>,
    pub external_nodes: Vec<IpNet>,
    pub route_protocol: u8,
    pub ipv4_route_metric: u32,
    pub ipv6_route_metric: u32,
    pub ipv4_route_source: Option<IpAddr>,
    pub ipv6_route_source: Option<IpAddr>,
    pub ip_forwarding: bool,
    pub spoofing_allowed: bool,
    pub service_loop_prevention: ServiceLoopPrevention,
    pub floating_ips: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self::from_spec(&FelixConfigurationSpec::default(), Backend::default()).0
    }
}

impl Config {
    /// Parameters for an effective FelixConfiguration, and what of it could not be read.
    #[must_use]
    pub fn from_spec(spec: &FelixConfigurationSpec, backend: Backend) -> (Self, Vec<String>) {
        let mut read = Reader(Vec::new());
        let allow = [("ACCEPT", AllowAction::Accept), ("RETURN", AllowAction::Return)];
        let deny = [("DROP", DenyAction::Drop), ("REJECT", DenyAction::Reject)];
        let to_host = [
            ("DROP", EndpointToHostAction::Drop),
            ("RETURN", EndpointToHostAction::Return),
            ("ACCEPT", EndpointToHostAction::Accept),
        ];
        let service_loop = [
            ("Drop", ServiceLoopPrevention::Drop),
            ("Reject", ServiceLoopPrevention::Reject),
            ("Disabled", ServiceLoopPrevention::Disabled),
        ];
        let switch = [("Enabled", true), ("Disabled", false)];
        let own = OwnParameters::of(spec, backend);
        let config = Self {
            backend,
            log_rate: log_rate(&mut read, spec.log_action_rate_limit.as_deref()),
            log_burst: read.number(
                "logActionRateLimitBurst",
                spec.log_action_rate_limit_burst,
                LOG_BURST,
            ),
            is_append_mode: read.word(
                "chainInsertMode",
                spec.chain_insert_mode.as_ref(),
                &[("Insert", false), ("Append", true)],
                false,
            ),
            ipv6_support: spec.ipv6_support.unwrap_or(true),
            interface_prefixes: interface_prefixes(spec.interface_prefix.as_deref()),
            endpoint_to_host_action: read.word(
                "defaultEndpointToHostAction",
                spec.default_endpoint_to_host_action.as_ref(),
                &to_host,
                EndpointToHostAction::Drop,
            ),
            filter_allow_action: read.word(
                own.filter_allow.0,
                own.filter_allow.1,
                &allow,
                AllowAction::Accept,
            ),
            mangle_allow_action: read.word(
                own.mangle_allow.0,
                own.mangle_allow.1,
                &allow,
                AllowAction::Accept,
            ),
            deny_action: read.word(own.deny.0, own.deny.1, &deny, DenyAction::Drop),
            is_denial_logged: read.word(
                "flowLogsLocalReporter",
                spec.flow_logs_local_reporter.as_ref(),
                &switch,
                false,
            ),
            log_prefix: spec
                .log_prefix
                .clone()
                .unwrap_or_else(|| "calico-packet".to_owned()),
            marks: marks(&mut read, own.mark_mask.0, own.mark_mask.1),
            disable_conntrack_invalid_check: spec.disable_conntrack_invalid_check.unwrap_or(false),
            allow_vxlan_packets_from_workloads: spec.allow_vxlan_packets_from_workloads.unwrap_or(false),
            allow_ipip_packets_from_workloads: spec.allow_ipip_packets_from_workloads.unwrap_or(false),
            ipip_enabled: spec.ipip_enabled,
            vxlan_enabled: spec.vxlan_enabled,
            vxlan_port: read.number("vxlanPort", spec.vxlan_port, 4_789),
            failsafe_inbound: failsafe(
                &mut read,
                "failsafeInboundHostPorts",
                spec.failsafe_inbound_host_ports.as_deref(),
                &[
                    (6, 22),
                    (17, 68),
                    (6, 179),
                    (6, 2379),
                    (6, 2380),
                    (6, 5473),
                    (6, 6443),
                    (6, 6666),
                    (6, 6667),
                ],
            ),
            failsafe_outbound: failsafe(
                &mut read,
                "failsafeOutboundHostPorts",
                spec.failsafe_outbound_host_ports.as_deref(),
                &[
                    (17, 53),
                    (17, 67),
                    (6, 179),
                    (6, 2379),
                    (6, 2380),
                    (6, 5473),
                    (6, 6443),
                    (6, 6666),
                    (6, 6667),
                ],
            ),
            max_ipset_size: read
                .number("maxIpsetSize", spec.max_ipset_size, MAX_IPSET_SIZE)
                .max(1),
            nat_port_range: port_range(&mut read, spec.nat_port_range.as_ref()),
            nat_outgoing_address: read.address("natOutgoingAddress", spec.nat_outgoing_address.as_ref()),
            nat_exclude_hosts: read.word(
                "natOutgoingExclusions",
                spec.nat_outgoing_exclusions.as_ref(),
                &[("IPPoolsOnly", false), ("IPPoolsAndHostIPs", true)],
                false,
            ),
            nat_outgoing_interface: spec
                .iptables_nat_outgoing_interface_filter
                .clone()
                .filter(|name| !name.is_empty()),
            external_nodes: external_nodes(
                &mut read,
                spec.external_nodes_list.as_deref().unwrap_or_default(),
            ),
            route_protocol: read.number("deviceRouteProtocol", spec.device_route_protocol, ROUTE_PROTOCOL),
            ipv4_route_metric: read.number(
                "ipv4NormalRoutePriority",
                spec.ipv4_normal_route_priority,
                ROUTE_METRIC,
            ),
            ipv6_route_metric: read.number(
                "ipv6NormalRoutePriority",
                spec.ipv6_normal_route_priority,
                ROUTE_METRIC,
            ),
            ipv4_route_source: read
                .address(
                    "deviceRouteSourceAddress",
                    spec.device_route_source_address.as_ref(),
                )
                .filter(IpAddr::is_ipv4),
            ipv6_route_source: read
                .address(
                    "deviceRouteSourceAddressIPv6",
                    spec.device_route_source_address_i_pv6.as_ref(),
                )
                .filter(IpAddr::is_ipv6),
            ip_forwarding: read.word("ipForwarding", spec.ip_forwarding.as_ref(), &switch, true),
            spoofing_allowed: read.word(
                "workloadSourceSpoofing",
                spec.workload_source_spoofing.as_ref(),
                &[("Any", true), ("Disabled", false)],
                false,
            ),
            service_loop_prevention: read.word(
                "serviceLoopPrevention",
                spec.service_loop_prevention.as_ref(),
                &service_loop,
                ServiceLoopPrevention::Drop,
            ),
            floating_ips: read.word("floatingIPs", spec.floating_ips.as_ref(), &switch, false),
        };
        (config, read.0)
    }

    /// Action at the end of the filter table for what may pass.
    #[must_use]
    pub const fn filter_allow(&self) -> crate::rules::Action {
        allow(self.filter_allow_action)
    }

    /// Action at the end of the mangle table for what may pass.
    #[must_use]
    pub const fn mangle_allow(&self) -> crate::rules::Action {
        allow(self.mangle_allow_action)
    }

    /// Action for what may not pass, in the filter table.
    #[must_use]
    pub const fn deny(&self) -> crate::rules::Action {
        match self.deny_action {
            DenyAction::Drop => crate::rules::Action::Drop,
            DenyAction::Reject => crate::rules::Action::Reject,
        }
    }
}

/// Parameters that each backend has under a name of its own.
struct OwnParameters<'a> {
    filter_allow: (&'static str, Option<&'a String>),
    mangle_allow: (&'static str, Option<&'a String>),
    deny: (&'static str, Option<&'a String>),
    mark_mask: (&'static str, Option<u32>),
}

impl<'a> OwnParameters<'a> {
    const fn of(spec: &'a FelixConfigurationSpec, backend: Backend) -> Self {
        match backend {
            Backend::Iptables => Self {
                filter_allow: (
                    "iptablesFilterAllowAction",
                    spec.iptables_filter_allow_action.as_ref(),
                ),
                mangle_allow: (
                    "iptablesMangleAllowAction",
                    spec.iptables_mangle_allow_action.as_ref(),
                ),
                deny: (
                    "iptablesFilterDenyAction",
                    spec.iptables_filter_deny_action.as_ref(),
                ),
                mark_mask: ("iptablesMarkMask", spec.iptables_mark_mask),
            },
            Backend::Nftables => Self {
                filter_allow: (
                    "nftablesFilterAllowAction",
                    spec.nftables_filter_allow_action.as_ref(),
                ),
                mangle_allow: (
                    "nftablesMangleAllowAction",
                    spec.nftables_mangle_allow_action.as_ref(),
                ),
                deny: (
                    "nftablesFilterDenyAction",
                    spec.nftables_filter_deny_action.as_ref(),
                ),
                mark_mask: ("nftablesMarkMask", spec.nftables_mark_mask),
            },
        }
    }
}

const fn allow(action: AllowAction) -> crate::rules::Action {
    match action {
        AllowAction::Accept => crate::rules::Action::Accept,
        AllowAction::Return => crate::rules::Action::Return,
    }
}

#[cfg(test)]
mod tests {
    use caracal_api::v3::ProtoPort;

    use super::*;

    #[test]
    fn the_default_mask_gives_the_default_bits() {
        assert_eq!(MarkBits::from_mask(MARK_MASK), Some(Config::default().marks));
        assert_eq!(MarkBits::from_mask(0xf), None);
        let bits = MarkBits::from_mask(0b1111_1010).unwrap();
        assert_eq!((bits.accept, bits.pass, bits.all().count_ones()), (2, 8, 5));
    }

    #[test]
    fn what_cannot_be_read_is_reported_and_the_default_counts() {
        let spec = FelixConfigurationSpec {
            default_endpoint_to_host_action: Some("accept".to_owned()),
            iptables_filter_deny_action: Some("Explode".to_owned()),
            iptables_mark_mask: Some(3),
            vxlan_port: Some(70_000),
            failsafe_inbound_host_ports: Some(vec![ProtoPort {
                protocol: "icmp".to_owned(),
                port: Some(1),
                ..ProtoPort::default()
            }]),
            ..FelixConfigurationSpec::default()
        };
        let (config, problems) = Config::from_spec(&spec, Backend::Iptables);
        assert_eq!(config.endpoint_to_host_action, EndpointToHostAction::Accept);
        assert_eq!(config.deny_action, DenyAction::Drop);
        assert_eq!(config.vxlan_port, 4_789);
        assert!(config.failsafe_inbound.is_empty());
        assert_eq!(problems.len(), 4, "{problems:?}");
    }
}

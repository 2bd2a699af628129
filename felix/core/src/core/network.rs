//! Routes, interfaces, kernel parameters, status files and the sets of pools and nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use caracal_api::net::parse_cidr_or_address;
use caracal_api::routing::{self, Encapsulation, RouteOwner};
use caracal_api::v3::{
    EncapsulationMode, FelixConfigurationSpec, IPPoolAllowedUse, IPPoolSpec, ProgramClusterRoutes,
};
use caracal_api::virtual_::node::Node;
use caracal_api::virtual_::workload_endpoint::QosControls;
use ipnet::IpNet;

use super::cluster::{Cluster, Local};
use crate::calc::model::version_of;
use crate::calc::sets::halves;
use crate::config::Config;
use crate::desired::{
    Bandwidth, EndpointStatus, Interface, IpSetMember, IpVersion, Route, RouteTarget, Sysctl,
};
use crate::rules::static_chains::{ALL_HOSTS, ALL_POOLS, Facts, MASQUERADED_POOLS, VXLAN_HOSTS};

/// What an endpoint needs beside chains.
#[derive(Debug, Default)]
pub(super) struct EndpointNetwork {
    pub(super) routes: BTreeMap<IpNet, Route>,
    pub(super) interface: Option<Interface>,
    pub(super) status: Option<(String, EndpointStatus)>,
}

/// Routes, kernel parameters and status file of a workload.
pub(super) fn endpoint(name: &str, local: &Local, config: &Config) -> EndpointNetwork {
    let floating = local.floating.iter().filter(|_| config.floating_ips);
    let floating = floating.map(|(external, _)| IpNet::from(*external));
    let nets = local.nets.iter().copied().chain(floating);
    let enabled = nets.filter(|net| is_enabled(net, config));
    EndpointNetwork {
        routes: enabled
            .map(|net| (net, workload_route(name, &net, config)))
            .collect(),
        interface: Some(interface(name, local, config)),
        // Who waits for the file waits for routes too.
        status: (!local.nets.is_empty()).then(|| (status_name(local), status(local))),
    }
}

fn is_enabled(net: &IpNet, config: &Config) -> bool {
    config.ipv6_support || version_of(net) == IpVersion::V4
}

/// Routes to blocks of addresses, own ones and those of other nodes.
pub(super) fn block_routes(
    cluster: &Cluster,
    config: &Config,
    spec: &FelixConfigurationSpec,
) -> BTreeMap<IpNet, Route> {
    let mut routes = BTreeMap::new();
    for affinity in cluster.affinities.values() {
        let block = parse_cidr_or_address(&affinity.cidr);
        let Some(block) = block.filter(|block| is_enabled(block, config)) else {
            continue;
        };
        let is_settled = affinity.state.is_confirmed() && !affinity.deleted && affinity.type_ != "virtual";
        let Some(pool) = pool_of(cluster, &block).filter(|_| is_settled) else {
            continue;
        };
        if owner(cluster, pool, spec) != RouteOwner::Felix {
            continue;
        }
        let target = if affinity.node == cluster.node {
            (block.prefix_len() != block.max_prefix_len()).then_some(RouteTarget::Blackhole)
        } else {
            remote(cluster, (&cluster.node, &affinity.node), pool, &block)
        };
        if let Some(target) = target {
            let protocol = config.route_protocol;
            routes.entry(block).or_insert(Route {
                target,
                protocol,
                metric: None,
                source: None,
            });
        }
    }
    routes
}

/// Kernel parameters of the node.
pub(super) fn sysctls(config: &Config) -> Vec<Sysctl> {
    if !config.ip_forwarding {
        return Vec::new();
    }
    let mut sysctls = vec![sysctl(&["net", "ipv4", "ip_forward"], "1", false)];
    if config.ipv6_support {
        sysctls.push(sysctl(&["net", "ipv6", "conf", "all", "forwarding"], "1", true));
    }
    sysctls
}

fn workload_route(interface: &str, net: &IpNet, config: &Config) -> Route {
    let (metric, source) = match version_of(net) {
        IpVersion::V4 => (config.ipv4_route_metric, config.ipv4_route_source),
        IpVersion::V6 => (config.ipv6_route_metric, config.ipv6_route_source),
    };
    Route {
        target: RouteTarget::Interface(interface.to_owned()),
        protocol: config.route_protocol,
        metric: Some(metric),
        source,
    }
}

fn sysctl(path: &[&str], value: &str, is_optional: bool) -> Sysctl {
    Sysctl {
        path: path.iter().map(|part| (*part).to_owned()).collect(),
        value: value.to_owned(),
        is_optional,
    }
}

fn interface(name: &str, local: &Local, config: &Config) -> Interface {
    let rp_filter = if !local.source_prefixes.is_empty() && config.spoofing_allowed {
        "0"
    } else {
        "1"
    };
    let conf = |key, value, is_optional| sysctl(&["net", "ipv4", "conf", name, key], value, is_optional);
    let mut sysctls = vec![
        conf("route_localnet", "1", false),
        sysctl(&["net", "ipv4", "neigh", name, "proxy_delay"], "0", true),
        conf("proxy_arp", "1", false),
        conf("forwarding", "1", false),
        conf("rp_filter", rp_filter, false),
    ];
    if config.ipv6_support && local.nets.iter().any(|net| version_of(net) == IpVersion::V6) {
        let conf = |key, is_optional, value| sysctl(&["net", "ipv6", "conf", name, key], value, is_optional);
        sysctls.extend([
            conf("proxy_ndp", false, "1"),
            conf("forwarding", false, "1"),
            conf("accept_ra", true, "0"),
        ]);
    }
    let (to_workload, from_workload) = local.qos.as_ref().map_or((None, None), bandwidths);
    Interface {
        sysctls,
        to_workload,
        from_workload,
    }
}

/// Limits of the bandwidth to and from a workload.
fn bandwidths(qos: &QosControls) -> (Option<Bandwidth>, Option<Bandwidth>) {
    let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    let bucket = |rate, burst, peak, min_burst| {
        let rate = number(rate).filter(|rate| *rate > 0)?;
        Some(Bandwidth {
            rate,
            burst: number(burst).unwrap_or(rate),
            peak_rate: number(peak),
            min_burst: number(min_burst),
        })
    };
    (
        bucket(
            qos.ingress_bandwidth,
            qos.ingress_burst,
            qos.ingress_peakrate,
            qos.ingress_minburst,
        ),
        bucket(
            qos.egress_bandwidth,
            qos.egress_burst,
            qos.egress_peakrate,
            qos.egress_minburst,
        ),
    )
}

/// `<orchestrator> <workload> <endpoint>`, each escaped as in a URL path.
fn status_name(local: &Local) -> String {
    let escape = |text: &str| text.replace('%', "%25").replace('/', "%2F").replace(' ', "%20");
    [&local.orchestrator, &local.workload, &local.endpoint]
        .map(|part| escape(part))
        .join(" ")
}

fn status(local: &Local) -> EndpointStatus {
    let nets = |version| {
        let own = local.nets.iter().filter(|net| version_of(net) == version);
        own.map(ToString::to_string).collect()
    };
    EndpointStatus {
        iface_name: local.interface.clone(),
        mac: local.mac.clone(),
        ipv4_nets: nets(IpVersion::V4),
        ipv6_nets: nets(IpVersion::V6),
        bgp_peer_name: String::new(),
    }
}

/// The most specific pool around a block.
pub(super) fn pool_of<'a>(cluster: &'a Cluster, block: &IpNet) -> Option<&'a IPPoolSpec> {
    let around = cluster
        .pools
        .values()
        .filter(|pool| pool.network().is_some_and(|net| net.contains(block)));
    around.max_by_key(|pool| pool.network().map(|net| net.prefix_len()))
}

pub(super) fn owner(cluster: &Cluster, pool: &IPPoolSpec, spec: &FelixConfigurationSpec) -> RouteOwner {
    let felix = spec
        .program_cluster_routes
        .as_deref()
        .map(ProgramClusterRoutes::from);
    let bgp = cluster
        .bgp
        .get("default")
        .and_then(|bgp| bgp.program_cluster_routes.as_ref());
    routing::cluster_route_owner(routing::pool_class(pool), felix.as_ref(), bgp)
}

/// How one node reaches a block of another; `None` while an address of theirs is unknown.
pub(super) fn remote(
    cluster: &Cluster,
    (from, to): (&str, &str),
    pool: &IPPoolSpec,
    block: &IpNet,
) -> Option<RouteTarget> {
    let (own, other) = (cluster.nodes.get(from)?, cluster.nodes.get(to)?);
    let is_v4 = version_of(block) == IpVersion::V4;
    let (own_net, other_net) = if is_v4 {
        (own.ipv4()?, other.ipv4()?)
    } else {
        (own.ipv6()?, other.ipv6()?)
    };
    let gateway = other_net.addr();
    let text = if is_v4 {
        &other.spec.ipv4_vxlan_tunnel_addr
    } else {
        &other.spec.ipv6_vxlan_tunnel_addr
    };
    Some(match routing::encapsulation(pool, own_net.contains(&gateway)) {
        Encapsulation::None => RouteTarget::ViaNode {
            gateway,
            own_address: own_net.addr(),
        },
        Encapsulation::Ipip => RouteTarget::ViaTunnel {
            gateway,
            device: "tunl0".to_owned(),
        },
        Encapsulation::Vxlan => RouteTarget::ViaTunnel {
            gateway: text.parse::<IpAddr>().ok()?,
            device: if is_v4 { "vxlan.calico" } else { "vxlan-v6.calico" }.to_owned(),
        },
    })
}

fn is_for_workloads(pool: &IPPoolSpec) -> bool {
    pool.allows(&IPPoolAllowedUse::Workload) || pool.allows(&IPPoolAllowedUse::Tunnel)
}

/// What static chains of an IP version depend on.
pub(super) fn facts(cluster: &Cluster, config: &Config, version: IpVersion) -> Facts {
    let own = |pool: &&IPPoolSpec| pool.network().is_some_and(|net| version_of(&net) == version);
    let pools: Vec<&IPPoolSpec> = cluster.pools.values().filter(own).collect();
    let is_used = |mode: fn(&IPPoolSpec) -> EncapsulationMode| {
        pools.iter().any(|pool| mode(pool) != EncapsulationMode::Never)
    };
    let ipip = config
        .ipip_enabled
        .unwrap_or_else(|| is_used(IPPoolSpec::effective_ipip_mode));
    let vxlan = config
        .vxlan_enabled
        .unwrap_or_else(|| is_used(IPPoolSpec::effective_vxlan_mode));
    let bgp = cluster.bgp.get("default");
    let services = bgp.into_iter().flat_map(|bgp| {
        let cluster = bgp.service_cluster_ips.iter();
        let all = cluster.chain(&bgp.service_external_ips);
        all.chain(&bgp.service_load_balancer_ips)
    });
    let nets = services.filter_map(|net| parse_cidr_or_address(&net.cidr));
    let nets: BTreeSet<IpNet> = nets.filter(|net| version_of(net) == version).collect();
    Facts {
        masquerades: pools
            .iter()
            .any(|pool| pool.nat_outgoing && is_for_workloads(pool)),
        ipip: ipip && version == IpVersion::V4,
        vxlan,
        service_nets: nets.into_iter().collect(),
    }
}

/// Sets that do not come from selectors.
pub(super) fn static_sets(cluster: &Cluster, config: &Config) -> Vec<(&'static str, Vec<IpSetMember>)> {
    let pools = |is_wanted: fn(&IPPoolSpec) -> bool| {
        let pools = cluster.pools.values().filter(|pool| is_wanted(pool));
        let nets = pools.filter_map(IPPoolSpec::network).flat_map(halves);
        nets.map(IpSetMember::Net).collect()
    };
    let addresses = |is_wanted: fn(&Node) -> bool| {
        let nodes = cluster.nodes.values().filter(|node| is_wanted(node));
        let own = nodes.flat_map(|node| [node.ipv4(), node.ipv6()]).flatten();
        let own = own.map(|net| IpNet::from(net.addr()));
        let all = own.chain(config.external_nodes.iter().copied());
        all.flat_map(halves).map(IpSetMember::Net).collect()
    };
    vec![
        (ALL_POOLS, pools(is_for_workloads)),
        (
            MASQUERADED_POOLS,
            pools(|pool| pool.nat_outgoing && is_for_workloads(pool)),
        ),
        (ALL_HOSTS, addresses(|_| true)),
        (
            VXLAN_HOSTS,
            addresses(|node| {
                let spec = &node.spec;
                !spec.ipv4_vxlan_tunnel_addr.is_empty() || !spec.ipv6_vxlan_tunnel_addr.is_empty()
            }),
        ),
    ]
}

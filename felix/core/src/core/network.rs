//! Routes, interfaces, kernel parameters, status files and the sets of pools and nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_api::net::parse_cidr_or_address;
use caracal_api::routing::{self, Encapsulation, RouteOwner};
use caracal_api::v3::{FelixConfigurationSpec, IPPoolAllowedUse, IPPoolSpec, ProgramClusterRoutes};
use ipnet::IpNet;

use super::cluster::{Cluster, Local};
use super::endpoints::by_interface;
use crate::calc::model::version_of;
use crate::calc::sets::halves;
use crate::config::Config;
use crate::desired::{EndpointStatus, Interface, IpSetMember, IpVersion, Route, RouteTarget, Sysctl};
use crate::rules::static_chains::{ALL_HOSTS, ALL_POOLS, MASQUERADED_POOLS};

/// What is wanted beside tables and sets.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) routes: BTreeMap<IpNet, Route>,
    pub(super) interfaces: BTreeMap<String, Interface>,
    pub(super) sysctls: Vec<Sysctl>,
    pub(super) endpoint_statuses: BTreeMap<String, EndpointStatus>,
}

pub(super) fn network(cluster: &Cluster, config: &Config, spec: &FelixConfigurationSpec) -> Network {
    let mut network = Network::default();
    let is_enabled = |net: &IpNet| config.ipv6_support || version_of(net) == IpVersion::V4;
    for (name, (_, local)) in by_interface(cluster) {
        for net in local.nets.iter().filter(|net| is_enabled(net)) {
            let route = workload_route(name, net, config);
            network.routes.entry(*net).or_insert(route);
        }
        network
            .interfaces
            .insert(name.to_owned(), interface(name, local, config));
        network
            .endpoint_statuses
            .insert(status_name(local), status(local));
    }
    for affinity in cluster.affinities.values() {
        let Some(block) = parse_cidr_or_address(&affinity.cidr).filter(is_enabled) else {
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
            remote(cluster, &affinity.node, pool, &block)
        };
        if let Some(target) = target {
            let protocol = config.route_protocol;
            network.routes.entry(block).or_insert(Route {
                target,
                protocol,
                metric: None,
                source: None,
            });
        }
    }
    if config.ip_forwarding {
        network.sysctls = vec![sysctl(&["net", "ipv4", "ip_forward"], "1", false)];
        if config.ipv6_support {
            network
                .sysctls
                .push(sysctl(&["net", "ipv6", "conf", "all", "forwarding"], "1", true));
        }
    }
    network
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
    let rp_filter = if local.is_spoofing && config.spoofing_allowed {
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
    Interface {
        sysctls,
        ..Interface::default()
    }
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
fn pool_of<'a>(cluster: &'a Cluster, block: &IpNet) -> Option<&'a IPPoolSpec> {
    let around = cluster
        .pools
        .values()
        .filter(|pool| pool.network().is_some_and(|net| net.contains(block)));
    around.max_by_key(|pool| pool.network().map(|net| net.prefix_len()))
}

fn owner(cluster: &Cluster, pool: &IPPoolSpec, spec: &FelixConfigurationSpec) -> RouteOwner {
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

/// How a block of another node is reached; `None` while that node's address is unknown.
fn remote(cluster: &Cluster, node: &str, pool: &IPPoolSpec, block: &IpNet) -> Option<RouteTarget> {
    let (own, other) = (cluster.nodes.get(&cluster.node)?, cluster.nodes.get(node)?);
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

/// True when some pool of a family is translated on its way out.
pub(super) fn masquerades(cluster: &Cluster, version: IpVersion) -> bool {
    let mut pools = cluster
        .pools
        .values()
        .filter(|pool| pool.nat_outgoing && is_for_workloads(pool));
    pools.any(|pool| pool.network().is_some_and(|net| version_of(&net) == version))
}

/// Sets that do not come from selectors.
pub(super) fn static_sets(cluster: &Cluster, config: &Config) -> Vec<(&'static str, Vec<IpSetMember>)> {
    let pools = |is_wanted: fn(&IPPoolSpec) -> bool| {
        let pools = cluster.pools.values().filter(|pool| is_wanted(pool));
        let nets = pools.filter_map(IPPoolSpec::network).flat_map(halves);
        nets.map(IpSetMember::Net).collect()
    };
    let hosts = cluster.nodes.values().flat_map(|node| [node.ipv4(), node.ipv6()]);
    let hosts = hosts.flatten().map(|net| IpNet::from(net.addr()));
    let hosts = hosts
        .chain(config.external_nodes.iter().copied())
        .flat_map(halves);
    vec![
        (ALL_POOLS, pools(is_for_workloads)),
        (
            MASQUERADED_POOLS,
            pools(|pool| pool.nat_outgoing && is_for_workloads(pool)),
        ),
        (ALL_HOSTS, hosts.map(IpSetMember::Net).collect()),
    ]
}

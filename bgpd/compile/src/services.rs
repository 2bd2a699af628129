//! Addresses of Services that the node advertises.
//!
//! Ranges are advertised by every node; single addresses where the Service wants its traffic on nodes that have an
//! endpoint, or where ranges are not aggregated. Source: Calico `confd/pkg/backends/calico/routes.go`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use caracal_api::v3::{ServiceCIDR, ServiceLoadBalancerAggregation};
use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::local::Local;
use crate::problem::Problems;
use crate::snapshot::Snapshot;

/// Label of nodes that advertise no service addresses.
const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// What is needed of a Service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, ...
    pub type_: String,
    /// Cluster addresses; none for a headless Service.
    pub cluster_ips: Vec<IpAddr>,
    /// External addresses.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of the load balancer.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `externalTrafficPolicy: Local`.
    pub is_local: bool,
    /// Its endpoints that are ready.
    pub endpoints: Vec<Endpoint>,
}

/// A ready endpoint of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its node, if it is on one.
    pub node: Option<String>,
    /// It has IPv4 addresses.
    pub is_ipv4: bool,
}

impl Service {
    /// Takes what is needed of a Service; the endpoints come from its EndpointSlices.
    #[must_use]
    pub fn from_k8s(service: &core::Service) -> Self {
        let addresses = |list: Option<&Vec<String>>| -> Vec<IpAddr> {
            list.into_iter()
                .flatten()
                .filter_map(|text| text.parse().ok())
                .collect()
        };
        let Some(spec) = &service.spec else {
            return Self::default();
        };
        let mut cluster_ips = addresses(spec.cluster_ips.as_ref());
        if cluster_ips.is_empty() {
            cluster_ips.extend(
                spec.cluster_ip
                    .iter()
                    .filter_map(|text| text.parse::<IpAddr>().ok()),
            );
        }
        let ingress = service
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref())
            .and_then(|balancer| balancer.ingress.as_ref());
        Self {
            type_: spec.type_.clone().unwrap_or_else(|| "ClusterIP".to_owned()),
            cluster_ips,
            external_ips: addresses(spec.external_ips.as_ref()),
            load_balancer_ips: ingress
                .into_iter()
                .flatten()
                .filter_map(|ingress| ingress.ip.as_ref()?.parse().ok())
                .collect(),
            is_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            endpoints: Vec::new(),
        }
    }

    /// The ready endpoints of a slice. No statement about readiness means ready.
    #[must_use]
    pub fn endpoints_of(slice: &EndpointSlice) -> Vec<Endpoint> {
        let is_ipv4 = slice.address_type == "IPv4";
        let ready = slice.endpoints.iter().filter(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            conditions.and_then(|conditions| conditions.ready).unwrap_or(true)
        });
        ready
            .map(|endpoint| Endpoint {
                node: endpoint.node_name.clone(),
                is_ipv4,
            })
            .collect()
    }
}

/// What the node advertises of Services.
#[derive(Debug, Default)]
pub(crate) struct Advertised {
    /// Routes that it originates.
    pub(crate) routes: BTreeSet<IpNet>,
    /// Ranges that are never programmed into the kernel.
    ranges: Vec<IpNet>,
    /// Ranges that a reflector passes on.
    pub(crate) reflected: Vec<IpNet>,
}

impl Advertised {
    pub(crate) fn new(snapshot: &Snapshot, local: &Local<'_>, problems: &mut Problems) -> Self {
        let ranges = Ranges::new(snapshot, local, problems);
        let labels = local.node.metadata.labels.as_ref();
        let is_excluded = labels
            .and_then(|labels| labels.get(EXCLUDE_LABEL))
            .is_some_and(|value| value == "true");
        let mut routes = BTreeSet::new();
        if !is_excluded {
            routes.extend(ranges.whole());
            for service in snapshot.services.values() {
                if ranges.has_host_routes(service, local.name) {
                    routes.extend(ranges.host_routes(service));
                }
            }
        }
        Self {
            routes,
            ranges: [&ranges.cluster, &ranges.external, &ranges.load_balancer]
                .into_iter()
                .flatten()
                .copied()
                .collect(),
            reflected: [&ranges.load_balancer, &ranges.external]
                .into_iter()
                .flatten()
                .copied()
                .collect(),
        }
    }

    /// All service addresses: ranges and single ones, each once.
    pub(crate) fn everything(&self) -> Vec<IpNet> {
        let all: BTreeSet<IpNet> = self.ranges.iter().chain(&self.routes).copied().collect();
        all.into_iter().collect()
    }
}

/// The configured ranges.
struct Ranges {
    cluster: Vec<IpNet>,
    external: Vec<IpNet>,
    load_balancer: Vec<IpNet>,
    is_aggregated: bool,
}

impl Ranges {
    fn new(snapshot: &Snapshot, local: &Local<'_>, problems: &mut Problems) -> Self {
        let global = local.global;
        let texts = |list: &[ServiceCIDR]| list.iter().map(|range| range.cidr.clone()).collect::<Vec<_>>();
        let mut parse = |field: &str, list: Vec<String>| -> Vec<IpNet> {
            let mut nets = Vec::new();
            for text in list {
                match caracal_api::net::parse_cidr_or_address(&text) {
                    Some(net) => nets.push(net),
                    None => problems.add(
                        "BGPConfiguration default",
                        field,
                        &text,
                        "is no CIDR",
                        "use one as 10.96.0.0/12",
                    ),
                }
            }
            nets
        };
        let cluster = match &snapshot.cluster_ips_override {
            Some(list) => parse("CALICO_ADVERTISE_CLUSTER_IPS", list.clone()),
            None => parse("spec.serviceClusterIPs", texts(&global.service_cluster_ips)),
        };
        Self {
            cluster,
            external: parse("spec.serviceExternalIPs", texts(&global.service_external_ips)),
            load_balancer: parse(
                "spec.serviceLoadBalancerIPs",
                texts(&global.service_load_balancer_ips),
            ),
            is_aggregated: global.service_load_balancer_aggregation
                != Some(ServiceLoadBalancerAggregation::Disabled),
        }
    }

    /// The ranges that every node advertises.
    fn whole(&self) -> impl Iterator<Item = IpNet> {
        let aggregated = if self.is_aggregated {
            self.load_balancer.as_slice()
        } else {
            &[]
        };
        let larger = self
            .external
            .iter()
            .chain(aggregated)
            .filter(|net| !is_single(net));
        self.cluster.iter().chain(larger).copied()
    }

    /// Whether the node advertises the Service's addresses one by one.
    fn has_host_routes(&self, service: &Service, node: &str) -> bool {
        if !matches!(service.type_.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer")
            || service.cluster_ips.is_empty()
        {
            return false;
        }
        let listed = |addresses: &[IpAddr], ranges: &[IpNet]| {
            addresses
                .iter()
                .any(|address| ranges.contains(&IpNet::from(*address)))
        };
        let is_single_listed = (service.type_ == "LoadBalancer"
            && listed(&service.load_balancer_ips, &self.load_balancer))
            || listed(&service.external_ips, &self.external);
        if !service.is_local && is_single_listed {
            return true;
        }
        if !service.is_local && self.is_aggregated {
            return false;
        }
        service.endpoints.iter().any(|endpoint| {
            let is_family = service
                .cluster_ips
                .iter()
                .any(|ip| ip.is_ipv4() == endpoint.is_ipv4);
            is_family && (!service.is_local || endpoint.node.as_deref() == Some(node))
        })
    }

    /// The Service's addresses as routes: cluster addresses when any range of them is advertised, others within their
    /// ranges.
    fn host_routes(&self, service: &Service) -> Vec<IpNet> {
        let within = |addresses: &[IpAddr], ranges: &[IpNet]| -> Vec<IpNet> {
            let covered = |address: &&IpAddr| ranges.iter().any(|range| range.contains(*address));
            addresses
                .iter()
                .filter(covered)
                .map(|address| IpNet::from(*address))
                .collect()
        };
        let mut routes = within(&service.external_ips, &self.external);
        routes.extend(within(&service.load_balancer_ips, &self.load_balancer));
        if !self.cluster.is_empty() {
            routes.extend(service.cluster_ips.iter().map(|address| IpNet::from(*address)));
        }
        routes
    }
}

fn is_single(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

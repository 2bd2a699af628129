//! The policy of a cluster at one moment, from its API or from files, for questions.
//!
//! Owns no meaning: objects go into felix's own calculation, which answers. Beside it are kept only the few facts that
//! name the ends of a packet: where pods run, what Services stand for, which addresses nodes have.

pub(crate) mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use caracal_api::net::parse_cidr_or_address;
use caracal_api::v3;
use caracal_api::virtual_::{node, workload_endpoint};
use caracal_datastore::{Client, ListOptions, Object};
use caracal_felix_core::calc::sets::Item;
use caracal_felix_core::update::Key;
use caracal_felix_core::{Core, Options, Update};
use futures::FutureExt as _;
use futures::future::{LocalBoxFuture, try_join_all};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::error::Failure;

/// A pod or another workload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Workload {
    /// Its node; empty when it has none yet.
    pub(crate) node: String,
    /// Its addresses; of a pod in the host's network those of the node.
    pub(crate) addresses: Vec<IpAddr>,
    /// Name, protocol and number of its ports.
    pub(crate) ports: Vec<(String, u8, u16)>,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// It is in the host's network: no policy for pods is about it.
    pub(crate) is_host_network: bool,
    /// It has ended.
    pub(crate) is_finished: bool,
}

/// A host endpoint, as far as it says which packets it is about.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// Its name.
    pub(crate) name: String,
    /// Its node.
    pub(crate) node: String,
    /// Its interface, `*`, or empty.
    pub(crate) interface: String,
    /// Addresses that tell its interface.
    pub(crate) expected: Vec<IpAddr>,
}

/// One port of a Service and where packets to it go.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServicePort {
    pub(crate) name: String,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
}

/// A Service.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceFacts {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ports: Vec<ServicePort>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The calculation, with all objects taken in.
    pub(crate) core: Core,
    pub(crate) workloads: BTreeMap<Item, Workload>,
    pub(crate) services: BTreeMap<Key, ServiceFacts>,
    /// Endpoints of Services: address, port name and number, by Service.
    pub(crate) backends: BTreeMap<Key, BTreeSet<(IpAddr, String, u8, u16)>>,
    pub(crate) nodes: BTreeMap<String, Vec<IpAddr>>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) namespaces: BTreeSet<String>,
    /// Kinds that may not be read: what follows may be incomplete.
    pub(crate) unread: Vec<String>,
}

impl Snapshot {
    /// Puts objects together.
    pub(crate) fn of(updates: Vec<Update>) -> Self {
        let mut snapshot = Self {
            core: Core::new(Options::default()),
            workloads: BTreeMap::new(),
            services: BTreeMap::new(),
            backends: BTreeMap::new(),
            nodes: BTreeMap::new(),
            hosts: Vec::new(),
            namespaces: BTreeSet::new(),
            unread: Vec::new(),
        };
        for update in updates {
            snapshot.take(update);
        }
        snapshot.settle_host_network();
        snapshot.core.on_in_sync();
        snapshot.core.flush();
        snapshot
    }

    /// Reads all kinds that have a say about packets.
    pub(crate) async fn of_cluster(client: &Client) -> Result<Self, Failure> {
        let lists: Vec<LocalBoxFuture<'_, Result<Listed, Failure>>> = vec![
            list(client, Update::Namespace).boxed_local(),
            list(client, Update::ServiceAccount).boxed_local(),
            list(client, Update::Node).boxed_local(),
            list(client, Update::Pod).boxed_local(),
            list(client, Update::Service).boxed_local(),
            list(client, Update::EndpointSlice).boxed_local(),
            list(client, Update::KubernetesNetworkPolicy).boxed_local(),
            list(client, Update::NetworkPolicy).boxed_local(),
            list(client, Update::GlobalNetworkPolicy).boxed_local(),
            list(client, Update::ClusterNetworkPolicy).boxed_local(),
            list(client, Update::AdminNetworkPolicy).boxed_local(),
            list(client, Update::BaselineAdminNetworkPolicy).boxed_local(),
            list(client, Update::StagedNetworkPolicy).boxed_local(),
            list(client, Update::StagedGlobalNetworkPolicy).boxed_local(),
            list(client, Update::StagedKubernetesNetworkPolicy).boxed_local(),
            list(client, Update::HostEndpoint).boxed_local(),
            list(client, Update::Tier).boxed_local(),
            list(client, Update::NetworkSet).boxed_local(),
            list(client, Update::GlobalNetworkSet).boxed_local(),
            list(client, Update::IpPool).boxed_local(),
            list(client, Update::BlockAffinity).boxed_local(),
            list(client, Update::FelixConfiguration).boxed_local(),
            list(client, Update::BgpConfiguration).boxed_local(),
        ];
        let mut updates = Vec::new();
        let mut unread = Vec::new();
        for listed in try_join_all(lists).await? {
            match listed {
                Listed::Objects(objects) => updates.extend(objects),
                Listed::Forbidden(kind) => unread.push(kind),
            }
        }
        let mut snapshot = Self::of(updates);
        snapshot.unread = unread;
        Ok(snapshot)
    }

    /// The workloads that have an address and have not ended.
    pub(crate) fn workloads_at(&self, address: IpAddr) -> Vec<&Item> {
        let live = self.workloads.iter().filter(|(_, workload)| {
            !workload.is_finished && !workload.is_host_network && workload.addresses.contains(&address)
        });
        live.map(|(item, _)| item).collect()
    }

    /// The node that has an address.
    pub(crate) fn node_at(&self, address: IpAddr) -> Option<&str> {
        let mut nodes = self.nodes.iter();
        let found = nodes.find(|(_, addresses)| addresses.contains(&address));
        found.map(|(name, _)| name.as_str())
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only what names ends of packets is noted, all goes into the calculation"
    )]
    fn take(&mut self, update: Update) {
        match &update {
            Update::Namespace(key, Some(_)) => {
                self.namespaces.insert(key.name.clone());
            }
            Update::Pod(key, Some(pod)) => {
                self.workloads.insert(Item::Pod(key.clone()), workload_of(pod));
            }
            Update::WorkloadEndpoint(key, Some(endpoint)) => {
                let spec = &endpoint.spec;
                let workload = Workload {
                    node: spec.node.clone(),
                    addresses: addresses(&spec.ip_networks),
                    ports: ports_of(&spec.ports),
                    labels: endpoint.metadata.labels.clone().unwrap_or_default(),
                    ..Workload::default()
                };
                self.workloads.insert(Item::Workload(key.clone()), workload);
            }
            Update::Service(key, Some(service)) => {
                self.services.insert(key.clone(), service_of(service));
            }
            Update::EndpointSlice(key, Some(slice)) => self.take_slice(key, slice),
            Update::Node(key, Some(object)) => {
                let node = node::from_k8s(object);
                let nets = node.iter().flat_map(|node| [node.ipv4(), node.ipv6()]).flatten();
                let mut own: Vec<IpAddr> = nets.map(|net| net.addr()).collect();
                let status = object
                    .status
                    .as_ref()
                    .and_then(|status| status.addresses.as_ref());
                for address in status.into_iter().flatten() {
                    own.extend(
                        address
                            .address
                            .parse::<IpAddr>()
                            .ok()
                            .filter(|a| !own.contains(a)),
                    );
                }
                self.nodes.insert(key.name.clone(), own);
            }
            Update::HostEndpoint(key, Some(endpoint)) => {
                let spec = &endpoint.spec;
                self.hosts.push(Host {
                    name: key.name.clone(),
                    node: spec.node.clone(),
                    interface: spec.interface_name.clone(),
                    expected: addresses(&spec.expected_ips),
                });
            }
            _ => {}
        }
        self.core.on_update(update);
    }

    fn take_slice(&mut self, key: &Key, slice: &EndpointSlice) {
        let labels = slice.metadata.labels.as_ref();
        let Some(name) = labels.and_then(|labels| labels.get("kubernetes.io/service-name")) else {
            return;
        };
        let backends = self.backends.entry(Key::new(&key.namespace, name)).or_default();
        for endpoint in &slice.endpoints {
            let is_ready = endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready);
            if is_ready == Some(false) {
                continue;
            }
            for address in endpoint.addresses.iter().filter_map(|text| text.parse().ok()) {
                for port in slice.ports.iter().flatten() {
                    let protocol = v3::Protocol::from(port.protocol.as_deref().unwrap_or("TCP")).number();
                    let number = port.port.and_then(|port| u16::try_from(port).ok());
                    if let (Some(protocol), Some(number)) = (protocol, number) {
                        let name = port.name.clone().unwrap_or_default();
                        backends.insert((address, name, protocol, number));
                    }
                }
            }
        }
    }

    /// Pods in the host's network have the node's addresses, whatever their status says so far.
    fn settle_host_network(&mut self) {
        for workload in self
            .workloads
            .values_mut()
            .filter(|workload| workload.is_host_network)
        {
            if let Some(addresses) = self.nodes.get(&workload.node) {
                workload.addresses = addresses.clone();
            }
        }
    }
}

/// What a list gave.
enum Listed {
    Objects(Vec<Update>),
    Forbidden(String),
}

async fn list<K: Object>(
    client: &Client,
    update: fn(Key, Option<Box<K>>) -> Update,
) -> Result<Listed, Failure> {
    match client.list::<K>(None, &ListOptions::default()).await {
        Ok(objects) => {
            let updates = objects.into_iter().map(|object| {
                let key = caracal_datastore::Key::of(&object);
                let key = Key::new(key.namespace.unwrap_or_default(), key.name);
                update(key, Some(Box::new(object)))
            });
            Ok(Listed::Objects(updates.collect()))
        }
        // A cluster need not have every kind of policy.
        Err(error) if error.is_unknown_kind() => Ok(Listed::Objects(Vec::new())),
        Err(error) if error.is_forbidden() => Ok(Listed::Forbidden(K::plural(&()).into_owned())),
        Err(error) => {
            let is_away = error.is_transient();
            let failure = Failure::from(error);
            Err(if is_away { failure.with_code(3) } else { failure })
        }
    }
}

fn workload_of(pod: &Pod) -> Workload {
    let spec = pod.spec.clone().unwrap_or_default();
    let endpoint = workload_endpoint::from_pod(pod).ok().flatten();
    let (mut own, mut ports) = (Vec::new(), Vec::new());
    if let Some(endpoint) = &endpoint {
        own = addresses(&endpoint.spec.ip_networks);
        ports = ports_of(&endpoint.spec.ports);
    }
    let is_host_network = spec.host_network == Some(true);
    if is_host_network {
        let status = pod.status.clone().unwrap_or_default();
        let texts = status.pod_ips.unwrap_or_default().into_iter().map(|ip| ip.ip);
        own.extend(texts.filter_map(|text| text.parse::<IpAddr>().ok()));
    }
    Workload {
        node: spec.node_name.unwrap_or_default(),
        addresses: own,
        ports,
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        is_host_network,
        is_finished: workload_endpoint::is_finished(pod),
    }
}

fn ports_of(ports: &[workload_endpoint::WorkloadEndpointPort]) -> Vec<(String, u8, u16)> {
    let own = ports.iter();
    own.filter_map(|port| Some((port.name.clone(), port.protocol.number()?, port.port)))
        .collect()
}

fn addresses(texts: &[String]) -> Vec<IpAddr> {
    let nets = texts.iter().filter_map(|text| parse_cidr_or_address(text));
    nets.map(|net| net.addr()).collect()
}

fn service_of(service: &Service) -> ServiceFacts {
    let spec = service.spec.clone().unwrap_or_default();
    let status = service.status.clone().unwrap_or_default();
    let balancers = status
        .load_balancer
        .and_then(|status| status.ingress)
        .unwrap_or_default();
    let texts = spec.cluster_ips.unwrap_or_default().into_iter();
    let texts = texts.chain(spec.external_ips.unwrap_or_default());
    let texts = texts.chain(balancers.into_iter().filter_map(|ingress| ingress.ip));
    let ports = spec.ports.unwrap_or_default().into_iter().filter_map(|port| {
        Some(ServicePort {
            name: port.name.unwrap_or_default(),
            protocol: v3::Protocol::from(port.protocol.as_deref().unwrap_or("TCP")).number()?,
            port: u16::try_from(port.port).ok()?,
        })
    });
    ServiceFacts {
        addresses: texts.filter_map(|text| text.parse().ok()).collect(),
        ports: ports.collect(),
    }
}

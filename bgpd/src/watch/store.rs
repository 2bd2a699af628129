//! What the watches have told, as the snapshot that is compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use caracal_api::v3;
use caracal_api::virtual_::node::{Node, NodeStatus};
use caracal_bgpd_compile::{Endpoint, Selected, Service, Snapshot, Workload};
use caracal_bgpd_core::config::Password;
use k8s_openapi::api::core::v1::Secret;

/// A kind that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nodes.
    Node,
    /// BGPConfigurations.
    Configuration,
    /// BGPPeers.
    Peer,
    /// BGPFilters.
    Filter,
    /// IPPools.
    Pool,
    /// BlockAffinities.
    Affinity,
    /// FelixConfigurations.
    Felix,
    /// Secrets with passwords.
    Secret,
    /// Services.
    Service,
    /// EndpointSlices.
    EndpointSlice,
    /// Pods of this node.
    Workload,
    /// CalicoNodeStatuses that ask this node.
    NodeStatus,
}

/// Kinds without which nothing is decided.
const REQUIRED: [Kind; 7] = [
    Kind::Node,
    Kind::Configuration,
    Kind::Peer,
    Kind::Filter,
    Kind::Pool,
    Kind::Affinity,
    Kind::Felix,
];

/// One thing that a watch tells. An absent value means that the object is gone.
#[derive(Debug)]
pub enum Change {
    /// A Node.
    Node(String, Option<Box<Node>>),
    /// A BGPConfiguration.
    Configuration(String, Option<Box<v3::BGPConfigurationSpec>>),
    /// A BGPPeer.
    Peer(String, Option<Box<v3::BGPPeerSpec>>),
    /// A BGPFilter.
    Filter(String, Option<Box<v3::BGPFilterSpec>>),
    /// An IPPool.
    Pool(String, Option<Box<v3::IPPoolSpec>>),
    /// A BlockAffinity of this node.
    Affinity(String, Option<Box<v3::BlockAffinitySpec>>),
    /// A FelixConfiguration.
    Felix(String, Option<Box<v3::FelixConfigurationSpec>>),
    /// A Secret's values by key.
    Secret(String, Option<BTreeMap<String, Password>>),
    /// A Service, by `namespace/name`.
    Service(String, Option<Box<Service>>),
    /// The endpoints of an EndpointSlice (`namespace/name`), with the Service that they belong to.
    Endpoints(String, Option<(String, Vec<Endpoint>)>),
    /// A workload of this node, by `namespace/name` of its pod.
    Workload(String, Option<Box<Workload>>),
    /// A CalicoNodeStatus that asks this node. It changes nothing that is compiled.
    NodeStatus(String, Option<v3::CalicoNodeStatusSpec>),
    /// The first list of a kind is complete.
    InSync(Kind),
    /// A watch has trouble; it goes on by itself.
    Trouble(Kind, String),
}

/// The snapshot under construction.
#[derive(Debug, Default)]
pub struct Store {
    snapshot: Snapshot,
    slices: BTreeMap<String, (String, Vec<Endpoint>)>,
    in_sync: BTreeSet<Kind>,
    trouble: BTreeMap<Kind, String>,
}

impl Store {
    /// An empty store with what does not come from the API.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            ..Self::default()
        }
    }

    /// What is known.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether the first lists of all kinds that decide are complete.
    #[must_use]
    pub fn is_in_sync(&self) -> bool {
        let has = |kinds: &[Kind]| kinds.iter().all(|kind| self.in_sync.contains(kind));
        has(&REQUIRED)
            && (!self.snapshot.advertises_services() || has(&[Kind::Service, Kind::EndpointSlice]))
            && (!self.snapshot.peers_with_workloads() || has(&[Kind::Workload]))
    }

    /// Kinds whose watches have trouble, with the reason.
    #[must_use]
    pub fn trouble(&self) -> Vec<String> {
        self.trouble
            .iter()
            .map(|(kind, reason)| format!("{kind:?}: {reason}"))
            .collect()
    }

    /// Takes a change; true when what is compiled may differ.
    pub fn apply(&mut self, change: Change) -> bool {
        let snapshot = &mut self.snapshot;
        match change {
            Change::Node(name, node) => {
                put(&mut snapshot.nodes, name, node.map(|node| Box::new(slim(*node))))
            }
            Change::Configuration(name, spec) => put(&mut snapshot.configurations, name, spec),
            Change::Peer(name, spec) => put(&mut snapshot.peers, name, spec),
            Change::Filter(name, spec) => put(&mut snapshot.filters, name, spec),
            Change::Pool(name, spec) => put(&mut snapshot.pools, name, spec),
            Change::Affinity(name, spec) => put(&mut snapshot.affinities, name, spec),
            Change::Felix(name, spec) => put(
                &mut snapshot.felix,
                name,
                spec.map(|spec| Box::new(slim_felix(*spec))),
            ),
            Change::Secret(name, values) => self.secret(&name, values.unwrap_or_default()),
            Change::Service(name, service) => {
                let service = service.map(|mut service| {
                    service.endpoints = endpoints_of(&self.slices, &name);
                    service
                });
                put(&mut snapshot.services, name, service)
            }
            Change::Endpoints(slice, endpoints) => self.endpoints(slice, endpoints),
            Change::Workload(name, workload) => put(&mut snapshot.workloads, name, workload),
            Change::NodeStatus(..) => false,
            Change::InSync(kind) => {
                self.trouble.remove(&kind);
                self.in_sync.insert(kind)
            }
            Change::Trouble(kind, reason) => {
                tracing::warn!(kind = ?kind, error = %reason, "watch has trouble; what is known stays");
                self.trouble.insert(kind, reason);
                false
            }
        }
    }

    /// Forgets Services, when they do not matter any more.
    pub fn forget_services(&mut self) {
        self.slices.clear();
        self.snapshot.services.clear();
        self.in_sync.remove(&Kind::Service);
        self.in_sync.remove(&Kind::EndpointSlice);
    }

    /// Forgets workloads, when they do not matter any more.
    pub fn forget_workloads(&mut self) {
        self.snapshot.workloads.clear();
        self.in_sync.remove(&Kind::Workload);
    }

    /// Notes where default routes lead; true when what is compiled may differ.
    pub fn set_gateways(&mut self, gateways: [Option<IpAddr>; 2]) -> bool {
        std::mem::replace(&mut self.snapshot.gateways, gateways) != gateways
    }

    /// Notes what selectors meant when the snapshot was last compiled.
    pub fn set_selected(&mut self, selected: Selected) {
        self.snapshot.selected = selected;
    }

    fn secret(&mut self, name: &str, values: BTreeMap<String, Password>) -> bool {
        let passwords = &mut self.snapshot.passwords;
        let before = passwords.clone();
        passwords.retain(|(secret, _), _| secret != name);
        passwords.extend(
            values
                .into_iter()
                .map(|(key, value)| ((name.to_owned(), key), value)),
        );
        *passwords != before
    }

    fn endpoints(&mut self, slice: String, endpoints: Option<(String, Vec<Endpoint>)>) -> bool {
        let mut services: BTreeSet<String> = endpoints.iter().map(|(service, _)| service.clone()).collect();
        let before = match endpoints {
            Some(endpoints) => self.slices.insert(slice, endpoints),
            None => self.slices.remove(&slice),
        };
        services.extend(before.map(|(service, _)| service));
        let mut changed = false;
        for name in services {
            if let Some(service) = self.snapshot.services.get_mut(&name) {
                let endpoints = endpoints_of(&self.slices, &name);
                changed |= service.endpoints != endpoints;
                service.endpoints = endpoints;
            }
        }
        changed
    }
}

/// The different ready endpoints of a Service: how many there are on a node does not matter.
fn endpoints_of(slices: &BTreeMap<String, (String, Vec<Endpoint>)>, service: &str) -> Vec<Endpoint> {
    let of_service = slices.values().filter(|(owner, _)| owner == service);
    let all: BTreeSet<Endpoint> = of_service
        .flat_map(|(_, endpoints)| endpoints.iter().cloned())
        .collect();
    all.into_iter().collect()
}

fn put<V: PartialEq>(map: &mut BTreeMap<String, V>, name: String, value: Option<Box<V>>) -> bool {
    match value {
        None => map.remove(&name).is_some(),
        Some(value) if map.get(&name) == Some(&*value) => false,
        Some(value) => {
            map.insert(name, *value);
            true
        }
    }
}

/// Keeps of a node what decides sessions, so that a heartbeat in its status changes nothing.
fn slim(mut node: Node) -> Node {
    node.metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        name: node.metadata.name,
        labels: node.metadata.labels,
        annotations: node.metadata.annotations,
        ..Default::default()
    };
    node.spec.addresses.clear();
    node.spec.interfaces.clear();
    node.spec.orch_refs.clear();
    node.status = NodeStatus {
        wireguard_public_key: node.status.wireguard_public_key,
        wireguard_public_key_v6: node.status.wireguard_public_key_v6,
        pod_cidrs: Vec::new(),
    };
    node
}

fn slim_felix(spec: v3::FelixConfigurationSpec) -> v3::FelixConfigurationSpec {
    v3::FelixConfigurationSpec {
        program_cluster_routes: spec.program_cluster_routes,
        ..v3::FelixConfigurationSpec::default()
    }
}

/// The values of a Secret that are text. A line end at the end is what editors and `echo` leave.
pub(super) fn secret_values(secret: Secret) -> BTreeMap<String, Password> {
    let values = secret.data.unwrap_or_default().into_iter();
    values
        .filter_map(|(key, value)| {
            let text = String::from_utf8(value.0).ok()?;
            Some((key, Password::new(text.trim_end_matches(['\r', '\n']))))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_of_a_node_changes_nothing() {
        let mut store = Store::default();
        let node = |version: &str| {
            let mut node = Node::default();
            node.metadata.name = Some("node-1".to_owned());
            node.metadata.resource_version = Some(version.to_owned());
            Some(Box::new(node))
        };
        assert!(store.apply(Change::Node("node-1".to_owned(), node("1"))));
        assert!(!store.apply(Change::Node("node-1".to_owned(), node("2"))));
        assert!(store.apply(Change::Node("node-1".to_owned(), None)));
    }

    #[test]
    fn endpoints_reach_their_service_in_any_order() {
        let endpoints = || {
            let endpoint = Endpoint {
                node: Some("node-1".to_owned()),
                is_ipv4: true,
            };
            Some(("default/web".to_owned(), vec![endpoint]))
        };
        let service = || Some(Box::new(Service::default()));
        let mut early = Store::default();
        early.apply(Change::Endpoints("default/web-1".to_owned(), endpoints()));
        early.apply(Change::Service("default/web".to_owned(), service()));
        let mut late = Store::default();
        late.apply(Change::Service("default/web".to_owned(), service()));
        assert!(late.apply(Change::Endpoints("default/web-1".to_owned(), endpoints())));
        assert_eq!(early.snapshot(), late.snapshot());
        assert!(late.apply(Change::Endpoints("default/web-1".to_owned(), None)));
        assert!(late.snapshot().services["default/web"].endpoints.is_empty());
    }

    #[test]
    fn nothing_is_decided_before_every_kind_is_known() {
        let mut store = Store::default();
        for kind in REQUIRED {
            assert!(!store.is_in_sync());
            store.apply(Change::InSync(kind));
        }
        assert!(store.is_in_sync());
    }
}

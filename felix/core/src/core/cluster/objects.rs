//! Objects as they are parsed and indexed.

use std::collections::BTreeMap;

use caracal_api::k8s_policy::Conversion;
use caracal_api::meta;
use caracal_api::names::PolicyKind;
use caracal_api::net::parse_cidr_or_address;
use caracal_api::v3;
use caracal_api::v3::{GlobalNetworkPolicy, HostEndpoint};
use caracal_api::virtual_::profile::Profile;
use caracal_api::virtual_::workload_endpoint::{IpNat, WorkloadEndpoint, WorkloadEndpointPort};
use ipnet::IpNet;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{Cluster, Local, ProfileRules};
use crate::calc::compile::{self, Compiled};
use crate::calc::label_index::Change;
use crate::calc::model::{Direction, Policy, PolicyId};
use crate::calc::sets::{Addresses, Item};
use crate::update::Key;

/// Service that an EndpointSlice belongs to.
const LABEL_SERVICE: &str = "kubernetes.io/service-name";

impl Cluster {
    pub(super) fn trouble(&mut self, label: String, trouble: Option<String>) {
        if self.troubles.get(&label) == trouble.as_ref() {
            return;
        }
        self.changes.problems = true;
        match trouble {
            Some(trouble) => self.troubles.insert(label, trouble),
            None => self.troubles.remove(&label),
        };
    }

    pub(super) fn policy(&mut self, kind: PolicyKind, key: Key, compiled: Option<Compiled>) {
        let id = PolicyId { kind, key };
        let problems = compiled.as_ref().map(|compiled| compiled.problems.join("; "));
        self.trouble(id.shown(), problems.filter(|text| !text.is_empty()));
        let Some(Compiled { policy, .. }) = compiled else {
            let changes = self.local_index.remove_selector(&id);
            self.note_matches(&changes);
            if self.policies.remove(&id).is_some() {
                self.changes.policies.insert(id);
            }
            return;
        };
        let before = self.policies.get(&id);
        if before == Some(&policy) {
            return;
        }
        if before.is_some_and(|before| is_placed_differently(before, &policy)) {
            let items = self.local_index.items_of(&id).cloned();
            self.changes.items.extend(items);
        }
        let changes = self.local_index.set_selector(&id, policy.selector.clone());
        self.note_matches(&changes);
        self.policies.insert(id.clone(), policy);
        self.changes.policies.insert(id);
    }

    /// A policy of Kubernetes for the whole cluster; one that converts to nothing counts as absent.
    pub(super) fn cluster_policy(
        &mut self,
        kind: PolicyKind,
        key: Key,
        converted: Option<Option<Conversion<GlobalNetworkPolicy>>>,
    ) {
        let is_lost = matches!(converted, Some(None));
        let label = PolicyId {
            kind,
            key: key.clone(),
        };
        self.policy(
            kind,
            key,
            converted.flatten().map(compile::cluster_network_policy),
        );
        if is_lost {
            let problem =
                "counts as absent: write tier Admin or Baseline, and a subject with namespaces or pods";
            self.trouble(label.shown(), Some(problem.to_owned()));
        }
    }

    pub(super) fn profile(&mut self, name: &str, profile: Option<Profile>) {
        let labels = profile
            .as_ref()
            .map(|profile| profile.spec.labels_to_apply.clone())
            .unwrap_or_default();
        self.sets.set_parent(name, labels.clone());
        let changes = self.local_index.set_parent(name, labels);
        self.note_matches(&changes);
        let mut problems = Vec::new();
        let compiled = profile.map(|profile| {
            let mut rules = |direction, rules| compile::compile_rules(direction, rules, "", &mut problems);
            ProfileRules {
                ingress: rules(Direction::Ingress, &profile.spec.ingress),
                egress: rules(Direction::Egress, &profile.spec.egress),
            }
        });
        if self.profiles.get(name) == compiled.as_ref() {
            return;
        }
        self.changes.profiles.insert(name.to_owned());
        match compiled {
            Some(compiled) => self.profiles.insert(name.to_owned(), compiled),
            None => self.profiles.remove(name),
        };
    }

    pub(super) fn workload(&mut self, item: Item, endpoint: Option<WorkloadEndpoint>) {
        let Some(endpoint) = endpoint else {
            self.forget(&item);
            return;
        };
        let nets = parse_nets(&endpoint.spec.ip_networks);
        let labels = endpoint.metadata.labels.clone().unwrap_or_default();
        let spec = endpoint.spec;
        let addresses = Addresses {
            nets: nets.clone(),
            ports: named_ports(&spec.ports),
        };
        let profiles = spec.profiles.clone();
        self.sets
            .set_item(&item, labels.clone(), profiles.clone(), addresses);
        if spec.node != self.node || spec.interface_name.is_empty() {
            self.forget_local(&item);
            return;
        }
        let namespace = endpoint.metadata.namespace.unwrap_or_default();
        let workload = if spec.pod.is_empty() {
            spec.workload
        } else {
            format!("{namespace}/{}", spec.pod)
        };
        let local = Local {
            interface: spec.interface_name,
            nets,
            profiles: spec.profiles,
            orchestrator: spec.orchestrator,
            workload,
            endpoint: spec.endpoint,
            mac: spec.mac,
            source_prefixes: parse_nets(&spec.allow_spoofed_source_prefixes),
            floating: spec.ip_nats.iter().filter_map(floating).collect(),
            qos: spec.qos_controls,
            is_host: false,
        };
        self.set_local(item, labels, profiles, local);
    }

    pub(super) fn host(&mut self, key: Key, endpoint: Option<HostEndpoint>) {
        let label = format!("HostEndpoint {key}");
        let item = Item::Host(key);
        let Some(endpoint) = endpoint else {
            self.trouble(label, None);
            self.forget(&item);
            return;
        };
        let (metadata, spec) = (endpoint.metadata, endpoint.spec);
        let labels = metadata.labels.unwrap_or_default();
        let bad = spec
            .expected_ips
            .iter()
            .find(|text| parse_cidr_or_address(text).is_none());
        let mut problem = bad.map(|text| format!("expectedIPs: {text:?} is no address"));
        if spec.interface_name.is_empty() && spec.expected_ips.is_empty() {
            problem = Some("interfaceName: write an interface, \"*\" for all, or expectedIPs".to_owned());
        }
        self.trouble(label, problem);
        let nets = parse_nets(&spec.expected_ips);
        let ports = spec.ports.iter().filter_map(|port| {
            let protocol = port.protocol.as_ref()?.number()?;
            Some((port.name.clone(), protocol, port.port))
        });
        let addresses = Addresses {
            nets: nets.clone(),
            ports: ports.collect(),
        };
        self.sets
            .set_item(&item, labels.clone(), spec.profiles.clone(), addresses);
        if spec.node != self.node {
            self.forget_local(&item);
            return;
        }
        let local = Local {
            interface: spec.interface_name,
            nets,
            profiles: spec.profiles.clone(),
            is_host: true,
            ..Local::default()
        };
        self.set_local(item, labels, spec.profiles, local);
    }

    fn set_local(
        &mut self,
        item: Item,
        labels: BTreeMap<String, String>,
        profiles: Vec<String>,
        local: Local,
    ) {
        let changes = self.local_index.set_item(&item, labels, profiles);
        self.note_matches(&changes);
        if self.locals.get(&item) != Some(&local) {
            self.changes.items.insert(item.clone());
            self.locals.insert(item, local);
        }
    }

    fn forget(&mut self, item: &Item) {
        self.sets.remove_item(item);
        self.forget_local(item);
    }

    fn forget_local(&mut self, item: &Item) {
        let changes = self.local_index.remove_item(item);
        self.note_matches(&changes);
        if self.locals.remove(item).is_some() {
            self.changes.items.insert(item.clone());
        }
    }

    /// A policy began or ceased to apply to an endpoint of this node.
    fn note_matches(&mut self, changes: &[Change<Item, PolicyId>]) {
        for change in changes {
            self.changes.items.insert(change.item.clone());
        }
    }

    pub(super) fn network_set(&mut self, key: Key, content: Option<(BTreeMap<String, String>, Vec<String>)>) {
        let label = format!("NetworkSet {key}");
        let item = Item::NetworkSet(key.clone());
        let Some((mut labels, texts)) = content else {
            self.trouble(label, None);
            self.sets.remove_item(&item);
            return;
        };
        let mut parents = Vec::new();
        if !key.namespace.is_empty() {
            labels.insert(meta::LABEL_NAMESPACE.to_owned(), key.namespace.clone());
            parents.push(format!("{}{}", meta::NAMESPACE_PROFILE_PREFIX, key.namespace));
        }
        let mut bad = None;
        let mut nets = Vec::with_capacity(texts.len());
        for text in texts {
            match parse_cidr_or_address(&text) {
                Some(net) => nets.push(net),
                None => bad = bad.or(Some(text)),
            }
        }
        self.trouble(label, bad.map(|text| format!("nets: {text:?} is no CIDR")));
        let ports = Vec::new();
        self.sets
            .set_item(&item, labels, parents, Addresses { nets, ports });
    }

    pub(super) fn slice(&mut self, key: Key, slice: Option<&EndpointSlice>) {
        if let Some(service) = self.slices.remove(&key) {
            self.sets.set_service(&service, &key, None);
        }
        let Some(slice) = slice else { return };
        let labels = slice.metadata.labels.as_ref();
        let Some(name) = labels.and_then(|labels| labels.get(LABEL_SERVICE)) else {
            return;
        };
        let service = Key::new(&key.namespace, name);
        let texts = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            let protocol = v3::Protocol::from(port.protocol.as_deref().unwrap_or("TCP")).number()?;
            Some((String::new(), protocol, u16::try_from(port.port?).ok()?))
        });
        let addresses = Addresses {
            nets: texts.filter_map(|text| parse_cidr_or_address(text)).collect(),
            ports: ports.collect(),
        };
        self.sets.set_service(&service, &key, Some(addresses));
        self.slices.insert(key, service);
    }
}

/// True when a changed policy has its chains at another place, or other ones.
fn is_placed_differently(before: &Policy, after: &Policy) -> bool {
    let place = |policy: &Policy| {
        let directions = (policy.ingress.is_some(), policy.egress.is_some());
        (policy.stage, policy.is_applied_on_forward, directions)
    };
    place(before) != place(after) || before.tier != after.tier || before.order != after.order
}

fn parse_nets(texts: &[String]) -> Vec<IpNet> {
    let nets = texts.iter().filter_map(|text| parse_cidr_or_address(text));
    nets.collect()
}

fn named_ports(ports: &[WorkloadEndpointPort]) -> Vec<(String, u8, u16)> {
    let named = ports.iter().filter(|port| !port.name.is_empty());
    named
        .filter_map(|port| Some((port.name.clone(), port.protocol.number()?, port.port)))
        .collect()
}

fn floating(pair: &IpNat) -> Option<(std::net::IpAddr, std::net::IpAddr)> {
    let (external, internal) = (pair.external_ip.parse().ok()?, pair.internal_ip.parse().ok()?);
    // Translation between families does not exist.
    let external: std::net::IpAddr = external;
    let internal: std::net::IpAddr = internal;
    (external.is_ipv4() == internal.is_ipv4()).then_some((external, internal))
}

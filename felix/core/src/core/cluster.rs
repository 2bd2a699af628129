//! The cluster as this node sees it: objects parsed and indexed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use caracal_api::k8s_policy::from_cluster_network_policy;
use caracal_api::names::PolicyKind;
use caracal_api::net::parse_cidr_or_address;
use caracal_api::v3::{self, Action, BGPConfigurationSpec, FelixConfigurationSpec, IPPoolSpec};
use caracal_api::virtual_::node::{self, Node};
use caracal_api::virtual_::profile::{self, Profile};
use caracal_api::virtual_::workload_endpoint::{self, WorkloadEndpoint};
use caracal_api::{meta, v3::BlockAffinitySpec};
use ipnet::IpNet;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::calc::compile::{self, Compiled};
use crate::calc::label_index::LabelIndex;
use crate::calc::model::{Direction, Policy, PolicyId, RuleModel, SetSpec};
use crate::calc::sets::{Addresses, Item, Sets};
use crate::update::{Key, Update};

/// A workload endpoint on this node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Local {
    pub(super) interface: String,
    pub(super) nets: Vec<IpNet>,
    pub(super) profiles: Vec<String>,
    pub(super) orchestrator: String,
    pub(super) workload: String,
    pub(super) endpoint: String,
    pub(super) mac: String,
    pub(super) is_spoofing: bool,
}

/// Rules of a profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ProfileRules {
    pub(super) ingress: Vec<RuleModel>,
    pub(super) egress: Vec<RuleModel>,
}

/// Everything known.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) node: String,
    pub(super) locals: BTreeMap<Item, Local>,
    pub(super) local_index: LabelIndex<Item, PolicyId>,
    pub(super) policies: BTreeMap<PolicyId, Policy>,
    pub(super) profiles: BTreeMap<String, ProfileRules>,
    pub(super) tiers: BTreeMap<String, v3::TierSpec>,
    pub(super) sets: Sets,
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) pools: BTreeMap<String, IPPoolSpec>,
    pub(super) affinities: BTreeMap<String, BlockAffinitySpec>,
    pub(super) bgp: BTreeMap<String, BGPConfigurationSpec>,
    felix: BTreeMap<String, FelixConfigurationSpec>,
    held: BTreeMap<String, Arc<SetSpec>>,
    slices: BTreeMap<Key, Key>,
    troubles: BTreeMap<String, String>,
    configuration_problems: Vec<String>,
    is_dirty: bool,
}

impl Cluster {
    pub(super) fn new(node: &str) -> Self {
        let mut cluster = Self {
            node: node.to_owned(),
            locals: BTreeMap::new(),
            local_index: LabelIndex::default(),
            policies: BTreeMap::new(),
            profiles: BTreeMap::new(),
            tiers: BTreeMap::new(),
            sets: Sets::default(),
            nodes: BTreeMap::new(),
            pools: BTreeMap::new(),
            affinities: BTreeMap::new(),
            bgp: BTreeMap::new(),
            felix: BTreeMap::new(),
            held: BTreeMap::new(),
            slices: BTreeMap::new(),
            troubles: BTreeMap::new(),
            configuration_problems: Vec::new(),
            is_dirty: true,
        };
        cluster.profile(meta::PROFILE_DEFAULT_ALLOW, Some(profile::default_allow()));
        cluster
    }

    pub(super) const fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    pub(super) const fn mark_clean(&mut self) {
        self.is_dirty = false;
    }

    pub(super) fn configurations(&self) -> BTreeMap<&str, &FelixConfigurationSpec> {
        self.felix
            .iter()
            .map(|(name, spec)| (name.as_str(), spec))
            .collect()
    }

    pub(super) fn node_labels(&self) -> BTreeMap<String, String> {
        let own = self.nodes.get(&self.node);
        own.and_then(|node| node.metadata.labels.clone())
            .unwrap_or_default()
    }

    pub(super) fn set_configuration_problems(&mut self, problems: Vec<String>) {
        self.configuration_problems = problems;
    }

    pub(super) fn problems(&self) -> BTreeMap<String, String> {
        let mut problems = self.troubles.clone();
        if !self.configuration_problems.is_empty() {
            problems.insert(
                "FelixConfiguration".to_owned(),
                self.configuration_problems.join("; "),
            );
        }
        problems
    }

    pub(super) fn on_update(&mut self, update: Update) {
        self.is_dirty = true;
        match update {
            Update::Pod(key, pod) => {
                // A pod that is about to start here has its policy in the kernel before it has an address.
                let is_expected = |pod: &k8s_openapi::api::core::v1::Pod| {
                    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
                    node == Some(&self.node) && !workload_endpoint::is_finished(pod)
                };
                let endpoint = pod.filter(|pod| workload_endpoint::has_address(pod) || is_expected(pod));
                let endpoint = endpoint.map(|pod| workload_endpoint::from_pod(&pod)).transpose();
                let label = format!("Pod {key}");
                let (endpoint, trouble) = match endpoint {
                    Ok(endpoint) => (endpoint.flatten(), None),
                    Err(error) => (None, Some(error.to_string())),
                };
                self.trouble(label, trouble);
                self.workload(Item::Pod(key), endpoint);
            }
            Update::WorkloadEndpoint(key, endpoint) => {
                self.workload(Item::Workload(key), endpoint.map(|e| *e))
            }
            Update::Namespace(key, namespace) => {
                let name = format!("{}{}", meta::NAMESPACE_PROFILE_PREFIX, key.name);
                self.profile(
                    &name,
                    namespace.and_then(|namespace| profile::from_namespace(&namespace)),
                );
            }
            Update::ServiceAccount(key, account) => {
                let prefix = meta::SERVICE_ACCOUNT_PROFILE_PREFIX;
                let name = format!("{prefix}{}.{}", key.namespace, key.name);
                self.profile(
                    &name,
                    account.and_then(|account| profile::from_service_account(&account)),
                );
            }
            Update::Node(key, object) => put(&mut self.nodes, key, object.and_then(|n| node::from_k8s(&n))),
            Update::Service(..) => {}
            Update::EndpointSlice(key, slice) => self.slice(key, slice.as_deref()),
            Update::KubernetesNetworkPolicy(key, policy) => {
                let compiled = policy.map(|policy| compile::kubernetes(&policy));
                self.policy(PolicyKind::KubernetesNetworkPolicy, key, compiled);
            }
            Update::ClusterNetworkPolicy(key, policy) => {
                let converted = policy.and_then(|policy| from_cluster_network_policy(&policy));
                let compiled = converted.map(|converted| {
                    let mut compiled = compile::global_network_policy(&converted.policy.spec);
                    compiled
                        .problems
                        .extend(converted.errors.iter().map(ToString::to_string));
                    compiled
                });
                self.policy(PolicyKind::KubernetesClusterNetworkPolicy, key, compiled);
            }
            Update::NetworkPolicy(key, policy) => {
                let compiled = policy.map(|policy| compile::network_policy(&policy.spec, &key.namespace));
                self.policy(PolicyKind::NetworkPolicy, key, compiled);
            }
            Update::GlobalNetworkPolicy(key, policy) => {
                // Those for host endpoints before connection tracking or translation have no say about workloads.
                let policy = policy.filter(|policy| !policy.spec.do_not_track && !policy.spec.pre_dnat);
                let compiled = policy.map(|policy| compile::global_network_policy(&policy.spec));
                self.policy(PolicyKind::GlobalNetworkPolicy, key, compiled);
            }
            Update::Tier(key, tier) => put(&mut self.tiers, key, tier.map(|tier| tier.spec)),
            Update::NetworkSet(key, set) => {
                let content = set.map(|set| (set.metadata.labels.unwrap_or_default(), set.spec.nets));
                self.network_set(key, content);
            }
            Update::GlobalNetworkSet(key, set) => {
                let content = set.map(|set| (set.metadata.labels.unwrap_or_default(), set.spec.nets));
                self.network_set(key, content);
            }
            Update::IpPool(key, pool) => put(&mut self.pools, key, pool.map(|pool| pool.spec)),
            Update::BlockAffinity(key, affinity) => put(&mut self.affinities, key, affinity.map(|a| a.spec)),
            Update::FelixConfiguration(key, object) => put(&mut self.felix, key, object.map(|o| o.spec)),
            Update::BgpConfiguration(key, object) => put(&mut self.bgp, key, object.map(|o| o.spec)),
        }
    }

    /// Holds the sets of the rules that are enforced here, and no others.
    pub(super) fn activate(&mut self) {
        let mut wanted: BTreeMap<String, Arc<SetSpec>> = BTreeMap::new();
        let policies = self
            .active_policies()
            .into_iter()
            .filter_map(|id| self.policies.get(id));
        let policy_rules = policies.flat_map(|policy| policy.ingress.iter().chain(&policy.egress).flatten());
        let used: BTreeSet<&String> = self.locals.values().flat_map(|local| &local.profiles).collect();
        let profiles = used.into_iter().filter_map(|name| self.profiles.get(name));
        let profile_rules = profiles.flat_map(|profile| profile.ingress.iter().chain(&profile.egress));
        for set in policy_rules.chain(profile_rules).flat_map(RuleModel::sets) {
            wanted.entry(set.id.clone()).or_insert_with(|| Arc::clone(set));
        }
        for (id, set) in &wanted {
            if !self.held.contains_key(id) {
                self.sets.acquire(set);
            }
        }
        for (id, set) in &self.held {
            if !wanted.contains_key(id) {
                self.sets.release(set);
            }
        }
        self.held = wanted;
    }

    /// Policies that apply to some endpoint of this node.
    pub(super) fn active_policies(&self) -> BTreeSet<&PolicyId> {
        let items = self.locals.keys();
        items
            .flat_map(|item| self.local_index.selectors_of(item))
            .collect()
    }

    fn trouble(&mut self, label: String, trouble: Option<String>) {
        match trouble {
            Some(trouble) => self.troubles.insert(label, trouble),
            None => self.troubles.remove(&label),
        };
    }

    fn policy(&mut self, kind: PolicyKind, key: Key, compiled: Option<Compiled>) {
        let id = PolicyId { kind, key };
        let problems = compiled.as_ref().map(|compiled| compiled.problems.join("; "));
        self.trouble(id.shown(), problems.filter(|text| !text.is_empty()));
        match compiled {
            Some(Compiled { policy, .. }) => {
                self.local_index.set_selector(&id, policy.selector.clone());
                self.policies.insert(id, policy);
            }
            None => {
                self.local_index.remove_selector(&id);
                self.policies.remove(&id);
            }
        }
    }

    fn profile(&mut self, name: &str, profile: Option<Profile>) {
        let labels = profile
            .as_ref()
            .map(|profile| profile.spec.labels_to_apply.clone())
            .unwrap_or_default();
        self.sets.set_parent(name, labels.clone());
        self.local_index.set_parent(name, labels);
        let Some(profile) = profile else {
            self.profiles.remove(name);
            return;
        };
        let mut problems = Vec::new();
        let mut rules = |direction, rules| compile::compile_rules(direction, rules, "", &mut problems);
        let compiled = ProfileRules {
            ingress: rules(Direction::Ingress, &profile.spec.ingress),
            egress: rules(Direction::Egress, &profile.spec.egress),
        };
        self.profiles.insert(name.to_owned(), compiled);
    }

    fn workload(&mut self, item: Item, endpoint: Option<WorkloadEndpoint>) {
        let parse = |spec: &workload_endpoint::WorkloadEndpointSpec| -> Vec<IpNet> {
            let nets = spec.ip_networks.iter();
            nets.filter_map(|text| parse_cidr_or_address(text)).collect()
        };
        let endpoint = endpoint.map(|endpoint| (parse(&endpoint.spec), endpoint));
        let Some((nets, endpoint)) = endpoint.filter(|(nets, _)| !nets.is_empty()) else {
            self.sets.remove_item(&item);
            self.local_index.remove_item(&item);
            self.locals.remove(&item);
            return;
        };
        let labels = endpoint.metadata.labels.clone().unwrap_or_default();
        let spec = endpoint.spec;
        let ports = spec.ports.iter().filter(|port| !port.name.is_empty());
        let ports = ports.filter_map(|port| Some((port.name.clone(), port.protocol.number()?, port.port)));
        let addresses = Addresses {
            nets: nets.clone(),
            ports: ports.collect(),
        };
        let profiles = spec.profiles.clone();
        self.sets
            .set_item(&item, labels.clone(), profiles.clone(), addresses);
        if spec.node != self.node || spec.interface_name.is_empty() {
            self.local_index.remove_item(&item);
            self.locals.remove(&item);
            return;
        }
        self.local_index.set_item(&item, labels, profiles);
        let namespace = endpoint.metadata.namespace.unwrap_or_default();
        let workload = if spec.pod.is_empty() {
            spec.workload
        } else {
            format!("{namespace}/{}", spec.pod)
        };
        self.locals.insert(
            item,
            Local {
                interface: spec.interface_name,
                nets,
                profiles: spec.profiles,
                orchestrator: spec.orchestrator,
                workload,
                endpoint: spec.endpoint,
                mac: spec.mac,
                is_spoofing: !spec.allow_spoofed_source_prefixes.is_empty(),
            },
        );
    }

    fn network_set(&mut self, key: Key, content: Option<(BTreeMap<String, String>, Vec<String>)>) {
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
        let bad = texts.iter().find(|text| parse_cidr_or_address(text).is_none());
        self.trouble(label, bad.map(|text| format!("nets: {text:?} is no CIDR")));
        let nets = texts
            .iter()
            .filter_map(|text| parse_cidr_or_address(text))
            .collect();
        let ports = Vec::new();
        self.sets
            .set_item(&item, labels, parents, Addresses { nets, ports });
    }

    fn slice(&mut self, key: Key, slice: Option<&EndpointSlice>) {
        if let Some(service) = self.slices.remove(&key) {
            self.sets.set_service(&service, &key, None);
        }
        let Some(slice) = slice else { return };
        let labels = slice.metadata.labels.as_ref();
        let Some(name) = labels.and_then(|labels| labels.get("kubernetes.io/service-name")) else {
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

    /// Order of a tier, and whether it denies what its policies did not decide. A tier that is not there comes last
    /// and denies.
    pub(super) fn tier(&self, name: &str) -> (Option<f64>, bool) {
        if let Some(spec) = self.tiers.get(name) {
            return (spec.order, spec.default_action != Some(Action::Pass));
        }
        match name {
            meta::TIER_KUBE_ADMIN => (Some(meta::TIER_KUBE_ADMIN_ORDER), false),
            meta::TIER_DEFAULT => (Some(meta::TIER_DEFAULT_ORDER), true),
            meta::TIER_KUBE_BASELINE => (Some(meta::TIER_KUBE_BASELINE_ORDER), false),
            _ => (None, true),
        }
    }
}

fn put<T>(map: &mut BTreeMap<String, T>, key: Key, value: Option<T>) {
    match value {
        Some(value) => map.insert(key.name, value),
        None => map.remove(&key.name),
    };
}

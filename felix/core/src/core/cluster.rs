//! The cluster as this node sees it: objects parsed and indexed, and what of it changed since the last flush.

mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use caracal_api::k8s_policy::{
    from_admin_network_policy, from_baseline_admin_network_policy, from_cluster_network_policy,
};
use caracal_api::meta;
use caracal_api::names::PolicyKind;
use caracal_api::v3::{
    self, Action, BGPConfigurationSpec, BlockAffinitySpec, FelixConfigurationSpec, IPPoolSpec,
};
use caracal_api::virtual_::node::{self, Node};
use caracal_api::virtual_::profile;
use caracal_api::virtual_::workload_endpoint::{self, QosControls};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::calc::compile;
use crate::calc::label_index::LabelIndex;
use crate::calc::model::{Policy, PolicyId, RuleModel};
use crate::calc::sets::{Item, Sets};
use crate::update::{Key, Update};

/// An endpoint of this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Local {
    /// Its interface; of a host endpoint also `*`, or none when its addresses tell the interface.
    pub(super) interface: String,
    pub(super) nets: Vec<IpNet>,
    pub(super) profiles: Vec<String>,
    pub(super) orchestrator: String,
    pub(super) workload: String,
    pub(super) endpoint: String,
    pub(super) mac: String,
    /// Prefixes that it may send from beside its addresses.
    pub(super) source_prefixes: Vec<IpNet>,
    /// Floating addresses: external, internal.
    pub(super) floating: Vec<(IpAddr, IpAddr)>,
    pub(super) qos: Option<QosControls>,
    /// A host endpoint.
    pub(super) is_host: bool,
}

/// What changed since the last flush.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Endpoints of this node that came, went, changed, or that other policies apply to.
    pub(super) items: BTreeSet<Item>,
    /// Policies that came, went or changed.
    pub(super) policies: BTreeSet<PolicyId>,
    /// Profiles that came, went or changed.
    pub(super) profiles: BTreeSet<String>,
    /// Something that every endpoint's chains depend on: tiers, interfaces of the host.
    pub(super) endpoints: bool,
    /// Pools, nodes, blocks, BGP.
    pub(super) network: bool,
    /// What the configuration is made of.
    pub(super) configuration: bool,
    /// The list of problems.
    pub(super) problems: bool,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        let has_keys = !self.items.is_empty() || !self.policies.is_empty() || !self.profiles.is_empty();
        !(has_keys || self.endpoints || self.network || self.configuration || self.problems)
    }
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
    /// Addresses of the host's interfaces.
    pub(super) host_addresses: BTreeMap<String, Vec<IpAddr>>,
    slices: BTreeMap<Key, Key>,
    troubles: BTreeMap<String, String>,
    configuration_problems: Vec<String>,
    changes: Changes,
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
            host_addresses: BTreeMap::new(),
            slices: BTreeMap::new(),
            troubles: BTreeMap::new(),
            configuration_problems: Vec::new(),
            changes: Changes::default(),
        };
        cluster.profile(meta::PROFILE_DEFAULT_ALLOW, Some(profile::default_allow()));
        cluster
    }

    /// True when nothing changed since the last flush.
    pub(super) fn is_unchanged(&self) -> bool {
        self.changes.is_empty() && !self.sets.is_changed()
    }

    /// The configuration changed since the changes were last taken.
    pub(super) const fn is_configuration_changed(&self) -> bool {
        self.changes.configuration
    }

    /// The configuration is to be read again.
    pub(super) const fn mark_configuration(&mut self) {
        self.changes.configuration = true;
    }

    /// What changed since the last call.
    pub(super) fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    pub(super) fn configurations(&self) -> BTreeMap<&str, &FelixConfigurationSpec> {
        self.felix
            .iter()
            .map(|(name, spec)| (name.as_str(), spec))
            .collect()
    }

    pub(super) fn labels_of(&self, node: &str) -> BTreeMap<String, String> {
        let node = self.nodes.get(node);
        node.and_then(|node| node.metadata.labels.clone())
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
        match update {
            Update::Pod(key, pod) => {
                // A pod that is about to start here has its policy in the kernel before it has an address.
                let is_here = |pod: &Pod| {
                    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
                    node == Some(&self.node)
                };
                let is_live = |pod: &Pod| {
                    let has_say = workload_endpoint::has_address(pod) || is_here(pod);
                    has_say && !workload_endpoint::is_finished(pod)
                };
                let endpoint = pod.filter(|pod| is_live(pod));
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
            Update::Node(key, object) => {
                let is_own = key.name == self.node;
                let node = object.and_then(|node| node::from_k8s(&node)).map(strip);
                if put(&mut self.nodes, key, node) {
                    self.changes.network = true;
                    // Its labels choose the configuration.
                    self.changes.configuration |= is_own;
                }
            }
            Update::Service(..) => {}
            Update::HostEndpoint(key, endpoint) => self.host(key, endpoint.map(|endpoint| *endpoint)),
            Update::HostInterface(name, addresses) => {
                let key = Key::cluster(name);
                self.changes.endpoints |= put(&mut self.host_addresses, key, addresses);
            }
            Update::EndpointSlice(key, slice) => self.slice(key, slice.as_deref()),
            Update::KubernetesNetworkPolicy(key, policy) => {
                let compiled = policy.map(|policy| compile::kubernetes(&policy));
                self.policy(PolicyKind::KubernetesNetworkPolicy, key, compiled);
            }
            Update::ClusterNetworkPolicy(key, policy) => {
                let converted = policy.map(|policy| from_cluster_network_policy(&policy));
                self.cluster_policy(PolicyKind::KubernetesClusterNetworkPolicy, key, converted);
            }
            Update::AdminNetworkPolicy(key, policy) => {
                let converted = policy.map(|policy| from_admin_network_policy(&policy));
                self.cluster_policy(PolicyKind::KubernetesAdminNetworkPolicy, key, converted);
            }
            Update::BaselineAdminNetworkPolicy(key, policy) => {
                let converted = policy.map(|policy| from_baseline_admin_network_policy(&policy));
                self.cluster_policy(PolicyKind::KubernetesBaselineAdminNetworkPolicy, key, converted);
            }
            Update::NetworkPolicy(key, policy) => {
                let compiled = policy.map(|policy| compile::network_policy(&policy.spec, &key.namespace));
                self.policy(PolicyKind::NetworkPolicy, key, compiled);
            }
            Update::GlobalNetworkPolicy(key, policy) => {
                let compiled = policy.map(|policy| compile::global_network_policy(&policy.spec));
                self.policy(PolicyKind::GlobalNetworkPolicy, key, compiled);
            }
            Update::StagedNetworkPolicy(key, policy) => {
                let compiled =
                    policy.and_then(|policy| compile::staged_network_policy(&policy.spec, &key.namespace));
                self.policy(PolicyKind::StagedNetworkPolicy, key, compiled);
            }
            Update::StagedGlobalNetworkPolicy(key, policy) => {
                let compiled = policy.and_then(|policy| compile::staged_global_network_policy(&policy.spec));
                self.policy(PolicyKind::StagedGlobalNetworkPolicy, key, compiled);
            }
            Update::StagedKubernetesNetworkPolicy(key, policy) => {
                let compiled =
                    policy.and_then(|policy| compile::staged_kubernetes(&policy.spec, &key.namespace));
                self.policy(PolicyKind::StagedKubernetesNetworkPolicy, key, compiled);
            }
            Update::Tier(key, tier) => {
                self.changes.endpoints |= put(&mut self.tiers, key, tier.map(|tier| tier.spec));
            }
            Update::NetworkSet(key, set) => {
                let content = set.map(|set| (set.metadata.labels.unwrap_or_default(), set.spec.nets));
                self.network_set(key, content);
            }
            Update::GlobalNetworkSet(key, set) => {
                let content = set.map(|set| (set.metadata.labels.unwrap_or_default(), set.spec.nets));
                self.network_set(key, content);
            }
            Update::IpPool(key, pool) => {
                self.changes.network |= put(&mut self.pools, key, pool.map(|pool| pool.spec));
            }
            Update::BlockAffinity(key, affinity) => {
                self.changes.network |= put(&mut self.affinities, key, affinity.map(|a| a.spec));
            }
            Update::FelixConfiguration(key, object) => {
                self.changes.configuration |= put(&mut self.felix, key, object.map(|o| o.spec));
            }
            Update::BgpConfiguration(key, object) => {
                self.changes.network |= put(&mut self.bgp, key, object.map(|o| o.spec));
            }
        }
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

/// Sets or removes an entry; true when that changed it.
fn put<T: PartialEq>(map: &mut BTreeMap<String, T>, key: Key, value: Option<T>) -> bool {
    if map.get(&key.name) == value.as_ref() {
        return false;
    }
    match value {
        Some(value) => map.insert(key.name, value),
        None => map.remove(&key.name),
    };
    true
}

/// A node without what changes with every heartbeat and does not concern us.
fn strip(mut node: Node) -> Node {
    node.metadata = ObjectMeta {
        name: node.metadata.name,
        labels: node.metadata.labels,
        ..ObjectMeta::default()
    };
    node
}

//! What the core is told of the cluster: one object at a time, by key, present or absent.
//!
//! Owns the input half of the contract. Objects come as the API has them; what they mean is decided in here, so that
//! an object that cannot be understood closes what it concerns instead of getting lost on the way. An update with the
//! same content as before changes nothing, and deleting what is unknown is no error.

use std::fmt;
use std::net::IpAddr;

use caracal_api::k8s_policy::{AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy};
use caracal_api::v3;
use caracal_api::virtual_::workload_endpoint::WorkloadEndpoint;
use k8s_openapi::api::core::v1 as core_v1;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1 as networking_v1;

/// Namespace (empty for cluster-wide kinds) and name of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace; empty for cluster-wide kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// Key of an object in a namespace.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Key of a cluster-wide object.
    #[must_use]
    pub fn cluster(name: impl Into<String>) -> Self {
        Self::new("", name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An object that appeared, changed (`Some`) or went away (`None`).
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// A pod of any node.
    Pod(Key, Option<Box<core_v1::Pod>>),
    /// A workload endpoint that no pod stands behind.
    WorkloadEndpoint(Key, Option<Box<WorkloadEndpoint>>),
    /// A namespace.
    Namespace(Key, Option<Box<core_v1::Namespace>>),
    /// A service account.
    ServiceAccount(Key, Option<Box<core_v1::ServiceAccount>>),
    /// A node.
    Node(Key, Option<Box<core_v1::Node>>),
    /// A Service.
    Service(Key, Option<Box<core_v1::Service>>),
    /// An EndpointSlice.
    EndpointSlice(Key, Option<Box<EndpointSlice>>),
    /// Kubernetes' NetworkPolicy.
    KubernetesNetworkPolicy(Key, Option<Box<networking_v1::NetworkPolicy>>),
    /// Kubernetes' ClusterNetworkPolicy.
    ClusterNetworkPolicy(Key, Option<Box<ClusterNetworkPolicy>>),
    /// Kubernetes' older AdminNetworkPolicy.
    AdminNetworkPolicy(Key, Option<Box<AdminNetworkPolicy>>),
    /// Kubernetes' older BaselineAdminNetworkPolicy.
    BaselineAdminNetworkPolicy(Key, Option<Box<BaselineAdminNetworkPolicy>>),
    /// NetworkPolicy.
    NetworkPolicy(Key, Option<Box<v3::NetworkPolicy>>),
    /// GlobalNetworkPolicy.
    GlobalNetworkPolicy(Key, Option<Box<v3::GlobalNetworkPolicy>>),
    /// StagedNetworkPolicy.
    StagedNetworkPolicy(Key, Option<Box<v3::StagedNetworkPolicy>>),
    /// StagedGlobalNetworkPolicy.
    StagedGlobalNetworkPolicy(Key, Option<Box<v3::StagedGlobalNetworkPolicy>>),
    /// StagedKubernetesNetworkPolicy.
    StagedKubernetesNetworkPolicy(Key, Option<Box<v3::StagedKubernetesNetworkPolicy>>),
    /// HostEndpoint.
    HostEndpoint(Key, Option<Box<v3::HostEndpoint>>),
    /// Addresses of an interface of this host that is no workload's: host endpoints are found by them.
    HostInterface(String, Option<Vec<IpAddr>>),
    /// Tier.
    Tier(Key, Option<Box<v3::Tier>>),
    /// NetworkSet.
    NetworkSet(Key, Option<Box<v3::NetworkSet>>),
    /// GlobalNetworkSet.
    GlobalNetworkSet(Key, Option<Box<v3::GlobalNetworkSet>>),
    /// IPPool.
    IpPool(Key, Option<Box<v3::IPPool>>),
    /// BlockAffinity.
    BlockAffinity(Key, Option<Box<v3::BlockAffinity>>),
    /// FelixConfiguration.
    FelixConfiguration(Key, Option<Box<v3::FelixConfiguration>>),
    /// BGPConfiguration.
    BgpConfiguration(Key, Option<Box<v3::BGPConfiguration>>),
}

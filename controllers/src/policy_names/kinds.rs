//! Policies of both storages as they are stored, with every field kept, also those that this build does not know.

/// The kinds of one group and version.
macro_rules! kinds {
    ($storage:ident, $group:literal, $version:literal) => {
        pub(super) mod $storage {
            use std::collections::BTreeMap;

            use kube::CustomResource;
            use serde::{Deserialize, Serialize};
            use serde_json::Value;

            kinds!(@kind $group, $version, NetworkPolicy, NetworkPolicySpec, "NetworkPolicy", "networkpolicies", namespaced);
            kinds!(@kind $group, $version, GlobalNetworkPolicy, GlobalNetworkPolicySpec, "GlobalNetworkPolicy", "globalnetworkpolicies");
            kinds!(@kind $group, $version, StagedNetworkPolicy, StagedNetworkPolicySpec, "StagedNetworkPolicy", "stagednetworkpolicies", namespaced);
            kinds!(@kind $group, $version, StagedGlobalNetworkPolicy, StagedGlobalNetworkPolicySpec, "StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicies");
        }
    };
    (@kind $group:literal, $version:literal, $kind:ident, $spec:ident, $name:literal, $plural:literal $(, $namespaced:ident)?) => {
        /// A policy as stored.
        #[derive(CustomResource, Clone, Debug, Serialize, Deserialize)]
        #[kube(group = $group, version = $version, kind = $name, plural = $plural, schema = "disabled" $(, $namespaced)?)]
        pub(crate) struct $spec {
            #[serde(flatten)]
            fields: BTreeMap<String, Value>,
        }
    };
}

kinds!(v1, "crd.projectcalico.org", "v1");
kinds!(v3, "projectcalico.org", "v3");

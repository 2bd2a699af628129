//! What address management stores: blocks, affinities, handles and its configuration.
//!
//! These kinds are written by programs. Several of their fields are always written, also when they are empty,
//! because stored data and other readers expect them.

use std::collections::BTreeMap;

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::null_as_default;

string_enum! {
    /// How far the claim of a block has come.
    pub enum AffinityState {
        /// The block may not exist yet.
        Pending = "pending",
        /// The node owns the block.
        Confirmed = "confirmed",
        /// The node is giving the block up.
        PendingDeletion = "pendingDeletion",
    }
}

impl Default for AffinityState {
    /// The empty state of old data, which reads as confirmed.
    fn default() -> Self {
        Self::Other(String::new())
    }
}

impl AffinityState {
    /// True when the node owns the block; old data without a state counts.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        matches!(self, Self::Confirmed) || self.as_str().is_empty()
    }
}

/// Spec of a BlockAffinity: the claim of a block by a node.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "projectcalico.org",
    version = "v3",
    kind = "BlockAffinity",
    plural = "blockaffinities",
    shortname = "affinity",
    shortname = "affinities",
    derive = "PartialEq",
    derive = "Default",
    crates(kube_core = "::kube_core"),
    doc = "The claim of a block of addresses by a node. Written by address management."
)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["cidr", "node", "state"]))]
pub struct BlockAffinitySpec {
    /// State of the claim.
    #[serde(deserialize_with = "null_as_default")]
    pub state: AffinityState,
    /// The owner: a node, or `load-balancer`.
    #[serde(deserialize_with = "null_as_default")]
    pub node: String,
    /// `host` or `virtual`; empty means host.
    #[serde(
        rename = "type",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub type_: String,
    /// The block.
    #[serde(deserialize_with = "null_as_default")]
    pub cidr: String,
    /// Marked for deletion.
    #[serde(deserialize_with = "null_as_default")]
    pub deleted: bool,
}

/// Spec of an IPAMBlock: a range of addresses that is assigned from.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "projectcalico.org",
    version = "v3",
    kind = "IPAMBlock",
    plural = "ipamblocks",
    derive = "PartialEq",
    derive = "Default",
    crates(kube_core = "::kube_core"),
    doc = "A block of addresses with their assignments. Written by address management."
)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["allocations", "attributes", "cidr", "unallocated"]))]
pub struct IPAMBlockSpec {
    /// The addresses of the block.
    #[serde(deserialize_with = "null_as_default")]
    pub cidr: String,
    /// The owner: `host:<node>` or `virtual:<name>`; absent = nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
    /// When the owner claimed the block.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub affinity_claim_time: Option<String>,
    /// For each address of the block: index of its attributes, or null when it is free.
    #[serde(deserialize_with = "null_as_default")]
    pub allocations: Vec<Option<i32>>,
    /// Free addresses (ordinals), in the order in which they will be assigned.
    #[serde(deserialize_with = "null_as_default")]
    pub unallocated: Vec<i32>,
    /// Attributes that allocations refer to.
    #[serde(deserialize_with = "null_as_default")]
    pub attributes: Vec<AllocationAttribute>,
    /// Incremented by every update of the block.
    #[serde(deserialize_with = "null_as_default")]
    #[schemars(extend("format" = "int64", "default" = 0))]
    pub sequence_number: u64,
    /// For each assigned address (ordinal): the sequence number of the block when it was assigned.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub sequence_number_for_allocation: BTreeMap<String, u64>,
    /// Marked for deletion.
    #[serde(deserialize_with = "null_as_default")]
    pub deleted: bool,
    /// Without meaning; written because stored data has it.
    #[serde(rename = "strictAffinity", deserialize_with = "null_as_default")]
    pub deprecated_strict_affinity: bool,
}

/// Who holds an address, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AllocationAttribute {
    /// The handle of the assignment.
    #[serde(rename = "handle_id", skip_serializing_if = "Option::is_none")]
    pub handle_id: Option<String>,
    /// Attributes of the active owner.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub secondary: BTreeMap<String, String>,
    /// Attributes of the other owner during a live migration.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub alternate_owner_attrs: BTreeMap<String, String>,
    /// When the address was released, while it may not be assigned again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub released_at: Option<String>,
}

/// Spec of an IPAMHandle: all addresses assigned under one handle.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "projectcalico.org",
    version = "v3",
    kind = "IPAMHandle",
    plural = "ipamhandles",
    derive = "PartialEq",
    derive = "Default",
    crates(kube_core = "::kube_core"),
    doc = "The addresses assigned under one handle, counted by block. Written by address management."
)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["block", "handleID"]))]
pub struct IPAMHandleSpec {
    /// The handle, with its capitals.
    #[serde(rename = "handleID", deserialize_with = "null_as_default")]
    pub handle_id: String,
    /// Number of addresses by block CIDR.
    #[serde(deserialize_with = "null_as_default")]
    pub block: BTreeMap<String, i32>,
    /// Marked for deletion.
    #[serde(deserialize_with = "null_as_default")]
    pub deleted: bool,
}

string_enum! {
    /// A switch of two positions.
    pub enum VMAddressPersistence {
        /// On.
        Enabled = "Enabled",
        /// Off.
        Disabled = "Disabled",
    }
}

/// Spec of the IPAMConfiguration, one object named `default`.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "projectcalico.org",
    version = "v3",
    kind = "IPAMConfiguration",
    plural = "ipamconfigurations",
    shortname = "ipamconfig",
    shortname = "ipamconfigs",
    derive = "PartialEq",
    derive = "Default",
    crates(kube_core = "::kube_core"),
    doc = "How addresses are managed; one object, named default."
)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["autoAllocateBlocks", "strictAffinity"]))]
pub struct IPAMConfigurationSpec {
    /// Let nodes take addresses from their own blocks only.
    #[serde(deserialize_with = "null_as_default")]
    pub strict_affinity: bool,
    /// Claim new blocks when the own ones are full.
    #[schemars(extend("default" = true))]
    pub auto_allocate_blocks: bool,
    /// Most blocks that one node claims; 0 = 20.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_as_default")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub max_blocks_per_host: i32,
    /// Whether a virtual machine keeps its address over restarts.
    #[serde(
        rename = "kubeVirtVMAddressPersistence",
        skip_serializing_if = "Option::is_none"
    )]
    pub kube_virt_vm_address_persistence: Option<VMAddressPersistence>,
    /// How long a released address is not assigned again.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_as_default")]
    #[schemars(range(min = 0, max = 1200))]
    pub ip_cooldown_seconds: i32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
const fn is_zero(value: &i32) -> bool {
    *value == 0
}

impl Default for IPAMConfigurationSpec {
    fn default() -> Self {
        Self {
            strict_affinity: false,
            auto_allocate_blocks: true,
            max_blocks_per_host: 0,
            kube_virt_vm_address_persistence: None,
            ip_cooldown_seconds: 0,
        }
    }
}

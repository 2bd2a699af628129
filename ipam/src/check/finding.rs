//! One finding: what is wrong with which object, why it is thought so, and what can be done.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Addresses are lost, or may be given twice.
    Problem,
    /// Worth knowing; nothing is lost by it.
    Note,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $severity:ident;)*) => {
        /// What kind of thing is wrong. The texts are stable: scripts and documents refer to them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code {
            $($(#[doc = $doc])* #[serde(rename = $text)] $name,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The stable text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// How bad it is.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self {
                    $(Self::$name => Severity::$severity,)*
                }
            }
        }
    };
}

codes! {
    /// A block's lists contradict each other.
    BlockDamaged = "ipam-block-damaged", Problem;
    /// Two blocks share addresses.
    BlockOverlap = "ipam-block-overlap", Problem;
    /// A block is in no pool, or not of its pool's block size.
    BlockOutsidePools = "ipam-block-outside-pools", Problem;
    /// A block has an owner that has no affinity for it.
    BlockWithoutAffinity = "ipam-block-without-affinity", Problem;
    /// A block without owner and without addresses is still there.
    BlockForgotten = "ipam-block-forgotten", Problem;
    /// An address is allocated and nobody uses it.
    AddressLeaked = "ipam-address-leaked", Problem;
    /// Two workloads, nodes or services use one address.
    AddressTwice = "ipam-address-twice", Problem;
    /// An address of a pool is in use and not allocated.
    AddressUnallocated = "ipam-address-unallocated", Problem;
    /// An address in use is in no enabled pool.
    AddressOutsidePools = "ipam-address-outside-pools", Problem;
    /// An address is allocated to one workload and used by another.
    AddressOfAnother = "ipam-address-of-another", Problem;
    /// The allocation of a pod's address names another node than the pod does.
    AddressNodeMismatch = "ipam-address-node-mismatch", Problem;
    /// A cooldown mark lies in the future.
    AddressCoolingForever = "ipam-address-cooling-forever", Problem;
    /// An affinity was left half-claimed.
    AffinityPending = "ipam-affinity-pending", Problem;
    /// An affinity was left half-released.
    AffinityPendingDeletion = "ipam-affinity-pending-deletion", Problem;
    /// An affinity has no block, or the block of somebody else.
    AffinityStale = "ipam-affinity-stale", Problem;
    /// An affinity's node is not in the cluster.
    AffinityNodeGone = "ipam-affinity-node-gone", Problem;
    /// An affinity lacks the labels by which its node finds it.
    AffinityUnlabelled = "ipam-affinity-unlabelled", Problem;
    /// An affinity's fields cannot be read.
    AffinityDamaged = "ipam-affinity-damaged", Problem;
    /// A handle counts nothing.
    HandleEmpty = "ipam-handle-empty", Problem;
    /// A handle counts other addresses than the blocks have.
    HandleCount = "ipam-handle-count", Problem;
    /// A block has addresses of a handle that does not exist or does not count them.
    HandleMissing = "ipam-handle-missing", Problem;
    /// An address is allocated in a form that says nothing of its user.
    AddressOwnerUnknown = "ipam-address-owner-unknown", Note;
    /// An allocated address is in an IPReservation.
    AddressReserved = "ipam-address-reserved", Note;
    /// An object carries its mark of deletion and was not deleted.
    DeletionUnfinished = "ipam-deletion-unfinished", Note;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a program may do about a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Fix {
    /// Release an address while nobody uses it and it is still allocated as it was.
    ReleaseAddress {
        /// The address.
        address: IpAddr,
        /// The handle that holds it.
        handle: Option<String>,
        /// The sequence number that it was assigned with.
        sequence_number: u64,
    },
    /// Allocate an address to the pod that uses it.
    AllocateAddress {
        /// The address.
        address: IpAddr,
        /// The pod's node.
        node: String,
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        pod: String,
    },
    /// Name the pod's node in the allocation of its address.
    CorrectNode {
        /// The address.
        address: IpAddr,
        /// The node.
        node: String,
        /// The sequence number that the address was assigned with.
        sequence_number: u64,
    },
    /// Make a block's lists agree, without freeing what may be in use.
    RepairBlock {
        /// The block.
        block: IpNet,
    },
    /// Complete or renew the claim of a block by the owner that it names.
    ClaimBlock {
        /// `host:<node>` or `virtual:<name>`.
        owner: String,
        /// The block.
        block: IpNet,
    },
    /// Take an empty block from its owner, or remove an affinity that has no block.
    ReleaseBlock {
        /// `host:<node>` or `virtual:<name>`.
        owner: String,
        /// The block.
        block: IpNet,
    },
    /// Remove a block that is empty and of nobody.
    RemoveBlock {
        /// The block.
        block: IpNet,
    },
    /// Write the labels of an affinity.
    LabelAffinity {
        /// The node or other owner.
        host: String,
        /// The block.
        block: IpNet,
    },
    /// Make a handle count what the block has.
    CountHandle {
        /// The handle.
        handle: String,
        /// The block.
        block: IpNet,
    },
    /// Remove a handle that counts nothing.
    RemoveHandle {
        /// The handle.
        handle: String,
    },
    /// Delete an object that is marked as deleted.
    FinishDeletion {
        /// `IPAMBlock`, `BlockAffinity` or `IPAMHandle`.
        kind: String,
        /// The object's name.
        name: String,
    },
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What kind of thing.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The address, block, handle or affinity.
    pub subject: String,
    /// Why it is thought to be wrong, as a sentence.
    pub reason: String,
    /// What a person can do.
    pub remedy: String,
    /// What a program may do; `None` when a person must decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<Fix>,
    /// Node, pod, handle, block and the like, for tables and filters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

impl Finding {
    pub(super) fn new(code: Code, subject: impl fmt::Display, reason: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            subject: subject.to_string(),
            reason: reason.into(),
            remedy: "`caracalctl ipam check --fix`".to_owned(),
            fix: None,
            details: BTreeMap::new(),
        }
    }

    pub(super) fn fix(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    pub(super) fn detail(mut self, name: &str, value: impl fmt::Display) -> Self {
        let value = value.to_string();
        if !value.is_empty() {
            self.details.insert(name.to_owned(), value);
        }
        self
    }

    /// Names the finding: the same in every run as long as it is the same thing that is wrong.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}:{}", self.code, self.subject)
    }
}

//! The result of a check: what was looked at, and what was found.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_api::v3::AllocationAttribute;
use serde::{Deserialize, Serialize};

use super::finding::{Code, Finding, Severity};
use super::index::Index;
use crate::block::{Block, handle_of};

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// What was looked at.
    pub totals: Totals,
    /// What is wrong: problems first, then by code and subject.
    pub findings: Vec<Finding>,
    /// All allocations by address, as calicoctl's report has them.
    pub allocations: BTreeMap<IpAddr, Vec<Allocation>>,
    /// Handles that count addresses and have none, as calicoctl's report has them.
    pub leaked_handles: Vec<LeakedHandle>,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Totals {
    /// Blocks.
    pub blocks: usize,
    /// Allocations; those that cool down too.
    pub allocations: usize,
    /// Handles.
    pub handles: usize,
    /// Affinities.
    pub affinities: usize,
    /// Pools that addresses are assigned from.
    pub pools: usize,
    /// Nodes.
    pub nodes: usize,
    /// Addresses in use.
    pub in_use: usize,
}

/// An allocation as a report file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Allocation {
    /// The address.
    pub ip: String,
    /// Its handle.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub handle: String,
    /// The sequence number that it was assigned with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence_number: Option<u64>,
    /// The pod's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// The pod's or service's namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The node; without that attribute, the block's node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The allocation's `type`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub type_: String,
    /// When it was made.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub creation_timestamp: String,
    /// True when somebody uses the address, or nobody can say that nobody does.
    pub in_use: bool,
    /// True when the block is of another node.
    #[serde(skip_serializing_if = "is_false")]
    pub borrowed: bool,
    /// True when the address was released and may not be assigned yet.
    #[serde(skip_serializing_if = "is_false")]
    pub cooling_down: bool,
    /// Who uses it.
    pub owners: Vec<String>,
}

/// A handle without addresses, as a report file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LeakedHandle {
    /// The handle.
    #[serde(rename = "ID")]
    pub id: String,
    /// The object's UID.
    #[serde(rename = "UID")]
    pub uid: String,
    /// The object's resourceVersion.
    pub revision: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Report {
    pub(super) fn new(index: &Index<'_>) -> Self {
        let snapshot = index.snapshot;
        let mut allocations: BTreeMap<IpAddr, Vec<Allocation>> = BTreeMap::new();
        for (block, address, attribute) in index.allocations() {
            let one = allocation(index, block, address, attribute);
            allocations.entry(address).or_default().push(one);
        }
        Self {
            totals: Totals {
                blocks: snapshot.blocks.iter().filter(|one| !one.spec.deleted).count(),
                allocations: index.allocations().count(),
                handles: snapshot.handles.iter().filter(|one| !one.spec.deleted).count(),
                affinities: snapshot.affinities.iter().filter(|one| !one.spec.deleted).count(),
                pools: index.enabled.len(),
                nodes: snapshot.nodes.len(),
                in_use: index.users.len(),
            },
            findings: Vec::new(),
            allocations,
            leaked_handles: leaked_handles(index),
        }
    }

    /// The findings that mean trouble.
    pub fn problems(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.severity == Severity::Problem)
    }

    /// True when there are none of those.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems().next().is_none()
    }

    /// The findings of a kind.
    pub fn of(&self, code: Code) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.code == code)
    }
}

fn allocation(
    index: &Index<'_>,
    block: &Block,
    address: IpAddr,
    attribute: &AllocationAttribute,
) -> Allocation {
    let text = |name: &str| attribute.secondary.get(name).cloned().unwrap_or_default();
    let spec = block.spec();
    let node = Index::node_of(block, attribute).unwrap_or_default();
    let cooling_down = attribute.released_at.is_some();
    let users = index.users.get(&address);
    Allocation {
        ip: address.to_string(),
        handle: handle_of(attribute).unwrap_or_default().to_owned(),
        sequence_number: block
            .assignment(address)
            .map(|(_, number)| number)
            .filter(|number| *number > 0)
            .or(Some(spec.sequence_number)),
        pod: text("pod"),
        namespace: text("namespace"),
        type_: text("type"),
        creation_timestamp: text("timestamp"),
        in_use: !cooling_down && index.leak(address, block, attribute).is_none(),
        borrowed: spec
            .affinity
            .as_deref()
            .and_then(|affinity| affinity.strip_prefix("host:"))
            .is_some_and(|owner| owner != node),
        node: node.to_owned(),
        cooling_down,
        owners: users
            .into_iter()
            .flatten()
            .map(|one| one.user.to_string())
            .collect(),
    }
}

fn leaked_handles(index: &Index<'_>) -> Vec<LeakedHandle> {
    let held: std::collections::BTreeSet<String> = index
        .allocations()
        .filter_map(|(_, _, attribute)| handle_of(attribute).map(caracal_api::names::handle_name))
        .collect();
    let live = index.snapshot.handles.iter().filter(|one| !one.spec.deleted);
    live.filter(|one| !held.contains(one.metadata.name.as_deref().unwrap_or_default()))
        // A block that cannot be read may have some.
        .filter(|one| {
            let mut blocks = one.spec.block.keys().filter_map(|text| text.parse::<ipnet::IpNet>().ok());
            blocks.all(|block| index.blocks.contains_key(&block) || !index.is_unreadable(block.network()))
        })
        .map(|one| LeakedHandle {
            id: one.spec.handle_id.clone(),
            uid: one.metadata.uid.clone().unwrap_or_default(),
            revision: one.metadata.resource_version.clone().unwrap_or_default(),
        })
        .collect()
}

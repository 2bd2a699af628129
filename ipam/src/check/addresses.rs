//! Findings about single addresses: leaked, given twice, in use without allocation.

use std::net::IpAddr;

use caracal_api::v3::AllocationAttribute;
use jiff::Timestamp;

use super::claimant::{Claimant, LeakReason};
use super::finding::{Code, Finding, Fix};
use super::index::Index;
use super::users::{Use, User};
use crate::block::{Block, COOLDOWN_SECONDS_MAX, Reserved as _, handle_of};
use crate::pools::{describe, pool_of};

pub(super) fn check(index: &Index<'_>, found: &mut Vec<Finding>) {
    for (block, address, attribute) in index.allocations() {
        if let Some(at) = &attribute.released_at {
            found.extend(cooling(index, block, address, at));
            continue;
        }
        let finding = allocated(index, block, address, attribute);
        found.extend(finding.map(|finding| {
            finding
                .detail("block", block.cidr())
                .detail("handle", handle_of(attribute).unwrap_or_default())
                .detail("node", Index::node_of(block, attribute).unwrap_or_default())
                .detail("claimant", Claimant::of(attribute))
        }));
        if index.reserved.is_reserved(address) && Claimant::of(attribute) != Claimant::Windows {
            found.push(
                Finding::new(
                    Code::AddressReserved,
                    address,
                    "an IPReservation covers it; it was assigned before, or asked for by name",
                )
                .remedy("nothing, or move the workload"),
            );
        }
    }
    for (address, users) in &index.users {
        found.extend(used(index, *address, users));
    }
}

fn allocated(
    index: &Index<'_>,
    block: &Block,
    address: IpAddr,
    attribute: &AllocationAttribute,
) -> Option<Finding> {
    let claimant = Claimant::of(attribute);
    if let Some(users) = index.users.get(&address) {
        return in_use(block, address, attribute, &claimant, users);
    }
    if let Some(reason) = index.leak(address, block, attribute) {
        return Some(leaked(block, address, attribute, &claimant, &reason));
    }
    (claimant == Claimant::Unknown).then(|| {
        Finding::new(
            Code::AddressOwnerUnknown,
            address,
            "its attributes name no pod, tunnel or service, so nobody can be asked",
        )
        .remedy(format!(
            "if nothing uses it: `caracalctl ipam release --ip={address}`"
        ))
    })
}

fn leaked(
    block: &Block,
    address: IpAddr,
    attribute: &AllocationAttribute,
    claimant: &Claimant,
    reason: &LeakReason,
) -> Finding {
    let finding = Finding::new(
        Code::AddressLeaked,
        address,
        format!("allocated to {claimant}, and {reason}"),
    );
    // A node that is starting has the address before it says so.
    if *reason == LeakReason::TunnelUnused {
        return finding.remedy(format!(
            "restart the node's agent, which takes or releases it; else `caracalctl ipam release --ip={address}`"
        ));
    }
    finding.fix(Fix::ReleaseAddress {
        address,
        handle: handle_of(attribute).map(ToOwned::to_owned),
        sequence_number: block.assigned_at(address).unwrap_or_default(),
    })
}

fn in_use(
    block: &Block,
    address: IpAddr,
    attribute: &AllocationAttribute,
    claimant: &Claimant,
    users: &[Use],
) -> Option<Finding> {
    let mismatch = users.iter().find_map(|one| match (&one.user, claimant) {
        (
            User::Pod {
                namespace,
                name,
                node,
            },
            Claimant::Pod {
                namespace: wanted_namespace,
                name: wanted,
            },
        ) if namespace == wanted_namespace && name == wanted => Some(node),
        _ => None,
    });
    if let Some(node) = mismatch {
        let named = attribute.secondary.get("node").filter(|named| *named != node)?;
        return Some(
            Finding::new(
                Code::AddressNodeMismatch,
                address,
                format!("the allocation names node {named}, and {claimant} is on node {node}"),
            )
            .fix(Fix::CorrectNode {
                address,
                node: node.clone(),
                sequence_number: block.assigned_at(address).unwrap_or_default(),
            }),
        );
    }
    let other = users.first()?;
    let same = match (&other.user, claimant) {
        (User::Tunnel { node, device }, Claimant::Tunnel { device: wanted }) => {
            device == wanted && attribute.secondary.get("node").is_none_or(|named| named == node)
        }
        (
            User::Service { namespace, name },
            Claimant::Service {
                namespace: wanted_namespace,
                name: wanted,
            },
        ) => namespace == wanted_namespace && name == wanted,
        // A machine's pods have its address; old programs and other orchestrators wrote no attributes. A pod that
        // started while the API server was away has one of the node's reserve.
        (_, Claimant::Machine { .. } | Claimant::Unknown | Claimant::Windows | Claimant::Reserve) => true,
        _ => false,
    };
    (!same).then(|| {
        Finding::new(
            Code::AddressOfAnother,
            address,
            format!("allocated to {claimant}, and {} uses it", other.user),
        )
        .remedy("delete the pod that uses it, so that it starts with an address of its own")
    })
}

fn cooling(index: &Index<'_>, block: &Block, address: IpAddr, at: &str) -> Option<Finding> {
    let now = index.snapshot.now.as_second();
    let far = at
        .parse::<Timestamp>()
        .is_ok_and(|at| at.as_second() > now.saturating_add(COOLDOWN_SECONDS_MAX));
    far.then(|| {
        Finding::new(
            Code::AddressCoolingForever,
            address,
            format!("released at {at}, which is in the future: a clock was set back"),
        )
        .fix(Fix::RepairBlock { block: block.cidr() })
        .detail("block", block.cidr())
    })
}

/// Findings about an address that somebody uses.
fn used(index: &Index<'_>, address: IpAddr, users: &[Use]) -> Vec<Finding> {
    let mut found = Vec::new();
    let names: Vec<String> = users.iter().map(|one| one.user.to_string()).collect();
    if users.len() > 1 {
        let reason = format!("in use by {}", names.join(" and by "));
        let finding = Finding::new(Code::AddressTwice, address, reason);
        found.push(finding.remedy(
            "delete the pods among them, one after the other; each starts with an address of its own",
        ));
    }
    let Some(first) = users.first() else {
        return found;
    };
    let Some(pool) = pool_of(&index.enabled, address) else {
        if !matches!(first.user, User::Service { .. }) {
            let reason = format!(
                "{} uses it, and it is in no enabled pool; they are: {}",
                first.user,
                describe(&index.enabled)
            );
            let finding = Finding::new(Code::AddressOutsidePools, address, reason);
            found.push(finding.remedy("enable or add an IPPool for it, or start the workload anew"));
        }
        return found;
    };
    let recent = users.iter().any(|one| index.is_recent(one.since));
    if recent || index.allocated.contains(&address) || index.is_unreadable(address) {
        return found;
    }
    let reason = format!(
        "{} uses it, it is in pool {}, and no block has it allocated: it may be given to another",
        first.user, pool.name
    );
    let finding = Finding::new(Code::AddressUnallocated, address, reason).detail("pool", &pool.name);
    found.push(match (&first.user, users) {
        (
            User::Pod {
                namespace,
                name,
                node,
            },
            [_],
        ) => finding.fix(Fix::AllocateAddress {
            address,
            node: node.clone(),
            namespace: namespace.clone(),
            pod: name.clone(),
        }),
        _ => finding.remedy("restart what uses it, so that it asks for an address"),
    });
    found
}

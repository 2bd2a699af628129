//! Findings about blocks.

use caracal_api::net::overlaps;
use ipnet::IpNet;

use super::finding::{Code, Finding, Fix};
use super::index::Index;
use super::repair::problems;
use crate::block::{Block, Owner};
use crate::pools::describe;

/// How many problems of one block are told.
const PROBLEMS_TOLD: usize = 5;

pub(super) fn check(index: &Index<'_>, found: &mut Vec<Finding>) {
    let snapshot = index.snapshot;
    for stored in &snapshot.blocks {
        let name = stored.metadata.name.clone().unwrap_or_default();
        if stored.spec.deleted {
            found.push(unfinished("IPAMBlock", name));
            continue;
        }
        let problems = problems(&stored.spec);
        if problems.is_empty() {
            continue;
        }
        let shown: Vec<&str> = problems.iter().take(PROBLEMS_TOLD).map(String::as_str).collect();
        let more = problems.len() - shown.len();
        let tail = if more > 0 {
            format!("; {more} more")
        } else {
            String::new()
        };
        let finding = Finding::new(Code::BlockDamaged, &name, format!("{}{tail}", shown.join("; ")));
        found.push(match stored.spec.cidr.parse::<IpNet>() {
            Ok(block) => finding.fix(Fix::RepairBlock { block: block.trunc() }),
            Err(_) => finding.remedy(format!(
                "delete it once nothing uses its addresses: `kubectl delete ipamblock {name}`"
            )),
        });
    }
    let mut before: Option<&IpNet> = None;
    for (cidr, block) in &index.blocks {
        if let Some(before) = before.filter(|before| overlaps(before, cidr)) {
            found.push(overlap(before, cidr));
        }
        // A later block can only lie in the widest one so far.
        if before.is_none_or(|before| !before.contains(cidr)) {
            before = Some(cidr);
        }
        check_place(index, cidr, block, found);
        check_owner(index, cidr, block, found);
    }
}

pub(super) fn unfinished(kind: &str, name: String) -> Finding {
    let finding = Finding::new(
        Code::DeletionUnfinished,
        format!("{kind}/{name}"),
        "it is marked as deleted; who marked it did not come to delete it",
    );
    finding.fix(Fix::FinishDeletion {
        kind: kind.to_owned(),
        name,
    })
}

fn overlap(one: &IpNet, other: &IpNet) -> Finding {
    Finding::new(
        Code::BlockOverlap,
        format!("{one}+{other}"),
        format!("blocks {one} and {other} share addresses, which both may give away"),
    )
    .remedy(
        "disable the pool of one of them and start its workloads anew; the block goes with its last address",
    )
}

fn check_place(index: &Index<'_>, cidr: &IpNet, block: &Block, found: &mut Vec<Finding>) {
    let inside: Vec<_> = index
        .pools
        .iter()
        .filter(|pool| pool.net.contains(cidr))
        .collect();
    if inside.iter().any(|pool| pool.block_size == cidr.prefix_len()) {
        return;
    }
    let reason = match inside.first() {
        None => format!("no IPPool contains it; they are: {}", describe(&index.pools)),
        Some(pool) => format!(
            "pool {} has blocks of /{}, not of this size",
            pool.name, pool.block_size
        ),
    };
    let finding = Finding::new(Code::BlockOutsidePools, cidr, reason);
    let owner = block.spec().affinity.clone();
    found.push(match (block.is_empty(), owner) {
        (true, Some(owner)) => finding.fix(Fix::ReleaseBlock { owner, block: *cidr }),
        (true, None) => finding.fix(Fix::RemoveBlock { block: *cidr }),
        (false, _) => finding.remedy(
            "start its workloads anew, one after the other; or add the IPPool again, with the block size that it had",
        ),
    });
}

fn check_owner(index: &Index<'_>, cidr: &IpNet, read: &Block, found: &mut Vec<Finding>) {
    let block = *cidr;
    let Some(owner) = &read.spec().affinity else {
        if read.is_empty() {
            let reason = "it is of no node and has no addresses";
            found.push(Finding::new(Code::BlockForgotten, cidr, reason).fix(Fix::RemoveBlock { block }));
        }
        return;
    };
    let owned = Owner(owner.clone());
    let (type_, host) = owned.parts();
    if index.claims.contains(&(owner.clone(), block)) {
        return;
    }
    let gone = type_ == "host" && !index.has_node(host);
    let owner = owner.clone();
    let reason = format!("its owner {owner} has no BlockAffinity for it, so no route leads to it");
    let finding = Finding::new(Code::BlockWithoutAffinity, cidr, reason).detail("node", host);
    found.push(finding.fix(if gone {
        Fix::ReleaseBlock { owner, block }
    } else {
        Fix::ClaimBlock { owner, block }
    }));
}

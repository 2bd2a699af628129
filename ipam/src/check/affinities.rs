//! Findings about affinities.

use caracal_api::meta::LABEL_AFFINITY_TYPE;
use caracal_api::names::affinity_name;
use caracal_api::v3::{AffinityState, BlockAffinity};
use ipnet::IpNet;

use super::blocks::unfinished;
use super::finding::{Code, Finding, Fix};
use super::index::Index;
use crate::affinities::owner_of_affinity;
use crate::block::Block;

pub(super) fn check(index: &Index<'_>, found: &mut Vec<Finding>) {
    for affinity in &index.snapshot.affinities {
        let name = affinity.metadata.name.clone().unwrap_or_default();
        if affinity.spec.deleted {
            found.push(unfinished("BlockAffinity", name));
            continue;
        }
        let cidr = affinity.spec.cidr.parse::<IpNet>().map(|cidr| cidr.trunc());
        let host = &affinity.spec.node;
        match cidr {
            Ok(cidr) if affinity_name(host, &cidr) == name => check_one(index, affinity, cidr, found),
            Ok(_) | Err(_) => found.push(
                Finding::new(
                    Code::AffinityDamaged,
                    &name,
                    format!(
                        "spec.node {host:?} and spec.cidr {:?} do not make this name",
                        affinity.spec.cidr
                    ),
                )
                .remedy(format!(
                    "`kubectl delete blockaffinity {name}`; the node claims its block anew"
                )),
            ),
        }
    }
}

fn check_one(index: &Index<'_>, affinity: &BlockAffinity, block: IpNet, found: &mut Vec<Finding>) {
    let name = affinity.metadata.name.clone().unwrap_or_default();
    let host = affinity.spec.node.clone();
    let labels = affinity.metadata.labels.as_ref();
    if !labels.is_some_and(|labels| labels.contains_key(LABEL_AFFINITY_TYPE)) {
        let reason = "it has no labels, so its node does not find the block and takes another";
        let fix = Fix::LabelAffinity {
            host: host.clone(),
            block,
        };
        found.push(Finding::new(Code::AffinityUnlabelled, &name, reason).fix(fix));
    }
    let created = affinity.metadata.creation_timestamp.as_ref().map(|time| time.0);
    if affinity.spec.state == AffinityState::Pending && index.is_recent(created) {
        return;
    }
    let unreadable = index.is_unreadable(block.network());
    if unreadable && !index.blocks.contains_key(&block) {
        return;
    }
    if let Some((code, reason, fix)) = judge(index, affinity, block, index.blocks.get(&block)) {
        found.push(
            Finding::new(code, &name, reason)
                .fix(fix)
                .detail("block", block)
                .detail("node", &host),
        );
    }
}

fn judge(
    index: &Index<'_>,
    affinity: &BlockAffinity,
    block: IpNet,
    stored: Option<&Block>,
) -> Option<(Code, String, Fix)> {
    let spec = &affinity.spec;
    let owner = owner_of_affinity(affinity).0;
    let is_host = owner.starts_with("host:");
    let release = Fix::ReleaseBlock {
        owner: owner.clone(),
        block,
    };
    let claim = Fix::ClaimBlock {
        owner: owner.clone(),
        block,
    };
    let holder = stored.map(|block| block.spec().affinity.clone());
    let is_empty = stored.is_none_or(|block| block.is_empty());
    let state = match spec.state {
        AffinityState::Pending => Code::AffinityPending,
        AffinityState::PendingDeletion => Code::AffinityPendingDeletion,
        AffinityState::Confirmed | AffinityState::Other(_) => Code::AffinityStale,
    };
    match holder {
        None => Some((state, "there is no such block".to_owned(), release)),
        Some(holder) if holder.as_ref() != Some(&owner) => {
            let holder = holder.unwrap_or_else(|| "nobody".to_owned());
            Some((Code::AffinityStale, format!("the block is of {holder}"), release))
        }
        Some(_) if is_host && !index.has_node(&spec.node) => Some((
            Code::AffinityNodeGone,
            "its node is not in the cluster".to_owned(),
            release,
        )),
        Some(_) if state == Code::AffinityPending => Some((
            state,
            "the claim of the block was not completed".to_owned(),
            claim,
        )),
        Some(_) if state == Code::AffinityPendingDeletion => {
            let fix = if is_empty { release } else { claim };
            Some((
                state,
                "the release of the block was not completed".to_owned(),
                fix,
            ))
        }
        Some(_) => None,
    }
}

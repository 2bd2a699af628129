//! A block whose lists contradict each other, and what they can be made to say without giving an address twice. Pure.
//!
//! When in doubt an address stays allocated, to nobody known: a later check asks whether somebody uses it.

use std::collections::BTreeSet;

use caracal_api::net::size;
use caracal_api::v3::{AllocationAttribute, IPAMBlockSpec};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::block::{ADDRESSES_MAX, COOLDOWN_SECONDS_MAX};

/// What is wrong with a block's lists; empty when nothing is.
pub(super) fn problems(spec: &IPAMBlockSpec) -> Vec<String> {
    let mut problems = Vec::new();
    let Some(count) = address_count(spec) else {
        problems.push(format!("cidr {:?} cannot be a block", spec.cidr));
        return problems;
    };
    if spec.allocations.len() != count {
        let length = spec.allocations.len();
        problems.push(format!("{length} allocations for {count} addresses"));
    }
    let mut unknown = BTreeSet::new();
    for index in spec.allocations.iter().flatten() {
        if attribute_of(spec, *index).is_none() {
            unknown.insert(*index);
        }
    }
    problems.extend(unknown.iter().map(|index| format!("no attribute {index}")));
    let used: BTreeSet<i32> = spec.allocations.iter().flatten().copied().collect();
    let unused = (0..)
        .zip(&spec.attributes)
        .filter(|(index, _)| !used.contains(index));
    problems.extend(unused.map(|(index, _): (i32, _)| format!("attribute {index} of no address")));
    free_list_problems(spec, &mut problems);
    problems
}

fn free_list_problems(spec: &IPAMBlockSpec, problems: &mut Vec<String>) {
    let mut listed = BTreeSet::new();
    for free in &spec.unallocated {
        if !listed.insert(*free) {
            problems.push(format!("address {free} is in the free list twice"));
        }
        match usize::try_from(*free)
            .ok()
            .and_then(|free| spec.allocations.get(free))
        {
            None => problems.push(format!("address {free} of the free list is not in the block")),
            Some(Some(_)) => problems.push(format!("address {free} is free and allocated")),
            Some(None) => {}
        }
    }
    let lost = (0..)
        .zip(&spec.allocations)
        .filter(|(ordinal, slot): &(i32, _)| slot.is_none() && !listed.contains(ordinal));
    problems.extend(lost.map(|(ordinal, _)| format!("address {ordinal} is neither free nor allocated")));
}

/// The block with its lists made to agree; `None` when its prefix cannot be read.
pub(super) fn repaired(spec: &IPAMBlockSpec, now: Timestamp) -> Option<IPAMBlockSpec> {
    let count = address_count(spec)?;
    let mut spec = spec.clone();
    let stored = std::mem::take(&mut spec.allocations);
    let listed: BTreeSet<i32> = spec.unallocated.iter().copied().collect();
    let nobody = i32::try_from(spec.attributes.len()).unwrap_or(i32::MAX);
    spec.attributes.push(AllocationAttribute::default());
    spec.allocations = (0..)
        .take(count)
        .map(|ordinal: i32| {
            let slot = usize::try_from(ordinal)
                .ok()
                .and_then(|ordinal| stored.get(ordinal));
            match slot {
                Some(Some(index)) if attribute_of(&spec, *index).is_some() => Some(*index),
                Some(Some(_)) => Some(nobody),
                Some(None) => None,
                // The list of allocations was cut: what the free list does not vouch for may be in use.
                None => (!listed.contains(&ordinal)).then_some(nobody),
            }
        })
        .collect();
    for attribute in &mut spec.attributes {
        redate(attribute, now);
    }
    let is_free = |ordinal: &i32| {
        let slot = usize::try_from(*ordinal)
            .ok()
            .and_then(|ordinal| spec.allocations.get(ordinal));
        slot == Some(&None)
    };
    // The order of the free list is kept: it is the order of assignment.
    let mut seen = BTreeSet::new();
    let mut free: Vec<i32> = std::mem::take(&mut spec.unallocated);
    free.retain(|ordinal| is_free(ordinal) && seen.insert(*ordinal));
    free.extend(
        (0..)
            .take(count)
            .filter(|ordinal| is_free(ordinal) && !seen.contains(ordinal)),
    );
    spec.unallocated = free;
    drop_unused(&mut spec);
    Some(spec)
}

/// A cooldown that ends far in the future begins now.
fn redate(attribute: &mut AllocationAttribute, now: Timestamp) {
    let far = attribute.released_at.as_deref().is_some_and(|at| {
        at.parse::<Timestamp>()
            .is_ok_and(|at| at.as_second() > now.as_second().saturating_add(COOLDOWN_SECONDS_MAX))
    });
    if far {
        attribute.released_at = Some(crate::block::seconds(now));
    }
}

fn drop_unused(spec: &mut IPAMBlockSpec) {
    let used: BTreeSet<i32> = spec.allocations.iter().flatten().copied().collect();
    let number = |index: i32| {
        let before = used.range(..index).count();
        i32::try_from(before).unwrap_or(index)
    };
    let mut index = 0..;
    spec.attributes
        .retain(|_| index.next().is_some_and(|index: i32| used.contains(&index)));
    for slot in spec.allocations.iter_mut().flatten() {
        *slot = number(*slot);
    }
}

fn attribute_of(spec: &IPAMBlockSpec, index: i32) -> Option<&AllocationAttribute> {
    spec.attributes.get(usize::try_from(index).ok()?)
}

fn address_count(spec: &IPAMBlockSpec) -> Option<usize> {
    let cidr = spec.cidr.parse::<IpNet>().ok()?;
    let size = size(&cidr).filter(|size| *size <= ADDRESSES_MAX)?;
    usize::try_from(size).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::Block;

    fn spec() -> impl Strategy<Value = IPAMBlockSpec> {
        let allocations = proptest::collection::vec(proptest::option::of(-1..4i32), 0..7);
        let free = proptest::collection::vec(-1..6i32, 0..7);
        (allocations, free, 0..4usize).prop_map(|(allocations, unallocated, attributes)| IPAMBlockSpec {
            cidr: "10.0.0.0/30".to_owned(),
            allocations,
            unallocated,
            attributes: (0..attributes)
                .map(|index| AllocationAttribute {
                    handle_id: Some(format!("h{index}")),
                    ..AllocationAttribute::default()
                })
                .collect(),
            ..IPAMBlockSpec::default()
        })
    }

    proptest! {
        #[test]
        fn a_repaired_block_is_whole_and_frees_nothing(spec in spec()) {
            let repaired = repaired(&spec, Timestamp::UNIX_EPOCH).unwrap();
            prop_assert_eq!(problems(&repaired), Vec::<String>::new());
            Block::from_spec(repaired.clone()).unwrap();
            for (before, after) in spec.allocations.iter().zip(&repaired.allocations) {
                prop_assert_eq!(before.is_some(), after.is_some(), "{:?}", spec);
            }
        }

        #[test]
        fn a_whole_block_is_left_as_it_is(spec in spec()) {
            if problems(&spec).is_empty() {
                prop_assert_eq!(repaired(&spec, Timestamp::UNIX_EPOCH), Some(spec));
            }
        }
    }
}

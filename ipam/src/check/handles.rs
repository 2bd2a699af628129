//! Findings about handles: what they count against what blocks have.

use std::collections::BTreeMap;

use caracal_api::names::handle_name;
use ipnet::IpNet;

use super::blocks::unfinished;
use super::finding::{Code, Finding, Fix};
use super::index::Index;
use crate::block::handle_of;

pub(super) fn check(index: &Index<'_>, found: &mut Vec<Finding>) {
    // By object name: handles that differ in capitals share an object.
    let mut held: BTreeMap<(String, IpNet), (String, i32)> = BTreeMap::new();
    for (block, _, attribute) in index.allocations() {
        let Some(id) = handle_of(attribute).filter(|id| !id.is_empty()) else {
            continue;
        };
        let key = (handle_name(id), block.cidr());
        held.entry(key).or_insert_with(|| (id.to_owned(), 0)).1 += 1;
    }
    for stored in &index.snapshot.handles {
        let name = stored.metadata.name.clone().unwrap_or_default();
        if stored.spec.deleted {
            found.push(unfinished("IPAMHandle", name));
            continue;
        }
        let handle = stored.spec.handle_id.clone();
        if stored.spec.block.is_empty() {
            let fix = Fix::RemoveHandle {
                handle: handle.clone(),
            };
            found.push(Finding::new(Code::HandleEmpty, &handle, "it counts no addresses").fix(fix));
        }
        for (text, counted) in &stored.spec.block {
            found.extend(count(index, &mut held, &handle, text, *counted));
        }
    }
    for ((_, block), (handle, count)) in held {
        let reason = format!(
            "block {block} has {count} of its addresses, and it does not count them: they cannot be released by it"
        );
        let finding = Finding::new(Code::HandleMissing, format!("{handle}@{block}"), reason);
        found.push(
            finding
                .detail("handle", &handle)
                .fix(Fix::CountHandle { handle, block }),
        );
    }
}

fn count(
    index: &Index<'_>,
    held: &mut BTreeMap<(String, IpNet), (String, i32)>,
    handle: &str,
    text: &str,
    counted: i32,
) -> Option<Finding> {
    let subject = format!("{handle}@{text}");
    let Ok(block) = text.parse::<IpNet>() else {
        let finding = Finding::new(Code::HandleCount, subject, format!("{text:?} is no block"));
        return Some(finding.remedy(format!(
            "remove that entry: `kubectl edit ipamhandle {}`",
            handle_name(handle)
        )));
    };
    let (_, has) = held.remove(&(handle_name(handle), block)).unwrap_or_default();
    if has == counted || (!index.blocks.contains_key(&block) && index.is_unreadable(block.network())) {
        return None;
    }
    let reason = format!("it counts {counted} addresses in block {block}, which has {has} of it");
    let fix = Fix::CountHandle {
        handle: handle.to_owned(),
        block,
    };
    Some(
        Finding::new(Code::HandleCount, subject, reason)
            .detail("handle", handle)
            .fix(fix),
    )
}

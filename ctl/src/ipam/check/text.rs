//! The text of `ipam check`, section by section as calicoctl prints it. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_api::v3::AllocationAttribute;
use caracal_ipam::Block;
use caracal_ipam::check::{Code, Finding, Report, Severity, Snapshot, User, users_of};

/// How many nodes are named by their allocations.
const TOP_NODES: usize = 20;
/// Kinds of findings that calicoctl has scans for.
const SCANNED: &[Code] = &[
    Code::AddressLeaked,
    Code::AddressOutsidePools,
    Code::AddressUnallocated,
    Code::HandleMissing,
    Code::BlockDamaged,
];

/// What is told beside the sums.
#[derive(Clone, Copy, Debug)]
pub(super) struct Details {
    /// Every address that has a problem.
    pub(super) problems: bool,
    /// Every address.
    pub(super) all: bool,
    /// Services are looked at.
    pub(super) has_services: bool,
}

/// The text.
pub(super) fn text(snapshot: &Snapshot, report: &Report, details: Details) -> String {
    let mut text = "Checking IPAM for inconsistencies...\n\n".to_owned();
    let attributes = attributes(snapshot);
    loading(&mut text, snapshot, report, details);
    top_nodes(&mut text, report);
    addresses(&mut text, report, &attributes, details);
    handles(&mut text, snapshot, report, details);
    blocks_and_rest(&mut text, report, details);
    text.push_str(&format!(
        "Check complete; found {} problems.\n",
        report.problems().count()
    ));
    text
}

/// A finding as a line.
pub(super) fn line(finding: &Finding) -> String {
    format!(
        "  {} {}: {}; {}\n",
        finding.code, finding.subject, finding.reason, finding.remedy
    )
}

fn loading(text: &mut String, snapshot: &Snapshot, report: &Report, details: Details) {
    let blocks: Vec<_> = snapshot
        .blocks
        .iter()
        .filter(|block| !block.spec.deleted)
        .collect();
    text.push_str("Loading all IPAM blocks...\n");
    text.push_str(&format!("Found {} IPAM blocks.\n", blocks.len()));
    for block in &blocks {
        text.push_str(&format!(
            " IPAM block {} affinity={}:\n",
            block.spec.cidr,
            block.spec.affinity.as_deref().unwrap_or("<none>")
        ));
        if details.all {
            allocations_of(text, report, &block.spec.cidr);
        }
    }
    text.push_str(&format!(
        "IPAM blocks record {} allocations.\n\nLoading all IPAM pools...\n",
        report.totals.allocations
    ));
    let enabled: Vec<_> = snapshot.pools.iter().filter(|pool| !pool.spec.disabled).collect();
    for pool in &enabled {
        text.push_str(&format!("  {}\n", pool.spec.cidr));
    }
    let users = users_of(snapshot);
    let count = |wanted: fn(&User) -> bool| users.values().flatten().filter(|user| wanted(user)).count();
    text.push_str(&format!(
        "Found {} active IP pools.\n\nLoading all nodes.\nFound {} node tunnel IPs.\n\n",
        enabled.len(),
        count(|user| matches!(user, User::Tunnel { .. }))
    ));
    if details.has_services {
        text.push_str(&format!(
            "Loading all service load balancer IPs.\nFound {} service load balancer(s).\n\n",
            count(|user| matches!(user, User::Service { .. }))
        ));
    } else {
        text.push_str("No configuration for LoadBalancer kubecontroller found, skipping service check\n\n");
    }
    text.push_str(&format!(
        "Loading all workload endpoints.\nFound {} workload IPs.\nWorkloads and nodes are using {} IPs.\n\n",
        count(|user| matches!(user, User::Pod { .. })),
        report.totals.in_use
    ));
}

fn allocations_of(text: &mut String, report: &Report, cidr: &str) {
    let Some(net) = caracal_api::net::parse_cidr_or_address(cidr) else {
        return;
    };
    for (address, allocations) in report
        .allocations
        .iter()
        .filter(|(address, _)| net.contains(*address))
    {
        for one in allocations {
            let state = match (one.cooling_down, one.in_use) {
                (true, _) => "cooling down".to_owned(),
                (false, true) if one.owners.is_empty() => "in use".to_owned(),
                (false, true) => format!("in use by {}", one.owners.join(", ")),
                (false, false) => "not in use".to_owned(),
            };
            text.push_str(&format!(
                "  {address} allocated; {state}; handle {}\n",
                one.handle
            ));
        }
    }
}

fn top_nodes(text: &mut String, report: &Report) {
    let mut by_node: BTreeMap<&str, usize> = BTreeMap::new();
    for one in report
        .allocations
        .values()
        .flatten()
        .filter(|one| !one.node.is_empty())
    {
        *by_node.entry(&one.node).or_default() += 1;
    }
    let mut nodes: Vec<(&str, usize)> = by_node.into_iter().collect();
    nodes.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    text.push_str("Loading all handles\n");
    text.push_str(&format!(
        "Looking for top (up to {TOP_NODES}) nodes by allocations...\n"
    ));
    for (node, count) in nodes.iter().take(TOP_NODES) {
        text.push_str(&format!("  {node} has {count} allocations\n"));
    }
    if let (Some((_, most)), Some((_, median))) = (nodes.first(), nodes.get(nodes.len() / 2)) {
        text.push_str(&format!(
            "Node with most allocations has {most}; median is {median}\n"
        ));
    }
    text.push('\n');
}

fn addresses(text: &mut String, report: &Report, attributes: &BTreeMap<IpAddr, String>, details: Details) {
    text.push_str("Scanning for IPs that are allocated but not actually in use...\n");
    let detailed = |text: &mut String, code: Code, tail: fn(&Finding, &str) -> String| {
        for finding in report.of(code).filter(|_| details.problems) {
            let known = finding
                .subject
                .parse()
                .ok()
                .and_then(|address: IpAddr| attributes.get(&address));
            text.push_str(&tail(finding, known.map_or("", String::as_str)));
        }
    };
    detailed(text, Code::AddressLeaked, |finding, attributes| {
        format!("  {} leaked; attrs {attributes}\n", finding.subject)
    });
    text.push_str(&format!(
        "Found {} IPs that are allocated in IPAM but not actually in use.\n",
        report.of(Code::AddressLeaked).count()
    ));
    text.push_str("Scanning for IPs that are in use by a workload or node but not allocated in IPAM...\n");
    detailed(text, Code::AddressTwice, |finding, _| {
        format!("  {} has multiple owners.\n", finding.subject)
    });
    detailed(text, Code::AddressOutsidePools, |finding, _| {
        let user = finding.reason.split(" uses it").next().unwrap_or_default();
        format!(
            "  {} in use by {user} is not in any active IP pool.\n",
            finding.subject
        )
    });
    detailed(text, Code::AddressUnallocated, |finding, _| {
        let user = finding.reason.split(" uses it").next().unwrap_or_default();
        format!(
            "  {} in use by {user} and in active IPAM pool but has no IPAM allocation.\n",
            finding.subject
        )
    });
    text.push_str(&format!(
        "Found {} in-use IPs that are not in active IP pools.\n\
         Found {} in-use IPs that are in active IP pools but have no corresponding IPAM allocation.\n\n",
        report.of(Code::AddressOutsidePools).count(),
        report.of(Code::AddressUnallocated).count()
    ));
}

fn handles(text: &mut String, snapshot: &Snapshot, report: &Report, details: Details) {
    let live = snapshot
        .handles
        .iter()
        .filter(|handle| !handle.spec.deleted)
        .count();
    let leaked = report.leaked_handles.len();
    text.push_str("Scanning for IPAM handles with no matching IPs...\n");
    if details.problems {
        for handle in &report.leaked_handles {
            text.push_str(&format!("  {} doesn't have any active IPs\n", handle.id));
        }
    }
    text.push_str(&format!(
        "Found {leaked} handles with no matching IPs (and {} handles with matches).\n",
        live.saturating_sub(leaked)
    ));
    text.push_str("Scanning for IPs with missing handle...\n");
    if details.problems {
        for finding in report.of(Code::HandleMissing) {
            text.push_str(&line(finding));
        }
    }
    text.push_str(&format!(
        "Found {} handles mentioned in blocks with no matching handle resource.\n",
        report.of(Code::HandleMissing).count()
    ));
}

/// Blocks that contradict themselves, and what calicoctl has no scan for.
fn blocks_and_rest(text: &mut String, report: &Report, details: Details) {
    text.push_str("Scanning for invalid IPAM blocks...\n");
    for finding in report.of(Code::BlockDamaged) {
        text.push_str(&line(finding));
    }
    text.push_str(&format!(
        "Found {} invalid IPAMBlocks.\n",
        report.of(Code::BlockDamaged).count()
    ));
    let rest: Vec<&Finding> = report
        .findings
        .iter()
        .filter(|finding| !SCANNED.contains(&finding.code))
        .filter(|finding| finding.severity == Severity::Problem || details.problems)
        .collect();
    if !rest.is_empty() {
        text.push_str(&format!("\nFound {} further findings:\n", rest.len()));
        for finding in rest {
            text.push_str(&line(finding));
        }
    }
}

/// The attributes of all allocations, as calicoctl prints them.
fn attributes(snapshot: &Snapshot) -> BTreeMap<IpAddr, String> {
    let blocks = snapshot.blocks.iter().filter(|block| !block.spec.deleted);
    let readable = blocks.filter_map(|block| Block::from_spec(block.spec.clone()).ok());
    readable
        .flat_map(|block| {
            let of_block: Vec<_> = block
                .assignments()
                .map(|(address, attribute)| (address, attribute_text(attribute)))
                .collect();
            of_block
        })
        .collect()
}

fn attribute_text(attribute: &AllocationAttribute) -> String {
    let pairs = |map: &BTreeMap<String, String>| {
        let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(",")
    };
    let mut text = format!(
        "Main:{} Extra:{}",
        attribute.handle_id.as_deref().unwrap_or("<none>"),
        pairs(&attribute.secondary)
    );
    if !attribute.alternate_owner_attrs.is_empty() {
        text.push_str(&format!(" Alternate:{}", pairs(&attribute.alternate_owner_attrs)));
    }
    text
}

//! `ipam show`: how full pools and blocks are, and who has an address.

use std::net::IpAddr;

use caracal_api::net::{ordinal, parse_cidr_or_address};
use caracal_api::v3::{AllocationAttribute, IPAMBlock, IPAMConfiguration, IPAMConfigurationSpec};
use caracal_datastore::{Client, ListOptions};
use caracal_ipam::{BlockUsage, Ipam, Usage, Utilization};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::args::{IpamShow, ReportForm};
use crate::error::Failure;
use crate::go_template::format::significant;
use crate::table;
use crate::terminal::Terminal;

/// Carries out `ipam show`.
pub(crate) async fn run(terminal: &Terminal, client: &Client, arguments: &IpamShow) -> Result<(), Failure> {
    let all = ListOptions::default();
    let form = arguments.output;
    if let Some(ip) = &arguments.ip {
        let address: IpAddr = super::address(ip)?;
        let blocks: Vec<IPAMBlock> = client.list(None, &all).await?;
        return match form {
            ReportForm::Text => {
                terminal.text(&owner(&blocks, address));
                Ok(())
            }
            form => super::structured(terminal, form, &owner_value(&blocks, address)),
        };
    }
    let wants_usage = arguments.show_blocks || !(arguments.show_borrowed || arguments.show_configuration);
    if !wants_usage && !arguments.show_borrowed {
        let stored: Option<IPAMConfiguration> = client.get(None, "default").await?;
        let spec = stored.map(|object| object.spec).unwrap_or_default();
        return match form {
            ReportForm::Text => {
                terminal.text(&configuration(&spec));
                Ok(())
            }
            form => super::structured(terminal, form, &spec),
        };
    }
    let utilization = Ipam::new(client.clone()).utilization().await?;
    for problem in &utilization.damaged {
        terminal.message(problem);
    }
    if !wants_usage {
        return match form {
            ReportForm::Text => {
                terminal.text(&borrowed(&utilization));
                Ok(())
            }
            form => super::structured(terminal, form, &borrowed_value(&utilization)),
        };
    }
    if form != ReportForm::Text {
        return super::structured(terminal, form, &usage_value(&utilization, arguments.show_blocks));
    }
    let rows = usage(&utilization, arguments.show_blocks);
    let headings = [
        "Grouping",
        "CIDR",
        "IPs total",
        "IPs in use",
        "IPs reserved",
        "IPs free",
    ];
    terminal.text(&table::boxed(&headings, &rows, &[2, 3, 4, 5]));
    Ok(())
}

/// Addresses that nodes use from blocks of others.
fn borrowed(utilization: &Utilization) -> String {
    let rows: Vec<Vec<String>> = utilization
        .borrowed
        .iter()
        .map(|one| {
            vec![
                one.address.to_string(),
                one.node.clone(),
                one.block.to_string(),
                one.block_owner.clone(),
                one.kind.clone(),
                one.allocated_to.clone(),
            ]
        })
        .collect();
    let headings = [
        "IP",
        "Borrowing-Node",
        "Block",
        "Block Owner",
        "Type",
        "Allocated-To",
    ];
    let mut text = table::boxed(&headings, &rows, &[]);
    if utilization.without_node > 0 {
        text.push_str(&format!(
            "Note: found {} IP allocations without an explicit node association. Unable to determine if they are \
             borrowed.\n",
            utilization.without_node
        ));
    }
    text
}

fn borrowed_value(utilization: &Utilization) -> Value {
    let borrowed = utilization.borrowed.iter().map(|one| {
        json!({
            "ip": one.address, "borrowingNode": one.node, "block": one.block, "blockOwner": one.block_owner,
            "type": one.kind, "allocatedTo": one.allocated_to,
        })
    });
    json!({"borrowed": borrowed.collect::<Vec<_>>(), "withoutNode": utilization.without_node})
}

/// A number of addresses; those of large pools are more than JSON readers can count, and are texts.
fn count(number: u128) -> Value {
    u64::try_from(number)
        .ok()
        .filter(|number| *number < 1 << 53)
        .map_or_else(|| number.to_string().into(), Value::from)
}

fn usage_value(utilization: &Utilization, show_blocks: bool) -> Value {
    let numbers = |usage: &Usage| {
        json!({"total": count(usage.capacity), "inUse": count(usage.in_use), "reserved": count(usage.reserved),
               "free": count(usage.free)})
    };
    let block = |block: &BlockUsage| json!({"cidr": block.cidr, "affinity": block.affinity, "ips": numbers(&block.usage)});
    let pools = utilization.pools.iter().map(|pool| {
        let mut value = json!({"name": pool.name, "cidr": pool.cidr, "ips": numbers(&pool.usage)});
        if show_blocks {
            value["blocks"] = pool.blocks.iter().map(block).collect();
        }
        value
    });
    let mut value = json!({"pools": pools.collect::<Vec<_>>()});
    if show_blocks {
        value["blocksOutsidePools"] = utilization.orphans.iter().map(block).collect();
    }
    value
}

fn usage(utilization: &Utilization, show_blocks: bool) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for pool in &utilization.pools {
        rows.push(row("IP Pool", &pool.cidr, &pool.usage));
        if show_blocks {
            rows.extend(
                pool.blocks
                    .iter()
                    .map(|block| row("Block", &block.cidr, &block.usage)),
            );
        }
    }
    // Blocks of no pool stand below a pool of all IPv4 addresses, which has no row; so IPv6 ones are not shown.
    if show_blocks {
        let orphans = utilization
            .orphans
            .iter()
            .filter(|block| block.cidr.addr().is_ipv4());
        rows.extend(orphans.map(|block| row("Block", &block.cidr, &block.usage)));
    }
    rows
}

#[expect(clippy::cast_precision_loss, reason = "shown in five digits")]
fn row(grouping: &str, cidr: &IpNet, usage: &Usage) -> Vec<String> {
    let total = usage.capacity as f64;
    let share = |part: u128| {
        let part = part as f64;
        format!("{} ({:.0}%)", significant(part, 5), 100.0 * part / total)
    };
    vec![
        grouping.to_owned(),
        cidr.to_string(),
        significant(total, 5),
        share(usage.in_use),
        share(usage.reserved),
        share(usage.free),
    ]
}

/// The attributes of an address that is assigned.
fn allocation(blocks: &[IPAMBlock], address: IpAddr) -> Option<&AllocationAttribute> {
    let (block, net) = blocks
        .iter()
        .filter(|block| !block.spec.deleted)
        .filter_map(|block| Some((block, parse_cidr_or_address(&block.spec.cidr)?)))
        .find(|(_, net)| net.contains(&address))?;
    let ordinal = usize::try_from(ordinal(&net, address)?).ok()?;
    let index = block.spec.allocations.get(ordinal).copied().flatten()?;
    let attributes = block.spec.attributes.get(usize::try_from(index).ok()?)?;
    attributes.released_at.is_none().then_some(attributes)
}

fn owner_value(blocks: &[IPAMBlock], address: IpAddr) -> Value {
    match allocation(blocks, address) {
        None => json!({"ip": address, "assigned": false}),
        Some(attributes) => json!({
            "ip": address, "assigned": true, "handle": attributes.handle_id,
            "activeOwner": attributes.secondary, "alternateOwner": attributes.alternate_owner_attrs,
        }),
    }
}

/// Who has an address, in calicoctl's words.
fn owner(blocks: &[IPAMBlock], address: IpAddr) -> String {
    let free = format!("{address} is not assigned\n");
    let Some(attributes) = allocation(blocks, address) else {
        return free;
    };
    let mut text = format!(
        "IP {address} is in use\nHandle ID: {}\n",
        attributes
            .handle_id
            .as_deref()
            .filter(|handle| !handle.is_empty())
            .unwrap_or("<none>")
    );
    if attributes.secondary.is_empty() {
        text.push_str("No Active Owner attributes defined\n");
    } else {
        text.push_str("Active Owner Attributes:\n");
        for (key, value) in &attributes.secondary {
            text.push_str(&format!("  {key}: {value}\n"));
        }
    }
    if !attributes.alternate_owner_attrs.is_empty() {
        text.push_str("Alternate Owner Attributes:\n");
        for (key, value) in &attributes.alternate_owner_attrs {
            text.push_str(&format!("  {key}: {value}\n"));
        }
    }
    text
}

fn configuration(spec: &IPAMConfigurationSpec) -> String {
    let persistence = spec
        .kube_virt_vm_address_persistence
        .as_ref()
        .map_or("<nil>".to_owned(), |value| value.as_str().to_owned());
    let rows = [
        ("StrictAffinity", spec.strict_affinity.to_string()),
        ("AutoAllocateBlocks", spec.auto_allocate_blocks.to_string()),
        ("MaxBlocksPerHost", spec.max_blocks_per_host.to_string()),
        ("KubeVirtVMAddressPersistence", persistence),
        ("IPCooldownSeconds", spec.ip_cooldown_seconds.to_string()),
    ]
    .map(|(property, value)| vec![property.to_owned(), value]);
    table::boxed(&["Property", "Value"], &rows, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_api::v3::{IPPool, IPReservation};
    use serde_json::json;

    fn block(cidr: &str) -> IPAMBlock {
        serde_json::from_value(json!({
            "metadata": {"name": "b"},
            "spec": {
                "cidr": cidr, "affinity": "host:n", "allocations": [0, null, null, null],
                "unallocated": [1, 2, 3], "attributes": [{"handle_id": "h", "secondary": {"pod": "web"}}]
            }
        }))
        .unwrap()
    }

    #[test]
    fn pools_sum_their_blocks_and_the_space_between() {
        let pool: IPPool =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"cidr": "10.65.0.0/16"}}))
                .unwrap();
        let reservation: IPReservation = serde_json::from_value(
            json!({"metadata": {"name": "r"}, "spec": {"reservedCIDRs": ["10.65.0.3"]}}),
        )
        .unwrap();
        let rows = usage(
            &Utilization::compute(&[pool], &[block("10.65.0.0/30")], &[reservation]),
            true,
        );
        assert_eq!(
            rows,
            [
                [
                    "IP Pool",
                    "10.65.0.0/16",
                    "65536",
                    "1 (0%)",
                    "1 (0%)",
                    "65534 (100%)"
                ],
                ["Block", "10.65.0.0/30", "4", "1 (25%)", "1 (25%)", "2 (50%)"]
            ]
        );
    }

    #[test]
    fn nothing_reserved_is_zero_without_a_sign() {
        let pool: IPPool =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"cidr": "10.65.0.0/16"}}))
                .unwrap();
        let rows = usage(&Utilization::compute(&[pool], &[], &[]), false);
        assert_eq!(
            rows,
            [[
                "IP Pool",
                "10.65.0.0/16",
                "65536",
                "0 (0%)",
                "0 (0%)",
                "65536 (100%)"
            ]]
        );
    }

    #[test]
    fn an_address_names_its_owner_or_is_free() {
        let blocks = [block("10.65.0.0/30")];
        assert_eq!(
            owner(&blocks, "10.65.0.0".parse().unwrap()),
            "IP 10.65.0.0 is in use\nHandle ID: h\nActive Owner Attributes:\n  pod: web\n"
        );
        assert_eq!(
            owner(&blocks, "10.65.0.1".parse().unwrap()),
            "10.65.0.1 is not assigned\n"
        );
        assert_eq!(
            owner(&blocks, "10.9.0.1".parse().unwrap()),
            "10.9.0.1 is not assigned\n"
        );
    }
}

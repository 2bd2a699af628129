//! `ipam show`: how full pools and blocks are, and who has an address.

use std::net::IpAddr;

use caracal_api::v3::{IPAMBlock, IPAMConfiguration, IPAMConfigurationSpec};
use caracal_datastore::{Client, ListOptions};
use caracal_ipam::{Ipam, Usage, Utilization};
use ipnet::IpNet;

use crate::args::IpamShow;
use crate::error::Failure;
use crate::table;
use crate::terminal::Terminal;

/// Carries out `ipam show`.
pub(crate) async fn show(terminal: &Terminal, client: &Client, arguments: &IpamShow) -> Result<(), Failure> {
    let all = ListOptions::default();
    if let Some(ip) = &arguments.ip {
        let address: IpAddr = ip
            .parse()
            .map_err(|_| Failure::new(format!("invalid IP address: {ip}; write it as 10.244.0.1")))?;
        let blocks: Vec<IPAMBlock> = client.list(None, &all).await?;
        terminal.text(&owner(&blocks, address));
        return Ok(());
    }
    if arguments.show_configuration && !arguments.show_blocks {
        let stored: Option<IPAMConfiguration> = client.get(None, "default").await?;
        terminal.text(&configuration(
            &stored.map(|object| object.spec).unwrap_or_default(),
        ));
        return Ok(());
    }
    let utilization = Ipam::new(client.clone())
        .utilization()
        .await
        .map_err(|error| Failure::new(error.to_string()))?;
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

fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>()
        .ok()
        .map(|net| net.trunc())
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn address_at(net: &IpNet, ordinal: usize) -> Option<IpAddr> {
    Some(match net.network() {
        IpAddr::V4(first) => IpAddr::V4(u32::from(first).checked_add(u32::try_from(ordinal).ok()?)?.into()),
        IpAddr::V6(first) => IpAddr::V6(
            u128::from(first)
                .checked_add(u128::try_from(ordinal).ok()?)?
                .into(),
        ),
    })
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
    rows
}

#[expect(clippy::cast_precision_loss, reason = "shown in five digits")]
fn row(grouping: &str, cidr: &IpNet, usage: &Usage) -> Vec<String> {
    let total = usage.capacity as f64;
    let share = |part: u128| {
        let part = part as f64;
        format!("{} ({:.0}%)", five_digits(part), 100.0 * part / total)
    };
    vec![
        grouping.to_owned(),
        cidr.to_string(),
        five_digits(total),
        share(usage.in_use),
        share(usage.reserved),
        share(usage.free),
    ]
}

/// A number in at most five significant digits: C's `%.5g`.
fn five_digits(number: f64) -> String {
    if number < 100_000.0 {
        return format!("{number:.0}");
    }
    let text = format!("{number:.4e}");
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text;
    };
    let mantissa = if mantissa.contains('.') {
        mantissa.trim_end_matches('0').trim_end_matches('.')
    } else {
        mantissa
    };
    format!("{mantissa}e+{exponent:0>2}")
}

/// Who has an address, in calicoctl's words.
fn owner(blocks: &[IPAMBlock], address: IpAddr) -> String {
    let free = format!("{address} is not assigned\n");
    let Some((block, net)) = blocks
        .iter()
        .filter_map(|block| Some((block, network(&block.spec.cidr)?)))
        .find(|(_, net)| net.contains(&address))
    else {
        return free;
    };
    let allocation = (0..block.spec.allocations.len())
        .find(|ordinal| address_at(&net, *ordinal) == Some(address))
        .and_then(|ordinal| block.spec.allocations.get(ordinal).copied().flatten())
        .and_then(|index| block.spec.attributes.get(usize::try_from(index).ok()?));
    let Some(attributes) = allocation else { return free };
    if attributes.released_at.is_some() {
        return free;
    }
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
    fn large_numbers_have_five_digits() {
        for (number, text) in [
            (0.0, "0"),
            (65536.0, "65536"),
            (1_048_576.0, "1.0486e+06"),
            (100_000.0, "1e+05"),
        ] {
            assert_eq!(five_digits(number), text);
        }
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

//! The pools that are made when a cluster has none: `CALICO_IPV4POOL_*` and `CALICO_IPV6POOL_*`.

use caracal_api::selector::Selector;
use caracal_api::v3::EncapsulationMode;
use ipnet::IpNet;

use super::values::Reader;
use crate::detect::Family;

/// The range of a default pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Range {
    /// No pool of this family.
    None,
    /// From kubeadm's configuration, else one that does not clash with this machine's networks.
    Choose,
    /// This one.
    Given(IpNet),
}

/// A default pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolWish {
    /// Its addresses.
    pub range: Range,
    /// IP-in-IP.
    pub ipip: EncapsulationMode,
    /// VXLAN.
    pub vxlan: EncapsulationMode,
    /// Source addresses are translated for what leaves the pools.
    pub nat_outgoing: bool,
    /// Prefix length of blocks.
    pub block_size: u8,
    /// Nodes that take addresses from it.
    pub node_selector: String,
    /// Its blocks are not advertised.
    pub disable_bgp_export: bool,
}

/// The default pools of both families.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolWishes {
    /// IPv4.
    pub v4: PoolWish,
    /// IPv6.
    pub v6: PoolWish,
}

/// The variables of one family.
struct Names {
    cidr: &'static str,
    ipip: Option<&'static str>,
    vxlan: &'static str,
    nat: &'static str,
    block_size: &'static str,
    selector: &'static str,
    export: &'static str,
}

const V4: Names = Names {
    cidr: "CALICO_IPV4POOL_CIDR",
    ipip: Some("CALICO_IPV4POOL_IPIP"),
    vxlan: "CALICO_IPV4POOL_VXLAN",
    nat: "CALICO_IPV4POOL_NAT_OUTGOING",
    block_size: "CALICO_IPV4POOL_BLOCK_SIZE",
    selector: "CALICO_IPV4POOL_NODE_SELECTOR",
    export: "CALICO_IPV4POOL_DISABLE_BGP_EXPORT",
};

const V6: Names = Names {
    cidr: "CALICO_IPV6POOL_CIDR",
    ipip: None,
    vxlan: "CALICO_IPV6POOL_VXLAN",
    nat: "CALICO_IPV6POOL_NAT_OUTGOING",
    block_size: "CALICO_IPV6POOL_BLOCK_SIZE",
    selector: "CALICO_IPV6POOL_NODE_SELECTOR",
    export: "CALICO_IPV6POOL_DISABLE_BGP_EXPORT",
};

pub(super) fn read(reader: &mut Reader<'_>) -> PoolWishes {
    let none_at_all = reader
        .text("NO_DEFAULT_POOLS")
        .is_some_and(|text| text.eq_ignore_ascii_case("true"));
    PoolWishes {
        v4: pool(reader, &V4, Family::V4, none_at_all),
        v6: pool(reader, &V6, Family::V6, none_at_all),
    }
}

fn pool(reader: &mut Reader<'_>, names: &Names, family: Family, none_at_all: bool) -> PoolWish {
    let range = range(reader, names.cidr, family, none_at_all);
    let ipip = names
        .ipip
        .map_or(EncapsulationMode::Never, |name| mode(reader, name));
    let vxlan = mode(reader, names.vxlan);
    if let Some(name) = names.ipip
        && ipip != EncapsulationMode::Never
        && vxlan != EncapsulationMode::Never
    {
        let value = reader.text(name).unwrap_or_default();
        reader.refuse(
            name,
            value,
            "a pool has IP-in-IP or VXLAN; unset one of the two variables",
        );
    }
    PoolWish {
        range,
        ipip,
        vxlan,
        nat_outgoing: reader.switch(names.nat, family == Family::V4),
        block_size: block_size(reader, names.block_size, family),
        node_selector: selector(reader, names.selector),
        disable_bgp_export: reader.switch(names.export, false),
    }
}

fn range(reader: &mut Reader<'_>, name: &'static str, family: Family, none_at_all: bool) -> Range {
    match (reader.text(name), none_at_all) {
        (Some("none"), _) | (None, true) => Range::None,
        (None, false) => Range::Choose,
        (Some(text), true) => {
            reader.refuse(
                name,
                text,
                "is set beside NO_DEFAULT_POOLS=true; unset one of the two",
            );
            Range::None
        }
        (Some(text), false) => match text.parse::<IpNet>() {
            Ok(net) if family.has(net.addr()) => Range::Given(net.trunc()),
            _ => {
                let remedy = format!(
                    "is no IPv{} range; use one as {}, or none",
                    family.number(),
                    family.example_range()
                );
                reader.refuse(name, text, &remedy);
                Range::None
            }
        },
    }
}

fn mode(reader: &mut Reader<'_>, name: &'static str) -> EncapsulationMode {
    let text = reader.text(name).unwrap_or_default();
    match text.to_ascii_lowercase().as_str() {
        "" | "off" | "never" => EncapsulationMode::Never,
        "crosssubnet" | "cross-subnet" => EncapsulationMode::CrossSubnet,
        "always" => EncapsulationMode::Always,
        _ => {
            reader.refuse(name, text, "is not known; use Never, CrossSubnet or Always");
            EncapsulationMode::Never
        }
    }
}

fn block_size(reader: &mut Reader<'_>, name: &'static str, family: Family) -> u8 {
    let (default, least, most) = match family {
        Family::V4 => (26, 20, 32),
        Family::V6 => (122, 116, 128),
    };
    let remedy = format!("is no block size; use {least} to {most}");
    match reader.parsed::<u8>(name, &remedy) {
        Some(size) if (least..=most).contains(&size) => size,
        Some(size) => {
            reader.refuse(name, &size.to_string(), &remedy);
            default
        }
        None => default,
    }
}

fn selector(reader: &mut Reader<'_>, name: &'static str) -> String {
    let text = reader.text(name).unwrap_or("all()");
    if let Err(error) = Selector::parse(text) {
        reader.refuse(name, text, &format!("is no selector: {error}"));
    }
    text.to_owned()
}

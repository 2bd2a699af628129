//! Which pools a request may take addresses from. Pure.
//!
//! Source: `libcalico-go/lib/ipam/ipam.go` (determinePools), `libcalico-go/lib/clientv3/client.go` (filterIPPool).

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_api::net::{address_at, block_of, parse_cidr_or_address, size, to_bits};
use caracal_api::selector::Selector;
use caracal_api::v3::{IPPool, IPPoolAllowedUse, IPReservation};
use ipnet::IpNet;

use crate::error::{Error, Family, Result};

/// Labels of a node or namespace.
pub(crate) type LabelMap = BTreeMap<String, String>;

/// A pool that addresses can be taken from.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) name: String,
    pub(crate) net: IpNet,
    pub(crate) block_size: u8,
    pub(crate) source: IPPool,
}

/// For whom pools are chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) family: Family,
    pub(crate) use_: &'a IPPoolAllowedUse,
    pub(crate) node: &'a str,
    pub(crate) node_labels: &'a LabelMap,
    pub(crate) namespace_labels: &'a LabelMap,
    /// Names or CIDRs; empty = choose by selectors.
    pub(crate) requested: &'a [String],
}

/// The enabled pools, in the order of their names. A pool whose prefix or block size cannot be used is none.
pub(crate) fn enabled(pools: &[IPPool]) -> Vec<Pool> {
    let mut enabled: Vec<Pool> = pools
        .iter()
        .filter(|pool| is_enabled(pool))
        .filter_map(with_network)
        .collect();
    enabled.sort_by(|a, b| a.name.cmp(&b.name));
    enabled
}

fn is_enabled(pool: &IPPool) -> bool {
    let refused = pool.status.as_ref().is_some_and(|status| {
        status
            .conditions
            .iter()
            .any(|condition| condition.type_ == "Allocatable" && condition.status == "False")
    });
    pool.metadata.deletion_timestamp.is_none() && !pool.spec.disabled && !refused
}

/// A pool with its prefix read, also when it is disabled.
pub(crate) fn with_network(pool: &IPPool) -> Option<Pool> {
    let net = pool.spec.network()?;
    let block_size = pool.spec.effective_block_size()?;
    (block_size >= net.prefix_len()).then(|| Pool {
        name: pool.metadata.name.clone().unwrap_or_default(),
        net,
        block_size,
        source: pool.clone(),
    })
}

/// The pools for a request.
///
/// # Errors
///
/// When none is left; the error says which rule took the last one.
pub(crate) fn choose(enabled: &[Pool], wanted: &Wanted<'_>) -> Result<Vec<Pool>> {
    let family: Vec<&Pool> = enabled
        .iter()
        .filter(|pool| Family::of(&pool.net) == wanted.family)
        .collect();
    if family.is_empty() && wanted.requested.is_empty() {
        return Err(Error::NoPools {
            family: wanted.family,
        });
    }
    let chosen = if wanted.requested.is_empty() {
        selected(&family, wanted)?
    } else {
        requested(enabled, wanted)?
    };
    let (fit, unfit): (Vec<&Pool>, Vec<&Pool>) = chosen
        .into_iter()
        .partition(|pool| pool.source.spec.allows(wanted.use_));
    if fit.is_empty() {
        return Err(Error::WrongUse {
            use_: wanted.use_.as_str().to_owned(),
            pools: describe(unfit),
        });
    }
    Ok(fit.into_iter().cloned().collect())
}

fn selected<'a>(family: &[&'a Pool], wanted: &Wanted<'_>) -> Result<Vec<&'a Pool>> {
    let mut chosen = Vec::new();
    for pool in family {
        if pool.source.spec.is_automatic()
            && selects_node(pool, wanted.node_labels)?
            && selects_namespace(pool, wanted.namespace_labels)?
        {
            chosen.push(*pool);
        }
    }
    if chosen.is_empty() {
        return Err(Error::NoPoolSelected {
            node: wanted.node.to_owned(),
            pools: describe(family.iter().copied()),
        });
    }
    Ok(chosen)
}

/// The pools asked for, in the order asked for. Their selectors do not count.
fn requested<'a>(enabled: &'a [Pool], wanted: &Wanted<'_>) -> Result<Vec<&'a Pool>> {
    let mut chosen: Vec<&Pool> = Vec::new();
    for text in wanted.requested {
        let net = text.parse::<IpNet>().ok();
        let found = enabled
            .iter()
            .find(|pool| pool.name == *text || Some(pool.net) == net);
        let pool = found.ok_or_else(|| Error::UnknownPool {
            pool: text.clone(),
            known: describe(enabled),
        })?;
        if Family::of(&pool.net) != wanted.family {
            return Err(Error::WrongFamily {
                family: wanted.family,
                pool: text.clone(),
            });
        }
        if !chosen.iter().any(|other| other.name == pool.name) {
            chosen.push(pool);
        }
    }
    Ok(chosen)
}

/// True when the pool is for nodes with these labels.
pub(crate) fn selects_node(pool: &Pool, labels: &LabelMap) -> Result<bool> {
    let text = pool.source.spec.effective_node_selector();
    selects(pool, "spec.nodeSelector", text, labels)
}

fn selects_namespace(pool: &Pool, labels: &LabelMap) -> Result<bool> {
    let text = pool.source.spec.namespace_selector.as_deref().unwrap_or_default();
    selects(pool, "spec.namespaceSelector", text, labels)
}

fn selects(pool: &Pool, field: &'static str, text: &str, labels: &LabelMap) -> Result<bool> {
    let selector = Selector::parse(text).map_err(|problem| Error::BadSelector {
        pool: pool.name.clone(),
        field,
        value: text.to_owned(),
        problem: problem.to_string(),
    })?;
    Ok(selector.matches(labels))
}

/// The pool that an address or block is in.
pub(crate) fn pool_of(pools: &[Pool], address: IpAddr) -> Option<&Pool> {
    pools
        .iter()
        .filter(|pool| pool.net.contains(&address))
        .max_by_key(|pool| pool.net.prefix_len())
}

/// The block of a pool that an address is in.
pub(crate) fn block_in(pool: &Pool, address: IpAddr) -> Option<IpNet> {
    block_of(address, pool.block_size)
}

/// Pools as a message names them.
pub(crate) fn describe<'a>(pools: impl IntoIterator<Item = &'a Pool>) -> String {
    let names: Vec<String> = pools
        .into_iter()
        .map(|pool| format!("{} ({})", pool.name, pool.net))
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// The prefixes that IPReservations keep from automatic assignment. What cannot be read reserves nothing.
pub(crate) fn reserved(reservations: &[IPReservation]) -> Vec<IpNet> {
    let texts = reservations.iter().flat_map(|one| &one.spec.reserved_cidrs);
    texts
        .filter_map(|text| {
            let net = parse_cidr_or_address(text);
            if net.is_none() {
                tracing::warn!(cidr = %text, "an IPReservation holds what is no CIDR and no address");
            }
            net
        })
        .collect()
}

/// True when one reservation covers the whole prefix.
pub(crate) fn covers<'a>(reserved: &'a [IpNet], net: &IpNet) -> Option<&'a IpNet> {
    reserved.iter().find(|reserved| reserved.contains(net))
}

/// The blocks of a pool in the order in which a host tries them: all of them, from a start that depends on the host.
/// Reserved blocks are left out.
pub(crate) fn candidates<'a>(
    pool: &'a Pool,
    seed: u32,
    reserved: &'a [IpNet],
) -> impl Iterator<Item = IpNet> + 'a {
    let blocks = 1u128
        .checked_shl(u32::from(pool.block_size - pool.net.prefix_len()))
        .unwrap_or(u128::MAX);
    let addresses = 1u128
        .checked_shl(u32::from(pool.net.max_prefix_len() - pool.block_size))
        .unwrap_or(u128::MAX);
    let start = start_of(seed, blocks);
    let mut tried = 0u128;
    std::iter::from_fn(move || {
        while tried < blocks {
            let index = if start >= blocks - tried {
                start - (blocks - tried)
            } else {
                start + tried
            };
            let first = address_at(&pool.net, index.checked_mul(addresses)?)?;
            let block = block_of(first, pool.block_size)?;
            let Some(reserved) = covers(reserved, &block) else {
                tried += 1;
                return Some(block);
            };
            // A large reservation is left in one step, at the pool's end at the latest.
            let end = to_bits(reserved.network()).saturating_add(size(reserved).unwrap_or(u128::MAX));
            let left = end.saturating_sub(to_bits(first)) / addresses;
            tried = tried.saturating_add(left.clamp(1, blocks - index));
        }
        None
    })
}

/// Where a host starts: spread over the blocks, the same each time.
fn start_of(seed: u32, blocks: u128) -> u128 {
    use rand::{Rng as _, SeedableRng as _};
    rand::rngs::SmallRng::seed_from_u64(u64::from(seed)).random_range(0..blocks.max(1))
}

/// FNV-1 of a host's name: the seed of its order of blocks.
pub(crate) fn seed_of(host: &str) -> u32 {
    host.bytes().fold(0x811c_9dc5u32, |hash, byte| {
        hash.wrapping_mul(0x0100_0193) ^ u32::from(byte)
    })
}

#[cfg(test)]
mod tests;

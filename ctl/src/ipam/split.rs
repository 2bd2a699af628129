//! `ipam split`: a pool divided into smaller ones with the same settings.

use caracal_api::v3::IPPool;
use caracal_datastore::{Client, ListOptions, Preconditions};
use ipnet::IpNet;
use serde_json::json;

use crate::args::IpamSplit;
use crate::datastore;
use crate::error::Failure;
use crate::terminal::Terminal;

/// Longest name of an object.
const NAME_LEN_MAX: usize = 253;
/// Most pools that one becomes.
const PARTS_MAX: u32 = 1 << 16;

/// Carries out `ipam split`.
pub(crate) async fn run(terminal: &Terminal, client: &Client, arguments: &IpamSplit) -> Result<(), Failure> {
    let parts: u32 = arguments
        .number
        .parse()
        .ok()
        .filter(|number: &u32| number.is_power_of_two() && (2..=PARTS_MAX).contains(number))
        .ok_or_else(|| {
            Failure::new(format!(
                "number to split CIDR into is not a valid power of 2: {}; use 2, 4, 8 and so on, at most {PARTS_MAX}",
                arguments.number
            ))
        })?;
    let pool = find(client, arguments).await?;
    if !datastore::is_locked(client).await? {
        return Err(Failure::new(
            "the datastore is not locked, and addresses may be assigned while the pool is split. Run `caracalctl \
             datastore migrate lock`, split, and then `caracalctl datastore migrate unlock`",
        ));
    }
    let name = pool.metadata.name.clone().unwrap_or_default();
    let cidrs = divide(&pool, parts)?;
    let pools: Vec<IPPool> = cidrs
        .iter()
        .enumerate()
        .map(|(index, cidr)| part(&pool, index, cidr))
        .collect();
    disable(client, &name).await?;
    for part in &pools {
        match client.create(part).await {
            Ok(_) => {}
            // An earlier run made it before it was stopped.
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error.into()),
        }
    }
    remove(client, &name).await?;
    terminal.line(&format!(
        "IP Pool {name} was successfully split into {parts} smaller pools."
    ));
    for pool in &pools {
        terminal.line(&format!(
            "Created {} with CIDR {}.",
            pool.metadata.name.as_deref().unwrap_or_default(),
            pool.spec.cidr
        ));
    }
    terminal.line("You may now unlock the data store: caracalctl datastore migrate unlock");
    Ok(())
}

async fn find(client: &Client, arguments: &IpamSplit) -> Result<IPPool, Failure> {
    if let Some(name) = &arguments.name {
        let pool: Option<IPPool> = client.get(None, name).await?;
        let pool = pool.ok_or_else(|| {
            Failure::new(format!(
                "unable to find IP pool with name {name}; see `caracalctl get ippools`"
            ))
        })?;
        if arguments
            .cidr
            .as_ref()
            .is_some_and(|cidr| *cidr != pool.spec.cidr)
        {
            return Err(Failure::new(format!(
                "IP pool {name} has the CIDR {}, not the one given; leave out --cidr or --name",
                pool.spec.cidr
            )));
        }
        return Ok(pool);
    }
    let Some(cidr) = &arguments.cidr else {
        return Err(Failure::new(
            "no name or CIDR provided. Name the pool to split with --name or --cidr",
        ));
    };
    let pools: Vec<IPPool> = client.list(None, &ListOptions::default()).await?;
    pools
        .into_iter()
        .find(|pool| pool.spec.cidr == *cidr)
        .ok_or_else(|| {
            Failure::new(format!(
                "unable to find IP pool with CIDR {cidr}; see `caracalctl get ippools`"
            ))
        })
}

/// The parts of a pool's CIDR, none smaller than its blocks.
fn divide(pool: &IPPool, parts: u32) -> Result<Vec<IpNet>, Failure> {
    let text = &pool.spec.cidr;
    let too_small = || {
        Failure::new(format!(
            "the CIDR {text} is not large enough to be split into {parts} parts"
        ))
    };
    let net: IpNet = text
        .parse()
        .map_err(|error| Failure::new(format!("the pool's CIDR {text:?} cannot be read: {error}")))?;
    let bits = u8::try_from(parts.trailing_zeros()).map_err(|_| too_small())?;
    let length = net.prefix_len().checked_add(bits).ok_or_else(too_small)?;
    let default = if net.addr().is_ipv4() { 26 } else { 122 };
    let block = pool
        .spec
        .block_size
        .and_then(|size| u8::try_from(size).ok())
        .filter(|size| *size > 0)
        .unwrap_or(default);
    if length > block {
        return Err(too_small());
    }
    net.subnets(length)
        .map(Iterator::collect)
        .map_err(|_| too_small())
}

fn part(pool: &IPPool, index: usize, cidr: &IpNet) -> IPPool {
    let ending = format!("-{index}");
    let mut name = format!("split-{}", pool.metadata.name.as_deref().unwrap_or_default());
    name.truncate(NAME_LEN_MAX - ending.len());
    name.push_str(&ending);
    let mut part = IPPool::new(&name, pool.spec.clone());
    part.spec.cidr = cidr.to_string();
    part.spec.disabled = false;
    part.metadata.labels.clone_from(&pool.metadata.labels);
    part.metadata.annotations.clone_from(&pool.metadata.annotations);
    part
}

async fn disable(client: &Client, name: &str) -> Result<(), Failure> {
    let patch = json!({"spec": {"disabled": true}});
    client.patch_merge::<IPPool>(None, name, &patch).await?;
    Ok(())
}

/// Deletes the old pool without the clean-up that would take its blocks: the new pools have them.
async fn remove(client: &Client, name: &str) -> Result<(), Failure> {
    let patch = json!({"metadata": {"finalizers": null}});
    client.patch_merge::<IPPool>(None, name, &patch).await?;
    client
        .delete::<IPPool>(None, name, Preconditions::default())
        .await?;
    Ok(())
}

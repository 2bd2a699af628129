//! What programs were told, and what must hold of the store at any moment.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_api::v3::{BlockAffinity, IPAMBlock, IPAMHandle};
use ipnet::IpNet;
use serde_json::Value;

use super::server::Server;
use crate::block::{Block, handle_of};

/// Who has which address, by what programs were told.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) held: BTreeMap<IpAddr, Holding>,
    pub(super) wrong: Vec<String>,
    pub(super) met: usize,
}

/// An address in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holding {
    pub(super) handle: String,
    pub(super) node: String,
    /// The block still says that it is set aside.
    pub(super) from_reserve: bool,
}

impl Ledger {
    pub(super) fn told(&mut self, address: IpAddr, holding: Holding) {
        self.met += 1;
        if let Some(other) = self.held.get(&address) {
            let handle = &holding.handle;
            self.wrong
                .push(format!("{address} was given to {handle} and to {}", other.handle));
        }
        self.held.insert(address, holding);
    }

    pub(super) fn of(&self, handle: &str) -> Vec<IpAddr> {
        let own = self.held.iter().filter(|(_, holding)| holding.handle == handle);
        own.map(|(address, _)| *address).collect()
    }

    pub(super) fn forget(&mut self, handle: &str) {
        self.held.retain(|_, holding| holding.handle != handle);
    }
}

fn read<K: serde::de::DeserializeOwned>(server: &Server, kind: &str) -> Vec<K> {
    let all = server.all(kind).into_iter();
    all.filter_map(|value: Value| serde_json::from_value(value).ok())
        .collect()
}

/// Looks at everything that must hold at any moment.
pub(super) fn check(server: &Server, ledger: &Ledger) -> Result<(), String> {
    if let Some(wrong) = ledger.wrong.first() {
        return Err(wrong.clone());
    }
    let stored: Vec<IPAMBlock> = read(server, "ipamblocks");
    let mut blocks = Vec::new();
    for stored in stored.into_iter().filter(|block| !block.spec.deleted) {
        blocks.push(Block::from_spec(stored.spec).map_err(|error| error.to_string())?);
    }
    let handles: BTreeMap<String, IPAMHandle> = read::<IPAMHandle>(server, "ipamhandles")
        .into_iter()
        .filter(|handle| !handle.spec.deleted)
        .map(|handle| (handle.spec.handle_id.clone(), handle))
        .collect();
    for block in &blocks {
        counted(block, &handles)?;
    }
    for (address, holding) in &ledger.held {
        let block = blocks.iter().find(|block| block.cidr().contains(address));
        let held = block.and_then(|block| block.assignment(*address));
        let handle = held.and_then(|(attribute, _)| handle_of(attribute));
        let by_reserve =
            holding.from_reserve && handle.is_some_and(|handle| handle.starts_with("caracal-reserve-"));
        if handle != Some(holding.handle.as_str()) && !by_reserve {
            let text = handle.unwrap_or("nobody");
            return Err(format!(
                "{address} is used by {} and stored for {text}",
                holding.handle
            ));
        }
    }
    for block in &blocks {
        for (address, attribute) in block.assignments() {
            let handle = handle_of(attribute).unwrap_or_default();
            if !ledger.of(handle).is_empty() && !ledger.held.contains_key(&address) {
                return Err(format!("{handle} has {address}, and was not told"));
            }
        }
    }
    let affinities: Vec<BlockAffinity> = read(server, "blockaffinities");
    owned(&blocks, &affinities)
}

/// Handles count at least what blocks have.
fn counted(block: &Block, handles: &BTreeMap<String, IPAMHandle>) -> Result<(), String> {
    let mut held: BTreeMap<&str, i32> = BTreeMap::new();
    for (_, attribute) in block.assignments() {
        if let Some(handle) = handle_of(attribute) {
            *held.entry(handle).or_default() += 1;
        }
    }
    for (handle, held) in held {
        let counts = handles.get(handle).map(|handle| &handle.spec.block);
        let counted = counts.and_then(|counts| counts.get(&block.cidr().to_string()));
        if counted.is_none_or(|counted| *counted < held) {
            return Err(format!(
                "{handle} counts {counted:?} of its {held} addresses in {}",
                block.cidr()
            ));
        }
    }
    Ok(())
}

/// A confirmed affinity is of the owner of its block.
fn owned(blocks: &[Block], affinities: &[BlockAffinity]) -> Result<(), String> {
    let live = affinities.iter().filter(|affinity| !affinity.spec.deleted);
    for affinity in live.filter(|affinity| affinity.spec.state.is_confirmed()) {
        let Ok(cidr) = affinity.spec.cidr.parse::<IpNet>() else {
            continue;
        };
        let node = &affinity.spec.node;
        let block = blocks.iter().find(|block| block.cidr() == cidr);
        let owner = block.and_then(|block| block.spec().affinity.as_deref());
        if owner != Some(&format!("host:{node}")) {
            return Err(format!(
                "{node} has a confirmed affinity for {cidr}, which is of {owner:?}"
            ));
        }
    }
    Ok(())
}

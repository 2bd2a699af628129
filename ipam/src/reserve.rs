//! Addresses that a node sets aside while the API server answers, to give to pods that start while it does not.
//!
//! **How.** [`Reserve::reconcile`] allocates a few addresses in the node's own blocks under a handle of its own and
//! notes them in a journal on the node's disk. [`Reserve::take`] moves some of them, in the journal, to a container:
//! one durable write, no request. When the API server is back, the next [`Reserve::reconcile`] rewrites the
//! allocations to the containers' handles, and sets new ones aside.
//!
//! **Why no address is given twice.** An address is promised only if two durable writes say so, in this order:
//!
//! 1. The block has it allocated under the journal's handle. Every program that follows Calico's protocol, ours or
//!    Calico's, leaves an allocated address alone, and leaves a block alone that is not empty: it is neither reclaimed
//!    by another node nor deleted with its pool. The allocation needs nothing of this node to stay, no lease and no
//!    clock.
//! 2. The journal has it taken. The journal is replaced as a whole (write, sync, rename, sync of the folder) under an
//!    exclusive lock of the host, before the caller learns the address.
//!
//! What can go wrong, and why it does no harm:
//!
//! - *The process dies* before the journal is written: nobody learned the address, it stays set aside. After: the
//!   address is taken under the container's handle; a repeated ADD gets it again, DEL returns it.
//! - *Two processes* of the node (plugin and daemon, or two plugins) take turns at the lock. If they use two folders,
//!   each has a journal with a random name of its own in its handle, and gives only what it set aside itself.
//! - *The journal is lost or damaged, or the disk is another node's*: a new journal has a new name. What the old one
//!   had stays allocated, so nobody else gets it; the new journal never gives it; it is released once no interface of
//!   the node has it.
//! - *The process dies between the block's write and the journal's*: the allocation is there and the journal does not
//!   know it. It was never promised, because promises are in the journal first. It is taken up again after the block
//!   was written once more by compare-and-swap, which proves that what was read is current.
//! - *A container goes while its address is being rewritten*: the journal notes that, and whoever completes the
//!   rewriting releases the address. An entry leaves the journal only after the block says what it said.
//! - *The node dies*: its pods die with it. The allocations stay until the Node is deleted; then garbage collection,
//!   Calico's too, releases them as it releases those of the node's pods. Deleting the Node of a node that still runs
//!   frees the addresses of its running pods as well; the reserve adds nothing to that.
//! - *The clock is set back*: no decision here looks at a clock.
//! - *Somebody releases the allocation by hand* while the node cannot hear of it: the one thing that the protocol
//!   cannot exclude, as with any address in use. It is found at the next reconciliation, reported as [`Lost`], and an
//!   address that was not given out by then is not given out any more. `Ipam::release_ips` refuses to do it.
//!
//! **What others see.** An allocation with `node`, `type` and `note` attributes. The type is that of a VXLAN tunnel
//! address, because that is the kind of allocation without pod that Calico's garbage collector keeps while the node
//! exists and releases with it; `note` says what it is. `calicoctl ipam check` counts it as not in use, as it does
//! IPv6 tunnel addresses.

mod journal;
mod reconcile;
mod transfer;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use reconcile::{Lost, Reconciled, Target};

use crate::error::{Error, Result};
use crate::step::{Step, is_left_out};
use journal::Journal;

/// Begin of the `note` attribute of addresses that a node keeps for itself: they are free when the node is gone.
pub const NOTE: &str = "caracal reserve";

/// The addresses that a node has set aside.
#[derive(Clone, Debug)]
pub struct Reserve {
    folder: PathBuf,
    node: String,
}

/// Addresses wanted from the reserve.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// How many IPv4 addresses.
    pub v4: usize,
    /// How many IPv6 addresses.
    pub v6: usize,
    /// The handle that they will be under: the same that the allocator would have been given.
    pub handle: &'a str,
    /// The attributes that they will have: `pod`, `namespace`, `node`, `timestamp`.
    pub attributes: &'a BTreeMap<String, String>,
}

/// What became of addresses that a container gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// The journal has none of this handle: release it by the allocator.
    NotHere,
    /// They are set aside again. Nothing else is to be done.
    Back,
    /// They are being rewritten to the handle, and will be released by who does that. Nothing else is to be done.
    Later,
}

/// How much is set aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stock {
    /// IPv4 addresses that can be taken.
    pub v4: usize,
    /// IPv6 addresses that can be taken.
    pub v6: usize,
    /// Addresses that containers have and blocks do not say so yet.
    pub taken: usize,
}

impl Reserve {
    /// The reserve of a node, in a folder on a disk that outlives the process. Folder and journal are made when they
    /// are missing; a journal that cannot be read, or is another node's, is put aside and replaced by an empty one.
    ///
    /// # Errors
    ///
    /// When the folder or the journal cannot be made.
    pub fn open(folder: &Path, node: &str) -> Result<Self> {
        let reserve = Self {
            folder: folder.to_owned(),
            node: node.to_owned(),
        };
        drop(reserve.journal()?);
        Ok(reserve)
    }

    /// Takes addresses, all or none, and returns them once that is durable. A handle that has some gets the same ones
    /// again. No request is made.
    ///
    /// # Errors
    ///
    /// [`Error::ReserveShort`] when there are not enough; when the journal cannot be written: then nothing is taken.
    pub fn take(&self, wanted: &Wanted<'_>) -> Result<Vec<IpAddr>> {
        let mut journal = self.journal()?;
        let held = journal.addresses_of(wanted.handle);
        if !held.is_empty() {
            return Ok(held);
        }
        let mut addresses = Vec::new();
        for (v6, count) in [(false, wanted.v4), (true, wanted.v6)] {
            let of_family = journal.available().filter(|one| one.address.is_ipv6() == v6);
            let found: Vec<IpAddr> = of_family.map(|one| one.address).take(count).collect();
            if found.len() < count {
                return Err(Error::ReserveShort {
                    family: if v6 { "IPv6" } else { "IPv4" },
                    available: found.len(),
                    requested: count,
                    node: self.node.clone(),
                });
            }
            addresses.extend(found);
        }
        journal.take(&addresses, wanted.handle, wanted.attributes);
        if !is_left_out(Step::JournalFirst) {
            journal.write()?;
        }
        Ok(addresses)
    }

    /// The addresses that a handle has from the reserve and that its block does not show yet.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub fn addresses_of(&self, handle: &str) -> Result<Vec<IpAddr>> {
        Ok(self.journal()?.addresses_of(handle))
    }

    /// Gives back what a handle has from the reserve, once that is durable. No request is made.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read or written.
    pub fn give_back(&self, handle: &str) -> Result<Returned> {
        let mut journal = self.journal()?;
        let returned = journal.give_back(handle);
        if returned != Returned::NotHere {
            journal.write()?;
        }
        Ok(returned)
    }

    /// How much is set aside.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub fn stock(&self) -> Result<Stock> {
        let journal = self.journal()?;
        let v6 = journal.available().filter(|one| one.address.is_ipv6()).count();
        Ok(Stock {
            v4: journal.available().count() - v6,
            v6,
            taken: journal.taken().len(),
        })
    }

    /// The journal, locked.
    fn journal(&self) -> Result<Journal> {
        Journal::open(&self.folder, &self.node)
    }
}

/// An address set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Available {
    address: IpAddr,
    block: IpNet,
}

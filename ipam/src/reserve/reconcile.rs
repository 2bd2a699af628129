//! Bringing the reserve and the blocks together, while the API server answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;

use caracal_api::v3::{IPAMBlock, IPPoolAllowedUse};
use ipnet::IpNet;

use super::journal::{HANDLE_PREFIX, State, Taken, lock};
use super::transfer::{Transfer, Transferred};
use super::{NOTE, Reserve};
use crate::block::{Assignment, Block, Owner, Release, handle_of};
use crate::check::Claimant;
use crate::client::{AutoAssign, Ipam};
use crate::clock;
use crate::error::{Error, Result};
use crate::pools::{enabled, pool_of};
use crate::take::Take;

/// How many addresses are to be set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// IPv4 addresses.
    pub v4: usize,
    /// IPv6 addresses.
    pub v6: usize,
}

/// An address that a container has and that is no longer this node's to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The address.
    pub address: IpAddr,
    /// The container's handle. The container must be stopped.
    pub handle: String,
    /// The handle that the block has.
    pub holder: String,
}

/// What a reconciliation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Addresses whose allocation is under the container's handle now.
    pub settled: Vec<(IpAddr, String)>,
    /// Addresses that went back to their pools.
    pub released: Vec<IpAddr>,
    /// Addresses that were set aside.
    pub added: Vec<IpAddr>,
    /// Addresses that somebody else has as well: by hand, somebody released what was set aside.
    pub lost: Vec<Lost>,
    /// Families of which not enough could be set aside, with the reason.
    pub short: Vec<String>,
}

impl Reserve {
    /// Rewrites what was taken to the containers' handles, releases what was given back meanwhile or is of no use any
    /// more, and sets aside what is missing. `in_use` has the addresses that interfaces and routes of this node have:
    /// what an earlier, lost journal gave out is released only when it is not among them.
    ///
    /// Two reconciliations of one folder take turns; taking and giving back go on meanwhile.
    ///
    /// # Errors
    ///
    /// Any failed request, or a journal that cannot be written; calling again completes it.
    pub async fn reconcile(
        &self,
        ipam: &Ipam,
        target: Target,
        in_use: &BTreeSet<IpAddr>,
    ) -> Result<Reconciled> {
        let _turn = self.turn().await?;
        let mut done = Reconciled::default();
        self.settle(ipam, &mut done).await?;
        self.compare(ipam).await?;
        self.leave_pools(ipam, target, &mut done).await?;
        self.forget_earlier(ipam, in_use, &mut done).await?;
        self.refill(ipam, target, &mut done).await?;
        Ok(done)
    }

    /// Releases everything that is set aside and not taken, as before a node is removed.
    ///
    /// # Errors
    ///
    /// Any failed request, or a journal that cannot be written; calling again completes it.
    pub async fn drain(&self, ipam: &Ipam) -> Result<Reconciled> {
        let _turn = self.turn().await?;
        let mut done = Reconciled::default();
        self.settle(ipam, &mut done).await?;
        self.compare(ipam).await?;
        let nothing = Target { v4: 0, v6: 0 };
        self.leave_pools(ipam, nothing, &mut done).await?;
        Ok(done)
    }

    /// Waits until no other process reconciles this folder.
    async fn turn(&self) -> Result<File> {
        let path = self.folder.join("reconcile.lock");
        clock::blocking(move || lock(&path))
            .await
            .unwrap_or_else(|error| {
                Err(Error::Journal {
                    path: self.folder.clone(),
                    problem: error.to_string(),
                })
            })
    }

    async fn settle(&self, ipam: &Ipam, done: &mut Reconciled) -> Result<()> {
        let (own, entries) = {
            let mut journal = self.journal()?;
            if journal.taken().is_empty() {
                return Ok(());
            }
            let entries = journal.begin_settling();
            journal.write()?;
            (journal.handle().to_owned(), entries)
        };
        for entry in entries {
            let outcome = if entry.state == State::Released {
                Transferred::Done
            } else {
                self.settle_one(ipam, &own, &entry).await?
            };
            // Whether the container was still there is decided under the lock, once the block is written.
            let gone = self.journal()?.state_of(&entry) == Some(State::Released);
            match outcome {
                Transferred::OfAnother(holder) => {
                    tracing::error!(address = %entry.address, handle = entry.handle, holder,
                        "an address of the reserve was released by hand and given to somebody else");
                    if !gone {
                        done.lost.push(Lost {
                            address: entry.address,
                            handle: entry.handle.clone(),
                            holder,
                        });
                    }
                }
                Transferred::Done | Transferred::Free if gone => {
                    self.release_settled(ipam, &entry).await?;
                    done.released.push(entry.address);
                }
                Transferred::Done | Transferred::Free => {
                    done.settled.push((entry.address, entry.handle.clone()));
                }
            }
            let mut journal = self.journal()?;
            // It may have gone since: then the entry stays for the next time.
            if !gone && journal.state_of(&entry) == Some(State::Released) {
                continue;
            }
            journal.drop_taken(&entry);
            journal.write()?;
        }
        Ok(())
    }

    async fn settle_one(&self, ipam: &Ipam, own: &str, entry: &Taken) -> Result<Transferred> {
        let transfer = Transfer {
            address: entry.address,
            block: entry.block,
            from: own,
            to: &entry.handle,
            attributes: &entry.attributes,
        };
        let outcome = ipam.store.transfer(&transfer).await?;
        if outcome != Transferred::Free {
            return Ok(outcome);
        }
        // Released by hand, and nobody has it yet.
        let owner = Owner::host(&self.node);
        let want = Assignment {
            owner: &owner,
            handle: Some(&entry.handle),
            attributes: &entry.attributes,
            strict: false,
        };
        match ipam
            .store
            .take(&entry.block, Take::This(entry.address), &want, 0, None)
            .await
        {
            Ok(_) => Ok(Transferred::Done),
            Err(Error::AlreadyAssigned { .. }) => ipam.store.transfer(&transfer).await,
            Err(error) => Err(error),
        }
    }

    /// The container of an entry is gone: its address goes back to the pool, under whichever handle it is.
    async fn release_settled(&self, ipam: &Ipam, entry: &Taken) -> Result<()> {
        let own = self.journal()?.handle().to_owned();
        for handle in [own, entry.handle.clone()] {
            release_of(ipam, entry.address, &handle).await?;
        }
        Ok(())
    }

    /// Makes the journal's list of what can be taken what the blocks have under its handle.
    async fn compare(&self, ipam: &Ipam) -> Result<()> {
        let handle = self.journal()?.handle().to_owned();
        let held: BTreeMap<IpAddr, IpNet> = ipam.store.held_by(&handle).await?;
        let unknown: BTreeSet<IpNet> = {
            let mut journal = self.journal()?;
            let before = journal.available().count();
            journal.keep_available(|one| held.contains_key(&one.address));
            if journal.available().count() != before {
                tracing::warn!("addresses of the reserve were released by hand");
                journal.write()?;
            }
            let unknown = held.iter().filter(|(address, _)| !journal.knows(**address));
            unknown.map(|(_, block)| *block).collect()
        };
        for block in unknown {
            let proved = ipam.store.proved_of(&handle, &block).await?;
            let mut journal = self.journal()?;
            for address in proved {
                journal.add(address, block);
            }
            journal.write()?;
        }
        Ok(())
    }

    /// Releases what is in no pool that gives addresses any more, and what is too much.
    async fn leave_pools(&self, ipam: &Ipam, target: Target, done: &mut Reconciled) -> Result<()> {
        let pools = enabled(&ipam.pools().await?);
        let (handle, leaving) = {
            let mut journal = self.journal()?;
            let (mut left4, mut left6) = (target.v4, target.v6);
            let mut leaving = Vec::new();
            journal.keep_available(|one| {
                let room = if one.address.is_ipv6() {
                    &mut left6
                } else {
                    &mut left4
                };
                let stays = *room > 0 && pool_of(&pools, one.address).is_some();
                if stays {
                    *room -= 1;
                } else {
                    leaving.push(one.address);
                }
                stays
            });
            if leaving.is_empty() {
                return Ok(());
            }
            // Out of the journal first: from here on nobody takes them.
            journal.write()?;
            (journal.handle().to_owned(), leaving)
        };
        for address in leaving {
            release_of(ipam, address, &handle).await?;
            done.released.push(address);
        }
        Ok(())
    }

    /// Releases what earlier journals of this node had, as far as no container has it.
    async fn forget_earlier(
        &self,
        ipam: &Ipam,
        in_use: &BTreeSet<IpAddr>,
        done: &mut Reconciled,
    ) -> Result<()> {
        let own = {
            let journal = self.journal()?;
            if !journal.is_fresh() {
                return Ok(());
            }
            journal.handle().to_owned()
        };
        let blocks: Vec<IPAMBlock> = ipam.store.list(None).await?;
        let mut left = false;
        for stored in blocks {
            let Ok(block) = Block::from_spec(stored.spec) else {
                left = true;
                continue;
            };
            for (address, attribute) in block.assignments() {
                let of_node = attribute.secondary.get("node") == Some(&self.node);
                let handle = handle_of(attribute).unwrap_or_default();
                // A node keeps addresses for other uses too.
                let of_a_journal = handle.starts_with(HANDLE_PREFIX);
                if !of_node || handle == own || !of_a_journal || Claimant::of(attribute) != Claimant::Reserve
                {
                    continue;
                }
                if in_use.contains(&address) {
                    left = true;
                    continue;
                }
                release_of(ipam, address, handle).await?;
                done.released.push(address);
            }
        }
        if !left {
            let mut journal = self.journal()?;
            journal.set_fresh(false);
            journal.write()?;
        }
        Ok(())
    }

    async fn refill(&self, ipam: &Ipam, target: Target, done: &mut Reconciled) -> Result<()> {
        for (v6, wanted) in [(false, target.v4), (true, target.v6)] {
            let (handle, missing) = {
                let journal = self.journal()?;
                let has = journal
                    .available()
                    .filter(|one| one.address.is_ipv6() == v6)
                    .count();
                (journal.handle().to_owned(), wanted.saturating_sub(has))
            };
            if missing == 0 {
                continue;
            }
            let request = AutoAssign {
                v4: if v6 { 0 } else { missing },
                v6: if v6 { missing } else { 0 },
                attributes: attributes(&self.node, v6),
                use_: IPPoolAllowedUse::Workload,
                ..AutoAssign::workload(&self.node, &handle)
            };
            let assigned = match ipam.auto_assign(&request).await {
                Ok(assigned) => assigned,
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    done.short.push(error.to_string());
                    continue;
                }
            };
            let mut journal = self.journal()?;
            for net in assigned.all() {
                journal.add(net.addr(), net.trunc());
                done.added.push(net.addr());
            }
            journal.write()?;
        }
        Ok(())
    }
}

/// Attributes of an address that is set aside; the parent module says why.
fn attributes(node: &str, v6: bool) -> BTreeMap<String, String> {
    let type_ = if v6 {
        "vxlanV6TunnelAddress"
    } else {
        "vxlanTunnelAddress"
    };
    let note = format!("{NOTE}: for pods that start while the API server is away");
    [("node", node), ("type", type_), ("note", &note)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Releases an address if it is under this handle.
async fn release_of(ipam: &Ipam, address: IpAddr, handle: &str) -> Result<()> {
    let release = Release {
        address,
        handle: Some(handle.to_owned()),
        sequence_number: None,
    };
    match ipam.release_ips(&[release]).await {
        Ok(_) | Err(Error::BadHandle { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

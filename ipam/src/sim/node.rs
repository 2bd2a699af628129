//! What the programs of a node do: as plugins and agents do it, with a ledger of what they were told.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::ledger::{Holding, Ledger};
use crate::block::Release;
use crate::client::{AssignIp, AutoAssign, Ipam};
use crate::reserve::{Reserve, Returned, Target, Wanted};

/// Something that a program of a node does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// ADD: some addresses under a handle.
    Assign { handle: String, count: usize },
    /// ADD of a certain address.
    AssignThis { handle: String, address: IpAddr },
    /// DEL, as often as a runtime repeats it.
    Release { handle: String },
    /// A release of the addresses that were assigned, one by one.
    ReleaseAddresses { handle: String },
    /// Somebody thinks that the node is gone, and takes its empty blocks.
    LeaveBlocks { node: String },
    /// The agent brings its reserve in order.
    Reconcile { target: usize },
    /// ADD while the API server is away.
    Take { handle: String },
    /// DEL while the API server is away, if the address came from the reserve.
    GiveBack { handle: String },
    /// The node's disk is lost.
    LoseJournal,
}

/// The programs of a node, one after the other.
#[derive(Clone)]
pub(super) struct Programs {
    pub(super) node: String,
    pub(super) ipam: Ipam,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) folder: std::path::PathBuf,
    /// How many actions were begun.
    pub(super) begun: Arc<Mutex<usize>>,
}

impl Programs {
    pub(super) async fn run(self, actions: Vec<Action>) {
        loop {
            let next = {
                let mut begun = self.begun.lock().unwrap();
                let next = actions.get(*begun).cloned();
                *begun += 1;
                next
            };
            match next {
                Some(action) => self.act(action).await,
                None => return,
            }
        }
    }

    async fn act(&self, action: Action) {
        match action {
            Action::Assign { handle, count } => self.assign(&handle, count).await,
            Action::AssignThis { handle, address } => {
                let request = AssignIp {
                    address,
                    host: self.node.clone(),
                    handle: Some(handle.clone()),
                    attributes: self.attributes(&handle),
                    use_: None,
                };
                if self.ipam.assign_ip(&request).await.is_ok() {
                    self.told(&handle, &[address], false);
                }
            }
            Action::Release { handle } => self.release(&handle).await,
            Action::ReleaseAddresses { handle } => self.release_addresses(&handle).await,
            Action::LeaveBlocks { node } => drop(self.ipam.release_host_affinities(&node, true).await),
            Action::Reconcile { target } => {
                let Ok(reserve) = self.reserve() else { return };
                let in_use: BTreeSet<IpAddr> = {
                    let ledger = self.ledger.lock().unwrap();
                    let own = ledger.held.iter().filter(|(_, one)| one.node == self.node);
                    own.map(|(address, _)| *address).collect()
                };
                let target = Target { v4: target, v6: 0 };
                if let Ok(done) = reserve.reconcile(&self.ipam, target, &in_use).await {
                    let mut ledger = self.ledger.lock().unwrap();
                    for lost in &done.lost {
                        ledger
                            .wrong
                            .push(format!("{} of {} was lost", lost.address, lost.handle));
                    }
                    for (address, _) in &done.settled {
                        if let Some(holding) = ledger.held.get_mut(address) {
                            holding.from_reserve = false;
                        }
                    }
                }
            }
            Action::Take { handle } => {
                let Ok(reserve) = self.reserve() else { return };
                let attributes = self.attributes(&handle);
                let wanted = Wanted {
                    v4: 1,
                    v6: 0,
                    handle: &handle,
                    attributes: &attributes,
                };
                if let Ok(addresses) = reserve.take(&wanted) {
                    self.told(&handle, &addresses, true);
                }
            }
            Action::GiveBack { handle } => {
                let Ok(reserve) = self.reserve() else { return };
                let mut ledger = self.ledger.lock().unwrap();
                let returned = reserve.give_back(&handle);
                if returned.is_ok_and(|returned| returned != Returned::NotHere) {
                    ledger.forget(&handle);
                }
            }
            Action::LoseJournal => drop(std::fs::remove_file(self.folder.join("journal.json"))),
        }
    }

    fn reserve(&self) -> crate::Result<Reserve> {
        Reserve::open(&self.folder, &self.node)
    }

    fn attributes(&self, handle: &str) -> std::collections::BTreeMap<String, String> {
        [("pod", handle), ("namespace", "ns"), ("node", &self.node)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    fn told(&self, handle: &str, addresses: &[IpAddr], from_reserve: bool) {
        let mut ledger = self.ledger.lock().unwrap();
        for address in addresses {
            let holding = Holding {
                handle: handle.to_owned(),
                node: self.node.clone(),
                from_reserve,
            };
            ledger.told(*address, holding);
        }
    }

    async fn assign(&self, handle: &str, count: usize) {
        let mut request = AutoAssign::workload(&self.node, handle);
        request.v4 = count;
        request.attributes = self.attributes(handle);
        match self.ipam.auto_assign(&request).await {
            Ok(assigned) => {
                let addresses: Vec<IpAddr> = assigned.all().map(|net| net.addr()).collect();
                self.told(handle, &addresses, false);
            }
            // What a plugin does after an error.
            Err(_) => self.release(handle).await,
        }
    }

    async fn release(&self, handle: &str) {
        self.ledger.lock().unwrap().forget(handle);
        for _ in 0..3 {
            match self.ipam.release_by_handle(handle).await {
                Ok(()) => return,
                Err(error) if error.is_not_found() => return,
                Err(_) => {}
            }
        }
    }

    async fn release_addresses(&self, handle: &str) {
        let addresses = {
            let mut ledger = self.ledger.lock().unwrap();
            let addresses = ledger.of(handle);
            ledger.forget(handle);
            addresses
        };
        let releases: Vec<Release> = addresses
            .into_iter()
            .map(|address| Release {
                address,
                handle: None,
                sequence_number: None,
            })
            .collect();
        if !releases.is_empty() {
            drop(self.ipam.release_ips(&releases).await);
        }
    }
}

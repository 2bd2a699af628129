//! The short way for a program that stays: what a request is decided on is known from watches, the node's blocks from
//! the last write to them, and requests that come at the same time share one write of a block.
//!
//! The protocol is that of [`Ipam::auto_assign`] and [`Ipam::release_by_handle`]: a handle counts before its block is
//! written, a block is written before its handle goes, every write is a compare-and-swap. What is known may be old;
//! then a write conflicts and the block is read again. Whatever is not plain (no own block with room, a handle that
//! exists, a lost answer) is left to the long way, which finds everything under the handle.

mod desk;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use caracal_api::names::handle_name;
use caracal_api::v3::{BlockAffinity, IPAMConfigurationSpec, IPAMHandle, IPPool, IPReservation};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

use crate::block::Owner;
use crate::claim::is_of;
use crate::client::{AutoAssign, Ipam};
use crate::error::Family;
use crate::handle::Handle;
use crate::job::View;
use crate::pools::{self, Wanted, covers};
use desk::{Answer, Desk, Terms, Work};

/// Handles that are remembered for their release; a node has far fewer pods.
const HANDLES_MAX: usize = 4096;

/// An API server that does not answer within this time is away: a pod waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a program that follows the datastore knows of it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// How addresses are managed.
    pub configuration: IPAMConfigurationSpec,
    /// All pools.
    pub pools: Vec<IPPool>,
    /// All reservations.
    pub reservations: Vec<IPReservation>,
    /// The node's affinities; those of others do no harm.
    pub affinities: Vec<BlockAffinity>,
    /// The node.
    pub node: Node,
}

/// A snapshot, made ready for decisions about one node.
pub struct Known {
    view: View,
    owner: Owner,
    host: String,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Known {
    /// What is known, for a node.
    #[must_use]
    pub fn new(host: &str, snapshot: &Snapshot) -> Self {
        let owner = Owner::host(host);
        let node = caracal_api::virtual_::node::from_k8s(&snapshot.node);
        let own = snapshot.affinities.iter().filter(|one| is_of(one, &owner));
        let mut affinities: Vec<BlockAffinity> = own.filter(|one| !one.spec.deleted).cloned().collect();
        affinities.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        Self {
            view: View {
                configuration: snapshot.configuration.clone(),
                reserved: pools::reserved(&snapshot.reservations),
                enabled: pools::enabled(&snapshot.pools),
                node_labels: node.and_then(|node| node.metadata.labels).unwrap_or_default(),
                affinities,
            },
            owner,
            host: host.to_owned(),
        }
    }

    fn terms(&self) -> Terms<'_> {
        Terms {
            owner: &self.owner,
            configuration: &self.view.configuration,
            reserved: &self.view.reserved,
        }
    }

    /// The node's confirmed blocks that a request may take from, in order.
    fn blocks(&self, request: &AutoAssign, family: Family) -> Vec<IpNet> {
        let wanted = Wanted {
            family,
            use_: &request.use_,
            node: &request.host,
            node_labels: &self.view.node_labels,
            namespace_labels: &request.namespace_labels,
            requested: request.pools_of(family),
        };
        let Ok(pools) = pools::choose(&self.view.enabled, &wanted) else {
            return Vec::new();
        };
        let confirmed = self
            .view
            .affinities
            .iter()
            .filter(|one| one.spec.state.is_confirmed());
        let fits = |cidr: &IpNet| {
            let pool = pools
                .iter()
                .find(|pool| pool.net.contains(cidr) && pool.block_size == cidr.prefix_len());
            pool.is_some() && covers(&self.view.reserved, cidr).is_none()
        };
        confirmed
            .filter_map(|one| one.spec.cidr.parse().ok())
            .filter(fits)
            .collect()
    }
}

/// What the short way led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quick {
    /// These addresses, each with the prefix length of its block.
    Assigned(Vec<IpNet>),
    /// Nothing that could be relied on: ask what the handle holds, and go the long way.
    LongWay,
    /// The API server does not answer.
    Away,
}

/// The short way. One for each process and node.
#[derive(Debug)]
pub struct Express {
    ipam: Ipam,
    desks: Mutex<BTreeMap<IpNet, Arc<Desk>>>,
    handles: Mutex<BTreeMap<String, IPAMHandle>>,
}

impl Express {
    /// The short way to an allocator.
    #[must_use]
    pub const fn new(ipam: Ipam) -> Self {
        Self {
            ipam,
            desks: Mutex::new(BTreeMap::new()),
            handles: Mutex::new(BTreeMap::new()),
        }
    }

    /// Assigns at most one address of each family for a handle that holds nothing yet.
    pub async fn assign(&self, known: &Known, request: &AutoAssign) -> Quick {
        let (Some(handle), Some(desks)) = (request.handle.as_deref(), self.desks_for(known, request)) else {
            return Quick::LongWay;
        };
        if let Some(refused) = self.count(handle, &desks).await {
            return refused;
        }
        let takes = desks.iter().map(|desk| {
            let work = Work::Take {
                handle: handle.to_owned(),
                attributes: request.attributes.clone(),
            };
            desk.submit(&self.ipam.store, known.terms(), work)
        });
        let answers = futures::future::join_all(takes).await;
        let mut addresses = Vec::new();
        let mut complete = true;
        for (desk, answer) in desks.iter().zip(answers) {
            match answer {
                Answer::Took(address) => addresses.extend(IpNet::new(address, desk.cidr().prefix_len()).ok()),
                Answer::Nothing => {
                    complete = false;
                    self.forget(handle);
                    // Counting too much harms nobody.
                    let uncounted = self.ipam.store.decrement(handle, &desk.cidr(), 1).await;
                    if let Err(error) = uncounted {
                        tracing::debug!(%error, handle, "a handle may count too many addresses");
                    }
                }
                Answer::Released | Answer::Unsure => {
                    complete = false;
                    self.forget(handle);
                }
            }
        }
        if complete {
            Quick::Assigned(addresses)
        } else {
            Quick::LongWay
        }
    }

    /// The block for each family that is wanted; `None` when the short way does not lead there.
    fn desks_for(&self, known: &Known, request: &AutoAssign) -> Option<Vec<Arc<Desk>>> {
        if request.host != known.host || request.v4 > 1 || request.v6 > 1 {
            return None;
        }
        let mut desks = Vec::new();
        for (family, count) in [(Family::V4, request.v4), (Family::V6, request.v6)] {
            if count > 0 {
                let blocks = known.blocks(request, family).into_iter();
                desks.push(blocks.map(|cidr| self.desk(cidr)).find(|desk| desk.has_room())?);
            }
        }
        Some(desks).filter(|desks| !desks.is_empty())
    }

    /// Whether the node's blocks of a family are so full that it is time to claim the next one.
    #[must_use]
    pub fn runs_short(&self, known: &Known, request: &AutoAssign, v6: bool) -> bool {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let blocks = known.blocks(request, family);
        let last = blocks.last().map(|cidr| self.desk(*cidr));
        let full = |cidr: &IpNet| !self.desk(*cidr).has_room();
        let earlier = blocks
            .split_last()
            .map(|(_, earlier)| earlier)
            .unwrap_or_default();
        last.is_some_and(|last| last.runs_short()) && earlier.iter().all(full)
    }

    /// Releases what a handle holds that was assigned this way. False: go the long way.
    pub async fn release(&self, known: &Known, handle: &str) -> bool {
        let Some(object) = self.forget(handle) else {
            return false;
        };
        let cidrs: Option<Vec<IpNet>> = object.spec.block.keys().map(|text| text.parse().ok()).collect();
        let desks: Vec<Arc<Desk>> = cidrs
            .unwrap_or_default()
            .into_iter()
            .map(|cidr| self.desk(cidr))
            .collect();
        let releases = desks.iter().map(|desk| {
            let work = Work::Release {
                handle: handle.to_owned(),
            };
            desk.submit(&self.ipam.store, known.terms(), work)
        });
        let answers = futures::future::join_all(releases).await;
        let released = |answer: &Answer| matches!(answer, Answer::Released);
        if answers.is_empty() || !answers.iter().all(released) {
            return false;
        }
        match self.ipam.store.remove_at_once(&object).await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, handle, "a handle changed since it was made");
                false
            }
        }
    }

    /// Who an address of a known block is assigned to, as of the last write. For tests and diagnosis.
    pub async fn known_holder(&self, address: IpAddr) -> Option<String> {
        let desk = {
            let desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
            let found = desks.iter().find(|(cidr, _)| cidr.contains(&address));
            found.map(|(_, desk)| Arc::clone(desk))
        }?;
        desk.holder(address).await
    }

    fn desk(&self, cidr: IpNet) -> Arc<Desk> {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(desks.entry(cidr).or_insert_with(|| Arc::new(Desk::new(cidr))))
    }

    fn forget(&self, handle: &str) -> Option<IPAMHandle> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.remove(handle)
    }

    /// Makes the handle with one address of each block. `Some` when it exists or could not be made.
    async fn count(&self, id: &str, desks: &[Arc<Desk>]) -> Option<Quick> {
        let mut handle = Handle::new(id);
        for desk in desks {
            handle.increment(&desk.cidr(), 1);
        }
        let object = IPAMHandle::new(&handle_name(id), handle.0);
        let made = match tokio::time::timeout(PATIENCE, self.ipam.store.client.create(&object)).await {
            Ok(Ok(made)) => made,
            Ok(Err(error)) => {
                tracing::debug!(%error, handle = id, "a handle could not be made the short way");
                let away = error.is_transient();
                return Some(if away { Quick::Away } else { Quick::LongWay });
            }
            // It may yet be made, and then counts what nobody has: harmless.
            Err(_) => return Some(Quick::Away),
        };
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if handles.len() < HANDLES_MAX {
            handles.insert(id.to_owned(), made);
        }
        None
    }
}

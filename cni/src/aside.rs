//! Plugging in while the API server is away: addresses that were set aside beforehand, and Pods that are written
//! afterwards.
//!
//! Why an address set aside is nobody else's is said in `caracal_ipam`'s `reserve`. What is not written to a Pod is told
//! to felix directly, which would take the container's route for a stranger's otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use caracal_datastore::Client;
use caracal_ipam::reserve::{Reserve, Target, Wanted};
use caracal_ipam::{AutoAssign, Ipam};
use caracal_linux::netlink::Netlink;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinHandle;

use crate::board::{Board, Unwritten};
use crate::error::{Code, Error, Result};
use crate::mirror::Mirror;
use crate::pod;

/// How often what is set aside is compared with the datastore.
const COMPARE_PAUSE: Duration = Duration::from_secs(30);
/// How often, while too little is set aside.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// How often, while something waits for it.
const HURRY_PAUSE: Duration = Duration::from_secs(2);
/// How often a Pod is tried to be written.
const WRITE_PAUSE: Duration = Duration::from_secs(1);

/// How much is set aside, and where that is noted.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the journal, on a disk that outlives the process.
    pub folder: PathBuf,
    /// Addresses of each family.
    pub count: usize,
}

/// What a node has set aside.
#[derive(Debug)]
pub struct Store {
    reserve: Reserve,
    count: usize,
    board: Option<Board>,
    /// False: nothing is given out, so nobody needs to look into the journal.
    is_used: AtomicBool,
    writers: Mutex<BTreeMap<String, JoinHandle<()>>>,
}

impl Store {
    /// Opens the journal.
    ///
    /// # Errors
    /// When folder or journal cannot be made.
    pub fn open(options: &Options, node: &str, board: Option<Board>) -> Result<Self> {
        let reserve = Reserve::open(&options.folder, node)?;
        let is_used = reserve.stock()?.taken > 0;
        Ok(Self {
            reserve,
            count: options.count,
            board,
            is_used: AtomicBool::new(is_used),
            writers: Mutex::new(BTreeMap::new()),
        })
    }

    /// What a container has from what was set aside; `None` when it has nothing from there.
    #[must_use]
    pub fn held(&self, handle: &str) -> Option<Vec<IpNet>> {
        if !self.is_used.load(Ordering::Acquire) {
            return None;
        }
        let held = self.reserve.addresses_of(handle).ok()?;
        let nets: Vec<IpNet> = held.into_iter().map(IpNet::from).collect();
        Some(nets).filter(|nets| !nets.is_empty())
    }

    /// Gives addresses to a container; durable when it returns.
    ///
    /// # Errors
    /// Code 11 when not enough is set aside, or the journal cannot be written.
    pub fn take(&self, request: &AutoAssign) -> Result<Vec<IpNet>> {
        let away = |error: caracal_ipam::Error| {
            Error::new(
                Code::TryAgainLater,
                format!("the API server does not answer, and no address is left that was set aside: {error}"),
            )
            .hint("bring the API server back; the runtime may call again")
        };
        if !request.v4_pools.is_empty() || !request.v6_pools.is_empty() {
            return Err(Error::new(
                Code::TryAgainLater,
                "the API server does not answer, and addresses of certain pools are asked for",
            )
            .hint("pods that name no pool start from addresses set aside; others wait for the API server"));
        }
        self.is_used.store(true, Ordering::Release);
        let wanted = Wanted {
            v4: request.v4,
            v6: request.v6,
            handle: request.handle.as_deref().unwrap_or_default(),
            attributes: &request.attributes,
        };
        let addresses = self.reserve.take(&wanted).map_err(away)?;
        tracing::info!(addresses = ?addresses, handle = request.handle, "given from what was set aside");
        Ok(addresses.into_iter().map(IpNet::from).collect())
    }

    /// Takes back what a container had. What the datastore knows of is released besides.
    ///
    /// # Errors
    /// When the journal cannot be read or written.
    pub fn give_back(&self, handle: &str) -> Result<()> {
        if self.is_used.load(Ordering::Acquire) {
            self.reserve.give_back(handle)?;
        }
        Ok(())
    }

    /// Tells felix, and writes the Pod when the API server answers again.
    pub fn write_later(&self, client: &Client, pod: &Pod, addresses: &[IpNet], container_id: &str) {
        if let (Some(board), Some(uid)) = (&self.board, &pod.metadata.uid) {
            let what = Unwritten {
                container_id: container_id.to_owned(),
                addresses: addresses.to_vec(),
            };
            board.note_unwritten(uid, what);
        }
        let task = tokio::spawn(write_until_done(
            client.clone(),
            pod.clone(),
            addresses.to_vec(),
            container_id.to_owned(),
            self.board.clone(),
        ));
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        writers.retain(|_, writer| !writer.is_finished());
        writers.insert(container_id.to_owned(), task);
    }

    /// The container goes: its Pod is not to be written any more.
    pub fn write_no_more(&self, container_id: &str) {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = writers.remove(container_id) {
            writer.abort();
        }
        if let Some(board) = &self.board {
            board.forget_unwritten(container_id);
        }
    }

    /// Compares with the datastore, for ever.
    pub async fn keep(&self, ipam: &Ipam, mirror: &Arc<Mirror>) {
        loop {
            let used = self.is_used.load(Ordering::Acquire);
            tokio::time::sleep(if used { HURRY_PAUSE } else { self.pause() }).await;
            if let Err(error) = self.compare(ipam, mirror).await {
                tracing::debug!(error = %error, "addresses are not set aside now");
            }
        }
    }

    /// Short as long as too little is set aside.
    fn pause(&self) -> Duration {
        match self.reserve.stock() {
            Ok(stock) if stock.v4 + stock.v6 >= self.count => COMPARE_PAUSE,
            Ok(_) | Err(_) => FIRST_PAUSE,
        }
    }

    async fn compare(&self, ipam: &Ipam, mirror: &Arc<Mirror>) -> Result<()> {
        let (has_v4, has_v6) = mirror.families_of_own_blocks();
        // A node without blocks is not made to have one for this.
        let target = Target {
            v4: if has_v4 { self.count } else { 0 },
            v6: if has_v6 { self.count } else { 0 },
        };
        let stock = self.reserve.stock()?;
        if !has_v4 && !has_v6 && stock.v4 + stock.v6 + stock.taken == 0 {
            return Ok(());
        }
        let done = self
            .reserve
            .reconcile(ipam, target, &addresses_in_use().await?)
            .await?;
        for short in done.short {
            tracing::debug!(short, "fewer addresses are set aside than wanted");
        }
        if self.reserve.stock()?.taken == 0 {
            self.is_used.store(false, Ordering::Release);
        }
        Ok(())
    }
}

/// What interfaces and routes of this node have.
async fn addresses_in_use() -> Result<BTreeSet<IpAddr>> {
    let netlink = Netlink::open()?;
    let own = netlink.addresses().await?;
    let routes = netlink.routes().await?;
    let single = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
    let routed = routes.iter().map(|route| route.destination).filter(single);
    Ok(own
        .iter()
        .map(|one| one.address.addr())
        .chain(routed.map(|net| net.addr()))
        .collect())
}

async fn write_until_done(
    client: Client,
    pod: Pod,
    addresses: Vec<IpNet>,
    container_id: String,
    board: Option<Board>,
) {
    loop {
        tokio::time::sleep(WRITE_PAUSE).await;
        match pod::write_addresses(&client, &pod, &addresses, &container_id).await {
            Err(error) if error.is_transient() => {}
            Ok(()) => break,
            // Another pod of that name, or none: its container is removed by the runtime.
            Err(error) => {
                tracing::info!(error = %error, container = container_id, "a pod's address is not written any more");
                break;
            }
        }
    }
    if let Some(board) = board {
        board.forget_unwritten(&container_id);
    }
}

//! Orders for the kernel task. Later ones for the same thing replace earlier ones, so the box never holds more than
//! there are prefixes and next hops, and putting something in never waits.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use caracal_bgpd_core::output::{KernelRoute, RouteDelta};
use ipnet::IpNet;
use tokio::sync::Notify;

/// What is in the box.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub(super) routes: HashMap<IpNet, Option<Arc<KernelRoute>>>,
    pub(super) static_routes: Option<Vec<(IpNet, IpAddr)>>,
    pub(super) ignored_interfaces: Option<Vec<String>>,
    pub(super) watches: BTreeMap<IpAddr, bool>,
    pub(super) write: bool,
    pub(super) sweep: bool,
}

/// The box. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Mailbox {
    orders: Arc<Mutex<Orders>>,
    filled: Arc<Notify>,
}

impl Mailbox {
    pub(super) fn route(&self, delta: RouteDelta) {
        self.put(|orders| {
            orders.routes.insert(delta.prefix, delta.route);
        });
    }

    pub(super) fn static_routes(&self, routes: Vec<(IpNet, IpAddr)>) {
        self.put(|orders| orders.static_routes = Some(routes));
    }

    pub(super) fn ignored_interfaces(&self, patterns: Vec<String>) {
        self.put(|orders| orders.ignored_interfaces = Some(patterns));
    }

    pub(super) fn watch(&self, address: IpAddr, on: bool) {
        self.put(|orders| {
            orders.watches.insert(address, on);
        });
    }

    pub(super) fn start_writing(&self) {
        self.put(|orders| orders.write = true);
    }

    pub(super) fn sweep(&self) {
        self.put(|orders| orders.sweep = true);
    }

    /// Takes everything out. Waits until there is something.
    pub(super) async fn take(&self) -> Orders {
        self.filled.notified().await;
        std::mem::take(&mut *self.lock())
    }

    fn put(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.lock());
        self.filled.notify_one();
    }

    /// Held for the length of one change only, never across a wait.
    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

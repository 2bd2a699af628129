//! The kernel's routes: what best routes become, what the host's own routes are, how next hops are reached.
//!
//! A task of its own owns the netlink connection, so that a long list of changes never delays a keepalive. It takes
//! its orders from a mailbox in which later orders for the same prefix replace earlier ones, and tells the owner about
//! the host in batches.
//!
//! # Ownership
//! Routes of the main table with our protocol number (12, `bird`, unless set otherwise) are ours; all others belong to
//! others, are never changed, and are where next hops are looked up and the host's routes come from.

mod export;
mod host;
mod mailbox;
mod task;
mod wanted;

use std::net::IpAddr;

use caracal_bgpd_core::input::{LocalDelta, Resolution};
use caracal_bgpd_core::output::RouteDelta;
use caracal_linux::Result;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use mailbox::Mailbox;

/// Protocol number of our routes: that of BIRD, which users and takeovers expect.
pub const PROTOCOL: u8 = 12;
/// Metric of routes for which policy sets none.
pub const DEFAULT_METRIC: u32 = 1024;
/// Reports waiting for the owner.
const REPORTS_MAX: usize = 64;

/// What the kernel tells the speaker.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// Routes of the host came, changed or went.
    Local(Vec<LocalDelta>),
    /// Where the host's default routes lead, IPv4 and IPv6: at the start and when that changes.
    Gateways([Option<IpAddr>; 2]),
    /// The ways to next hops that are watched.
    NextHops(Vec<(IpAddr, Option<Resolution>)>),
    /// Routes that the kernel refuses, the first fifty: at every change.
    Refused(Vec<Refused>),
    /// How many of our routes are wanted, are there, and could not be programmed.
    Counts {
        /// Wanted.
        wanted: usize,
        /// There.
        installed: usize,
        /// Not there, because the kernel refuses them or their next hop is not known.
        failed: usize,
    },
}

/// A route that the kernel refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The prefix.
    pub prefix: ipnet::IpNet,
    /// The metric.
    pub metric: u32,
    /// Why, and what to do.
    pub reason: String,
}

/// The owner's end of the kernel task.
#[derive(Debug)]
pub struct Kernel {
    mailbox: Mailbox,
    task: JoinHandle<()>,
    found_routes: usize,
}

/// Settings of the kernel task.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Protocol number of our routes.
    pub protocol: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self { protocol: PROTOCOL }
    }
}

impl Kernel {
    /// Connects, reads what is there, and starts the task. Nothing is changed before [`Kernel::start_writing`].
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub async fn start(settings: Settings) -> Result<(Self, mpsc::Receiver<Report>)> {
        let (reports, receiver) = mpsc::channel(REPORTS_MAX);
        let mailbox = Mailbox::default();
        let task = task::Task::new(settings, mailbox.clone(), reports).await?;
        let found_routes = task.found_routes();
        let kernel = Self {
            mailbox,
            task: tokio::spawn(task.run()),
            found_routes,
        };
        Ok((kernel, receiver))
    }

    /// Routes with our protocol number that were there at the start: left by a process before this one.
    pub fn found_routes(&self) -> usize {
        self.found_routes
    }

    /// Wants a route, or none, for a prefix.
    pub fn route(&self, delta: RouteDelta) {
        self.mailbox.route(delta);
    }

    /// Wants exactly these routes beside those of the speaker.
    pub fn static_routes(&self, routes: Vec<(ipnet::IpNet, IpAddr)>) {
        self.mailbox.static_routes(routes);
    }

    /// Sets the interfaces whose networks do not count as the host's.
    pub fn ignored_interfaces(&self, patterns: Vec<String>) {
        self.mailbox.ignored_interfaces(patterns);
    }

    /// Wants reports about the way to a next hop.
    pub fn watch(&self, address: IpAddr) {
        self.mailbox.watch(address, true);
    }

    /// Wants no more reports about it.
    pub fn unwatch(&self, address: IpAddr) {
        self.mailbox.watch(address, false);
    }

    /// Allows changes: what the speaker wants is known.
    pub fn start_writing(&self) {
        self.mailbox.start_writing();
    }

    /// Allows removing routes that nobody has asked for since the start.
    pub fn sweep(&self) {
        self.mailbox.sweep();
    }

    /// Whether the task has ended, which it never should.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

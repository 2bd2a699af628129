//! BFD beside the speaker: the UDP of `bgpd-core`'s sessions, on a thread of its own.
//!
//! The owner loop says which neighbours are to be watched and is told when one is gone; what that means to BGP is
//! decided there. A thread of its own, because a table of a million routes may keep the owner busy for longer than a
//! neighbour waits for a packet. It is started with the first neighbour and ends with [`Bfd`]. Packets of a neighbour
//! one hop away are taken with a TTL of 255 only (RFC 5881 §5).

mod sockets;
mod task;

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_bgpd_core::bfd::{Settings, Status};
use tokio::sync::{mpsc, watch};

/// Reports waiting for the owner.
const REPORTS_MAX: usize = 64;

/// A neighbour to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Name of its BGP session.
    pub peer: String,
    /// Its address.
    pub address: IpAddr,
    /// Own address; `None` leaves it to the kernel.
    pub local: Option<IpAddr>,
    /// Intervals and distance.
    pub settings: Settings,
}

/// What the owner is told.
#[derive(Debug)]
pub enum Report {
    /// A neighbour that was up is gone. Being switched off by its operator is not told.
    Down {
        /// Name of its BGP session.
        peer: String,
        /// How it was noticed.
        reason: String,
    },
    /// The sessions by the names of the BGP sessions.
    Status(BTreeMap<String, Status>),
}

/// The owner's end. Dropping it says to all neighbours that they are switched off here.
#[derive(Debug)]
pub struct Bfd {
    wanted: watch::Sender<Vec<Wanted>>,
    reports: mpsc::Sender<Report>,
    is_running: bool,
    seed: u64,
}

impl Bfd {
    /// Nothing to watch yet, and the stream of reports.
    #[must_use]
    pub fn new(seed: u64) -> (Self, mpsc::Receiver<Report>) {
        let (reports, receiver) = mpsc::channel(REPORTS_MAX);
        let bfd = Self {
            wanted: watch::Sender::new(Vec::new()),
            reports,
            is_running: false,
            seed,
        };
        (bfd, receiver)
    }

    /// Watches exactly these. Sessions that stay are not disturbed.
    pub fn set(&mut self, wanted: Vec<Wanted>) {
        if !self.is_running && !wanted.is_empty() {
            let (orders, reports, seed) = (self.wanted.subscribe(), self.reports.clone(), self.seed);
            // A thread has the network namespace of the one that starts it.
            let thread = std::thread::Builder::new().name("bfd".to_owned());
            match thread.spawn(move || task::run_thread(orders, reports, seed)) {
                Ok(_) => self.is_running = true,
                Err(error) => {
                    tracing::error!(error = %error, "BFD cannot run; hold timers have to notice lost peers");
                    return;
                }
            }
        }
        self.wanted.send_if_modified(|current| {
            let is_new = *current != wanted;
            *current = wanted;
            is_new
        });
    }
}

//! The thread's loop: orders, packets and time into the sessions, packets and reports out of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use caracal_bgpd_core::bfd::{Output, Packet, Session, State, Status};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{mpsc, watch};

use super::sockets::{Datagram, Port, Receiver, Sender};
use super::{Report, Wanted};

/// Datagrams waiting for the loop.
const DATAGRAMS_MAX: usize = 256;
/// Interval of status reports, and of trying again what failed.
const TICK: Duration = Duration::from_secs(2);

/// A neighbour.
#[derive(Debug)]
struct Neighbor {
    wanted: Wanted,
    session: Session,
    sender: Option<Sender>,
    /// Why it cannot work.
    problem: Option<String>,
}

#[derive(Debug)]
struct Task {
    neighbors: BTreeMap<String, Neighbor>,
    receivers: BTreeMap<Port, Receiver>,
    datagrams: mpsc::Sender<Datagram>,
    reports: mpsc::Sender<Report>,
    /// Neighbours that are gone, which the owner has not been told yet: one entry each.
    gone: VecDeque<(String, String)>,
    rng: SmallRng,
    tick_at: Instant,
}

/// Runs until the owner's end is dropped.
pub(super) fn run_thread(orders: watch::Receiver<Vec<Wanted>>, reports: mpsc::Sender<Report>, seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(orders, reports, seed)),
        Err(error) => {
            tracing::error!(error = %error, "BFD cannot run; hold timers have to notice lost peers")
        }
    }
}

async fn run(mut orders: watch::Receiver<Vec<Wanted>>, reports: mpsc::Sender<Report>, seed: u64) {
    let (datagrams, mut received) = mpsc::channel(DATAGRAMS_MAX);
    let mut task = Task {
        neighbors: BTreeMap::new(),
        receivers: BTreeMap::new(),
        datagrams,
        reports,
        gone: VecDeque::new(),
        rng: SmallRng::seed_from_u64(seed),
        tick_at: Instant::now(),
    };
    let first = orders.borrow_and_update().clone();
    task.set(first);
    loop {
        let deadline = task.deadline();
        tokio::select! {
            changed = orders.changed() => {
                if changed.is_err() {
                    task.shut_down();
                    return;
                }
                let wanted = orders.borrow_and_update().clone();
                task.set(wanted);
            }
            Some(datagram) = received.recv() => task.take(&datagram),
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
        task.on_time();
    }
}

impl Task {
    fn deadline(&self) -> Instant {
        let sessions = self.neighbors.values();
        let next = sessions
            .filter_map(|neighbor| neighbor.session.poll_timeout())
            .min();
        next.map_or(self.tick_at, |at| at.min(self.tick_at))
    }

    /// Watches exactly these.
    fn set(&mut self, wanted: Vec<Wanted>) {
        let now = Instant::now();
        let mut before = std::mem::take(&mut self.neighbors);
        for wanted in wanted {
            let is_same = |old: &Neighbor| {
                let end = |wanted: &Wanted| (wanted.address, wanted.local, wanted.settings.mode);
                end(&old.wanted) == end(&wanted)
            };
            let kept = before.remove(&wanted.peer);
            let neighbor = match kept {
                Some(mut old) if is_same(&old) => {
                    old.session.set_settings(now, wanted.settings);
                    old.wanted = wanted;
                    old
                }
                other => {
                    other.into_iter().for_each(|mut old| old.end(now));
                    self.neighbor(wanted, now)
                }
            };
            self.neighbors.insert(neighbor.wanted.peer.clone(), neighbor);
        }
        before.values_mut().for_each(|old| old.end(now));
        self.open_sockets();
        self.tick_at = now;
    }

    fn neighbor(&mut self, wanted: Wanted, now: Instant) -> Neighbor {
        let discriminator = loop {
            let number = self.rng.random_range(1..=u32::MAX);
            let is_used = |neighbor: &Neighbor| neighbor.session.discriminator() == number;
            if !self.neighbors.values().any(is_used) {
                break number;
            }
        };
        Neighbor {
            session: Session::new(wanted.settings, discriminator, self.rng.random(), now),
            wanted,
            sender: None,
            problem: None,
        }
    }

    /// Opens what is lacking and closes what nobody needs.
    fn open_sockets(&mut self) {
        let ports: BTreeSet<Port> = self
            .neighbors
            .values()
            .map(|neighbor| Port::of(&neighbor.wanted))
            .collect();
        self.receivers.retain(|port, _| ports.contains(port));
        let mut failed = BTreeMap::new();
        for port in ports {
            if self.receivers.contains_key(&port) {
                continue;
            }
            match Receiver::open(port, self.datagrams.clone()) {
                Ok(receiver) => drop(self.receivers.insert(port, receiver)),
                Err(error) => {
                    let reason = format!(
                        "UDP port {}: {error}; stop another BFD daemon on this host, or set failureDetectionMode to None",
                        port.number
                    );
                    failed.insert(port, reason);
                }
            }
        }
        for neighbor in self.neighbors.values_mut() {
            let mut problem = failed.get(&Port::of(&neighbor.wanted)).cloned();
            if neighbor.sender.is_none() {
                match Sender::open(&neighbor.wanted, &mut self.rng) {
                    Ok(sender) => neighbor.sender = Some(sender),
                    Err(error) => problem = Some(format!("no socket to send from: {error}")),
                }
            }
            if problem.is_some() && neighbor.problem != problem {
                tracing::warn!(
                    peer = neighbor.wanted.peer,
                    reason = problem,
                    "BFD cannot watch a peer"
                );
            }
            neighbor.problem = problem;
        }
    }

    fn take(&mut self, datagram: &Datagram) {
        let Ok(packet) = Packet::parse(&datagram.bytes) else {
            return;
        };
        let is_for = |neighbor: &&mut Neighbor| {
            let named = packet.your_discriminator;
            Port::of(&neighbor.wanted) == datagram.port
                && neighbor.wanted.address == datagram.source
                && (named == 0 || named == neighbor.session.discriminator())
        };
        let now = Instant::now();
        if let Some(neighbor) = self.neighbors.values_mut().find(is_for) {
            neighbor.session.handle_packet(now, &packet);
            drain(neighbor, &mut self.gone);
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        for neighbor in self.neighbors.values_mut() {
            if neighbor.session.poll_timeout().is_some_and(|at| at <= now) {
                neighbor.session.handle_timeout(now);
            }
            drain(neighbor, &mut self.gone);
        }
        while let Some((peer, reason)) = self.gone.pop_front() {
            let report = Report::Down {
                peer: peer.clone(),
                reason: reason.clone(),
            };
            // The next packet or tick tries again.
            if let Err(mpsc::error::TrySendError::Full(_)) = self.reports.try_send(report) {
                self.gone.push_front((peer, reason));
                break;
            }
            self.tick_at = now;
        }
        if now >= self.tick_at {
            self.tick_at = now + TICK;
            self.open_sockets();
            // A later one says the same.
            let _ = self.reports.try_send(Report::Status(self.status(now)));
        }
    }

    fn status(&self, now: Instant) -> BTreeMap<String, Status> {
        let status = |neighbor: &Neighbor| Status {
            problem: neighbor.problem.clone(),
            ..neighbor.session.status(now)
        };
        let neighbors = self.neighbors.iter();
        neighbors
            .map(|(peer, neighbor)| (peer.clone(), status(neighbor)))
            .collect()
    }

    fn shut_down(&mut self) {
        let now = Instant::now();
        self.neighbors.values_mut().for_each(|neighbor| neighbor.end(now));
    }
}

impl Neighbor {
    /// Tells the other end that it is switched off here, so that it does not count as a failure.
    fn end(&mut self, now: Instant) {
        self.session.shut_down(now);
        drain(self, &mut VecDeque::new());
    }
}

/// Sends what a session wants sent, and notes when its neighbour is gone.
fn drain(neighbor: &mut Neighbor, gone: &mut VecDeque<(String, String)>) {
    while let Some(output) = neighbor.session.poll_output() {
        match output {
            Output::Send(packet) => {
                let result = neighbor.sender.as_ref().map(|sender| sender.send(&packet));
                if let Some(Err(error)) = result {
                    tracing::trace!(peer = neighbor.wanted.peer, error = %error, "BFD packet not sent");
                }
            }
            Output::Changed {
                from,
                to,
                is_administrative,
            } => {
                let peer = &neighbor.wanted.peer;
                tracing::info!(peer, state = ?to, administrative = is_administrative, "BFD session changed");
                if from == State::Up && !is_administrative {
                    let status = neighbor.session.status(Instant::now());
                    let reason = format!("{:?}", status.diagnostic);
                    gone.retain(|(known, _)| known != peer);
                    gone.push_back((peer.clone(), reason));
                }
            }
        }
    }
}

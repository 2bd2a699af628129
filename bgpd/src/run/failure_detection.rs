//! Which peers BFD watches, and what its reports do: a lost neighbour ends the BGP session at once (RFC 5882 §4.3).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use caracal_bgpd_core::bfd::{Diagnostic, Mode, State, Status};
use caracal_bgpd_core::config::Peer;
use caracal_bgpd_core::input::{Command, Resolution};
use caracal_bgpd_core::snapshot::SpeakerStatus;
use caracal_bgpd_core::{Config, Input};

use super::Owner;
use crate::bfd::{self, Bfd, Wanted};

/// What is known about BFD in the owner loop.
#[derive(Debug)]
pub(super) struct FailureDetection {
    bfd: Bfd,
    /// Peers with BFD, by name.
    peers: BTreeMap<String, Peer>,
    /// Peers' addresses whose distance matters, with what is known of it: whether they are on a connected network.
    distances: BTreeMap<IpAddr, Option<bool>>,
    /// What the speaker has watched in the kernel: one watch serves both.
    next_hops: BTreeSet<IpAddr>,
    statuses: BTreeMap<String, Status>,
}

/// Addresses whose way is to be watched from now on, or no more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Watches {
    pub(super) begin: BTreeSet<IpAddr>,
    pub(super) end: BTreeSet<IpAddr>,
}

impl FailureDetection {
    pub(super) fn new(bfd: Bfd) -> Self {
        Self {
            bfd,
            peers: BTreeMap::new(),
            distances: BTreeMap::new(),
            next_hops: BTreeSet::new(),
            statuses: BTreeMap::new(),
        }
    }

    /// Takes a new configuration.
    pub(super) fn configure(&mut self, config: &Config) -> Watches {
        let peers = config.peers.iter();
        self.peers = peers
            .filter(|peer| peer.bfd.is_some() && !peer.shutdown)
            .map(|peer| (peer.name.clone(), peer.clone()))
            .collect();
        let of_matter = |peer: &&Peer| peer.bfd.is_some_and(|bfd| bfd.mode == Mode::IfDirect);
        let wanted: BTreeSet<IpAddr> = self
            .peers
            .values()
            .filter(of_matter)
            .map(|peer| peer.address)
            .collect();
        let before: BTreeSet<IpAddr> = self.distances.keys().copied().collect();
        let watches = Watches {
            begin: wanted.difference(&before).copied().collect(),
            end: before
                .difference(&wanted)
                .filter(|address| !self.next_hops.contains(*address))
                .copied()
                .collect(),
        };
        self.distances.retain(|address, _| wanted.contains(address));
        self.distances
            .extend(watches.begin.iter().map(|address| (*address, None)));
        self.order();
        watches
    }

    /// Notes that the speaker wants the way to an address watched.
    pub(super) fn speaker_watches(&mut self, address: IpAddr) {
        self.next_hops.insert(address);
    }

    /// Notes that it does not any more, and returns whether nobody does.
    pub(super) fn speaker_unwatches(&mut self, address: IpAddr) -> bool {
        self.next_hops.remove(&address);
        !self.distances.contains_key(&address)
    }

    /// Takes what the kernel says about the way to an address.
    pub(super) fn on_way(&mut self, address: IpAddr, way: Option<&Resolution>) {
        if let Some(known) = self.distances.get_mut(&address) {
            // A way that is gone for a moment says nothing about the distance: BFD itself will notice.
            if let Some(way) = way {
                *known = Some(way.gateway.is_none());
            }
            self.order();
        }
    }

    fn order(&mut self) {
        let is_watched = |peer: &&Peer| {
            let distance = self.distances.get(&peer.address);
            distance.is_none_or(|is_direct| *is_direct == Some(true))
        };
        let wanted = |peer: &Peer| {
            Some(Wanted {
                peer: peer.name.clone(),
                address: peer.address,
                local: peer.local_address,
                settings: peer.bfd?,
            })
        };
        let peers = self.peers.values().filter(is_watched);
        self.bfd.set(peers.filter_map(wanted).collect());
    }

    pub(super) fn on_status(&mut self, statuses: BTreeMap<String, Status>) {
        self.statuses = statuses;
    }

    /// Puts BFD's part into the status of the peers.
    pub(super) fn add_to(&self, status: &mut SpeakerStatus) {
        for peer in &mut status.peers {
            peer.bfd = self.status_of(&peer.name);
        }
    }

    fn status_of(&self, name: &str) -> Option<Status> {
        let peer = self.peers.get(name)?;
        let known = self.statuses.get(name).cloned();
        let problem = match self.distances.get(&peer.address) {
            Some(Some(false)) => "the peer is not on a connected network, so there is no BFD with it",
            Some(None) => "there is no way to the peer yet",
            Some(Some(true)) | None => "BFD begins",
        };
        Some(known.unwrap_or(Status {
            state: State::Down,
            remote_state: State::Down,
            state_seconds: 0,
            diagnostic: Diagnostic::None,
            transmit_millis: 0,
            detect_millis: 0,
            up_count: 0,
            down_count: 0,
            packets_in: 0,
            packets_out: 0,
            problem: Some(problem.to_owned()),
        }))
    }

    /// Sessions of BFD by whether they are up.
    pub(super) fn counts(&self) -> [usize; 2] {
        let up = self
            .statuses
            .values()
            .filter(|status| status.state == State::Up)
            .count();
        [up, self.peers.len() - up.min(self.peers.len())]
    }

    /// Says to all neighbours that BFD is switched off here, so that they keep the routes of a speaker that restarts.
    pub(super) fn shut_down(&mut self) {
        self.bfd.set(Vec::new());
    }
}

impl Owner {
    /// BFD's neighbours follow the configuration, and the ways that decide which of them are near.
    pub(super) fn configure_detection(&mut self, config: &Config) {
        let watches = self.detection.configure(config);
        for address in watches.begin {
            self.kernel.watch(address);
        }
        for address in watches.end {
            self.kernel.unwatch(address);
        }
    }

    pub(super) fn on_detection(&mut self, report: bfd::Report) {
        match report {
            bfd::Report::Down { peer, reason } => {
                self.metrics.bfd_lost.inc();
                tracing::warn!(peer, reason, "BFD: the peer is gone");
                let command = Command::BfdDown;
                self.input(Input::Command { peer, command });
            }
            bfd::Report::Status(statuses) => self.detection.on_status(statuses),
        }
    }

    /// The speaker's status with what is known beside it.
    pub(super) fn status(&self, now: Instant) -> SpeakerStatus {
        let mut status = self.speaker.status(now);
        self.detection.add_to(&mut status);
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_bgpd_core::bfd::Settings;

    fn config(mode: Mode) -> Config {
        let mut config = Config::new(65000, [10, 0, 0, 1].into());
        let mut peer = Peer::new("tor", [127, 0, 0, 1].into(), 65001);
        peer.bfd = Some(Settings {
            mode,
            ..Settings::default()
        });
        config.peers.push(peer);
        config
    }

    fn way(gateway: Option<IpAddr>) -> Resolution {
        Resolution {
            metric: 0,
            gateway,
            interface: None,
        }
    }

    #[test]
    fn only_direct_peers_are_watched_where_that_is_asked_for() {
        let (bfd, _reports) = Bfd::new(1);
        let mut detection = FailureDetection::new(bfd);
        let address: IpAddr = [127, 0, 0, 1].into();
        let watches = detection.configure(&config(Mode::IfDirect));
        assert_eq!(watches.begin, [address].into());
        detection.speaker_watches(address);
        assert!(!detection.speaker_unwatches(address));
        let problem = |detection: &FailureDetection| detection.status_of("tor").unwrap().problem.unwrap();
        assert_eq!(problem(&detection), "there is no way to the peer yet");
        detection.on_way(address, Some(&way(Some([10, 0, 0, 9].into()))));
        assert!(problem(&detection).contains("not on a connected network"));
        detection.on_way(address, None);
        assert!(problem(&detection).contains("not on a connected network"));
        let watches = detection.configure(&config(Mode::SingleHop));
        assert_eq!(watches.end, [address].into());
        assert_eq!(
            detection.configure(&Config::new(65000, [10, 0, 0, 1].into())),
            Watches::default()
        );
        assert_eq!(detection.status_of("tor"), None);
    }
}

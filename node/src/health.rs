//! Whether this node forwards, from what its daemons say of themselves. Pure.
//!
//! A node forwards when its policy and routes are in the kernel and, where BGP carries routes, at least one peer
//! exchanges them (or keeps them while it restarts). A peer that is away degrades a node; it does not make it useless,
//! so it does not make it unready.

use crate::probe::{Peer, Speaker};

/// Peers named in one text.
const PEERS_NAMED_MAX: usize = 3;

/// What the daemons said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observed {
    /// The start-up steps; `Err` says which is not done, and why.
    pub startup: Result<(), String>,
    /// felix's liveness.
    pub felix_live: Result<(), String>,
    /// felix's readiness.
    pub felix_ready: Result<(), String>,
    /// bgpd, when this node has one.
    pub bgpd: Option<Bgpd>,
}

/// What bgpd said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bgpd {
    /// Its liveness.
    pub live: Result<(), String>,
    /// Its readiness.
    pub ready: Result<(), String>,
    /// Its sessions.
    pub speaker: Result<Speaker, String>,
}

/// What follows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Why this node does not do its work; empty if it does.
    pub obstacles: Vec<String>,
    /// Every peer is away: pods of this node reach each other only. The reason may be that the others are gone, so this
    /// alone does not keep pods away from the node that is left.
    pub isolated: Option<String>,
    /// What is wrong beside that.
    pub degraded: Vec<String>,
    /// Peers that exchange routes, and all.
    pub peers: (usize, usize),
}

impl Verdict {
    /// This node forwards.
    #[must_use]
    pub const fn forwards(&self) -> bool {
        self.obstacles.is_empty() && self.isolated.is_none()
    }

    /// Why it does not.
    #[must_use]
    pub fn reasons(&self) -> Vec<&str> {
        let all = self.obstacles.iter().chain(&self.isolated);
        all.map(String::as_str).collect()
    }
}

/// Judges.
#[must_use]
pub fn judge(observed: &Observed) -> Verdict {
    let mut verdict = Verdict::default();
    let mut obstacle = |who: &str, said: &Result<(), String>| {
        if let Err(why) = said {
            verdict.obstacles.push(format!("{who}: {why}"));
        }
    };
    obstacle("start-up", &observed.startup);
    obstacle("felix", &observed.felix_ready);
    if let Some(bgpd) = &observed.bgpd {
        obstacle("bgpd", &bgpd.ready);
        if bgpd.ready.is_ok() {
            peers(bgpd, &mut verdict);
        }
    }
    verdict
}

fn peers(bgpd: &Bgpd, verdict: &mut Verdict) {
    let speaker = match &bgpd.speaker {
        Ok(speaker) => speaker,
        Err(why) => {
            verdict.degraded.push(format!("sessions are not known: {why}"));
            return;
        }
    };
    let down: Vec<&Peer> = speaker.peers.iter().filter(|peer| !peer.is_up()).collect();
    verdict.peers = (speaker.peers.len() - down.len(), speaker.peers.len());
    if down.is_empty() {
        return;
    }
    let text = told(&down, speaker.peers.len());
    if down.len() == speaker.peers.len() {
        verdict.isolated = Some(text);
    } else {
        verdict.degraded.push(text);
    }
}

/// `2 of 5 BGP peers are down: tor2a 10.1.2.1 (Active, hold timer expired), ...`
fn told(down: &[&Peer], all: usize) -> String {
    let named: Vec<String> = down
        .iter()
        .take(PEERS_NAMED_MAX)
        .map(|peer| match &peer.last_error {
            Some(error) => format!("{} {} ({}, {error})", peer.name, peer.address, peer.state),
            None => format!("{} {} ({})", peer.name, peer.address, peer.state),
        })
        .collect();
    let more = match down.len().saturating_sub(PEERS_NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{} of {all} BGP peers are down: {}{more}",
        down.len(),
        named.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8, state: &str) -> Peer {
        Peer {
            name: format!("p{number}"),
            address: [10, 0, 0, number].into(),
            state: state.to_owned(),
            routes_stale: false,
            passive: false,
            last_error: (state == "Active").then(|| "no route to host".to_owned()),
        }
    }

    fn observed(peers: Vec<Peer>) -> Observed {
        Observed {
            startup: Ok(()),
            felix_live: Ok(()),
            felix_ready: Ok(()),
            bgpd: Some(Bgpd {
                live: Ok(()),
                ready: Ok(()),
                speaker: Ok(Speaker {
                    restarting: false,
                    peers,
                }),
            }),
        }
    }

    #[test]
    fn one_dead_peer_degrades_and_all_dead_peers_isolate() {
        let verdict = judge(&observed(vec![]));
        assert!(
            verdict.forwards() && verdict.degraded.is_empty(),
            "a node alone has nobody to talk to"
        );
        let mut five: Vec<Peer> = (1..=5).map(|number| peer(number, "Established")).collect();
        five[1] = peer(2, "Active");
        let verdict = judge(&observed(five.clone()));
        assert!(verdict.forwards());
        assert_eq!(
            verdict.degraded,
            ["1 of 5 BGP peers are down: p2 10.0.0.2 (Active, no route to host)"]
        );
        assert_eq!(verdict.peers, (4, 5));
        for peer in &mut five {
            peer.state = "Connect".to_owned();
        }
        let verdict = judge(&observed(five.clone()));
        assert!(!verdict.forwards());
        assert!(verdict.obstacles.is_empty());
        assert!(verdict.reasons()[0].ends_with("and 2 more"), "{verdict:?}");
        five[4].routes_stale = true;
        assert!(
            judge(&observed(five)).forwards(),
            "a peer that restarts keeps its routes"
        );
    }

    #[test]
    fn every_obstacle_is_told() {
        let mut all = observed(vec![peer(1, "Active")]);
        all.startup = Err("no IPv4 address".to_owned());
        all.felix_ready = Err("not in sync".to_owned());
        let bgpd = all.bgpd.as_mut().unwrap();
        bgpd.ready = Err("nothing listens on 127.0.0.1:9098".to_owned());
        assert_eq!(
            judge(&all).obstacles,
            [
                "start-up: no IPv4 address",
                "felix: not in sync",
                "bgpd: nothing listens on 127.0.0.1:9098"
            ],
            "sessions of a bgpd that is not there are no news"
        );
        all.bgpd = None;
        assert_eq!(judge(&all).obstacles.len(), 2, "without BGP no peers are missed");
    }

    #[test]
    fn unknown_sessions_are_no_obstacle() {
        let mut all = observed(vec![]);
        all.bgpd.as_mut().unwrap().speaker = Err("no such file".to_owned());
        let verdict = judge(&all);
        assert!(verdict.forwards());
        assert_eq!(verdict.degraded, ["sessions are not known: no such file"]);
    }
}

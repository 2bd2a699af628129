//! Peers from a range of addresses.

use caracal_bgpd_core::config::{AsRange, Config, Peer};
use caracal_bgpd_core::snapshot::SessionState;

use super::net::{Net, address, config, originate};

const CLIENTS: usize = 20;

/// Node 0 takes clients from 10.0.0.0/24; the others dial it.
fn hub(local_as: impl Fn(usize) -> u32) -> Vec<Config> {
    let mut configs: Vec<Config> = (0..=CLIENTS)
        .map(|index| config(index, local_as(index)))
        .collect();
    let mut clients = Peer::new("clients", "0.0.0.0".parse().unwrap(), local_as(1));
    clients.listen_range = Some("10.0.0.0/24".parse().unwrap());
    configs[0].peers = vec![clients];
    for (index, config) in configs.iter_mut().enumerate().skip(1) {
        config.peers = vec![Peer::new("hub", address(0).into(), local_as(0))];
        config.routes = vec![originate(&format!("10.1.{index}.0/24"))];
    }
    configs
}

fn up(net: &mut Net) -> usize {
    let now = net.now;
    let peers = net.speaker(0).status(now).peers;
    peers
        .iter()
        .filter(|peer| peer.state == SessionState::Established)
        .count()
}

#[test]
fn clients_come_without_being_named_and_are_forgotten_when_they_go() {
    let mut configs = hub(|_| 64512);
    configs[0].peers[0].reflector_client = Some(address(0));
    let mut net = Net::new(configs);
    net.pass(10);
    assert_eq!(up(&mut net), CLIENTS);
    assert_eq!(net.nodes[0].kernel.len(), CLIENTS);
    // Reflected to each other.
    assert_eq!(net.nodes[5].kernel.len(), CLIENTS - 1);
    let now = net.now;
    let status = net.speaker(0).status(now).peers;
    assert_eq!(status[0].listen_range.as_deref(), Some("clients"));
    assert!(
        status.iter().any(|peer| peer.name == "clients@10.0.0.6"),
        "{status:?}"
    );
    net.kill(5);
    net.pump();
    assert_eq!(net.nodes[0].kernel.len(), CLIENTS, "kept for its restart time");
    net.pass(200);
    assert_eq!(net.nodes[0].kernel.len(), CLIENTS - 1);
    let now = net.now;
    assert_eq!(net.speaker(0).status(now).peers.len(), CLIENTS - 1);
    net.start(5, false);
    net.pump();
    net.pass(5);
    assert_eq!(up(&mut net), CLIENTS);
}

#[test]
fn a_limit_holds_and_says_so() {
    let mut configs = hub(|_| 64512);
    configs[0].peers[0].listen_limit = 7;
    let mut net = Net::new(configs);
    net.pass(60);
    assert_eq!(up(&mut net), 7);
    let errors = net.errors(0).join("; ");
    assert!(
        errors.contains("peer clients has 7 peers from its listenRange; raise listenLimit"),
        "{errors}"
    );
    // More room is no reason to end what is up.
    net.configure(0, |config| config.peers[0].listen_limit = 100);
    net.pass(60);
    assert_eq!(up(&mut net), CLIENTS);
    let now = net.now;
    assert!(
        net.speaker(0)
            .status(now)
            .peers
            .iter()
            .all(|peer| peer.established_count == 1)
    );
}

#[test]
fn as_numbers_may_be_left_open_within_ranges() {
    let number = |index: usize| 64600 + u32::try_from(index).unwrap();
    let mut configs = hub(number);
    configs[0].peers[0].remote_as = 0;
    configs[0].peers[0].remote_as_ranges = vec![AsRange {
        min: 64600,
        max: 64610,
    }];
    let mut net = Net::new(configs);
    net.pass(60);
    assert_eq!(up(&mut net), 10);
    let errors = net.errors(0).join("; ");
    assert!(
        errors.contains("the peer is AS 64615, which is in none of remoteAsRanges"),
        "{errors}"
    );
    assert_eq!(net.best(0, "10.1.3.0/24").unwrap().as_path, "64603");
}

#[test]
fn a_range_that_goes_takes_its_peers_along() {
    let mut net = Net::new(hub(|_| 64512));
    net.pass(10);
    net.configure(0, |config| config.peers.clear());
    assert_eq!(up(&mut net), 0);
    assert!(net.nodes[0].kernel.is_empty());
    assert!(net.nodes[0].watched.is_empty());
}

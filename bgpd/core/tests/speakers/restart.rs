//! Graceful restart in both roles (RFC 4724).

use caracal_bgpd_core::config::Config;
use caracal_bgpd_core::output::Event;
use caracal_bgpd_core::{Input, Speaker};

use super::net::{Net, config, join, name, originate, prefix};

/// One node in the middle of two others, each with a route.
fn star() -> Vec<Config> {
    let mut configs = vec![config(0, 64512), config(1, 64601), config(2, 64602)];
    join(&mut configs, 0, 1);
    join(&mut configs, 0, 2);
    for (index, config) in configs.iter_mut().enumerate() {
        config.routes = vec![originate(&format!("10.{index}.0.0/16"))];
    }
    configs
}

fn removals(net: &Net, index: usize) -> usize {
    net.nodes[index]
        .changes
        .iter()
        .filter(|delta| delta.route.is_none())
        .count()
}

#[test]
fn killed_speaker_comes_back_without_a_route_going_anywhere() {
    let mut net = Net::new(star());
    net.pass(1);
    for index in 0..3 {
        assert_eq!(net.nodes[index].kernel.len(), 2);
        net.nodes[index].changes.clear();
        net.nodes[index].events.clear();
    }
    net.kill(0);
    net.pump();
    let down = Event::PeerDown {
        peer: name(0),
        reason: "connection lost: closed by the peer".to_owned(),
        routes_kept: true,
    };
    assert_eq!(net.nodes[1].events, [down]);
    net.pass(60);
    assert!(net.status(1, 0).routes_stale);
    net.start(0, true);
    net.pump();
    net.pass(10);
    assert!(net.is_up(0, 1) && net.is_up(0, 2));
    for index in 0..3 {
        assert_eq!(removals(&net, index), 0, "{:?}", net.nodes[index].changes);
        assert_eq!(net.nodes[index].kernel.len(), 2);
    }
    assert!(!net.status(1, 0).routes_stale);
    let complete = Event::RestartComplete { missing: Vec::new() };
    assert_eq!(
        net.nodes[0]
            .events
            .iter()
            .filter(|event| **event == complete)
            .count(),
        1
    );
    // Peers whose routes did not change did not touch their kernel.
    assert!(net.nodes[1].changes.is_empty(), "{:?}", net.nodes[1].changes);
}

#[test]
fn route_that_is_not_sent_again_goes_at_end_of_rib() {
    let mut net = Net::new(star());
    net.pass(1);
    net.kill(0);
    net.pump();
    net.nodes[0].config.routes.clear();
    net.start(0, true);
    net.pump();
    net.pass(10);
    assert!(!net.nodes[1].kernel.contains_key(&prefix("10.0.0.0/16")));
    assert!(net.nodes[1].kernel.contains_key(&prefix("10.2.0.0/16")));
}

#[test]
fn stale_routes_go_at_the_restart_time() {
    let mut net = Net::new(star());
    net.pass(1);
    net.kill(0);
    net.pump();
    net.pass(119);
    assert_eq!(net.nodes[1].kernel.len(), 2);
    net.pass(2);
    assert!(net.nodes[1].kernel.is_empty());
    assert!(!net.status(1, 0).routes_stale);
}

#[test]
fn without_graceful_restart_routes_go_with_the_session() {
    let mut configs = star();
    configs[0].peers[0].graceful_restart_seconds = 0;
    let mut net = Net::new(configs);
    net.pass(1);
    net.kill(0);
    net.pump();
    assert!(net.nodes[1].kernel.is_empty());
    assert_eq!(net.nodes[2].kernel.len(), 2);
}

// RFC 4724 §4.1: nothing is decided, and nobody told, before the last has spoken or the time is up.
#[test]
fn restarting_speaker_waits_for_all_peers_or_the_deferral_timer() {
    let mut net = Net::new(star());
    net.pass(1);
    net.kill(0);
    net.kill(2);
    net.pump();
    net.nodes[0].changes.clear();
    net.start(0, true);
    net.pump();
    net.pass(100);
    assert!(net.is_up(0, 1));
    assert!(net.nodes[0].changes.is_empty());
    assert!(net.speaker(0).poll_timeout().is_some());
    net.pass(21);
    let complete = Event::RestartComplete {
        missing: vec![name(2)],
    };
    assert_eq!(net.nodes[0].events.last(), Some(&complete));
    assert_eq!(net.nodes[0].changes.len(), 1);
}

// RFC 4724 §4.1: two that restart at once do not wait for each other.
#[test]
fn two_restarting_speakers_do_not_wait_for_each_other() {
    let mut net = Net::new(star());
    net.pass(1);
    net.kill(0);
    net.kill(1);
    net.pump();
    net.start(0, true);
    net.start(1, true);
    net.pump();
    net.pass(15);
    for index in 0..2 {
        let complete = Event::RestartComplete { missing: Vec::new() };
        assert!(
            net.nodes[index].events.contains(&complete),
            "{:?}",
            net.nodes[index].events
        );
    }
}

// RFC 4724 §5: without a NOTIFICATION.
#[test]
fn graceful_shutdown_leaves_the_routes() {
    let mut net = Net::new(star());
    net.pass(1);
    net.input(
        0,
        Input::Shutdown {
            graceful: true,
            message: "upgrade".to_owned(),
        },
    );
    assert_eq!(net.nodes[1].kernel.len(), 2);
    assert!(net.status(1, 0).routes_stale);
    assert_eq!(net.speaker(0).poll_timeout(), None);
}

#[test]
fn peer_that_connects_again_before_its_death_is_noticed_is_taken_back() {
    let mut net = Net::new(star());
    net.pass(1);
    net.nodes[1].changes.clear();
    // The host crashed: no FIN. Node 1 still believes in the session.
    net.nodes[0].speaker = None;
    net.start(0, true);
    net.pump();
    net.pass(10);
    assert!(net.is_up(0, 1) && net.is_up(0, 2));
    assert_eq!(removals(&net, 1), 0);
}

#[test]
fn restart_without_peers_is_complete_at_once() {
    let mut net = Net::new(vec![config(0, 64512)]);
    net.kill(0);
    net.start(0, true);
    net.pump();
    let complete = Event::RestartComplete { missing: Vec::new() };
    assert_eq!(net.nodes[0].events, [complete]);
    let fresh = Speaker::new(1, false, net.now);
    assert_eq!(fresh.poll_timeout(), None);
}

//! Peers, hosts and clocks that misbehave: each costs as little as it may, and says who, why and what to do.

use std::time::Duration;

use caracal_bgpd_core::Input;
use caracal_bgpd_core::config::{Config, Password};
use caracal_bgpd_core::input::ConnId;
use caracal_bgpd_core::snapshot::SessionState;

use super::net::{Net, address, config, join, originate, peer};

/// Node 0 with two peers; the second is the one that must not be hurt.
fn star() -> Vec<Config> {
    let mut configs = vec![config(0, 64512), config(1, 64601), config(2, 64602)];
    join(&mut configs, 0, 1);
    join(&mut configs, 0, 2);
    configs[1].routes = vec![originate("10.1.0.0/16")];
    configs[2].routes = vec![originate("10.2.0.0/16")];
    configs
}

#[test]
fn a_peer_that_flaps_every_second_is_damped_and_hurts_nobody() {
    let mut net = Net::new(star());
    net.pass(1);
    net.nodes[2].changes.clear();
    for _ in 0..300 {
        net.cut(0, 1);
        net.pump();
        net.pass(1);
    }
    let flaps = net.status(0, 1).established_count;
    assert!((5..40).contains(&flaps), "{flaps}");
    let errors = net.errors(0).join("; ");
    assert!(
        errors.contains("damped: ") && errors.contains("look at the link"),
        "{errors}"
    );
    assert!(net.status(0, 1).last_error.is_some());
    assert_eq!(net.status(0, 2).established_count, 1);
    // It settles, and is believed again.
    net.pass(120);
    assert!(net.is_up(0, 1));
    net.cut(0, 1);
    net.pump();
    net.pass(2);
    assert!(net.is_up(0, 1), "one loss is no flapping");
}

#[test]
fn a_clock_that_jumps_costs_no_session() {
    let mut net = Net::new(star());
    net.pass(5);
    // The machine was suspended: nothing was read, no timer looked at, for an hour.
    net.now += Duration::from_secs(3600);
    for index in 0..3 {
        let now = net.now;
        net.speaker(index).handle_timeout(now);
    }
    net.pump();
    net.pass(300);
    for other in [1, 2] {
        assert!(net.is_up(0, other));
        assert_eq!(net.status(0, other).established_count, 1, "{:?}", net.errors(0));
    }
}

#[test]
fn a_peer_that_is_silent_after_a_standstill_is_dropped_all_the_same() {
    let mut net = Net::new(star());
    net.pass(5);
    net.nodes[1].speaker = None;
    net.now += Duration::from_secs(3600);
    let now = net.now;
    net.speaker(0).handle_timeout(now);
    net.pump();
    assert_eq!(net.status(0, 1).state, SessionState::Established);
    net.pass(6);
    assert_ne!(net.status(0, 1).state, SessionState::Established);
    assert!(net.is_up(0, 2));
}

// RFC 9687.
#[test]
fn a_peer_that_stops_reading_is_dropped_at_the_send_hold_time() {
    let mut configs = star();
    peer(&mut configs[0], 1).timers.send_hold_seconds = Some(100);
    let mut net = Net::new(configs);
    net.pass(1);
    // All connections of node 0, whichever they are; the other peer has the usual eight minutes.
    for number in 1..30 {
        for conn in [ConnId::Outbound(number), ConnId::Inbound(number)] {
            net.input(0, Input::SendBlocked { conn });
        }
    }
    net.pass(95);
    assert_eq!(net.status(0, 1).established_count, 1);
    net.pass(10);
    let errors = net.errors(0).join("; ");
    assert!(errors.contains("the peer does not read"), "{errors}");
    assert!(net.is_up(0, 2));
}

#[test]
fn two_million_prefixes_against_a_limit_cost_one_session() {
    let mut configs = star();
    peer(&mut configs[0], 1).prefix_limit = Some(1000);
    let mut net = Net::new(configs);
    net.pass(1);
    net.configure(1, |config| {
        config.routes = (0..40_000_u32)
            .map(|number| {
                originate(&format!(
                    "{}.{}.{}.0/24",
                    20 + number / 65536,
                    number / 256 % 256,
                    number % 256
                ))
            })
            .collect();
    });
    let told = |net: &Net| net.errors(0).join("; ");
    assert!(
        told(&net).contains("more than 1000 prefixes: raise prefixLimit"),
        "{}",
        told(&net)
    );
    assert_eq!(net.status(0, 1).prefixes_received, 0);
    assert!(net.is_up(0, 2) && net.nodes[0].kernel.len() == 1);
    // The peer dials again and again: fifty times those prefixes in all.
    for _ in 0..50 {
        net.pass(31);
        assert!(net.status(0, 1).prefixes_received <= 1001);
    }
    assert_eq!(net.status(0, 2).established_count, 1);
    assert!(
        net.status(0, 1)
            .last_error
            .unwrap()
            .contains("maximum number of prefixes")
            || told(&net).contains("prefixLimit")
    );
    // The limit is raised: no operator has to touch the session.
    net.configure(0, |config| peer(config, 1).prefix_limit = None);
    net.pass(60);
    assert!(net.is_up(0, 1));
    assert_eq!(net.status(0, 1).prefixes_received, 40_000);
}

#[test]
fn strangers_get_an_answer_each_and_leave_nothing_behind() {
    let mut net = Net::new(star());
    net.pass(1);
    let local = net.nodes[0].address;
    for number in 0..10_000_u64 {
        let peer = "192.0.2.1".parse().unwrap();
        let conn = ConnId::Inbound(1 << 40 | number);
        net.input(0, Input::Connected { conn, peer, local });
    }
    let now = net.now;
    assert_eq!(net.speaker(0).status(now).peers.len(), 2);
    assert!(net.is_up(0, 1) && net.is_up(0, 2));
    assert!(net.errors(0)[0].contains("no peer has this address"));
}

#[test]
fn a_peer_that_connects_again_and_again_leaves_nothing_behind() {
    let mut net = Net::new(star());
    net.pass(1);
    net.configure(0, |config| peer(config, 1).passive = true);
    net.kill(1);
    net.pump();
    let local = net.nodes[0].address;
    for number in 0..10_000_u64 {
        let peer = address(1).into();
        let conn = ConnId::Inbound(1 << 40 | number);
        net.input(0, Input::Connected { conn, peer, local });
    }
    assert!(net.is_up(0, 2));
    assert!(net.status(0, 1).counters.messages_out < 40_000);
    net.start(1, false);
    net.pump();
    net.pass(40);
    assert!(net.is_up(0, 1), "{:?}", net.status(0, 1));
}

#[test]
fn a_new_password_takes_the_place_of_the_old_one_without_a_reset() {
    let mut configs = star();
    peer(&mut configs[0], 1).password = Some(Password::new("old"));
    let mut net = Net::new(configs);
    net.pass(1);
    net.configure(0, |config| peer(config, 1).password = Some(Password::new("new")));
    net.pass(60);
    assert_eq!(net.status(1, 0).established_count, 1);
    // One where there was none is another matter: what is there has no key to change.
    net.configure(0, |config| peer(config, 1).password = None);
    net.pass(60);
    assert_eq!(net.status(1, 0).established_count, 2);
}

#[test]
fn thousands_of_changes_reset_nothing() {
    let mut net = Net::new(star());
    net.pass(1);
    for number in 0..2000_u32 {
        net.configure(0, |config| {
            let prefix = format!("10.9.{}.0/24", number % 200);
            let before = config.routes.len();
            config.routes.retain(|route| route.prefix.to_string() != prefix);
            if config.routes.len() == before {
                config.routes.push(originate(&prefix));
            }
        });
    }
    net.pass(60);
    for other in [1, 2] {
        assert_eq!(net.status(other, 0).established_count, 1);
        assert_eq!(net.nodes[other].kernel.len(), 1);
    }
}

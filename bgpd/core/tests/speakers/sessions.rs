//! Sessions: coming up, ending, refusing (RFC 4271 §6, §8).

use caracal_bgpd_core::Input;
use caracal_bgpd_core::config::Config;
use caracal_bgpd_core::input::ConnId;
use caracal_bgpd_core::output::Event;
use caracal_bgpd_core::snapshot::SessionState;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::net::{Net, config, join, name, peer};

pub(crate) fn pair(a: u32, b: u32) -> Vec<Config> {
    let mut configs = vec![config(0, a), config(1, b)];
    join(&mut configs, 0, 1);
    configs
}

// RFC 4271 §6.8: both sides dial at once.
#[test]
fn colliding_connections_leave_one_session() {
    let mut net = Net::new(pair(64512, 64512));
    net.pass(1);
    assert!(net.is_up(0, 1));
    for (a, b) in [(0, 1), (1, 0)] {
        let status = net.status(a, b);
        assert_eq!(status.established_count, 1, "{status:?}");
        assert_eq!(net.nodes[a].events, [Event::PeerUp { peer: name(b) }]);
        assert_eq!(status.hold_seconds, Some(90));
    }
    net.pass(600);
    assert!(net.is_up(0, 1));
    assert_eq!(net.status(0, 1).established_count, 1);
}

// RFC 4271 §6.8: whatever arrives first, one session is left, at once and on both sides.
#[test]
fn collisions_end_with_one_session_in_any_order_of_arrival() {
    for seed in 0..500 {
        let other = if seed % 2 == 0 { 64512 } else { 64601 };
        let mut net = Net::new(pair(64512, other));
        net.shuffle = Some(SmallRng::seed_from_u64(seed));
        net.kill(0);
        net.kill(1);
        net.pump();
        net.start(0, false);
        net.start(1, false);
        net.pump();
        net.pass(1);
        assert!(
            net.is_up(0, 1),
            "seed {seed}: {:?} {:?}",
            net.status(0, 1),
            net.status(1, 0)
        );
        net.pass(300);
        assert!(net.is_up(0, 1), "seed {seed}");
        let counts = [net.status(0, 1), net.status(1, 0)].map(|status| status.established_count);
        assert!(counts.iter().all(|count| *count <= 2), "seed {seed}: {counts:?}");
    }
}

#[test]
fn passive_side_waits_and_is_connected_to() {
    let mut configs = pair(64512, 64601);
    peer(&mut configs[0], 1).passive = true;
    let mut net = Net::new(configs);
    net.pass(1);
    assert!(net.is_up(0, 1));
}

#[test]
fn two_passive_sides_stay_active() {
    let mut configs = pair(64512, 64601);
    peer(&mut configs[0], 1).passive = true;
    peer(&mut configs[1], 0).passive = true;
    let mut net = Net::new(configs);
    net.pass(100);
    assert_eq!(net.status(0, 1).state, SessionState::Active);
}

// RFC 4271 §6.2, 2/2.
#[test]
fn wrong_as_is_refused_with_the_two_numbers() {
    let mut configs = pair(64512, 64601);
    peer(&mut configs[0], 1).remote_as = 64602;
    let mut net = Net::new(configs);
    net.pass(120);
    assert!(!net.is_up(0, 1));
    let errors = net.errors(0).join("; ");
    assert!(errors.contains("AS 64601 where remoteAs says 64602"), "{errors}");
    let heard = net.errors(1).join("; ");
    assert!(heard.contains("bad peer AS (2/2)"), "{heard}");
    // Backed off, not hammering: 5 to 30 seconds between attempts.
    assert!(net.errors(0).len() < 20, "{}", net.errors(0).len());
}

// RFC 6286 §2.1.
#[test]
fn same_identifier_is_refused_inside_the_as_only() {
    for (other, up) in [(64512, false), (64601, true)] {
        let mut configs = pair(64512, other);
        configs[1].router_id = configs[0].router_id;
        let mut net = Net::new(configs);
        net.pass(1);
        assert_eq!(net.is_up(0, 1), up);
        let refused = net
            .errors(0)
            .iter()
            .chain(&net.errors(1))
            .any(|text| text.contains("BGP identifier"));
        assert_eq!(refused, !up);
    }
}

// RFC 4271 §6.5, 4/0.
#[test]
fn silent_peer_is_dropped_at_the_hold_time() {
    let mut configs = pair(64512, 64512);
    for (index, config) in configs.iter_mut().enumerate() {
        peer(config, 1 - index).timers.hold_seconds = 9;
    }
    let mut net = Net::new(configs);
    net.pass(30);
    assert!(net.is_up(0, 1));
    let before = net.status(0, 1).counters.notifications_out;
    // The peer goes without its TCP connection ending.
    net.nodes[1].speaker = None;
    net.pass(5);
    assert_eq!(net.status(0, 1).state, SessionState::Established);
    net.pass(4);
    assert_ne!(net.status(0, 1).state, SessionState::Established);
    assert_eq!(net.errors(0), ["hold timer expired: the peer fell silent"]);
    assert_eq!(net.status(0, 1).counters.notifications_out, before + 1);
    // It is back, and need not wait for our idle hold.
    net.start(1, false);
    net.pump();
    net.pass(1);
    assert!(net.is_up(0, 1));
}

#[test]
fn unknown_peer_is_refused_with_an_event() {
    let mut net = Net::new(vec![config(0, 64512)]);
    net.input(
        0,
        Input::Connected {
            conn: ConnId::Inbound(77),
            peer: "192.0.2.1".parse().unwrap(),
            local: net.nodes[0].address,
        },
    );
    assert!(net.errors(0)[0].contains("no peer has this address"));
}

#[test]
fn unreachable_peer_is_tried_again_until_it_is_there() {
    let mut configs = pair(64512, 64601);
    peer(&mut configs[1], 0).passive = true;
    let mut net = Net::new(configs);
    net.kill(1);
    net.pump();
    net.pass(60);
    let status = net.status(0, 1);
    assert!(status.last_error.unwrap().contains("connection refused"));
    net.start(1, false);
    net.pump();
    net.pass(6);
    assert!(net.is_up(0, 1));
}

// RFC 4486, RFC 9003.
#[test]
fn shutdown_tells_the_peer_why() {
    let mut net = Net::new(pair(64512, 64601));
    net.pass(1);
    net.input(
        0,
        Input::Shutdown {
            graceful: false,
            message: "maintenance".to_owned(),
        },
    );
    let heard = net.errors(1).join("; ");
    assert!(
        heard.contains("administrative shutdown (6/2): \"maintenance\""),
        "{heard}"
    );
    net.pass(100);
    assert_eq!(net.status(0, 1).state, SessionState::Idle);
}

#[test]
fn only_a_changed_session_is_reset() {
    let mut configs = vec![config(0, 64512), config(1, 64512), config(2, 64512)];
    join(&mut configs, 0, 1);
    join(&mut configs, 0, 2);
    let mut net = Net::new(configs);
    net.pass(1);
    net.configure(0, |config| peer(config, 1).timers.hold_seconds = 30);
    net.pass(10);
    assert!(net.is_up(0, 1) && net.is_up(0, 2));
    assert_eq!(net.status(0, 1).hold_seconds, Some(30));
    assert_eq!(
        (
            net.status(1, 0).established_count,
            net.status(2, 0).established_count
        ),
        (2, 1)
    );
    let heard = net.errors(1).join("; ");
    assert!(heard.contains("(6/6)"), "{heard}");
    net.configure(0, |config| config.peers.retain(|peer| peer.name != name(2)));
    let heard = net.errors(2).join("; ");
    assert!(heard.contains("peer de-configured (6/3)"), "{heard}");
}

#[test]
fn refused_configuration_changes_nothing() {
    let mut net = Net::new(pair(64512, 64601));
    net.pass(1);
    net.configure(0, |config| config.peers[0].import = vec!["nowhere".to_owned()]);
    let refused =
        |event: &Event| matches!(event, Event::ConfigRefused { reason } if reason.contains("nowhere"));
    assert!(net.nodes[0].events.iter().any(refused));
    assert!(net.is_up(0, 1));
}

//! Long-lived graceful restart in both roles (RFC 9494), and restarts that begin with a NOTIFICATION (RFC 8538).

use caracal_bgpd_core::config::Config;
use caracal_bgpd_core::input::Command;
use caracal_bgpd_core::policy::Community;
use caracal_bgpd_core::snapshot::RouteQuery;
use caracal_bgpd_core::{Family, Input};

use super::net::{Net, address, config, join, name, originate, peer, prefix};

const STALE: Community = Community::Standard(Community::LLGR_STALE);

/// Node 1 in the middle: node 0 restarts, node 2 knows of long-lived routes, nodes 3 (another AS) and 4 (the same AS as
/// node 1) do not.
fn line() -> Vec<Config> {
    let mut configs: Vec<Config> = [64600, 64512, 64602, 64603, 64512]
        .into_iter()
        .enumerate()
        .map(|(index, number)| config(index, number))
        .collect();
    for other in [0, 2, 3, 4] {
        join(&mut configs, 1, other);
    }
    for (a, b) in [(0, 1), (1, 0), (1, 2), (2, 1)] {
        peer(&mut configs[a], b).long_lived_seconds = Some(1000);
        peer(&mut configs[a], b).graceful_restart_seconds = 60;
    }
    configs[0].routes = vec![originate("10.0.0.0/16"), originate("10.9.0.0/16")];
    configs[0].routes[1].communities = vec![Community::Standard(Community::NO_LLGR)];
    configs
}

fn settled(configs: Vec<Config>) -> Net {
    let mut net = Net::new(configs);
    net.pass(1);
    assert_eq!(net.nodes[3].kernel.len(), 2);
    net
}

#[test]
fn stale_routes_become_the_last_choice_and_go_when_their_time_is_over() {
    let mut net = settled(line());
    net.kill(0);
    net.pump();
    net.pass(59);
    assert_eq!(
        net.nodes[1].kernel.len(),
        2,
        "the restart time of RFC 4724 comes first"
    );
    assert!(!net.status(1, 0).routes_long_lived_stale);
    net.pass(2);
    // What must not be kept went.
    assert_eq!(
        net.nodes[1].kernel.keys().copied().collect::<Vec<_>>(),
        [prefix("10.0.0.0/16")]
    );
    let kept = net.best(1, "10.0.0.0/16").unwrap();
    assert!(kept.stale && kept.communities.contains(&STALE), "{kept:?}");
    assert!(net.status(1, 0).routes_long_lived_stale);
    // Who knows of such routes is told, with the community; who does not has it withdrawn.
    assert!(net.best(2, "10.0.0.0/16").unwrap().communities.contains(&STALE));
    assert!(net.nodes[3].kernel.is_empty() && net.nodes[4].kernel.is_empty());
    net.pass(998);
    assert_eq!(net.nodes[1].kernel.len(), 1);
    net.pass(2);
    assert!(net.nodes[1].kernel.is_empty() && net.nodes[2].kernel.is_empty());
    assert!(!net.status(1, 0).routes_stale);
}

#[test]
fn partial_deployment_tells_the_own_as_with_no_export_and_least_preference() {
    let mut configs = line();
    peer(&mut configs[1], 4).long_lived_partial = true;
    peer(&mut configs[1], 3).long_lived_partial = true;
    let mut net = settled(configs);
    net.kill(0);
    net.pump();
    net.pass(61);
    let told = net.best(4, "10.0.0.0/16").unwrap();
    assert_eq!(told.local_pref, Some(0));
    assert!(
        told.communities
            .contains(&Community::Standard(Community::NO_EXPORT)),
        "{told:?}"
    );
    assert!(net.nodes[3].kernel.is_empty(), "another AS is never told");
}

#[test]
fn any_other_way_is_preferred_to_a_long_lived_stale_one() {
    let mut configs = line();
    // A longer way to the same prefix, over node 2.
    configs[2].routes = vec![originate("10.0.0.0/16")];
    configs.push(config(5, 64605));
    join(&mut configs, 2, 5);
    let mut net = settled(configs);
    net.configure(1, |config| config.always_compare_med = true);
    net.kill(0);
    net.pump();
    net.pass(61);
    let best = net.best(1, "10.0.0.0/16").unwrap();
    assert_eq!((best.peer.as_deref(), best.stale), (Some("n2"), false));
    // The stale one is there, should the other go too.
    let all = net.routes(1, &RouteQuery::AdjRibIn { peer: name(0) });
    assert_eq!(all.len(), 1);
    net.configure(2, |config| config.routes.clear());
    assert!(net.best(1, "10.0.0.0/16").unwrap().stale);
}

#[test]
fn a_speaker_that_is_back_in_time_is_taken_back_and_what_it_does_not_send_goes() {
    let mut net = settled(line());
    net.kill(0);
    net.pump();
    net.pass(500);
    net.nodes[1].changes.clear();
    net.nodes[0].config.routes.push(originate("10.8.0.0/16"));
    net.start(0, true);
    net.pump();
    net.pass(10);
    let fresh = net.best(1, "10.0.0.0/16").unwrap();
    assert!(!fresh.stale && !fresh.communities.contains(&STALE), "{fresh:?}");
    assert!(!net.status(1, 0).routes_stale);
    assert_eq!(net.nodes[1].kernel.len(), 3);
    assert!(net.nodes[1].changes.iter().all(|delta| delta.route.is_some()));
    assert_eq!(net.nodes[3].kernel.len(), 3);
}

#[test]
fn a_speaker_that_lost_its_routes_says_so_and_they_go_at_once() {
    let mut net = settled(line());
    net.kill(0);
    net.pump();
    net.pass(100);
    net.nodes[0].config.routes.clear();
    // Not restarting: the F bit is clear.
    net.start(0, false);
    net.pump();
    net.pass(2);
    assert!(net.is_up(0, 1));
    assert!(net.nodes[1].kernel.is_empty(), "{:?}", net.nodes[1].kernel);
}

#[test]
fn flapping_does_not_prolong_the_time() {
    let mut net = settled(line());
    net.kill(0);
    net.pump();
    net.pass(560);
    // Back for a moment, without its routes, and gone again: 500 of the 1000 seconds are over.
    for _ in 0..3 {
        net.start(0, true);
        net.kill(0);
        net.pump();
        net.pass(100);
    }
    assert_eq!(net.nodes[1].kernel.len(), 1);
    net.pass(300);
    assert!(net.nodes[1].kernel.is_empty(), "{:?}", net.status(1, 0));
}

#[test]
fn without_the_capability_on_both_sides_nothing_is_kept_long() {
    let mut configs = line();
    peer(&mut configs[1], 0).long_lived_seconds = None;
    let mut net = settled(configs);
    net.kill(0);
    net.pump();
    net.pass(61);
    assert!(net.nodes[1].kernel.is_empty());
    let both = || {
        let mut configs = line();
        peer(&mut configs[1], 0).long_lived_seconds = Some(0);
        configs
    };
    // Zero asks for nothing and keeps what the peer asks for.
    let mut net = settled(both());
    let names = net.status(1, 0).capabilities;
    assert!(
        names.iter().any(|name| name == "long-lived-graceful-restart"),
        "{names:?}"
    );
    net.kill(0);
    net.pump();
    net.pass(61);
    assert_eq!(net.nodes[1].kernel.len(), 1);
}

// RFC 8538 §4: a hold timer that expires and an error are survived.
#[test]
fn hold_timer_and_notifications_are_survived() {
    let mut configs = line();
    for (a, b) in [(0, 1), (1, 0)] {
        peer(&mut configs[a], b).timers.hold_seconds = 9;
    }
    let mut net = settled(configs);
    net.nodes[0].speaker = None;
    net.pass(10);
    assert!(net.errors(1).join("; ").contains("hold timer expired"));
    assert_eq!(net.nodes[1].kernel.len(), 2, "kept");
    assert!(net.status(1, 0).routes_stale);
    // An administrative reset is survived by both sides.
    let mut net = settled(line());
    net.nodes[1].changes.clear();
    let command = Command::Reset;
    net.input(
        0,
        Input::Command {
            peer: name(1),
            command,
        },
    );
    assert!(net.errors(1).join("; ").contains("administrative reset (6/4)"));
    assert_eq!(net.nodes[1].kernel.len(), 2);
    net.pass(40);
    assert!(net.is_up(0, 1));
    assert!(net.nodes[1].changes.is_empty(), "{:?}", net.nodes[1].changes);
}

// RFC 8538 §3: what is meant for good comes as a Hard Reset, with the cause inside.
#[test]
fn a_shutdown_is_a_hard_reset_and_not_survived() {
    let mut net = settled(line());
    net.configure(0, |config| config.peers[0].shutdown = true);
    let heard = net.errors(1).join("; ");
    assert!(
        heard.contains("hard reset (6/9): administrative shutdown (6/2)"),
        "{heard}"
    );
    assert!(net.nodes[1].kernel.is_empty());
    let mut net = settled(line());
    net.input(
        0,
        Input::Shutdown {
            graceful: false,
            message: "for good".to_owned(),
        },
    );
    let heard = net.errors(1).join("; ");
    assert!(heard.contains("\"for good\""), "{heard}");
    assert!(net.nodes[1].kernel.is_empty());
}

#[test]
fn families_that_only_keep_long_do_so_at_once() {
    let mut configs = line();
    for config in &mut configs[..2] {
        for peer in &mut config.peers {
            peer.families = Family::ALL.to_vec();
        }
    }
    let mut net = settled(configs);
    assert_eq!(net.status(1, 0).address, address(0));
    net.kill(0);
    net.pump();
    net.pass(61);
    assert!(net.status(1, 0).routes_long_lived_stale);
}

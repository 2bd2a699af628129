//! Roles and the attribute that keeps routes from leaking (RFC 9234).

use caracal_bgpd_core::config::{Config, Role};
use caracal_bgpd_core::snapshot::RouteQuery;

use super::net::{Net, config, join, name, originate, peer, prefix};

const AS: [u32; 4] = [64600, 64601, 64602, 64603];

/// A chain of ASes; each has a route. `roles` are what the earlier one is to the later one.
fn chain(roles: &[Role]) -> Vec<Config> {
    let mut configs: Vec<Config> = (0..=roles.len()).map(|index| config(index, AS[index])).collect();
    for (index, role) in roles.iter().enumerate() {
        join(&mut configs, index, index + 1);
        peer(&mut configs[index], index + 1).role = Some(*role);
        peer(&mut configs[index + 1], index).role = Some(role.counterpart());
    }
    for (index, config) in configs.iter_mut().enumerate() {
        config.routes = vec![originate(&format!("10.{index}.0.0/16"))];
    }
    configs
}

fn settled(configs: Vec<Config>) -> Net {
    let mut net = Net::new(configs);
    net.pass(1);
    net
}

fn has(net: &Net, index: usize, of: usize) -> bool {
    net.nodes[index]
        .kernel
        .contains_key(&prefix(&format!("10.{of}.0.0/16")))
}

fn marked_with(net: &Net, index: usize, of: usize) -> Option<u32> {
    let route = net.best(index, &format!("10.{of}.0.0/16")).unwrap();
    let text = route
        .other
        .iter()
        .find_map(|text| text.strip_prefix("ONLY_TO_CUSTOMER "));
    text.map(|text| text.parse().unwrap())
}

#[test]
fn routes_go_down_all_the_way_and_up_all_the_way() {
    // 0 sells to 1, which sells to 2.
    let net = settled(chain(&[Role::Provider, Role::Provider]));
    assert!(has(&net, 2, 0) && has(&net, 0, 2));
    assert_eq!(marked_with(&net, 1, 0), Some(AS[0]));
    assert_eq!(marked_with(&net, 2, 0), Some(AS[0]), "whoever marked first");
    assert_eq!(marked_with(&net, 0, 2), None);
}

#[test]
fn what_came_from_above_or_the_side_goes_neither_up_nor_aside() {
    // 0 sells to 1; 1 and 2 are peers: 2 must not get 0's routes from 1.
    let net = settled(chain(&[Role::Provider, Role::Peer]));
    assert!(!has(&net, 2, 0) && has(&net, 2, 1) && !has(&net, 0, 2) && has(&net, 0, 1));
    // 0 and 1 are peers, 2 sells to 1.
    let net = settled(chain(&[Role::Peer, Role::Customer]));
    assert!(!has(&net, 2, 0) && !has(&net, 0, 2));
    // Through a route server all its clients get all.
    let net = settled(chain(&[Role::RouteServerClient, Role::RouteServer]));
    assert!(has(&net, 2, 0) && has(&net, 0, 2));
}

#[test]
fn a_leak_of_somebody_else_is_not_used() {
    // 1 is multihomed to 0 and 2 and does not know of roles: it leaks 0's routes to 2, who sells to it.
    let mut configs = chain(&[Role::Provider, Role::Customer]);
    for other in [0, 2] {
        peer(&mut configs[1], other).role = None;
    }
    let net = settled(configs);
    assert!(!has(&net, 2, 0) && has(&net, 2, 1));
    let query = RouteQuery::AdjRibIn { peer: name(1) };
    let heard = net.routes(2, &query);
    let leaked = heard
        .iter()
        .find(|route| route.prefix == prefix("10.0.0.0/16"))
        .unwrap();
    assert_eq!(
        leaked.unusable.as_deref(),
        Some("ONLY_TO_CUSTOMER says that it leaked")
    );
}

#[test]
fn roles_that_do_not_fit_are_refused_with_both_names() {
    let mut configs = chain(&[Role::Provider]);
    peer(&mut configs[1], 0).role = Some(Role::Provider);
    let net = settled(configs);
    assert!(!net.is_up(0, 1));
    let all = [net.errors(0), net.errors(1)].concat().join("; ");
    assert!(
        all.contains("the peer's role is provider where our role provider needs customer"),
        "{all}"
    );
}

#[test]
fn a_peer_without_a_role_is_refused_only_in_strict_mode() {
    for (strict, up) in [(false, true), (true, false)] {
        let mut configs = chain(&[Role::Provider]);
        peer(&mut configs[1], 0).role = None;
        peer(&mut configs[0], 1).strict_role = strict;
        let net = settled(configs);
        assert_eq!(net.is_up(0, 1), up);
        assert_eq!(net.errors(0).join("").contains("strictRole"), strict);
        assert_eq!(net.errors(1).join("").contains("role mismatch (2/11)"), strict);
    }
}

#[test]
fn roles_are_for_other_ases() {
    let mut config = config(0, 64512);
    config.peers = vec![caracal_bgpd_core::config::Peer::new(
        "a",
        super::net::address(1).into(),
        64512,
    )];
    config.peers[0].role = Some(Role::Peer);
    let error = config.validate().unwrap_err().to_string();
    assert_eq!(
        error,
        "peers[a].role: peer is for peers of another AS; remove it or correct remoteAs"
    );
}

//! Graceful shutdown (RFC 8326): a speaker that is about to go says so, and the others go other ways first.

use caracal_bgpd_core::config::Config;
use caracal_bgpd_core::policy::Community;

use super::net::{Net, config, join, originate, peer};

const SHUTDOWN: Community = Community::Standard(Community::GRACEFUL_SHUTDOWN);

/// Nodes 1 and 2 have a way to the same prefix; node 0 is of their AS, node 3 is not. Node 1 is the better one.
fn square() -> Vec<Config> {
    let mut configs: Vec<Config> = [64512, 64512, 64512, 64603]
        .into_iter()
        .enumerate()
        .map(|(index, number)| config(index, number))
        .collect();
    for (a, b) in [(0, 1), (0, 2), (3, 1), (3, 2)] {
        join(&mut configs, a, b);
    }
    for config in &mut configs {
        config.multipath_max = 1;
    }
    for index in [1, 2] {
        configs[index].routes = vec![originate("10.1.0.0/24")];
    }
    configs
}

fn from(net: &Net, index: usize) -> String {
    net.best(index, "10.1.0.0/24").unwrap().peer.unwrap()
}

#[test]
fn traffic_goes_elsewhere_before_the_routes_go() {
    let mut net = Net::new(square());
    net.pass(1);
    assert_eq!((from(&net, 0), from(&net, 3)), ("n1".to_owned(), "n1".to_owned()));
    net.configure(1, |config| config.drain = true);
    assert_eq!((from(&net, 0), from(&net, 3)), ("n2".to_owned(), "n2".to_owned()));
    for index in [0, 3] {
        let routes = net.routes(index, &caracal_bgpd_core::snapshot::RouteQuery::LocRib);
        let drained = routes
            .iter()
            .find(|route| route.peer.as_deref() == Some("n1"))
            .unwrap();
        assert!(drained.communities.contains(&SHUTDOWN), "{drained:?}");
        assert_eq!(drained.local_pref, Some(0), "{drained:?}");
        assert_eq!(net.status(index, 1).established_count, 1);
    }
    net.configure(1, |config| config.drain = false);
    assert_eq!((from(&net, 0), from(&net, 3)), ("n1".to_owned(), "n1".to_owned()));
    assert!(
        net.nodes[0].changes.iter().all(|delta| delta.route.is_some()),
        "no gap"
    );
}

#[test]
fn the_only_way_stays_in_use() {
    let mut configs = square();
    configs[2].routes.clear();
    let mut net = Net::new(configs);
    net.pass(1);
    net.configure(1, |config| config.drain = true);
    assert_eq!((from(&net, 0), from(&net, 3)), ("n1".to_owned(), "n1".to_owned()));
}

#[test]
fn a_peer_can_be_told_not_to_listen() {
    let mut configs = square();
    peer(&mut configs[3], 1).graceful_shutdown = false;
    let mut net = Net::new(configs);
    net.pass(1);
    net.configure(1, |config| config.drain = true);
    assert_eq!((from(&net, 0), from(&net, 3)), ("n2".to_owned(), "n1".to_owned()));
    net.configure(3, |config| peer(config, 1).graceful_shutdown = true);
    assert_eq!(from(&net, 3), "n2");
    assert_eq!(net.status(3, 1).established_count, 1);
}

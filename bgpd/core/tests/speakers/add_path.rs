//! More than one path to a prefix, to peers that take them (RFC 7911).

use std::collections::BTreeSet;

use caracal_bgpd_core::config::{AddPath, Config};
use caracal_bgpd_core::output::Target;
use caracal_bgpd_core::policy::{Match, Policy, PrefixMatch, PrefixOperator, Term, Verdict};
use caracal_bgpd_core::snapshot::RouteQuery;

use super::net::{Net, address, config, join, name, originate, peer, prefix};

/// Nodes 1 to 3 have the same address behind them; node 0 reflects between them and node 4.
fn anycast() -> Vec<Config> {
    let mut configs: Vec<Config> = (0..5).map(|index| config(index, 64512)).collect();
    for other in 1..5 {
        join(&mut configs, 0, other);
        peer(&mut configs[0], other).reflector_client = Some(address(0));
        peer(&mut configs[0], other).add_path = AddPath::Both;
        peer(&mut configs[other], 0).add_path = AddPath::Both;
    }
    for config in &mut configs[1..4] {
        config.routes = vec![originate("10.9.0.1/32")];
    }
    configs
}

/// Addresses that node `index` sends packets for the shared prefix to.
fn hops(net: &Net, index: usize) -> Vec<usize> {
    let Some(route) = net.nodes[index].kernel.get(&prefix("10.9.0.1/32")) else {
        return Vec::new();
    };
    let Target::NextHops(hops) = &route.target else {
        panic!("{route:?}")
    };
    let node = |hop: std::net::IpAddr| net.nodes.iter().position(|node| node.address == hop).unwrap();
    hops.iter().map(|hop| node(hop.address)).collect()
}

#[test]
fn a_client_has_all_ways_through_a_reflector() {
    let mut net = Net::new(anycast());
    net.pass(1);
    assert_eq!(hops(&net, 4), [1, 2, 3]);
    let got = net.routes(4, &RouteQuery::AdjRibIn { peer: name(0) });
    let numbers: BTreeSet<u32> = got.iter().map(|route| route.path_id).collect();
    assert_eq!((got.len(), numbers.len()), (3, 3), "{got:?}");
    assert_eq!(net.status(0, 4).prefixes_received, 0);
    // One goes, and comes back.
    let before = net.status(4, 0).counters.updates_in;
    net.configure(2, |config| config.routes.clear());
    assert_eq!(hops(&net, 4), [1, 3]);
    // One to withdraw it, and the rest once more, which changes nothing.
    assert_eq!(net.status(4, 0).counters.updates_in, before + 3);
    net.configure(2, |config| config.routes.push(originate("10.9.0.1/32")));
    assert_eq!(hops(&net, 4), [1, 2, 3]);
    net.kill(1);
    net.pump();
    net.pass(200);
    assert_eq!(hops(&net, 4), [2, 3]);
}

#[test]
fn only_who_takes_more_than_one_gets_more_than_one() {
    let mut configs = anycast();
    peer(&mut configs[4], 0).add_path = AddPath::Off;
    let mut net = Net::new(configs);
    net.pass(1);
    assert_eq!(hops(&net, 4).len(), 1);
    net.configure(1, |config| config.routes.clear());
    assert_eq!(hops(&net, 4), [2]);
    for (near, far) in [(AddPath::Receive, AddPath::Both), (AddPath::Both, AddPath::Send)] {
        let mut configs = anycast();
        peer(&mut configs[0], 4).add_path = near;
        peer(&mut configs[4], 0).add_path = far;
        let mut net = Net::new(configs);
        net.pass(1);
        assert_eq!(hops(&net, 4).len(), 1, "{near:?} {far:?}");
    }
}

#[test]
fn a_new_policy_takes_paths_back_and_gives_them_again() {
    let mut configs = anycast();
    let only = |address: &str| {
        let matches = Match {
            next_hops: vec![format!("{address}/32").parse().unwrap()],
            ..Match::default()
        };
        let term = |matches, then| Term {
            name: String::new(),
            matches,
            actions: Vec::new(),
            then,
        };
        Policy {
            terms: vec![
                term(matches, Verdict::Accept),
                term(Match::default(), Verdict::Reject),
            ],
        }
    };
    configs[0].policies.insert("one".to_owned(), only("10.0.0.3"));
    let mut net = Net::new(configs);
    net.pass(1);
    net.configure(0, |config| peer(config, 4).export = vec!["one".to_owned()]);
    assert_eq!(hops(&net, 4), [2]);
    net.configure(0, |config| peer(config, 4).export.clear());
    assert_eq!(hops(&net, 4), [1, 2, 3]);
    assert_eq!(net.status(4, 0).established_count, 1);
    // The same by prefix, for all at once.
    net.configure(0, |config| {
        let matches = Match {
            prefixes: vec![PrefixMatch {
                cidr: prefix("10.9.0.0/16"),
                operator: PrefixOperator::In,
                min_length: None,
                max_length: None,
            }],
            ..Match::default()
        };
        let terms = vec![Term {
            name: String::new(),
            matches,
            actions: Vec::new(),
            then: Verdict::Reject,
        }];
        config.policies.insert("none".to_owned(), Policy { terms });
        peer(config, 4).export = vec!["none".to_owned()];
    });
    assert_eq!(hops(&net, 4), [] as [usize; 0]);
}

#[test]
fn a_path_goes_to_all_but_whom_it_came_from() {
    let mut net = Net::new(anycast());
    net.pass(1);
    for index in 1..4 {
        let got = net.routes(index, &RouteQuery::AdjRibIn { peer: name(0) });
        assert_eq!(got.len(), 2, "{got:?}");
        let sent = net.routes(0, &RouteQuery::AdjRibOut { peer: name(index) });
        assert_eq!(sent.len(), 2, "{sent:?}");
    }
}

#[test]
fn a_late_client_and_a_refresh_get_everything() {
    let mut net = Net::new(anycast());
    net.pass(1);
    net.kill(4);
    net.pump();
    net.pass(1);
    net.configure(3, |config| config.routes.clear());
    net.start(4, false);
    net.pump();
    net.pass(10);
    assert_eq!(hops(&net, 4), [1, 2]);
    let command = caracal_bgpd_core::input::Command::RefreshIn;
    net.input(
        4,
        caracal_bgpd_core::Input::Command {
            peer: name(0),
            command,
        },
    );
    assert_eq!(hops(&net, 4), [1, 2]);
}

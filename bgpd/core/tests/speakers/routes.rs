//! Routes: both ways, withdrawal, reflection, policies, kernel (RFC 4271 §9, RFC 4456).

use std::collections::BTreeSet;
use std::net::IpAddr;

use caracal_bgpd_core::Input;
use caracal_bgpd_core::input::{Command, LocalDelta, LocalRoute, Resolution};
use caracal_bgpd_core::output::{NextHop, Target};
use caracal_bgpd_core::policy::{
    Action, Community, Match, Policy, PrefixMatch, PrefixOperator, Source, Term, Verdict,
};
use caracal_bgpd_core::snapshot::RouteQuery;

use super::net::{Net, address, config, join, name, originate, peer, prefix};
use super::sessions::pair;

fn hops(addresses: &[usize]) -> Target {
    let hop = |index: &usize| NextHop {
        address: address(*index).into(),
        device: None,
    };
    Target::NextHops(addresses.iter().map(hop).collect())
}

fn term(prefixes: &[&str], actions: Vec<Action>, then: Verdict) -> Policy {
    let within = |text: &&str| PrefixMatch {
        cidr: prefix(text),
        operator: PrefixOperator::In,
        min_length: None,
        max_length: None,
    };
    Policy {
        terms: vec![Term {
            name: String::new(),
            matches: Match {
                prefixes: prefixes.iter().map(within).collect(),
                ..Match::default()
            },
            actions,
            then,
        }],
    }
}

#[test]
fn routes_go_both_ways_and_are_withdrawn() {
    let mut configs = pair(64512, 64601);
    configs[0].routes = vec![originate("10.1.0.0/26"), originate("10.1.1.0/26")];
    configs[1].routes = vec![originate("10.2.0.0/26")];
    let mut net = Net::new(configs);
    net.pass(1);
    assert_eq!(net.nodes[1].kernel[&prefix("10.1.0.0/26")].target, hops(&[0]));
    assert_eq!(net.nodes[0].kernel[&prefix("10.2.0.0/26")].target, hops(&[1]));
    let best = net.best(1, "10.1.1.0/26").unwrap();
    assert_eq!((best.as_path.as_str(), best.origin.as_str()), ("64512", "IGP"));
    assert_eq!(best.next_hop, Some(IpAddr::V4(address(0))));
    // Own routes without a blackhole are no kernel routes.
    assert_eq!(net.nodes[0].kernel.len(), 1);
    let sent = net.status(0, 1).counters.updates_out;
    assert_eq!(sent, 2, "one UPDATE for equal attributes, and End-of-RIB");

    net.configure(0, |config| config.routes.truncate(1));
    assert!(!net.nodes[1].kernel.contains_key(&prefix("10.1.1.0/26")));
    assert!(net.nodes[1].kernel.contains_key(&prefix("10.1.0.0/26")));
    assert_eq!(net.status(1, 0).prefixes_received, 1);

    net.input(
        0,
        Input::Shutdown {
            graceful: false,
            message: String::new(),
        },
    );
    assert!(net.nodes[1].kernel.is_empty());
    // A speaker that goes leaves the kernel as it is.
    assert_eq!(net.nodes[0].kernel.len(), 1);
}

#[test]
fn ipv6_routes_go_over_an_ipv4_session_only_with_a_next_hop_of_their_own() {
    let mut configs = pair(64512, 64512);
    for (index, config) in configs.iter_mut().enumerate() {
        let families = caracal_bgpd_core::Family::ALL.to_vec();
        peer(config, 1 - index).families = families;
    }
    configs[0].routes = vec![originate("2001:db8::/64"), originate("10.1.0.0/26")];
    let mut net = Net::new(configs);
    net.pass(1);
    assert!(net.best(1, "10.1.0.0/26").is_some());
    assert!(net.best(1, "2001:db8::/64").is_none());
    net.configure(0, |config| {
        let own = caracal_bgpd_core::policy::NextHopAction::Address("2001:db8::1".parse().unwrap());
        let policy = term(&["2001:db8::/32"], vec![Action::SetNextHop(own)], Verdict::Accept);
        config.policies.insert("v6".to_owned(), policy);
        peer(config, 1).export = vec!["v6".to_owned()];
    });
    let best = net.best(1, "2001:db8::/64").unwrap();
    assert_eq!(best.next_hop, Some("2001:db8::1".parse().unwrap()));
}

// RFC 4271 §9.2.1 and RFC 4456: full mesh or a reflector, nothing in between.
#[test]
fn ibgp_routes_are_passed_on_by_a_reflector_only() {
    for reflects in [false, true] {
        let mut configs = vec![config(0, 64512), config(1, 64512), config(2, 64512)];
        join(&mut configs, 0, 1);
        join(&mut configs, 0, 2);
        configs[1].routes = vec![originate("10.1.0.0/26")];
        if reflects {
            let id = Some("1.1.1.1".parse().unwrap());
            peer(&mut configs[0], 1).reflector_client = id;
            peer(&mut configs[0], 2).reflector_client = id;
        }
        let mut net = Net::new(configs);
        net.pass(1);
        assert!(net.best(0, "10.1.0.0/26").is_some());
        let Some(best) = net.best(2, "10.1.0.0/26") else {
            assert!(!reflects);
            continue;
        };
        assert!(reflects);
        assert_eq!(best.next_hop, Some(IpAddr::V4(address(1))), "unchanged");
        assert_eq!(best.other, ["ORIGINATOR_ID 0a000002", "CLUSTER_LIST 01010101"]);
        assert_eq!(best.local_pref, Some(100));
        // The client that it is from does not get it back.
        let sent = net.routes(0, &RouteQuery::AdjRibOut { peer: name(1) });
        assert!(sent.is_empty(), "{sent:?}");
    }
}

#[test]
fn path_with_the_own_as_is_not_used() {
    // 0 and 2 are the same AS with another in between.
    let mut configs = vec![config(0, 64512), config(1, 64601), config(2, 64512)];
    join(&mut configs, 0, 1);
    join(&mut configs, 1, 2);
    configs[0].routes = vec![originate("10.1.0.0/26")];
    let mut net = Net::new(configs);
    net.pass(1);
    assert!(net.best(2, "10.1.0.0/26").is_none());
    let heard = net.routes(2, &RouteQuery::AdjRibIn { peer: name(1) });
    assert!(heard[0].unusable.as_ref().unwrap().contains("own AS"));
    net.configure(2, |config| peer(config, 1).allow_own_as = 1);
    assert_eq!(net.best(2, "10.1.0.0/26").unwrap().as_path, "64601 64512");
    assert_eq!(net.status(2, 1).established_count, 1);
}

#[test]
fn equal_paths_are_one_kernel_route_with_both_next_hops() {
    let mut configs = vec![config(0, 64512), config(1, 64601), config(2, 64601)];
    join(&mut configs, 0, 1);
    join(&mut configs, 0, 2);
    for config in &mut configs[1..] {
        config.routes = vec![originate("0.0.0.0/0")];
    }
    let mut net = Net::new(configs);
    net.pass(1);
    assert_eq!(net.nodes[0].kernel[&prefix("0.0.0.0/0")].target, hops(&[1, 2]));
    net.nodes[0].changes.clear();
    net.configure(2, |config| config.routes.clear());
    assert_eq!(net.nodes[0].kernel[&prefix("0.0.0.0/0")].target, hops(&[1]));
    assert_eq!(
        net.nodes[0].changes.len(),
        1,
        "no gap: {:?}",
        net.nodes[0].changes
    );
}

#[test]
fn policies_change_without_a_reset() {
    let mut configs = pair(64512, 64601);
    configs[0].routes = vec![originate("10.1.0.0/26"), originate("10.2.0.0/26")];
    let mut net = Net::new(configs);
    net.pass(1);
    net.configure(1, |config| {
        let policy = term(&["10.1.0.0/16"], Vec::new(), Verdict::Reject);
        config.policies.insert("in".to_owned(), policy);
        peer(config, 0).import = vec!["in".to_owned()];
    });
    assert!(net.best(1, "10.1.0.0/26").is_none());
    assert!(net.best(1, "10.2.0.0/26").is_some());
    assert_eq!(
        (
            net.status(1, 0).prefixes_received,
            net.status(1, 0).prefixes_accepted
        ),
        (2, 1)
    );
    net.configure(1, |config| {
        let actions = vec![
            Action::SetLocalPref(300),
            Action::AddCommunities(vec![Community::Standard(7)]),
            Action::SetMetric(9),
            Action::SetDevice("tunl0".to_owned()),
        ];
        config
            .policies
            .insert("in".to_owned(), term(&[], actions, Verdict::Accept));
    });
    let best = net.best(1, "10.1.0.0/26").unwrap();
    assert_eq!(
        (best.local_pref, best.communities),
        (Some(300), vec![Community::Standard(7)])
    );
    let kernel = &net.nodes[1].kernel[&prefix("10.1.0.0/26")];
    assert_eq!(kernel.metric, Some(9));
    assert!(matches!(&kernel.target, Target::NextHops(hops) if hops[0].device.as_deref() == Some("tunl0")));

    net.configure(0, |config| {
        let actions = vec![Action::PrependAsPath(vec![1, 2]), Action::SetMed(5)];
        config
            .policies
            .insert("out".to_owned(), term(&["10.2.0.0/16"], actions, Verdict::Accept));
        config
            .policies
            .insert("none".to_owned(), term(&[], Vec::new(), Verdict::Reject));
        peer(config, 1).export = vec!["out".to_owned(), "none".to_owned()];
    });
    assert!(net.best(1, "10.1.0.0/26").is_none());
    let best = net.best(1, "10.2.0.0/26").unwrap();
    assert_eq!((best.as_path.as_str(), best.med), ("64512 1 2", Some(5)));
    assert_eq!(net.status(0, 1).established_count, 1);
}

// RFC 1997.
#[test]
fn no_export_stays_inside_the_as_and_no_advertise_at_home() {
    let mut configs = vec![config(0, 64512), config(1, 64512), config(2, 64601)];
    join(&mut configs, 0, 1);
    join(&mut configs, 0, 2);
    let mut inside = originate("10.1.0.0/26");
    inside.communities = vec![Community::Standard(Community::NO_EXPORT)];
    let mut home = originate("10.2.0.0/26");
    home.communities = vec![Community::Standard(Community::NO_ADVERTISE)];
    configs[0].routes = vec![inside, home];
    let mut net = Net::new(configs);
    net.pass(1);
    assert!(net.best(1, "10.1.0.0/26").is_some());
    assert!(net.best(2, "10.1.0.0/26").is_none());
    assert!(net.best(1, "10.2.0.0/26").is_none());
}

#[test]
fn routes_of_the_host_and_blackholes_go_through_the_kernel_policy() {
    let mut configs = pair(64512, 64512);
    let mut own = originate("10.1.0.0/26");
    own.blackhole = true;
    configs[0].routes = vec![own];
    configs[1].policies.insert(
        "none".to_owned(),
        term(&["10.1.0.0/16"], Vec::new(), Verdict::Reject),
    );
    configs[1].kernel_export = vec!["none".to_owned()];
    let mut net = Net::new(configs);
    net.pass(1);
    assert_eq!(
        net.nodes[0].kernel[&prefix("10.1.0.0/26")].target,
        Target::Blackhole
    );
    assert!(net.nodes[1].kernel.is_empty());
    let host = LocalRoute {
        source: Source::Kernel,
        next_hop: None,
        interface: Some("cali1".to_owned()),
        metric: Some(1024),
    };
    let delta = |route| LocalDelta {
        prefix: prefix("10.3.0.5/32"),
        route,
    };
    net.input(0, Input::Local(delta(Some(host))));
    assert_eq!(
        net.best(0, "10.3.0.5/32").unwrap().interface.as_deref(),
        Some("cali1")
    );
    assert_eq!(
        net.best(1, "10.3.0.5/32").unwrap().next_hop,
        Some(IpAddr::V4(address(0)))
    );
    assert!(!net.nodes[0].kernel.contains_key(&prefix("10.3.0.5/32")));
    net.input(0, Input::Local(delta(None)));
    assert!(net.best(1, "10.3.0.5/32").is_none());
}

#[test]
fn blocked_peer_gets_the_latest_state_once_it_reads() {
    let mut net = Net::new(pair(64512, 64601));
    net.pass(1);
    let conns = [1_u64, 2].into_iter().flat_map(|number| {
        use caracal_bgpd_core::input::ConnId;
        [ConnId::Outbound(number), ConnId::Inbound(number)]
    });
    let conns: Vec<_> = conns.collect();
    for conn in &conns {
        net.input(0, Input::SendBlocked { conn: *conn });
    }
    net.configure(0, |config| config.routes = vec![originate("10.1.0.0/26")]);
    net.configure(0, |config| config.routes = vec![originate("10.2.0.0/26")]);
    assert!(net.nodes[1].kernel.is_empty());
    let before = net.status(0, 1).counters.updates_out;
    for conn in &conns {
        net.input(0, Input::SendReady { conn: *conn });
    }
    assert!(net.best(1, "10.2.0.0/26").is_some());
    assert_eq!(net.status(0, 1).counters.updates_out, before + 1);
}

// RFC 4486 §4, 6/1.
#[test]
fn too_many_prefixes_end_the_session() {
    let mut configs = pair(64512, 64601);
    configs[0].routes = vec![originate("10.1.0.0/26"), originate("10.2.0.0/26")];
    peer(&mut configs[1], 0).prefix_limit = Some(1);
    let mut net = Net::new(configs);
    net.pass(1);
    assert!(!net.is_up(0, 1));
    assert!(net.errors(1)[0].contains("prefixLimit"));
    assert!(net.errors(0)[0].contains("maximum number of prefixes reached (6/1)"));
    assert!(net.nodes[1].kernel.is_empty());
}

#[test]
fn path_waits_for_a_way_to_its_next_hop() {
    let mut configs = pair(64512, 64601);
    configs[0].track_next_hops = true;
    configs[1].routes = vec![originate("10.2.0.0/26")];
    let mut net = Net::new(configs);
    net.pass(1);
    assert_eq!(net.nodes[0].watched, BTreeSet::from([address(1).into()]));
    assert!(net.nodes[0].kernel.is_empty());
    let heard = net.routes(0, &RouteQuery::AdjRibIn { peer: name(1) });
    assert_eq!(
        heard[0].unusable.as_deref(),
        Some("the next hop is not reachable")
    );
    let report = |resolution| Input::NextHop {
        address: address(1).into(),
        resolution,
    };
    let way = Resolution {
        metric: 0,
        gateway: None,
        interface: None,
    };
    net.input(0, report(Some(way)));
    assert_eq!(net.nodes[0].kernel.len(), 1);
    net.input(0, report(None));
    assert!(net.nodes[0].kernel.is_empty());
    net.configure(1, |config| config.routes.clear());
    assert!(net.nodes[0].watched.is_empty());
}

// RFC 2918, RFC 7313.
#[test]
fn refresh_brings_the_routes_again_and_changes_nothing() {
    let mut configs = pair(64512, 64601);
    configs[1].routes = vec![originate("10.2.0.0/26"), originate("10.3.0.0/26")];
    let mut net = Net::new(configs);
    net.pass(1);
    net.nodes[0].changes.clear();
    let before = net.status(0, 1).counters;
    let command = |command| Input::Command {
        peer: name(1),
        command,
    };
    net.input(0, command(Command::RefreshIn));
    let after = net.status(0, 1).counters;
    // One UPDATE between BoRR and EoRR.
    assert_eq!(
        (
            after.updates_in - before.updates_in,
            after.messages_in - before.messages_in
        ),
        (1, 3)
    );
    assert!(net.nodes[0].changes.is_empty(), "{:?}", net.nodes[0].changes);
    assert_eq!(net.nodes[0].kernel.len(), 2);
    net.input(0, command(Command::Reset));
    net.pass(10);
    assert!(net.is_up(0, 1));
    assert_eq!(net.nodes[0].kernel.len(), 2);
}

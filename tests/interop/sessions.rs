//! Sessions and routes with every attribute, both families, both ways; refresh, limits, shutdown, wrong numbers.

use std::collections::BTreeMap;

use super::dut::{Dut, ROUTES, peer};
use super::foreign::{Kind, Route, Seen, Setup, wait_has, wait_received, wait_up, with_each};
use super::lab::{DUT_AS, Lab, eventually, holds_within, node_address};

fn set(text: &str) -> std::collections::BTreeSet<String> {
    [text.to_owned()].into()
}

/// What a neighbour of another AS has to have of `dut::ROUTES`.
fn ours(index: usize, v6: bool) -> BTreeMap<String, Seen> {
    let plain = Seen {
        as_path: vec![DUT_AS],
        next_hop: node_address(index, v6),
        ..Seen::default()
    };
    let rich = Seen {
        med: Some(5),
        communities: set("65000:100"),
        large_communities: set("65000:1:2"),
        ..plain.clone()
    };
    let prefixes = prefixes(v6).map(str::to_owned);
    prefixes.into_iter().zip([plain, rich]).collect()
}

fn prefixes(v6: bool) -> [&'static str; 2] {
    if v6 {
        ["fd00:65::/122", "fd00:65:1::/122"]
    } else {
        ["10.65.0.0/26", "10.65.1.0/26"]
    }
}

fn both_ways(lab: &Lab, kind: Kind, v6: bool) {
    let theirs = if v6 {
        [
            Route::plain("fd00:200:1::/64"),
            Route::rich("fd00:200:2::/64", 64777),
        ]
    } else {
        [Route::plain("10.200.1.0/26"), Route::rich("10.200.2.0/26", 64777)]
    };
    let setup = Setup {
        v6,
        ..Setup::new(0, theirs.to_vec())
    };
    let dut = Dut::start(lab, &peer(0, v6, 65001, ""), ROUTES, "");
    let mut other = kind.start(lab, setup);
    wait_up(&dut, 0, &*other);
    wait_has(&*other, &prefixes(v6));
    assert_eq!(other.routes(&prefixes(v6)), ours(0, v6), "{}", other.log());
    wait_received(&dut, 0, &[&theirs[0].prefix, &theirs[1].prefix]);
    let route = dut.route(0, &theirs[1].prefix).unwrap();
    assert_eq!(route["asPath"], "65001 4200000001 64777", "{route}");
    assert_eq!(route["med"], 77, "{route}");
    assert_eq!(route["origin"], "IGP", "{route}");
    let communities = serde_json::json!(["64777:7", "64777:1:2"]);
    assert_eq!(route["communities"], communities, "{route}");
    let target = serde_json::json!(["EXTENDED_COMMUNITIES 0002fd0900000009"]);
    assert_eq!(route["other"], target, "{route}");
    let via = format!("{} via {}", theirs[1].prefix, super::lab::address(0, v6));
    eventually("the route is in the kernel", 10, || lab.routes(v6).contains(&via));
    // A withdrawal, and a change of attributes in place.
    other.announce(&[Route {
        med: Some(78),
        ..theirs[1].clone()
    }]);
    wait_received(&dut, 0, &[&theirs[1].prefix]);
    eventually("the changed attribute is here", 10, || {
        dut.route(0, &theirs[1].prefix)
            .is_some_and(|route| route["med"] == 78)
    });
    assert!(!lab.routes(v6).contains(&theirs[0].prefix));
    assert_eq!(dut.established_count(0), 1);
}

#[test]
fn ipv4_routes_with_every_attribute_go_both_ways() {
    with_each(&Kind::ALL, 1, |lab, kind| both_ways(lab, kind, false));
}

#[test]
fn ipv6_routes_with_every_attribute_go_both_ways() {
    with_each(&Kind::ALL, 1, |lab, kind| both_ways(lab, kind, true));
}

/// All the daemons around one speaker, which passes on what each says.
#[test]
fn attributes_survive_the_way_through_us() {
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.is_installed()).collect();
    let lab = Lab::new(kinds.len());
    let number = |index: usize| u32::try_from(index).unwrap();
    let peers: String = (0..kinds.len())
        .map(|index| peer(index, false, 65001 + number(index), ""))
        .collect();
    let dut = Dut::start(&lab, &peers, "", "");
    let route = |index: usize| Route::rich(&format!("10.20{index}.0.0/24"), 64701 + number(index));
    let others: Vec<_> = kinds
        .iter()
        .enumerate()
        .map(|(index, kind)| kind.start(&lab, Setup::new(index, vec![route(index)])))
        .collect();
    for (index, other) in others.iter().enumerate() {
        wait_up(&dut, index, &**other);
    }
    for (to, other) in others.iter().enumerate() {
        for from in (0..kinds.len()).filter(|from| *from != to) {
            let sent = route(from);
            wait_has(&**other, &[&sent.prefix]);
            let seen = other.routes(&[&sent.prefix]).remove(&sent.prefix).unwrap();
            let mark = 64701 + number(from);
            let expected = Seen {
                as_path: vec![DUT_AS, 65001 + number(from), 4_200_000_001, mark],
                next_hop: node_address(to, false),
                // MULTI_EXIT_DISC is for the neighbouring AS alone (RFC 4271 §5.1.4).
                med: None,
                communities: set(&format!("{mark}:7")),
                large_communities: set(&format!("{mark}:1:2")),
                targets: set(&format!("{mark}:9")),
                ..Seen::default()
            };
            assert_eq!(seen, expected, "from {:?} to {:?}", kinds[from], kinds[to]);
        }
    }
}

#[test]
fn long_paths_and_many_routes_are_taken_whole() {
    with_each(&[Kind::Bird, Kind::GoBgp, Kind::ExaBgp], 1, |lab, kind| {
        let long: Vec<u32> = (0..200).map(|number| 4_200_000_000 + number).collect();
        let route = Route {
            as_path: long.clone(),
            ..Route::plain("10.200.1.0/26")
        };
        let dut = Dut::start(lab, &peer(0, false, 65001, ""), ROUTES, "");
        let other = kind.start(lab, Setup::new(0, vec![route]));
        wait_up(&dut, 0, &*other);
        wait_received(&dut, 0, &["10.200.1.0/26"]);
        let path: Vec<String> = std::iter::once(65001)
            .chain(long)
            .map(|n| n.to_string())
            .collect();
        assert_eq!(dut.route(0, "10.200.1.0/26").unwrap()["asPath"], path.join(" "));
    });
}

#[test]
fn a_peer_that_asks_for_routes_again_gets_them_on_the_same_session() {
    with_each(&[Kind::Bird, Kind::Frr, Kind::ExaBgp], 1, |lab, kind| {
        let dut = Dut::start(lab, &peer(0, false, 65001, ""), ROUTES, "");
        let other = kind.start(lab, Setup::new(0, vec![Route::plain("10.200.1.0/26")]));
        wait_up(&dut, 0, &*other);
        wait_has(&*other, &prefixes(false));
        wait_received(&dut, 0, &["10.200.1.0/26"]);
        let before = dut.counter(0, "updatesOut");
        other.refresh();
        eventually("our routes are sent again", 10, || {
            dut.counter(0, "updatesOut") >= before + 2
        });
        assert_eq!(other.routes(&prefixes(false)), ours(0, false));
        assert_eq!(dut.established_count(0), 1, "{}", dut.log());
        // RFC 7313 with those that have it.
        if matches!(kind, Kind::Bird | Kind::Frr) {
            let capabilities = dut.peer(0)["capabilities"].to_string();
            assert!(capabilities.contains("enhanced-route-refresh"), "{capabilities}");
        }
    });
}

#[test]
fn a_peer_above_its_prefix_limit_is_sent_away_and_nobody_else() {
    with_each(&Kind::ALL, 2, |lab, kind| {
        if !Kind::Bird.is_installed() {
            return;
        }
        // FRR says back what it was told, which counts.
        let peers = peer(0, false, 65001, ", prefixLimit: 10") + &peer(1, false, 65002, "");
        let dut = Dut::start(lab, &peers, ROUTES, "");
        let well = Kind::Bird.start(lab, Setup::new(1, vec![Route::plain("10.201.0.0/24")]));
        wait_up(&dut, 1, &*well);
        let many: Vec<Route> = (1..12)
            .map(|net| Route::plain(&format!("10.200.{net}.0/26")))
            .collect();
        let mut other = kind.start(lab, Setup::new(0, many[..2].to_vec()));
        wait_up(&dut, 0, &*other);
        wait_received(&dut, 0, &["10.200.1.0/26", "10.200.2.0/26"]);
        other.announce(&many);
        eventually("the session is ended with its reason", 15, || {
            dut.last_error(0)
                .contains("more than 10 prefixes: raise prefixLimit")
        });
        assert_eq!(dut.established_count(1), 1);
        wait_received(&dut, 1, &["10.201.0.0/24"]);
    });
}

#[test]
fn a_limit_of_the_peers_is_named_in_the_status() {
    with_each(&[Kind::Bird, Kind::Frr, Kind::GoBgp], 1, |lab, kind| {
        let dut = Dut::start(lab, &peer(0, false, 65001, ""), ROUTES, "");
        let setup = Setup {
            limit: Some(1),
            ..Setup::new(0, Vec::new())
        };
        let other = kind.start(lab, setup);
        let is_named = holds_within(90, || {
            let error = dut.last_error(0);
            error.contains("maximum number of prefixes reached") && error.contains("(6/1)")
        });
        assert!(is_named, "{}\n{}", dut.peer(0), other.log());
    });
}

// RFC 9003.
#[test]
fn the_text_of_a_shutdown_is_shown() {
    with_each(&[Kind::Bird, Kind::Frr, Kind::GoBgp], 1, |lab, kind| {
        let dut = Dut::start(lab, &peer(0, false, 65001, ""), ROUTES, "");
        let other = kind.start(lab, Setup::new(0, vec![Route::plain("10.200.1.0/26")]));
        wait_up(&dut, 0, &*other);
        wait_received(&dut, 0, &["10.200.1.0/26"]);
        other.shut_down("replacing line card 3");
        // GoBGP 3.10 has a flag for the text and sends none.
        let expected = match kind {
            Kind::GoBgp => "administrative shutdown (6/2)",
            _ => "administrative shutdown (6/2): \"replacing line card 3\"",
        };
        let is_shown = holds_within(15, || dut.last_error(0).contains(expected));
        assert!(is_shown, "{}\n{}", dut.peer(0), other.log());
        wait_received(&dut, 0, &[]);
        assert!(!lab.routes(false).contains("10.200.1.0/26"));
    });
}

#[test]
fn a_peer_of_another_as_than_expected_is_refused_with_both_numbers() {
    with_each(&Kind::ALL, 1, |lab, kind| {
        let dut = Dut::start(lab, &peer(0, false, 64999, ""), ROUTES, "");
        let _other = kind.start(lab, Setup::new(0, Vec::new()));
        eventually("the refusal names both numbers", 30, || {
            let error = dut.last_error(0);
            error.contains("65001") && error.contains("64999")
        });
        assert_eq!(dut.established_count(0), 0);
    });
}

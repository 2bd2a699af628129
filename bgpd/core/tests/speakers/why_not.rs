//! Why a peer does not get a prefix: each reason in words.

use caracal_bgpd_core::policy::{Community, Match, Policy, Term, Verdict};

use super::net::{Net, config, join, name, originate, peer, prefix};

/// Node 1 between node 0 of another AS and nodes 2 and 3 of its own.
fn net() -> Net {
    let mut configs = vec![
        config(0, 64600),
        config(1, 64512),
        config(2, 64512),
        config(3, 64512),
    ];
    for other in [0, 2, 3] {
        join(&mut configs, 1, other);
    }
    configs[1].routes = vec![
        originate("10.1.0.0/16"),
        originate("10.7.0.0/16"),
        originate("10.8.0.0/16"),
    ];
    configs[1].routes[1].communities = vec![Community::Standard(Community::NO_EXPORT)];
    configs[1].routes[2].communities = vec![Community::Standard(Community::NO_ADVERTISE)];
    configs[2].routes = vec![originate("10.2.0.0/16")];
    let mut net = Net::new(configs);
    net.pass(1);
    net
}

fn why(net: &mut Net, text: &str, other: usize) -> String {
    let found = net.speaker(1).why_not(&prefix(text), &name(other)).unwrap();
    assert_eq!(found.advertised, found.reasons.is_empty());
    found.reasons.join("; ")
}

#[test]
fn each_reason_has_its_words() {
    let mut net = net();
    assert_eq!(why(&mut net, "10.1.0.0/16", 0), "");
    assert!(why(&mut net, "10.7.0.0/16", 0).contains("NO_EXPORT"));
    assert_eq!(why(&mut net, "10.7.0.0/16", 2), "");
    assert!(why(&mut net, "10.8.0.0/16", 2).contains("NO_ADVERTISE"));
    assert!(why(&mut net, "10.2.0.0/16", 3).contains("only through a route reflector"));
    assert!(why(&mut net, "10.2.0.0/16", 2).contains("came from this very peer"));
    let unknown = why(&mut net, "10.1.5.0/24", 0);
    assert!(
        unknown.contains("nothing is known of 10.1.5.0/24") && unknown.contains("it lies in 10.1.0.0/16"),
        "{unknown}"
    );
    assert!(net.speaker(1).why_not(&prefix("10.1.0.0/16"), "nobody").is_err());
}

#[test]
fn the_term_that_rejects_is_named_and_a_session_that_is_down_too() {
    let mut net = net();
    net.configure(1, |config| {
        let terms = vec![Term {
            name: "not to them".to_owned(),
            matches: Match::default(),
            actions: Vec::new(),
            then: Verdict::Reject,
        }];
        config.policies.insert("none".to_owned(), Policy { terms });
        peer(config, 0).export = vec!["none".to_owned()];
    });
    let rejected = why(&mut net, "10.1.0.0/16", 0);
    assert_eq!(
        rejected,
        "the export policy rejects it in term 1, \"not to them\""
    );
    net.kill(2);
    net.pump();
    net.pass(300);
    assert!(why(&mut net, "10.1.0.0/16", 2).contains("the session is not up ("));
}

use std::sync::Arc;

use super::*;
use crate::policy::{MetricScale, Range};
use crate::rib::attrs::Interner;

fn attrs() -> Arc<Attrs> {
    let rewrite = Rewrite {
        prepend: vec![64512, 64601],
        local_pref: Some(150).into(),
        communities: vec![Community::Standard(7), Community::Large(1, 2, 3)],
        ..Rewrite::default()
    };
    Interner::default().intern(&rewrite.apply(&[0x40, 1, 1, 0, 0x40, 2, 0]))
}

fn route(attrs: &Attrs) -> Route<'_> {
    Route {
        prefix: "10.1.0.0/26".parse().unwrap(),
        source: Source::Kernel,
        peer_type: Some(PeerType::Ebgp),
        interface: Some("cali12345"),
        next_hop: Some("192.0.2.1".parse().unwrap()),
        metric: Some(1024),
        attrs,
    }
}

fn chain(terms: Vec<Term>) -> Chain {
    Chain(vec![Arc::new(Policy { terms })])
}

fn term(matches: Match, actions: Vec<Action>, then: Verdict) -> Term {
    Term {
        name: String::new(),
        matches,
        actions,
        then,
    }
}

/// Whether the criteria, written as in a configuration file, match the route.
fn check(criteria: &str) -> bool {
    let matches: Match = serde_json::from_str(criteria).unwrap();
    let attrs = attrs();
    evaluate(
        &chain(vec![term(matches, Vec::new(), Verdict::Reject)]),
        &route(&attrs),
    )
    .is_none()
}

#[test]
fn criteria_match_what_they_say_and_nothing_else() {
    let yes = [
        "{}",
        r#"{"family":"ipv4"}"#,
        r#"{"prefixes":[{"cidr":"10.0.0.0/8","operator":"in"}]}"#,
        r#"{"prefixes":[{"cidr":"192.0.2.0/24","operator":"in"},{"cidr":"10.1.0.0/26","operator":"equal"}]}"#,
        r#"{"prefixes":[{"cidr":"10.0.0.0/8","operator":"in","minLength":26,"maxLength":26}]}"#,
        r#"{"prefixes":[{"cidr":"10.1.0.0/16","operator":"notEqual"}]}"#,
        r#"{"prefixes":[{"cidr":"10.2.0.0/16","operator":"notIn"}]}"#,
        r#"{"sources":["bgp","kernel"]}"#,
        r#"{"peerType":"ebgp"}"#,
        r#"{"interfaces":["eth*","cali*"]}"#,
        r#"{"interfaces":["c?li1*5"]}"#,
        r#"{"communities":["0:7","1:2:3"]}"#,
        r#"{"asPathPrefix":[64512]}"#,
        r#"{"asPathPrefix":[64512,64601]}"#,
        r#"{"localPref":{"min":150,"max":150}}"#,
        r#"{"metric":{"min":1000}}"#,
        r#"{"nextHops":["192.0.2.0/24"]}"#,
    ];
    for criteria in yes {
        assert!(check(criteria), "{criteria}");
    }
    let no = [
        r#"{"family":"ipv6"}"#,
        r#"{"prefixes":[{"cidr":"10.1.0.0/27","operator":"in"}]}"#,
        r#"{"prefixes":[{"cidr":"10.1.0.0/16","operator":"equal"}]}"#,
        r#"{"prefixes":[{"cidr":"10.0.0.0/8","operator":"in","maxLength":24}]}"#,
        r#"{"prefixes":[{"cidr":"10.1.0.0/26","operator":"notEqual"}]}"#,
        r#"{"prefixes":[{"cidr":"10.0.0.0/8","operator":"notIn"}]}"#,
        r#"{"sources":["static"]}"#,
        r#"{"peerType":"ibgp"}"#,
        r#"{"interfaces":["cali"]}"#,
        r#"{"interfaces":["cali*6"]}"#,
        r#"{"communities":["0:7","0:8"]}"#,
        r#"{"asPathPrefix":[64601]}"#,
        r#"{"asPathPrefix":[64512,64601,1]}"#,
        r#"{"localPref":{"max":149}}"#,
        r#"{"metric":{"max":1023}}"#,
        r#"{"nextHops":["198.51.100.0/24"]}"#,
        // All criteria of a term hold, or it does not match.
        r#"{"family":"ipv4","sources":["bgp"]}"#,
    ];
    for criteria in no {
        assert!(!check(criteria), "{criteria}");
    }
}

#[test]
fn first_deciding_term_ends_the_chain_and_undecided_is_accepted() {
    let attrs = attrs();
    let set = |value| vec![Action::SetMetric(value)];
    let any = Match::default;
    let terms = vec![
        term(any(), set(1), Verdict::Next),
        term(any(), set(2), Verdict::Accept),
        term(any(), set(3), Verdict::Reject),
    ];
    assert_eq!(evaluate(&chain(terms), &route(&attrs)).unwrap().metric, Some(2));
    let undecided = chain(vec![term(any(), set(1), Verdict::Next)]);
    assert_eq!(evaluate(&undecided, &route(&attrs)).unwrap().metric, Some(1));
    assert_eq!(
        evaluate(&Chain::default(), &route(&attrs)),
        Some(Outcome::default())
    );
}

#[test]
fn later_terms_see_what_earlier_ones_did() {
    let attrs = attrs();
    let scale = MetricScale {
        base: 2_147_483_647,
        default: 1024,
    };
    let seen = Match {
        local_pref: Some(Range::exactly(2_147_482_623)),
        communities: vec![Community::Standard(9)],
        as_path_prefix: vec![1, 2, 64512],
        ..Match::default()
    };
    let terms = vec![
        term(
            Match::default(),
            vec![
                Action::LocalPrefFromMetric(scale),
                Action::AddCommunities(vec![Community::Standard(9)]),
                Action::PrependAsPath(vec![2]),
                Action::PrependAsPath(vec![1]),
            ],
            Verdict::Next,
        ),
        term(seen, vec![Action::SetMed(5)], Verdict::Next),
        term(
            Match::default(),
            vec![Action::MetricFromLocalPref(scale)],
            Verdict::Accept,
        ),
    ];
    let outcome = evaluate(&chain(terms), &route(&attrs)).unwrap();
    assert_eq!((outcome.med, outcome.metric), (Some(5), Some(1024)));
    assert_eq!(outcome.prepend, [1, 2]);
}

#[test]
fn metric_and_local_pref_fall_back_to_the_default() {
    let attrs = Interner::default().intern(&[0x40, 1, 1, 0, 0x40, 2, 0]);
    let scale = MetricScale {
        base: 1000,
        default: 300,
    };
    let bare = Route {
        metric: None,
        ..route(&attrs)
    };
    let run = |action| {
        let terms = vec![term(Match::default(), vec![action], Verdict::Accept)];
        evaluate(&chain(terms), &bare).unwrap()
    };
    assert_eq!(run(Action::LocalPrefFromMetric(scale)).local_pref, Some(700));
    assert_eq!(run(Action::MetricFromLocalPref(scale)).metric, Some(300));
}

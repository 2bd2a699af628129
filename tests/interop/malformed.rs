//! Input that is wrong: what RFC 7606 wants of each case, from hand-written messages and from ExaBGP.

use super::dut::{Dut, ROUTES, peer};
use super::foreign::{Kind, Route, Setup, wait_received, wait_up};
use super::lab::{Lab, eventually, holds_within};
use super::raw::{Raw, open, update};

/// What has to become of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// Its routes count as withdrawn, the session stays.
    Withdraw,
    /// The attribute is left out, the routes are taken.
    Take,
    /// The session ends with this.
    End(u8, u8),
}

const ORIGIN: [u8; 4] = [0x40, 1, 1, 0];
const AS_PATH: [u8; 9] = [0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9];
const NEXT_HOP: [u8; 7] = [0x40, 3, 4, 10, 99, 0, 2];
/// 10.200.0.0/24 and 10.201.0.0/24.
const WELL: [u8; 4] = [24, 10, 200, 0];
const TRIED: [u8; 4] = [24, 10, 201, 0];

/// MP_REACH_NLRI of no route.
const EMPTY_REACH: [u8; 24] = [
    0x80, 14, 21, 0, 2, 1, 16, 0xfd, 0, 0, 0x99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0,
];

fn well() -> Vec<u8> {
    [&ORIGIN[..], &AS_PATH, &NEXT_HOP].concat()
}

/// The usual attributes with one more.
fn and(more: &[u8]) -> Vec<u8> {
    [&well()[..], more].concat()
}

/// The cases of RFC 7606 §3, §4, §7, by name.
fn cases() -> Vec<(&'static str, Vec<u8>, Verdict)> {
    use Verdict::{End, Take, Withdraw};
    vec![
        (
            "ORIGIN of two octets",
            [&[0x40, 1, 2, 0, 0], &AS_PATH[..], &NEXT_HOP].concat(),
            Withdraw,
        ),
        (
            "ORIGIN of value 5",
            [&[0x40, 1, 1, 5], &AS_PATH[..], &NEXT_HOP].concat(),
            Withdraw,
        ),
        ("no ORIGIN", [&AS_PATH[..], &NEXT_HOP].concat(), Withdraw),
        ("no AS_PATH", [&ORIGIN[..], &NEXT_HOP].concat(), Withdraw),
        ("no NEXT_HOP", [&ORIGIN[..], &AS_PATH].concat(), Withdraw),
        (
            "AS_PATH with an odd octet",
            [&ORIGIN[..], &[0x40, 2, 7, 2, 1, 0, 0, 0xfd, 0xe9, 0], &NEXT_HOP].concat(),
            Withdraw,
        ),
        (
            "AS_PATH that claims more than it has",
            [&ORIGIN[..], &[0x40, 2, 6, 2, 2, 0, 0, 0xfd, 0xe9], &NEXT_HOP].concat(),
            Withdraw,
        ),
        (
            "AS_PATH with an empty segment",
            [&ORIGIN[..], &[0x40, 2, 2, 2, 0], &NEXT_HOP].concat(),
            Withdraw,
        ),
        (
            "AS_PATH with an unknown segment",
            [&ORIGIN[..], &[0x40, 2, 6, 9, 1, 0, 0, 0xfd, 0xe9], &NEXT_HOP].concat(),
            Withdraw,
        ),
        (
            "NEXT_HOP of five octets",
            [&ORIGIN[..], &AS_PATH, &[0x40, 3, 5, 10, 99, 0, 2, 0]].concat(),
            Withdraw,
        ),
        (
            "MULTI_EXIT_DISC of three octets",
            and(&[0x80, 4, 3, 0, 0, 1]),
            Withdraw,
        ),
        (
            "COMMUNITIES of three octets",
            and(&[0xc0, 8, 3, 0, 0, 1]),
            Withdraw,
        ),
        ("COMMUNITIES without any", and(&[0xc0, 8, 0]), Withdraw),
        (
            "EXTENDED COMMUNITIES of seven octets",
            and(&[0xc0, 16, 7, 0, 2, 0, 0, 0, 0, 1]),
            Withdraw,
        ),
        (
            "LARGE_COMMUNITY of eleven octets",
            and(&[0xc0, 32, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            Withdraw,
        ),
        (
            "ORIGIN with the flags of another",
            [&[0xc0, 1, 1, 0], &AS_PATH[..], &NEXT_HOP].concat(),
            Withdraw,
        ),
        (
            "an attribute that runs over the end",
            and(&[0xc0, 8, 200, 0, 0]),
            Withdraw,
        ),
        ("ATOMIC_AGGREGATE with a value", and(&[0x40, 6, 1, 0]), Take),
        (
            "AGGREGATOR of five octets",
            and(&[0xc0, 7, 5, 0, 0, 0, 0, 1]),
            Take,
        ),
        (
            "LOCAL_PREF from outside the AS",
            and(&[0x40, 5, 4, 0, 0, 0, 200]),
            Take,
        ),
        (
            "ORIGINATOR_ID from outside the AS",
            and(&[0x80, 9, 4, 1, 1, 1, 1]),
            Take,
        ),
        (
            "COMMUNITIES twice",
            and(&[0xc0, 8, 4, 0, 1, 0, 1, 0xc0, 8, 4, 0, 2, 0, 2]),
            Take,
        ),
        (
            "an unknown optional attribute",
            and(&[0xc0, 250, 3, 1, 2, 3]),
            Take,
        ),
        (
            "an unknown well-known attribute",
            and(&[0x40, 250, 1, 0]),
            End(3, 2),
        ),
        (
            "MP_REACH_NLRI twice",
            and(&[EMPTY_REACH, EMPTY_REACH].concat()),
            End(3, 1),
        ),
    ]
}

#[test]
fn each_case_of_rfc_7606_costs_what_it_has_to_and_no_more() {
    let lab = Lab::new(1);
    let dut = Dut::start(&lab, &peer(0, false, 65001, ", passive: true"), ROUTES, "");
    assert!(holds_within(10, || dut.peer(0)["state"] == "Active"));
    let mut session = establish(&lab, &dut);
    for (name, attributes, verdict) in cases() {
        session.send(&update(&well(), &[WELL, TRIED].concat()));
        wait_received(&dut, 0, &["10.200.0.0/24", "10.201.0.0/24"]);
        let before = dut.counter(0, "updatesIn");
        session.send(&update(&attributes, &TRIED));
        if let Verdict::End(code, subcode) = verdict {
            assert_eq!(session.notification(), Some((code, subcode)), "{name}");
            session = establish(&lab, &dut);
            continue;
        }
        eventually(name, 5, || dut.counter(0, "updatesIn") > before);
        let kept: &[&str] = match verdict {
            Verdict::Withdraw => &["10.200.0.0/24"],
            _ => &["10.200.0.0/24", "10.201.0.0/24"],
        };
        let found: Vec<_> = dut
            .received(0)
            .iter()
            .map(|route| route["prefix"].clone())
            .collect();
        assert_eq!(found, kept, "{name}");
        assert!(dut.is_up(0), "{name}: {}", dut.last_error(0));
    }
    let log = dut.log();
    assert!(
        log.contains("routes taken as withdrawn") && log.contains("attribute left out"),
        "{log}"
    );
}

fn establish(lab: &Lab, dut: &Dut<'_>) -> Raw {
    // After an error the speaker refuses for a second or two.
    for _ in 0..20 {
        let mut session = Raw::connect(lab, 0, 1);
        session.open(65001);
        if holds_within(1, || dut.is_up(0)) {
            return session;
        }
    }
    panic!("no session: {}", dut.last_error(0));
}

#[test]
fn headers_that_are_wrong_are_answered_as_rfc_4271_says() {
    let lab = Lab::new(1);
    let dut = Dut::start(&lab, &peer(0, false, 65001, ", passive: true"), ROUTES, "");
    assert!(holds_within(10, || dut.peer(0)["state"] == "Active"));
    let header = |length: u16, kind: u8| {
        let mut bytes = vec![0xff; 16];
        bytes.extend(length.to_be_bytes());
        bytes.push(kind);
        bytes
    };
    let cases = [
        (
            "a marker that is not all ones",
            [vec![0xfe; 16], vec![0, 19, 4]].concat(),
            (1, 1),
        ),
        ("a length below the header's", header(18, 4), (1, 2)),
        (
            "a KEEPALIVE of 20 octets",
            [header(20, 4), vec![0]].concat(),
            (1, 2),
        ),
        (
            "an UPDATE too short",
            [header(22, 2), vec![0; 3]].concat(),
            (1, 2),
        ),
        ("an unknown type", header(19, 9), (1, 3)),
        (
            "lengths that contradict",
            [header(23, 2), vec![0xff; 4]].concat(),
            (3, 1),
        ),
        (
            "a prefix of 33 bits",
            [header(28, 2), vec![0, 5, 33, 1, 2, 3, 4, 0, 0]].concat(),
            (3, 10),
        ),
        ("an OPEN in a session", open(65001), (5, 3)),
    ];
    for (name, bytes, expected) in cases {
        let mut session = establish(&lab, &dut);
        session.send(&bytes);
        assert_eq!(session.notification(), Some(expected), "{name}");
    }
}

#[test]
fn messages_that_break_off_anywhere_hurt_nobody() {
    let lab = Lab::new(2);
    let peers = peer(0, false, 65001, ", passive: true") + &peer(1, false, 65002, "");
    let dut = Dut::start(&lab, &peers, ROUTES, "");
    let well = Kind::Bird.is_installed().then(|| {
        let other = Kind::Bird.start(&lab, Setup::new(1, vec![Route::plain("10.201.0.0/24")]));
        wait_up(&dut, 1, &*other);
        other
    });
    assert!(holds_within(10, || dut.peer(0)["state"] == "Active"));
    let stream = [open(65001), update(&self::well(), &WELL)].concat();
    for end in 0..stream.len() {
        let mut session = Raw::connect(&lab, 0, 1);
        session.send(&stream[..end]);
    }
    // Still of use afterwards.
    let mut session = establish(&lab, &dut);
    session.send(&update(&self::well(), &WELL));
    wait_received(&dut, 0, &["10.200.0.0/24"]);
    if well.is_some() {
        assert_eq!(dut.established_count(1), 1, "{}", dut.log());
    }
}

#[test]
fn malformed_attributes_of_exabgp_cost_their_route_alone() {
    if !Kind::ExaBgp.is_installed() {
        return;
    }
    let lab = Lab::new(1);
    let dut = Dut::start(&lab, &peer(0, false, 65001, ""), ROUTES, "");
    let mut other = Kind::ExaBgp.start(&lab, Setup::new(0, vec![Route::plain("10.200.1.0/26")]));
    wait_up(&dut, 0, &*other);
    wait_received(&dut, 0, &["10.200.1.0/26"]);
    // Three octets where communities have four each.
    let odd = Route {
        community: Some("65001:7 ] attribute [ 0x20 0xc0 0x000001".to_owned()),
        ..Route::plain("10.200.2.0/26")
    };
    other.announce(&[Route::plain("10.200.1.0/26"), odd]);
    eventually("it is counted", 15, || dut.counter(0, "treatAsWithdraw") == 1);
    wait_received(&dut, 0, &["10.200.1.0/26"]);
    assert_eq!(dut.established_count(0), 1);
}

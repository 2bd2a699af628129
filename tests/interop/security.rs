//! TCP-MD5 (RFC 2385) and TTL security (RFC 5082).

use super::dut::{Dut, ROUTES, peer};
use super::foreign::{Kind, Route, Setup, wait_received, wait_up, with_each};
use super::lab::{Lab, holds_within};
use super::raw::Raw;

/// Whether the daemon waits, so that one side alone dials. ExaBGP listens on no port unless it is told to by its
/// environment.
fn is_passive(kind: Kind, we_wait: bool) -> bool {
    !we_wait && kind != Kind::ExaBgp
}

#[test]
fn the_right_password_opens_a_session_from_either_side() {
    for passive in [false, true] {
        with_each(&Kind::ALL, 1, |lab, kind| {
            let more = format!(", password: secret, passive: {passive}");
            let dut = Dut::start(lab, &peer(0, false, 65001, &more), ROUTES, "");
            let setup = Setup {
                password: Some("secret"),
                passive: is_passive(kind, passive),
                ..Setup::new(0, vec![Route::plain("10.200.1.0/26")])
            };
            let other = kind.start(lab, setup);
            wait_up(&dut, 0, &*other);
            wait_received(&dut, 0, &["10.200.1.0/26"]);
        });
    }
}

#[test]
fn a_wrong_or_missing_password_opens_none() {
    with_each(&Kind::ALL, 1, |lab, kind| {
        let dut = Dut::start(lab, &peer(0, false, 65001, ", password: secret"), ROUTES, "");
        for password in [None, Some("other")] {
            let setup = Setup {
                password,
                ..Setup::new(0, Vec::new())
            };
            // FRR keeps files of a run in its folder, so one run has to do.
            if kind == Kind::Frr && password.is_none() {
                continue;
            }
            let _other = kind.start(lab, setup);
            assert!(!holds_within(4, || dut.is_up(0)), "{password:?}");
        }
    });
}

#[test]
fn ttl_security_works_from_both_sides() {
    for passive in [false, true] {
        with_each(&Kind::ALL, 1, |lab, kind| {
            let more = format!(", ttlSecurityHops: 1, passive: {passive}");
            let dut = Dut::start(lab, &peer(0, false, 65001, &more), ROUTES, "");
            let setup = Setup {
                ttl_security: true,
                passive: is_passive(kind, passive),
                ..Setup::new(0, vec![Route::plain("10.200.1.0/26")])
            };
            let other = kind.start(lab, setup);
            wait_up(&dut, 0, &*other);
            wait_received(&dut, 0, &["10.200.1.0/26"]);
        });
    }
}

#[test]
fn what_has_crossed_a_router_is_not_heard_under_ttl_security() {
    let lab = Lab::new(1);
    let more = ", ttlSecurityHops: 1, passive: true";
    let dut = Dut::start(&lab, &peer(0, false, 65001, more), ROUTES, "");
    assert!(holds_within(10, || dut.peer(0)["state"] == "Active"));
    let mut far = Raw::connect(&lab, 0, 254);
    far.open(65001);
    assert!(!holds_within(2, || dut.is_up(0)));
    drop(far);
    let mut near = Raw::connect(&lab, 0, 255);
    near.open(65001);
    assert!(holds_within(10, || dut.is_up(0)), "{}", dut.log());
}

//! BFD (RFC 5880, 5881) with BIRD and with FRR's bfdd.

use std::time::{Duration, Instant};

use super::dut::{Dut, ROUTES, peer};
use super::foreign::{Kind, Route, Setup, wait_received, wait_up, with_each};
use super::lab::{eventually, holds_within};

const FAST: &str = ", bfd: {receiveMillis: 100, transmitMillis: 100, multiplier: 3}";

#[test]
fn a_frozen_peer_is_gone_long_before_its_hold_time() {
    with_each(&[Kind::Bird, Kind::Frr], 1, |lab, kind| {
        for v6 in [false, true] {
            // One of FRR's folders serves one run.
            if v6 && kind == Kind::Frr {
                continue;
            }
            let prefix = if v6 { "fd00:200:1::/64" } else { "10.200.1.0/26" };
            let dut = Dut::start(lab, &peer(0, v6, 65001, FAST), ROUTES, "");
            let setup = Setup {
                v6,
                bfd: true,
                ..Setup::new(0, vec![Route::plain(prefix)])
            };
            let other = kind.start(lab, setup);
            wait_up(&dut, 0, &*other);
            eventually("BFD is up", 20, || dut.peer(0)["bfd"]["state"] == "Up");
            wait_received(&dut, 0, &[prefix]);
            // Poll sequences are over: what was agreed on is in use.
            let detect = || dut.peer(0)["bfd"]["detectMillis"].as_u64().unwrap_or(0);
            assert!(holds_within(10, || detect() <= 1000), "{}", dut.peer(0));
            let before = Instant::now();
            other.freeze(true);
            eventually("the session is down", 5, || !dut.is_up(0));
            let took = before.elapsed();
            // The hold time is nine seconds. Detection takes 300 ms; the rest is for a busy machine.
            assert!(took < Duration::from_secs(4), "{took:?}");
            eventually("its routes have left the kernel", 5, || {
                !lab.routes(v6).contains(prefix)
            });
            eventually("status and log say so", 10, || {
                dut.peer(0)["bfd"]["downCount"] == 1 && dut.log().contains("BFD: the peer is gone")
            });
            other.freeze(false);
            eventually("all is well again", 40, || {
                dut.is_up(0) && dut.peer(0)["bfd"]["state"] == "Up" && lab.routes(v6).contains(prefix)
            });
        }
    });
}

#[test]
fn a_speaker_that_ends_tells_bfd_that_it_is_no_failure() {
    with_each(&[Kind::Bird, Kind::Frr], 1, |lab, kind| {
        let mut dut = Dut::start(lab, &peer(0, false, 65001, FAST), ROUTES, "");
        let setup = Setup {
            bfd: true,
            ..Setup::new(0, vec![Route::plain("10.200.1.0/26")])
        };
        let other = kind.start(lab, setup);
        wait_up(&dut, 0, &*other);
        eventually("BFD is up", 20, || dut.peer(0)["bfd"]["state"] == "Up");
        eventually("our route is there", 10, || other.has("10.65.0.0/26"));
        std::thread::sleep(Duration::from_secs(1));
        dut.process.signal("TERM");
        eventually("the speaker has ended", 10, || dut.process.has_ended());
        std::thread::sleep(Duration::from_secs(1));
        assert!(other.has("10.65.0.0/26"), "{}", other.log());
        assert!(lab.routes(false).contains("10.200.1.0/26"));
    });
}

#[test]
fn bfd_several_hops_away_uses_its_own_port() {
    with_each(&[Kind::Bird], 1, |lab, kind| {
        // BIRD's eBGP sessions are multihop when told so, and BFD follows.
        let more =
            ", multihop: true, bfd: {mode: multihop, receiveMillis: 100, transmitMillis: 100, multiplier: 3}";
        let dut = Dut::start(lab, &peer(0, false, 65001, more), ROUTES, "");
        let setup = Setup {
            bfd: true,
            multihop: true,
            ..Setup::new(0, Vec::new())
        };
        let other = kind.start(lab, setup);
        wait_up(&dut, 0, &*other);
        eventually("BFD is up", 20, || dut.peer(0)["bfd"]["state"] == "Up");
        other.freeze(true);
        eventually("the session is down", 5, || !dut.is_up(0));
    });
}

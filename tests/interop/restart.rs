//! Graceful restart in both roles (RFC 4724).

use std::sync::atomic::{AtomicBool, Ordering};

use super::dut::{Dut, ROUTES, peer};
use super::foreign::{Kind, Route, Setup, wait_has, wait_received, wait_up, with_each};
use super::lab::eventually;

const STAYS: &str = "10.200.1.0/26";
const GOES: &str = "10.200.2.0/26";

#[test]
fn a_killed_peer_keeps_its_routes_until_it_is_back_and_has_said_all() {
    with_each(&Kind::ALL, 1, |lab, kind| {
        let dut = Dut::start(lab, &peer(0, false, 65001, ""), ROUTES, "");
        let both = [STAYS, GOES].map(Route::plain);
        let mut other = kind.start(lab, Setup::new(0, both.to_vec()));
        wait_up(&dut, 0, &*other);
        wait_received(&dut, 0, &[STAYS, GOES]);
        eventually("both routes are in the kernel", 10, || {
            let routes = lab.routes(false);
            routes.contains(STAYS) && routes.contains(GOES)
        });
        other.kill();
        eventually("the session is down and the routes are stale", 15, || {
            let peer = dut.peer(0);
            peer["state"] != "Established" && peer["routesStale"] == true
        });
        assert!(dut.received(0).iter().all(|route| route["stale"] == true));
        assert!(lab.routes(false).contains(STAYS) && lab.routes(false).contains(GOES));
        other.start_again(&both[..1]);
        wait_up(&dut, 0, &*other);
        wait_received(&dut, 0, &[STAYS]);
        eventually("what did not come back has left the kernel", 10, || {
            let routes = lab.routes(false);
            routes.contains(STAYS) && !routes.contains(GOES)
        });
        assert_eq!(dut.established_count(0), 2);
    });
}

#[test]
fn peers_keep_the_routes_of_a_killed_speaker() {
    with_each(&[Kind::Bird, Kind::Frr, Kind::GoBgp], 1, |lab, kind| {
        let ours = ["10.65.0.0/26", "10.65.1.0/26"];
        let dut = Dut::start(lab, &peer(0, false, 65001, ""), ROUTES, "");
        let other = kind.start(lab, Setup::new(0, vec![Route::plain(STAYS)]));
        wait_up(&dut, 0, &*other);
        wait_has(&*other, &ours);
        wait_received(&dut, 0, &[STAYS]);
        // A restart that is agreed on needs our End-of-RIB at the peer, and its at ours.
        std::thread::sleep(std::time::Duration::from_secs(1));
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (other, ended) = (&other, &ended);
            let lost = scope.spawn(move || {
                let mut lost = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    let has = lab.routes(false).contains(STAYS);
                    if !has {
                        lost.push("a route left our kernel".to_owned());
                    }
                }
                lost
            });
            drop(dut);
            std::thread::sleep(std::time::Duration::from_millis(500));
            let kept = other.routes(&ours).len();
            let again = Dut::start_again(lab);
            wait_up(&again, 0, &**other);
            wait_has(&**other, &ours);
            wait_received(&again, 0, &[STAYS]);
            ended.store(true, Ordering::Relaxed);
            let lost = lost.join().unwrap();
            assert!(lost.is_empty(), "{lost:?}");
            assert_eq!(
                kept,
                2,
                "the peer dropped routes of a restarting speaker: {}",
                other.log()
            );
        });
    });
}

// RFC 9494.
#[test]
fn routes_of_a_peer_that_stays_away_live_on_as_the_last_choice() {
    with_each(&[Kind::Bird, Kind::Frr], 1, |lab, kind| {
        let more = ", longLivedSeconds: 0";
        let dut = Dut::start(lab, &peer(0, false, 65001, more), ROUTES, "");
        let setup = Setup {
            long_lived: Some(2),
            ..Setup::new(0, vec![Route::plain(STAYS)])
        };
        let mut other = kind.start(lab, setup);
        wait_up(&dut, 0, &*other);
        wait_received(&dut, 0, &[STAYS]);
        std::thread::sleep(std::time::Duration::from_secs(1));
        let communities = || dut.route(0, STAYS).map(|route| route["communities"].to_string());
        assert!(communities().is_some_and(|found| !found.contains("65535:6")));
        other.kill();
        // The restart time is over, and the route is marked LLGR_STALE.
        eventually("the route is kept for long", 20, || {
            communities().is_some_and(|found| found.contains("65535:6"))
        });
        assert!(lab.routes(false).contains(STAYS));
        other.start_again(&[Route::plain(STAYS)]);
        wait_up(&dut, 0, &*other);
        eventually("the route is as good as before", 20, || {
            communities().is_some_and(|found| !found.contains("65535:6"))
        });
        assert!(lab.routes(false).contains(STAYS));
    });
}

//! Route reflection (RFC 4456), as the reflector and as a client.

use super::dut::{Dut, ROUTES, peer};
use super::foreign::{Kind, Route, Setup, wait_has, wait_received, wait_up, with_each};
use super::lab::{DUT_AS, address};

#[test]
fn clients_see_each_other_through_our_reflector() {
    with_each(&Kind::ALL, 2, |lab, kind| {
        if !Kind::Bird.is_installed() {
            return;
        }
        let client = ", reflectorClient: 10.99.255.1";
        let peers = peer(0, false, DUT_AS, client) + &peer(1, false, DUT_AS, client);
        let dut = Dut::start(lab, &peers, "", "");
        let setup = |index: usize, route: Route| Setup {
            own_as: DUT_AS,
            ..Setup::new(index, vec![route])
        };
        let one = kind.start(lab, setup(0, Route::rich("10.200.0.0/24", 64777)));
        let two = Kind::Bird.start(lab, setup(1, Route::plain("10.201.0.0/24")));
        wait_up(&dut, 0, &*one);
        wait_up(&dut, 1, &*two);
        let cases = [(&two, 0, "10.200.0.0/24"), (&one, 1, "10.201.0.0/24")];
        for (at, from, prefix) in cases {
            wait_has(&**at, &[prefix]);
            let seen = at.routes(&[prefix]).remove(prefix).unwrap();
            // The next hop stays; who originated it and who reflected it are added.
            assert_eq!(seen.next_hop, address(from, false), "{seen:?}");
            assert_eq!(seen.originator, Some(format!("10.99.{from}.2")), "{seen:?}");
            assert_eq!(seen.cluster_list, ["10.99.255.1"], "{seen:?}");
        }
        let seen = two.routes(&["10.200.0.0/24"]).remove("10.200.0.0/24").unwrap();
        assert_eq!(seen.as_path, [4_200_000_001, 64777]);
        // Inside the AS, MULTI_EXIT_DISC goes on.
        assert_eq!(seen.med, Some(77));
        assert_eq!(seen.targets, ["64777:9".to_owned()].into());
    });
}

/// FRR sends a client's own routes back to it.
#[test]
fn a_reflectors_echo_is_dropped_without_noise() {
    with_each(&[Kind::Bird, Kind::Frr, Kind::GoBgp], 1, |lab, kind| {
        let dut = Dut::start(lab, &peer(0, false, DUT_AS, ""), ROUTES, "");
        let setup = Setup {
            own_as: DUT_AS,
            reflects: true,
            ..Setup::new(0, vec![Route::plain("10.200.0.0/24")])
        };
        let other = kind.start(lab, setup);
        wait_up(&dut, 0, &*other);
        wait_has(&*other, &["10.65.0.0/26", "10.65.1.0/26"]);
        wait_received(&dut, 0, &["10.200.0.0/24"]);
        let echoes = dut.received(0).len() - 1;
        assert!(echoes == 0 || kind == Kind::Frr, "{:?}", dut.received(0));
        assert!(!dut.log().contains("WARN"), "{}", dut.log());
        assert_eq!(dut.established_count(0), 1);
    });
}

//! Several paths to one prefix (RFC 7911).

use super::dut::{Dut, ROUTES, peer};
use super::foreign::{Kind, Route, Setup, wait_up, with_each};
use super::lab::eventually;

#[test]
fn two_paths_of_a_peer_are_kept_apart_and_withdrawn_apart() {
    with_each(&[Kind::Bird, Kind::GoBgp, Kind::ExaBgp], 1, |lab, kind| {
        let path = |path_id: u32| Route {
            path_id,
            as_path: vec![64700 + path_id],
            ..Route::plain("10.200.1.0/26")
        };
        let setup = Setup {
            add_paths: true,
            ..Setup::new(0, vec![path(1), path(2)])
        };
        let dut = Dut::start(lab, &peer(0, false, 65001, ", addPath: receive"), ROUTES, "");
        let mut other = kind.start(lab, setup);
        wait_up(&dut, 0, &*other);
        let paths = || {
            let routes = dut.received(0).into_iter();
            let mut found: Vec<String> = routes
                .filter(|route| route["prefix"] == "10.200.1.0/26")
                .map(|route| route["asPath"].as_str().unwrap_or_default().to_owned())
                .collect();
            found.sort();
            found
        };
        eventually("both paths are here", 15, || {
            paths() == ["65001 64701", "65001 64702"]
        });
        other.announce(&[path(1)]);
        eventually("one path is left", 15, || paths() == ["65001 64701"]);
        assert_eq!(dut.established_count(0), 1);
    });
}

//! Sessions with BIRD 2.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::lab::{Bird, Lab, NODE, Speaker, eventually, ip};

const REMOTE: &str = "10.200.1.0/26 via 10.99.0.2 dev eth0 proto bird";

fn pair<'a>(lab: &'a Lab, routes: &[&str]) -> (Bird<'a>, Speaker<'a>) {
    let bird = Bird::start(lab, routes, "");
    let speaker = Speaker::start(lab, "", "");
    eventually("the session is up", 15, || speaker.is_up() && bird.is_up());
    (bird, speaker)
}

#[test]
fn routes_go_both_ways_and_withdrawals_too() {
    let lab = Lab::new();
    let (bird, _speaker) = pair(&lab, &["10.200.1.0/26", "10.200.2.0/26"]);
    eventually("both sides have the routes", 5, || {
        bird.has("10.65.0.0/26") && lab.routes().contains(REMOTE) && lab.routes().contains("10.200.2.0/26")
    });
    assert!(
        lab.routes().contains("blackhole 10.65.0.0/26 proto bird"),
        "{}",
        lab.routes()
    );
    bird.announce(&["10.200.1.0/26"], "");
    eventually("the withdrawn route is gone", 3, || {
        !lab.routes().contains("10.200.2.0/26")
    });
    assert!(lab.routes().contains(REMOTE));
}

#[test]
fn a_killed_speaker_loses_no_route_anywhere() {
    let lab = Lab::new();
    let (bird, speaker) = pair(&lab, &["10.200.1.0/26", "10.200.2.0/26"]);
    eventually("both sides have the routes", 5, || {
        bird.has("10.65.0.0/26") && lab.routes().contains("10.200.2.0/26")
    });
    let ended = AtomicBool::new(false);
    let looks = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                assert!(lab.routes().contains(REMOTE), "a route left the kernel");
                assert!(bird.has("10.65.0.0/26"), "a route left the peer");
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        speaker.process.kill();
        // One of the routes goes while nobody listens.
        std::thread::sleep(Duration::from_millis(300));
        bird.announce(&["10.200.1.0/26"], "");
        let again = Speaker::start_again(&lab);
        eventually("the session is up again", 20, || again.is_up() && bird.is_up());
        eventually("the stale route is swept", 10, || {
            !lab.routes().contains("10.200.2.0/26")
        });
        std::thread::sleep(Duration::from_millis(500));
        ended.store(true, Ordering::Relaxed);
        watcher.join().unwrap();
        assert!(again.log().contains("is_restart=true"), "{}", again.log());
    });
    assert!(looks.load(Ordering::Relaxed) > 10);
}

#[test]
fn a_killed_speaker_loses_no_ping() {
    let lab = Lab::new();
    // Hosts on both sides, behind what BGP announces.
    ip(&lab.tor, "address add 10.200.1.1/32 dev lo");
    ip(&lab.node, "address add 10.65.0.5/32 dev lo");
    let (bird, speaker) = pair(&lab, &["10.200.1.0/26"]);
    eventually("both sides have the routes", 5, || {
        bird.has("10.65.0.0/26") && lab.routes().contains(REMOTE)
    });
    eventually("the router's kernel has it", 5, || {
        ip(&lab.tor, "route show").contains("10.65.0.0/26")
    });
    let mut ping = std::process::Command::new("ping");
    ping.args(["-q", "-i", "0.01", "-c", "500", "-I", "10.200.1.1", "10.65.0.5"]);
    std::thread::scope(|scope| {
        let pinging = scope.spawn(|| lab.tor.output(&mut ping).unwrap());
        std::thread::sleep(Duration::from_millis(500));
        speaker.process.kill();
        std::thread::sleep(Duration::from_millis(500));
        let again = Speaker::start_again(&lab);
        eventually("the session is up again", 20, || again.is_up() && bird.is_up());
        let text = String::from_utf8(pinging.join().unwrap().stdout).unwrap();
        assert!(
            text.contains("500 packets transmitted, 500 received, 0% packet loss"),
            "{text}"
        );
    });
}

#[test]
fn two_speakers_of_one_as_exchange_both_families() {
    let lab = Lab::new();
    for (ns, own, other, block) in [(&lab.node, 1, 2, "a"), (&lab.tor, 2, 1, "b")] {
        ip(ns, &format!("address add fd00:99::{own}/64 dev eth0 nodad"));
        let text = format!(
            "localAs: 65000\nrouterId: 10.99.0.{own}\nlisten: [{{address: 0.0.0.0}}, {{address: \"::\"}}]\n\
             trackNextHops: true\npeers:\n\
             - {{name: four, address: 10.99.0.{other}, remoteAs: 65000, timers: {{connectRetrySeconds: 1}}}}\n\
             - {{name: six, address: \"fd00:99::{other}\", remoteAs: 65000, families: [ipv6], timers: \
             {{connectRetrySeconds: 1}}}}\nroutes:\n- {{prefix: 10.65.{own}.0/26, blackhole: true}}\n\
             - {{prefix: \"fd00:65:{block}::/122\", blackhole: true}}\n"
        );
        std::fs::write(lab.path(&format!("{block}.yaml")), text).unwrap();
    }
    let _a = Speaker::start_on(&lab, &lab.node, "a");
    let _b = Speaker::start_on(&lab, &lab.tor, "b");
    eventually("both have both routes", 15, || {
        lab.routes()
            .contains("10.65.2.0/26 via 10.99.0.2 dev eth0 proto bird")
            && ip(&lab.node, "-6 route show").contains("fd00:65:b::/122 via fd00:99::2 dev eth0 proto bird")
            && ip(&lab.tor, "route show").contains("10.65.1.0/26 via 10.99.0.1 dev eth0 proto bird")
            && ip(&lab.tor, "-6 route show").contains("fd00:65:a::/122 via fd00:99::1 dev eth0 proto bird")
    });
    assert!(ip(&lab.node, "-6 route show").contains("blackhole fd00:65:a::/122"));
}

#[test]
fn a_terminated_speaker_leaves_routes_to_peers_and_kernel() {
    let lab = Lab::new();
    let (bird, speaker) = pair(&lab, &["10.200.1.0/26"]);
    eventually("both sides have the routes", 5, || {
        bird.has("10.65.0.0/26") && lab.routes().contains(REMOTE)
    });
    speaker.process.terminate();
    std::thread::sleep(Duration::from_millis(500));
    assert!(lab.routes().contains(REMOTE));
    assert!(bird.has("10.65.0.0/26"), "{}", bird.command("show route all"));
}

#[test]
fn the_right_password_opens_a_session_and_a_wrong_one_does_not() {
    let lab = Lab::new();
    let bird = Bird::start(&lab, &["10.200.1.0/26"], "password \"secret\";");
    let wrong = Speaker::start(&lab, "  password: other\n", "");
    std::thread::sleep(Duration::from_secs(4));
    assert!(!wrong.is_up() && !bird.is_up());
    drop(wrong);
    let right = Speaker::start(&lab, "  password: secret\n", "");
    eventually("the session is up", 30, || right.is_up() && bird.is_up());
}

#[test]
fn the_listener_checks_passwords_as_well() {
    let lab = Lab::new();
    let speaker = Speaker::start(&lab, "  password: secret\n  passive: true\n", "");
    let bird = Bird::start(&lab, &["10.200.1.0/26"], "password \"other\";");
    std::thread::sleep(Duration::from_secs(4));
    assert!(!speaker.is_up());
    bird.announce(&["10.200.1.0/26"], "password \"secret\";");
    eventually("the session is up", 30, || speaker.is_up() && bird.is_up());
}

#[test]
fn ttl_security_works_from_both_sides() {
    for passive in ["  passive: true\n", ""] {
        let lab = Lab::new();
        let bird = Bird::start(&lab, &["10.200.1.0/26"], "ttl security on;");
        let speaker = Speaker::start(&lab, &format!("  ttlSecurityHops: 1\n{passive}"), "");
        eventually("the session is up", 20, || speaker.is_up() && bird.is_up());
    }
}

#[test]
fn a_route_that_somebody_deletes_is_back_in_a_second() {
    let lab = Lab::new();
    let (_bird, speaker) = pair(&lab, &["10.200.1.0/26"]);
    eventually("the route is there", 5, || lab.routes().contains(REMOTE));
    ip(&lab.node, "route del 10.200.1.0/26");
    eventually("the route is back", 2, || lab.routes().contains(REMOTE));
    assert!(speaker.is_up());
}

#[test]
fn a_peer_that_sends_rubbish_hurts_nobody_else() {
    let lab = Lab::new();
    let bird = Bird::start(&lab, &["10.200.1.0/26"], "");
    ip(&lab.tor, "address add 10.99.0.3/24 dev eth0");
    let bad = "- name: bad\n  address: 10.99.0.3\n  remoteAs: 65002\n  passive: true\n";
    let speaker = Speaker::start(&lab, bad, "");
    eventually("the session is up", 15, || speaker.is_up() && bird.is_up());
    eventually("the route is there", 5, || lab.routes().contains(REMOTE));
    let mut open = vec![0xff; 16];
    open.extend([0, 29, 1, 4, 0xfd, 0xea, 0, 90, 10, 99, 0, 3, 0]);
    let cases: Vec<Vec<u8>> = vec![
        vec![0; 64],
        vec![0xff; 4096],
        open[..20].to_vec(),
        [open.clone(), vec![0xff; 16], vec![0, 19, 9]].concat(),
        [
            open.clone(),
            vec![0xff; 16],
            vec![0, 23, 2, 0xff, 0xff, 0xff, 0xff],
        ]
        .concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ];
    for bytes in cases {
        lab.tor
            .run(|| {
                let socket =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                let from: std::net::SocketAddr = "10.99.0.3:0".parse().unwrap();
                let to: std::net::SocketAddr = "10.99.0.1:179".parse().unwrap();
                socket.bind(&from.into()).unwrap();
                socket.connect(&to.into()).unwrap();
                let mut stream = TcpStream::from(socket);
                stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                let _ = stream.write_all(&bytes);
                let _ = stream.read_to_end(&mut Vec::new());
            })
            .unwrap();
    }
    let peer = speaker.peer("tor").unwrap();
    assert_eq!(
        (&peer["state"], &peer["establishedCount"]),
        (&"Established".into(), &1.into()),
        "{peer}"
    );
    assert!(lab.routes().contains(REMOTE));
    assert!(speaker.peer("bad").unwrap()["lastError"].is_string());
}

#[test]
fn a_taken_port_is_named_and_sessions_are_dialled() {
    let lab = Lab::new();
    let taken = Arc::new(
        lab.node
            .run(|| TcpListener::bind("0.0.0.0:179").unwrap())
            .unwrap(),
    );
    let bird = Bird::start(&lab, &["10.200.1.0/26"], "passive;");
    let speaker = Speaker::start(&lab, "", "");
    eventually("the session is up", 15, || speaker.is_up() && bird.is_up());
    let log = speaker.log();
    assert!(
        log.contains("the port is taken by") && log.contains(&format!("(process {})", std::process::id())),
        "{log}"
    );
    drop(taken);
    eventually("it listens after all", 10, || {
        speaker.log().contains("listening after all")
    });
}

/// Connects to our speaker from another address of the router's machine; whether TCP was accepted.
fn knock(from: &str) -> bool {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let from: std::net::SocketAddr = format!("{from}:0").parse().unwrap();
    let to: std::net::SocketAddr = "10.99.0.1:179".parse().unwrap();
    socket.bind(&from.into()).unwrap();
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    socket.connect_timeout(&to.into(), Duration::from_secs(2)).is_ok()
}

#[test]
fn a_flood_of_strangers_hurts_no_session() {
    let lab = Lab::new();
    ip(&lab.tor, "address add 10.99.0.77/24 dev eth0");
    let (bird, speaker) = pair(&lab, &["10.200.1.0/26"]);
    let open_files = || {
        std::fs::read_dir(format!("/proc/{}/fd", speaker.process.id()))
            .unwrap()
            .count()
    };
    let before = open_files();
    let accepted = lab
        .tor
        .run(|| (0..10_000).filter(|_| knock("10.99.0.77")).count())
        .unwrap();
    assert!(accepted > 1000, "{accepted}");
    bird.announce(&["10.200.1.0/26", "10.200.3.0/26"], "");
    eventually("routes still go through", 10, || {
        lab.routes().contains("10.200.3.0/26")
    });
    assert_eq!(speaker.peer("tor").unwrap()["establishedCount"], 1);
    eventually("no connection is left", 10, || open_files() <= before + 2);
}

#[test]
fn peers_of_a_network_share_a_password() {
    let lab = Lab::new();
    let bird = Bird::start(&lab, &["10.200.1.0/26"], "password \"secret\";");
    let text = format!(
        "localAs: 65000\nrouterId: {NODE}\nlisten: [{{address: 0.0.0.0}}]\npeers:\n- {{name: rack, listenRange: \
         10.99.0.0/24, remoteAs: 65001, password: secret}}\n"
    );
    std::fs::write(lab.path("bgpd.yaml"), text).unwrap();
    let speaker = Speaker::start_again(&lab);
    eventually("the session is up", 30, || {
        let peer = speaker.peer("rack@10.99.0.2");
        bird.is_up() && peer.is_some_and(|peer| peer["state"] == "Established")
    });
}

//! The kernel's own verdicts, in throw-away namespaces. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use caracal_linux::ipnet::IpNet;
use caracal_linux::netlink::{
    Event, MacAddr, Netlink, NextHop, Route, RouteKind, Rule, SCOPE_LINK, TABLE_MAIN, VethEnd,
};
use caracal_linux::netns::{self, NetNs};
use caracal_linux::sysctl;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn unique_name() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!(
        "caracal-test-{}-{}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    )
}

fn ping(from: &NetNs, to: &str) -> bool {
    from.output(Command::new("ping").args(["-c1", "-W2", "-n", to]))
        .unwrap()
        .status
        .success()
}

/// A name under /run/netns that goes away with the test, also when it fails.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        let _ = netns::delete_named(&self.0);
    }
}

#[test]
fn a_named_namespace_appears_and_goes() {
    let named = Named(unique_name());
    let netns = NetNs::create_named(&named.0).unwrap();
    assert!(netns::list_named().unwrap().contains(&named.0));
    assert!(NetNs::create_named(&named.0).unwrap_err().is_exists());
    assert_eq!(
        NetNs::open_named(&named.0).unwrap().id().unwrap(),
        netns.id().unwrap()
    );
    let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains(&named.0));
    netns::delete_named(&named.0).unwrap();
    assert!(NetNs::open_named(&named.0).unwrap_err().is_not_found());
    netns::delete_named(&named.0).unwrap();
}

#[test]
fn a_plain_file_is_not_a_namespace() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(
        NetNs::open(file.path()),
        Err(caracal_linux::Error::Invalid { .. })
    ));
}

#[test]
fn run_enters_and_the_caller_stays() {
    let outside = NetNs::current().unwrap().id().unwrap();
    let netns = NetNs::create_anonymous().unwrap();
    let inside = netns.run(|| NetNs::current().unwrap().id().unwrap()).unwrap();
    assert_eq!(inside, netns.id().unwrap());
    assert_ne!(inside, outside);
    assert_eq!(NetNs::current().unwrap().id().unwrap(), outside);
    assert!(netns.run(|| panic!("on purpose")).is_err());
}

#[test]
fn parameters_belong_to_the_namespace_of_the_thread() {
    let netns = NetNs::create_anonymous().unwrap();
    let key = ["net", "ipv4", "ip_forward"];
    let before = sysctl::read(&key).unwrap();
    netns
        .run(|| {
            assert_eq!(sysctl::read(&key).unwrap(), "0");
            assert!(sysctl::ensure(&key, "1").unwrap());
            assert!(!sysctl::ensure(&key, "1").unwrap());
            assert!(
                sysctl::write(&["net", "ipv4", "conf", "nodev0", "rp_filter"], "1")
                    .unwrap_err()
                    .is_not_found()
            );
        })
        .unwrap();
    assert_eq!(sysctl::read(&key).unwrap(), before);
}

/// Two namespaces, joined by one veth pair made in one request.
async fn pair() -> (NetNs, Netlink, NetNs, Netlink) {
    let node = NetNs::create_anonymous().unwrap();
    let pod = NetNs::create_anonymous().unwrap();
    let node_nl = Netlink::open_in(&node).unwrap();
    let pod_nl = Netlink::open_in(&pod).unwrap();
    let mac = "ee:ee:ee:ee:ee:ee".parse::<MacAddr>().unwrap();
    let near = VethEnd {
        mac: Some(mac),
        mtu: Some(1400),
        ..VethEnd::named("cali0.1")
    };
    let far = VethEnd {
        mtu: Some(1400),
        netns: Some(&pod),
        ..VethEnd::named("eth0")
    };
    node_nl.create_veth(near, far).await.unwrap();
    assert!(
        node_nl
            .create_veth(near, VethEnd::named("other"))
            .await
            .unwrap_err()
            .is_exists()
    );
    (node, node_nl, pod, pod_nl)
}

#[tokio::test]
async fn a_pod_is_attached_and_answers() {
    let (node, node_nl, pod, pod_nl) = pair().await;
    let cali = node_nl.link_by_name("cali0.1").await.unwrap();
    let eth0 = pod_nl.link_by_name("eth0").await.unwrap();
    assert_eq!(
        (cali.mtu, cali.up, cali.kind.as_deref()),
        (1400, false, Some("veth"))
    );
    assert_eq!(cali.mac.unwrap().to_string(), "ee:ee:ee:ee:ee:ee");
    assert_eq!(eth0.mtu, 1400);
    assert_eq!(cali.peer, Some(eth0.index));

    let workload = Route::unicast(net("10.244.0.1/32"))
        .dev(cali.index)
        .scope(SCOPE_LINK)
        .metric(1024)
        .protocol(3);
    assert!(node_nl.add_route(&workload).await.unwrap_err().is_down());
    node.run(|| {
        sysctl::write(&["net", "ipv4", "conf", "cali0.1", "proxy_arp"], "1").unwrap();
        sysctl::write(&["net", "ipv4", "neigh", "cali0.1", "proxy_delay"], "0").unwrap();
    })
    .unwrap();
    node_nl.set_up(cali.index).await.unwrap();
    node_nl.add_route(&workload).await.unwrap();
    assert!(node_nl.add_route(&workload).await.unwrap_err().is_exists());
    node_nl.replace_route(&workload).await.unwrap();
    assert!(node_nl.routes().await.unwrap().contains(&workload));

    let lo = node_nl.link_by_name("lo").await.unwrap();
    assert!(lo.loopback);
    node_nl.set_up(lo.index).await.unwrap();
    node_nl.add_address(lo.index, net("10.0.0.1/32")).await.unwrap();
    assert!(
        node_nl
            .add_address(lo.index, net("10.0.0.1/32"))
            .await
            .unwrap_err()
            .is_exists()
    );

    pod_nl
        .add_address(eth0.index, net("10.244.0.1/32"))
        .await
        .unwrap();
    pod_nl.set_up(eth0.index).await.unwrap();
    let gateway = ip("169.254.1.1");
    pod_nl
        .set_neighbour(eth0.index, gateway, cali.mac.unwrap())
        .await
        .unwrap();
    let neighbours = pod_nl.neighbours().await.unwrap();
    assert!(
        neighbours
            .iter()
            .any(|entry| entry.address == gateway && entry.permanent && entry.mac == cali.mac)
    );
    pod_nl
        .add_route(
            &Route::unicast(net("169.254.1.1/32"))
                .dev(eth0.index)
                .scope(SCOPE_LINK),
        )
        .await
        .unwrap();
    pod_nl
        .add_route(&Route::unicast(net("0.0.0.0/0")).via(gateway).dev(eth0.index))
        .await
        .unwrap();
    assert!(ping(&pod, "10.0.0.1"));
    assert_eq!(
        pod_nl.route_to(ip("10.0.0.1")).await.unwrap().gateway,
        Some(gateway)
    );

    node_nl.delete_route(&workload).await.unwrap();
    assert!(node_nl.delete_route(&workload).await.unwrap_err().is_not_found());
    assert!(!ping(&pod, "10.0.0.1"));
    pod_nl.delete_neighbour(eth0.index, gateway).await.unwrap();
    assert!(
        pod_nl
            .delete_neighbour(eth0.index, gateway)
            .await
            .unwrap_err()
            .is_not_found()
    );
    pod_nl
        .delete_address(eth0.index, net("10.244.0.1/32"))
        .await
        .unwrap();
    assert!(
        pod_nl
            .addresses_of(eth0.index)
            .await
            .unwrap()
            .iter()
            .all(|address| address.address.addr().is_ipv6())
    );
    node_nl.delete_link(cali.index).await.unwrap();
    assert!(node_nl.delete_link(cali.index).await.unwrap_err().is_not_found());
    assert!(pod_nl.link_by_name("eth0").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn routes_of_every_shape_come_back_as_they_went() {
    let netns = NetNs::create_anonymous().unwrap();
    let nl = Netlink::open_in(&netns).unwrap();
    for (near, far) in [("a0", "a1"), ("b0", "b1")] {
        nl.create_veth(VethEnd::named(near), VethEnd::named(far))
            .await
            .unwrap();
    }
    let mut index = Vec::new();
    for (name, address) in [
        ("a0", "192.0.2.1/24"),
        ("b0", "198.51.100.1/24"),
        ("a1", "fd00::1/64"),
        ("b1", "fd01::1/64"),
    ] {
        let link = nl.link_by_name(name).await.unwrap();
        nl.add_address(link.index, net(address)).await.unwrap();
        nl.set_up(link.index).await.unwrap();
        index.push(link.index);
    }
    let mut multipath = Route::unicast(net("10.1.0.0/16")).protocol(12);
    multipath.next_hops = vec![
        NextHop {
            gateway: Some(ip("192.0.2.9")),
            oif: Some(index[0]),
            weight: 1,
            onlink: false,
        },
        NextHop {
            gateway: Some(ip("198.51.100.9")),
            oif: Some(index[1]),
            weight: 3,
            onlink: false,
        },
    ];
    let mut with_source = Route::unicast(net("10.2.0.0/16"))
        .via(ip("192.0.2.9"))
        .dev(index[0])
        .protocol(12);
    with_source.source = Some(ip("198.51.100.1"));
    with_source.mtu = Some(1300);
    let routes = [
        Route::blackhole(net("10.244.0.0/26")).protocol(80),
        Route::unicast(net("0.0.0.0/0"))
            .via(ip("192.0.2.9"))
            .dev(index[0])
            .protocol(3)
            .metric(10),
        Route::unicast(net("10.3.0.0/16"))
            .via(ip("203.0.113.1"))
            .dev(index[0])
            .protocol(80)
            .onlink(),
        Route::unicast(net("10.4.0.0/16"))
            .via(ip("192.0.2.9"))
            .dev(index[0])
            .protocol(80)
            .table(1000),
        Route {
            kind: RouteKind::Throw,
            ..Route::unicast(net("10.5.0.0/16")).protocol(80).table(77)
        },
        Route::unicast(net("10.6.0.0/16"))
            .via(ip("fd00::9"))
            .dev(index[2])
            .protocol(80),
        Route::unicast(net("fd77::/64"))
            .via(ip("fd00::9"))
            .dev(index[2])
            .protocol(80)
            .metric(1024),
        Route::blackhole(net("fd88::/122")).protocol(80).metric(1024),
        multipath,
        with_source,
    ];
    for route in &routes {
        nl.add_route(route).await.unwrap();
    }
    let listed = nl.routes().await.unwrap();
    for route in &routes {
        assert!(listed.contains(route), "{route:?} is not among {listed:#?}");
    }
    for route in &routes {
        nl.delete_route(route).await.unwrap();
    }
    let listed = nl.routes().await.unwrap();
    assert!(
        !listed
            .iter()
            .any(|route| route.protocol == 80 || route.protocol == 12),
        "{listed:#?}"
    );
}

#[tokio::test]
async fn rules_are_added_and_deleted() {
    let netns = NetNs::create_anonymous().unwrap();
    let nl = Netlink::open_in(&netns).unwrap();
    let mut rule = Rule::lookup(1000, 99, false);
    rule.mark = Some((0x20_0000, 0x20_0000));
    rule.invert = true;
    rule.protocol = 80;
    let mut from = Rule::lookup(TABLE_MAIN, 50, true);
    from.from = Some(net("fd00::/64"));
    for rule in [&rule, &from] {
        nl.add_rule(rule).await.unwrap();
        assert!(nl.add_rule(rule).await.unwrap_err().is_exists());
        assert!(nl.rules(rule.v6).await.unwrap().contains(rule));
        nl.delete_rule(rule).await.unwrap();
        assert!(nl.delete_rule(rule).await.unwrap_err().is_not_found());
    }
}

#[tokio::test]
async fn a_bridge_joins_two_namespaces() {
    let hub = NetNs::create_anonymous().unwrap();
    let hub_nl = Netlink::open_in(&hub).unwrap();
    hub_nl.create_bridge("br0").await.unwrap();
    let bridge = hub_nl.link_by_name("br0").await.unwrap();
    hub_nl.set_up(bridge.index).await.unwrap();
    let mut hosts = Vec::new();
    for (port, address) in [("p1", "192.0.2.1/24"), ("p2", "192.0.2.2/24")] {
        let host = NetNs::create_anonymous().unwrap();
        let far = VethEnd {
            netns: Some(&host),
            ..VethEnd::named("eth0")
        };
        hub_nl.create_veth(VethEnd::named(port), far).await.unwrap();
        let port = hub_nl.link_by_name(port).await.unwrap();
        hub_nl.set_master(port.index, Some(bridge.index)).await.unwrap();
        hub_nl.set_up(port.index).await.unwrap();
        assert_eq!(
            hub_nl.link_by_index(port.index).await.unwrap().master,
            Some(bridge.index)
        );
        let nl = Netlink::open_in(&host).unwrap();
        let eth0 = nl.link_by_name("eth0").await.unwrap();
        nl.set_mtu(eth0.index, 1450).await.unwrap();
        nl.set_mac(eth0.index, MacAddr([2, 0, 0, 0, 0, hosts.len() as u8 + 1]))
            .await
            .unwrap();
        nl.add_address(eth0.index, net(address)).await.unwrap();
        nl.set_up(eth0.index).await.unwrap();
        hosts.push(host);
    }
    // A bridge port answers after the forwarding table is warm; ping waits two seconds.
    assert!(ping(&hosts[0], "192.0.2.2"));
}

#[tokio::test]
async fn the_monitor_tells_of_links_and_routes() {
    let netns = NetNs::create_anonymous().unwrap();
    let mut monitor = Netlink::monitor_in(&netns).unwrap();
    let nl = Netlink::open_in(&netns).unwrap();
    nl.create_veth(VethEnd::named("cali1"), VethEnd::named("peer1"))
        .await
        .unwrap();
    let cali = nl.link_by_name("cali1").await.unwrap();
    let peer = nl.link_by_name("peer1").await.unwrap();
    nl.set_up(peer.index).await.unwrap();
    nl.set_up(cali.index).await.unwrap();
    // The kernel finds out in the background that a device runs.
    let settled = tokio::time::Instant::now() + Duration::from_secs(5);
    while !nl.link_by_name("cali1").await.unwrap().running {
        assert!(tokio::time::Instant::now() < settled, "cali1 never runs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let route = Route::unicast(net("10.244.0.7/32"))
        .dev(cali.index)
        .scope(SCOPE_LINK)
        .protocol(3);
    nl.add_route(&route).await.unwrap();
    nl.delete_route(&route).await.unwrap();
    nl.delete_link(cali.index).await.unwrap();
    let mut seen = Vec::new();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while !seen
        .iter()
        .any(|event| matches!(event, Event::LinkGone(link) if link.name == "cali1"))
    {
        seen.push(
            tokio::time::timeout_at(deadline, monitor.next())
                .await
                .expect("an event in time")
                .unwrap(),
        );
    }
    assert!(
        seen.iter()
            .any(|event| matches!(event, Event::Link(link) if link.name == "cali1" && link.running))
    );
    let came = seen
        .iter()
        .position(|event| *event == Event::Route(route.clone()))
        .unwrap();
    let went = seen
        .iter()
        .position(|event| *event == Event::RouteGone(route.clone()))
        .unwrap();
    assert!(came < went);
}

#[tokio::test]
async fn an_overrun_monitor_asks_for_a_resync() {
    let netns = NetNs::create_anonymous().unwrap();
    let mut monitor = Netlink::monitor_in(&netns).unwrap();
    let nl = Netlink::open_in(&netns).unwrap();
    let lo = nl.link_by_name("lo").await.unwrap();
    nl.set_up(lo.index).await.unwrap();
    for i in 0..20_000u32 {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + i);
        let route = Route::blackhole(IpNet::new(address.into(), 32).unwrap()).protocol(80);
        nl.add_route(&route).await.unwrap();
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let mut routes = 0;
    loop {
        match tokio::time::timeout_at(deadline, monitor.next())
            .await
            .expect("an event in time")
            .unwrap()
        {
            Event::Resync => break,
            Event::Route(_) => routes += 1,
            _ => {}
        }
        if routes == 20_000 {
            return; // The buffer was large enough for all of them; nothing was lost either.
        }
    }
}

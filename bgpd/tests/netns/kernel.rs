//! The kernel task on its own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use caracal_bgpd::kernel::{Kernel, Report, Settings};
use caracal_bgpd_core::output::{KernelRoute, NextHop, RouteDelta, Target};
use tokio::sync::mpsc;

use super::lab::{Lab, ip};

fn via(prefix: &str, hops: &[&str]) -> RouteDelta {
    let hops = hops.iter().map(|hop| NextHop {
        address: hop.parse().unwrap(),
        device: None,
    });
    RouteDelta {
        prefix: prefix.parse().unwrap(),
        route: Some(Arc::new(KernelRoute {
            target: Target::NextHops(hops.collect()),
            metric: None,
        })),
    }
}

/// Runs a test inside the lab's node on a runtime of its own.
fn inside(lab: &Lab, test: impl AsyncFnOnce(&Lab) + Send) {
    lab.node
        .run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(test(lab));
        })
        .unwrap();
}

async fn eventually(what: &str, lab: &Lab, holds: impl Fn(&str) -> bool) {
    for _ in 0..60 {
        if holds(&lab.routes()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not within 1.5 s: {what}\n{}", lab.routes());
}

async fn next_hop(reports: &mut mpsc::Receiver<Report>, address: IpAddr) -> Option<String> {
    let report = async {
        loop {
            if let Report::NextHops(ways) = reports.recv().await.unwrap()
                && let Some((_, way)) = ways.into_iter().find(|(hop, _)| *hop == address)
            {
                return way.map(|way| way.interface.unwrap());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(2), report)
        .await
        .unwrap()
}

#[test]
fn routes_are_kept_as_wanted_and_those_of_others_left_alone() {
    let lab = Lab::new();
    ip(
        &lab.node,
        "route add 10.50.0.0/24 via 10.99.0.2 proto 12 metric 1024",
    );
    ip(
        &lab.node,
        "route add 10.51.0.0/24 via 10.99.0.2 proto 12 metric 1024",
    );
    ip(
        &lab.node,
        "route add 10.52.0.0/24 via 10.99.0.2 proto static metric 1024",
    );
    ip(&lab.node, "route add 10.60.0.0/16 via 10.99.0.9");
    inside(&lab, async |lab| {
        let (kernel, _reports) = Kernel::start(Settings::default()).await.unwrap();
        assert_eq!(kernel.found_routes(), 2);
        kernel.route(via("10.51.0.0/24", &["10.99.0.2"]));
        kernel.route(via("10.52.0.0/24", &["10.99.0.3"]));
        kernel.route(via("10.53.0.0/24", &["10.99.0.2", "10.99.0.3"]));
        // Not on the wire: through the gateway that somebody else's route has.
        kernel.route(via("10.54.0.0/24", &["10.60.0.1"]));
        // No way at all.
        kernel.route(via("10.55.0.0/24", &["192.0.2.1"]));
        kernel.route(RouteDelta {
            prefix: "10.65.0.0/26".parse().unwrap(),
            route: Some(Arc::new(KernelRoute {
                target: Target::Blackhole,
                metric: None,
            })),
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(
            !lab.routes().contains("10.65.0.0/26"),
            "nothing is written before it may be"
        );
        kernel.start_writing();
        eventually("all routes are there", lab, |routes| {
            routes.contains("blackhole 10.65.0.0/26 proto bird metric 1024")
                && routes.contains("10.53.0.0/24 proto bird metric 1024")
                && routes.contains("nexthop via 10.99.0.3 dev eth0")
                && routes.contains("10.54.0.0/24 via 10.99.0.9 dev eth0 proto bird")
        })
        .await;
        assert!(
            lab.routes().contains("10.50.0.0/24"),
            "stale routes stay until the sweep"
        );
        kernel.sweep();
        eventually("stale routes are gone", lab, |routes| {
            !routes.contains("10.50.0.0/24")
        })
        .await;
        let routes = lab.routes();
        assert!(
            routes.contains("10.52.0.0/24 via 10.99.0.2 dev eth0 proto static metric 1024"),
            "{routes}"
        );
        assert!(routes.contains("10.51.0.0/24 via 10.99.0.2"), "{routes}");
        assert!(!routes.contains("10.55.0.0/24"), "{routes}");
        // What somebody deletes or bends comes back.
        ip(&lab.node, "route del 10.51.0.0/24");
        eventually("the deleted route is back", lab, |routes| {
            routes.contains("10.51.0.0/24")
        })
        .await;
        ip(
            &lab.node,
            "route replace 10.51.0.0/24 via 10.99.0.7 proto 12 metric 1024",
        );
        eventually("the bent route is straight", lab, |routes| {
            routes.contains("10.51.0.0/24 via 10.99.0.2 dev eth0 proto bird")
        })
        .await;
        // A stranger with our number is swept too, a stranger with another one is not.
        ip(&lab.node, "route add 10.56.0.0/24 via 10.99.0.2 proto static");
        kernel.route(RouteDelta {
            prefix: "10.53.0.0/24".parse().unwrap(),
            route: None,
        });
        eventually("the withdrawn route is gone", lab, |routes| {
            !routes.contains("10.53.0.0/24")
        })
        .await;
        assert!(lab.routes().contains("10.56.0.0/24"));
        // The wire goes down and up: the kernel forgets, we do not.
        ip(&lab.node, "link set eth0 down");
        eventually("the kernel dropped routes", lab, |routes| {
            !routes.contains("10.51.0.0/24")
        })
        .await;
        ip(&lab.node, "link set eth0 up");
        eventually("routes are back", lab, |routes| routes.contains("10.51.0.0/24")).await;
    });
}

#[test]
fn next_hops_are_reported_at_once_and_after_every_change() {
    let lab = Lab::new();
    inside(&lab, async |lab| {
        let (kernel, mut reports) = Kernel::start(Settings::default()).await.unwrap();
        let (near, far): (IpAddr, IpAddr) = ("10.99.0.2".parse().unwrap(), "10.60.0.1".parse().unwrap());
        kernel.watch(near);
        assert_eq!(next_hop(&mut reports, near).await.as_deref(), Some("eth0"));
        kernel.watch(far);
        assert_eq!(next_hop(&mut reports, far).await, None);
        ip(&lab.node, "route add 10.60.0.0/16 via 10.99.0.9");
        assert_eq!(next_hop(&mut reports, far).await.as_deref(), Some("eth0"));
        // A route of ours never leads to a next hop.
        ip(&lab.node, "route del 10.60.0.0/16");
        assert_eq!(next_hop(&mut reports, far).await, None);
        ip(&lab.node, "route add 10.60.0.0/16 via 10.99.0.9 proto 12");
        ip(&lab.node, "link set eth0 down");
        assert_eq!(next_hop(&mut reports, near).await, None);
    });
}

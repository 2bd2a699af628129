//! What goes wrong while the daemon works: nothing is left, nothing is given twice, and the message says what to do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test"
)]

mod support;

use caracal_api::v3::IPPool;
use caracal_ipam::Ipam;
use http::Method;
use serde_json::json;
use support::daemon::{allocated, by_daemon, call, conf, is_clean, serve, start};
use support::{Container, Fault, Node};

const CODES: [u16; 5] = [409, 410, 429, 500, 503];

fn fault(method: &Method, path: &'static str, code: u16, after_effect: bool) -> Fault {
    Fault {
        method: method.clone(),
        path,
        code,
        times: 1,
        after_effect,
    }
}

async fn nothing_is_wrong(node: &Node) {
    let report = Ipam::new(node.client.clone()).check().await.unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_api_answers_the_daemon_nothing_is_left() {
    let node = start().await;
    let _service = serve(&node, None).await;
    node.create_pod("web-0", &json!({})).await;
    let conf = conf(&node);
    let container = Container::new("c1");
    for code in CODES {
        for (method, path) in [
            (Method::POST, "/ipamhandles"),
            (Method::PUT, "/ipamblocks"),
            (Method::PATCH, "/pods/web-0/status"),
        ] {
            // Refused, or carried out with the answer lost.
            for after_effect in [false, true] {
                node.fault(fault(&method, path, code, after_effect));
                let outcome = call(&node, "ADD", &container, "web-0", &conf).await;
                node.clear_faults();
                if !outcome.success {
                    let text = outcome.document["msg"].as_str().unwrap();
                    assert!(text.contains("on purpose"), "{code} {method} {path}: {outcome:?}");
                }
                assert!(call(&node, "DEL", &container, "web-0", &conf).await.success);
                is_clean(&node).await;
            }
        }
    }
    nothing_is_wrong(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_del_that_the_api_refuses_is_finished_by_the_next() {
    let node = start().await;
    let _service = serve(&node, None).await;
    node.create_pod("web-0", &json!({})).await;
    let conf = conf(&node);
    let container = Container::new("c1");
    for code in CODES {
        for (method, path) in [
            (Method::PATCH, "/pods/web-0/status"),
            (Method::PUT, "/ipamblocks"),
            (Method::PUT, "/ipamhandles"),
            (Method::DELETE, "/ipamhandles"),
            (Method::GET, "/ipamhandles"),
        ] {
            assert!(call(&node, "ADD", &container, "web-0", &conf).await.success);
            node.fault(fault(&method, path, code, false));
            let outcome = call(&node, "DEL", &container, "web-0", &conf).await;
            node.clear_faults();
            assert_eq!(node.pod_devices().await, Vec::<String>::new(), "{outcome:?}");
            let again = call(&node, "DEL", &container, "web-0", &conf).await;
            assert!(again.success, "{code} {method} {path}: {again:?}");
            is_clean(&node).await;
        }
    }
    nothing_is_wrong(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_disabled_or_deleted_under_way_gives_nothing_and_takes_back() {
    let node = start().await;
    let _service = serve(&node, None).await;
    let conf = conf(&node);
    let (runs, late) = (Container::new("c0"), Container::new("c1"));
    node.create_pod("web-0", &json!({})).await;
    node.create_pod("web-1", &json!({})).await;
    assert!(call(&node, "ADD", &runs, "web-0", &conf).await.success);
    let mut pool: IPPool = node.client.get(None, "blue").await.unwrap().unwrap();
    pool.spec.disabled = true;
    node.client.update(&pool).await.unwrap();
    // The daemon hears of it by its watch; until then the block is the node's and may give.
    let mut refused = None;
    for _ in 0..200 {
        let outcome = call(&node, "ADD", &late, "web-1", &conf).await;
        if !outcome.success {
            refused = Some(outcome);
            break;
        }
        assert!(call(&node, "DEL", &late, "web-1", &conf).await.success);
    }
    let refused = refused.expect("a disabled pool gives no addresses");
    assert!(
        refused.document["msg"].as_str().unwrap().contains("pool"),
        "{refused:?}"
    );
    assert_eq!(allocated(&node).await, 1, "the one that runs keeps its address");
    node.client
        .delete::<IPPool>(None, "blue", caracal_datastore::Preconditions::default())
        .await
        .unwrap();
    let outcome = call(&node, "DEL", &runs, "web-0", &conf).await;
    assert!(outcome.success && by_daemon(&outcome), "{outcome:?}");
    is_clean(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_foreign_or_taken_is_refused_by_name() {
    let node = start().await;
    let _service = serve(&node, None).await;
    let conf = conf(&node);
    let (first, second) = (Container::new("c0"), Container::new("c1"));
    let wish = |address: &str| json!({"cni.projectcalico.org/ipAddrs": format!("[\"{address}\"]")});
    node.create_pod("web-0", &wish("10.244.0.9")).await;
    node.create_pod("web-1", &wish("10.244.0.9")).await;
    node.create_pod("web-2", &wish("192.0.2.9")).await;
    let outcome = call(&node, "ADD", &first, "web-0", &conf).await;
    assert_eq!(
        outcome.document["ips"][0]["address"], "10.244.0.9/32",
        "{outcome:?}"
    );
    for (pod, address) in [("web-1", "10.244.0.9"), ("web-2", "192.0.2.9")] {
        let outcome = call(&node, "ADD", &second, pod, &conf).await;
        let text = outcome.document["msg"].as_str().unwrap();
        assert!(!outcome.success && text.contains(address), "{outcome:?}");
        assert_eq!(allocated(&node).await, 1);
    }
    assert!(call(&node, "DEL", &first, "web-0", &conf).await.success);
    is_clean(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_gone_before_del_and_two_adds_at_once_leave_nothing() {
    let node = start().await;
    let _service = serve(&node, None).await;
    let conf = conf(&node);
    node.create_pod("web-0", &json!({})).await;
    let (first, second) = (Container::new("c0"), Container::new("c1"));
    let (one, two) = futures::join!(
        call(&node, "ADD", &first, "web-0", &conf),
        call(&node, "ADD", &second, "web-0", &conf),
    );
    assert!(one.success && two.success, "{one:?} {two:?}");
    assert_ne!(
        one.document["ips"], two.document["ips"],
        "no address is given twice"
    );
    assert_eq!(
        node.pod_devices().await.len(),
        1,
        "the later has the pod's interface"
    );
    first.remove_netns();
    second.remove_netns();
    for container in [&first, &second, &first] {
        let outcome = call(&node, "DEL", container, "web-0", &conf).await;
        assert!(outcome.success && by_daemon(&outcome), "{outcome:?}");
    }
    is_clean(&node).await;
    nothing_is_wrong(&node).await;
}

//! The daemon's side and the plugin's programs together: who does the work, and that it is the same work.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use caracal_cni::board::Board;
use caracal_cni::service::Service;
use caracal_cni::talk::{self, Reply};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use support::daemon::{SOCKET, allocated, by_daemon, call, conf, is_clean, options, serve, start};
use support::{Container, Node, Outcome};

fn writes(requests: &[String]) -> Vec<&str> {
    let write = |request: &&str| !request.starts_with("GET");
    requests.iter().map(String::as_str).filter(write).collect()
}

fn reads(requests: &[String]) -> Vec<&str> {
    let plain = |request: &&str| request.starts_with("GET") && !request.contains("watch=");
    requests.iter().map(String::as_str).filter(plain).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_plugs_in_with_three_writes_and_no_question() {
    let node = start().await;
    let _service = serve(&node, None).await;
    let conf = conf(&node);
    let (first, second) = (Container::new("c0"), Container::new("c1"));
    node.create_pod("web-0", &json!({})).await;
    node.create_pod("web-1", &json!({})).await;
    let claims = call(&node, "ADD", &first, "web-0", &conf).await;
    assert!(claims.success && by_daemon(&claims), "{claims:?}");
    // The block that was claimed just now becomes known by the watch; one more takes the short way for sure.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let warm = Container::new("c2");
    node.create_pod("web-2", &json!({})).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    call(&node, "ADD", &warm, "web-2", &conf).await;
    node.take_requests();
    let outcome = call(&node, "ADD", &second, "web-1", &conf).await;
    assert!(outcome.success && by_daemon(&outcome), "{outcome:?}");
    let requests = node.take_requests();
    assert_eq!(writes(&requests).len(), 3, "{requests:#?}");
    assert_eq!(reads(&requests), Vec::<&str>::new());

    let direct = node.path("cni.sock.away");
    let mut away = conf.clone();
    away["daemon_socket"] = json!(direct);
    away["prevResult"] = outcome.document.clone();
    let check = call(&node, "CHECK", &second, "web-1", &away).await;
    assert!(
        check.success && !by_daemon(&check),
        "the direct way finds all as promised: {check:?}"
    );
    assert_eq!(
        node.annotations("web-1").await["cni.projectcalico.org/containerID"],
        "c1"
    );

    node.take_requests();
    let outcome = call(&node, "DEL", &second, "web-1", &conf).await;
    assert!(outcome.success && by_daemon(&outcome), "{outcome:?}");
    let requests = node.take_requests();
    // The address from the Pod, the block, the handle; whether an older handle exists is asked.
    assert_eq!(writes(&requests).len(), 3, "{requests:#?}");
    assert_eq!(reads(&requests).len(), 1, "{requests:#?}");
    for (container, pod) in [(&first, "web-0"), (&warm, "web-2")] {
        assert!(call(&node, "DEL", container, pod, &conf).await.success);
    }
    is_clean(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_families_and_ten_at_once_are_served_and_released() {
    let node = start().await;
    let _service = serve(&node, None).await;
    let mut conf = conf(&node);
    conf["ipam"]["assign_ipv6"] = json!("true");
    let containers: Vec<Container> = (0..10)
        .map(|index| Container::new(&format!("c{index}")))
        .collect();
    for index in 0..10 {
        node.create_pod(&format!("web-{index}"), &json!({})).await;
    }
    for round in 0..3 {
        let calls = containers.iter().enumerate().map(|(index, container)| {
            let (node, conf) = (&node, &conf);
            async move { call(node, "ADD", container, &format!("web-{index}"), conf).await }
        });
        let mut addresses = std::collections::BTreeSet::new();
        for outcome in futures::future::join_all(calls).await {
            assert!(outcome.success && by_daemon(&outcome), "{round}: {outcome:?}");
            let ips = outcome.document["ips"].as_array().unwrap();
            assert_eq!(ips.len(), 2);
            addresses.extend(ips.iter().map(|ip| ip["address"].as_str().unwrap().to_owned()));
        }
        assert_eq!(addresses.len(), 20, "{round}: {addresses:?}");
        assert_eq!(allocated(&node).await, 20);
        let calls = containers.iter().enumerate().map(|(index, container)| {
            let (node, conf) = (&node, &conf);
            async move { call(node, "DEL", container, &format!("web-{index}"), conf).await }
        });
        for outcome in futures::future::join_all(calls).await {
            assert!(outcome.success, "{round}: {outcome:?}");
        }
        is_clean(&node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn add_again_through_the_daemon_or_not_gives_the_same_address() {
    let node = start().await;
    let _service = serve(&node, None).await;
    let conf = conf(&node);
    let mut away = conf.clone();
    away["daemon_socket"] = json!("none");
    node.create_pod("web-0", &json!({})).await;
    let container = Container::new("c0");
    let first = call(&node, "ADD", &container, "web-0", &conf).await;
    for conf in [&conf, &away, &conf] {
        let again = call(&node, "ADD", &container, "web-0", conf).await;
        assert!(again.success, "{again:?}");
        assert_eq!(again.document["ips"], first.document["ips"]);
        assert_eq!(allocated(&node).await, 1);
    }
    assert!(call(&node, "DEL", &container, "web-0", &conf).await.success);
    is_clean(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_of_another_node_or_namespace_refuses_and_the_plugin_works_itself() {
    let node = start().await;
    let mut elsewhere = options(&node, None);
    elsewhere.node = "node-2".to_owned();
    let service = node
        .netns
        .run(move || Service::start(elsewhere))
        .unwrap()
        .unwrap();
    node.create_pod("web-0", &json!({})).await;
    let container = Container::new("c0");
    let outcome = call(&node, "ADD", &container, "web-0", &conf(&node)).await;
    assert!(outcome.success && !by_daemon(&outcome), "{outcome:?}");
    drop(service);
    // In the namespace of this test, not in the node's.
    let other = options(&node, None);
    let _service = std::thread::spawn(move || Service::start(other))
        .join()
        .unwrap()
        .unwrap();
    let outcome = call(&node, "DEL", &container, "web-0", &conf(&node)).await;
    assert!(outcome.success, "{outcome:?}");
    assert!(
        outcome.stderr.contains("another network namespace"),
        "{outcome:?}"
    );
    is_clean(&node).await;
}

/// A daemon that answers with these replies and then ends the connection; `None` = it never answers.
fn false_daemon(node: &Node, replies: Option<Vec<Reply>>) {
    let path = node.path(SOCKET);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let Some(replies) = &replies else {
                kept.push(stream);
                continue;
            };
            let mut prefix = [0; 4];
            stream.read_exact(&mut prefix).unwrap();
            let mut text = vec![0; talk::length(prefix).unwrap()];
            stream.read_exact(&mut text).unwrap();
            for reply in replies {
                stream.write_all(&talk::encode(reply).unwrap()).unwrap();
            }
            // The word go arrives, and the daemon dies.
            let _ = stream.read(&mut [0]);
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_works_itself_when_the_daemon_is_silent_or_dies() {
    let node = start().await;
    node.create_pod("web-0", &json!({})).await;
    let replies = [
        None,
        Some(vec![]),
        Some(vec![Reply::Ready]),
        Some(vec![Reply::Done {
            success: true,
            document: "{}".into(),
        }]),
        Some(vec![Reply::Ready, Reply::Ready]),
    ];
    for replies in replies {
        false_daemon(&node, replies.clone());
        let container = Container::new("c0");
        let outcome = call(&node, "ADD", &container, "web-0", &conf(&node)).await;
        assert!(
            outcome.success && !by_daemon(&outcome),
            "{replies:?}: {outcome:?}"
        );
        assert_eq!(outcome.document["ips"].as_array().unwrap().len(), 1);
        assert!(
            call(&node, "DEL", &container, "web-0", &conf(&node))
                .await
                .success
        );
        is_clean(&node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn add_returns_when_the_policy_of_this_very_pod_holds() {
    let node = start().await;
    let board = Board::default();
    let _service = serve(&node, Some(board.clone())).await;
    let mut conf = conf(&node);
    conf["policy_setup_timeout_seconds"] = json!(30);
    node.create_pod("web-0", &json!({})).await;
    let pod: Pod = node.client.get(Some("default"), "web-0").await.unwrap().unwrap();
    board.add(["of-another-pod".to_owned()]);
    let held = Duration::from_millis(400);
    let started = Instant::now();
    tokio::spawn(async move {
        tokio::time::sleep(held).await;
        board.add(pod.metadata.uid);
    });
    let container = Container::new("c0");
    let outcome = call(&node, "ADD", &container, "web-0", &conf).await;
    assert!(outcome.success && by_daemon(&outcome), "{outcome:?}");
    assert!(started.elapsed() >= held, "{:?}", started.elapsed());
    // A pod whose policy is never told starts nevertheless, closed by the host.
    conf["policy_setup_timeout_seconds"] = json!(1);
    node.create_pod("web-1", &json!({})).await;
    let outcome = call(&node, "ADD", &Container::new("c1"), "web-1", &conf).await;
    assert!(outcome.success && by_daemon(&outcome), "{outcome:?}");
}

async fn holder(node: &Node, address: &str) -> Option<String> {
    let address: std::net::IpAddr = address.split('/').next()?.parse().ok()?;
    let ipam = caracal_ipam::Ipam::new(node.client.clone());
    ipam.assignment_of(address).await.unwrap()?.handle
}

async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_start_from_addresses_set_aside_while_the_api_is_away() {
    let node = start().await;
    let mut with_reserve = options(&node, None);
    with_reserve.aside = Some(caracal_cni::aside::Options {
        folder: node.path("reserve"),
        count: 2,
    });
    let conf = conf(&node);
    let _service = node
        .netns
        .run(move || Service::start(with_reserve))
        .unwrap()
        .unwrap();
    let containers: Vec<Container> = (0..4).map(|index| Container::new(&format!("c{index}"))).collect();
    for index in 0..4 {
        node.create_pod(&format!("web-{index}"), &json!({})).await;
    }
    let before = call(&node, "ADD", &containers[0], "web-0", &conf).await;
    assert!(before.success, "{before:?}");
    // The pod's and the two.
    until("two addresses are set aside", async || {
        allocated(&node).await == 3
    })
    .await;
    // Everything is told to the daemon by then: the last thing that changed is the block.
    tokio::time::sleep(Duration::from_millis(500)).await;

    node.set_away(true);
    let mut given = Vec::new();
    for (index, container) in containers.iter().enumerate().take(3).skip(1) {
        for _ in 0..2 {
            let outcome = call_away(&node, "ADD", container, index, &conf).await;
            assert!(outcome.success && by_daemon(&outcome), "{index}: {outcome:?}");
            given.push(outcome.document["ips"][0]["address"].as_str().unwrap().to_owned());
        }
    }
    assert!(
        given[0] == given[1] && given[2] == given[3] && given[0] != given[2],
        "{given:?}"
    );
    let none = call_away(&node, "ADD", &containers[3], 3, &conf).await;
    assert_eq!(
        (none.success, none.document["code"].as_u64()),
        (false, Some(11)),
        "{none:?}"
    );
    assert!(
        none.document["msg"].as_str().unwrap().contains("set aside"),
        "{none:?}"
    );
    let devices = node.pod_devices().await;
    assert_eq!(devices.len(), 3, "the failed one is undone: {devices:?}");

    node.set_away(false);
    for (index, address) in [(1, &given[0]), (2, &given[2])] {
        let handle = format!("k8s-pod-network.c{index}");
        until("the block says whose address it is", async || {
            holder(&node, address).await.as_deref() == Some(handle.as_str())
        })
        .await;
        until("the Pod has its address", async || {
            let annotations = node.annotations(&format!("web-{index}")).await;
            annotations.get("cni.projectcalico.org/podIPs") == Some(address)
        })
        .await;
    }
    for (index, container) in containers.iter().enumerate().take(3) {
        let outcome = call(&node, "DEL", container, &format!("web-{index}"), &conf).await;
        assert!(outcome.success, "{outcome:?}");
    }
    until("only what is set aside is left", async || {
        allocated(&node).await == 2
    })
    .await;
    assert_eq!(node.pod_devices().await, Vec::<String>::new());
}

/// As [`call`], without asking the API server for the UID first.
async fn call_away(node: &Node, command: &str, container: &Container, index: usize, conf: &Value) -> Outcome {
    let env = node.env(command, container, Some(&format!("web-{index}")));
    node.run(env!("CARGO_BIN_EXE_calico"), env, conf).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_not_root_is_turned_away() {
    let node = start().await;
    let _service = serve(&node, None).await;
    // Even when somebody opens the doors of the file system.
    for path in [
        node.folder.path().to_owned(),
        node.path(SOCKET),
        node.path("kubeconfig"),
    ] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let program = node.path("calico-copy");
    std::fs::copy(env!("CARGO_BIN_EXE_calico"), &program).unwrap();
    node.create_pod("web-0", &json!({})).await;
    let container = Container::new("c0");
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program);
    command.env_clear().env("PATH", std::env::var("PATH").unwrap());
    command
        .envs(node.env("DEL", &container, Some("web-0")))
        .env("CNI_PATH", node.folder.path());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = node.netns.spawn(&mut command).unwrap();
    let mut conf = conf(&node);
    // Beside its own calico-ipam, so that the daemon is asked at all.
    std::fs::copy(env!("CARGO_BIN_EXE_calico-ipam"), node.path("calico-ipam")).unwrap();
    conf["log_level"] = json!("debug");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(conf.to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("does not take the call"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_in_use_is_left_alone_and_a_dead_one_replaced() {
    let node = start().await;
    let first = serve(&node, None).await;
    let again = options(&node, None);
    let error = node
        .netns
        .run(move || Service::start(again))
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(first);
    drop(UnixListener::bind(node.path(SOCKET)).unwrap());
    let _second = serve(&node, None).await;
    let mut wrong = options(&node, None);
    wrong.socket = node.path("kubeconfig");
    let error = node
        .netns
        .run(move || Service::start(wrong))
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("no socket"), "{error}");
}

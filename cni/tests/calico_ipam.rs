//! `calico` with `calico-ipam`, both as programs: pools, blocks and handles in a real API.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test"
)]

mod support;

use caracal_api::v3::{IPAMBlock, IPAMHandle};
use caracal_datastore::ListOptions;
use caracal_linux::netlink::Netlink;
use http::Method;
use serde_json::{Value, json};
use support::{Container, Fault, Node, Outcome};

async fn pool(node: &Node, name: &str, cidr: &str, block_size: u8) {
    node.create(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": name},
        "spec": {"cidr": cidr, "blockSize": block_size, "ipipMode": "Never", "vxlanMode": "Never",
            "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"]},
    }))
    .await;
}

async fn start() -> Node {
    let node = Node::start().await;
    pool(&node, "blue", "10.244.0.0/24", 26).await;
    node
}

fn conf(node: &Node) -> Value {
    node.conf(&json!({"type": "calico-ipam"}))
}

async fn allocated(node: &Node) -> usize {
    let blocks: Vec<IPAMBlock> = node.client.list(None, &ListOptions::default()).await.unwrap();
    let count = |block: &IPAMBlock| block.spec.allocations.iter().flatten().count();
    blocks.iter().map(count).sum()
}

async fn handles(node: &Node) -> usize {
    let handles: Vec<IPAMHandle> = node.client.list(None, &ListOptions::default()).await.unwrap();
    handles.len()
}

async fn is_clean(node: &Node) {
    assert_eq!(node.pod_devices().await, Vec::<String>::new());
    assert_eq!(allocated(node).await, 0);
    assert_eq!(handles(node).await, 0);
}

async fn call(node: &Node, command: &str, container: &Container, pod: &str, conf: &Value) -> Outcome {
    node.calico(command, container, Some(pod), conf).await
}

fn address(outcome: &Outcome) -> String {
    assert!(outcome.success, "{outcome:?}");
    outcome.document["ips"][0]["address"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_an_address_of_a_pool_and_gives_it_back() {
    let node = start().await;
    node.create_pod("web-0", &json!({})).await;
    let container = Container::new("c1");
    let added = call(&node, "ADD", &container, "web-0", &conf(&node)).await;
    let ip = address(&added);
    assert!(ip.starts_with("10.244.0.") && ip.ends_with("/32"), "{ip}");
    let blocks: Vec<IPAMBlock> = node.client.list(None, &ListOptions::default()).await.unwrap();
    assert_eq!(blocks[0].spec.affinity.as_deref(), Some("host:node-1"));
    let attribute = &blocks[0].spec.attributes[0];
    assert_eq!(attribute.handle_id.as_deref(), Some("k8s-pod-network.c1"));
    assert_eq!(attribute.secondary["pod"], "web-0");
    assert_eq!(attribute.secondary["namespace"], "default");
    assert_eq!(attribute.secondary["node"], "node-1");
    assert!(attribute.secondary["timestamp"].ends_with(" +0000 UTC"));
    let mut check = conf(&node);
    check["prevResult"] = added.document.clone();
    let outcome = call(&node, "CHECK", &container, "web-0", &check).await;
    assert!(outcome.success, "{outcome:?}");
    for _ in 0..2 {
        assert!(
            call(&node, "DEL", &container, "web-0", &conf(&node))
                .await
                .success
        );
        is_clean(&node).await;
    }
    let outcome = call(&node, "CHECK", &container, "web-0", &check).await;
    let text = outcome.document["msg"].as_str().unwrap();
    assert!(
        text.contains("does not hold") && text.contains("no interface"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn add_again_gets_the_same_address() {
    let node = start().await;
    node.create_pod("web-0", &json!({})).await;
    let container = Container::new("c1");
    let first = address(&call(&node, "ADD", &container, "web-0", &conf(&node)).await);
    let again = address(&call(&node, "ADD", &container, "web-0", &conf(&node)).await);
    assert_eq!(first, again);
    assert_eq!(allocated(&node).await, 1);
    let newer = Container::new("c2");
    let other = address(&call(&node, "ADD", &newer, "web-0", &conf(&node)).await);
    assert_ne!(first, other);
    assert!(
        call(&node, "DEL", &container, "web-0", &conf(&node))
            .await
            .success
    );
    assert_eq!(allocated(&node).await, 1, "the newer container keeps its address");
    assert!(call(&node, "DEL", &newer, "web-0", &conf(&node)).await.success);
    is_clean(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_at_once_get_different_addresses() {
    let node = start().await;
    let containers: Vec<Container> = (0..6).map(|i| Container::new(&format!("c{i}"))).collect();
    for index in 0..containers.len() {
        node.create_pod(&format!("web-{index}"), &json!({})).await;
    }
    let conf = conf(&node);
    let calls = containers.iter().enumerate().map(|(index, container)| {
        let (node, conf) = (&node, &conf);
        async move { address(&call(node, "ADD", container, &format!("web-{index}"), conf).await) }
    });
    let addresses = futures::future::join_all(calls).await;
    let different: std::collections::BTreeSet<&String> = addresses.iter().collect();
    assert_eq!(different.len(), containers.len(), "{addresses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_is_said_and_leaves_nothing() {
    let node = Node::start().await;
    pool(&node, "small", "10.244.0.0/30", 30).await;
    let mut containers = Vec::new();
    for index in 0..4 {
        node.create_pod(&format!("web-{index}"), &json!({})).await;
        let container = Container::new(&format!("c{index}"));
        address(&call(&node, "ADD", &container, &format!("web-{index}"), &conf(&node)).await);
        containers.push(container);
    }
    node.create_pod("late", &json!({})).await;
    let container = Container::new("late");
    let outcome = call(&node, "ADD", &container, "late", &conf(&node)).await;
    assert_eq!(outcome.document["code"], 11, "{outcome:?}");
    let text = outcome.document["msg"].as_str().unwrap();
    assert!(
        text.contains("failed to request IPv4 addresses") && text.contains("IPPool"),
        "{text}"
    );
    assert_eq!(node.pod_devices().await.len(), 4);
    assert_eq!(handles(&node).await, 4);
    assert_eq!(allocated(&node).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn annotations_choose_pool_address_and_hardware_address() {
    let node = start().await;
    pool(&node, "green", "10.245.0.0/24", 26).await;
    node.create_pod(
        "pooled",
        &json!({"cni.projectcalico.org/ipv4pools": "[\"green\"]"}),
    )
    .await;
    let pooled = Container::new("c1");
    let ip = address(&call(&node, "ADD", &pooled, "pooled", &conf(&node)).await);
    assert!(ip.starts_with("10.245.0."), "{ip}");
    node.create_pod(
        "fixed",
        &json!({
            "cni.projectcalico.org/ipAddrs": "[\"10.244.0.77\"]",
            "cni.projectcalico.org/hwAddr": "02:00:00:00:00:77",
        }),
    )
    .await;
    let fixed = Container::new("c2");
    let outcome = call(&node, "ADD", &fixed, "fixed", &conf(&node)).await;
    assert_eq!(address(&outcome), "10.244.0.77/32");
    assert_eq!(outcome.document["interfaces"][1]["mac"], "02:00:00:00:00:77");
    let again = call(&node, "ADD", &fixed, "fixed", &conf(&node)).await;
    assert_eq!(address(&again), "10.244.0.77/32");
    node.create_pod(
        "thief",
        &json!({"cni.projectcalico.org/ipAddrs": "[\"10.244.0.77\"]"}),
    )
    .await;
    let thief = Container::new("c3");
    let outcome = call(&node, "ADD", &thief, "thief", &conf(&node)).await;
    assert!(!outcome.success);
    assert_eq!(node.pod_devices().await.len(), 2);
    for (container, pod) in [(&pooled, "pooled"), (&fixed, "fixed"), (&thief, "thief")] {
        assert!(call(&node, "DEL", container, pod, &conf(&node)).await.success);
    }
    is_clean(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_families_work_and_one_alone_is_given_back() {
    let node = start().await;
    node.create_pod("dual", &json!({})).await;
    let lo = Netlink::open_in(&node.netns).unwrap();
    let index = lo.link_by_name("lo").await.unwrap().index;
    lo.add_address(index, "fd00::11/128".parse().unwrap())
        .await
        .unwrap();
    let dual = node.conf(&json!({"type": "calico-ipam", "assign_ipv6": "true"}));
    let container = Container::new("c1");
    let outcome = call(&node, "ADD", &container, "dual", &dual).await;
    assert!(!outcome.success, "there is no IPv6 pool: {outcome:?}");
    is_clean(&node).await;
    pool(&node, "six", "fd00:244::/112", 122).await;
    let outcome = call(&node, "ADD", &container, "dual", &dual).await;
    assert!(outcome.success, "{outcome:?}");
    let ips = outcome.document["ips"].as_array().unwrap().clone();
    assert_eq!(ips.len(), 2);
    let pod = Netlink::open_in(&container.open()).unwrap();
    let routes = pod.routes_of(true).await.unwrap();
    let gateway: std::net::IpAddr = "fe80::ecee:eeff:feee:eeee".parse().unwrap();
    assert!(
        routes.iter().any(|route| route.gateway == Some(gateway)),
        "{routes:?}"
    );
    let six = ips[1]["address"]
        .as_str()
        .unwrap()
        .trim_end_matches("/128")
        .to_owned();
    let mut ping = std::process::Command::new("ping");
    let ping = node
        .netns
        .output(ping.args(["-6", "-c1", "-W2", "-n", &six]))
        .unwrap();
    assert!(ping.status.success(), "{ping:?}");
    let mut check = dual.clone();
    check["prevResult"] = outcome.document.clone();
    let outcome = call(&node, "CHECK", &container, "dual", &check).await;
    assert!(outcome.success, "{outcome:?}");
    assert!(call(&node, "DEL", &container, "dual", &dual).await.success);
    is_clean(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_whichever_write_fails() {
    let node = start().await;
    node.create_pod("web-0", &json!({})).await;
    for (method, path) in [
        (Method::POST, "/blockaffinities"),
        (Method::POST, "/ipamblocks"),
        (Method::POST, "/ipamhandles"),
        (Method::PUT, "/ipamblocks"),
        (Method::PATCH, "/pods/web-0/status"),
    ] {
        let container = Container::new("c1");
        node.fault(Fault {
            method,
            path,
            code: 500,
            times: 1,
            after_effect: false,
        });
        let outcome = call(&node, "ADD", &container, "web-0", &conf(&node)).await;
        node.clear_faults();
        // The allocator may overcome a single failure; then there is a pod to remove.
        if outcome.success {
            assert!(
                call(&node, "DEL", &container, "web-0", &conf(&node))
                    .await
                    .success,
                "{path}"
            );
        }
        is_clean(&node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_collected_and_the_listed_stay() {
    let node = start().await;
    // Their namespaces stay, as those of containers that a crashed runtime left.
    let kept = Container::new("keep");
    let gone = Container::new("gone");
    let older = Container::new("older");
    for (pod, container) in [("web-0", &older), ("web-0", &kept), ("web-1", &gone)] {
        if pod != "web-0" || container.id == "older" {
            node.create_pod(pod, &json!({})).await;
        }
        address(&call(&node, "ADD", container, pod, &conf(&node)).await);
    }
    assert_eq!(allocated(&node).await, 3);
    assert_eq!(node.pod_devices().await.len(), 2);
    let container = Container::new("any");
    let mut collect = conf(&node);
    let outcome = node.calico("GC", &container, None, &collect).await;
    assert_eq!(outcome.document["code"], 7, "no list: {outcome:?}");
    assert_eq!(allocated(&node).await, 3);
    collect["cni.dev/valid-attachments"] = json!([{"containerID": "keep", "ifname": "eth0"}]);
    let outcome = node.calico("GC", &container, None, &collect).await;
    assert!(outcome.success, "{outcome:?}");
    assert_eq!(allocated(&node).await, 1);
    assert_eq!(handles(&node).await, 1);
    // The pod whose newer container is listed keeps its interface.
    let kept = caracal_api::names::veth_name("default", "web-0");
    assert_eq!(node.pod_devices().await, [kept]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_id_that_is_in_use_is_refused_and_its_pod_left_alone() {
    let node = start().await;
    node.create_pod("web-0", &json!({})).await;
    node.create_pod("web-1", &json!({})).await;
    let container = Container::new("c1");
    let first = address(&call(&node, "ADD", &container, "web-0", &conf(&node)).await);
    let outcome = call(&node, "ADD", &container, "web-1", &conf(&node)).await;
    assert!(!outcome.success, "{outcome:?}");
    let text = outcome.document["msg"].as_str().unwrap();
    assert!(
        text.contains("default/web-0") && text.contains("in use"),
        "{outcome:?}"
    );
    assert_eq!(allocated(&node).await, 1, "the first pod keeps its address");
    assert_eq!(node.pod_devices().await.len(), 1);
    // Reused after DEL it is a container as any other.
    assert!(
        call(&node, "DEL", &container, "web-0", &conf(&node))
            .await
            .success
    );
    address(&call(&node, "ADD", &container, "web-1", &conf(&node)).await);
    assert!(
        call(&node, "DEL", &container, "web-1", &conf(&node))
            .await
            .success
    );
    is_clean(&node).await;
    assert!(!first.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_adds_of_one_pod_at_once_take_turns() {
    let node = start().await;
    node.create_pod("web-0", &json!({})).await;
    let (one, other) = (Container::new("c1"), Container::new("c2"));
    let conf = conf(&node);
    for _ in 0..3 {
        let (first, second) = futures::join!(
            call(&node, "ADD", &one, "web-0", &conf),
            call(&node, "ADD", &other, "web-0", &conf),
        );
        assert_ne!(address(&first), address(&second));
        assert_eq!(
            node.pod_devices().await.len(),
            1,
            "one interface, of the one that came last"
        );
        let (first, second) = futures::join!(
            call(&node, "DEL", &one, "web-0", &conf),
            call(&node, "DEL", &other, "web-0", &conf),
        );
        assert!(first.success && second.success, "{first:?} {second:?}");
        is_clean(&node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_api_answers_nothing_is_left_and_the_message_names_it() {
    let node = start().await;
    node.create_pod("web-0", &json!({})).await;
    let conf = conf(&node);
    for code in [409, 410, 429, 500, 503] {
        for (method, path) in [
            (Method::GET, "/pods/web-0"),
            (Method::GET, "/ippools"),
            (Method::POST, "/ipamhandles"),
            (Method::PUT, "/ipamblocks"),
            (Method::PATCH, "/pods/web-0/status"),
        ] {
            let container = Container::new("c1");
            let fault = Fault {
                method: method.clone(),
                path,
                code,
                times: 1,
                after_effect: false,
            };
            node.fault(fault);
            let outcome = call(&node, "ADD", &container, "web-0", &conf).await;
            node.clear_faults();
            if outcome.success {
                assert!(call(&node, "DEL", &container, "web-0", &conf).await.success);
            } else {
                let text = outcome.document["msg"].as_str().unwrap();
                assert!(text.contains("on purpose"), "{code} {method} {path}: {outcome:?}");
                assert!(outcome.document["code"].as_u64().is_some(), "{outcome:?}");
            }
            is_clean(&node).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_does_not_keep_a_pod_from_starting() {
    let node = start().await;
    node.create_pod("web-0", &json!({})).await;
    let mut conf = conf(&node);
    // Opens, and fails every write with "no space left".
    conf["log_file_path"] = json!("/dev/full");
    let container = Container::new("c1");
    address(&call(&node, "ADD", &container, "web-0", &conf).await);
    assert!(call(&node, "DEL", &container, "web-0", &conf).await.success);
    is_clean(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_whether_a_pod_can_be_plugged_in() {
    let node = Node::start().await;
    let container = Container::new("any");
    let outcome = node.calico("STATUS", &container, None, &conf(&node)).await;
    assert_eq!(outcome.document["code"], 50, "{outcome:?}");
    assert!(
        outcome.document["msg"]
            .as_str()
            .unwrap()
            .contains("no enabled IPPool")
    );
    pool(&node, "blue", "10.244.0.0/24", 26).await;
    let outcome = node.calico("STATUS", &container, None, &conf(&node)).await;
    assert!(outcome.success, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_plugins_follow_in_the_chain() {
    let programs = std::path::Path::new("/usr/lib/cni");
    if !programs.join("portmap").exists()
        || std::process::Command::new("iptables").arg("-V").output().is_err()
    {
        eprintln!(
            "skipped: the reference plugins (containernetworking-plugins) or iptables are not installed"
        );
        return;
    }
    let node = start().await;
    node.create_pod("web-0", &json!({})).await;
    let container = Container::new("c1");
    let mut conf = conf(&node);
    conf["cniVersion"] = json!("1.0.0");
    let first = call(&node, "ADD", &container, "web-0", &conf).await;
    let ip = address(&first).trim_end_matches("/32").to_owned();
    let portmap = |result: &Value| {
        json!({"cniVersion": "1.0.0", "name": "k8s-pod-network", "type": "portmap", "snat": true,
            "capabilities": {"portMappings": true}, "prevResult": result,
            "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}})
    };
    let tuning = |result: &Value| {
        json!({"cniVersion": "1.0.0", "name": "k8s-pod-network", "type": "tuning", "prevResult": result,
            "sysctl": {"net.ipv4.conf.eth0.accept_redirects": "0"}})
    };
    let mut result = first.document.clone();
    for (name, conf) in [("portmap", portmap(&result)), ("tuning", tuning(&result))] {
        let program = programs.join(name).display().to_string();
        let outcome = node
            .run(&program, node.env("ADD", &container, Some("web-0")), &conf)
            .await;
        assert!(outcome.success, "{name}: {outcome:?}");
        result = outcome.document;
    }
    assert_eq!(result["ips"], first.document["ips"]);
    let rules = node
        .netns
        .output(std::process::Command::new("iptables-save").args(["-t", "nat"]))
        .unwrap();
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    assert!(rules.contains(&format!("{ip}:80")), "{rules}");
    let mut check = conf.clone();
    check["prevResult"] = result.clone();
    let outcome = call(&node, "CHECK", &container, "web-0", &check).await;
    assert!(outcome.success, "{outcome:?}");
    let program = programs.join("portmap").display().to_string();
    let outcome = node
        .run(
            &program,
            node.env("DEL", &container, Some("web-0")),
            &portmap(&result),
        )
        .await;
    assert!(outcome.success, "{outcome:?}");
    assert!(call(&node, "DEL", &container, "web-0", &conf).await.success);
    is_clean(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calico_ipam_serves_other_main_plugins() {
    let node = start().await;
    let container = Container::new("c1");
    let conf = conf(&node);
    let program = env!("CARGO_BIN_EXE_calico-ipam");
    let outcome = node.run(program, node.env("ADD", &container, None), &conf).await;
    let ip = address(&outcome);
    assert!(ip.starts_with("10.244.0."), "{ip}");
    assert_eq!(outcome.document.get("interfaces"), None);
    let outcome = node.run(program, node.env("DEL", &container, None), &conf).await;
    assert!(outcome.success, "{outcome:?}");
    is_clean(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_makes_a_known_number_of_requests() {
    let node = start().await;
    let conf = conf(&node);
    let mut counts = Vec::new();
    for index in 0..2 {
        let pod = format!("web-{index}");
        node.create_pod(&pod, &json!({})).await;
        node.take_requests();
        let container = Container::new(&format!("c{index}"));
        address(&call(&node, "ADD", &container, &pod, &conf).await);
        counts.push(node.take_requests());
    }
    // The first claims a block; the second finds it.
    assert!(counts[0].len() <= 20, "{:#?}", counts[0]);
    assert_eq!(counts[1].len(), 14, "{:#?}", counts[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_add_is_cleaned_by_del_or_finished_by_another_add() {
    let node = start().await;
    node.create_pod("web-0", &json!({})).await;
    let conf = conf(&node);
    for (method, path, after_effect) in [
        (Method::GET, "/pods/web-0", false),
        (Method::PATCH, "/pods/web-0/status", false),
        (Method::PATCH, "/pods/web-0/status", true),
    ] {
        for finish in [false, true] {
            let container = Container::new("c1");
            let fault = Fault {
                method: method.clone(),
                path,
                code: support::HANG,
                times: 1,
                after_effect,
            };
            node.fault(fault);
            node.kill_add(&container, "web-0", &conf).await;
            node.clear_faults();
            if finish {
                address(&call(&node, "ADD", &container, "web-0", &conf).await);
                assert_eq!(allocated(&node).await, 1, "{path}");
                assert_eq!(node.pod_devices().await.len(), 1, "{path}");
            }
            assert!(
                call(&node, "DEL", &container, "web-0", &conf).await.success,
                "{path}"
            );
            is_clean(&node).await;
        }
    }
}

//! The program `calico` as a runtime runs it: real namespaces, a real API, an address plugin that counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test"
)]

mod support;

use std::process::Command;

use caracal_cni::plugin::{Calico, Step};
use caracal_cni::skel::{Call, Plugin};
use caracal_cni::{Code, Error};
use caracal_linux::netlink::Netlink;
use caracal_linux::sysctl;
use http::Method;
use serde_json::{Value, json};
use support::{Container, Fault, Node};

async fn added(node: &Node, container: &Container, pod: &str) -> Value {
    node.create_pod(pod, &json!({})).await;
    let outcome = node.calico("ADD", container, Some(pod), &node.fake_conf()).await;
    assert!(outcome.success, "{outcome:?}");
    outcome.document
}

async fn is_clean(node: &Node) {
    assert_eq!(node.pod_devices().await, Vec::<String>::new());
    assert_eq!(node.fake_addresses(), 0);
}

fn with_result(conf: &Value, result: &Value) -> Value {
    let mut conf = conf.clone();
    conf["prevResult"] = result.clone();
    conf
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_plugged_in_and_out() {
    let node = Node::start().await;
    let container = Container::new("c1");
    let result = added(&node, &container, "web-0").await;
    let host_name = caracal_api::names::veth_name("default", "web-0");
    assert_eq!(result["cniVersion"], "1.1.0");
    assert_eq!(result["interfaces"][0], json!({"name": host_name}));
    assert_eq!(result["interfaces"][1]["name"], "eth0");
    assert_eq!(result["interfaces"][1]["mtu"], 1400);
    assert_eq!(
        result["ips"],
        json!([{"interface": 1, "address": "10.50.1.7/32"}])
    );
    assert_eq!(result["dns"], json!({"domain": "x"}));

    let annotations = node.annotations("web-0").await;
    assert_eq!(annotations["cni.projectcalico.org/podIP"], "10.50.1.7/32");
    assert_eq!(annotations["cni.projectcalico.org/podIPs"], "10.50.1.7/32");
    assert_eq!(annotations["cni.projectcalico.org/containerID"], "c1");

    let netlink = Netlink::open_in(&node.netns).unwrap();
    let link = netlink.link_by_name(&host_name).await.unwrap();
    assert_eq!(link.mac.unwrap().to_string(), "ee:ee:ee:ee:ee:ee");
    assert_eq!((link.mtu, link.up), (1400, true));
    let routes = netlink.routes_of(false).await.unwrap();
    let route = routes.iter().find(|route| route.oif == Some(link.index)).unwrap();
    assert_eq!(
        (route.destination.to_string().as_str(), route.protocol),
        ("10.50.1.7/32", 80)
    );
    for key in ["proxy_arp", "forwarding", "route_localnet"] {
        let name = host_name.clone();
        let value = node
            .netns
            .run(move || sysctl::read(&["net", "ipv4", "conf", &name, key]))
            .unwrap();
        assert_eq!(value.unwrap(), "1", "{key}");
    }
    let mut ping = Command::new("ping");
    let ping = node
        .netns
        .output(ping.args(["-c1", "-W2", "-n", "10.50.1.7"]))
        .unwrap();
    assert!(ping.status.success(), "the node reaches its pod: {ping:?}");

    let check = node
        .calico(
            "CHECK",
            &container,
            Some("web-0"),
            &with_result(&node.fake_conf(), &result),
        )
        .await;
    assert!(check.success, "{check:?}");
    for _ in 0..2 {
        let outcome = node
            .calico("DEL", &container, Some("web-0"), &node.fake_conf())
            .await;
        assert!(outcome.success, "{outcome:?}");
        assert_eq!(outcome.document, Value::Null);
        is_clean(&node).await;
    }
    assert_eq!(node.annotations("web-0").await["cni.projectcalico.org/podIP"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_needs_four_requests_and_a_del_three() {
    let node = Node::start().await;
    let container = Container::new("c1");
    node.take_requests();
    added(&node, &container, "web-0").await;
    let requests = node.take_requests();
    assert_eq!(requests.len(), 4, "{requests:#?}");
    node.calico("DEL", &container, Some("web-0"), &node.fake_conf())
        .await;
    let requests = node.take_requests();
    assert_eq!(requests.len(), 3, "{requests:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn add_again_is_the_same_and_del_of_what_never_was_succeeds() {
    let node = Node::start().await;
    let container = Container::new("c1");
    let outcome = node
        .calico("DEL", &container, Some("nobody"), &node.fake_conf())
        .await;
    assert!(outcome.success, "{outcome:?}");
    let first = added(&node, &container, "web-0").await;
    let again = node
        .calico("ADD", &container, Some("web-0"), &node.fake_conf())
        .await;
    assert!(again.success, "{again:?}");
    assert_eq!(again.document["ips"], first["ips"]);
    assert_eq!(node.pod_devices().await.len(), 1);
    container.remove_netns();
    let outcome = node
        .calico("DEL", &container, Some("web-0"), &node.fake_conf())
        .await;
    assert!(outcome.success, "{outcome:?}");
    is_clean(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_del_of_an_older_container_leaves_the_newer_one() {
    let node = Node::start().await;
    let (older, newer) = (Container::new("older"), Container::new("newer"));
    added(&node, &older, "web-0").await;
    let outcome = node.calico("ADD", &newer, Some("web-0"), &node.fake_conf()).await;
    assert!(outcome.success, "{outcome:?}");
    let outcome = node.calico("DEL", &older, Some("web-0"), &node.fake_conf()).await;
    assert!(outcome.success, "{outcome:?}");
    assert_eq!(node.pod_devices().await.len(), 1);
    let annotations = node.annotations("web-0").await;
    assert_eq!(annotations["cni.projectcalico.org/podIP"], "10.50.1.7/32");
    assert_eq!(annotations["cni.projectcalico.org/containerID"], "newer");
    assert_eq!(node.fake_addresses(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_when_a_request_fails() {
    let node = Node::start().await;
    node.create_pod("web-0", &json!({})).await;
    for (method, path, after_effect) in [
        (Method::GET, "/clusterinformations/", false),
        (Method::GET, "/pods/web-0", false),
        (Method::GET, "/namespaces/default", false),
        (Method::PATCH, "/pods/web-0/status", false),
        (Method::PATCH, "/pods/web-0/status", true),
    ] {
        let container = Container::new("c1");
        node.fault(Fault {
            method,
            path,
            code: 500,
            times: 1,
            after_effect,
        });
        let outcome = node
            .calico("ADD", &container, Some("web-0"), &node.fake_conf())
            .await;
        node.clear_faults();
        assert!(!outcome.success, "{path}");
        assert_eq!(outcome.document["code"], 11, "{path}: {outcome:?}");
        is_clean(&node).await;
        let annotations = node.annotations("web-0").await;
        let written = annotations
            .get("cni.projectcalico.org/podIP")
            .map_or("", String::as_str);
        assert_eq!(written, "", "{path}");
    }
}

fn stop_at(wanted: Step) -> fn(Step) -> caracal_cni::Result<()> {
    match wanted {
        Step::Assigned => |step| stop(step, Step::Assigned),
        Step::Attached => |step| stop(step, Step::Attached),
        Step::Recorded => |step| stop(step, Step::Recorded),
    }
}

fn stop(step: Step, wanted: Step) -> caracal_cni::Result<()> {
    if step == wanted {
        return Err(Error::new(Code::Plugin, "stopped on purpose"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_wherever_add_stops() {
    let node = Node::start().await;
    node.create_pod("web-0", &json!({})).await;
    for step in Step::ALL {
        let container = Container::new("c1");
        let env = node.env("ADD", &container, Some("web-0"));
        let conf = node.fake_conf().to_string();
        let get = |key: &str| {
            env.iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value.clone())
        };
        let call = Call::read(get, conf.as_bytes()).unwrap();
        let plugin = Calico { after: stop_at(step) };
        let error = node
            .netns
            .run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(Box::pin(plugin.add(&call))).unwrap_err()
            })
            .unwrap();
        assert_eq!(error.message, "stopped on purpose", "{step:?}");
        is_clean(&node).await;
        let annotations = node.annotations("web-0").await;
        let written = annotations
            .get("cni.projectcalico.org/podIP")
            .map_or("", String::as_str);
        assert_eq!(written, "", "{step:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_with_a_remedy_and_leaves_nothing() {
    let node = Node::start().await;
    node.create_pod("web-0", &json!({})).await;
    node.create_pod("bad", &json!({"cni.projectcalico.org/hwAddr": "02:00"}))
        .await;
    let base = node.fake_conf();
    let change = |key: &str, value: Value| {
        let mut conf = base.clone();
        conf[key] = value;
        conf
    };
    let nowhere = change("kubernetes", json!({"k8s_api_root": "http://127.0.0.1:1"}));
    for (pod, conf, code, part) in [
        ("web-0", change("name", json!("")), 7, "name"),
        ("web-0", change("cniVersion", json!("3.0.0")), 1, "3.0.0"),
        ("web-0", change("mtu", json!("big")), 7, "mtu"),
        ("web-0", change("nodename", json!("node-2")), 7, "node-2"),
        ("web-0", change("ipam", json!({"type": "no-such"})), 7, "no-such"),
        ("web-0", change("ipam", json!({})), 7, "ipam.type"),
        (
            "web-0",
            change("kubernetes", json!({"kubeconfig": "/nonexistent"})),
            7,
            "/nonexistent",
        ),
        ("web-0", nowhere, 11, "Connection refused"),
        ("nobody", base.clone(), 100, "nobody"),
        ("bad", base.clone(), 7, "hwAddr"),
    ] {
        let container = Container::new("c1");
        let outcome = node.calico("ADD", &container, Some(pod), &conf).await;
        assert!(!outcome.success, "{part}");
        let text = outcome.document["msg"].as_str().unwrap_or_default();
        assert_eq!(outcome.document["code"], code, "{part}: {outcome:?}");
        assert!(text.contains(part), "{part}: {outcome:?}");
        assert!(outcome.document["details"].is_string(), "{part}: {outcome:?}");
        is_clean(&node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_address_plugin_is_told_and_undone() {
    let node = Node::start().await;
    node.create_pod("web-0", &json!({})).await;
    node.install_fake_ipam(1);
    let container = Container::new("c1");
    let outcome = node
        .calico("ADD", &container, Some("web-0"), &node.fake_conf())
        .await;
    assert_eq!(
        outcome.document,
        json!({"cniVersion": "1.1.0", "code": 11, "msg": "no more", "details": "add a range"})
    );
    is_clean(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_every_difference() {
    let node = Node::start().await;
    let container = Container::new("c1");
    let result = added(&node, &container, "web-0").await;
    let conf = with_result(&node.fake_conf(), &result);
    let host_name = caracal_api::names::veth_name("default", "web-0");
    let expect = async |part: &str| {
        let outcome = node.calico("CHECK", &container, Some("web-0"), &conf).await;
        assert!(!outcome.success, "{part}");
        let text = outcome.document["msg"].as_str().unwrap_or_default().to_owned();
        assert!(text.contains(part), "{part}: {text}");
    };
    std::fs::remove_file(node.path("state/c1")).unwrap();
    expect("not allocated").await;
    std::fs::write(node.path("state/c1"), "").unwrap();
    let name = host_name.clone();
    node.netns
        .run(move || sysctl::write(&["net", "ipv4", "conf", &name, "proxy_arp"], "0"))
        .unwrap()
        .unwrap();
    expect("proxy_arp is 0").await;
    let pod = Netlink::open_in(&container.open()).unwrap();
    let eth0 = pod.link_by_name("eth0").await.unwrap();
    pod.set_mtu(eth0.index, 1300).await.unwrap();
    expect("MTU 1300").await;
    pod.delete_address(eth0.index, "10.50.1.7/32".parse().unwrap())
        .await
        .unwrap();
    expect("no address 10.50.1.7/32").await;
    expect("no route to 0.0.0.0/0").await;
    pod.set_down(eth0.index).await.unwrap();
    expect("eth0 is down").await;
    pod.delete_link(eth0.index).await.unwrap();
    expect("the host has no interface").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_routed_elsewhere_is_refused() {
    let node = Node::start().await;
    node.create_pod("web-0", &json!({})).await;
    let netlink = Netlink::open_in(&node.netns).unwrap();
    let lo = netlink.link_by_name("lo").await.unwrap();
    let route = caracal_linux::netlink::Route::unicast("10.50.1.7/32".parse().unwrap()).dev(lo.index);
    netlink.add_route(&route.protocol(3).scope(253)).await.unwrap();
    let container = Container::new("c1");
    let outcome = node
        .calico("ADD", &container, Some("web-0"), &node.fake_conf())
        .await;
    let text = outcome.document["msg"].as_str().unwrap_or_default();
    assert!(
        text.contains("already exists for an interface other than"),
        "{outcome:?}"
    );
    is_clean(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kubernetes_the_interface_is_named_after_the_container() {
    let node = Node::start().await;
    let container = Container::new("0123456789abcdef");
    let outcome = node.calico("ADD", &container, None, &node.fake_conf()).await;
    assert!(outcome.success, "{outcome:?}");
    assert_eq!(node.pod_devices().await, ["cali0123456789a"]);
    let outcome = node.calico("DEL", &container, None, &node.fake_conf()).await;
    assert!(outcome.success, "{outcome:?}");
    is_clean(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_local_gets_the_nodes_range() {
    let node = Node::start().await;
    node.create_pod("web-0", &json!({})).await;
    let conf =
        node.conf(&json!({"type": "fake-ipam", "subnet": "usePodCidr", "routes": [{"dst": "10.0.0.0/8"}]}));
    let container = Container::new("c1");
    let outcome = node.calico("ADD", &container, Some("web-0"), &conf).await;
    assert!(outcome.success, "{outcome:?}");
    let text = std::fs::read_to_string(node.path("last-conf")).unwrap();
    let seen: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(seen["ipam"]["subnet"], "10.50.1.0/24");
    let pod = Netlink::open_in(&container.open()).unwrap();
    let routes = pod.routes_of(false).await.unwrap();
    let has = |text: &str| routes.iter().any(|route| route.destination.to_string() == text);
    assert!(has("10.0.0.0/8") && !has("0.0.0.0/0"), "{routes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_is_answered_and_a_closed_datastore_refuses() {
    let node = Node::start().await;
    let container = Container::new("c1");
    let outcome = node
        .calico("VERSION", &container, None, &json!({"cniVersion": "0.4.0"}))
        .await;
    assert!(outcome.success);
    assert_eq!(outcome.document["cniVersion"], "0.4.0");
    added(&node, &container, "web-0").await;
    let mut information: caracal_api::v3::ClusterInformation =
        node.client.get(None, "default").await.unwrap().unwrap();
    information.spec.datastore_ready = Some(false);
    node.client.update(&information).await.unwrap();
    for command in ["ADD", "DEL"] {
        let outcome = node
            .calico(command, &container, Some("web-0"), &node.fake_conf())
            .await;
        assert_eq!(outcome.document["code"], 11, "{command}: {outcome:?}");
        assert_eq!(
            outcome.document["msg"],
            "Calico is currently not ready to process requests"
        );
    }
    assert_eq!(node.pod_devices().await.len(), 1, "a refused DEL touches nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn del_without_a_datastore_takes_the_interface_and_keeps_the_address_for_the_next_del() {
    let node = Node::start().await;
    let container = Container::new("c1");
    added(&node, &container, "web-0").await;
    let mut away = node.fake_conf();
    away["kubernetes"] = json!({"k8s_api_root": "http://127.0.0.1:1"});
    let outcome = node.calico("DEL", &container, Some("web-0"), &away).await;
    assert_eq!(outcome.document["code"], 11, "{outcome:?}");
    assert_eq!(node.pod_devices().await, Vec::<String>::new());
    assert_eq!(node.fake_addresses(), 1, "the Pod still names the address");
    let outcome = node
        .calico("DEL", &container, Some("web-0"), &node.fake_conf())
        .await;
    assert!(outcome.success, "{outcome:?}");
    is_clean(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn add_waits_for_felix_but_not_for_ever() {
    let node = Node::start().await;
    node.create_pod("web-0", &json!({})).await;
    let container = Container::new("c1");
    let mut conf = node.fake_conf();
    conf["policy_setup_timeout_seconds"] = json!(2);
    conf["endpoint_status_dir"] = json!(node.folder.path());
    let start = std::time::Instant::now();
    let outcome = node.calico("ADD", &container, Some("web-0"), &conf).await;
    assert!(outcome.success, "{outcome:?}");
    assert!(start.elapsed() >= std::time::Duration::from_secs(2));
    assert!(outcome.stderr.contains("felix has not programmed"), "{outcome:?}");
    std::fs::write(node.path("k8s default%2Fweb-0 eth0"), "{}").unwrap();
    conf["policy_setup_timeout_seconds"] = json!(600);
    let outcome = node.calico("ADD", &container, Some("web-0"), &conf).await;
    assert!(outcome.success, "{outcome:?}");
}

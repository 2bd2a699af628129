//! A node of a cluster: objects in an API server in process, the speaker in a namespace, BIRD as top-of-rack router.

use std::time::Duration;

use caracal_api::v3;
use caracal_apiserver::ApiServer;
use caracal_bgpd::control::Request;
use caracal_bgpd::kernel;
use caracal_bgpd::metrics::Metrics;
use caracal_bgpd::run::{Cluster, Options, Source, run};
use caracal_bgpd_compile::Snapshot;
use caracal_daemon::health::{Health, Reports};
use caracal_daemon::metrics::Registry;
use caracal_datastore::{Client, Object, Preconditions};
use k8s_openapi::api::core::v1::{Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::lab::{Bird, Lab, ask, ip};

/// Runs a test beside a speaker for node-1, on one runtime inside the node.
fn with_speaker(lab: &Lab, test: impl AsyncFnOnce(&Lab, &Client) + Send) {
    lab.node
        .run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let server = ApiServer::in_memory();
                let client = Client::from_service(server.service(), "default");
                let registry = Registry::new("bgpd").unwrap();
                let options = Options {
                    source: Source::Cluster(Box::new(Cluster::new(
                        client.clone(),
                        "node-1",
                        "kube-system",
                        Snapshot::default(),
                    ))),
                    control: lab.path("bgpd.sock"),
                    kernel: kernel::Settings::default(),
                    seed: 1,
                    record: None,
                    bmp: None,
                    mrt_updates: None,
                };
                let health = Health::new().register("Speaker", Reports::BOTH, None);
                let metrics = Metrics::new(&registry).unwrap();
                tokio::select! {
                    result = run(options, metrics, health) => panic!("the speaker ended: {result:?}"),
                    () = test(lab, &client) => {}
                }
                assert!(registry.render().contains("bgp_peers"), "{}", registry.render());
            });
        })
        .unwrap();
}

async fn create<K: Object>(client: &Client, value: Value) {
    let object: K = serde_json::from_value(value).unwrap();
    client.create(&object).await.unwrap();
}

async fn eventually(what: &str, seconds: u64, mut holds: impl FnMut() -> bool + Send) {
    let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(
            tokio::time::Instant::now() < end,
            "not within {seconds} s: {what}"
        );
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Asks the speaker, which may not have its socket yet when a test begins.
async fn question(lab: &Lab, request: &'static str) -> Value {
    let end = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let path = lab.path("bgpd.sock");
        let answer = tokio::task::spawn_blocking(move || ask(&path, request))
            .await
            .unwrap();
        if let Some(answer) = answer {
            return answer;
        }
        assert!(tokio::time::Instant::now() < end, "no answer to {request}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

async fn tor_status(lab: &Lab) -> Value {
    question(lab, r#"{"request":"status"}"#).await["peers"][0].clone()
}

async fn populate(client: &Client) {
    create::<Node>(
        client,
        json!({"metadata": {"name": "node-1", "annotations": {"projectcalico.org/IPv4Address": "10.99.0.1/24"}}}),
    )
    .await;
    create::<v3::BGPConfiguration>(
        client,
        json!({"metadata": {"name": "default"}, "spec": {"asNumber": 65000}}),
    )
    .await;
    create::<v3::IPPool>(
        client,
        json!({"metadata": {"name": "pods"}, "spec": {"cidr": "10.65.0.0/16"}}),
    )
    .await;
    block(client, "10-65-0-0-26", "10.65.0.0/26").await;
}

async fn block(client: &Client, name: &str, cidr: &str) {
    let spec = json!({"cidr": cidr, "node": "node-1", "state": "confirmed", "deleted": false});
    create::<v3::BlockAffinity>(
        client,
        json!({"metadata": {"name": format!("node-1-{name}")}, "spec": spec}),
    )
    .await;
}

async fn tor(client: &Client, more: Value) {
    let mut spec = json!({"peerIP": "10.99.0.2", "asNumber": 65001});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    create::<v3::BGPPeer>(client, json!({"metadata": {"name": "tor"}, "spec": spec})).await;
}

#[test]
fn blocks_and_borrowed_addresses_follow_the_objects_without_a_reset() {
    let lab = Lab::new();
    let bird = Bird::start(&lab, &["10.200.1.0/26"], "");
    ip(&lab.node, "link add cali1 type veth peer name c1");
    ip(&lab.node, "link set cali1 up");
    with_speaker(&lab, async |lab, client| {
        populate(client).await;
        tor(client, json!({})).await;
        eventually("the block is at the router", 15, || bird.has("10.65.0.0/26")).await;
        eventually("the router's route is in the kernel", 5, || {
            let routes = lab.routes();
            routes.contains("10.200.1.0/26 via 10.99.0.2 dev eth0 proto bird")
                && routes.contains("blackhole 10.65.0.0/26 proto bird")
        })
        .await;
        ip(&lab.node, "route add 10.65.0.5/32 dev cali1 proto 80");
        ip(&lab.node, "route add 10.65.9.7/32 dev cali1 proto 80");
        eventually("the borrowed address is at the router", 3, || {
            bird.has("10.65.9.7/32")
        })
        .await;
        assert!(
            !bird.has("10.65.0.5/32"),
            "an address of the own block goes out with it"
        );
        assert!(!bird.has("10.99.0.0/24"), "nothing else of the host goes out");
        ip(&lab.node, "route del 10.65.9.7/32");
        eventually("it is withdrawn", 3, || !bird.has("10.65.9.7/32")).await;
        block(client, "10-65-4-0-26", "10.65.4.0/26").await;
        eventually("the new block is at the router", 3, || bird.has("10.65.4.0/26")).await;
        let name = "node-1-10-65-4-0-26";
        client
            .delete::<v3::BlockAffinity>(None, name, Preconditions::default())
            .await
            .unwrap();
        eventually("the released block is withdrawn", 3, || !bird.has("10.65.4.0/26")).await;
        create::<v3::BGPPeer>(
            client,
            json!({"metadata": {"name": "another"}, "spec": {"peerIP": "10.99.0.77", "asNumber": 65007}}),
        )
        .await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let status = tor_status(lab).await;
        assert_eq!(status["name"], "Global_10_99_0_2");
        assert_eq!(status["establishedCount"], 1, "{status}");
    });
}

#[test]
fn a_password_from_a_secret_opens_the_session_when_it_is_there() {
    let lab = Lab::new();
    let bird = Bird::start(&lab, &["10.200.1.0/26"], "password \"secret\";");
    with_speaker(&lab, async |lab, client| {
        populate(client).await;
        tor(
            client,
            json!({"password": {"secretKeyRef": {"name": "bgp", "key": "tor"}}}),
        )
        .await;
        let mut problems = Value::Null;
        for _ in 0..200 {
            if let Some(found) = ask_problems(lab).await {
                problems = found;
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(problems[0]["object"], "BGPPeer tor", "{problems}");
        assert!(!bird.is_up());
        create::<Secret>(
            client,
            json!({"metadata": {"name": "bgp", "namespace": "kube-system"}, "data": {"tor": "c2VjcmV0Cg=="}}),
        )
        .await;
        eventually("the session is up", 30, || bird.is_up()).await;
    });
}

async fn ask_problems(lab: &Lab) -> Option<Value> {
    // The name is the one that the control socket reads.
    assert_eq!(
        serde_json::from_str::<Request>(r#"{"request":"problems"}"#).unwrap(),
        Request::Problems
    );
    let found = question(lab, r#"{"request":"problems"}"#).await;
    found
        .as_array()
        .is_some_and(|list| !list.is_empty())
        .then_some(found)
}

#[test]
fn a_local_service_is_announced_while_an_endpoint_is_ready_here() {
    let lab = Lab::new();
    let bird = Bird::start(&lab, &["10.200.1.0/26"], "");
    with_speaker(&lab, async |lab, client| {
        populate(client).await;
        tor(client, json!({})).await;
        eventually("the session is up", 15, || bird.is_up()).await;
        create::<Service>(
            client,
            json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {
                "type": "LoadBalancer", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
                "externalTrafficPolicy": "Local", "ports": [{"port": 80}]}}),
        )
        .await;
        let slice = |ready: bool| {
            json!({
                "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4", "ports": [],
                "endpoints": [{"addresses": ["10.65.0.5"], "nodeName": "node-1", "conditions": {"ready": ready}}]})
        };
        create::<EndpointSlice>(client, slice(true)).await;
        let range = json!({"spec": {"serviceClusterIPs": [{"cidr": "10.96.0.0/12"}]}});
        client
            .patch_merge::<v3::BGPConfiguration>(None, "default", &range)
            .await
            .unwrap();
        eventually("range and address are announced", 5, || {
            bird.has("10.96.0.0/12") && bird.has("10.96.0.10/32")
        })
        .await;
        client
            .patch_merge::<EndpointSlice>(Some("default"), "web-1", &slice(false))
            .await
            .unwrap();
        eventually("the address is withdrawn within a second", 1, || {
            !bird.has("10.96.0.10/32")
        })
        .await;
        assert!(bird.has("10.96.0.0/12"));
        assert_eq!(tor_status(lab).await["establishedCount"], 1);
        assert!(!lab.routes().contains("10.96."), "{}", lab.routes());
    });
}

#[test]
fn a_node_answers_what_it_is_asked_over_the_api() {
    let lab = Lab::new();
    let bird = Bird::start(&lab, &["10.200.1.0/26"], "");
    with_speaker(&lab, async |lab, client| {
        populate(client).await;
        tor(client, json!({})).await;
        eventually("the session is up", 15, || bird.is_up()).await;
        eventually("the router's route is there", 5, || {
            lab.routes().contains("10.200.1.0/26")
        })
        .await;
        let spec = json!({"node": "node-1", "classes": ["Agent", "BGP", "Routes"], "updatePeriodSeconds": 1});
        create::<v3::CalicoNodeStatus>(client, json!({"metadata": {"name": "mine"}, "spec": spec})).await;
        let other = json!({"node": "node-2", "classes": ["BGP"], "updatePeriodSeconds": 1});
        create::<v3::CalicoNodeStatus>(client, json!({"metadata": {"name": "other"}, "spec": other})).await;
        let answer = answered(client, "mine", |_| true).await;
        let bgp = answer.bgp.unwrap();
        assert_eq!(
            (bgp.number_established_v4, bgp.number_not_established_v4),
            (Some(1), Some(0))
        );
        let peer = &bgp.peers_v4[0];
        assert_eq!(
            (peer.peer_ip.as_str(), peer.type_.as_str()),
            ("10.99.0.2", "GlobalPeer")
        );
        assert_eq!(peer.state, "Established");
        let agent = answer.agent.unwrap().bird_v4.unwrap();
        assert_eq!(
            (agent.state.as_str(), agent.router_id.as_str()),
            ("Ready", "10.99.0.1")
        );
        let routes = answer.routes.unwrap().routes_v4;
        let learned = routes
            .iter()
            .find(|route| route.destination == "10.200.1.0/26")
            .unwrap();
        assert_eq!(
            (learned.type_.as_str(), learned.gateway.as_str()),
            ("FIB", "10.99.0.2")
        );
        let from = learned.learned_from.clone().unwrap();
        assert_eq!(
            (from.source_type.as_str(), from.peer_ip.as_str()),
            ("BGPPeer", "10.99.0.2")
        );
        // It follows what happens, and drops what is not asked for any more.
        bird.command("disable dut");
        answered(client, "mine", |status| {
            status
                .bgp
                .as_ref()
                .is_some_and(|bgp| bgp.number_established_v4 == Some(0))
        })
        .await;
        let fewer = json!({"spec": {"classes": ["BGP"]}});
        client
            .patch_merge::<v3::CalicoNodeStatus>(None, "mine", &fewer)
            .await
            .unwrap();
        answered(client, "mine", |status| {
            status.agent.is_none() && status.routes.is_none()
        })
        .await;
        let other = client
            .get::<v3::CalicoNodeStatus>(None, "other")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(other.status, None);
    });
}

/// The answer in a CalicoNodeStatus, once there is one of which something holds.
async fn answered(
    client: &Client,
    name: &str,
    holds: impl Fn(&v3::CalicoNodeStatusStatus) -> bool,
) -> v3::CalicoNodeStatusStatus {
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let object = client
            .get::<v3::CalicoNodeStatus>(None, name)
            .await
            .unwrap()
            .unwrap();
        if let Some(status) = object
            .status
            .filter(|status| status.last_updated.is_some() && holds(status))
        {
            return status;
        }
        assert!(tokio::time::Instant::now() < end, "{name} is not answered");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn an_annotated_node_tells_its_peers_to_go_other_ways() {
    let lab = Lab::new();
    let bird = Bird::start(&lab, &["10.200.1.0/26"], "");
    let is_marked = |bird: &Bird<'_>| bird.command("show route 10.65.0.0/26 all").contains("(65535,0)");
    with_speaker(&lab, async |lab, client| {
        populate(client).await;
        tor(client, json!({})).await;
        eventually("the block is at the router", 15, || bird.has("10.65.0.0/26")).await;
        assert!(!is_marked(&bird));
        let annotate = |value: Value| json!({"metadata": {"annotations": {"caracal.dev/bgp-drain": value}}});
        client
            .patch_merge::<Node>(None, "node-1", &annotate(json!("true")))
            .await
            .unwrap();
        eventually("the router is told", 10, || is_marked(&bird)).await;
        client
            .patch_merge::<Node>(None, "node-1", &annotate(Value::Null))
            .await
            .unwrap();
        eventually("it is taken back", 10, || !is_marked(&bird)).await;
        // The same by the control socket.
        question(lab, r#"{"request":"drain","on":true}"#).await;
        eventually("the router is told", 10, || is_marked(&bird)).await;
        assert_eq!(tor_status(lab).await["establishedCount"], 1);
    });
}

#[test]
fn the_default_gateway_and_a_workload_are_peers() {
    let lab = Lab::new();
    let bird = Bird::start(&lab, &["10.200.1.0/26"], "");
    with_speaker(&lab, async |lab, client| {
        populate(client).await;
        let spec = json!({"asNumber": 65001, "extensions": {"peerDefaultGateway": "ipv4"}});
        create::<v3::BGPPeer>(client, json!({"metadata": {"name": "gateway"}, "spec": spec})).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!bird.is_up());
        ip(&lab.node, "route add default via 10.99.0.2");
        eventually("the session is up", 20, || bird.is_up()).await;
        let spec = json!({"asNumber": 65010, "localWorkloadSelector": "app == 'router'"});
        create::<v3::BGPPeer>(client, json!({"metadata": {"name": "pods"}, "spec": spec})).await;
        let pod = json!({
            "metadata": {"name": "router", "namespace": "default", "labels": {"app": "router"},
                "annotations": {"cni.projectcalico.org/podIP": "10.65.0.5/32", "cni.projectcalico.org/podIPs": "10.65.0.5/32"}},
            "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "i"}]}});
        create::<k8s_openapi::api::core::v1::Pod>(client, pod).await;
        let end = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let status = question(lab, r#"{"request":"status"}"#).await;
            let peers = status["peers"].as_array().unwrap();
            if peers
                .iter()
                .any(|peer| peer["name"] == "Local_Workload_10_65_0_5" && peer["passive"] == true)
            {
                break;
            }
            assert!(tokio::time::Instant::now() < end, "{status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(bird.is_up());
    });
}

#[test]
fn a_new_password_takes_over_while_the_session_is_up() {
    let lab = Lab::new();
    let bird = Bird::start(&lab, &["10.200.1.0/26"], "password \"secret\";");
    with_speaker(&lab, async |lab, client| {
        populate(client).await;
        let secret = |text: &str| json!({"metadata": {"name": "bgp", "namespace": "kube-system"}, "data": {"tor": text}});
        create::<Secret>(client, secret("c2VjcmV0")).await;
        tor(
            client,
            json!({"password": {"secretKeyRef": {"name": "bgp", "key": "tor"}}}),
        )
        .await;
        eventually("the session is up", 30, || bird.is_up()).await;
        // "changed", here: the router has the old one, so nothing it sends is heard, and it is not told so.
        client
            .patch_merge::<Secret>(
                Some("kube-system"),
                "bgp",
                &json!({"data": {"tor": "Y2hhbmdlZA=="}}),
            )
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let status = tor_status(lab).await;
        assert_eq!(
            (&status["state"], &status["establishedCount"]),
            (&"Established".into(), &1.into()),
            "{status}"
        );
        // And back before TCP gives up: the session was never lost.
        client
            .patch_merge::<Secret>(Some("kube-system"), "bgp", &json!({"data": {"tor": "c2VjcmV0"}}))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        bird.announce(&["10.200.1.0/26", "10.200.4.0/26"], "password \"secret\";");
        eventually("routes go through", 30, || lab.routes().contains("10.200.4.0/26")).await;
        assert_eq!(tor_status(lab).await["establishedCount"], 1);
    });
}

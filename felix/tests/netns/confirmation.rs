//! What the node says when the controllers ask whether it still has addresses.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use caracal_api::confirmation::{ANSWER_ANNOTATION, Answer, QUESTION_ANNOTATION, Question};
use caracal_apiserver::ApiServer;
use caracal_datastore::Client;
use caracal_felix::confirmation::Answering;
use caracal_linux::netlink::{Netlink, Route};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use crate::machine::{Pod, in_node, plug};

const LIMIT: Duration = Duration::from_secs(30);

async fn annotate(client: &Client, question: Option<&Question>) {
    let text = question.map_or(Value::Null, |question| {
        serde_json::to_string(question).unwrap().into()
    });
    let patch = json!({"metadata": {"annotations": {QUESTION_ANNOTATION: text}}});
    client.patch_status::<Node>(None, "node-1", &patch).await.unwrap();
}

/// Waits until the annotations of the node are as wanted.
async fn until<T>(client: &Client, what: &str, look: impl Fn(&Node) -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        let node: Node = client.get(None, "node-1").await.unwrap().unwrap();
        if let Some(found) = look(&node) {
            return found;
        }
        assert!(Instant::now() < deadline, "not within the time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn ask(client: &Client, id: &str, pods: &[(&str, &str)]) -> Vec<IpAddr> {
    let question = Question {
        id: id.to_owned(),
        addresses: pods
            .iter()
            .map(|(address, interface)| (address.parse().unwrap(), (*interface).to_owned()))
            .collect(),
    };
    annotate(client, Some(&question)).await;
    until(client, "an answer", |node| {
        Answer::of(node.metadata.annotations.as_ref()).filter(|answer| answer.id == id)
    })
    .await
    .held
}

async fn route_to(netlink: &Netlink, pod: &Pod) -> Route {
    let link = netlink.link_by_name(&pod.interface).await.unwrap();
    Route::unicast(IpNet::from(pod.address)).dev(link.index)
}

#[test]
fn the_node_answers_by_what_its_kernel_has() {
    in_node(|| async {
        let client = Client::from_service(ApiServer::in_memory().service(), "default");
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "node-1"}})).unwrap();
        client.create(&node).await.unwrap();
        let netlink = Netlink::open().unwrap();
        let plugged = plug("web", "a", "10.65.0.1").await;
        netlink
            .add_route(&route_to(&netlink, &plugged).await)
            .await
            .unwrap();
        // Its Pod is gone, felix took its route away, its container runs on.
        let orphan = plug("web", "b", "10.65.0.2").await;
        let answering = Answering::start(&client, "node-1", Netlink::open().unwrap());
        let pods = [
            ("10.65.0.1", plugged.interface.as_str()),
            ("10.65.0.2", orphan.interface.as_str()),
            ("10.65.0.3", "cali00000000000"),
        ];
        let held = ask(&client, "1", &pods).await;
        assert_eq!(held, [plugged.address, orphan.address]);
        // Both end.
        for pod in [&plugged, &orphan] {
            let link = netlink.link_by_name(&pod.interface).await.unwrap();
            netlink.delete_link(link.index).await.unwrap();
        }
        assert_eq!(ask(&client, "2", &pods).await, Vec::<IpAddr>::new());
        annotate(&client, None).await;
        until(&client, "no answer left", |node| {
            let annotations = node.metadata.annotations.clone().unwrap_or_default();
            (!annotations.contains_key(ANSWER_ANNOTATION)).then_some(())
        })
        .await;
        drop(answering);
    });
}

//! What the kube client sees of pods that end, of lists in pages, and of types that are wrong; in process.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use caracal_apiserver::ApiServer;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};

fn client(server: &ApiServer) -> kube::Client {
    kube::Client::new(server.service(), "default")
}

fn pod(name: &str, node: Option<&str>) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": name},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "one"}]}}))
    .unwrap()
}

fn refusal<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.message),
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn a_pod_on_a_node_stays_until_its_node_is_done() {
    let pods: Api<Pod> = Api::default_namespaced(client(&ApiServer::in_memory()));
    for (name, node) in [
        ("free", None),
        ("bound", Some("node-1")),
        ("held", Some("node-1")),
    ] {
        pods.create(&PostParams::default(), &pod(name, node))
            .await
            .unwrap();
    }
    // Nobody runs it: it goes at once.
    pods.delete("free", &DeleteParams::default()).await.unwrap();
    assert_eq!(pods.get_opt("free").await.unwrap(), None);
    let marked = pods.delete("bound", &DeleteParams::default()).await.unwrap();
    let marked = marked.left().unwrap().metadata;
    assert_eq!(marked.deletion_grace_period_seconds, Some(30));
    let again = pods.delete("bound", &DeleteParams::default()).await.unwrap();
    assert_eq!(
        again.left().unwrap().metadata.resource_version,
        marked.resource_version
    );
    let shorter = pods
        .delete("bound", &DeleteParams::default().grace_period(5))
        .await
        .unwrap();
    let shorter = shorter.left().unwrap().metadata;
    assert_eq!(shorter.deletion_grace_period_seconds, Some(5));
    assert!(shorter.deletion_timestamp < marked.deletion_timestamp);
    // Its status may still change, and that does not end it.
    let status = Patch::Merge(json!({"status": {"phase": "Running"}}));
    pods.patch_status("bound", &PatchParams::default(), &status)
        .await
        .unwrap();
    assert!(pods.get_opt("bound").await.unwrap().is_some());
    let other = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some("other".into()),
            resource_version: None,
        }),
        ..DeleteParams::default().grace_period(0)
    };
    assert_eq!(refusal(pods.delete("bound", &other).await).0, 409);
    pods.delete("bound", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    assert_eq!(pods.get_opt("bound").await.unwrap(), None);
    // A finalizer holds even without grace; once it is gone, the pod goes.
    let hold = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    pods.patch("held", &PatchParams::default(), &hold).await.unwrap();
    pods.delete("held", &DeleteParams::default()).await.unwrap();
    pods.delete("held", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    let held = pods.get("held").await.unwrap();
    assert_eq!(held.metadata.deletion_grace_period_seconds, Some(0));
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    pods.patch("held", &PatchParams::default(), &free).await.unwrap();
    assert_eq!(pods.get_opt("held").await.unwrap(), None);
}

#[tokio::test]
async fn pages_are_all_of_one_moment() {
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&ApiServer::in_memory()));
    let map =
        |name: String| -> ConfigMap { serde_json::from_value(json!({"metadata": {"name": name}})).unwrap() };
    for index in 0..7 {
        maps.create(&PostParams::default(), &map(format!("m{index}")))
            .await
            .unwrap();
    }
    let first = maps.list(&ListParams::default().limit(3)).await.unwrap();
    assert_eq!(
        (first.items.len(), first.metadata.remaining_item_count),
        (3, Some(4))
    );
    maps.delete("m5", &DeleteParams::default()).await.unwrap();
    maps.create(&PostParams::default(), &map("m9".into()))
        .await
        .unwrap();
    let mut names: Vec<_> = first
        .items
        .into_iter()
        .filter_map(|map| map.metadata.name)
        .collect();
    let mut token = first.metadata.continue_.unwrap();
    loop {
        let next = ListParams::default().limit(3).continue_token(&token);
        let page = maps.list(&next).await.unwrap();
        assert_eq!(page.metadata.resource_version, first.metadata.resource_version);
        names.extend(page.items.into_iter().filter_map(|map| map.metadata.name));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(next) => token = next,
            None => break,
        }
    }
    assert_eq!(names, (0..7).map(|index| format!("m{index}")).collect::<Vec<_>>());
    let other = ListParams::default().labels("a=b").continue_token(&token);
    assert_eq!(refusal(maps.list(&other).await).0, 400);
    assert_eq!(
        refusal(maps.list(&ListParams::default().continue_token("?")).await).0,
        400
    );
    let elsewhere = Api::<ConfigMap>::default_namespaced(client(&ApiServer::in_memory()));
    let late = elsewhere
        .list(&ListParams::default().limit(3).continue_token(&token))
        .await;
    assert_eq!(refusal(late).0, 410);
}

#[tokio::test]
async fn wrong_types_and_unknown_fields_are_named() {
    let client = client(&ApiServer::in_memory());
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let create = async |fields: Value, strict: bool| {
        let query = if strict { "?fieldValidation=Strict" } else { "" };
        let body = serde_json::to_vec(&fields).unwrap();
        let request = http::Request::post(format!("/api/v1/namespaces/default/pods{query}")).body(body);
        client.request::<Pod>(request.unwrap()).await
    };
    let containers = json!([{"name": "main", "image": "one"}]);
    let typo = json!({"metadata": {"name": "a"}, "spec": {"containers": containers, "nodeNaem": "x"}});
    let (code, message) = refusal(create(typo.clone(), true).await);
    assert!(
        code == 400 && message.contains("unknown field \"spec.nodeNaem\""),
        "{message}"
    );
    assert_eq!(
        create(typo, false).await.unwrap().metadata.name.as_deref(),
        Some("a")
    );
    let wrong = json!({"metadata": {"name": "b"}, "spec": {"containers": containers, "nodeName": 5}});
    let (code, message) = refusal(create(wrong, false).await);
    assert!(
        code == 400
            && message.ends_with(
                "json: cannot unmarshal number into Go struct field PodSpec.spec.nodeName of type string"
            ),
        "{message}"
    );
    let labels = json!({"metadata": {"name": "b", "labels": []}, "spec": {"containers": containers}});
    assert!(refusal(create(labels, false).await).1.contains("metadata.labels"));
    // Wrong changes do not get in either.
    let patch = Patch::Merge(json!({"spec": {"containers": "none"}}));
    let refused = pods.patch("a", &PatchParams::default(), &patch).await;
    assert!(
        refusal(refused)
            .1
            .ends_with("PodSpec.spec.containers of type []v1.Container")
    );
    let patch = Patch::Merge(json!({"spec": {"containers": [5]}}));
    let refused = pods.patch("a", &PatchParams::default(), &patch).await;
    assert!(
        refusal(refused)
            .1
            .ends_with("PodSpec.spec.containers of type v1.Container")
    );
}

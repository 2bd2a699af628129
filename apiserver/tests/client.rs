//! The server as the kube client sees it, in process.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::time::Duration;

use caracal_api::v3;
use caracal_apiserver::{ApiServer, Options};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::watcher;
use serde_json::{Value, json};

fn client(server: &ApiServer) -> kube::Client {
    kube::Client::new(server.service(), "default")
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"app": name}}, "data": {"k": "1"}}))
        .unwrap()
}

fn code<T: std::fmt::Debug>(result: kube::Result<T>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn objects_are_compared_and_swapped() {
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&ApiServer::in_memory()));
    let made = maps
        .create(&PostParams::default(), &config_map("a"))
        .await
        .unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.resource_version.is_some());
    assert_eq!(
        code(maps.create(&PostParams::default(), &config_map("a")).await),
        409
    );
    let mut newer = made.clone();
    newer.data.as_mut().unwrap().insert("k".into(), "2".into());
    maps.replace("a", &PostParams::default(), &newer).await.unwrap();
    assert_eq!(code(maps.replace("a", &PostParams::default(), &newer).await), 409);
    let patch = Patch::Merge(json!({"data": {"k": null, "l": "3"}}));
    let patched = maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(
        patched.data.unwrap().into_iter().collect::<Vec<_>>(),
        [("l".into(), "3".into())]
    );
    let listed = maps
        .list(&ListParams::default().labels("app in (a,b)"))
        .await
        .unwrap();
    assert_eq!(listed.items.len(), 1);
    assert_eq!(
        maps.list(&ListParams::default().fields("metadata.name!=a"))
            .await
            .unwrap()
            .items
            .len(),
        0
    );
    assert_eq!(
        code(maps.list(&ListParams::default().fields("spec.typo=a")).await),
        400
    );
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(maps.get("a").await), 404);
    let elsewhere: Api<ConfigMap> = Api::namespaced(client(&ApiServer::in_memory()), "nowhere");
    assert_eq!(
        code(elsewhere.create(&PostParams::default(), &config_map("a")).await),
        404
    );
}

#[tokio::test]
async fn a_watch_goes_on_where_it_stopped_and_says_410_when_it_cannot() {
    let options = Options {
        history_events: 4,
        ..Options::default()
    };
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&ApiServer::in_memory_with(options)));
    let first = maps
        .create(&PostParams::default(), &config_map("m0"))
        .await
        .unwrap();
    let version = first.metadata.resource_version.unwrap();
    for index in 1..4 {
        maps.create(&PostParams::default(), &config_map(&format!("m{index}")))
            .await
            .unwrap();
    }
    let watch = maps.watch(&WatchParams::default(), &version).await.unwrap();
    let events: Vec<_> = watch.take(3).try_collect().await.unwrap();
    let names = events.iter().map(|event| match event {
        WatchEvent::Added(map) => map.metadata.name.clone().unwrap(),
        other => panic!("{other:?}"),
    });
    assert_eq!(names.collect::<Vec<_>>(), ["m1", "m2", "m3"]);
    for index in 4..9 {
        maps.create(&PostParams::default(), &config_map(&format!("m{index}")))
            .await
            .unwrap();
    }
    let mut watch = maps
        .watch(&WatchParams::default(), &version)
        .await
        .unwrap()
        .boxed();
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Error(status))) if status.code == 410));
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_watch_with_a_selector_sees_objects_enter_and_leave() {
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&ApiServer::in_memory()));
    let mut watch = maps
        .watch(&WatchParams::default().labels("app=x"), "0")
        .await
        .unwrap()
        .boxed();
    maps.create(&PostParams::default(), &config_map("x"))
        .await
        .unwrap();
    let relabel = |to: &str| Patch::Merge(json!({"metadata": {"labels": {"app": to}}}));
    maps.patch("x", &PatchParams::default(), &relabel("y"))
        .await
        .unwrap();
    maps.patch("x", &PatchParams::default(), &relabel("x"))
        .await
        .unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(match watch.next().await.unwrap().unwrap() {
            WatchEvent::Added(_) => "added",
            WatchEvent::Deleted(_) => "deleted",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, ["added", "deleted", "added"]);
}

#[tokio::test]
async fn the_watcher_of_kube_follows() {
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&ApiServer::in_memory()));
    maps.create(&PostParams::default(), &config_map("a"))
        .await
        .unwrap();
    let mut events = watcher(maps.clone(), watcher::Config::default()).boxed();
    let mut seen = Vec::new();
    let follow = async {
        while let Some(event) = events.try_next().await.unwrap() {
            match event {
                watcher::Event::Init => seen.push("init".to_owned()),
                watcher::Event::InitApply(map) => seen.push(format!("had {}", map.metadata.name.unwrap())),
                watcher::Event::InitDone => {
                    seen.push("done".to_owned());
                    maps.create(&PostParams::default(), &config_map("b"))
                        .await
                        .unwrap();
                }
                watcher::Event::Apply(map) => {
                    seen.push(format!("got {}", map.metadata.name.unwrap()));
                    maps.delete("b", &DeleteParams::default()).await.unwrap();
                }
                watcher::Event::Delete(map) => {
                    seen.push(format!("lost {}", map.metadata.name.unwrap()));
                    return;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), follow)
        .await
        .unwrap();
    assert_eq!(seen, ["init", "had a", "done", "got b", "lost b"]);
}

#[tokio::test]
async fn custom_resources_are_defaulted_pruned_checked_and_admitted() {
    let server = ApiServer::in_memory();
    let pools: Api<v3::IPPool> = Api::all(client(&server));
    let raw = |value: Value| {
        let request = http::Request::post("/apis/projectcalico.org/v3/ippools?fieldValidation=Strict");
        request.body(value.to_string().into_bytes()).unwrap()
    };
    let kube = client(&server);
    let pool = json!({"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "p"},
        "spec": {"cidr": "10.0.0.0/16"}});
    let made: Value = kube.request(raw(pool.clone())).await.unwrap();
    assert!(
        made["spec"].as_object().unwrap().len() > 1,
        "no default was filled in: {made}"
    );
    assert_eq!(made["metadata"]["generation"], 1);
    let mut typo = pool.clone();
    typo["spec"]["cdir"] = "x".into();
    assert_eq!(code(kube.request::<Value>(raw(typo)).await), 400);
    let mut wrong = pool;
    wrong["spec"]["cidr"] = 7.into();
    assert_eq!(code(kube.request::<Value>(raw(wrong)).await), 422);
    assert_eq!(pools.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let policy = json!({"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
        "metadata": {"name": "n"}, "spec": {"selector": "all()", "egress": [{"action": "Allow"}]}});
    let request = http::Request::post("/apis/projectcalico.org/v3/namespaces/default/networkpolicies");
    let made: Value = kube
        .request(request.body(policy.to_string().into_bytes()).unwrap())
        .await
        .unwrap();
    assert_eq!(made["spec"]["types"], json!(["Egress"]));
    assert_eq!(made["metadata"]["labels"]["projectcalico.org/tier"], "default");
}

#[tokio::test]
async fn a_status_is_written_apart_and_a_pod_stays_on_its_node() {
    let pods: Api<Pod> = Api::default_namespaced(client(&ApiServer::in_memory()));
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}}))
    .unwrap();
    let made = pods.create(&PostParams::default(), &pod).await.unwrap();
    assert_eq!(made.status.unwrap().phase.as_deref(), Some("Pending"));
    assert_eq!(
        made.spec.unwrap().service_account_name.as_deref(),
        Some("default")
    );
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"cni": "x"}},
        "spec": {"nodeName": "n2"}, "status": {"phase": "Running"}}));
    let written = pods
        .patch_status("p", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(written.status.unwrap().phase.as_deref(), Some("Running"));
    assert_eq!(written.spec.unwrap().node_name.as_deref(), Some("n1"));
    assert_eq!(written.metadata.annotations.unwrap()["cni"], "x");
    assert_eq!(code(pods.patch("p", &PatchParams::default(), &patch).await), 422);
    assert_eq!(
        pods.list(&ListParams::default().fields("spec.nodeName=n1"))
            .await
            .unwrap()
            .items
            .len(),
        1
    );
}

#[tokio::test]
async fn finalizers_hold_and_a_namespace_takes_its_content_along() {
    let kube = client(&ApiServer::in_memory());
    let namespaces: Api<Namespace> = Api::all(kube.clone());
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "t"}})).unwrap();
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(kube, "t");
    let mut held = config_map("held");
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    maps.create(&PostParams::default(), &held).await.unwrap();
    maps.create(&PostParams::default(), &config_map("free"))
        .await
        .unwrap();
    namespaces.delete("t", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(maps.get("free").await), 404);
    assert!(
        maps.get("held")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    );
    assert_eq!(
        code(maps.create(&PostParams::default(), &config_map("late")).await),
        403
    );
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("held", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(code(namespaces.get("t").await), 404);
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let version = {
        let server = ApiServer::open(directory.path(), Options::default())
            .await
            .unwrap();
        let maps: Api<ConfigMap> = Api::default_namespaced(client(&server));
        let writes = (0..50).map(|index| {
            let maps = maps.clone();
            async move {
                maps.create(&PostParams::default(), &config_map(&format!("m{index}")))
                    .await
            }
        });
        let made = futures::future::try_join_all(writes).await.unwrap();
        made.iter()
            .map(|map| {
                map.metadata
                    .resource_version
                    .clone()
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
            })
            .max()
            .unwrap()
    };
    // The thread of the store closes the file a moment after the server went.
    let mut server = ApiServer::open(directory.path(), Options::default()).await;
    for _ in 0..100 {
        if server.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        server = ApiServer::open(directory.path(), Options::default()).await;
    }
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server.unwrap()));
    let listed = maps.list(&ListParams::default()).await.unwrap();
    assert_eq!(listed.items.len(), 50);
    assert!(listed.metadata.resource_version.unwrap().parse::<u64>().unwrap() >= version);
}

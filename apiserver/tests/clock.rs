//! A clock that is set back by hours, under a running server and between two runs: time stamps follow it, and nothing
//! else does. Versions go on, watches tell, tokens and events stay, pods end.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use support::Program;

/// How far the clock goes back, in seconds.
const BACK: i64 = 5 * 3600;
const PATIENCE: Duration = Duration::from_secs(60);

/// Builds what shifts clocks; nothing without a compiler.
fn shifter(directory: &Path) -> Option<PathBuf> {
    let library = directory.join("clock.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/clock.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .args([source, "-ldl"])
        .status();
    built.is_ok_and(|status| status.success()).then_some(library)
}

async fn client(program: &Program) -> kube::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(&program.kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    kube::Client::try_from(config).unwrap()
}

fn map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": value}})).unwrap()
}

fn version(map: &ConfigMap) -> u64 {
    map.metadata.resource_version.as_deref().unwrap().parse().unwrap()
}

fn made(map: &ConfigMap) -> i64 {
    map.metadata.creation_timestamp.as_ref().unwrap().0.as_second()
}

/// Is this token one of a user?
async fn is_known(client: &kube::Client, token: &str) -> bool {
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let request = http::Request::post("/apis/authentication.k8s.io/v1/tokenreviews")
        .header("content-type", "application/json")
        .body(review.to_string().into_bytes())
        .unwrap();
    let answer: Value = client.request(request).await.unwrap();
    answer["status"]["authenticated"] == true
}

async fn age_in_table(client: &kube::Client, name: &str) -> String {
    let request = http::Request::get(format!("/api/v1/namespaces/default/configmaps/{name}"))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .unwrap();
    let table: Value = client.request(request).await.unwrap();
    table["rows"][0]["cells"][2].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_clock_set_back_changes_time_stamps_only() {
    let directory = tempfile::tempdir().unwrap();
    let Some(library) = shifter(directory.path()) else {
        eprintln!("SKIPPED: there is no C compiler to build what shifts the server's clock");
        return;
    };
    let shift = directory.path().join("shift");
    std::fs::write(&shift, BACK.to_string()).unwrap();
    let data = directory.path().join("data");
    let arguments = ["--data", data.to_str().unwrap()];
    let environment = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("TEST_CLOCK_SHIFT", shift.to_str().unwrap()),
    ];
    let mut program = Program::start_with(directory.path(), &arguments, &environment);
    let client = client(&program).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let before = maps
        .create(&PostParams::default(), &map("before", "1"))
        .await
        .unwrap();
    let here = jiff::Timestamp::now().as_second();
    assert!(
        made(&before) > here + BACK / 2,
        "the server's clock is not ahead of this one"
    );
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    let request =
        serde_json::from_value(json!({"spec": {"audiences": [], "expirationSeconds": 3600}})).unwrap();
    let token = accounts
        .create_token_request("default", &PostParams::default(), &request)
        .await
        .unwrap();
    let token = token.status.unwrap().token;
    assert!(is_known(&client, &token).await);
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}, "reason": "R"});
    let event: Event = serde_json::from_value(event).unwrap();
    events.create(&PostParams::default(), &event).await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    // Marked while the clock is ahead: it ends in hours by the clock that comes.
    pods.delete("p", &DeleteParams::default()).await.unwrap();

    let since = before.metadata.resource_version.clone().unwrap();
    let mut watch = maps.watch(&WatchParams::default(), &since).await.unwrap().boxed();
    std::fs::write(&shift, "0").unwrap();

    let after = maps
        .create(&PostParams::default(), &map("after", "1"))
        .await
        .unwrap();
    assert!(
        version(&after) > version(&before),
        "versions do not come from a clock"
    );
    assert!(made(&after) < made(&before), "the clock was not set back");
    let told = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
    assert!(
        matches!(told, Some(Ok(WatchEvent::Added(map))) if map.metadata.name.as_deref() == Some("after"))
    );
    // What was written in what is now the future is changed and listed like everything else.
    let changed = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "2"}});
    let changed = maps
        .patch(
            "before",
            &PatchParams::apply("someone").force(),
            &Patch::Apply(changed),
        )
        .await
        .unwrap();
    assert!(version(&changed) > version(&after) && made(&changed) == made(&before));
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 2);
    let age = age_in_table(&client, "before").await;
    assert!(matches!(age.as_str(), "<invalid>" | "0s"), "an age of {age}");
    assert!(
        is_known(&client, &token).await,
        "a token that is good for an hour is good after the clock went back"
    );
    assert!(events.get_opt("e").await.unwrap().is_some());
    // The pod's node ends it, whatever the clock says.
    pods.delete("p", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    assert!(pods.get_opt("p").await.unwrap().is_none());
    let revision = version(&changed);
    program.kill();

    // A start with the clock still back: the store is as it was, and goes on.
    let program = Program::start_with(directory.path(), &arguments, &environment);
    let client = self::client(&program).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let listed = maps.list(&ListParams::default()).await.unwrap();
    assert_eq!(listed.items.len(), 2);
    let last = maps
        .create(&PostParams::default(), &map("last", "1"))
        .await
        .unwrap();
    assert!(version(&last) > revision, "{} after {revision}", version(&last));
    assert!(is_known(&client, &token).await);
    assert!(program.terminate());
}

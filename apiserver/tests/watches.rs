//! Many watches, and watches that nobody reads: memory stays bounded and nobody waits for them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::time::Duration;

use bytes::Bytes;
use caracal_apiserver::{ApiServer, Options, ResponseBody};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::ServiceExt as _;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn send(server: &ApiServer, method: &str, path: &str, body: &Value) -> Response<ResponseBody> {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    server.service().oneshot(request).await.unwrap()
}

async fn create(server: &ApiServer, name: &str, size: usize) -> u64 {
    let map = json!({"metadata": {"name": name}, "data": {"k": "x".repeat(size)}});
    let answer = send(server, "POST", MAPS, &map).await;
    assert_eq!(answer.status(), 201);
    let value: Value =
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    value["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

async fn line(watch: &mut ResponseBody) -> Value {
    let frame = tokio::time::timeout(Duration::from_secs(120), watch.frame())
        .await
        .unwrap();
    serde_json::from_slice(frame.unwrap().unwrap().data_ref().unwrap()).unwrap()
}

/// What this process holds in memory, in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test]
async fn ten_thousand_watches_see_a_change() {
    let server = ApiServer::in_memory();
    let revision = create(&server, "first", 10).await;
    let before = resident();
    let mut watches = Vec::new();
    for _ in 0..10_000 {
        let path = format!("{MAPS}?watch=true&allowWatchBookmarks=true&resourceVersion={revision}");
        watches.push(send(&server, "GET", &path, &Value::Null).await.into_body());
    }
    create(&server, "second", 10_000).await;
    for watch in &mut watches {
        let line = line(watch).await;
        assert_eq!(
            (line["type"].as_str(), line["object"]["metadata"]["name"].as_str()),
            (Some("ADDED"), Some("second"))
        );
    }
    let grown = resident().saturating_sub(before);
    // The change is encoded once: all of them together do not have it ten thousand times.
    assert!(grown < 80 << 20, "10,000 watches took {} MiB", grown >> 20);
}

#[tokio::test]
async fn watches_that_nobody_reads_hold_nothing_back() {
    let options = Options {
        history_events: 200,
        history_bytes: 1 << 20,
        ..Options::default()
    };
    let server = ApiServer::in_memory_with(options);
    for number in 0..300 {
        create(&server, &format!("m{number}"), 20_000).await;
    }
    let before = resident();
    let mut watches = Vec::new();
    for _ in 0..300 {
        let mut watch = send(&server, "GET", &format!("{MAPS}?watch=true"), &Value::Null)
            .await
            .into_body();
        assert_eq!(line(&mut watch).await["type"], "ADDED");
        watches.push(watch);
    }
    let tail = format!(
        "{MAPS}?watch=true&resourceVersion={}",
        create(&server, "marker", 10).await
    );
    let mut slow = send(&server, "GET", &tail, &Value::Null).await.into_body();
    for number in 0..2000 {
        let patch =
            json!({"metadata": {"name": "m0"}, "data": {"k": format!("{number}{}", "y".repeat(20_000))}});
        assert_eq!(
            send(&server, "PUT", &format!("{MAPS}/m0"), &patch).await.status(),
            200
        );
    }
    let grown = resident().saturating_sub(before);
    // They would hold 300 × 6 MB of first objects, and 40 MB of changes each.
    assert!(
        grown < 100 << 20,
        "300 watches that are not read took {} MiB",
        grown >> 20
    );
    // Who comes back too late is told so, and is done.
    let last = line(&mut slow).await;
    assert_eq!(
        (last["type"].as_str(), last["object"]["code"].as_u64()),
        (Some("ERROR"), Some(410))
    );
    assert!(slow.frame().await.is_none());
}

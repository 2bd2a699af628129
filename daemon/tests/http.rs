//! The server as a client sees it, over loopback.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::time::Duration;

use caracal_daemon::health::{Health, Reports};
use caracal_daemon::http::{Routes, serve};
use caracal_daemon::metrics::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn exchange(addr: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    let _ = read.expect("an answer in time");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(addr: SocketAddr, path: &str) -> String {
    exchange(
        addr,
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
    )
    .await
}

#[tokio::test]
async fn probes_and_metrics_are_answered() {
    let health = Health::new();
    let reporter = health.register("Main", Reports::BOTH, None);
    let routes = Routes::new()
        .health(health)
        .metrics(Registry::new("test").unwrap());
    let server = serve("127.0.0.1:0".parse().unwrap(), routes).await.unwrap();
    let addr = server.addr();
    assert!(get(addr, "/liveness").await.starts_with("HTTP/1.1 200"));
    assert!(get(addr, "/readiness").await.starts_with("HTTP/1.1 503"));
    reporter.report(true, true, "in sync");
    let ready = get(addr, "/readyz").await;
    assert!(
        ready.starts_with("HTTP/1.1 200") && ready.contains("in sync"),
        "{ready}"
    );
    assert!(get(addr, "/healthz?verbose").await.starts_with("HTTP/1.1 200"));
    assert!(get(addr, "/metrics").await.contains("caracal_build_info"));
    assert!(get(addr, "/").await.starts_with("HTTP/1.1 404"));
    assert!(get(addr, "/../etc/passwd").await.starts_with("HTTP/1.1 404"));
    let post = exchange(
        addr,
        b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    )
    .await;
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
}

#[tokio::test]
async fn absurd_input_is_refused_and_does_not_stop_the_server() {
    let server = serve(
        "127.0.0.1:0".parse().unwrap(),
        Routes::new().health(Health::new()),
    )
    .await
    .unwrap();
    let addr = server.addr();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    assert!(!exchange(addr, long.as_bytes()).await.starts_with("HTTP/1.1 200"));
    let many = format!("GET /liveness HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(500));
    assert!(!exchange(addr, many.as_bytes()).await.starts_with("HTTP/1.1 200"));
    assert!(
        !exchange(addr, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\0\0")
            .await
            .starts_with("HTTP/1.1 200")
    );
    // A client that never finishes its request is cut off.
    assert!(
        !exchange(addr, b"GET /liveness HTTP/1.1\r\n")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(get(addr, "/liveness").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let first = serve("127.0.0.1:0".parse().unwrap(), Routes::new())
        .await
        .unwrap();
    let error = serve(first.addr(), Routes::new()).await.unwrap_err();
    assert!(error.to_string().contains(&first.addr().to_string()), "{error}");
    drop(first);
}

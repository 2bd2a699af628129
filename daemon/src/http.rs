//! A small HTTP server for probes and metrics: fixed paths, GET and HEAD only, everything about a request bounded.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::health::Health;
use crate::metrics::Registry;

const CONNECTIONS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
#[error("listen on {addr}: {source}; is another program on this port?")]
pub struct Error {
    /// The address.
    pub addr: SocketAddr,
    /// The operating system's error.
    pub source: std::io::Error,
}

/// What is served: `/metrics` with a registry, the probes with a health.
#[derive(Clone, Default, Debug)]
pub struct Routes {
    metrics: Option<Registry>,
    health: Option<Health>,
}

impl Routes {
    /// Serves nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves `/metrics`.
    #[must_use]
    pub fn metrics(mut self, registry: Registry) -> Self {
        self.metrics = Some(registry);
        self
    }

    /// Serves `/liveness` and `/readiness`, also as `/healthz` and `/readyz`.
    #[must_use]
    pub fn health(mut self, health: Health) -> Self {
        self.health = Some(health);
        self
    }
}

/// A running server; it ends when this value is dropped.
#[derive(Debug)]
#[must_use = "the server stops when this value is dropped"]
pub struct Server {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// The address it listens on (with the port chosen, if port 0 was asked for).
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts serving on an address.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(addr: SocketAddr, routes: Routes) -> Result<Server, Error> {
    let failed = |source| Error { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok(Server {
        addr,
        task: tokio::spawn(accept(listener, routes)),
    })
}

async fn accept(listener: TcpListener, routes: Routes) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Dropped with this task, and every connection with it.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // Waiting for a slot before accepting leaves the excess in the kernel's queue.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let routes = routes.clone();
                connections.spawn(async move {
                    let _slot = slot;
                    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection(stream, routes)).await;
                });
            }
            Err(error) => {
                tracing::debug!(error = %error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, routes: Routes) {
    let service = service_fn(move |request| {
        let response = answer(&request, &routes);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(error = %error, "connection ended with an error");
    }
}

fn answer(request: &Request<Incoming>, routes: &Routes) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and HEAD are answered here\n".to_owned(),
        );
        response
            .headers_mut()
            .insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let path = request.uri().path();
    match (path, &routes.metrics, &routes.health) {
        ("/metrics", Some(registry), _) => {
            let mut response = text(StatusCode::OK, registry.render());
            let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        ("/liveness" | "/healthz", _, Some(health)) => {
            let summary = health.summary(Instant::now());
            text(verdict(summary.live), summary.table)
        }
        ("/readiness" | "/readyz", _, Some(health)) => {
            let summary = health.summary(Instant::now());
            text(verdict(summary.ready), summary.table)
        }
        _ => text(StatusCode::NOT_FOUND, "not found\n".to_owned()),
    }
}

fn verdict(good: bool) -> StatusCode {
    if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

//! Connections: accepted, encrypted, let in by their token, and ended when the program ends.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use super::patient::Patient;
use caracal_apiserver::{ApiService, ResponseBody, User};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

const CONNECTIONS_MAX: usize = 4096;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a client may take nothing of what it is sent.
const PATIENCE: Duration = Duration::from_secs(60);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests may go on after the program was asked to end.
const GRACE: Duration = Duration::from_secs(1);
/// Paths that need no token, as in Kubernetes.
const PUBLIC: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];
const UNAUTHORIZED: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}"#;

/// What every connection needs.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) service: ApiService,
    pub(crate) tls: TlsAcceptor,
    /// The digest of the token: comparing digests tells nothing about how much of a guess was right.
    token: [u8; 32],
    ending: watch::Receiver<bool>,
}

impl Door {
    pub(crate) fn new(
        service: ApiService,
        tls: rustls::ServerConfig,
        token: &str,
        ending: watch::Receiver<bool>,
    ) -> Self {
        Self {
            service,
            tls: TlsAcceptor::from(Arc::new(tls)),
            token: Sha256::digest(token).into(),
            ending,
        }
    }

    /// Who asks; nobody when the token is none that opens this door.
    fn lets_in<B>(&self, request: &Request<B>) -> Option<User> {
        let given = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let public = || {
            let path = request.uri().path();
            let is_public = |known: &&str| {
                path == *known
                    || path
                        .strip_prefix(*known)
                        .is_some_and(|rest| rest.starts_with('/'))
            };
            PUBLIC.iter().any(is_public).then(|| User {
                name: "system:anonymous".to_owned(),
                groups: vec!["system:unauthenticated".to_owned()],
            })
        };
        let Some((_, token)) = given else { return public() };
        let token = token.trim();
        if self.token == *Sha256::digest(token) {
            return Some(User::admin());
        }
        self.service.user_of(token)
    }
}

/// Serves on all listeners until the door's channel says that the program ends.
pub(crate) async fn serve(listeners: Vec<TcpListener>, door: Door) -> anyhow::Result<()> {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut accepting = JoinSet::new();
    for listener in listeners {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        accepting.spawn(accept(listener, door.clone(), Arc::clone(&slots)));
    }
    while accepting.join_next().await.is_some() {}
    Ok(())
}

async fn accept(listener: tokio::net::TcpListener, door: Door, slots: Arc<Semaphore>) {
    let mut ending = door.ending.clone();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            _ = ending.wait_for(|ending| *ending) => break,
            accepted = async {
                // Waiting for a slot before accepting leaves the excess in the kernel's queue.
                let slot = Arc::clone(&slots).acquire_owned().await.map_err(std::io::Error::other)?;
                listener.accept().await.map(|(stream, _)| (stream, slot))
            } => accepted,
        };
        match accepted {
            Ok((stream, slot)) => {
                let door = door.clone();
                connections.spawn(async move {
                    let _slot = slot;
                    connection(stream, door).await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Watches do not end by themselves: after the grace they are dropped with the set.
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, all).await;
}

async fn connection(stream: TcpStream, door: Door) {
    let _ = stream.set_nodelay(true);
    let stream = Patient::new(stream, PATIENCE);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, door.tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let mut ending = door.ending.clone();
    let service = service_fn(move |request| answer(door.clone(), request));
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = async { drop(ending.wait_for(|ending| *ending).await) };
    let served = tokio::select! {
        served = serving.as_mut() => Some(served),
        () = ended => None,
    };
    let served = match served {
        Some(served) => served,
        None => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error = %error, "a connection ended with an error");
    }
}

async fn answer(
    mut door: Door,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, std::convert::Infallible> {
    if let Some(user) = door.lets_in(&request) {
        request.extensions_mut().insert(user);
        return door.service.call(request).await;
    }
    let mut response = Response::new(Full::from(UNAUTHORIZED).boxed_unsync());
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

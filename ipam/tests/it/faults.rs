//! A layer over the API server that refuses, conflicts, loses answers and delays requests, from a seed.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use caracal_apiserver::{ApiService, ResponseBody};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use kube::client::Body;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tower::{BoxError, Service};

#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// The answer is an injected conflict; nothing is done.
    Conflict,
    /// The server is away; nothing is done.
    Away,
    /// The request is carried out, its answer is lost.
    Lost,
    /// The answer is lost, and the request is carried out some time later.
    Late,
}

#[derive(Clone)]
pub(crate) struct Faults {
    inner: ApiService,
    random: Arc<Mutex<SmallRng>>,
    on: Arc<AtomicBool>,
}

impl Faults {
    pub(crate) fn new(inner: ApiService, seed: u64) -> Self {
        Self {
            inner,
            random: Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))),
            on: Arc::new(AtomicBool::new(false)),
        }
    }

    pub(crate) fn switch(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    fn draw(&self, method: &Method) -> (Fault, u64) {
        let mut random = self.random.lock().unwrap();
        let pause = random.random_range(0..3);
        if !self.on.load(Ordering::Relaxed) {
            return (Fault::None, 0);
        }
        let number = random.random_range(0..100);
        let fault = match (number, method) {
            (0..8, &Method::PUT | &Method::POST) => Fault::Conflict,
            (8..11, _) => Fault::Away,
            (11..15, _) => Fault::Lost,
            (15..18, _) => Fault::Late,
            _ => Fault::None,
        };
        (fault, pause)
    }
}

pub(crate) fn refusal(code: u16, reason: &str) -> Response<ResponseBody> {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "injected", "reason": reason, "code": code,
    });
    let body = Full::new(bytes::Bytes::from(status.to_string())).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

impl Service<Request<Body>> for Faults {
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut inner = self.inner.clone();
        let (fault, pause) = self.draw(request.method());
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            match fault {
                Fault::None => Ok(inner.call(request).await?),
                Fault::Conflict => Ok(refusal(409, "Conflict")),
                Fault::Away => Ok(refusal(503, "ServiceUnavailable")),
                Fault::Lost => {
                    inner.call(request).await?;
                    Err("the answer is lost".into())
                }
                Fault::Late => {
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(40)).await;
                        inner.call(request).await
                    });
                    Err("no answer came".into())
                }
            }
        })
    }
}

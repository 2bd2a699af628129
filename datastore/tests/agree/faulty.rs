//! A connection that goes wrong on request, before any server: answers are cut, requests are refused, and versions
//! are made so old that the server has forgotten them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Frame;
use kube::client::Body;
use tokio::sync::watch;
use tower::{BoxError, Service};

#[derive(Clone)]
pub(crate) struct Faulty {
    server: kube::Client,
    cuts: watch::Sender<u64>,
    shut: Arc<AtomicBool>,
    forget: Arc<AtomicBool>,
    /// How many watches were opened with a version that is forgotten.
    forgotten: Arc<AtomicUsize>,
}

impl Faulty {
    pub(crate) fn before(server: &caracal_datastore::Client) -> Self {
        Self {
            server: server.kube().clone(),
            cuts: watch::Sender::new(0),
            shut: Arc::default(),
            forget: Arc::default(),
            forgotten: Arc::default(),
        }
    }

    /// Breaks all answers that are under way.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|count| *count += 1);
    }

    /// Refuses connections, or takes them again.
    pub(crate) fn shut(&self, shut: bool) {
        self.shut.store(shut, Ordering::SeqCst);
        self.cut();
    }

    /// The next watch comes with the first of all versions.
    pub(crate) fn forget(&self) {
        self.forget.store(true, Ordering::SeqCst);
        self.cut();
    }

    pub(crate) fn forgotten(&self) -> usize {
        self.forgotten.load(Ordering::SeqCst)
    }

    fn age(&self, request: &mut Request<Body>) {
        let query = request.uri().query().unwrap_or_default();
        if !query.contains("watch=true") || !self.forget.swap(false, Ordering::SeqCst) {
            return;
        }
        let parts: Vec<String> = query
            .split('&')
            .map(|part| match part.starts_with("resourceVersion=") {
                true => "resourceVersion=1".to_owned(),
                false => part.to_owned(),
            })
            .collect();
        let path = format!("{}?{}", request.uri().path(), parts.join("&"));
        *request.uri_mut() = path.parse::<Uri>().unwrap();
        self.forgotten.fetch_add(1, Ordering::SeqCst);
    }
}

/// A body that breaks on request.
pub(crate) struct Cuttable {
    inner: Body,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl http_body::Body for Cuttable {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err("the connection is cut".into())));
        }
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }
}

impl Service<Request<Body>> for Faulty {
    type Response = Response<Cuttable>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        self.age(&mut request);
        let (server, shut) = (self.server.clone(), self.shut.load(Ordering::SeqCst));
        let mut cuts = self.cuts.subscribe();
        Box::pin(async move {
            if shut {
                return Err("connection refused".into());
            }
            let response = server.send(request).await?;
            let cut = Box::pin(async move {
                if cuts.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            });
            Ok(response.map(|inner| Cuttable { inner, cut }))
        })
    }
}

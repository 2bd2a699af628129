//! A door before an API server: it can be shut, lead to another server, and cut the answers that are under way.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use caracal_apiserver::{ApiServer, ResponseBody};
use http::{Request, Response};
use http_body::Frame;
use kube::client::Body;
use tokio::sync::watch;
use tower::{BoxError, Service};

#[derive(Clone)]
pub(crate) struct Door {
    server: Arc<Mutex<Option<ApiServer>>>,
    cuts: watch::Sender<u64>,
}

impl Door {
    pub(crate) fn to(server: ApiServer) -> Self {
        Self {
            server: Arc::new(Mutex::new(Some(server))),
            cuts: watch::Sender::new(0),
        }
    }

    /// Breaks all connections, in the middle of a line if they are in one.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|count| *count += 1);
    }

    /// Nobody answers any more.
    pub(crate) fn shut(&self) {
        *self.server.lock().unwrap() = None;
        self.cut();
    }

    pub(crate) fn open(&self, server: ApiServer) {
        *self.server.lock().unwrap() = Some(server);
    }
}

/// A body that breaks when the door says so.
pub(crate) struct Cuttable {
    inner: ResponseBody,
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
        frame.map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
    }
}

impl Service<Request<Body>> for Door {
    type Response = Response<Cuttable>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.server.lock().unwrap().clone();
        let mut cuts = self.cuts.subscribe();
        Box::pin(async move {
            let server = server.ok_or("connection refused")?;
            let response = server.service().call(request).await?;
            let cut = Box::pin(async move {
                // Without a door any more there is nothing that could cut.
                if cuts.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            });
            Ok(response.map(|inner| Cuttable { inner, cut }))
        })
    }
}

//! An API server that refuses, conflicts and loses answers: everything still ends as it should.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use caracal_api::v3::{
    BlockAffinity, HostEndpoint, IPAMBlock, IPAMHandle, IPPool, KubeControllersConfiguration,
};
use caracal_apiserver::{ApiServer, ApiService, ResponseBody};
use caracal_datastore::Client;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use k8s_openapi::api::core::v1::Node;
use kube::client::Body;
use serde_json::json;
use tower::{BoxError, Service};

use crate::cluster::{Cluster, start_over, until};
use crate::gc::{assign, over, pod};

/// Does something to one request in eight, each time something else.
#[derive(Clone)]
struct Faults {
    inner: ApiService,
    count: Arc<AtomicUsize>,
}

fn refusal(code: u16, reason: &str) -> Response<ResponseBody> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "injected",
        "reason": reason, "code": code});
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
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let writes = !matches!(*request.method(), Method::GET);
        Box::pin(async move {
            match number % 37 {
                0 if writes => Ok(refusal(409, "Conflict")),
                7 => Ok(refusal(503, "ServiceUnavailable")),
                15 => Ok(refusal(500, "InternalError")),
                22 if writes => {
                    inner.call(request).await?;
                    Err("the answer is lost".into())
                }
                30 => Err("nobody answers".into()),
                _ => Ok(inner.call(request).await?),
            }
        })
    }
}

#[tokio::test]
async fn with_a_server_that_fails_one_request_in_eight_all_ends_well() {
    let server = ApiServer::in_memory();
    let cluster = over(Cluster::over(&server), &["node-1", "node-2"]).await;
    let endpoints = json!({"spec": {"controllers": {"node": {"hostEndpoint": {"autoCreate": "Enabled"}}}}});
    cluster
        .client
        .patch_merge::<KubeControllersConfiguration>(None, "default", &endpoints)
        .await
        .unwrap();
    // Last by name, so that no address comes from it.
    cluster
        .make::<IPPool>(json!({"metadata": {"name": "z-going"}, "spec": {"cidr": "10.9.0.0/24"}}))
        .await;
    let mut live = Vec::new();
    for index in 0..5 {
        assign(&cluster, "node-1", &format!("gone-{index}")).await;
        let name = format!("there-{index}");
        let address = assign(&cluster, "node-2", &name).await;
        pod(&cluster, "node-2", &name, address).await;
        live.push(address);
    }
    let faulty = Client::from_service(
        Faults {
            inner: server.service(),
            count: Arc::default(),
        },
        "default",
    );
    let one = start_over(faulty.clone(), "one", &[]);
    let two = start_over(faulty, "two", &[]);
    until("a finalizer", async || {
        cluster
            .get::<IPPool>("z-going")
            .await?
            .metadata
            .finalizers
            .map(drop)
    })
    .await;
    cluster.delete::<IPPool>(None, "z-going").await;
    cluster.delete::<Node>(None, "node-1").await;
    until("the pool goes", async || {
        cluster.get::<IPPool>("z-going").await.is_none().then_some(())
    })
    .await;
    until("what the node had comes back", async || {
        let claims: Vec<BlockAffinity> = cluster.all().await;
        let handles = cluster.all::<IPAMHandle>().await.len();
        (handles == live.len() && claims.iter().all(|claim| claim.spec.node == "node-2")).then_some(())
    })
    .await;
    until("host endpoints", async || {
        let gone = cluster.get::<HostEndpoint>("node-1-auto-hep").await.is_none();
        (gone && cluster.get::<HostEndpoint>("node-2-auto-hep").await.is_some()).then_some(())
    })
    .await;
    one.stop().await;
    two.stop().await;
    for address in live {
        assert!(cluster.ipam.assignment_of(address).await.unwrap().is_some());
    }
    assert_eq!(cluster.all::<IPAMBlock>().await.len(), 1);
    let report = cluster.ipam.check().await.unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
}

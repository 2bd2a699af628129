//! A process that dies at any of its requests: nothing is lost, and whoever comes next completes what it began.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};

use caracal_api::v3::{BlockAffinity, IPAMBlock, IPAMHandle};
use caracal_apiserver::{ApiServer, ApiService, ResponseBody};
use caracal_datastore::Client;
use caracal_ipam::{AutoAssign, Ipam};
use http::{Request, Response};
use kube::client::Body;
use serde_json::json;
use tower::{BoxError, Service};

use crate::cluster::Cluster;
use crate::contention::{release_until_gone, stored};
use crate::faults::refusal;

/// Carries out so many requests; of the last one, and of all after it, the process learns nothing.
#[derive(Clone)]
struct Dying {
    inner: ApiService,
    left: Arc<AtomicI64>,
}

impl Service<Request<Body>> for Dying {
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let left = self.left.fetch_sub(1, Ordering::Relaxed);
        let mut inner = self.inner.clone();
        Box::pin(async move {
            if left <= 0 {
                return Ok(refusal(403, "Forbidden"));
            }
            let response = inner.call(request).await?;
            Ok(if left == 1 {
                refusal(403, "Forbidden")
            } else {
                response
            })
        })
    }
}

struct Scene {
    server: ApiServer,
    calm: Cluster,
}

impl Scene {
    async fn new() -> Self {
        let server = ApiServer::in_memory();
        let calm = Cluster::over(&server, &["node-1", "node-2"]).await;
        calm.pool("p", json!({"cidr": "10.0.0.0/30", "blockSize": 30}))
            .await;
        Self { server, calm }
    }

    fn dying(&self, requests: i64) -> Ipam {
        let service = Dying {
            inner: self.server.service(),
            left: Arc::new(AtomicI64::new(requests)),
        };
        Ipam::new(Client::from_service(service, "default"))
    }

    /// All addresses can be had by another node, and then everything can be taken down.
    async fn is_whole(&self, requests: i64) {
        assert_eq!(
            stored(&self.calm.client, 0).await,
            BTreeMap::new(),
            "{requests} requests"
        );
        let mut all = AutoAssign::workload("node-2", "net.all");
        all.v4 = 4;
        let assigned = self.calm.ipam.auto_assign(&all).await;
        assigned.unwrap_or_else(|error| panic!("after {requests} requests: {error}"));
        self.calm.ipam.release_by_handle("net.all").await.unwrap();
        for node in ["node-1", "node-2"] {
            self.calm.ipam.release_host_affinities(node, true).await.unwrap();
        }
        assert!(
            self.calm.all::<BlockAffinity>().await.is_empty(),
            "{requests} requests"
        );
        let blocks = self.calm.all::<IPAMBlock>().await;
        assert!(
            blocks.iter().all(|block| block.spec.deleted),
            "{requests} requests: {blocks:?}"
        );
        let handles = self.calm.all::<IPAMHandle>().await;
        assert!(
            handles.iter().all(|handle| handle.spec.deleted),
            "{requests} requests: {handles:?}"
        );
    }
}

#[tokio::test]
async fn an_assignment_that_dies_at_any_request_loses_nothing() {
    let scene = Scene::new().await;
    let request = AutoAssign::workload("node-1", "net.1");
    for requests in 0.. {
        if scene.dying(requests).auto_assign(&request).await.is_ok() {
            assert!(
                requests > 9,
                "a claim and an assignment take more than {requests} requests"
            );
            break;
        }
        release_until_gone(&scene.calm.ipam, "net.1").await;
        scene.is_whole(requests).await;
    }
}

#[tokio::test]
async fn a_release_that_dies_at_any_request_is_completed_by_the_next() {
    let scene = Scene::new().await;
    let request = AutoAssign::workload("node-1", "net.1");
    for requests in 0.. {
        scene.calm.ipam.auto_assign(&request).await.unwrap();
        let released = scene.dying(requests).release_by_handle("net.1").await;
        release_until_gone(&scene.calm.ipam, "net.1").await;
        scene.is_whole(requests).await;
        if released.is_ok() {
            assert!(requests > 3, "a release takes more than {requests} requests");
            break;
        }
    }
}

#[tokio::test]
async fn a_node_removal_that_dies_at_any_request_is_completed_by_the_next() {
    let scene = Scene::new().await;
    let request = AutoAssign::workload("node-1", "net.1");
    for requests in 0..40 {
        scene.calm.ipam.auto_assign(&request).await.unwrap();
        let dying = scene.dying(requests);
        let done = dying.release_host_affinities("node-1", false).await;
        release_until_gone(&scene.calm.ipam, "net.1").await;
        scene.is_whole(requests).await;
        if done.is_ok_and(|done| done.kept.is_empty()) {
            assert!(
                requests > 4,
                "giving a block up takes more than {requests} requests"
            );
            return;
        }
    }
    panic!("the block was never given up");
}

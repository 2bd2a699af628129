//! An API server that answers with errors or not at all, and pools that go while addresses are taken.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use caracal_api::v3::{IPAMConfigurationSpec, IPPool};
use caracal_apiserver::{ApiServer, ApiService, ResponseBody};
use caracal_datastore::{Client, Preconditions};
use caracal_ipam::{AutoAssign, Ipam, Release};
use http::{Request, Response};
use k8s_openapi::api::core::v1::Node;
use kube::client::Body;
use serde_json::json;
use tower::{BoxError, Service};

use crate::cluster::Cluster;
use crate::faults::refusal;

/// Answers the requests from `first` on, `times` of them, with a code; 0 = no answer. Others are carried out.
#[derive(Clone)]
struct Failing {
    inner: ApiService,
    code: u16,
    first: usize,
    times: usize,
    seen: Arc<AtomicUsize>,
}

impl Service<Request<Body>> for Failing {
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let index = self.seen.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.inner.clone();
        let (code, fails) = (self.code, index >= self.first && index - self.first < self.times);
        Box::pin(async move {
            match (fails, code) {
                (true, 0) => Err("connection refused".into()),
                (true, 409) => Ok(refusal(409, "Conflict")),
                (true, 410) => Ok(refusal(410, "Expired")),
                (true, code) => Ok(refusal(code, "Injected")),
                (false, _) => Ok(inner.call(request).await?),
            }
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
        calm.pool("p", json!({"cidr": "10.0.0.0/29", "blockSize": 30}))
            .await;
        Self { server, calm }
    }

    fn failing(&self, code: u16, first: usize, times: usize) -> (Ipam, Arc<AtomicUsize>) {
        let seen = Arc::new(AtomicUsize::new(0));
        let service = Failing {
            inner: self.server.service(),
            code,
            first,
            times,
            seen: Arc::clone(&seen),
        };
        (Ipam::new(Client::from_service(service, "default")), seen)
    }
}

#[tokio::test]
async fn one_bad_answer_at_any_request_leaves_nothing_wrong() {
    // 429 is waited out by the client for a second each time: once is enough.
    for (code, most) in [(409, 40), (410, 40), (500, 40), (0, 40), (429, 1)] {
        let scene = Scene::new().await;
        for first in 0..most {
            let (ipam, seen) = scene.failing(code, first, 1);
            let handle = format!("net.{first}");
            let assigned = ipam.auto_assign(&AutoAssign::workload("node-1", &handle)).await;
            match &assigned {
                Ok(assigned) => assert_eq!(assigned.v4.len(), 1),
                Err(error) => assert!(error.to_string().contains("cannot "), "{error}"),
            }
            if matches!(code, 500 | 0 | 429) {
                assert!(assigned.is_ok(), "{code} at request {first}: {assigned:?}");
            }
            // It may fail for the same reason; then it is repeated, as a runtime does.
            let _ = ipam.release_by_handle(&handle).await;
            crate::contention::release_until_gone(&scene.calm.ipam, &handle).await;
            if seen.load(Ordering::Relaxed) <= first {
                break;
            }
        }
        scene.calm.assert_clean(&format!("after {code}")).await;
        let mut all = AutoAssign::workload("node-2", "net.all");
        all.v4 = 8;
        scene.calm.ipam.auto_assign(&all).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_named_and_nothing_is_assigned() {
    let scene = Scene::new().await;
    for (code, part) in [
        (500, "injected"),
        (0, "check that the server is up"),
        (410, "injected"),
    ] {
        let (ipam, _) = scene.failing(code, 0, usize::MAX);
        let error = ipam
            .auto_assign(&AutoAssign::workload("node-1", "net.1"))
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("cannot ") && text.contains(part), "{code}: {text}");
        assert_eq!(error.is_transient(), code != 410, "{code}");
    }
    scene.calm.assert_clean("after an outage").await;
    assert!(scene.calm.all::<caracal_api::v3::IPAMBlock>().await.is_empty());
}

/// Changes the pool at the first claim of a block.
#[derive(Clone)]
struct Meanwhile {
    inner: ApiService,
    calm: Client,
    delete: bool,
    done: Arc<AtomicBool>,
}

impl Service<Request<Body>> for Meanwhile {
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let it = self.clone();
        Box::pin(async move {
            let claims =
                request.method() == http::Method::POST && request.uri().path().contains("blockaffinities");
            if claims && !it.done.swap(true, Ordering::Relaxed) {
                if it.delete {
                    it.calm
                        .delete::<IPPool>(None, "p", Preconditions::default())
                        .await?;
                } else {
                    let mut pool: IPPool = it.calm.get(None, "p").await?.ok_or("no pool")?;
                    pool.spec.disabled = true;
                    it.calm.update(&pool).await?;
                }
            }
            let mut inner = it.inner.clone();
            Ok(inner.call(request).await?)
        })
    }
}

#[tokio::test]
async fn a_pool_that_goes_while_an_address_is_taken_is_named_by_the_next_request() {
    for delete in [false, true] {
        let scene = Scene::new().await;
        let service = Meanwhile {
            inner: scene.server.service(),
            calm: scene.calm.client.clone(),
            delete,
            done: Arc::default(),
        };
        let ipam = Ipam::new(Client::from_service(service, "default"));
        let request = AutoAssign::workload("node-1", "net.1");
        let assigned = ipam.auto_assign(&request).await.unwrap();
        let error = ipam
            .auto_assign(&AutoAssign::workload("node-1", "net.2"))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("no enabled IPPool for IPv4"), "{error}");
        // What was assigned can be released, by address too, and nothing stays behind.
        let release = Release {
            address: assigned.v4[0].addr(),
            handle: Some("net.1".to_owned()),
            sequence_number: None,
        };
        let released = ipam.release_ips(&[release]).await.unwrap();
        assert_eq!(released.released.len(), 1, "{delete}");
        let pool = "10.0.0.0/29".parse().unwrap();
        let gone = ipam.release_pool_affinities(&pool).await.unwrap();
        assert_eq!((gone.released.len(), gone.kept.len()), (1, 0), "{delete}");
        scene.calm.assert_clean("after the pool").await;
        assert!(scene.calm.all::<caracal_api::v3::IPAMBlock>().await.is_empty());
    }
}

#[tokio::test]
async fn an_empty_block_of_a_pool_that_left_the_node_goes_with_its_last_address() {
    let server = ApiServer::in_memory();
    let calm = Cluster::over(&server, &["node-1"]).await;
    calm.pool(
        "p",
        json!({"cidr": "10.0.0.0/29", "blockSize": 30, "nodeSelector": "!has(left)"}),
    )
    .await;
    let request = AutoAssign::workload("node-1", "net.1");
    let address = calm.ipam.auto_assign(&request).await.unwrap().v4[0].addr();
    let mut node: Node = calm.client.get(None, "node-1").await.unwrap().unwrap();
    node.metadata
        .labels
        .get_or_insert_default()
        .insert("left".into(), "yes".into());
    calm.client.update(&node).await.unwrap();
    let release = Release {
        address,
        handle: None,
        sequence_number: None,
    };
    calm.ipam.release_ips(&[release]).await.unwrap();
    assert!(calm.all::<caracal_api::v3::BlockAffinity>().await.is_empty());
    assert!(calm.all::<caracal_api::v3::IPAMBlock>().await.is_empty());
}

#[tokio::test]
async fn a_clock_that_is_set_back_keeps_no_address() {
    let scene = Scene::new().await;
    scene
        .calm
        .configure(IPAMConfigurationSpec {
            ip_cooldown_seconds: 1,
            ..IPAMConfigurationSpec::default()
        })
        .await;
    let request = AutoAssign::workload("node-1", "net.1");
    let address = scene.calm.ipam.auto_assign(&request).await.unwrap().v4[0].addr();
    scene.calm.ipam.release_by_handle("net.1").await.unwrap();
    // The mark is of a clock that was a year ahead.
    let mut blocks: Vec<caracal_api::v3::IPAMBlock> = scene.calm.all().await;
    let block = &mut blocks[0];
    for attribute in &mut block.spec.attributes {
        attribute.released_at = attribute
            .released_at
            .take()
            .map(|at| at.replacen("202", "203", 1));
    }
    scene.calm.client.update(block).await.unwrap();
    let report = scene.calm.ipam.check().await.unwrap();
    let ids: Vec<String> = report.findings.iter().map(|finding| finding.id()).collect();
    assert_eq!(ids, [format!("ipam-address-cooling-forever:{address}")]);
    assert_eq!(scene.calm.fix_all().await, []);
    scene.calm.assert_clean("after the clock").await;
    // Three seconds later it can be had: marks have whole seconds.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let mut all = AutoAssign::workload("node-1", "net.all");
    all.v4 = 8;
    scene.calm.ipam.auto_assign(&all).await.unwrap();
}

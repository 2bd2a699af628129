//! The server that is asked: the embedded one, in this process, or a real one by its kubeconfig.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use caracal_api::kinds::{ALL, Storage};
use caracal_api::yaml;
use caracal_apiserver::{ApiServer, Options};
use caracal_datastore::{Client, ConnectOptions};
use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use kube::client::Body;
use serde_json::Value;

/// Names the kubeconfig of the real server.
pub(crate) const KUBECONFIG: &str = "CARACAL_TEST_KUBECONFIG";
/// When set, the real server's answers are written down in place of being compared.
const RECORD: &str = "CARACAL_RECORD";

pub(crate) struct Target {
    pub(crate) client: Client,
    server: Option<ApiServer>,
    kubeconfig: Option<PathBuf>,
}

impl Target {
    pub(crate) fn embedded() -> Self {
        Self::over(ApiServer::in_memory())
    }

    /// For one file of requests: that of watches counts on a window of its own length.
    pub(crate) fn embedded_for(name: &str) -> Self {
        if name == "watches" {
            Self::embedded_that_forgets(6)
        } else {
            Self::embedded()
        }
    }

    /// With a window for watches of so many changes.
    pub(crate) fn embedded_that_forgets(changes: usize) -> Self {
        Self::over(ApiServer::in_memory_with(Options {
            history_events: changes,
            ..Options::default()
        }))
    }

    fn over(server: ApiServer) -> Self {
        Self {
            client: Client::from_service(server.service(), "default"),
            server: Some(server),
            kubeconfig: None,
        }
    }

    /// The real server, with our definitions and policies.
    pub(crate) async fn real() -> Self {
        let path = std::env::var_os(KUBECONFIG)
            .unwrap_or_else(|| panic!("{KUBECONFIG} names no kubeconfig; run: make test-kube"));
        let options = ConnectOptions {
            kubeconfig: Some(PathBuf::from(&path)),
            ..ConnectOptions::default()
        };
        let target = Self {
            client: Client::connect(&options).await.unwrap(),
            server: None,
            kubeconfig: Some(path.into()),
        };
        target.install().await;
        target
    }

    pub(crate) const fn is_real(&self) -> bool {
        self.server.is_none()
    }

    /// Whether answers are written down.
    pub(crate) fn records(&self) -> bool {
        self.is_real() && std::env::var_os(RECORD).is_some()
    }

    /// Applies the chart of our definitions, and waits until all of them are served.
    async fn install(&self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/caracal-crds/templates");
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        for file in files {
            for object in yaml::documents(&std::fs::read_to_string(&file).unwrap()).unwrap() {
                self.install_one(&object).await;
            }
        }
        for kind in ALL.iter().filter(|kind| kind.storage == Storage::CustomResource) {
            self.wait_served(&format!("/apis/projectcalico.org/v3/{}", kind.plural))
                .await;
        }
        self.wait_admission().await;
    }

    async fn install_one(&self, object: &Value) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap();
        let kind = text("/kind").to_lowercase();
        let plural = kind
            .strip_suffix('y')
            .map_or(format!("{kind}s"), |stem| format!("{stem}ies"));
        let path = format!(
            "/apis/{}/{plural}/{}?fieldManager=chart&force=true",
            text("/apiVersion"),
            text("/metadata/name")
        );
        let request = Request::patch(path)
            .header("content-type", "application/apply-patch+yaml")
            .body(Body::from(object.to_string().into_bytes()))
            .unwrap();
        let answer = self.client.kube().send(request).await.unwrap();
        assert!(answer.status().is_success(), "{object}: {}", answer.status());
    }

    /// Policies are in force a moment after they are stored.
    async fn wait_admission(&self) {
        for _ in 0..300 {
            let body = r#"{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkPolicy","metadata":{"name":"try"},"spec":{}}"#;
            let request = Request::post("/apis/projectcalico.org/v3/globalnetworkpolicies?dryRun=All")
                .header("content-type", "application/json")
                .body(body.as_bytes().to_vec())
                .unwrap();
            // Until the server has met the definition again for its policies it refuses with 503.
            let made: Result<Value, _> = self.client.kube().request(request).await;
            if made.is_ok_and(|made| made["metadata"]["labels"].is_object()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("our admission policies are never in force");
    }

    async fn wait_served(&self, path: &str) {
        for _ in 0..300 {
            let request = Request::get(path).body(Body::empty()).unwrap();
            if self
                .client
                .kube()
                .send(request)
                .await
                .is_ok_and(|answer| answer.status().is_success())
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{path} is never served");
    }

    /// A kubeconfig for kubectl, in `folder`. The embedded server listens for it, without TLS, on loopback.
    pub(crate) async fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let path = folder.join("kubeconfig");
        if let Some(real) = &self.kubeconfig {
            std::fs::copy(real, &path).unwrap();
            return path;
        }
        let address = self.listen().await;
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: e, contexts: [{{name: e, context: {{cluster: e, user: e}}}}],\n\
             clusters: [{{name: e, cluster: {{server: \"http://{address}\"}}}}], users: [{{name: e, user: {{}}}}]}}\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn listen(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = self.server.as_ref().unwrap().service();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(service.clone());
                tokio::spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        address
    }
}

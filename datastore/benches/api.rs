//! How fast API servers are, side by side: creations, updates, lists, and what watches deliver, with their memory.
//!
//! `make bench-api` starts the servers and this program. Arguments: the number of objects, then for each server
//! `NAME=KUBECONFIG=PID[,PID…]`. Every server is asked the same by the same client; the table's last column is the
//! first server's figure over the second's.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a measurement ends where something fails"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use caracal_api::{admission, crd};
use caracal_datastore::{Client, ConnectOptions};
use futures::stream::{StreamExt as _, iter};
use http::Request;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

/// Requests under way at once.
const AT_ONCE: usize = 16;
const NAMESPACE: &str = "bench";

/// What is stored: one kind of Kubernetes' own and one of ours.
const KINDS: [Kind; 2] = [
    Kind {
        name: "ConfigMap",
        api_version: "v1",
        collection: "/api/v1/namespaces/bench/configmaps",
    },
    Kind {
        name: "NetworkSet",
        api_version: "projectcalico.org/v3",
        collection: "/apis/projectcalico.org/v3/namespaces/bench/networksets",
    },
];

struct Kind {
    name: &'static str,
    api_version: &'static str,
    collection: &'static str,
}

impl Kind {
    fn object(&self, index: usize, round: usize) -> Value {
        let mut object = json!({
            "apiVersion": self.api_version, "kind": self.name,
            "metadata": {"name": format!("object-{index:06}"), "labels": {"app": format!("app-{}", index % 50), "round": round.to_string()}},
        });
        if self.name == "ConfigMap" {
            object["data"] = json!({"key": format!("value {index}"), "text": "x".repeat(200)});
        } else {
            let net = |high: usize| format!("10.{}.{}.{}/32", high, (index >> 8) & 255, index & 255);
            object["spec"] = json!({"nets": [net(1), net(2), net(3), net(4)]});
        }
        object
    }
}

struct Server {
    name: String,
    client: Client,
    pids: Vec<u32>,
}

/// One figure of one server: its value, and its unit.
struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
}

impl Server {
    async fn connect(text: &str) -> Self {
        let mut parts = text.split('=');
        let mut next = || {
            parts
                .next()
                .unwrap_or_else(|| panic!("{text}: NAME=KUBECONFIG=PID[,PID…] is wanted"))
        };
        let (name, kubeconfig, pids) = (next().to_owned(), PathBuf::from(next()), next());
        let options = ConnectOptions {
            kubeconfig: Some(kubeconfig),
            ..ConnectOptions::default()
        };
        Self {
            name,
            client: Client::connect(&options).await.unwrap(),
            pids: pids.split(',').map(|pid| pid.parse().unwrap()).collect(),
        }
    }

    /// Sends a request until it is answered well; returns the text.
    async fn send(&self, method: &str, path: &str, kind: &str, body: &Value) -> String {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .body(body)
            .unwrap();
        self.client
            .kube()
            .request_text(request)
            .await
            .unwrap_or_else(|error| panic!("{}: {method} {path}: {error}", self.name))
    }

    async fn json(&self, method: &str, path: &str, body: &Value) -> String {
        self.send(method, path, "application/json", body).await
    }

    /// Our definitions, where they are not built in, and a namespace.
    async fn prepare(&self) {
        let manifests = crd::all()
            .into_iter()
            .map(|definition| serde_json::to_value(definition).unwrap());
        for manifest in manifests.chain(admission::manifests()) {
            let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap();
            let kind = text("/kind").to_lowercase();
            // The embedded server has what these policies do built in, and does not run them.
            if kind.contains("policy") && self.name == "embedded" {
                continue;
            }
            let plural = kind
                .strip_suffix('y')
                .map_or(format!("{kind}s"), |stem| format!("{stem}ies"));
            let path = format!(
                "/apis/{}/{plural}/{}?fieldManager=bench&force=true",
                text("/apiVersion"),
                text("/metadata/name")
            );
            self.send("PATCH", &path, "application/apply-patch+yaml", &manifest)
                .await;
        }
        self.json(
            "POST",
            "/api/v1/namespaces",
            &json!({"metadata": {"name": NAMESPACE}}),
        )
        .await;
        for kind in &KINDS {
            let request = || Request::get(kind.collection).body(Vec::new()).unwrap();
            while self.client.kube().request_text(request()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    fn memory(&self) -> f64 {
        let resident = |pid: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status
                .lines()
                .find(|line| line.starts_with("VmRSS:"))
                .unwrap_or_default()
                .to_owned();
            line.split_whitespace()
                .nth(1)
                .and_then(|kb| kb.parse::<f64>().ok())
                .unwrap_or_default()
        };
        self.pids.iter().map(resident).sum::<f64>() / 1024.0
    }

    /// Writes all objects, and returns the versions they then have.
    async fn write(
        &self,
        method: &'static str,
        kind: &'static Kind,
        count: usize,
        versions: &[String],
    ) -> (Vec<String>, Duration) {
        let begin = Instant::now();
        let round = usize::from(method == "PUT");
        let written = iter(0..count)
            .map(|index| async move {
                let mut object = kind.object(index, round);
                let mut path = kind.collection.to_owned();
                if let Some(version) = versions.get(index) {
                    object["metadata"]["resourceVersion"] = version.as_str().into();
                    path = format!("{path}/object-{index:06}");
                }
                let text = self.json(method, &path, &object).await;
                let value: Value = serde_json::from_str(&text).unwrap();
                value["metadata"]["resourceVersion"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        (written, begin.elapsed())
    }

    async fn list(&self, kind: &Kind, count: usize) -> Duration {
        let begin = Instant::now();
        let mut more = String::new();
        let mut found = 0;
        loop {
            let path = format!("{}?limit=500&continue={more}", kind.collection);
            let page: Page = serde_json::from_str(&self.json("GET", &path, &Value::Null).await).unwrap();
            found += page.items.len();
            more = page.metadata.more;
            if more.is_empty() {
                assert_eq!(found, count, "{}: {}", self.name, kind.name);
                return begin.elapsed();
            }
        }
    }

    /// Reads a watch until it has told `count` objects; the counter tells how far it is.
    async fn watch(&self, path: String, count: usize, told: Arc<AtomicUsize>) -> Instant {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let mut answer = self.client.kube().send(request).await.unwrap();
        assert!(answer.status().is_success(), "{}: {}", self.name, answer.status());
        told.store(1, Ordering::SeqCst);
        let mut lines = 0;
        while lines < count {
            let frame = answer.body_mut().frame().await.unwrap().unwrap();
            lines += frame
                .into_data()
                .unwrap_or_default()
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
        }
        Instant::now()
    }

    async fn measure(self: &Arc<Self>, kind: &'static Kind, count: usize) -> Vec<Figure> {
        let name = kind.name;
        let objects = count as f64;
        let rate = |what: &str, took: Duration| Figure {
            what: format!("{name}: {what}"),
            value: objects / took.as_secs_f64(),
            unit: "/s",
        };
        let (versions, created) = self.write("POST", kind, count, &[]).await;
        let latest = versions.last().cloned().unwrap_or_default();
        // Updates are told to a watch while they are made.
        let opened = Arc::new(AtomicUsize::new(0));
        let path = format!("{}?watch=true&resourceVersion={latest}", kind.collection);
        let watching = {
            let (server, opened) = (Arc::clone(self), Arc::clone(&opened));
            tokio::spawn(async move { server.watch(path, count, opened).await })
        };
        while opened.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (_, updated) = self.write("PUT", kind, count, &versions).await;
        let answered = Instant::now();
        let told = watching.await.unwrap();
        let listed = self.list(kind, count).await;
        let begin = Instant::now();
        let path = format!(
            "{}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
            kind.collection
        );
        let initial = self.watch(path, count + 1, Arc::default()).await - begin;
        vec![
            rate("created", created),
            rate("updated", updated),
            Figure {
                what: format!("{name}: last change told after its answer"),
                value: told.saturating_duration_since(answered).as_secs_f64() * 1000.0,
                unit: "ms",
            },
            rate("listed, pages of 500", listed),
            rate("told by a new watch", initial),
            Figure {
                what: format!("{name}: memory then"),
                value: self.memory(),
                unit: "MiB",
            },
        ]
    }
}

/// A page whose objects are counted, and not read.
#[derive(serde::Deserialize)]
struct Page {
    metadata: PageMeta,
    items: Vec<serde::de::IgnoredAny>,
}

#[derive(serde::Deserialize)]
struct PageMeta {
    #[serde(default, rename = "continue")]
    more: String,
}

fn print(servers: &[Arc<Server>], figures: &[Vec<Figure>]) {
    print!("| |");
    for server in servers {
        print!(" {} |", server.name);
    }
    println!(" ratio |");
    println!("|---|{}", "---:|".repeat(servers.len() + 1));
    for (index, first) in figures[0].iter().enumerate() {
        print!("| {} |", first.what);
        for column in figures {
            let figure = &column[index];
            print!(" {:.0} {} |", figure.value, figure.unit);
        }
        match figures.get(1).map(|column| column[index].value) {
            Some(other) if other > 0.0 => println!(" {:.2} |", first.value / other),
            _ => println!(" - |"),
        }
    }
}

#[tokio::main]
async fn main() {
    // `cargo bench` adds its own.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|text| !text.starts_with("--"))
        .collect();
    let Some((count, targets)) = arguments.split_first() else {
        println!("nothing measured: scripts/bench-api.sh gives the servers");
        return;
    };
    let count: usize = count
        .parse()
        .unwrap_or_else(|_| panic!("{count}: a number of objects is wanted"));
    let mut servers = Vec::new();
    let mut figures = Vec::new();
    for target in targets {
        let server = Arc::new(Server::connect(target).await);
        let mut column = vec![Figure {
            what: "memory before".to_owned(),
            value: server.memory(),
            unit: "MiB",
        }];
        server.prepare().await;
        for kind in &KINDS {
            column.extend(server.measure(kind, count).await);
        }
        servers.push(server);
        figures.push(column);
    }
    println!("\n{count} objects of each kind, {AT_ONCE} requests at once:\n");
    print(&servers, &figures);
}

//! A node of its own for each test: a network namespace with an API server on its loopback, in which the real
//! programs run as a container runtime would run them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

pub mod daemon;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use caracal_apiserver::{ApiServer, ResponseBody};
use caracal_datastore::Client;
use caracal_linux::netlink::Netlink;
use caracal_linux::netns::NetNs;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde_json::{Value, json};
use tower::Service as _;

/// What the API server shall answer instead: path part, method, code, and how often.
#[derive(Clone, Debug)]
pub struct Fault {
    pub method: Method,
    pub path: &'static str,
    pub code: u16,
    pub times: usize,
    /// The request has its effect, and only the answer is lost.
    pub after_effect: bool,
}

/// A code that means: never answer.
pub const HANG: u16 = 0;

#[derive(Default)]
struct Traffic {
    requests: Vec<String>,
    hanging: usize,
    faults: Vec<Fault>,
    /// Every request is answered with 503.
    is_away: bool,
}

/// A node.
pub struct Node {
    pub netns: NetNs,
    pub client: Client,
    pub folder: tempfile::TempDir,
    address: SocketAddr,
    traffic: Arc<Mutex<Traffic>>,
}

/// The outcome of a program.
#[derive(Debug)]
pub struct Outcome {
    pub success: bool,
    pub document: Value,
    pub stderr: String,
}

impl Node {
    pub async fn start() -> Self {
        let netns = NetNs::create_anonymous().unwrap();
        let netlink = Netlink::open_in(&netns).unwrap();
        let lo = netlink.link_by_name("lo").await.unwrap();
        netlink.set_up(lo.index).await.unwrap();
        // The node's own address, which its packets to pods carry.
        netlink
            .add_address(lo.index, "172.30.0.11/32".parse().unwrap())
            .await
            .unwrap();
        let listener = netns
            .run(|| std::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap()
            .unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let server = ApiServer::in_memory();
        let traffic = Arc::new(Mutex::new(Traffic::default()));
        tokio::spawn(serve(
            tokio::net::TcpListener::from_std(listener).unwrap(),
            server.clone(),
            Arc::clone(&traffic),
        ));
        let node = Self {
            netns,
            client: Client::from_service(server.service(), "default"),
            folder: tempfile::tempdir().unwrap(),
            address,
            traffic,
        };
        node.write_files();
        node.create(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "ClusterInformation", "metadata": {"name": "default"},
            "spec": {"clusterGUID": "0", "datastoreReady": true},
        }))
        .await;
        node.create(
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
            "spec": {"podCIDRs": ["10.50.1.0/24"]}}),
        )
        .await;
        node
    }

    fn write_files(&self) {
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: 'http://{}'}}}}]\n\
             users: [{{name: u, user: {{}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
            self.address
        );
        std::fs::write(self.path("kubeconfig"), kubeconfig).unwrap();
        std::fs::create_dir(self.path("state")).unwrap();
        self.install_fake_ipam(0);
    }

    /// An address plugin that keeps its addresses in a folder. `fails` is the exit code of its ADD.
    pub fn install_fake_ipam(&self, fails: i32) {
        let state = self.path("state");
        let state = state.display();
        let script = format!(
            r#"#!/bin/sh
conf=$(cat)
printf '%s\n' "$conf" > {state}/../last-conf
case $CNI_COMMAND in
ADD) echo 10.50.1.7 > {state}/$CNI_CONTAINERID
  if [ {fails} != 0 ]; then echo '{{"code":11,"msg":"no more","details":"add a range"}}'; exit {fails}; fi
  echo '{{"cniVersion":"1.0.0","ips":[{{"address":"10.50.1.7/24","gateway":"10.50.1.1"}}],"dns":{{"domain":"x"}}}}' ;;
DEL) rm -f {state}/$CNI_CONTAINERID ;;
CHECK) [ -e {state}/$CNI_CONTAINERID ] || {{ echo '{{"code":100,"msg":"not allocated"}}'; exit 1; }} ;;
esac
"#
        );
        let path = self.path("fake-ipam");
        let fresh = self.path("fake-ipam.new");
        std::fs::write(&fresh, script).unwrap();
        std::fs::set_permissions(&fresh, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::rename(fresh, path).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How many addresses the fake address plugin has given.
    pub fn fake_addresses(&self) -> usize {
        std::fs::read_dir(self.path("state")).unwrap().count()
    }

    /// Names of the devices of the host that belong to pods.
    pub async fn pod_devices(&self) -> Vec<String> {
        let links = Netlink::open_in(&self.netns).unwrap().links().await.unwrap();
        let names = links.into_iter().map(|link| link.name);
        names.filter(|name| name != "lo").collect()
    }

    pub async fn create(&self, object: Value) {
        let kind = object["kind"].as_str().unwrap().to_owned();
        match kind.as_str() {
            "Pod" => drop(
                self.client
                    .create::<Pod>(&serde_json::from_value(object).unwrap())
                    .await
                    .unwrap(),
            ),
            "Namespace" => {
                drop(
                    self.client
                        .create::<Namespace>(&serde_json::from_value(object).unwrap())
                        .await
                        .unwrap(),
                );
            }
            "Node" => drop(
                self.client
                    .create::<k8s_openapi::api::core::v1::Node>(&serde_json::from_value(object).unwrap())
                    .await
                    .unwrap(),
            ),
            "IPPool" => drop(
                self.client
                    .create::<caracal_api::v3::IPPool>(&serde_json::from_value(object).unwrap())
                    .await
                    .unwrap(),
            ),
            "ClusterInformation" => drop(
                self.client
                    .create::<caracal_api::v3::ClusterInformation>(&serde_json::from_value(object).unwrap())
                    .await
                    .unwrap(),
            ),
            other => panic!("{other}"),
        }
    }

    pub async fn create_pod(&self, name: &str, annotations: &Value) {
        self.create(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "annotations": annotations},
            "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "i"}]},
        }))
        .await;
    }

    pub async fn annotations(&self, pod: &str) -> BTreeMap<String, String> {
        let pod: Pod = self.client.get(Some("default"), pod).await.unwrap().unwrap();
        pod.metadata.annotations.unwrap_or_default()
    }

    pub fn conf(&self, ipam: &Value) -> Value {
        json!({
            "cniVersion": "1.1.0", "name": "k8s-pod-network", "type": "calico",
            "nodename": "node-1", "mtu": 1400, "log_level": "debug",
            "ipam_lock_file": self.path("ipam.lock"),
            "ipam": ipam,
            "policy": {"type": "k8s"},
            "kubernetes": {"kubeconfig": self.path("kubeconfig")},
        })
    }

    pub fn fake_conf(&self) -> Value {
        self.conf(&json!({"type": "fake-ipam"}))
    }

    pub fn fault(&self, fault: Fault) {
        self.traffic.lock().unwrap().faults.push(fault);
    }

    /// The API server goes away, or comes back.
    pub fn set_away(&self, is_away: bool) {
        self.traffic.lock().unwrap().is_away = is_away;
    }

    pub fn clear_faults(&self) {
        self.traffic.lock().unwrap().faults.clear();
    }

    /// The requests since the last call.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.traffic.lock().unwrap().requests)
    }

    /// The environment of a call.
    pub fn env(&self, command: &str, container: &Container, pod: Option<&str>) -> Vec<(String, String)> {
        let programs = Path::new(env!("CARGO_BIN_EXE_calico")).parent().unwrap();
        let args = pod.map_or_else(String::new, |pod| {
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};K8S_POD_INFRA_CONTAINER_ID=x"
            )
        });
        [
            ("CNI_COMMAND", command.to_owned()),
            ("CNI_CONTAINERID", container.id.clone()),
            ("CNI_NETNS", container.netns.display().to_string()),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_ARGS", args),
            (
                "CNI_PATH",
                format!(
                    "{}:{}:/usr/lib/cni",
                    programs.display(),
                    self.folder.path().display()
                ),
            ),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }

    /// Runs a program as the runtime would.
    pub async fn run(&self, program: &str, env: Vec<(String, String)>, conf: &Value) -> Outcome {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .envs(env);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.netns.spawn(&mut command).unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let text = conf.to_string();
        let output = tokio::task::spawn_blocking(move || {
            stdin.write_all(text.as_bytes()).unwrap();
            drop(stdin);
            child.wait_with_output().unwrap()
        })
        .await
        .unwrap();
        Outcome {
            success: output.status.success(),
            document: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs ADD of `calico` until a request hangs, and kills it there.
    pub async fn kill_add(&self, container: &Container, pod: &str, conf: &Value) {
        let before = self.traffic.lock().unwrap().hanging;
        let mut command = Command::new(env!("CARGO_BIN_EXE_calico"));
        command.env_clear().env("PATH", std::env::var("PATH").unwrap());
        command.envs(self.env("ADD", container, Some(pod)));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = self.netns.spawn(&mut command).unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(conf.to_string().as_bytes())
            .unwrap();
        let hangs = || self.traffic.lock().unwrap().hanging > before;
        for _ in 0..1000 {
            if hangs() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(hangs(), "the request was never made");
    }

    pub async fn calico(
        &self,
        command: &str,
        container: &Container,
        pod: Option<&str>,
        conf: &Value,
    ) -> Outcome {
        let env = self.env(command, container, pod);
        self.run(env!("CARGO_BIN_EXE_calico"), env, conf).await
    }
}

/// A container: an id and a namespace with a path, removed with the value.
pub struct Container {
    pub id: String,
    pub netns: PathBuf,
    folder: tempfile::TempDir,
}

impl Container {
    pub fn new(id: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let netns = folder.path().join("net");
        NetNs::create_at(&netns).unwrap();
        Self {
            id: id.to_owned(),
            netns,
            folder,
        }
    }

    pub fn open(&self) -> NetNs {
        NetNs::open(&self.netns).unwrap()
    }

    /// The namespace goes; its path with it.
    pub fn remove_netns(&self) {
        caracal_linux::netns::delete_at(&self.netns).unwrap();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = caracal_linux::netns::delete_at(&self.netns);
    }
}

async fn serve(listener: tokio::net::TcpListener, server: ApiServer, traffic: Arc<Mutex<Traffic>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let (server, traffic) = (server.clone(), Arc::clone(&traffic));
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                answer(server.clone(), Arc::clone(&traffic), request)
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    server: ApiServer,
    traffic: Arc<Mutex<Traffic>>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let fault = {
        let mut traffic = traffic.lock().unwrap();
        traffic
            .requests
            .push(format!("{} {}", request.method(), request.uri()));
        let away = traffic.is_away.then_some(Fault {
            method: Method::GET,
            path: "",
            code: 503,
            times: 1,
            after_effect: false,
        });
        let found = traffic.faults.iter_mut().find(|fault| {
            fault.times > 0 && fault.method == *request.method() && request.uri().path().contains(fault.path)
        });
        let found = found.map(|fault| {
            fault.times -= 1;
            fault.clone()
        });
        found.or(away)
    };
    let Some(fault) = fault else {
        return server.service().call(request).await;
    };
    if fault.after_effect {
        server.service().call(request).await?;
    }
    if fault.code == HANG {
        traffic.lock().unwrap().hanging += 1;
        std::future::pending::<()>().await;
    }
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": fault.code,
        "reason": if fault.code == 409 { "Conflict" } else { "InternalError" }, "message": "on purpose",
    });
    let body: ResponseBody = Full::new(Bytes::from(status.to_string())).boxed_unsync();
    Ok(Response::builder()
        .status(fault.code)
        .header("content-type", "application/json")
        .body(body)
        .unwrap())
}

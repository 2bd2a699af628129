//! Real processes, killed by SIGKILL under load, over a server behind a socket that goes away now and then.
//!
//! What processes were told is in one file that all of them append to: an address is noted after it was assigned and
//! before it is released. Who is noted to have an address while another one is, has it twice.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use caracal_api::v3::IPPool;
use caracal_apiserver::ApiServer;
use caracal_datastore::Client;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::client::Body;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tower::{BoxError, Service};

use super::LeftOut;
use crate::check::Outcome;
use crate::client::{AutoAssign, Ipam};
use crate::reserve::{Reserve, Returned, Target, Wanted};
use crate::step::Step;

const NODES: usize = 2;
/// Two of each node: they share its blocks and its reserve.
const PROCESSES: usize = 4;
const POOL: &str = "10.0.0.0/27";
const ADDRESSES: usize = 32;
/// Longest time of one run, however slow the machine is.
const LIMIT: Duration = Duration::from_secs(90);
const CHILD: &str = "CARACAL_IPAM_CHILD";

/// A client's way through the socket: one connection for each request, as a plugin has it.
#[derive(Clone)]
struct Socket(PathBuf);

impl Service<Request<Body>> for Socket {
    type Response = Response<hyper::body::Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move {
            let stream = UnixStream::connect(path).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            request.headers_mut().insert("host", "server".parse()?);
            Ok(sender.send_request(request).await?)
        })
    }
}

async fn serve(server: ApiServer, path: PathBuf, away: Arc<AtomicBool>) {
    let listener = UnixListener::bind(path).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (server, away) = (server.clone(), Arc::clone(&away));
        tokio::spawn(async move {
            let handler = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                let (mut service, away) = (server.service(), away.load(Ordering::Relaxed));
                async move {
                    if away {
                        let answer = Response::builder()
                            .status(503)
                            .body(Full::default().boxed_unsync());
                        return Ok::<_, Infallible>(answer.unwrap());
                    }
                    let (head, body) = request.into_parts();
                    let body = body
                        .collect()
                        .await
                        .map(|body| body.to_bytes())
                        .unwrap_or_default();
                    let request = Request::from_parts(head, Body::from(body.to_vec()));
                    Ok(service
                        .call(request)
                        .await
                        .unwrap_or_else(|error| panic!("{error}")))
                }
            });
            // A client that was killed leaves its connection broken.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), handler)
                .await;
        });
    }
}

/// The programs of a node, in a process of their own.
struct Inhabitant {
    folder: PathBuf,
    node: String,
    ipam: Ipam,
    reserve: Reserve,
    random: SmallRng,
    held: Vec<String>,
}

impl Inhabitant {
    fn note(&self, text: &str) {
        let path = self.folder.join("notes");
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(format!("{text}\n").as_bytes()).unwrap();
    }

    fn attributes(&self, handle: &str) -> BTreeMap<String, String> {
        [("pod", handle), ("namespace", "ns"), ("node", &self.node)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    fn told(&mut self, handle: &str, addresses: &[IpAddr]) {
        for address in addresses {
            self.note(&format!("got {address} {handle}"));
        }
        self.held.push(handle.to_owned());
    }

    async fn add(&mut self) {
        let handle = format!("{}-{:08x}", self.node, self.random.random::<u32>());
        let attributes = self.attributes(&handle);
        let request = AutoAssign {
            attributes: attributes.clone(),
            ..AutoAssign::workload(&self.node, &handle)
        };
        match self.ipam.auto_assign(&request).await {
            Ok(assigned) => {
                let addresses: Vec<IpAddr> = assigned.all().map(|net| net.addr()).collect();
                self.told(&handle, &addresses);
            }
            Err(error) if error.is_transient() => {
                let wanted = Wanted {
                    v4: 1,
                    v6: 0,
                    handle: &handle,
                    attributes: &attributes,
                };
                if let Ok(addresses) = self.reserve.take(&wanted) {
                    self.told(&handle, &addresses);
                }
            }
            Err(_) => {}
        }
    }

    async fn del(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let index = self.random.random_range(0..self.held.len());
        let handle = self.held.swap_remove(index);
        self.note(&format!("leaves - {handle}"));
        if self.reserve.give_back(&handle).unwrap() != Returned::NotHere {
            return;
        }
        let _ = self.ipam.release_by_handle(&handle).await;
    }

    async fn live(mut self) {
        // What the runtime knows of the node's containers.
        self.held = held(&self.folder)
            .into_values()
            .filter(|handle| handle.starts_with(&format!("{}-", self.node)))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        loop {
            match self.random.random_range(0..10) {
                0..5 => self.add().await,
                5..9 => self.del().await,
                _ => {
                    let in_use: BTreeSet<IpAddr> = held(&self.folder).into_keys().collect();
                    let target = Target { v4: 2, v6: 0 };
                    let _ = self.reserve.reconcile(&self.ipam, target, &in_use).await;
                }
            }
        }
    }
}

/// Who has which address, by the notes. Panics when one is had twice.
fn held(folder: &Path) -> BTreeMap<IpAddr, String> {
    match read_notes(folder) {
        Ok(held) => held,
        Err(wrong) => panic!("{wrong}"),
    }
}

fn read_notes(folder: &Path) -> Result<BTreeMap<IpAddr, String>, String> {
    let mut held: BTreeMap<IpAddr, String> = BTreeMap::new();
    let text = std::fs::read_to_string(folder.join("notes")).unwrap_or_default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(what), Some(address), Some(handle)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if what == "leaves" {
            held.retain(|_, other| other != handle);
            continue;
        }
        let address: IpAddr = address.parse().unwrap();
        if let Some(other) = held
            .insert(address, handle.to_owned())
            .filter(|other| other != handle)
        {
            return Err(format!("{address} was given to {other} and to {handle}"));
        }
    }
    Ok(held)
}

/// Not a test: a process of [`run`].
#[test]
fn child() {
    let Ok(text) = std::env::var(CHILD) else { return };
    let mut words = text.split(' ');
    let (node, seed, folder) = (
        words.next().unwrap(),
        words.next().unwrap(),
        words.next().unwrap(),
    );
    let step = words
        .next()
        .and_then(|text| Step::ALL.iter().copied().find(|step| format!("{step:?}") == text));
    let _left_out = LeftOut::step(step);
    let runtime = super::explore::runtime();
    runtime.block_on(async {
        let folder = PathBuf::from(folder);
        let inhabitant = Inhabitant {
            node: node.to_owned(),
            ipam: Ipam::new(Client::from_service(Socket(folder.join("socket")), "default")),
            reserve: Reserve::open(&folder.join(node), node).unwrap(),
            random: SmallRng::seed_from_u64(seed.parse().unwrap()),
            held: Vec::new(),
            folder,
        };
        inhabitant.live().await;
    });
}

fn start(process: usize, seed: u64, folder: &Path, step: Option<Step>) -> Child {
    let step = step.map(|step| format!("{step:?}")).unwrap_or_default();
    let text = format!("node-{} {seed} {} {step}", process % NODES, folder.display());
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sim::processes::child", "--test-threads=1"])
        .env(CHILD, text)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Processes that end with the value, however a run ends.
struct Children(Vec<Child>);

impl Children {
    fn end(&mut self) {
        for child in &mut self.0 {
            // One that has ended already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.end();
    }
}

/// Kills processes until so many addresses were given; then what they left is collected. Returns how many were killed, and how many
/// addresses were given.
async fn run(wanted: usize, seed: u64, step: Option<Step>) -> Result<(usize, usize), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let server = ApiServer::in_memory();
    let client = Client::from_service(server.service(), "default");
    furnish(&client).await;
    let away = Arc::new(AtomicBool::new(false));
    let serving = tokio::spawn(serve(server, path.join("socket"), Arc::clone(&away)));
    let mut random = SmallRng::seed_from_u64(seed);
    let started = (0..PROCESSES).map(|process| start(process, random.random(), path, step));
    let mut children = Children(started.collect());
    let until = Instant::now() + LIMIT;
    let mut killed = 0;
    while (killed < 5 || given(path) < wanted) && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(random.random_range(100..500))).await;
        away.store(random.random_range(0..4) == 0, Ordering::Relaxed);
        let process = random.random_range(0..PROCESSES);
        let child = &mut children.0[process];
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
        *child = start(process, random.random(), path, step);
        read_notes(path)?;
    }
    children.end();
    let held = read_notes(path)?;
    serving.abort();
    whole(&client, &held, path).await?;
    Ok((killed, given(path)))
}

/// How many addresses were given.
fn given(folder: &Path) -> usize {
    let notes = std::fs::read_to_string(folder.join("notes")).unwrap_or_default();
    notes.lines().filter(|line| line.starts_with("got")).count()
}

async fn furnish(client: &Client) {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "ns"}})).unwrap();
    client.create(&namespace).await.unwrap();
    for node in 0..NODES {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": format!("node-{node}")}})).unwrap();
        client.create(&node).await.unwrap();
    }
    let spec = serde_json::from_value(json!({"cidr": POOL, "blockSize": 29})).unwrap();
    client.create(&IPPool::new("p", spec)).await.unwrap();
}

/// After each node's agent was there and a collector's period: nothing is wrong, and every address is somebody's or
/// can be had.
async fn whole(client: &Client, held: &BTreeMap<IpAddr, String>, folder: &Path) -> Result<(), String> {
    let ipam = Ipam::new(client.clone());
    let failed = |error: crate::Error| error.to_string();
    let in_use: BTreeSet<IpAddr> = held.keys().copied().collect();
    for node in 0..NODES {
        let name = format!("node-{node}");
        let reserve = Reserve::open(&folder.join(&name), &name).map_err(failed)?;
        let none = Target { v4: 0, v6: 0 };
        let done = reserve.reconcile(&ipam, none, &in_use).await.map_err(failed)?;
        if let Some(lost) = done.lost.first() {
            return Err(format!("{lost:?}"));
        }
    }
    for (address, handle) in held {
        let (node, _) = handle.rsplit_once('-').unwrap();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": handle, "namespace": "ns", "annotations": {"cni.projectcalico.org/podIP": address}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        }))
        .unwrap();
        client.create(&pod).await.map_err(|error| error.to_string())?;
    }
    for _ in 0..5 {
        let report = ipam.check().await.map_err(failed)?;
        let outcomes = ipam.fix(&report.findings).await.map_err(failed)?;
        if outcomes.iter().all(|(_, outcome)| *outcome != Outcome::Done) {
            break;
        }
    }
    let report = ipam.check().await.map_err(failed)?;
    if !report.is_clean() {
        return Err(format!("{:#?}", report.findings));
    }
    for (address, handle) in held {
        let owner = ipam.assignment_of(*address).await.map_err(failed)?;
        let stored = owner.and_then(|owner| owner.handle);
        if stored.as_ref() != Some(handle) {
            return Err(format!("{address} is used by {handle} and stored for {stored:?}"));
        }
    }
    let mut all = AutoAssign::workload("node-0", "net.all");
    all.v4 = ADDRESSES - held.len();
    ipam.auto_assign(&all).await.map(|_| ()).map_err(failed)
}

fn killed(wanted: usize, seed: u64, step: Option<Step>) -> Result<(usize, usize), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(wanted, seed, step))
}

#[test]
fn processes_that_are_killed_give_nothing_twice_and_lose_nothing() {
    // A longer run: CARACAL_IPAM_EXPLORE=25.
    let wanted = 60 * usize::try_from(super::tests::factor()).unwrap();
    let (killed, given) = killed(wanted, 1, None).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{killed} processes killed, {given} addresses given");
    assert!(
        killed > 4 && given > 10,
        "too little happened: {killed} killed, {given} given"
    );
}

#[test]
fn the_run_of_processes_notices_blocks_that_are_written_blindly() {
    let found = (0..5).find_map(|seed| killed(150, seed, Some(Step::CompareBlock)).err());
    assert!(found.is_some(), "nobody noticed");
}

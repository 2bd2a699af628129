//! One run: programs as tasks, their requests at a gate, and a scheduler's choices carried out.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use caracal_datastore::Client;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::{BoxError, Service};

use super::ledger::{self, Ledger};
use super::node::{Action, Programs};
use super::server::{Answer, Op, Server};
use super::{Clock, set_tick};
use crate::block::Block;
use crate::check::{Claimant, Outcome, Report};
use crate::client::Ipam;

/// What a scheduler can choose; programs by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Carry a program's request out and answer.
    Run(usize),
    /// Answer a read as of one write ago.
    RunOld(usize),
    /// Carry it out; the answer is lost.
    Lose(usize),
    /// Do not carry it out; no answer comes.
    Drop(usize),
    /// No answer comes, and the request is carried out later.
    Delay(usize),
    /// Carry a delayed request out.
    Late(usize),
    /// Carry the request out, and the program dies before it hears of it.
    Kill(usize),
}

impl Choice {
    /// The kind of fault; `None` when all goes well.
    pub(super) const fn fault(self) -> Option<Fault> {
        match self {
            Self::Run(_) | Self::Late(_) => None,
            Self::RunOld(_) => Some(Fault::Old),
            Self::Lose(_) => Some(Fault::Lose),
            Self::Drop(_) => Some(Fault::Drop),
            Self::Delay(_) => Some(Fault::Delay),
            Self::Kill(_) => Some(Fault::Kill),
        }
    }
}

/// What can go wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// An old answer.
    Old,
    /// Carried out, and no answer.
    Lose,
    /// Not carried out, and no answer.
    Drop,
    /// No answer, and carried out later.
    Delay,
    /// The program dies.
    Kill,
}

struct Waiting {
    op: Op,
    reply: oneshot::Sender<Option<Answer>>,
}

#[derive(Default)]
struct Gate {
    server: Server,
    waiting: Vec<Vec<Waiting>>,
    delayed: Vec<Op>,
}

/// A program's way to the server. Without a number: everything is answered at once.
#[derive(Clone)]
struct Port {
    gate: Arc<Mutex<Gate>>,
    program: Option<usize>,
}

impl Service<Request<Body>> for Port {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let port = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let op = Op::new(head.method, &head.uri, &body);
            let answer = match port.program.filter(|_| !op.is_still()) {
                None => Some(port.gate.lock().unwrap().server.answer(&op, 0)),
                Some(program) => {
                    let (reply, answer) = oneshot::channel();
                    port.gate.lock().unwrap().waiting[program].push(Waiting { op, reply });
                    answer.await.unwrap_or(None)
                }
            };
            let (code, value) = answer.ok_or("no answer came")?;
            let body = Full::new(Bytes::from(value.to_string()));
            Ok(Response::builder().status(code).body(body)?)
        })
    }
}

struct Program {
    programs: Programs,
    actions: Vec<Action>,
    task: JoinHandle<()>,
    /// Everything that it learned, which is everything that it will decide on.
    learned: u64,
    requests: u64,
}

/// What a run begins with.
#[derive(Clone, Debug, Default)]
pub(super) struct Scene {
    pub(super) pool: &'static str,
    pub(super) block_size: u8,
    pub(super) configuration: Value,
    /// Actions of each node before anything goes wrong.
    pub(super) before: Vec<Vec<Action>>,
    /// Then time passes.
    pub(super) pause_seconds: i64,
    /// Actions of each node.
    pub(super) actions: Vec<Vec<Action>>,
}

pub(super) struct World {
    gate: Arc<Mutex<Gate>>,
    ledger: Arc<Mutex<Ledger>>,
    programs: Vec<Program>,
    folders: Vec<tempfile::TempDir>,
    scene: Scene,
    pub(super) trace: Vec<String>,
    _clock: Clock,
}

impl World {
    pub(super) async fn new(scene: &Scene) -> Self {
        let clock = Clock::start();
        set_tick(0);
        let gate = Arc::new(Mutex::new(Gate::default()));
        let mut world = Self {
            gate,
            ledger: Arc::default(),
            programs: Vec::new(),
            folders: Vec::new(),
            scene: scene.clone(),
            trace: Vec::new(),
            _clock: clock,
        };
        world.furnish();
        for node in 0..scene.actions.len() {
            // In memory, where the system has such a place: what syncs cost is not what is tested.
            let memory = std::path::Path::new("/dev/shm");
            let folder = if memory.is_dir() {
                tempfile::tempdir_in(memory)
            } else {
                tempfile::tempdir()
            };
            world.folders.push(folder.unwrap());
            let calm = world.programs_of(node, None);
            if let Some(before) = scene.before.get(node) {
                calm.run(before.clone()).await;
            }
        }
        Clock::advance(scene.pause_seconds);
        for (node, actions) in scene.actions.iter().enumerate() {
            world.gate.lock().unwrap().waiting.push(Vec::new());
            let programs = world.programs_of(node, Some(node));
            let task = tokio::spawn(programs.clone().run(actions.clone()));
            world.programs.push(Program {
                programs,
                actions: actions.clone(),
                task,
                learned: 0,
                requests: 0,
            });
            world.settle(node).await;
        }
        world
    }

    fn furnish(&self) {
        let mut gate = self.gate.lock().unwrap();
        let mut put = |kind: &str, value: Value| {
            let path = format!("/apis/projectcalico.org/v3/{kind}");
            let op = Op::new(
                http::Method::POST,
                &path.parse().unwrap(),
                value.to_string().as_bytes(),
            );
            gate.server.answer(&op, 0);
        };
        for node in 0..self.scene.actions.len() {
            put("nodes", json!({"metadata": {"name": node_name(node)}}));
        }
        let spec = json!({"cidr": self.scene.pool, "blockSize": self.scene.block_size});
        put("ippools", json!({"metadata": {"name": "p"}, "spec": spec}));
        if !self.scene.configuration.is_null() {
            let spec = &self.scene.configuration;
            put(
                "ipamconfigurations",
                json!({"metadata": {"name": "default"}, "spec": spec}),
            );
        }
    }

    fn ipam(&self, program: Option<usize>) -> Ipam {
        let port = Port {
            gate: Arc::clone(&self.gate),
            program,
        };
        Ipam::new(Client::from_service(port, "default"))
    }

    fn programs_of(&self, node: usize, program: Option<usize>) -> Programs {
        Programs {
            node: node_name(node),
            ipam: self.ipam(program),
            ledger: Arc::clone(&self.ledger),
            folder: self.folders[node].path().to_owned(),
            begun: Arc::default(),
        }
    }

    /// Lets a program go on until it waits at the gate or has ended.
    async fn settle(&mut self, program: usize) {
        for round in 0.. {
            tokio::task::yield_now().await;
            let waits = !self.gate.lock().unwrap().waiting[program].is_empty();
            if self.programs[program].task.is_finished() {
                return;
            }
            // Several requests may come at the same time.
            if waits && round > 8 {
                return;
            }
            assert!(round < 100_000, "a program neither asks nor ends");
        }
    }

    /// What can be chosen; faults only when asked for.
    pub(super) fn choices(&self, faults: bool) -> Vec<Choice> {
        let gate = self.gate.lock().unwrap();
        let mut choices = Vec::new();
        for (program, waiting) in gate.waiting.iter().enumerate() {
            let Some(first) = waiting.first() else { continue };
            choices.push(Choice::Run(program));
            if !faults {
                continue;
            }
            if first.op.is_write() {
                choices.extend([
                    Choice::Lose(program),
                    Choice::Drop(program),
                    Choice::Delay(program),
                    Choice::Kill(program),
                ]);
            } else if gate.server.has_past(&first.op) {
                choices.push(Choice::RunOld(program));
            }
        }
        choices.extend((0..gate.delayed.len()).map(Choice::Late));
        choices
    }

    /// Carries a choice out, and looks at what must hold, unless that was looked at before.
    pub(super) async fn step(&mut self, choice: Choice, look: bool) -> Result<(), String> {
        let program = match choice {
            Choice::Late(index) => {
                let mut gate = self.gate.lock().unwrap();
                let op = gate.delayed.remove(index);
                let (code, _) = gate.server.answer(&op, 0);
                drop(gate);
                self.trace.push(format!("late: {op} -> {code}"));
                return if look { self.look() } else { Ok(()) };
            }
            Choice::Run(program)
            | Choice::RunOld(program)
            | Choice::Lose(program)
            | Choice::Drop(program)
            | Choice::Delay(program)
            | Choice::Kill(program) => program,
        };
        let answer = self.carry_out(choice, program);
        let of = &mut self.programs[program];
        let mut hasher = DefaultHasher::new();
        matches!(choice, Choice::Kill(_)).hash(&mut hasher);
        (
            of.learned,
            answer.as_ref().map(|(code, value)| (*code, value.to_string())),
        )
            .hash(&mut hasher);
        of.learned = hasher.finish();
        of.requests += 1;
        set_tick(of.requests * 1000 + u64::try_from(program).unwrap_or_default());
        if matches!(choice, Choice::Kill(_)) {
            self.restart(program).await;
        }
        self.settle(program).await;
        if look { self.look() } else { Ok(()) }
    }

    fn carry_out(&mut self, choice: Choice, program: usize) -> Option<Answer> {
        let mut gate = self.gate.lock().unwrap();
        let Waiting { op, reply } = gate.waiting[program].remove(0);
        let text = format!("{choice:?}: {op}");
        let answer = match choice {
            Choice::Run(_) => Some(gate.server.answer(&op, 0)),
            Choice::RunOld(_) => Some(gate.server.answer(&op, 1)),
            Choice::Lose(_) | Choice::Kill(_) => {
                gate.server.answer(&op, 0);
                None
            }
            Choice::Delay(_) => {
                gate.delayed.push(op);
                None
            }
            Choice::Drop(_) | Choice::Late(_) => None,
        };
        let code = answer.as_ref().map(|(code, _)| *code);
        self.trace.push(format!("{text} -> {code:?}"));
        if !matches!(choice, Choice::Kill(_)) {
            let _ = reply.send(answer.clone());
        }
        answer
    }

    /// A program dies with everything that it was about to do; the next one of its node goes on.
    async fn restart(&mut self, program: usize) {
        self.gate.lock().unwrap().waiting[program].clear();
        let of = &mut self.programs[program];
        of.task.abort();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let ipam = self.ipam(Some(program));
        let of = &mut self.programs[program];
        of.programs.ipam = ipam;
        of.task = tokio::spawn(of.programs.clone().run(of.actions.clone()));
    }

    fn look(&self) -> Result<(), String> {
        ledger::check(&self.gate.lock().unwrap().server, &self.ledger.lock().unwrap())
    }

    /// Names the state: the store, and all that programs know.
    pub(super) fn hash(&self) -> u64 {
        let gate = self.gate.lock().unwrap();
        let mut hasher = DefaultHasher::new();
        gate.server.hash().hash(&mut hasher);
        for program in &self.programs {
            program.learned.hash(&mut hasher);
        }
        for op in &gate.delayed {
            op.to_string().hash(&mut hasher);
        }
        hasher.finish()
    }

    /// After the last step: check and fix collect what the dead left, what is in use stays, and every other address
    /// can be had.
    pub(super) async fn end(mut self) -> Result<usize, String> {
        for program in &mut self.programs {
            program.task.abort();
        }
        Clock::advance(3600);
        self.show_pods();
        let ipam = self.ipam(None);
        let report = collect(&ipam).await?;
        if !report.is_clean() {
            return Err(format!("after check and fix: {:#?}", report.findings));
        }
        self.look()?;
        // What was collected cools down.
        Clock::advance(3600);
        self.all_can_be_had(&ipam).await?;
        let met = self.ledger.lock().unwrap().met;
        Ok(met)
    }

    /// The pods that run, as a kubelet shows them.
    fn show_pods(&self) {
        let ledger = self.ledger.lock().unwrap();
        let mut gate = self.gate.lock().unwrap();
        for (address, holding) in &ledger.held {
            let pod = json!({
                "metadata": {"name": holding.handle, "namespace": "ns"},
                "spec": {"nodeName": holding.node, "containers": []},
                "status": {"podIP": address, "phase": "Running", "podIPs": ledger.of(&holding.handle).iter()
                    .map(|ip| json!({"ip": ip})).collect::<Vec<_>>()},
            });
            let path = "/api/v1/namespaces/ns/pods".parse().unwrap();
            gate.server
                .answer(&Op::new(http::Method::POST, &path, pod.to_string().as_bytes()), 0);
        }
    }

    async fn all_can_be_had(&self, ipam: &Ipam) -> Result<(), String> {
        // What is set aside may be in use as well: then it is one address, not two.
        let mut taken: BTreeSet<IpAddr> = {
            let gate = self.gate.lock().unwrap();
            let stored = gate.server.all("ipamblocks").into_iter();
            let blocks: Vec<Block> = stored
                .filter_map(|block| {
                    Block::from_spec(serde_json::from_value(block["spec"].clone()).ok()?).ok()
                })
                .collect();
            let held = blocks.iter().flat_map(Block::assignments);
            held.filter(|(_, attribute)| Claimant::of(attribute) == Claimant::Reserve)
                .map(|(address, _)| address)
                .collect()
        };
        taken.extend(self.ledger.lock().unwrap().held.keys());
        let net: ipnet::IpNet = self.scene.pool.parse().unwrap();
        let size = 1usize << (32 - net.prefix_len());
        let free = size - taken.len();
        if free == 0 || self.scene.configuration["strictAffinity"] == true {
            return Ok(());
        }
        let mut all = crate::client::AutoAssign::workload(&node_name(0), "net.all");
        all.v4 = free;
        match ipam.auto_assign(&all).await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{free} of {size} addresses should be free: {error}")),
        }
    }
}

/// What a collector does in one period: until nothing is left that can be mended.
async fn collect(ipam: &Ipam) -> Result<Report, String> {
    let failed = |error: crate::Error| error.to_string();
    for _ in 0..6 {
        let report = ipam.check().await.map_err(failed)?;
        if report.findings.iter().all(|finding| finding.fix.is_none()) {
            return Ok(report);
        }
        let outcomes = ipam.fix(&report.findings).await.map_err(failed)?;
        if outcomes.iter().all(|(_, outcome)| *outcome != Outcome::Done) {
            return Ok(report);
        }
    }
    ipam.check().await.map_err(failed)
}

pub(super) fn node_name(node: usize) -> String {
    format!("node-{node}")
}

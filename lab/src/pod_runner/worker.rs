//! One worker for each pod name: whatever objects come and go under the name are run one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::Context;
use super::container::{Handle, Plan, timestamp};
use super::reporter::Reporter;
use super::sandbox::{POD_MARK, Sandbox};
use super::spec::{self, Facts, Restart};
use super::status::{Known, phase, succeeded};
use crate::state::MARK;

/// Pauses between attempts to make a sandbox.
const SANDBOX_PAUSE_FIRST: Duration = Duration::from_millis(500);
const SANDBOX_PAUSE_MAX: Duration = Duration::from_secs(10);
/// Grace of a pod whose object is gone at once, as the kubelet's least one.
const GRACE_LEAST: Duration = Duration::from_secs(2);
/// How often changes of containers are gathered before they are told.
const GATHER: Duration = Duration::from_millis(20);

/// The pod that is wanted under a name, the newest only.
pub(super) type Wanted = watch::Receiver<Option<Pod>>;

/// Serves one name until its sender is gone.
pub(super) async fn serve(
    context: Arc<Context>,
    key: (String, String),
    mut wanted: Wanted,
    idle: mpsc::UnboundedSender<(String, String)>,
) {
    context.remove_leftover(&key.0, &key.1).await;
    let mut finished = None;
    loop {
        let pod = wanted.borrow_and_update().clone();
        match pod {
            None => {
                let _ = idle.send(key.clone());
            }
            Some(pod) if pod.metadata.deletion_timestamp.is_some() => {
                while !Reporter::delete_object(&context.config.client, &pod).await {
                    sleep(SANDBOX_PAUSE_FIRST).await;
                    if wanted.has_changed().unwrap_or(true) {
                        break;
                    }
                }
            }
            // The watch may tell of a pod that has just finished before it tells its last status.
            Some(pod) if is_finished(&pod) || pod.metadata.uid == finished => {}
            Some(pod) => {
                let uid = pod.metadata.uid.clone();
                if Worker::new(&context, pod).run(&mut wanted).await {
                    finished = uid;
                }
                // What came meanwhile must not be missed.
                continue;
            }
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

struct Worker<'a> {
    context: &'a Context,
    pod: Pod,
    known: Known,
    reporter: Reporter,
    init: Vec<Handle>,
    containers: Vec<Handle>,
}

/// Why a pod is no longer run.
enum Why {
    /// Its object is deleted, gone, or another one.
    Left(Duration),
    /// All containers ended for good.
    Finished,
}

impl<'a> Worker<'a> {
    fn new(context: &'a Context, pod: Pod) -> Self {
        let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        let start_time = started
            .and_then(|time| serde_json::to_value(time).ok())
            .and_then(|time| time.as_str().map(str::to_owned))
            .unwrap_or_else(timestamp);
        Self {
            context,
            known: Known {
                host_ip: context.config.node.address.to_string(),
                start_time,
                ..Known::default()
            },
            reporter: Reporter::new(context.config.client.clone(), pod.clone()),
            pod,
            init: Vec::new(),
            containers: Vec::new(),
        }
    }

    /// Runs the pod until it is no longer wanted or has finished, which is returned.
    async fn run(mut self, wanted: &mut Wanted) -> bool {
        let Some(sandbox) = self.make_sandbox(wanted).await else {
            return false;
        };
        let (grace, finished) = match self.run_containers(&sandbox, wanted).await {
            Why::Left(grace) => (grace, false),
            Why::Finished => (Duration::ZERO, true),
        };
        let handles = self.init.drain(..).chain(self.containers.drain(..));
        futures::future::join_all(handles.map(|handle| handle.stop(grace))).await;
        self.context.remove_sandbox(&sandbox.record, u32::MAX).await;
        finished
    }

    /// Tries until the pod has a network or is no longer wanted.
    async fn make_sandbox(&mut self, wanted: &mut Wanted) -> Option<Sandbox> {
        let mut pause = SANDBOX_PAUSE_FIRST;
        let mut gone = false;
        loop {
            self.reporter.tell(&self.known).await;
            match self.context.create_sandbox(&self.pod).await {
                Ok(sandbox) => {
                    self.known.sandbox_ready = true;
                    self.known.sandbox_error = None;
                    self.known.id.clone_from(&sandbox.record.container_id);
                    let addresses = sandbox.record.addresses.iter();
                    self.known.pod_ips = addresses.map(ToString::to_string).collect();
                    return Some(sandbox);
                }
                Err(error) => {
                    let message = error.to_string();
                    tracing::warn!(pod = ?self.pod.metadata.name, error = %message, "pod has no network yet");
                    self.reporter.warn("FailedCreatePodSandBox", &message).await;
                    self.known.sandbox_error = Some(message);
                    self.reporter.tell(&self.known).await;
                }
            }
            tokio::select! {
                () = sleep(pause) => {}
                _ = Self::left(&self.pod, wanted) => gone = true,
            }
            pause = (pause * 2).min(SANDBOX_PAUSE_MAX);
            let (namespace, name) = self.key();
            self.context.remove_leftover(&namespace, &name).await;
            if gone {
                return None;
            }
        }
    }

    fn key(&self) -> (String, String) {
        let meta = &self.pod.metadata;
        (
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    }

    async fn run_containers(&mut self, sandbox: &Sandbox, wanted: &mut Wanted) -> Why {
        loop {
            self.start_next(sandbox);
            self.gather();
            let phase = phase(&self.pod, &self.known);
            let retry = self.reporter.tell(&self.known).await;
            if matches!(phase, "Succeeded" | "Failed") && retry.is_none() {
                return Why::Finished;
            }
            let news = any_changed(self.init.iter_mut().chain(self.containers.iter_mut()));
            tokio::select! {
                grace = Self::left(&self.pod, wanted) => return Why::Left(grace),
                () = news => sleep(GATHER).await,
                () = sleep(retry.unwrap_or_default()), if retry.is_some() => {}
            }
        }
    }

    /// Waits until the pod is no longer wanted, and returns the grace its processes have.
    async fn left(pod: &Pod, wanted: &mut Wanted) -> Duration {
        loop {
            let current = wanted.borrow_and_update().clone();
            match current.filter(|current| current.metadata.uid == pod.metadata.uid) {
                None => return GRACE_LEAST,
                Some(current) if current.metadata.deletion_timestamp.is_some() => return grace(&current),
                Some(_) => {}
            }
            if wanted.changed().await.is_err() {
                return GRACE_LEAST;
            }
        }
    }

    /// Starts the next init container once the one before has succeeded, then all containers.
    fn start_next(&mut self, sandbox: &Sandbox) {
        self.gather();
        let spec = self.pod.spec.clone().unwrap_or_default();
        let init = spec.init_containers.unwrap_or_default();
        let done = self
            .known
            .init
            .iter()
            .filter(|(_, report)| succeeded(report))
            .count();
        if let Some(next) = init.get(done) {
            if self.known.init.len() == done {
                // An init container that succeeded is over, also where containers always start again.
                let restart = match Restart::of(&self.pod) {
                    Restart::Always | Restart::OnFailure => Restart::OnFailure,
                    Restart::Never => Restart::Never,
                };
                match self.plan(next, restart, sandbox) {
                    Ok(plan) => self.init.push(Handle::start(plan)),
                    Err(message) => self.known.init.push((next.name.clone(), Err(message))),
                }
            }
            return;
        }
        if !self.known.containers.is_empty() {
            return;
        }
        for container in &spec.containers {
            match self.plan(container, Restart::of(&self.pod), sandbox) {
                Ok(plan) => self.containers.push(Handle::start(plan)),
                Err(message) => self.known.containers.push((container.name.clone(), Err(message))),
            }
        }
    }

    fn plan(&self, container: &Container, restart: Restart, sandbox: &Sandbox) -> Result<Plan, String> {
        let (namespace, name) = self.key();
        let facts = Facts {
            node: self.context.config.node.name.clone(),
            host_ip: self.known.host_ip.clone(),
            pod_ips: self.known.pod_ips.clone(),
        };
        let log = format!("pod/{namespace}/{name}/{}", container.name);
        Ok(Plan {
            name: container.name.clone(),
            work: spec::work(&self.pod, container, &facts)?,
            restart,
            place: Arc::clone(&sandbox.place),
            pod: name,
            marks: BTreeMap::from([
                (MARK.to_owned(), self.context.config.plan.id.clone()),
                (POD_MARK.to_owned(), sandbox.record.uid.clone()),
            ]),
            hostname: sandbox.record.hostname.clone(),
            log: self.context.config.layout.log(&log),
        })
    }

    /// Takes over what the containers report. Those that could not be planned have no handle and stay as they are.
    fn gather(&mut self) {
        let reported = |handles: &mut Vec<Handle>, known: &mut Vec<(String, Result<_, String>)>| {
            known.retain(|(_, report)| report.is_err());
            for handle in handles {
                let report = handle.report.borrow_and_update().clone();
                known.push((handle.name.clone(), Ok(report)));
            }
        };
        reported(&mut self.init, &mut self.known.init);
        reported(&mut self.containers, &mut self.known.containers);
    }
}

/// The grace that the API gave the pod's processes.
fn grace(pod: &Pod) -> Duration {
    let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).max(GRACE_LEAST)
}

async fn any_changed(handles: impl Iterator<Item = &mut Handle>) {
    let changes: Vec<_> = handles
        .map(|handle| {
            Box::pin(async {
                // A container that is over for good says nothing more.
                if handle.report.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
        })
        .collect();
    if changes.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(changes).await;
}

//! Asking the daemons how they are, and passing it on: to the own probes, to the node's conditions, and to the
//! supervisor when one hangs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use caracal_daemon::health::{Health, Reporter, Reports};
use caracal_datastore::Client;
use tokio::sync::{mpsc, watch};

use super::{Settings, Steps};
use crate::children::{Children, Request};
use crate::condition::{self, Conditions};
use crate::environment::Backend;
use crate::health::{Bgpd, Observed, Verdict, judge};
use crate::probe::{self, Probe};
use crate::supervise::State;

/// How often the daemons are asked.
const PERIOD: Duration = Duration::from_secs(2);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A process that runs and does not answer for so long hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);
/// The watcher itself is stuck when it is silent for so long.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// Where the daemons answer.
#[derive(Clone, Debug)]
pub struct Daemons {
    /// felix's probes.
    pub felix_health: SocketAddr,
    /// bgpd's probes.
    pub bgpd_health: SocketAddr,
    /// bgpd's control socket.
    pub bgpd_control: PathBuf,
}

/// Where the watcher learns things, and who hears of it.
pub(super) struct Sources {
    pub(super) steps: watch::Receiver<Steps>,
    pub(super) children: watch::Receiver<Children>,
    pub(super) client: watch::Receiver<Option<Client>>,
    pub(super) requests: mpsc::Sender<Request>,
}

/// The lines of the own probes.
pub(super) struct Reporters {
    supervisor: Reporter,
    steps: Reporter,
    forwarding: Reporter,
}

impl Reporters {
    pub(super) fn new(health: &Health) -> Self {
        Self {
            supervisor: health.register("Supervisor", Reports::LIVE, Some(STUCK_AFTER)),
            steps: health.register("StartUp", Reports::READY, None),
            forwarding: health.register("Forwarding", Reports::READY, Some(STUCK_AFTER)),
        }
    }
}

/// Asks the daemons of this node.
pub async fn observe(daemons: &Daemons, backend: Backend, startup: Result<(), String>) -> Observed {
    let felix = |which| probe::http(daemons.felix_health, which, PATIENCE);
    let bgpd = |which| probe::http(daemons.bgpd_health, which, PATIENCE);
    let (felix_live, felix_ready) = tokio::join!(felix(Probe::Liveness), felix(Probe::Readiness));
    let bgpd = match backend {
        Backend::Vxlan | Backend::None => None,
        Backend::Bird => {
            let speaker = probe::speaker(&daemons.bgpd_control, PATIENCE);
            let (live, ready, speaker) = tokio::join!(bgpd(Probe::Liveness), bgpd(Probe::Readiness), speaker);
            Some(Bgpd { live, ready, speaker })
        }
    };
    Observed {
        startup,
        felix_live,
        felix_ready,
        bgpd,
    }
}

pub(super) async fn watch(settings: Settings, reporters: Reporters, sources: Sources) {
    let environment = &settings.environment;
    let mut conditions = Conditions::default();
    let mut silence = Silence::default();
    let mut said = None;
    loop {
        let steps = sources.steps.borrow().clone();
        let observed = observe(&settings.daemons, environment.backend, steps).await;
        let now = Instant::now();
        for name in silence.hanging(&observed, &sources.children.borrow(), now) {
            // A full queue means that it was asked for already.
            let _ = sources.requests.try_send(Request::Hangs(name));
        }
        let verdict = judge(&observed);
        report(&reporters, &observed, &verdict);
        tell(&verdict, &mut said);
        let client = sources.client.borrow().clone();
        if let (Some(client), true) = (client, environment.backend != Backend::None) {
            write(&client, &environment.kubernetes_node, &mut conditions, &verdict).await;
        }
        tokio::time::sleep(PERIOD).await;
    }
}

fn report(reporters: &Reporters, observed: &Observed, verdict: &Verdict) {
    reporters.supervisor.report(true, true, "");
    let steps = observed.startup.as_ref();
    reporters
        .steps
        .report(true, steps.is_ok(), steps.err().cloned().unwrap_or_default());
    let mut detail = verdict.reasons();
    detail.extend(verdict.degraded.iter().map(String::as_str));
    reporters
        .forwarding
        .report(true, verdict.forwards(), detail.join("; "));
}

/// Says what changed, once.
fn tell(verdict: &Verdict, said: &mut Option<bool>) {
    let forwards = verdict.forwards();
    if *said == Some(forwards) {
        return;
    }
    *said = Some(forwards);
    if forwards {
        tracing::info!("this node forwards");
    } else {
        tracing::warn!(because = %verdict.reasons().join("; "), "this node does not forward");
    }
}

async fn write(client: &Client, node: &str, conditions: &mut Conditions, verdict: &Verdict) {
    let due = conditions.due(verdict, Instant::now());
    if due.is_empty() {
        return;
    }
    // Not longer than a probe: the API being away must not make this node look stuck.
    let written = tokio::time::timeout(PATIENCE, condition::write(client, node, &due)).await;
    match written {
        Ok(Ok(())) => conditions.written(due, Instant::now()),
        Ok(Err(error)) if error.is_forbidden() => {
            tracing::error!(error = %error, "the node's conditions may not be written; give this account patch on nodes/status");
            // Said once: rights do not come back by asking.
            conditions.written(due, Instant::now());
        }
        Ok(Err(error)) => tracing::debug!(error = %error, "conditions not written"),
        Err(_) => tracing::debug!("conditions not written: the API does not answer"),
    }
}

/// How long each daemon has not answered while its process ran.
#[derive(Debug, Default)]
struct Silence {
    felix: Option<Instant>,
    bgpd: Option<Instant>,
}

impl Silence {
    fn hanging(&mut self, observed: &Observed, children: &Children, now: Instant) -> Vec<String> {
        let mut hanging = Vec::new();
        let bgpd = observed.bgpd.as_ref().map_or(&Ok(()), |bgpd| &bgpd.live);
        for (name, live, since) in [
            ("felix", &observed.felix_live, &mut self.felix),
            ("bgpd", bgpd, &mut self.bgpd),
        ] {
            let child = children.get(name);
            let born = child.and_then(|child| match child.state {
                State::Running { since, .. } => Some(since),
                State::Due | State::Pausing(_) | State::Ending { .. } | State::Ended => None,
            });
            match (live, born) {
                (Err(_), Some(born)) => {
                    let silent = (*since.get_or_insert(now)).max(born);
                    if now.saturating_duration_since(silent) >= HANGS_AFTER {
                        *since = None;
                        hanging.push(name.to_owned());
                    }
                }
                _ => *since = None,
            }
        }
        hanging
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::{Patience, Supervisor};

    #[test]
    fn only_a_process_that_runs_and_is_silent_for_long_hangs() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut supervisor = Supervisor::new(["felix".to_owned()], Patience::default());
        let silent = Observed {
            startup: Ok(()),
            felix_live: Err("nothing listens".to_owned()),
            felix_ready: Ok(()),
            bgpd: None,
        };
        let mut silence = Silence::default();
        assert!(silence.hanging(&silent, supervisor.children(), at(0)).is_empty());
        assert!(
            silence
                .hanging(&silent, supervisor.children(), at(100))
                .is_empty(),
            "not started"
        );
        supervisor.started("felix", 7, at(100));
        assert!(
            silence
                .hanging(&silent, supervisor.children(), at(110))
                .is_empty()
        );
        assert!(
            silence
                .hanging(&silent, supervisor.children(), at(169))
                .is_empty()
        );
        assert_eq!(
            silence.hanging(&silent, supervisor.children(), at(170)),
            ["felix"]
        );
        let answers = Observed {
            felix_live: Ok(()),
            ..silent.clone()
        };
        assert!(
            silence
                .hanging(&answers, supervisor.children(), at(180))
                .is_empty()
        );
        assert!(
            silence
                .hanging(&silent, supervisor.children(), at(239))
                .is_empty()
        );
        assert!(
            silence
                .hanging(&silent, supervisor.children(), at(298))
                .is_empty()
        );
        assert_eq!(
            silence.hanging(&silent, supervisor.children(), at(299)),
            ["felix"]
        );
    }
}

//! Leader election by a Lease of `coordination.k8s.io/v1`, and the fence that writes pass.
//!
//! One process holds the Lease and renews it; others watch it as it is renewed and take it over when it was not for
//! its whole duration, counted by their own clock from when they saw it change (clocks need not agree). The holder
//! stops acting earlier than that: [`RENEW_DEADLINE`] after it *began* its last successful renewal, which is before
//! anybody could have taken over. Every write is sent within that time ([`Fence::write`]), and before something is
//! taken away for good, the Lease is read again ([`Fence::confirm`]).
//! Source: client-go's `leaderelection`.

mod election;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use caracal_datastore::Client;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use election::{Election, Step};

/// How long others wait for a silent holder.
pub const DURATION: Duration = Duration::from_secs(15);
/// How long the holder acts after the beginning of its last renewal.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Time between renewals, and between looks of those who wait.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// The times of an election, in tests shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How long others wait for a silent holder; whole seconds, as the Lease has it.
    pub duration: Duration,
    /// How long the holder acts after the beginning of its last renewal; shorter than `duration`.
    pub renew_deadline: Duration,
    /// Time between renewals.
    pub retry_period: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            duration: DURATION,
            renew_deadline: RENEW_DEADLINE,
            retry_period: RETRY_PERIOD,
        }
    }
}

/// Which Lease, and who asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// This process; no other may have the same.
    pub identity: String,
    /// The times.
    pub times: Times,
}

/// Holding the Lease, as long as it is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Term {
    until: Instant,
    transitions: i32,
}

/// Why a write was not sent, or not completed, by this process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This process does not hold the Lease, or cannot be certain that it does.
    #[error("this process no longer holds the Lease; whoever does goes on")]
    NotLeader,
    /// A request to the API server failed.
    #[error(transparent)]
    Datastore(#[from] caracal_datastore::Error),
    /// An operation on addresses failed.
    #[error(transparent)]
    Ipam(#[from] caracal_ipam::Error),
}

/// What writes pass: they are sent only while this process certainly holds the Lease.
#[derive(Clone, Debug)]
pub struct Fence {
    client: Client,
    candidate: Arc<Candidate>,
    term: watch::Receiver<Option<Term>>,
}

impl Fence {
    /// True while this process certainly holds the Lease.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.current().is_ok()
    }

    fn current(&self) -> Result<Term, Error> {
        self.term
            .borrow()
            .filter(|term| Instant::now() < term.until)
            .ok_or(Error::NotLeader)
    }

    /// Sends a write, and gives up on its answer when holding the Lease is no longer certain.
    ///
    /// # Errors
    /// [`Error::NotLeader`]: nothing was sent, or the answer did not come in time. What the write returns.
    pub async fn write<T, E: Into<Error>>(
        &self,
        request: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, Error> {
        let term = self.current()?;
        tokio::time::timeout_at(term.until.into(), Box::pin(request))
            .await
            .map_err(|_| Error::NotLeader)?
            .map_err(Into::into)
    }

    /// Reads the Lease: before something is taken away for good.
    ///
    /// # Errors
    /// [`Error::NotLeader`] when somebody else has it. Any failed request.
    pub async fn confirm(&self) -> Result<(), Error> {
        let term = self.current()?;
        let candidate = &self.candidate;
        let lease: Option<Lease> = self
            .client
            .get(Some(&candidate.namespace), &candidate.name)
            .await?;
        let spec = lease.and_then(|lease| lease.spec).unwrap_or_default();
        let same = spec.holder_identity.as_deref() == Some(candidate.identity.as_str())
            && spec.lease_transitions.unwrap_or_default() == term.transitions;
        if same {
            self.current().map(drop)
        } else {
            Err(Error::NotLeader)
        }
    }

    /// Waits until this process becomes, or stops being, the leader, as far as the Lease's task knows.
    pub async fn changed(&mut self) {
        if self.term.changed().await.is_err() {
            // The task has ended: nothing changes any more.
            std::future::pending::<()>().await;
        }
    }
}

/// The task that holds the Lease, or waits for it.
#[derive(Debug)]
pub struct Elector {
    client: Client,
    candidate: Arc<Candidate>,
    task: JoinHandle<()>,
    fence: Fence,
}

impl Drop for Elector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Elector {
    /// Stands for election.
    #[must_use]
    pub fn start(client: &Client, candidate: Candidate) -> Self {
        let (publish, term) = watch::channel(None);
        let candidate = Arc::new(candidate);
        let fence = Fence {
            client: client.clone(),
            candidate: Arc::clone(&candidate),
            term,
        };
        Self {
            client: client.clone(),
            task: tokio::spawn(stand(client.clone(), Arc::clone(&candidate), publish)),
            candidate,
            fence,
        }
    }

    /// The fence for writes.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Stops, and gives the Lease up if this process has it, so that another one need not wait.
    pub async fn release(self) {
        self.task.abort();
        let Ok(term) = self.fence.current() else { return };
        let attempt = async {
            let candidate = &self.candidate;
            let lease: Option<Lease> = self
                .client
                .get(Some(&candidate.namespace), &candidate.name)
                .await?;
            match lease.and_then(|lease| election::released(lease, &candidate.identity, micros())) {
                Some(lease) => self.client.update(&lease).await.map(|_| true),
                None => Ok(false),
            }
        };
        match tokio::time::timeout_at(term.until.into(), attempt).await {
            Ok(Ok(true)) => tracing::info!(lease = %self.candidate.name, "Lease given up"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "Lease not given up, the next leader waits for its end");
            }
            Err(_) => tracing::warn!("Lease not given up in time, the next leader waits for its end"),
        }
    }
}

async fn stand(client: Client, candidate: Arc<Candidate>, publish: watch::Sender<Option<Term>>) {
    let mut election = Election::new(&candidate);
    loop {
        let began = Instant::now();
        let attempt = tokio::time::timeout(
            candidate.times.renew_deadline,
            round(&client, &candidate, &mut election),
        );
        match attempt.await {
            Ok(Ok(Some(transitions))) => {
                let was = publish.borrow().is_some_and(|term| began < term.until);
                if !was {
                    tracing::info!(lease = %candidate.name, identity = %candidate.identity, "became the leader");
                }
                publish.send_replace(Some(Term {
                    until: began + candidate.times.renew_deadline,
                    transitions,
                }));
            }
            Ok(Ok(None)) => {
                if publish.send_replace(None).is_some() {
                    tracing::warn!(lease = %candidate.name, "somebody else holds the Lease, this process stops acting");
                }
            }
            // What is held stays held until its time is over.
            Ok(Err(error)) => tracing::warn!(error = %error, "Lease not read or renewed"),
            Err(_) => tracing::warn!("no answer about the Lease in time"),
        }
        tokio::time::sleep(election.pause(began, Instant::now())).await;
    }
}

/// One look at the Lease, and one write if it is ours to make. The number of transitions if this process holds it.
async fn round(
    client: &Client,
    candidate: &Candidate,
    election: &mut Election,
) -> caracal_datastore::Result<Option<i32>> {
    let lease: Option<Lease> = client.get(Some(&candidate.namespace), &candidate.name).await?;
    let written = match election.step(lease, Instant::now(), micros()) {
        Step::Wait => return Ok(None),
        Step::Create(lease) => client.create(&lease).await,
        Step::Update(lease) => client.update(&lease).await,
    };
    match written {
        Ok(lease) => Ok(Some(
            lease
                .spec
                .and_then(|spec| spec.lease_transitions)
                .unwrap_or_default(),
        )),
        // Another one was faster.
        Err(error) if error.is_conflict() || error.is_already_exists() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The time in microseconds, as a Lease has it.
fn micros() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

//! The configuration as the Kubernetes API has it: watches into a store, the store into a configuration.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use caracal_api::v3::{CalicoNodeStatusSpec, CalicoNodeStatusStatus};
use caracal_bgpd_compile::{Compiled, Snapshot, compile};
use caracal_datastore::Client;
use tokio::sync::mpsc;

use super::questions::Questions;
use crate::watch::{Change, Store, Watches};

/// Changes that come together are compiled together.
const SETTLE: Duration = Duration::from_millis(50);
/// However fast changes come, one is not held back longer than this.
const SETTLE_MAX: Duration = Duration::from_millis(500);
/// How long the first configuration waits for passwords, so that sessions need not be changed at once.
const PASSWORD_WAIT: Duration = Duration::from_secs(2);

/// A node of a cluster.
#[derive(Debug)]
pub struct Cluster {
    client: Client,
    node: String,
    secrets_namespace: String,
    store: Store,
    watches: Option<Watches>,
    /// The oldest change that is not compiled.
    dirty_since: Option<Instant>,
    compile_at: Option<Instant>,
    in_sync_since: Option<Instant>,
    questions: Questions,
}

impl Cluster {
    /// The node of that name. `snapshot` holds what does not come from the API.
    #[must_use]
    pub fn new(client: Client, node: &str, secrets_namespace: &str, snapshot: Snapshot) -> Self {
        Self {
            client,
            node: node.to_owned(),
            secrets_namespace: secrets_namespace.to_owned(),
            store: Store::new(snapshot),
            watches: None,
            dirty_since: None,
            compile_at: None,
            in_sync_since: None,
            questions: Questions::default(),
        }
    }

    /// Starts watching.
    #[must_use]
    pub fn start(mut self) -> (Self, mpsc::Receiver<Change>) {
        let (watches, changes) = Watches::start(self.client.clone(), &self.node, &self.secrets_namespace);
        self.watches = Some(watches);
        (self, changes)
    }

    /// Takes what a watch told.
    pub fn on_change(&mut self, change: Change) {
        if let Change::NodeStatus(name, spec) = change {
            self.questions.note(name, spec, Instant::now());
        } else if self.store.apply(change) {
            self.compile_soon();
            self.follow();
        }
    }

    /// Takes where the node's default routes lead.
    pub fn on_gateways(&mut self, gateways: [Option<IpAddr>; 2]) {
        if self.store.set_gateways(gateways) {
            self.compile_soon();
        }
    }

    fn compile_soon(&mut self) {
        let now = Instant::now();
        let since = *self.dirty_since.get_or_insert(now);
        self.compile_at = Some((now + SETTLE).min(since + SETTLE_MAX));
    }

    /// When [`Cluster::compile_if_due`] or [`Cluster::asked`] should be called.
    #[must_use]
    pub fn due_at(&self) -> Option<Instant> {
        self.compile_at.into_iter().chain(self.questions.due_at()).min()
    }

    /// CalicoNodeStatuses that want an answer now.
    pub fn asked(&mut self, now: Instant) -> Vec<(String, CalicoNodeStatusSpec)> {
        self.questions.due(now)
    }

    /// Writes an answer into a CalicoNodeStatus, in the background.
    pub fn answer(&mut self, name: String, status: &CalicoNodeStatusStatus) {
        self.questions.answer(&self.client, name, status);
    }

    /// When [`Cluster::compile_if_due`] should be called.
    #[must_use]
    pub fn compile_at(&self) -> Option<Instant> {
        self.compile_at
    }

    /// Compiles when changes have settled and enough is known.
    pub fn compile_if_due(&mut self, now: Instant) -> Option<Compiled> {
        if self.compile_at.is_none_or(|at| now < at) {
            return None;
        }
        self.compile_at = None;
        if !self.store.is_in_sync() {
            // The last list to complete comes as a change.
            return None;
        }
        let since = *self.in_sync_since.get_or_insert(now);
        if self.lacks_passwords() && now < since + PASSWORD_WAIT {
            self.compile_at = Some(since + PASSWORD_WAIT);
            return None;
        }
        self.dirty_since = None;
        let compiled = compile(self.store.snapshot(), &self.node);
        self.store.set_selected(compiled.selected.clone());
        Some(compiled)
    }

    /// Whether a password that peers refer to has not been seen.
    fn lacks_passwords(&self) -> bool {
        let snapshot = self.store.snapshot();
        let references = snapshot.secret_references();
        references
            .iter()
            .any(|reference| !snapshot.passwords.contains_key(reference))
    }

    /// Follows what matters only because of other objects.
    fn follow(&mut self) {
        let Some(watches) = &mut self.watches else { return };
        let snapshot = self.store.snapshot();
        watches.follow_secrets(snapshot.secret_references().into_iter().map(|(name, _)| name));
        let advertises = snapshot.advertises_services();
        watches.follow_services(advertises);
        let peers_with_workloads = snapshot.peers_with_workloads();
        watches.follow_workloads(peers_with_workloads);
        if !advertises {
            self.store.forget_services();
        }
        if !peers_with_workloads {
            self.store.forget_workloads();
        }
    }
}

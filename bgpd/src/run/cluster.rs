//! The configuration as the Kubernetes API has it: watches into a store, the store into a configuration.

use std::time::{Duration, Instant};

use caracal_bgpd_compile::{Compiled, Snapshot, compile};
use caracal_datastore::Client;
use tokio::sync::mpsc;

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
        if self.store.apply(change) {
            let now = Instant::now();
            let since = *self.dirty_since.get_or_insert(now);
            self.compile_at = Some((now + SETTLE).min(since + SETTLE_MAX));
            self.follow();
        }
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
        Some(compile(self.store.snapshot(), &self.node))
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
        if !advertises {
            self.store.forget_services();
        }
    }
}

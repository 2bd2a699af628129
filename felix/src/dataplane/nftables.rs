//! nftables: which chains and sets must be looked at, in rounds of one transaction for each family.
//!
//! What the calculation changes names its chains and sets, and only these are read before they are written. What others
//! change is heard of by notification, and looked at in the same way; everything is looked at at the start, when
//! notifications were lost, and when the slow refresh comes around.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

use caracal_felix_core::desired::{Desired, Dirty, IpSetChange, IpVersion};
use caracal_felix_core::render::nftables as render;
use caracal_linux::Result;
use caracal_linux::nftables::{Heard, Nftables as Kernel, Touched, Watch};

use super::tables::version_digit;
use crate::drivers::nftables::elements::Written;
use crate::drivers::nftables::lower::family;
use crate::drivers::nftables::round::{self, Scope};
use crate::drivers::nftables::wanted::{IpSetState, Refused, Wanted};
use crate::drivers::nftables::writer::{Failure, Object};
use crate::metrics::Metrics;
use crate::retry::Retry;

/// Attempts of one round: each refusal is answered by looking at everything, then by leaving out what is refused again.
const ATTEMPTS: usize = 8;

/// How long to wait when changes cannot be heard of.
const DEAF_PAUSE: Duration = Duration::from_secs(2);

/// Programs the table of each family.
#[derive(Debug)]
pub(super) struct Nftables {
    kernel: Kernel,
    watch: Watch,
    families: BTreeMap<IpVersion, State>,
}

/// One family.
#[derive(Debug)]
struct State {
    scope: Scope,
    ip_sets: BTreeMap<String, IpSetState>,
    refused: Refused,
    retry: Retry,
}

impl State {
    fn new() -> Self {
        let mut retry = Retry::new(u64::from(std::process::id()));
        retry.request();
        let all = true;
        Self {
            scope: Scope {
                all,
                ..Scope::default()
            },
            ip_sets: BTreeMap::new(),
            refused: Refused::default(),
            retry,
        }
    }

    /// Looks at everything, and gives what was refused another chance.
    fn request_all(&mut self) {
        self.refused = Refused::default();
        self.scope.all = true;
        self.retry.request();
    }

    fn request_chain(&mut self, name: String) {
        self.scope.chains.insert(name);
        self.retry.request();
    }

    fn request_set(&mut self, name: String) {
        self.scope.elements.remove(&name);
        self.scope.sets.insert(name);
        self.retry.request();
    }
}

impl Nftables {
    /// Connects, and listens from now on; everything will be looked at.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub(super) fn open(has_v6: bool, desired: &Desired) -> Result<Self> {
        let mut this = Self {
            kernel: Kernel::open()?,
            watch: Watch::open()?,
            families: BTreeMap::new(),
        };
        this.set_has_v6(has_v6, desired);
        Ok(this)
    }

    /// Whether IPv6 is programmed too. The table of a family that is not goes elsewhere, as a left-over.
    pub(super) fn set_has_v6(&mut self, has_v6: bool, desired: &Desired) {
        for version in [IpVersion::V4, IpVersion::V6] {
            if version == IpVersion::V6 && !has_v6 {
                self.families.remove(&version);
            } else if let Entry::Vacant(vacant) = self.families.entry(version) {
                let mut state = State::new();
                for (name, set) in desired.ip_sets.iter().filter(|(_, set)| set.version == version) {
                    let written = Written::of(set);
                    let name = name.clone();
                    let kernel_name = render::set_name(&name);
                    state.ip_sets.insert(kernel_name, IpSetState { name, written });
                }
                vacant.insert(state);
            }
        }
    }

    /// True when a family is programmed.
    #[must_use]
    pub(super) fn has(&self, version: IpVersion) -> bool {
        self.families.contains_key(&version)
    }

    /// Takes in what changed of what is wanted.
    pub(super) fn mark(&mut self, desired: &Desired, dirty: &Dirty) {
        for (version, state) in &mut self.families {
            mark_sets(*version, state, desired, dirty);
            let layers = dirty.chains.iter().chain(&dirty.kernel_chains);
            for (key, chains) in layers.filter(|(key, _)| key.version == *version) {
                for chain in chains {
                    state.request_chain(render::chain_name(key.name, chain));
                }
            }
            for (key, maps) in dirty.maps.iter().filter(|(key, _)| key.version == *version) {
                for map in maps.keys() {
                    state.request_set(render::map_name(key.name, map));
                }
            }
            for name in &dirty.port_sets {
                state.request_set(name.clone());
            }
        }
    }

    /// Waits until somebody changes something.
    pub(super) async fn heard(&mut self) -> Heard {
        match self.watch.next().await {
            Ok(heard) => heard,
            Err(error) => {
                tracing::warn!(error = %error, "changes of nftables are not heard of, everything is looked at");
                tokio::time::sleep(DEAF_PAUSE).await;
                Heard::Lost
            }
        }
    }

    /// Takes in what others did.
    pub(super) fn on_heard(&mut self, heard: Heard) {
        let notices = match heard {
            Heard::Notices(notices) => notices,
            Heard::Lost => return self.request_all(),
        };
        let own = self.kernel.port();
        for notice in notices
            .into_iter()
            .filter(|notice| notice.port != own && notice.table == render::TABLE)
        {
            let is_of = |version: &IpVersion| family(*version) == notice.family;
            let Some((_, state)) = self.families.iter_mut().find(|(version, _)| is_of(version)) else {
                continue;
            };
            match notice.touched {
                Touched::Table => state.request_all(),
                Touched::Chain(name) => state.request_chain(name),
                Touched::Set(name) => state.request_set(name),
            }
        }
    }

    /// Takes in what there is to hear, without waiting.
    pub(super) fn check(&mut self) {
        let heard = self.watch.read();
        self.on_heard(heard);
    }

    /// Looks at everything again.
    pub(super) fn request_all(&mut self) {
        self.families.values_mut().for_each(State::request_all);
    }

    /// True when something is not as wanted, or is not known to be.
    #[must_use]
    pub(super) fn is_pending(&self) -> bool {
        self.families.values().any(|state| state.retry.is_pending())
    }

    /// When something is to be done next.
    #[must_use]
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.families
            .values()
            .filter_map(|state| state.retry.at(now))
            .min()
    }

    /// Brings what is due to what is wanted. A family that fails does not stop the other.
    pub(super) fn apply(&mut self, desired: &Desired, metrics: &Metrics) {
        let now = Instant::now();
        for (version, state) in &mut self.families {
            if !state.retry.is_due(now) {
                continue;
            }
            let result = apply(&mut self.kernel, *version, state, desired, metrics);
            if let Err(problem) = &result {
                metrics.failures.with_label_values(&["nftables"]).inc();
                tracing::warn!(
                    ip = version_digit(*version),
                    problem,
                    "nftables not programmed, it stays pending"
                );
            }
            state.retry.done(result.is_ok(), Instant::now());
            count(*version, state, desired, metrics);
        }
    }
}

fn mark_sets(version: IpVersion, state: &mut State, desired: &Desired, dirty: &Dirty) {
    for (name, change) in &dirty.ip_sets {
        let kernel_name = render::set_name(name);
        let Some(set) = desired.ip_sets.get(name).filter(|set| set.version == version) else {
            if state.ip_sets.remove(&kernel_name).is_some() {
                state.request_set(kernel_name);
            }
            continue;
        };
        match (change, state.ip_sets.get_mut(&kernel_name)) {
            (IpSetChange::Members { added, removed }, Some(known)) => {
                let is_compared = state.scope.sets.contains(&kernel_name);
                let changes = state.scope.elements.entry(kernel_name.clone()).or_default();
                known.written.change(removed, added, changes);
                // A comparison finds out by itself.
                if is_compared || changes.is_empty() {
                    state.scope.elements.remove(&kernel_name);
                }
                state.retry.request();
            }
            _ => {
                let written = Written::of(set);
                let name = name.clone();
                state
                    .ip_sets
                    .insert(kernel_name.clone(), IpSetState { name, written });
                state.request_set(kernel_name);
            }
        }
    }
}

/// One round of a family, until it succeeds or cannot.
fn apply(
    kernel: &mut Kernel,
    version: IpVersion,
    state: &mut State,
    desired: &Desired,
    metrics: &Metrics,
) -> Result<(), String> {
    let mut before: Vec<(Object, i32)> = Vec::new();
    for _ in 0..ATTEMPTS {
        let wanted = Wanted {
            desired,
            version,
            ip_sets: &state.ip_sets,
            refused: &state.refused,
        };
        metrics.nft_calls.inc();
        if state.scope.all {
            metrics.nft_list_calls.inc();
        }
        let refused = match round::run(kernel, &state.scope, &wanted) {
            Ok(messages) => {
                metrics
                    .nft_messages
                    .inc_by(u64::try_from(messages).unwrap_or(u64::MAX));
                state.scope = Scope::default();
                let left = state.refused.sets.len() + state.refused.chains.len();
                if left > 0 {
                    state.scope.all = true;
                    return Err(format!("{left} chains or sets were refused by the kernel"));
                }
                return Ok(());
            }
            Err(Failure::Refused(refused)) => refused,
            Err(Failure::Kernel(error)) => {
                // What became of the transaction is not known.
                state.scope.all = true;
                metrics.nft_errors.inc();
                return Err(error.to_string());
            }
        };
        metrics.nft_errors.inc();
        // The first time, somebody may have changed something since it was read. What is refused again is refused.
        let again = refused
            .iter()
            .filter(|one| state.scope.all && before.contains(one));
        let again: Vec<(Object, i32)> = again.cloned().collect();
        for (object, errno) in again {
            refuse(state, version, object, errno);
        }
        state.scope.all = true;
        before = refused;
    }
    let (object, errno) = before.first().map_or((Object::Table, 0), Clone::clone);
    Err(format!("{object}: {}", caracal_linux::Errno(errno)))
}

/// Leaves out what the kernel does not take, so that the rest can be done; said once for each.
fn refuse(state: &mut State, version: IpVersion, object: Object, errno: i32) {
    let ip = version_digit(version);
    let problem = caracal_linux::Errno(errno).to_string();
    let is_new = match &object {
        Object::Table => true,
        Object::Chain(name) => state.refused.chains.insert(name.clone(), errno).is_none(),
        Object::Set(name) => state.refused.sets.insert(name.clone(), errno).is_none(),
        Object::Rule { chain, hash } => {
            let key = (chain.clone(), hash.clone());
            state.refused.rules.insert(key, errno).is_none()
        }
    };
    if is_new {
        tracing::error!(
            ip,
            object = %object,
            problem,
            "refused by the kernel; what a rule of an endpoint or policy would decide is denied, other rules are left \
             out; check that the kernel has the nf_tables modules for it"
        );
    }
}

fn count(version: IpVersion, state: &State, desired: &Desired, metrics: &Metrics) {
    let labels = [version_digit(version)];
    let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let tables = || {
        desired
            .tables
            .iter()
            .filter(|(key, _)| key.version == version)
            .map(|(_, table)| table)
    };
    let chains = tables()
        .map(|table| table.chains.len() + table.kernel_chains.len())
        .sum();
    let rules = tables()
        .flat_map(|table| table.chains.values().map(Vec::len))
        .sum();
    let maps = tables().map(|table| table.maps.len()).sum();
    metrics.nft_chains.with_label_values(&labels).set(gauge(chains));
    metrics.nft_rules.with_label_values(&labels).set(gauge(rules));
    metrics.nft_maps.with_label_values(&labels).set(gauge(maps));
    let sets = state.ip_sets.len() + desired.port_sets.len();
    metrics.nft_sets.with_label_values(&labels).set(gauge(sets));
}

//! iptables tables: which must be looked at, what is wanted in each, and one transaction for each that differs.
//!
//! Owns the rendered text of what is wanted. Every round reads what the kernel has, so nothing is ever assumed of it;
//! whether a round is needed tells the kernel's generation number (nftables) or, without one, a slow clock (legacy).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use caracal_felix_core::desired::{Desired, Dirty, IpVersion, KernelChain, Table, TableKey, TableName};
use caracal_felix_core::render::iptables as render;
use caracal_linux::nftables::Generation;

use crate::drivers::iptables::{self, Insertions, Wanted};
use crate::drivers::refused::{self, Key};
use crate::exec::{CommandRunner, Output};
use crate::features::{Commands, Programs, Variant};
use crate::metrics::Metrics;
use crate::retry::Retry;

/// A program that takes longer hangs.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the tables are read when the kernel cannot tell whether they changed.
const LEGACY_INTERVAL: Duration = Duration::from_secs(2);
/// Longest message of a program that is passed on.
const MESSAGE_MAX: usize = 400;

/// Programs the tables of both IP versions.
#[derive(Debug)]
pub(super) struct Tables {
    programs: Programs,
    tables: BTreeMap<TableKey, State>,
    generation: Option<Generation>,
    looks: BTreeMap<IpVersion, Look>,
}

/// When the tables of an IP version were last read.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    /// The generation in which everything was as wanted.
    generation: Option<u32>,
}

#[derive(Debug)]
struct State {
    wanted: Wanted,
    retry: Retry,
    /// The rule that the last refusal named.
    suspect: Option<Key>,
    /// Rules that were refused again with everything as it was read just before.
    refused: BTreeSet<Key>,
}

impl State {
    fn new(wanted: Wanted) -> Self {
        let mut retry = Retry::new(u64::from(std::process::id()));
        retry.request();
        Self {
            wanted,
            retry,
            suspect: None,
            refused: BTreeSet::new(),
        }
    }

    /// Takes the result of an attempt. What is refused twice is left out from then on, so that the rest can be done.
    fn done(&mut self, result: &Result<bool, Failure>, key: &TableKey) {
        self.retry.done(result.is_ok(), Instant::now());
        let rule = result.as_ref().err().and_then(|failure| failure.rule.clone());
        let again = rule.clone().filter(|_| rule == self.suspect);
        self.suspect = rule;
        let Some(rule) = again else { return };
        tracing::error!(
            table = %key.name,
            ip = version_digit(key.version),
            chain = rule.0,
            rule = rule.1,
            "refused by the kernel; what a rule of an endpoint or policy would decide is denied, other rules are left \
             out; check that the kernel has the modules for it"
        );
        self.refused.insert(rule);
        self.retry.request();
    }
}

/// Why a table was not written.
#[derive(Debug)]
struct Failure {
    problem: String,
    /// The rule that was refused, where the program names it.
    rule: Option<Key>,
}

impl From<String> for Failure {
    fn from(problem: String) -> Self {
        Self { problem, rule: None }
    }
}

impl Tables {
    /// Nothing wanted yet.
    #[must_use]
    pub(super) fn new(programs: Programs) -> Self {
        let generation = match programs.variant {
            Variant::Nft => Generation::open().ok(),
            Variant::Legacy => None,
        };
        Self {
            programs,
            tables: BTreeMap::new(),
            generation,
            looks: BTreeMap::new(),
        }
    }

    /// What the programs write to.
    #[must_use]
    pub(super) const fn variant(&self) -> Variant {
        self.programs.variant
    }

    /// Takes other programs from now on; everything is looked at and rendered anew.
    pub(super) fn set_programs(&mut self, programs: Programs) {
        *self = Self::new(programs);
    }

    /// Takes in what changed of what is wanted.
    pub(super) fn mark(&mut self, desired: &Desired, dirty: &Dirty) {
        let programs = &self.programs;
        self.tables
            .retain(|key, _| desired.tables.contains_key(key) && programs.commands(key.version).is_some());
        for (key, table) in &desired.tables {
            if self.programs.commands(key.version).is_none() {
                continue;
            }
            let features = self.programs.features;
            if let Some(state) = self.tables.get_mut(key) {
                let empty = BTreeSet::new();
                let chains = dirty.chains.get(key).unwrap_or(&empty);
                let kernel_chains = dirty.kernel_chains.get(key).unwrap_or(&empty);
                if !chains.is_empty() || !kernel_chains.is_empty() {
                    update(
                        &mut state.wanted,
                        table,
                        key.version,
                        features,
                        chains,
                        kernel_chains,
                    );
                    state.retry.request();
                }
            } else {
                let mut wanted = Wanted::default();
                let (chains, kernel_chains) = (keys(&table.chains), keys(&table.kernel_chains));
                update(&mut wanted, table, key.version, features, &chains, &kernel_chains);
                self.tables.insert(*key, State::new(wanted));
            }
        }
    }

    /// Asks, cheaply, whether somebody changed the tables; if so, all are looked at again.
    pub(super) fn check(&mut self, now: Instant) {
        let number = self.generation.as_mut().and_then(|asked| asked.current().ok());
        let looks = &self.looks;
        let is_stale = |version| {
            looks.get(&version).is_none_or(|look| match number {
                Some(number) => look.generation != Some(number),
                None => now.saturating_duration_since(look.at) >= LEGACY_INTERVAL,
            })
        };
        for (_, state) in self.tables.iter_mut().filter(|(key, _)| is_stale(key.version)) {
            if !state.retry.is_failing() {
                state.retry.request();
            }
        }
    }

    /// Looks at all tables again, and gives what was refused another chance.
    pub(super) fn request_all(&mut self) {
        for state in self.tables.values_mut().filter(|state| !state.retry.is_failing()) {
            state.refused.clear();
            state.retry.request();
        }
    }

    /// True when some table is not as wanted, or is not known to be.
    #[must_use]
    pub(super) fn is_pending(&self) -> bool {
        self.tables.values().any(|state| state.retry.is_pending())
    }

    /// When something is to be done next.
    #[must_use]
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.tables.values().filter_map(|state| state.retry.at(now)).min()
    }

    /// Brings the tables that are due to what is wanted. One that fails does not stop the others.
    pub(super) async fn apply(&mut self, runner: &impl CommandRunner, metrics: &Metrics) {
        for version in [IpVersion::V4, IpVersion::V6] {
            self.apply_version(version, runner, metrics).await;
        }
    }

    async fn apply_version(&mut self, version: IpVersion, runner: &impl CommandRunner, metrics: &Metrics) {
        let now = Instant::now();
        let Some(commands) = self.programs.commands(version) else {
            return;
        };
        let is_due = |key: &TableKey, state: &State| key.version == version && state.retry.is_due(now);
        if !self.tables.iter().any(|(key, state)| is_due(key, state)) {
            return;
        }
        // One listing shows all tables: look at each, except those that wait after a failure.
        let due: Vec<(&TableKey, &mut State)> = self
            .tables
            .iter_mut()
            .filter(|(key, state)| is_due(key, state) || key.version == version && !state.retry.is_failing())
            .collect();
        // Asked before reading: a change between the two is looked at once more, never missed.
        let generation = self.generation.as_mut().and_then(|asked| asked.current().ok());
        metrics.save_calls.inc();
        let saved = run(runner, &[&commands.save], "").await;
        let mut written = false;
        for (key, state) in due {
            let result = match &saved {
                Ok(output) => one(key, state, output, commands, runner, metrics).await,
                Err(problem) => Err(problem.clone().into()),
            };
            if let Err(Failure { problem, .. }) = &result {
                metrics.failures.with_label_values(&["table"]).inc();
                tracing::warn!(table = %key.name, ip = version_digit(version), problem, "table not programmed, it stays pending");
            }
            written |= !matches!(result, Ok(false));
            state.done(&result, key);
            let labels = [version_digit(version), key.name.as_str()];
            let rules: usize = state.wanted.chains.values().map(Vec::len).sum();
            metrics
                .chains
                .with_label_values(&labels)
                .set(as_gauge(state.wanted.chains.len()));
            metrics.rules.with_label_values(&labels).set(as_gauge(rules));
        }
        // After a write the number is another; the next check then reads once more, which also proves the write.
        let generation = generation.filter(|_| !written);
        self.looks.insert(version, Look { at: now, generation });
    }
}

/// Brings one table to what is wanted; true if anything was written.
async fn one(
    key: &TableKey,
    state: &State,
    saved: &str,
    commands: &Commands,
    runner: &impl CommandRunner,
    metrics: &Metrics,
) -> Result<bool, Failure> {
    let table = key.name.as_str();
    let present = iptables::parse(saved, table).map_err(|error| error.to_string())?;
    let reduced = (!state.refused.is_empty()).then(|| refused::without(&state.wanted, &state.refused));
    let wanted = reduced.as_ref().unwrap_or(&state.wanted);
    let Some(text) = iptables::plan(table, &present, wanted, true) else {
        return Ok(false);
    };
    metrics.restore_calls.inc();
    let argv = [commands.restore.as_str(), "--noflush", "--wait", "10"];
    if let Err(problem) = run(runner, &argv, &text).await {
        metrics.restore_errors.inc();
        tracing::debug!(table, input = text, "refused input");
        let rule = refused::culprit(&problem, &text);
        return Err(Failure { problem, rule });
    }
    let lines = u64::try_from(text.lines().count()).unwrap_or(u64::MAX);
    metrics
        .lines_executed
        .with_label_values(&[version_digit(key.version), table])
        .inc_by(lines);
    Ok(true)
}

/// Removes our chains and rules from the tables that programs see. Programs that are not installed see none.
///
/// # Errors
/// When something of ours is there and cannot be removed.
pub(super) async fn remove_ours(runner: &impl CommandRunner, commands: &Commands) -> Result<(), String> {
    let Ok(saved) = run(runner, &[&commands.save], "").await else {
        return Ok(());
    };
    if !saved.contains(render::COMMENT_PREFIX) && !saved.lines().any(|line| line.starts_with(":cali")) {
        return Ok(());
    }
    for name in TableName::ALL {
        let table = name.as_str();
        let present = iptables::parse(&saved, table).map_err(|error| error.to_string())?;
        if let Some(text) = iptables::plan(table, &present, &Wanted::default(), true) {
            run(runner, &[&commands.restore, "--noflush", "--wait", "10"], &text).await?;
            tracing::info!(
                table,
                program = commands.restore,
                "left-over chains and rules removed"
            );
        }
    }
    Ok(())
}

/// Runs a program; anything but exit code 0 is an error with what it said.
async fn run(runner: &impl CommandRunner, argv: &[&str], input: &str) -> Result<String, String> {
    let output = runner.run(argv, input, PROGRAM_TIMEOUT).await;
    let program = argv.first().copied().unwrap_or_default();
    match output {
        Ok(Output {
            code: Some(0),
            stdout,
            ..
        }) => Ok(stdout),
        Ok(output) => {
            let message: String = output.stderr.trim().chars().take(MESSAGE_MAX).collect();
            let code = output
                .code
                .map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
            Err(format!("{program} ended with {code}: {message}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn keys<V>(map: &BTreeMap<String, V>) -> BTreeSet<String> {
    map.keys().cloned().collect()
}

/// Renders the chains that changed, forgets those that are gone.
fn update(
    wanted: &mut Wanted,
    table: &Table,
    version: IpVersion,
    features: render::Features,
    chains: &BTreeSet<String>,
    kernel_chains: &BTreeSet<String>,
) {
    for name in chains {
        match table.chains.get(name) {
            Some(rules) => {
                let rules = render::chain(name, rules, version, features);
                wanted.chains.insert(name.clone(), rules);
            }
            None => drop(wanted.chains.remove(name)),
        }
    }
    for name in kernel_chains {
        match table.kernel_chains.get(name) {
            Some(KernelChain { inserted, appended }) => {
                let insertions = Insertions {
                    first: render::chain(name, inserted, version, features),
                    last: render::chain(name, appended, version, features),
                };
                wanted.kernel_chains.insert(name.clone(), insertions);
            }
            None => drop(wanted.kernel_chains.remove(name)),
        }
    }
}

/// `4` or `6`, as the metrics have it.
#[must_use]
pub(super) const fn version_digit(version: IpVersion) -> &'static str {
    match version {
        IpVersion::V4 => "4",
        IpVersion::V6 => "6",
    }
}

fn as_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

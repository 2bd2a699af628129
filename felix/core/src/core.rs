//! The surface of the calculation: updates in, wanted state out.

mod cluster;
mod endpoints;
mod evaluate;
mod interfaces;
mod lists;
mod network;
mod output;
mod owners;
mod plan;
mod questions;
mod report;

use std::collections::{BTreeMap, BTreeSet};

use caracal_api::names;
use caracal_api::v3::FelixConfigurationSpec;

use crate::config::{self, Config, Layers};
use crate::desired::{Backend, Desired, Dirty, IpSetKind, IpSetMember, IpVersion, TableKey, TableName};
use crate::rules::static_chains;
use crate::update::Update;
use cluster::{Changes, Cluster};
use output::Output;
use plan::{Claim, Plan};

/// What the calculation must know from the start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name of this node.
    pub node: String,
    /// Parameters given on the node itself, highest precedence first (environment, then file): names as in
    /// `FELIX_<NAME>` without the prefix, in any case.
    pub parameters: Vec<BTreeMap<String, String>>,
}

/// The calculation of one node.
#[derive(Debug)]
pub struct Core {
    options: Options,
    backend: Backend,
    cluster: Cluster,
    plan: Plan,
    output: Output,
    static_chains: BTreeSet<(TableKey, String)>,
    config: Config,
    spec: FelixConfigurationSpec,
    problems: BTreeMap<String, String>,
    is_in_sync: bool,
    is_flushed: bool,
}

/// How much there is of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Endpoints of this node that are programmed.
    pub local_endpoints: usize,
    /// Policies with a chain here.
    pub local_policies: usize,
    /// Sets that are kept up to date.
    pub selectors: usize,
    /// Policies of the cluster.
    pub policies: usize,
    /// Tiers.
    pub tiers: usize,
    /// Profiles.
    pub profiles: usize,
    /// Nodes.
    pub hosts: usize,
}

impl Core {
    /// A calculation that knows nothing of the cluster.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            cluster: Cluster::new(&options.node),
            options,
            backend: Backend::default(),
            plan: Plan::default(),
            output: Output::default(),
            static_chains: BTreeSet::new(),
            config: Config::default(),
            spec: FelixConfigurationSpec::default(),
            problems: BTreeMap::new(),
            is_in_sync: false,
            is_flushed: false,
        }
    }

    /// Writes for another backend from the next flush on.
    pub fn set_backend(&mut self, backend: Backend) {
        if self.backend != backend {
            self.backend = backend;
            self.cluster.mark_configuration();
        }
    }

    /// Name of this node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.options.node
    }

    /// Takes in one change. What follows from it for the kernel is worked out by [`flush`](Self::flush).
    pub fn on_update(&mut self, update: Update) {
        self.cluster.on_update(update);
    }

    /// All kinds have been listed completely. Before this, [`flush`](Self::flush) gives nothing.
    pub fn on_in_sync(&mut self) {
        self.is_in_sync = true;
    }

    /// True once all kinds have been listed.
    #[must_use]
    pub const fn is_in_sync(&self) -> bool {
        self.is_in_sync
    }

    /// Brings [`desired`](Self::desired) up to date and says what changed in it. Before everything is in sync nothing
    /// changes, so that a half-known cluster is never programmed. The work is in proportion to what changed.
    pub fn flush(&mut self) -> Dirty {
        if !self.is_in_sync || (self.is_flushed && self.cluster.is_unchanged()) {
            return Dirty::default();
        }
        let changes = self.cluster.take_changes();
        let mut is_all = !self.is_flushed;
        let mut is_configuration_new = false;
        if changes.configuration || is_all {
            let before = (self.config.clone(), self.spec.clone());
            self.configure();
            is_configuration_new = is_all || before.1 != self.spec;
            is_all |= before.0 != self.config;
        }
        if is_all || changes.network {
            self.write_static();
        }
        if is_configuration_new || changes.network {
            let routes = network::block_routes(&self.cluster, &self.config, &self.spec);
            self.plan.routes.set(Claim::Blocks, routes, &mut self.output);
        }
        self.plan.write(
            &mut self.cluster,
            &changes,
            is_all,
            &self.config,
            &mut self.output,
        );
        self.output.take_sets(&mut self.cluster.sets);
        let mut dirty = self.output.take_dirty();
        dirty.configuration = is_configuration_new;
        dirty.problems = self.take_problems(&changes);
        self.is_flushed = true;
        dirty
    }

    /// The wanted state as of the last flush.
    #[must_use]
    pub const fn desired(&self) -> &Desired {
        self.output.desired()
    }

    /// How much there is of what, for those who count.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            local_endpoints: self.plan.endpoint_count(),
            local_policies: self.plan.owners.policy_count(),
            selectors: self.cluster.sets.selector_count(),
            policies: self.cluster.policies.len(),
            tiers: self.cluster.tiers.len(),
            profiles: self.cluster.profiles.len(),
            hosts: self.cluster.nodes.len(),
        }
    }

    /// The effective FelixConfiguration of this node, all layers merged, as of the last flush.
    #[must_use]
    pub const fn configuration(&self) -> &FelixConfigurationSpec {
        &self.spec
    }

    /// The parameters of the calculation, as of the last flush.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What could not be understood, by the object or parameter it concerns. What is listed here is closed.
    #[must_use]
    pub const fn problems(&self) -> &BTreeMap<String, String> {
        &self.problems
    }

    /// The effective FelixConfiguration as the next flush will have it: what decides about the backend must be known
    /// before the flush that is to write for it. None when nothing changed since the last flush.
    #[must_use]
    pub fn upcoming_configuration(&self) -> Option<FelixConfigurationSpec> {
        let is_new = !self.is_flushed || self.cluster.is_configuration_changed();
        is_new.then(|| self.merged().spec)
    }

    fn merged(&self) -> config::Merged {
        config::merge(&Layers {
            local: &self.options.parameters,
            objects: self.cluster.configurations(),
            node: &self.options.node,
            labels: self.cluster.labels_of(&self.options.node),
        })
    }

    fn configure(&mut self) {
        let merged = self.merged();
        let (config, mut problems) = Config::from_spec(&merged.spec, self.backend);
        problems.extend(merged.problems);
        self.cluster.set_configuration_problems(problems);
        (self.spec, self.config) = (merged.spec, config);
        let versions = if self.config.ipv6_support {
            vec![IpVersion::V4, IpVersion::V6]
        } else {
            vec![IpVersion::V4]
        };
        let now = (
            &self.output.versions,
            self.output.backend,
            self.output.max_members,
        );
        if now != (&versions, self.backend, self.config.max_ipset_size) {
            self.output
                .restart(versions, self.backend, self.config.max_ipset_size);
            self.plan = Plan::default();
            self.cluster.sets.clear_uses();
        }
    }

    fn take_problems(&mut self, changes: &Changes) -> bool {
        if !changes.problems && !changes.configuration && self.is_flushed {
            return false;
        }
        let problems = self.cluster.problems();
        let is_changed = problems != self.problems;
        self.problems = problems;
        is_changed
    }

    /// Writes what depends on no endpoint: static chains, sets of pools and nodes, kernel parameters.
    fn write_static(&mut self) {
        let mut written = BTreeSet::new();
        for version in self.output.versions.clone() {
            let facts = network::facts(&self.cluster, &self.config, version);
            for name in TableName::ALL {
                let key = TableKey { version, name };
                let table = static_chains::table(name, version, &self.config, &facts);
                for (name, rules) in table.chains {
                    self.output.chain_of(key, &name, Some(rules));
                    written.insert((key, name));
                }
                for (name, chain) in table.kernel_chains {
                    self.output.kernel_chain(key, &name, Some(chain));
                }
            }
            for (id, members) in network::static_sets(&self.cluster, &self.config) {
                let own = members.into_iter().filter(|member| member.version() == version);
                let own: BTreeSet<IpSetMember> = own.collect();
                let name = names::ip_set_name(version, id);
                self.output.replace_set(name, IpSetKind::HashNet, version, own);
            }
        }
        for (key, name) in self.static_chains.difference(&written) {
            if self.output.versions.contains(&key.version) {
                self.output.chain_of(*key, name, None);
            }
        }
        self.static_chains = written;
        self.output.sysctls(network::sysctls(&self.config));
    }
}

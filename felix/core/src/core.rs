//! The surface of the calculation: updates in, wanted state out.

mod cluster;
mod endpoints;
mod network;

use std::collections::{BTreeMap, BTreeSet};

use caracal_api::v3::FelixConfigurationSpec;

use crate::config::{self, Config, Layers};
use crate::desired::{Desired, Dirty, IpSet, IpSetChange, IpSetMember, IpVersion, TableKey, TableName};
use crate::rules::static_chains::{self, Facts};
use crate::update::Update;
use caracal_api::names;
use cluster::Cluster;

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
    cluster: Cluster,
    desired: Desired,
    config: Config,
    spec: FelixConfigurationSpec,
    problems: BTreeMap<String, String>,
    is_in_sync: bool,
    is_flushed: bool,
}

impl Core {
    /// A calculation that knows nothing of the cluster.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            cluster: Cluster::new(&options.node),
            options,
            desired: Desired::default(),
            config: Config::default(),
            spec: FelixConfigurationSpec::default(),
            problems: BTreeMap::new(),
            is_in_sync: false,
            is_flushed: false,
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
    /// changes, so that a half-known cluster is never programmed.
    pub fn flush(&mut self) -> Dirty {
        let mut dirty = Dirty::default();
        if !self.is_in_sync || (self.is_flushed && !self.cluster.is_dirty()) {
            return dirty;
        }
        let before = self.desired.clone();
        self.configure(&mut dirty);
        self.cluster.activate();
        self.fill_sets();
        self.desired.tables = self.tables();
        let network = network::network(&self.cluster, &self.config, &self.spec);
        self.desired.routes = network.routes;
        self.desired.interfaces = network.interfaces;
        self.desired.sysctls = network.sysctls;
        self.desired.endpoint_statuses = network.endpoint_statuses;
        let problems = self.cluster.problems();
        dirty.problems = problems != self.problems;
        self.problems = problems;
        difference(&before, &self.desired, &mut dirty);
        self.cluster.mark_clean();
        self.is_flushed = true;
        dirty
    }

    /// The wanted state as of the last flush.
    #[must_use]
    pub const fn desired(&self) -> &Desired {
        &self.desired
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

    fn configure(&mut self, dirty: &mut Dirty) {
        let merged = config::merge(&Layers {
            local: &self.options.parameters,
            objects: self.cluster.configurations(),
            node: &self.options.node,
            labels: self.cluster.node_labels(),
        });
        dirty.configuration = !self.is_flushed || merged.spec != self.spec;
        let (config, mut problems) = Config::from_spec(&merged.spec);
        problems.extend(merged.problems);
        self.cluster.set_configuration_problems(problems);
        (self.spec, self.config) = (merged.spec, config);
    }

    fn versions(&self) -> Vec<IpVersion> {
        if self.config.ipv6_support {
            vec![IpVersion::V4, IpVersion::V6]
        } else {
            vec![IpVersion::V4]
        }
    }

    fn fill_sets(&mut self) {
        let versions = self.versions();
        self.desired
            .ip_sets
            .retain(|_, set| versions.contains(&set.version));
        let changed = self.cluster.sets.take_changed();
        let max_members = self.config.max_ipset_size;
        for version in [IpVersion::V4, IpVersion::V6] {
            for id in &changed {
                let name = names::ip_set_name(version, id);
                let found = self.cluster.sets.get(id).filter(|_| versions.contains(&version));
                let Some((spec, members)) = found else {
                    self.desired.ip_sets.remove(&name);
                    continue;
                };
                let set = IpSet {
                    kind: spec.kind(),
                    version,
                    max_members,
                    members: members.filter(|member| member.version() == version).collect(),
                };
                self.desired.ip_sets.insert(name, set);
            }
        }
        for version in versions {
            for (id, members) in network::static_sets(&self.cluster, &self.config) {
                let members: BTreeSet<IpSetMember> = members.into_iter().collect();
                let set = IpSet {
                    kind: crate::desired::IpSetKind::HashNet,
                    version,
                    max_members,
                    members: members
                        .into_iter()
                        .filter(|member| member.version() == version)
                        .collect(),
                };
                self.desired.ip_sets.insert(names::ip_set_name(version, id), set);
            }
        }
        for set in self.desired.ip_sets.values_mut() {
            set.max_members = max_members;
        }
    }

    fn tables(&self) -> BTreeMap<TableKey, crate::desired::Table> {
        let mut tables = BTreeMap::new();
        for version in self.versions() {
            let facts = Facts {
                masquerades: network::masquerades(&self.cluster, version),
            };
            for name in TableName::ALL {
                let mut table = static_chains::table(name, version, &self.config, facts);
                if name == TableName::Filter {
                    table
                        .chains
                        .extend(endpoints::filter_chains(&self.cluster, version, &self.config));
                }
                tables.insert(TableKey { version, name }, table);
            }
        }
        tables
    }
}

/// Keys whose values differ.
fn changed_keys<K: Ord + Clone, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> BTreeSet<K> {
    let keys = old
        .keys()
        .chain(new.keys())
        .filter(|key| old.get(*key) != new.get(*key));
    keys.cloned().collect()
}

fn difference(old: &Desired, new: &Desired, dirty: &mut Dirty) {
    for name in changed_keys(&old.ip_sets, &new.ip_sets) {
        let change = match (old.ip_sets.get(&name), new.ip_sets.get(&name)) {
            (_, None) => IpSetChange::Removed,
            (Some(old), Some(new)) if (old.kind, old.max_members) == (new.kind, new.max_members) => {
                IpSetChange::Members {
                    added: new.members.difference(&old.members).copied().collect(),
                    removed: old.members.difference(&new.members).copied().collect(),
                }
            }
            (_, Some(_)) => IpSetChange::Replaced,
        };
        dirty.ip_sets.insert(name, change);
    }
    let empty = crate::desired::Table::default();
    for key in changed_keys(&old.tables, &new.tables) {
        let (old, new) = (
            old.tables.get(&key).unwrap_or(&empty),
            new.tables.get(&key).unwrap_or(&empty),
        );
        let chains = changed_keys(&old.chains, &new.chains);
        if !chains.is_empty() {
            dirty.chains.insert(key, chains);
        }
        let kernel_chains = changed_keys(&old.kernel_chains, &new.kernel_chains);
        if !kernel_chains.is_empty() {
            dirty.kernel_chains.insert(key, kernel_chains);
        }
    }
    dirty.routes = changed_keys(&old.routes, &new.routes);
    dirty.interfaces = changed_keys(&old.interfaces, &new.interfaces);
    dirty.neighbours = changed_keys(&old.neighbours, &new.neighbours);
    dirty.sysctls = old.sysctls != new.sysctls;
    dirty.endpoint_statuses = changed_keys(&old.endpoint_statuses, &new.endpoint_statuses);
    let target = |desired: &Desired, net| desired.routes.get(net).map(|route| route.target.clone());
    for net in &dirty.routes {
        if let Some(crate::desired::RouteTarget::Interface(interface)) = target(old, net)
            && target(new, net) != Some(crate::desired::RouteTarget::Interface(interface))
        {
            dirty.released_addresses.insert(net.addr());
        }
    }
}

//! The chains that endpoints' chains jump to: of policies, profiles and merged policies.
//!
//! Each is there while something jumps to it, in the tables where that is; with it the sets that its rules name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cluster::Cluster;
use super::lists::{BundleId, Bundles};
use super::output::Output;
use crate::calc::model::{Direction, PolicyId, RuleModel, SetSpec};
use crate::calc::sets::{Part, Sets};
use crate::config::Config;
use crate::desired::{IpSetKind, TableKey, TableName};
use crate::rules::endpoint::{bundle_chain, policy_chain, profile_chain};
use crate::rules::{Rule, merge, nflog, policy};

/// Whose chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Policy(Direction, PolicyId),
    Profile(Direction, String),
    Bundle(BundleId),
}

impl Owner {
    pub(super) fn chain(&self, config: &Config) -> String {
        match self {
            Self::Policy(direction, id) => policy_chain(config.backend, *direction, &id.text()),
            Self::Profile(direction, name) => profile_chain(config.backend, *direction, name),
            Self::Bundle((direction, id)) => bundle_chain(config.backend, *direction, id),
        }
    }
}

/// A jump from somewhere to an owner's chain.
pub(super) type Use = (Owner, TableName);

#[derive(Debug)]
struct Written {
    chain: String,
    tables: BTreeSet<TableName>,
    sets: Vec<String>,
    unions: BTreeSet<String>,
}

/// What is to be written for an owner.
#[derive(Debug, Default)]
struct Content {
    chains: Vec<(TableKey, Vec<Rule>)>,
    sets: Vec<Arc<SetSpec>>,
    unions: BTreeMap<String, (IpSetKind, Vec<Part>)>,
    /// Sets that are kept up to date until those that are named are acquired.
    held: Vec<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Owners {
    users: BTreeMap<Owner, BTreeMap<TableName, usize>>,
    written: BTreeMap<Owner, Written>,
    dirty: BTreeSet<Owner>,
}

impl Owners {
    /// The content of an owner's chain may have changed.
    pub(super) fn mark(&mut self, owner: Owner) {
        self.dirty.insert(owner);
    }

    /// Everything is to be written anew.
    pub(super) fn mark_all(&mut self) {
        self.dirty.extend(self.users.keys().cloned());
    }

    /// Number of policies that are programmed.
    pub(super) fn policy_count(&self) -> usize {
        let policies = self.users.keys().filter_map(|owner| match owner {
            Owner::Policy(_, id) => Some(id),
            Owner::Profile(..) | Owner::Bundle(_) => None,
        });
        policies.collect::<BTreeSet<_>>().len()
    }

    /// An endpoint jumps to other chains than before.
    pub(super) fn change_uses(&mut self, old: &[Use], new: &[Use]) {
        for (owner, table) in new {
            let tables = self.users.entry(owner.clone()).or_default();
            let count = tables.entry(*table).or_default();
            *count += 1;
            if *count == 1 {
                self.dirty.insert(owner.clone());
            }
        }
        for (owner, table) in old {
            let Some(tables) = self.users.get_mut(owner) else {
                continue;
            };
            if let Some(count) = tables.get_mut(table) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    tables.remove(table);
                    self.dirty.insert(owner.clone());
                }
            }
            if tables.is_empty() {
                self.users.remove(owner);
            }
        }
    }

    /// Writes what is dirty. Sets of the new content are there before those of the old are let go.
    pub(super) fn write(
        &mut self,
        cluster: &mut Cluster,
        bundles: &Bundles,
        config: &Config,
        output: &mut Output,
    ) {
        for owner in std::mem::take(&mut self.dirty) {
            let tables: BTreeSet<TableName> = self
                .users
                .get(&owner)
                .into_iter()
                .flat_map(BTreeMap::keys)
                .copied()
                .collect();
            let before = self.written.remove(&owner);
            if tables.is_empty() {
                if let Some(before) = before {
                    erase(&before, output);
                    let_go(&before, &BTreeSet::new(), &mut cluster.sets);
                }
                continue;
            }
            let content = content(&owner, &tables, cluster, bundles, config, output);
            let chain = owner.chain(config);
            let written = Written {
                chain: chain.clone(),
                tables,
                sets: content.sets.iter().map(|spec| spec.id.clone()).collect(),
                unions: content.unions.keys().cloned().collect(),
            };
            content.sets.iter().for_each(|spec| cluster.sets.acquire(spec));
            for (id, (kind, parts)) in content.unions {
                cluster.sets.set_union(&id, kind, parts);
            }
            content.held.iter().for_each(|id| cluster.sets.let_go(id));
            if let Some(before) = before {
                let gone = before.tables.difference(&written.tables);
                gone.for_each(|table| output.chain(*table, &before.chain, None));
                let_go(&before, &written.unions, &mut cluster.sets);
            }
            for (key, rules) in content.chains {
                output.chain_of(key, &chain, Some(rules));
            }
            self.written.insert(owner, written);
        }
    }
}

fn erase(before: &Written, output: &mut Output) {
    for table in &before.tables {
        output.chain(*table, &before.chain, None);
    }
}

fn let_go(before: &Written, kept: &BTreeSet<String>, sets: &mut Sets) {
    before.sets.iter().for_each(|id| sets.release(id));
    let gone = before.unions.difference(kept);
    gone.for_each(|id| sets.remove_union(id));
}

fn content(
    owner: &Owner,
    tables: &BTreeSet<TableName>,
    cluster: &mut Cluster,
    bundles: &Bundles,
    config: &Config,
    output: &Output,
) -> Content {
    let mut content = Content::default();
    if let Owner::Bundle(id) = owner {
        merged(id, tables, cluster, bundles, config, output, &mut content);
        return content;
    }
    let (rules, title, is_staged, name) = match owner {
        Owner::Policy(direction, id) => {
            let policy = cluster.policies.get(id);
            let rules = policy.and_then(|policy| policy.rules(*direction));
            let title = format!("Policy {} {}", id.shown(), direction.as_str());
            (
                rules.unwrap_or_default(),
                title,
                id.kind.is_staged(),
                nflog::Owner::policy(*direction, id.text()),
            )
        }
        Owner::Profile(direction, name) => {
            // A profile that is not there allows nothing.
            let rules = cluster.profiles.get(name).map(|profile| match direction {
                Direction::Ingress => profile.ingress.as_slice(),
                Direction::Egress => profile.egress.as_slice(),
            });
            let title = format!("Profile {name} {}", direction.as_str());
            (
                rules.unwrap_or_default(),
                title,
                false,
                nflog::Owner::profile(*direction, name),
            )
        }
        Owner::Bundle(_) => return content,
    };
    content.sets = rules.iter().flat_map(RuleModel::sets).cloned().collect();
    for version in &output.versions {
        let written = if is_staged {
            policy::staged_chain(rules, *version, config, &title)
        } else {
            policy::chain(rules, *version, config, &title, &name)
        };
        for table in tables {
            let key = TableKey {
                version: *version,
                name: *table,
            };
            content.chains.push((key, written.clone()));
        }
    }
    content
}

/// The chain of merged policies.
fn merged(
    id: &BundleId,
    tables: &BTreeSet<TableName>,
    cluster: &mut Cluster,
    bundles: &Bundles,
    config: &Config,
    output: &Output,
    content: &mut Content,
) {
    let (direction, text) = id;
    let policies = bundles.policies(id).unwrap_or_default();
    let rules = policies.iter().filter_map(|id| cluster.policies.get(id));
    let rules: Vec<RuleModel> = rules
        .filter_map(|policy| policy.rules(*direction))
        .flatten()
        .cloned()
        .collect();
    // How large a set is shows once it is kept up to date.
    let specs: Vec<&Arc<SetSpec>> = rules.iter().flat_map(RuleModel::sets).collect();
    specs.iter().for_each(|spec| cluster.sets.hold(spec));
    let large = specs.iter().map(|spec| &spec.id);
    let large: BTreeSet<String> = large.filter(|id| cluster.sets.is_large(id)).cloned().collect();
    for version in &output.versions {
        let context = merge::Context {
            direction: *direction,
            id: &format!("{}/{text}", direction.as_str()),
            version: *version,
            config,
            large: &large,
        };
        let merge::Merged {
            mut rules,
            sets,
            unions,
        } = merge::chain(&rules, &context);
        if config.is_denial_logged {
            let tier = policies.iter().find_map(|id| cluster.policies.get(id));
            let tier = tier.map(|policy| policy.tier.as_str()).unwrap_or_default();
            rules = nflog::before_denials(rules, &config.deny(), &nflog::end_of_tier(*direction, tier));
        }
        if let Some(first) = rules.first_mut() {
            let title = format!("{} merged policies {}", policies.len(), direction.as_str());
            first.comments.push(title);
        }
        content.sets.extend(sets);
        content.unions.extend(unions);
        for table in tables {
            let key = TableKey {
                version: *version,
                name: *table,
            };
            content.chains.push((key, rules.clone()));
        }
    }
    content.held = specs.iter().map(|spec| spec.id.clone()).collect();
}

//! Which policies apply to an endpoint, in order; and endpoints that have the same many.
//!
//! Policies of a tier that are many are merged into one chain, which endpoints with the same list share. The chain is
//! named after the first of these endpoints: as long as that one stays, a policy more or less changes the content of
//! the chain and its sets, and not their names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha224};

use super::cluster::Cluster;
use crate::calc::model::{Direction, Policy, PolicyId, Stage, compare_orders};
use crate::calc::sets::Item;

/// Enforced policies of a tier that an endpoint goes through one by one; more are merged.
const APART_MAX: usize = 8;
/// Digits of a merged chain's id.
const ID_LENGTH: usize = 20;

/// For which packets of an endpoint policies are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Of the workload, or of the host's own processes.
    Own,
    /// Forwarded by the host.
    Forward,
    /// Before translation.
    PreDnat,
    /// Before connection tracking.
    Untracked,
}

impl Scope {
    const fn has(self, policy: &Policy) -> bool {
        match self {
            Self::Own => matches!(policy.stage, Stage::Normal),
            Self::Forward => matches!(policy.stage, Stage::Normal) && policy.is_applied_on_forward,
            Self::PreDnat => matches!(policy.stage, Stage::PreDnat),
            Self::Untracked => matches!(policy.stage, Stage::Untracked),
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Forward => "forward",
            Self::PreDnat => "pre-dnat",
            Self::Untracked => "untracked",
        }
    }
}

/// The policies of a tier that apply to an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TierList {
    pub(super) name: String,
    pub(super) is_deny_default: bool,
    pub(super) policies: Vec<PolicyId>,
}

impl TierList {
    pub(super) fn enforced(&self) -> impl Iterator<Item = &PolicyId> {
        self.policies.iter().filter(|id| !id.kind.is_staged())
    }

    /// True when its policies are merged.
    pub(super) fn is_merged(&self) -> bool {
        self.enforced().nth(APART_MAX).is_some()
    }
}

/// The tiers with policies that have a say about an endpoint, in order.
pub(super) fn tiers(cluster: &Cluster, item: &Item, direction: Direction, scope: Scope) -> Vec<TierList> {
    let with_policy = |id| cluster.policies.get(id).map(|policy| (id, policy));
    let selected = cluster.local_index.selectors_of(item).filter_map(with_policy);
    order(cluster, selected, direction, scope)
}

/// Puts policies into tiers and order, without those that have no say.
pub(super) fn order<'a>(
    cluster: &Cluster,
    selected: impl Iterator<Item = (&'a PolicyId, &'a Policy)>,
    direction: Direction,
    scope: Scope,
) -> Vec<TierList> {
    let mut selected: Vec<(&PolicyId, &Policy)> = selected
        .filter(|(_, policy)| policy.rules(direction).is_some() && scope.has(policy))
        .collect();
    selected.sort_by(|(a_id, a), (b_id, b)| {
        let tiers = || {
            let place = |policy: &Policy| cluster.tier(&policy.tier).0;
            compare_orders(place(a), place(b)).then_with(|| a.tier.cmp(&b.tier))
        };
        let same_tier = a.tier == b.tier;
        let by_tier = if same_tier {
            std::cmp::Ordering::Equal
        } else {
            tiers()
        };
        by_tier
            .then_with(|| compare_orders(a.order, b.order))
            .then_with(|| a_id.key.name.cmp(&b_id.key.name))
            .then_with(|| a_id.key.namespace.cmp(&b_id.key.namespace))
            .then_with(|| a_id.kind.cmp(&b_id.kind))
    });
    let mut tiers: Vec<TierList> = Vec::new();
    for (id, policy) in selected {
        if tiers.last().is_none_or(|tier| tier.name != policy.tier) {
            tiers.push(TierList {
                name: policy.tier.clone(),
                is_deny_default: cluster.tier(&policy.tier).1,
                policies: Vec::new(),
            });
        }
        if let Some(tier) = tiers.last_mut() {
            tier.policies.push(id.clone());
        }
    }
    tiers
}

/// Where a list of policies applies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) direction: Direction,
    pub(super) scope: Scope,
    pub(super) tier: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ListKey {
    place: Place,
    digest: Vec<u8>,
}

/// A list of policies that become one chain.
#[derive(Clone, Debug)]
pub(super) struct MergedList {
    key: ListKey,
    policies: Arc<[PolicyId]>,
}

impl MergedList {
    pub(super) fn new(place: Place, policies: Arc<[PolicyId]>) -> Self {
        let digest = digest(&policies);
        Self {
            key: ListKey { place, digest },
            policies,
        }
    }
}

/// Endpoints with the same list.
#[derive(Debug)]
struct Class {
    policies: Arc<[PolicyId]>,
    members: BTreeSet<Item>,
}

/// Id of a merged chain, with its direction.
pub(super) type BundleId = (Direction, String);

/// All lists that are merged.
#[derive(Debug, Default)]
pub(super) struct Bundles {
    classes: BTreeMap<ListKey, Class>,
    of_item: BTreeMap<Item, BTreeSet<ListKey>>,
    names: BTreeMap<BundleId, ListKey>,
    touched: BTreeSet<ListKey>,
}

/// What became of merged chains.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Chains with other content; some of them may be gone.
    pub(super) bundles: BTreeSet<BundleId>,
    /// Endpoints whose chain has another name.
    pub(super) items: BTreeSet<Item>,
}

impl Bundles {
    /// Sets the lists of an endpoint that are to be merged.
    pub(super) fn set(&mut self, item: &Item, lists: &[MergedList]) {
        let lists = lists
            .iter()
            .map(|list| (list.key.clone(), Arc::clone(&list.policies)));
        let lists: BTreeMap<ListKey, Arc<[PolicyId]>> = lists.collect();
        let before = self.of_item.remove(item).unwrap_or_default();
        for key in before.iter().filter(|key| !lists.contains_key(*key)) {
            if let Some(class) = self.classes.get_mut(key) {
                class.members.remove(item);
            }
            self.touched.insert(key.clone());
        }
        if lists.is_empty() {
            return;
        }
        self.of_item.insert(item.clone(), lists.keys().cloned().collect());
        for (key, policies) in lists {
            if before.contains(&key) {
                continue;
            }
            let class = self.classes.entry(key.clone()).or_insert_with(|| Class {
                policies,
                members: BTreeSet::new(),
            });
            class.members.insert(item.clone());
            self.touched.insert(key);
        }
    }

    /// Works out what the changes since the last call mean for chains.
    pub(super) fn settle(&mut self) -> Settled {
        let mut settled = Settled::default();
        let touched = std::mem::take(&mut self.touched);
        let stale: Vec<BundleId> = self
            .names
            .iter()
            .filter(|(_, key)| touched.contains(*key))
            .map(|(id, _)| id.clone())
            .collect();
        let mut before: BTreeMap<ListKey, BundleId> = BTreeMap::new();
        for id in stale {
            if let Some(key) = self.names.remove(&id) {
                before.insert(key, id.clone());
            }
            settled.bundles.insert(id);
        }
        for key in touched {
            let Some(class) = self.classes.get(&key) else {
                continue;
            };
            let Some(first) = class.members.first() else {
                self.classes.remove(&key);
                continue;
            };
            let id = bundle_id(first, &key.place);
            if before.get(&key) != Some(&id) {
                settled.items.extend(class.members.iter().cloned());
            }
            settled.bundles.insert(id.clone());
            self.names.insert(id, key);
        }
        settled
    }

    /// The merged chain of an endpoint at a place.
    pub(super) fn id_of(&self, item: &Item, place: &Place) -> Option<BundleId> {
        let keys = self.of_item.get(item)?;
        let key = keys.iter().find(|key| key.place == *place)?;
        let first = self.classes.get(key)?.members.first()?;
        Some(bundle_id(first, place))
    }

    /// Merged chains of an endpoint.
    pub(super) fn ids_of<'a>(&'a self, item: &Item) -> impl Iterator<Item = BundleId> + 'a {
        let keys = self.of_item.get(item).into_iter().flatten();
        keys.filter_map(|key| {
            let first = self.classes.get(key)?.members.first()?;
            Some(bundle_id(first, &key.place))
        })
    }

    /// All merged chains.
    pub(super) fn ids(&self) -> impl Iterator<Item = &BundleId> {
        self.names.keys()
    }

    /// The policies of a merged chain; none when it is gone.
    pub(super) fn policies(&self, id: &BundleId) -> Option<Arc<[PolicyId]>> {
        let class = self.classes.get(self.names.get(id)?)?;
        Some(Arc::clone(&class.policies))
    }
}

fn digest(policies: &[PolicyId]) -> Vec<u8> {
    let mut hasher = Sha224::new();
    for PolicyId { kind, key } in policies {
        for part in [kind.short(), &key.namespace, &key.name] {
            hasher.update(part);
            hasher.update([0]);
        }
    }
    hasher.finalize().to_vec()
}

fn bundle_id(first: &Item, place: &Place) -> BundleId {
    let (kind, key) = match first {
        Item::Pod(key) => ("pod", key),
        Item::Workload(key) => ("workload", key),
        Item::Host(key) => ("host", key),
        Item::NetworkSet(key) => ("set", key),
    };
    let text = format!(
        "{kind}/{}/{}/{}/{}",
        key.namespace,
        key.name,
        place.scope.as_str(),
        place.tier
    );
    let mut id = URL_SAFE_NO_PAD.encode(Sha224::digest(text));
    id.truncate(ID_LENGTH);
    (place.direction, id)
}

//! The default tiers and the ClusterInformation exist; a tier stays until no policy is in it.
//!
//! # Ownership
//! The finalizer `projectcalico.org/tier-controller` and the condition `Ready` of tiers; the three default tiers and
//! the ClusterInformation where they are missing. Existing values are kept.
//! Source: Calico's `kube-controllers/pkg/controllers/tier`, `libcalico-go/lib/clientv3/client.go`.

use std::collections::BTreeMap;

use caracal_api::meta::{FINALIZER_TIER, TIER_DEFAULT, TIER_KUBE_ADMIN, TIER_KUBE_BASELINE};
use caracal_api::v3::Tier;
use caracal_datastore::init;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::json;

use crate::cluster::{Cluster, Kind};
use crate::conditions::{self, Wanted};
use crate::context::{Again, Context, Controller};
use crate::lease::Error;

/// Policies that a message names.
const NAMED_MAX: usize = 3;

/// Something to do for the tiers.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make what every cluster has.
    EnsureDefaults,
    /// Say how the tier is.
    SetConditions {
        /// The tier.
        tier: String,
        /// The version that this was planned for.
        version: Option<String>,
        /// The whole list.
        conditions: Vec<Condition>,
    },
    /// Put ours to the finalizers, or take it away.
    SetFinalizers {
        /// The tier.
        tier: String,
        /// The version that this was planned for.
        version: Option<String>,
        /// The whole list.
        finalizers: Vec<String>,
    },
}

/// What is to be done for the tiers.
#[must_use]
pub fn plan(cluster: &Cluster, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    let defaults = [TIER_DEFAULT, TIER_KUBE_ADMIN, TIER_KUBE_BASELINE];
    let missing = defaults.iter().any(|name| !cluster.tiers.contains_key(*name));
    let informed = cluster.cluster_information.as_ref().is_some_and(|information| {
        let spec = &information.spec;
        !spec.cluster_guid.is_empty() && spec.datastore_ready.is_some() && !spec.cluster_type.is_empty()
    });
    if missing || !informed {
        actions.push(Action::EnsureDefaults);
    }
    let mut users: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (policy, tier) in &cluster.policies {
        users
            .entry(tier)
            .or_default()
            .push(format!("{} {}", policy.kind, policy.key));
    }
    for (name, tier) in &cluster.tiers {
        let users = users.get(name.as_str()).map_or(&[][..], Vec::as_slice);
        actions.extend(plan_tier(name, tier, users, now));
    }
    actions
}

fn plan_tier(name: &str, tier: &Tier, users: &[String], now: Timestamp) -> Option<Action> {
    let version = tier.metadata.resource_version.clone();
    let deleting = tier.metadata.deletion_timestamp.is_some();
    let wanted = if deleting {
        Wanted {
            type_: "Ready",
            holds: false,
            reason: "Terminating",
            message: held_by(users),
        }
    } else {
        Wanted {
            type_: "Ready",
            holds: true,
            reason: "OK",
            message: "policies of the tier are in force".to_owned(),
        }
    };
    let mut finalizers = tier.metadata.finalizers.clone().unwrap_or_default();
    let guarded = finalizers.iter().any(|finalizer| finalizer == FINALIZER_TIER);
    // A tier that may go needs no last word.
    if deleting && users.is_empty() {
        finalizers.retain(|finalizer| finalizer != FINALIZER_TIER);
        return guarded.then(|| Action::SetFinalizers {
            tier: name.to_owned(),
            version,
            finalizers,
        });
    }
    let existing = tier.status.as_ref().map_or(&[][..], |status| &status.conditions);
    if let Some(conditions) = conditions::with(existing, &wanted, tier.metadata.generation, now) {
        return Some(Action::SetConditions {
            tier: name.to_owned(),
            version,
            conditions,
        });
    }
    (!deleting && !guarded).then(|| {
        finalizers.push(FINALIZER_TIER.to_owned());
        Action::SetFinalizers {
            tier: name.to_owned(),
            version,
            finalizers,
        }
    })
}

fn held_by(users: &[String]) -> String {
    let named: Vec<&str> = users.iter().take(NAMED_MAX).map(String::as_str).collect();
    let rest = users.len().saturating_sub(NAMED_MAX);
    let more = if rest > 0 {
        format!(" and {rest} more")
    } else {
        String::new()
    };
    format!(
        "the tier is being deleted; {} policies are in it: {}{more}; delete them or move them to another tier",
        users.len(),
        named.join(", ")
    )
}

/// The controller.
#[derive(Debug, Default)]
pub struct Tiers;

impl Controller for Tiers {
    fn name(&self) -> &'static str {
        "tier"
    }

    fn wakes(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Tier | Kind::Policy | Kind::ClusterInformation)
    }

    fn run<'a>(&'a mut self, context: &'a Context<'a>) -> BoxFuture<'a, Result<Again, Error>> {
        async move {
            for action in plan(context.cluster, context.wall) {
                apply(context, action).await?;
            }
            Ok(None)
        }
        .boxed()
    }
}

async fn apply(context: &Context<'_>, action: Action) -> Result<(), Error> {
    match action {
        Action::EnsureDefaults => context.fence.write(init::ensure_defaults(context.client)).await,
        Action::SetConditions {
            tier,
            version,
            conditions,
        } => {
            let status = json!({"conditions": conditions});
            context
                .patch_status::<Tier>(&tier, version.as_deref(), status)
                .await
                .map(drop)
        }
        Action::SetFinalizers {
            tier,
            version,
            finalizers,
        } => {
            let fields = json!({"metadata": {"finalizers": finalizers}});
            context
                .patch::<Tier>(&tier, version.as_deref(), fields)
                .await
                .map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::PolicyKey;
    use caracal_api::v3::{ClusterInformation, ClusterInformationSpec, TierSpec, TierStatus};
    use caracal_datastore::Key;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn now() -> Timestamp {
        Timestamp::from_second(100).unwrap()
    }

    fn settled() -> Cluster {
        let mut cluster = Cluster::default();
        for name in ["default", "kube-admin", "kube-baseline", "mine"] {
            let mut tier = Tier::new(name, TierSpec::default());
            tier.metadata.finalizers = Some(vec![FINALIZER_TIER.to_owned()]);
            let wanted = Wanted {
                type_: "Ready",
                holds: true,
                reason: "OK",
                message: "policies of the tier are in force".to_owned(),
            };
            tier.status = Some(TierStatus {
                conditions: conditions::with(&[], &wanted, None, now()).unwrap(),
            });
            cluster.tiers.insert(name.to_owned(), tier);
        }
        let spec = ClusterInformationSpec {
            cluster_guid: "abc".to_owned(),
            cluster_type: "k8s,kdd".to_owned(),
            datastore_ready: Some(true),
            ..ClusterInformationSpec::default()
        };
        cluster.cluster_information = Some(ClusterInformation::new("default", spec));
        cluster
    }

    #[test]
    fn a_settled_cluster_needs_nothing_and_a_missing_tier_is_made() {
        let mut cluster = settled();
        assert_eq!(plan(&cluster, now()), []);
        cluster.tiers.remove("kube-admin");
        assert_eq!(plan(&cluster, now()), [Action::EnsureDefaults]);
        let mut cluster = settled();
        cluster.cluster_information = None;
        assert_eq!(plan(&cluster, now()), [Action::EnsureDefaults]);
    }

    #[test]
    fn a_tier_is_kept_by_its_policies_and_goes_without() {
        let mut cluster = settled();
        let tier = cluster.tiers.get_mut("mine").unwrap();
        tier.metadata.deletion_timestamp = Some(Time(now()));
        let policy = PolicyKey {
            kind: "NetworkPolicy",
            key: Key::namespaced("web", "p"),
        };
        cluster.policies.insert(policy.clone(), "mine".to_owned());
        let [Action::SetConditions { conditions, .. }] = &plan(&cluster, now())[..] else {
            panic!("{:?}", plan(&cluster, now()))
        };
        assert!(
            conditions[0].message.contains("NetworkPolicy web/p"),
            "{conditions:?}"
        );
        cluster.tiers.get_mut("mine").unwrap().status = Some(TierStatus {
            conditions: conditions.clone(),
        });
        assert_eq!(plan(&cluster, now()), [], "it waits");
        cluster.policies.remove(&policy);
        let [Action::SetFinalizers { finalizers, .. }] = &plan(&cluster, now())[..] else {
            panic!()
        };
        assert!(finalizers.is_empty());
    }
}

//! The life of pools: whether addresses are assigned from a pool, and that it stays until they all came back.
//!
//! # Ownership
//! The finalizer `projectcalico.org/ippool-finalizer` and the condition `Allocatable`.
//!
//! A pool that is being deleted assigns nothing any more; its blocks are taken from their nodes, empty ones go at once
//! and the others when their last address is released; then the pool goes. Of pools that overlap, one is used:
//! one that was in use before, then one that is terminating or disabled, then the older one, then by name.
//! Source: Calico's `kube-controllers/pkg/controllers/ippool`.

use std::cmp::Reverse;

use caracal_api::meta::FINALIZER_IP_POOL;
use caracal_api::net::overlaps;
use caracal_api::v3::{BlockAffinity, IPAMBlock, IPPool};
use caracal_datastore::ListOptions;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::json;

use crate::cluster::{Cluster, Kind};
use crate::conditions::{self, Wanted};
use crate::context::{Again, Context, Controller};
use crate::lease::Error;

const ALLOCATABLE: &str = "Allocatable";

/// Something to do for a pool.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Let it not go before its addresses came back.
    SetFinalizers {
        /// The pool.
        pool: String,
        /// The version that this was planned for.
        version: Option<String>,
        /// The whole list.
        finalizers: Vec<String>,
    },
    /// Say whether addresses are assigned from it.
    SetConditions {
        /// The pool.
        pool: String,
        /// The version that this was planned for.
        version: Option<String>,
        /// The whole list.
        conditions: Vec<Condition>,
    },
    /// It is being deleted: take its blocks from their owners, and let it go when none is left.
    WindDown {
        /// The pool.
        pool: String,
        /// Its addresses.
        cidr: Option<IpNet>,
        /// The version that this was planned for.
        version: Option<String>,
        /// Its finalizers without ours.
        finalizers: Vec<String>,
    },
}

/// What is to be done for the pools.
#[must_use]
pub fn plan(cluster: &Cluster, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    for (pool, wanted) in verdicts(cluster) {
        let name = pool.metadata.name.clone().unwrap_or_default();
        let version = pool.metadata.resource_version.clone();
        let existing = pool.status.as_ref().map_or(&[][..], |status| &status.conditions);
        if let Some(conditions) = conditions::with(existing, &wanted, pool.metadata.generation, now) {
            // The next version brings the rest.
            actions.push(Action::SetConditions {
                pool: name,
                version,
                conditions,
            });
            continue;
        }
        let mut finalizers = pool.metadata.finalizers.clone().unwrap_or_default();
        let guarded = finalizers.iter().any(|finalizer| finalizer == FINALIZER_IP_POOL);
        if pool.metadata.deletion_timestamp.is_none() {
            if !guarded {
                finalizers.push(FINALIZER_IP_POOL.to_owned());
                actions.push(Action::SetFinalizers {
                    pool: name,
                    version,
                    finalizers,
                });
            }
        } else if guarded {
            finalizers.retain(|finalizer| finalizer != FINALIZER_IP_POOL);
            actions.push(Action::WindDown {
                cidr: own_network(cluster, pool),
                pool: name,
                version,
                finalizers,
            });
        }
    }
    actions
}

/// Every pool with the condition that it should have, in the order in which overlaps are decided.
fn verdicts(cluster: &Cluster) -> Vec<(&IPPool, Wanted)> {
    let mut pools: Vec<&IPPool> = cluster.pools.values().collect();
    pools.sort_by_cached_key(|pool| {
        let created = pool.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (Reverse(standing(pool)), created, pool.metadata.name.clone())
    });
    let mut winners: Vec<(IpNet, &str)> = Vec::new();
    let mut verdicts = Vec::new();
    for pool in pools {
        let name = pool.metadata.name.as_deref().unwrap_or_default();
        let net = pool.spec.network();
        let rival = net.and_then(|net| winners.iter().find(|(other, _)| overlaps(other, &net)));
        let say = |holds, reason, message: String| Wanted {
            type_: ALLOCATABLE,
            holds,
            reason,
            message,
        };
        let wanted = if pool.metadata.deletion_timestamp.is_some() {
            say(
                false,
                "Terminating",
                "the pool is being deleted; it goes when its last address is released".to_owned(),
            )
        } else if pool.spec.disabled {
            say(false, "PoolDisabled", "spec.disabled is true".to_owned())
        } else if net.is_none() {
            say(
                false,
                "InvalidCIDR",
                format!(
                    "spec.cidr {:?} is no CIDR; delete the pool and make it anew",
                    pool.spec.cidr
                ),
            )
        } else if let Some((other, rival)) = rival {
            say(
                false,
                "CIDROverlap",
                format!(
                    "{} overlaps with {other} of IPPool {rival}, which is used; delete one of them, or disable this one",
                    pool.spec.cidr
                ),
            )
        } else {
            say(true, "OK", "addresses are assigned from the pool".to_owned())
        };
        if let (Some(net), None) = (net, rival) {
            winners.push((net, name));
        }
        verdicts.push((pool, wanted));
    }
    verdicts
}

/// How strong a pool's claim to its addresses is.
fn standing(pool: &IPPool) -> u8 {
    let conditions = pool.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let condition = conditions.iter().find(|condition| condition.type_ == ALLOCATABLE);
    if pool.metadata.deletion_timestamp.is_some() {
        // One that never was in use has no claim that it could keep.
        if condition.is_some_and(|condition| condition.reason == "CIDROverlap") {
            0
        } else {
            2
        }
    } else if pool.spec.disabled {
        1
    } else if condition.is_some_and(|condition| condition.status == "True") {
        3
    } else {
        0
    }
}

/// The addresses that are this pool's to take back: not those that overlap with another pool in use.
fn own_network(cluster: &Cluster, pool: &IPPool) -> Option<IpNet> {
    let net = pool.spec.network()?;
    let shared = cluster.pools.values().any(|other| {
        other.metadata.name != pool.metadata.name
            && other.metadata.deletion_timestamp.is_none()
            && other.spec.network().is_some_and(|other| overlaps(&other, &net))
            && standing(other) == 3
    });
    (!shared).then_some(net)
}

/// The controller.
#[derive(Debug, Default)]
pub struct Pools;

impl Controller for Pools {
    fn name(&self) -> &'static str {
        "ippool"
    }

    fn wakes(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Pool | Kind::Block | Kind::Affinity)
    }

    fn run<'a>(&'a mut self, context: &'a Context<'a>) -> BoxFuture<'a, Result<Again, Error>> {
        async move {
            context.metrics.pools.reset();
            for (pool, wanted) in verdicts(context.cluster) {
                let name = pool.metadata.name.as_deref().unwrap_or_default();
                context
                    .metrics
                    .pools
                    .with_label_values(&[name, wanted.reason])
                    .set(i64::from(wanted.holds));
            }
            let mut failed = None;
            for action in plan(context.cluster, context.wall) {
                // One pool that cannot be written does not keep the others.
                if let Err(error) = Box::pin(apply(context, action)).await {
                    if matches!(error, Error::NotLeader) {
                        return Err(error);
                    }
                    failed = Some(error);
                }
            }
            failed.map_or(Ok(None), Err)
        }
        .boxed()
    }
}

async fn apply(context: &Context<'_>, action: Action) -> Result<(), Error> {
    match action {
        Action::SetFinalizers {
            pool,
            version,
            finalizers,
        } => {
            let fields = json!({"metadata": {"finalizers": finalizers}});
            context
                .patch::<IPPool>(&pool, version.as_deref(), fields)
                .await
                .map(drop)
        }
        Action::SetConditions {
            pool,
            version,
            conditions,
        } => {
            let status = json!({"conditions": conditions});
            context
                .patch_status::<IPPool>(&pool, version.as_deref(), status)
                .await
                .map(drop)
        }
        Action::WindDown {
            pool,
            cidr,
            version,
            finalizers,
        } => {
            if let Some(cidr) = cidr
                && !Box::pin(wind_down(context, &pool, &cidr)).await?
            {
                return Ok(());
            }
            context.fence.confirm().await?;
            let fields = json!({"metadata": {"finalizers": finalizers}});
            if context.patch::<IPPool>(&pool, version.as_deref(), fields).await? {
                tracing::info!(pool, "pool has no addresses left and goes");
            }
            Ok(())
        }
    }
}

/// Takes the blocks of a prefix from their owners; true when none is left. Read anew: watches may lag behind.
async fn wind_down(context: &Context<'_>, pool: &str, cidr: &IpNet) -> Result<bool, Error> {
    let all = ListOptions::default();
    let affinities: Vec<BlockAffinity> = context.client.list(None, &all).await?;
    for affinity in &affinities {
        let Ok(block) = affinity.spec.cidr.parse::<IpNet>() else {
            continue;
        };
        if affinity.spec.deleted || !cidr.contains(&block) {
            continue;
        }
        let node = &affinity.spec.node;
        let release = context.ipam.release_affinity(&block, node, false);
        match context.fence.write(release).await {
            Ok(()) => {
                tracing::info!(pool, node, block = %block, "block taken from its node, the pool is being deleted")
            }
            Err(Error::NotLeader) => return Err(Error::NotLeader),
            Err(error) => {
                tracing::warn!(pool, node, block = %block, error = %error, "block not taken from its node")
            }
        }
    }
    let blocks: Vec<IPAMBlock> = context.client.list(None, &all).await?;
    let left = blocks
        .iter()
        .filter(|block| !block.spec.deleted)
        .filter_map(|block| block.spec.cidr.parse::<IpNet>().ok())
        .any(|block| cidr.contains(&block));
    Ok(!left)
}

#[cfg(test)]
mod tests;

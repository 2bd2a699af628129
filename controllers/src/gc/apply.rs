//! Carrying a plan out: everything is read anew before it is taken away.

use std::time::{Duration, Instant};

use caracal_api::confirmation::{ANSWER_ANNOTATION, QUESTION_ANNOTATION, Question};
use caracal_api::names::block_name;
use caracal_api::v3::{IPAMBlock, IPAMConfiguration};
use caracal_datastore::Preconditions;
use caracal_ipam::{Block, Release};
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::allocations::{Allocation, Holder};
use super::plan::{Ask, Memory, Plan, Reclaim};
use super::usage::pool_of;
use super::verdict::{Verdict, of_pod};
use crate::cluster::PodView;
use crate::context::Context;
use crate::lease::Error;

/// Most handles freed in one go, as Calico's.
const RECLAIMS_MAX: usize = 10_000;
/// Longest time in one go: changes wait meanwhile.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Handles freed between two readings of the Lease.
const CONFIRM_EVERY: usize = 50;

/// Carries a plan out. False when there was more than fits into one go.
pub(super) async fn apply(context: &Context<'_>, memory: &mut Memory, plan: Plan) -> Result<bool, Error> {
    let began = Instant::now();
    for node in &plan.unlabelled {
        let labelled = context.fence.write(context.ipam.upgrade_host(node)).await?;
        tracing::info!(node, labelled, "claims of a node labelled");
    }
    for ask in &plan.ask {
        put(context, memory, ask).await?;
    }
    for (index, reclaim) in plan.reclaim.iter().enumerate() {
        if index >= RECLAIMS_MAX || began.elapsed() > TIME_MAX {
            return Ok(false);
        }
        if index % CONFIRM_EVERY == 0 {
            context.fence.confirm().await?;
        }
        if is_still_leaked(context, reclaim).await? {
            free(context, reclaim).await?;
        }
    }
    for cidr in &plan.cooled {
        tolerated(collect(context, cidr).await, cidr)?;
    }
    for (cidr, node) in &plan.empty {
        let release = context.ipam.release_affinity(cidr, node, true);
        if tolerated(context.fence.write(release).await, cidr)?.is_some() {
            tracing::info!(node, block = %cidr, "empty block taken from its node");
        }
    }
    for node in &plan.nodes {
        clean_up(context, node).await?;
    }
    Ok(true)
}

/// Puts a question to a node, or takes it away.
async fn put(context: &Context<'_>, memory: &mut Memory, ask: &Ask) -> Result<(), Error> {
    let id = context.wall.as_nanosecond().to_string();
    let value = if ask.addresses.is_empty() {
        Value::Null
    } else {
        let question = Question {
            id: id.clone(),
            addresses: ask.addresses.clone(),
        };
        serde_json::to_string(&question).map_or(Value::Null, Value::String)
    };
    let mut annotations = json!({QUESTION_ANNOTATION: value});
    if value_is_null(&annotations) {
        // A node that runs no agent of ours any more cannot take its answer away.
        annotations[ANSWER_ANNOTATION] = Value::Null;
    }
    let patch = json!({"metadata": {"annotations": annotations}});
    let write = context.client.patch_status::<Node>(None, &ask.node, &patch);
    if context.settled(context.fence.write(write).await)? {
        memory.was_asked(ask, &id, context.now);
        tracing::debug!(
            node = ask.node,
            addresses = ask.addresses.len(),
            "asked a node about addresses"
        );
    }
    Ok(())
}

fn value_is_null(annotations: &Value) -> bool {
    annotations.get(QUESTION_ANNOTATION).is_none_or(Value::is_null)
}

/// Reads pods and nodes anew: the watches may lag behind.
async fn is_still_leaked(context: &Context<'_>, reclaim: &Reclaim) -> Result<bool, Error> {
    for allocation in &reclaim.allocations {
        let node = &allocation.node;
        let was_gone = !node.is_empty() && !context.cluster.nodes.contains_key(node);
        if was_gone && context.client.get::<Node>(None, node).await?.is_some() {
            return Ok(false);
        }
        let leaked = match &allocation.holder {
            Holder::Pod { namespace, name } => {
                let pod: Option<Pod> = context.client.get(Some(namespace), name).await?;
                let view = pod.as_ref().map(PodView::of);
                matches!(
                    of_pod(view.as_ref(), node, allocation.id.address),
                    Verdict::Leaked(_)
                )
            }
            Holder::Node => was_gone,
            Holder::Machine | Holder::Windows | Holder::Other => false,
        };
        if !leaked {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn free(context: &Context<'_>, reclaim: &Reclaim) -> Result<(), Error> {
    let releases: Vec<Release> = reclaim
        .allocations
        .iter()
        .map(|allocation| Release {
            address: allocation.id.address,
            handle: allocation.id.handle.clone(),
            sequence_number: Some(allocation.id.sequence_number),
        })
        .collect();
    let outcome = context.fence.write(context.ipam.release_ips(&releases)).await;
    let about = reclaim.allocations.first().map(|allocation| allocation.block);
    let Some(released) = tolerated(outcome, &about.unwrap_or_default())? else {
        return Ok(());
    };
    for allocation in &reclaim.allocations {
        let Allocation { id, node, holder, .. } = allocation;
        if released.released.contains(&id.address) {
            let pool = pool_of(context.cluster, &allocation.block);
            context
                .metrics
                .gc_reclamations
                .with_label_values(&[pool.as_str(), super::usage::node_label(node)])
                .inc();
            let (namespace, pod) = match holder {
                Holder::Pod { namespace, name } => (namespace.as_str(), name.as_str()),
                Holder::Node | Holder::Machine | Holder::Windows | Holder::Other => ("", ""),
            };
            tracing::info!(
                address = %id.address,
                node,
                namespace,
                pod,
                handle = id.handle.as_deref().unwrap_or_default(),
                reason = reclaim.reason,
                "leaked address freed"
            );
        }
    }
    Ok(())
}

/// Writes a block so that addresses whose cooldown is over can be assigned again; one that is empty and nobody's goes.
async fn collect(context: &Context<'_>, cidr: &IpNet) -> Result<(), Error> {
    let name = block_name(cidr);
    let Some(stored) = context.client.get::<IPAMBlock>(None, &name).await? else {
        return Ok(());
    };
    let configuration: Option<IPAMConfiguration> = context.client.get(None, "default").await?;
    let cooldown = configuration.map_or(0, |configuration| configuration.spec.ip_cooldown_seconds);
    let mut block = Block::from_spec(stored.spec.clone()).map_err(Error::Ipam)?;
    block.collect(cooldown, Timestamp::now());
    if *block.spec() == stored.spec {
        return Ok(());
    }
    let goes = block.is_empty() && block.spec().affinity.is_none();
    block.bump();
    let mut spec = block.into_spec();
    spec.deleted |= goes;
    let object = IPAMBlock { spec, ..stored };
    let written = match context.fence.write(context.client.update(&object)).await {
        Ok(written) => written,
        outcome => {
            context.settled(outcome)?;
            return Ok(());
        }
    };
    if goes {
        // Marked as deleted it is gone for everybody; the object itself follows.
        let preconditions = Preconditions {
            uid: written.metadata.uid,
            resource_version: written.metadata.resource_version,
        };
        let delete = context.client.delete::<IPAMBlock>(None, &name, preconditions);
        context.settled(context.fence.write(delete).await)?;
    }
    Ok(())
}

/// Takes the blocks from a node that is gone.
async fn clean_up(context: &Context<'_>, node: &str) -> Result<(), Error> {
    if context.client.get::<Node>(None, node).await?.is_some() {
        return Ok(());
    }
    context.fence.confirm().await?;
    let release = context.ipam.release_host_affinities(node, true);
    let outcome = context.fence.write(release).await?;
    if !outcome.released.is_empty() {
        tracing::info!(
            node,
            blocks = outcome.released.len(),
            "blocks taken from a node that is gone"
        );
    }
    for (cidr, error) in outcome.kept {
        // Addresses that other nodes borrowed: the block follows when they come back.
        tracing::debug!(node, block = %cidr, error = %error, "block stays for now");
    }
    Ok(())
}

/// Takes an answer about one block or address as it is: it does not keep others from being dealt with. What changes
/// wakes the controller again.
fn tolerated<T>(result: Result<T, Error>, block: &IpNet) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Ipam(error)) if !matches!(error, caracal_ipam::Error::Datastore(_)) => {
            tracing::debug!(block = %block, error = %error, "left alone");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

//! The routes that the node originates: its blocks.
//!
//! Only confirmed affinities count: a claim that is not confirmed may still go to another node.

use std::collections::BTreeSet;

use caracal_bgpd_core::config::Originate;
use ipnet::IpNet;

use crate::kernel;
use crate::local::Local;
use crate::problem::Problems;
use crate::services::Advertised;
use crate::snapshot::Snapshot;

/// What the node owns.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Its confirmed blocks.
    pub(crate) blocks: BTreeSet<IpNet>,
}

impl Own {
    pub(crate) fn new(snapshot: &Snapshot, local: &Local<'_>, problems: &mut Problems) -> Self {
        let mut own = Self::default();
        for (name, affinity) in &snapshot.affinities {
            let is_host = matches!(affinity.type_.as_str(), "" | "host");
            let is_mine = affinity.node == local.name && is_host && !affinity.deleted;
            if !is_mine || !affinity.state.is_confirmed() {
                continue;
            }
            match affinity.cidr.parse::<IpNet>() {
                Ok(net) => drop(own.blocks.insert(net.trunc())),
                Err(_) => {
                    let object = format!("BlockAffinity {name}");
                    let remedy = "release the block and delete the affinity";
                    problems.add(&object, "spec.cidr", &affinity.cidr, "is no CIDR", remedy);
                }
            }
        }
        own
    }
}

/// The originated routes, each once. A block of one address goes out as the workload's own route instead.
pub(crate) fn routes(
    snapshot: &Snapshot,
    local: &Local<'_>,
    own: &Own,
    advertised: &Advertised,
) -> Vec<Originate> {
    let blocks = own
        .blocks
        .iter()
        .filter(|block| block.prefix_len() < block.max_prefix_len());
    let mut routes: Vec<Originate> = blocks
        .map(|block| Originate {
            blackhole: has_blackhole(snapshot, local, block),
            ..originate(*block)
        })
        .collect();
    let services = advertised.routes.iter().filter(|net| !own.blocks.contains(*net));
    routes.extend(services.map(|net| originate(*net)));
    routes
}

fn originate(prefix: IpNet) -> Originate {
    Originate {
        prefix,
        communities: Vec::new(),
        med: None,
        metric: None,
        blackhole: false,
    }
}

/// Whoever programs the routes of a pool also programs the blackholes of the node's blocks in it. A block outside of
/// all pools (its pool is gone) has nobody else.
fn has_blackhole(snapshot: &Snapshot, local: &Local<'_>, block: &IpNet) -> bool {
    let mut pools = snapshot.pools.values();
    pools
        .find(|pool| pool.network().is_some_and(|net| net.contains(block)))
        .is_none_or(|pool| kernel::is_programmed_here(snapshot, local, pool))
}

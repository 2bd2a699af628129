//! From the chosen paths to the kernel route (RFC 4271 §3.2: the routing table), through the kernel export policy.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::output::{KernelRoute, NextHop, Target};
use crate::policy::Source;
use crate::policy::eval::{self, Chain, Outcome};
use crate::rib::path::{Origin, Path};
use crate::rib::table::Entry;

/// Returns what the kernel should have for a prefix. Routes of the host are there without our doing.
pub(super) fn route(chain: &Chain, prefix: &IpNet, entry: &Entry) -> Option<KernelRoute> {
    let best = entry.best()?;
    match best.origin {
        Origin::Host(_) | Origin::Static { blackhole: false } => None,
        Origin::Static { blackhole: true } => {
            let outcome = accept(chain, prefix, best)?;
            Some(KernelRoute {
                target: Target::Blackhole,
                metric: outcome.metric.or(best.metric),
            })
        }
        Origin::Peer(_) => {
            let outcome = accept(chain, prefix, best)?;
            let equals = entry.selection.iter().flat_map(|selection| &selection.equals);
            let next_hops: BTreeSet<NextHop> = equals
                .filter_map(|index| entry.paths.get(*index))
                .filter(|path| path.source() == Source::Bgp)
                .filter_map(|path| next_hop(path, accept(chain, prefix, path)?))
                .collect();
            (!next_hops.is_empty()).then(|| KernelRoute {
                target: Target::NextHops(next_hops.into_iter().collect()),
                metric: outcome.metric.or(best.metric),
            })
        }
    }
}

fn accept(chain: &Chain, prefix: &IpNet, path: &Path) -> Option<Outcome> {
    let route = eval::Route {
        prefix: *prefix,
        source: path.source(),
        peer_type: None,
        interface: path.interface.as_deref(),
        next_hop: path.next_hop.map(|hop| hop.address),
        metric: path.metric,
        attrs: &path.attrs,
    };
    eval::evaluate(chain, &route)
}

fn next_hop(path: &Path, outcome: Outcome) -> Option<NextHop> {
    let hop = path.next_hop?;
    let device = outcome
        .device
        .or_else(|| path.device.as_deref().map(str::to_owned));
    Some(NextHop {
        address: hop.address,
        device,
    })
}

//! From the chosen paths to the kernel route (RFC 4271 §3.2: the routing table), through the kernel export policy.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::output::{KernelRoute, NextHop, Target};
use crate::policy::Source;
use crate::policy::eval::{self, Chain, Outcome};
use crate::rib::decision::Selection;
use crate::rib::path::Path;
use crate::rib::way::Way;

/// Returns what the kernel should have for a prefix. Routes of the host are there without our doing.
pub(super) fn route(
    chain: &Chain,
    prefix: &IpNet,
    paths: &[Path],
    selection: Option<&Selection>,
) -> Option<KernelRoute> {
    let selection = selection?;
    let best = &*paths.get(selection.best)?.used;
    match best.source {
        Source::Direct | Source::Kernel => None,
        Source::Static if !best.blackhole => None,
        Source::Static => {
            let outcome = accept(chain, prefix, best)?;
            Some(KernelRoute {
                target: Target::Blackhole,
                metric: outcome.metric.or(best.metric()),
            })
        }
        Source::Bgp => {
            let outcome = accept(chain, prefix, best)?;
            let equals = selection.equals.iter().filter_map(|index| paths.get(*index));
            let next_hops: BTreeSet<NextHop> = equals
                .map(|path| &*path.used)
                .filter(|way| way.source == Source::Bgp)
                .filter_map(|way| next_hop(way, accept(chain, prefix, way)?))
                .collect();
            (!next_hops.is_empty()).then(|| KernelRoute {
                target: Target::NextHops(next_hops.into_iter().collect()),
                metric: outcome.metric.or(best.metric()),
            })
        }
    }
}

fn accept(chain: &Chain, prefix: &IpNet, way: &Way) -> Option<Outcome> {
    let route = eval::Route {
        prefix: *prefix,
        source: way.source,
        peer_type: None,
        interface: way.interface(),
        next_hop: way.next_hop().map(|hop| hop.address),
        metric: way.metric(),
        attrs: &way.attrs,
    };
    eval::evaluate(chain, &route)
}

fn next_hop(way: &Way, outcome: Outcome) -> Option<NextHop> {
    let hop = way.next_hop()?;
    let device = outcome.device.or_else(|| way.device().map(str::to_owned));
    Some(NextHop {
        address: hop.address,
        device,
    })
}

//! Which best routes go into this node's kernel, with what metric and over which device.
//!
//! Source: Calico `bird_ipam.cfg.template`, filter `calico_kernel_programming`. Who programs a class of pools is
//! decided by `caracal_api::routing`, which the node agent asks too.

use caracal_api::routing::{PoolClass, RouteOwner, cluster_route_owner, pool_class};
use caracal_api::v3::{EncapsulationMode, IPPoolSpec};
use caracal_api::virtual_::node::Node;
use caracal_bgpd_core::policy::{Action, Match, Policy, Source, Term, Verdict};
use ipnet::IpNet;

use crate::export::{families, scale, term, within};
use crate::local::{Local, program_cluster_routes};
use crate::services::Advertised;
use crate::snapshot::Snapshot;

/// Name of the policy.
pub(crate) const KERNEL: &str = "kernel";
/// Device of IP-in-IP.
const IPIP_DEVICE: &str = "tunl0";

pub(crate) fn policy(snapshot: &Snapshot, local: &Local<'_>, advertised: &Advertised) -> Policy {
    let mut terms = Vec::new();
    let own = Match {
        sources: vec![Source::Static],
        ..Match::default()
    };
    terms.push(term("own blocks", own, Vec::new(), Verdict::Accept));
    let services = advertised.everything();
    if !services.is_empty() {
        terms.push(term(
            "service addresses",
            within(&services),
            Vec::new(),
            Verdict::Reject,
        ));
    }
    for (family, v4) in families() {
        let learned = Match {
            family: Some(family),
            sources: vec![Source::Bgp],
            ..Match::default()
        };
        let actions = vec![Action::MetricFromLocalPref(scale(local, v4))];
        terms.push(term("metric from LOCAL_PREF", learned, actions, Verdict::Next));
    }
    let encrypted = encrypted_next_hops(snapshot, local);
    if !encrypted.is_empty() {
        let matches = Match {
            next_hops: encrypted,
            ..Match::default()
        };
        terms.push(term(
            "nodes reached by WireGuard",
            matches,
            Vec::new(),
            Verdict::Reject,
        ));
    }
    let (felix, bgp) = program_cluster_routes(snapshot, local.name);
    for (name, pool) in &snapshot.pools {
        let owner = cluster_route_owner(pool_class(pool), felix.as_ref(), bgp.as_ref());
        if let Some(net) = pool.network() {
            terms.extend(pool_terms(local, name, pool, net, owner));
        }
    }
    Policy { terms }
}

/// Whether this speaker programs routes of the pool, so that the blackholes of own blocks are its business as well.
pub(crate) fn is_programmed_here(snapshot: &Snapshot, local: &Local<'_>, pool: &IPPoolSpec) -> bool {
    let (felix, bgp) = program_cluster_routes(snapshot, local.name);
    cluster_route_owner(pool_class(pool), felix.as_ref(), bgp.as_ref()) == RouteOwner::Bgp
}

fn pool_terms(local: &Local<'_>, name: &str, pool: &IPPoolSpec, net: IpNet, owner: RouteOwner) -> Vec<Term> {
    let label = |what: &str| format!("pool {name}: {what}");
    if owner != RouteOwner::Bgp {
        return vec![term(
            label("programmed by others"),
            within(&[net]),
            Vec::new(),
            Verdict::Reject,
        )];
    }
    if pool_class(pool) != PoolClass::Ipip {
        return vec![term(
            label("no encapsulation"),
            within(&[net]),
            Vec::new(),
            Verdict::Accept,
        )];
    }
    let mut terms = Vec::new();
    let subnet = local.network(true).map(|net| net.trunc());
    if pool.effective_ipip_mode() == EncapsulationMode::CrossSubnet
        && let Some(subnet) = subnet
    {
        let mut same_subnet = within(&[net]);
        same_subnet.next_hops = vec![subnet];
        terms.push(term(
            label("own subnet"),
            same_subnet,
            Vec::new(),
            Verdict::Accept,
        ));
    }
    let device = vec![Action::SetDevice(IPIP_DEVICE.to_owned())];
    terms.push(term(label("IP-in-IP"), within(&[net]), device, Verdict::Accept));
    terms
}

/// Addresses of nodes that this node reaches by WireGuard; none when it has no WireGuard itself.
fn encrypted_next_hops(snapshot: &Snapshot, local: &Local<'_>) -> Vec<IpNet> {
    let has_wireguard =
        |node: &Node| node.spec.wireguard.is_some() && !node.status.wireguard_public_key.is_empty();
    if !has_wireguard(local.node) {
        return Vec::new();
    }
    let others = snapshot.nodes.values().filter(|node| node.name() != local.name);
    others
        .filter(|node| has_wireguard(node))
        .filter_map(Node::ipv4)
        .map(|net| IpNet::from(net.addr()))
        .collect()
}

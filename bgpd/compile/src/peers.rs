//! BGPPeers: the sessions with the ends that they lead to, and how each is held.
//!
//! Source: Calico `confd/pkg/backends/calico/client.go`, updatePeersV1.

use std::collections::BTreeSet;
use std::net::IpAddr;

use caracal_api::v3::{BGPPeerSpec, FailureDetectionMode, NextHopMode, SourceAddress};
use caracal_api::virtual_::node::Node;
use caracal_bgpd_core::bfd;
use caracal_bgpd_core::config::{self, Peer};
use ipnet::IpNet;

use crate::compiled::StaticRoute;
use crate::extensions::Extensions;
use crate::filters::Filters;
use crate::local::Local;
use crate::mesh::is_passive;
use crate::problem::Problems;
use crate::selection::Selected;
use crate::session;
use crate::snapshot::Snapshot;
use crate::targets::{Class, Target, targets};

/// Sessions and the routes that lead to their peers.
#[derive(Default)]
pub(crate) struct Peers {
    pub(crate) peers: Vec<Peer>,
    pub(crate) routes: Vec<StaticRoute>,
}

/// The sessions of the node that BGPPeers ask for.
pub(crate) fn peers(
    snapshot: &Snapshot,
    local: &Local<'_>,
    filters: &mut Filters<'_>,
    selected: &mut Selected,
    problems: &mut Problems,
) -> Peers {
    let mut wanted = Vec::new();
    for (name, spec) in &snapshot.peers {
        let object = format!("BGPPeer {name}");
        if let Some(targets) = targets(snapshot, local, &object, spec, selected, problems) {
            wanted.extend(
                targets
                    .into_iter()
                    .map(|(class, target)| (class, object.clone(), spec, target)),
            );
        }
    }
    // A stable sort: within a class the order of the objects' names stays.
    wanted.sort_by_key(|(class, ..)| *class);
    let mut result = Peers::default();
    let mut seen = BTreeSet::new();
    for (class, object, spec, target) in wanted {
        let is_own = [true, false]
            .iter()
            .any(|v4| local.address(*v4) == Some(target.address));
        if is_own || !seen.insert((target.address, target.range, target.port)) {
            continue;
        }
        let peer = session_of(snapshot, local, class, &object, spec, &target, filters, problems);
        result
            .routes
            .extend(reachable_by(&object, spec, target.address, problems));
        result.peers.push(peer);
    }
    result
}

#[expect(
    clippy::too_many_arguments,
    reason = "one place turns all that is known into a peer"
)]
fn session_of(
    snapshot: &Snapshot,
    local: &Local<'_>,
    class: Class,
    object: &str,
    spec: &BGPPeerSpec,
    target: &Target<'_>,
    filters: &mut Filters<'_>,
    problems: &mut Problems,
) -> Peer {
    let class_name = match class {
        Class::Global => "Global",
        Class::Node | Class::Reverse => "Node",
        Class::Workload => "Local_Workload",
    };
    let name = match target.range {
        Some(range) => format!("Range_{}", range.to_string().replace(['.', ':', '/'], "_")),
        None => session::name(class_name, target.address, target.named_port),
    };
    let mut peer = session::peer(local, name, target.address, target.port, target.remote_as);
    peer.listen_range = target.range;
    let own = peer.local_address;
    if spec.source_address == Some(SourceAddress::None) || class == Class::Workload {
        peer.local_address = None;
    }
    if let Some(own) = own {
        peer.passive = class == Class::Global
            && target.node.is_some()
            && is_passive(&target.address.to_string(), &own.to_string());
    }
    if class == Class::Workload {
        peer.passive = true;
    }
    peer.local_as = spec
        .local_as_number
        .map(|number| number.0)
        .filter(|number| *number != 0 && *number != local.local_as);
    let is_internal = peer.local_as.unwrap_or(local.local_as) == target.remote_as;
    peer.reflector_client = local.cluster_id.filter(|own| {
        let theirs = target.node.and_then(Node::route_reflector_cluster_id);
        is_internal && theirs != Some(*own)
    });
    peer.next_hop = match spec.next_hop_mode {
        Some(NextHopMode::Keep) => config::NextHopMode::Keep,
        Some(NextHopMode::Self_) => config::NextHopMode::Own,
        // The older field speaks of sessions with another AS only.
        _ if spec.keep_original_next_hop && !is_internal => config::NextHopMode::Keep,
        _ => config::NextHopMode::Auto,
    };
    peer.bfd = match spec.failure_detection_mode {
        Some(FailureDetectionMode::BFDIfDirectlyConnected) => Some(bfd::Settings {
            mode: bfd::Mode::IfDirect,
            ..bfd::Settings::default()
        }),
        _ => None,
    };
    set_numbers(object, spec, &mut peer, problems);
    Extensions::new(spec, object, problems).apply(spec, &mut peer);
    if class == Class::Workload {
        peer.ttl_security_hops = None;
    }
    let secret = "spec.password.secretKeyRef";
    session::set_password(
        snapshot,
        &mut peer,
        spec.password.as_ref(),
        (object, secret),
        problems,
    );
    let (import, export) = filters.for_peer(object, &spec.filters, problems);
    session::set_policies(local, &mut peer, import, export);
    peer
}

fn set_numbers(object: &str, spec: &BGPPeerSpec, peer: &mut Peer, problems: &mut Problems) {
    peer.ttl_security_hops = spec.ttl_security.filter(|hops| *hops != 0);
    if let Some(255) = peer.ttl_security_hops {
        let remedy = "use 1 to 254; 254 is used meanwhile";
        problems.add(object, "spec.ttlSecurity", 255, "lets everything through", remedy);
        peer.ttl_security_hops = Some(254);
    }
    let time = spec.max_restart_time.as_ref();
    if let Some(seconds) = session::restart_seconds(time, object, "spec.maxRestartTime", problems) {
        peer.graceful_restart_seconds = seconds;
    }
    let time = spec.keepalive_time.as_ref();
    peer.timers.keepalive_seconds =
        session::seconds(time, u64::from(u16::MAX), object, "spec.keepaliveTime", problems)
            .filter(|seconds| *seconds > 0);
    if let Some(count) = spec.num_allowed_local_as_numbers {
        match u8::try_from(count) {
            Ok(count) => peer.allow_own_as = count,
            Err(_) => {
                let remedy = "use 0 to 255; 0 is used meanwhile";
                problems.add(
                    object,
                    "spec.numAllowedLocalASNumbers",
                    count,
                    "is out of range",
                    remedy,
                );
            }
        }
    }
}

fn reachable_by(
    object: &str,
    spec: &BGPPeerSpec,
    peer: IpAddr,
    problems: &mut Problems,
) -> Option<StaticRoute> {
    if spec.reachable_by.is_empty() {
        return None;
    }
    match spec.reachable_by.parse::<IpAddr>() {
        Ok(gateway) if gateway.is_ipv4() == peer.is_ipv4() && gateway != peer => Some(StaticRoute {
            prefix: IpNet::from(peer),
            gateway,
        }),
        _ => {
            let remedy = "use the address of a gateway on a connected network, of the family of peerIP";
            problems.add(
                object,
                "spec.reachableBy",
                &spec.reachable_by,
                "is no gateway to the peer",
                remedy,
            );
            None
        }
    }
}

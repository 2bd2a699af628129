//! The full mesh: a session with every other node, except from and to route reflectors.
//!
//! Source: Calico `confd/pkg/backends/calico/bgp_processor.go`, processMeshPeers.

use caracal_bgpd_core::config::Peer;

use crate::local::Local;
use crate::problem::Problems;
use crate::session;
use crate::snapshot::Snapshot;

const OBJECT: &str = "BGPConfiguration default";

/// The mesh sessions of the node.
pub(crate) fn peers(snapshot: &Snapshot, local: &Local<'_>, problems: &mut Problems) -> Vec<Peer> {
    let is_on = local.global.node_to_node_mesh_enabled.unwrap_or(true);
    if !is_on || local.cluster_id.is_some() {
        return Vec::new();
    }
    let time = local.global.node_mesh_max_restart_time.as_ref();
    let restart = session::restart_seconds(time, OBJECT, "spec.nodeMeshMaxRestartTime", problems);
    let mut peers = Vec::new();
    for (name, node) in &snapshot.nodes {
        if name == local.name || node.route_reflector_cluster_id().is_some() {
            continue;
        }
        for v4 in [true, false] {
            let theirs = if v4 { node.ipv4() } else { node.ipv6() };
            let (Some(theirs), Some(own)) = (theirs, local.address(v4)) else {
                continue;
            };
            let address = theirs.addr();
            if address == own {
                let object = format!("Node {name}");
                let remedy = format!("give node {name} or node {} its own address", local.name);
                problems.add(&object, "BGP address", address, "is also this node's", remedy);
                continue;
            }
            // The AS number of a node that has none is this node's, not the cluster's.
            let remote_as = node.as_number().map_or(local.local_as, |number| number.0);
            let port = local.port_of(snapshot, name);
            let mut peer = session::peer(
                local,
                session::name("Mesh", address, None),
                address,
                port,
                remote_as,
            );
            peer.passive = is_passive(&address.to_string(), &own.to_string());
            if let Some(restart) = restart {
                peer.graceful_restart_seconds = restart;
            }
            let password = local.global.node_mesh_password.as_ref();
            session::set_password(
                snapshot,
                &mut peer,
                password,
                (OBJECT, "spec.nodeMeshPassword.secretKeyRef"),
                problems,
            );
            session::set_policies(local, &mut peer, Vec::new(), Vec::new());
            peers.push(peer);
        }
    }
    peers
}

/// Of two nodes the one with the greater text dials. It is texts that are compared, so that both ends of a mesh of
/// Caracal and Calico nodes agree: 10.0.0.9 is greater than 10.0.0.10.
pub(crate) fn is_passive(peer: &str, own: &str) -> bool {
    peer > own
}

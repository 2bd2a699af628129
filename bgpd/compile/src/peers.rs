//! BGPPeers: who of the nodes and routers this node holds sessions with, and how.
//!
//! Source: Calico `confd/pkg/backends/calico/client.go`, updatePeersV1.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use caracal_api::selector::Selector;
use caracal_api::v3::{BGPPeerSpec, FailureDetectionMode, NextHopMode, ReversePeering, SourceAddress};
use caracal_api::virtual_::node::Node;
use caracal_bgpd_core::bfd;
use caracal_bgpd_core::config::{self, Peer};
use ipnet::IpNet;

use crate::compiled::StaticRoute;
use crate::filters::Filters;
use crate::local::Local;
use crate::mesh::is_passive;
use crate::problem::Problems;
use crate::session;
use crate::snapshot::Snapshot;

/// Sessions and the routes that lead to their peers.
#[derive(Default)]
pub(crate) struct Peers {
    pub(crate) peers: Vec<Peer>,
    pub(crate) routes: Vec<StaticRoute>,
}

/// One end that a BGPPeer leads to.
struct Target<'a> {
    address: IpAddr,
    /// Port, when the name of the session shows it.
    named_port: Option<u16>,
    port: u16,
    remote_as: u32,
    node: Option<&'a Node>,
}

/// What decides the name and passivity of a session; also its precedence for one and the same peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Global,
    Node,
    Reverse,
}

/// The sessions of the node that BGPPeers ask for.
pub(crate) fn peers(
    snapshot: &Snapshot,
    local: &Local<'_>,
    filters: &mut Filters<'_>,
    problems: &mut Problems,
) -> Peers {
    let mut wanted = Vec::new();
    for (name, spec) in &snapshot.peers {
        let object = format!("BGPPeer {name}");
        if let Some(targets) = targets(snapshot, local, &object, spec, problems) {
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
        if is_own || !seen.insert((target.address, target.port)) {
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

/// The ends of this node's sessions for one BGPPeer; `None` when the object cannot be used.
fn targets<'a>(
    snapshot: &'a Snapshot,
    local: &Local<'_>,
    object: &str,
    spec: &BGPPeerSpec,
    problems: &mut Problems,
) -> Option<Vec<(Class, Target<'a>)>> {
    if !spec.local_workload_selector.is_empty() {
        let remedy = "peer by peerIP or peerSelector: sessions with local workloads are not supported";
        problems.add(
            object,
            "spec.localWorkloadSelector",
            &spec.local_workload_selector,
            "asks for what is not there",
            remedy,
        );
        return None;
    }
    let holders = selector(object, "spec.nodeSelector", &spec.node_selector, problems)?;
    let holds = |name: &str, node: &Node| {
        if spec.node.is_empty() {
            holders.as_ref().is_none_or(|selector| matches(selector, node))
        } else {
            spec.node == name
        }
    };
    let is_global = spec.node.is_empty() && spec.node_selector.is_empty();
    let class = if is_global { Class::Global } else { Class::Node };
    let is_mutual = spec.reverse_peering != Some(ReversePeering::Manual);
    let mut found = Vec::new();
    let is_far_end = if spec.peer_selector.is_empty() {
        let target = router(snapshot, local, object, spec, problems)?;
        let is_self = target.node.is_some_and(|node| node.name() == local.name);
        if holds(local.name, local.node) && !is_self {
            found.push((class, target));
        }
        is_self
    } else {
        if !spec.peer_ip.is_empty() {
            let remedy = "use peerIP or peerSelector, not both";
            problems.add(
                object,
                "spec.peerIP",
                &spec.peer_ip,
                "goes with spec.peerSelector",
                remedy,
            );
            return None;
        }
        let selector =
            selector(object, "spec.peerSelector", &spec.peer_selector, problems)?.unwrap_or_else(all);
        if holds(local.name, local.node) {
            for (_, node) in snapshot.nodes.iter().filter(|(_, node)| matches(&selector, node)) {
                found.extend(
                    ends_of(snapshot, local, node)
                        .into_iter()
                        .map(|target| (class, target)),
                );
            }
        }
        matches(&selector, local.node)
    };
    if is_mutual && is_far_end {
        for (name, node) in &snapshot.nodes {
            if holds(name, node) {
                found.extend(
                    ends_of(snapshot, local, node)
                        .into_iter()
                        .map(|target| (Class::Reverse, target)),
                );
            }
        }
    }
    Some(found)
}

/// The peer of a `peerIP`.
fn router<'a>(
    snapshot: &'a Snapshot,
    local: &Local<'_>,
    object: &str,
    spec: &BGPPeerSpec,
    problems: &mut Problems,
) -> Option<Target<'a>> {
    let Some((address, port)) = parse_peer_ip(&spec.peer_ip) else {
        let remedy =
            "use an address, with a port if it is not 179: 192.0.2.1, 192.0.2.1:1179, [2001:db8::1]:1179";
        problems.add(
            object,
            "spec.peerIP",
            &spec.peer_ip,
            "is no address of a peer",
            remedy,
        );
        return None;
    };
    let Some(number) = spec
        .as_number
        .map(|number| number.0)
        .filter(|number| *number != 0)
    else {
        problems.add(
            object,
            "spec.asNumber",
            "",
            "is missing",
            "peerIP needs the AS number of the peer",
        );
        return None;
    };
    let node = snapshot
        .nodes
        .values()
        .find(|node| has_address(node, address) && local.as_of(node) == number);
    let node_port = node.map(|node| local.port_of(snapshot, node.name()));
    Some(Target {
        address,
        named_port: port,
        port: port.or(node_port).unwrap_or(179),
        remote_as: number,
        // A node that listens elsewhere is not the one that is meant.
        node: node.filter(|_| port.is_none() || port == node_port),
    })
}

/// The ends of a node, one for each family that both nodes have.
fn ends_of<'a>(snapshot: &Snapshot, local: &Local<'_>, node: &'a Node) -> Vec<Target<'a>> {
    let ends = [(true, node.ipv4()), (false, node.ipv6())];
    ends.into_iter()
        .filter(|(v4, _)| local.address(*v4).is_some())
        .filter_map(|(_, net)| net)
        .map(|net| {
            let port = local.port_of(snapshot, node.name());
            Target {
                address: net.addr(),
                named_port: Some(port).filter(|port| *port != 179),
                port,
                remote_as: local.as_of(node),
                node: Some(node),
            }
        })
        .collect()
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
    let class_name = if class == Class::Global { "Global" } else { "Node" };
    let name = session::name(class_name, target.address, target.named_port);
    let mut peer = session::peer(local, name, target.address, target.port, target.remote_as);
    let own = peer.local_address;
    if spec.source_address == Some(SourceAddress::None) {
        peer.local_address = None;
    }
    if let Some(own) = own {
        peer.passive = class == Class::Global
            && target.node.is_some()
            && is_passive(&target.address.to_string(), &own.to_string());
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

/// An address with an optional port: `192.0.2.1`, `192.0.2.1:1179`, `2001:db8::1`, `[2001:db8::1]:1179`.
fn parse_peer_ip(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
        return Some((address, None));
    }
    let end: SocketAddr = text.parse().ok()?;
    (end.port() != 0).then_some((end.ip(), Some(end.port())))
}

/// `Some(None)` for an empty selector, `None` for one that cannot be read.
#[expect(clippy::option_option, reason = "absent and unreadable are different answers")]
fn selector(object: &str, field: &str, text: &str, problems: &mut Problems) -> Option<Option<Selector>> {
    if text.trim().is_empty() {
        return Some(None);
    }
    match Selector::parse(text) {
        Ok(selector) => Some(Some(selector)),
        Err(error) => {
            problems.add(
                object,
                field,
                text,
                format!("is no selector: {error}"),
                "write it as in: has(rack) && rack == \"a\"",
            );
            None
        }
    }
}

fn all() -> Selector {
    Selector::from_node(caracal_api::selector::Node::All)
}

fn matches(selector: &Selector, node: &Node) -> bool {
    selector.matches(&node.metadata.labels.as_ref())
}

fn has_address(node: &Node, address: IpAddr) -> bool {
    [node.ipv4(), node.ipv6()]
        .iter()
        .flatten()
        .any(|net| net.addr() == address)
}

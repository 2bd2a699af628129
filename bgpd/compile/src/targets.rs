//! The ends that BGPPeers lead to: routers by address, nodes and workloads by selector, networks, the default gateway.
//!
//! Source: Calico `confd/pkg/backends/calico/client.go`, updatePeersV1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use caracal_api::selector::Selector;
use caracal_api::v3::{BGPPeerSpec, ReversePeering};
use caracal_api::virtual_::node::Node;
use ipnet::IpNet;

use crate::extensions::{DEFAULT_GATEWAY, Extensions};
use crate::local::Local;
use crate::problem::Problems;
use crate::selection::{self, Selected};
use crate::snapshot::Snapshot;
use crate::workloads;

/// One end that a BGPPeer leads to.
pub(crate) struct Target<'a> {
    pub(crate) address: IpAddr,
    /// Many ends, by the network that they connect from.
    pub(crate) range: Option<IpNet>,
    /// Port, when the name of the session shows it.
    pub(crate) named_port: Option<u16>,
    pub(crate) port: u16,
    pub(crate) remote_as: u32,
    pub(crate) node: Option<&'a Node>,
}

/// What decides the name and passivity of a session; also its precedence for one and the same peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Global,
    Node,
    Reverse,
    Workload,
}

/// BGP's port.
const DEFAULT_PORT: u16 = 179;

/// The ends of this node's sessions for one BGPPeer; `None` when the object cannot be used.
pub(crate) fn targets<'a>(
    snapshot: &'a Snapshot,
    local: &Local<'_>,
    object: &str,
    spec: &BGPPeerSpec,
    selected: &mut Selected,
    problems: &mut Problems,
) -> Option<Vec<(Class, Target<'a>)>> {
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
    if !spec.local_workload_selector.is_empty() {
        if holds(local.name, local.node) {
            found.extend(with_workloads(snapshot, object, spec, problems)?);
        }
        return Some(found);
    }
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
        let far = selection::nodes(
            snapshot,
            object,
            &spec.peer_selector,
            &selector,
            selected,
            problems,
        );
        if holds(local.name, local.node) {
            for node in far.iter().filter_map(|name| snapshot.nodes.get(name)) {
                found.extend(
                    ends_of(snapshot, local, node)
                        .into_iter()
                        .map(|target| (class, target)),
                );
            }
        }
        far.contains(local.name)
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

/// The sessions with workloads of this node.
fn with_workloads<'a>(
    snapshot: &Snapshot,
    object: &str,
    spec: &BGPPeerSpec,
    problems: &mut Problems,
) -> Option<Vec<(Class, Target<'a>)>> {
    let field = "spec.localWorkloadSelector";
    let selector = selector(object, field, &spec.local_workload_selector, problems)?.unwrap_or_else(all);
    let remote_as = number_of(object, spec, problems)?;
    let target = |address| Target {
        address,
        range: None,
        named_port: None,
        port: DEFAULT_PORT,
        remote_as,
        node: None,
    };
    let addresses = workloads::addresses(&snapshot.workloads, &selector).into_iter();
    Some(
        addresses
            .map(|address| (Class::Workload, target(address)))
            .collect(),
    )
}

fn number_of(object: &str, spec: &BGPPeerSpec, problems: &mut Problems) -> Option<u32> {
    let number = spec
        .as_number
        .map(|number| number.0)
        .filter(|number| *number != 0);
    if number.is_none() {
        let remedy = "peerIP and localWorkloadSelector need the AS number of the peer";
        problems.add(object, "spec.asNumber", "", "is missing", remedy);
    }
    number
}

/// The peer of a `peerIP`, or what extensions put in its place.
fn router<'a>(
    snapshot: &'a Snapshot,
    local: &Local<'_>,
    object: &str,
    spec: &BGPPeerSpec,
    problems: &mut Problems,
) -> Option<Target<'a>> {
    let mut extensions = Extensions::new(spec, object, problems);
    if spec.peer_ip.is_empty()
        && let Some(range) = extensions.listen_range()
    {
        let remote_as = number_of(object, spec, problems)?;
        return Some(Target {
            address: unspecified(range),
            range: Some(range),
            named_port: None,
            port: DEFAULT_PORT,
            remote_as,
            node: None,
        });
    }
    let gateway = gateway(snapshot, object, spec, problems);
    let named = parse_peer_ip(&spec.peer_ip);
    let Some((address, port)) = named.or_else(|| Some((gateway.ok()??, None))) else {
        if gateway.is_err() {
            return None;
        }
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
    let number = number_of(object, spec, problems)?;
    let node = snapshot
        .nodes
        .values()
        .find(|node| has_address(node, address) && local.as_of(node) == number);
    let node_port = node.map(|node| local.port_of(snapshot, node.name()));
    Some(Target {
        address,
        range: None,
        named_port: port,
        port: port.or(node_port).unwrap_or(DEFAULT_PORT),
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
                range: None,
                named_port: Some(port).filter(|port| *port != DEFAULT_PORT),
                port,
                remote_as: local.as_of(node),
                node: Some(node),
            }
        })
        .collect()
}

/// The gateway of a default route, for a peer that is said to be that; an error when there is none now.
fn gateway(
    snapshot: &Snapshot,
    object: &str,
    spec: &BGPPeerSpec,
    problems: &mut Problems,
) -> Result<Option<IpAddr>, ()> {
    let Some(text) = spec
        .extensions
        .get(DEFAULT_GATEWAY)
        .filter(|_| spec.peer_ip.is_empty())
    else {
        return Ok(None);
    };
    let [v4, v6] = snapshot.gateways;
    let field = format!("spec.extensions[{DEFAULT_GATEWAY}]");
    let found = match text.as_str() {
        "ipv4" => v4,
        "ipv6" => v6,
        _ => {
            problems.add(object, &field, text, "is no IP version", "use ipv4 or ipv6");
            return Err(());
        }
    };
    if found.is_none() {
        let remedy = "give the node a default route with a gateway; the session waits for it";
        problems.add(object, &field, text, "is not there", remedy);
        return Err(());
    }
    Ok(found)
}

fn unspecified(range: IpNet) -> IpAddr {
    match range {
        IpNet::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpNet::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
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

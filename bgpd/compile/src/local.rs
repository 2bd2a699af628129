//! The node that is compiled for: its addresses, AS number, identifier and settings, from defaults and its own object.

use std::net::{IpAddr, Ipv4Addr};

use caracal_api::v3::{BGPConfigurationSpec, ProgramClusterRoutes};
use caracal_api::virtual_::node::Node;
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::problem::Problems;
use crate::snapshot::{DRAIN, RouterIdRule, Snapshot};

/// AS number of a cluster that sets none.
const DEFAULT_AS: u32 = 64512;
/// BGP's port.
const DEFAULT_PORT: u16 = 179;
/// Metric of ordinary routes.
const DEFAULT_PRIORITY: i32 = 1024;

/// What holds for the node, with all defaults applied.
pub(crate) struct Local<'a> {
    pub(crate) name: &'a str,
    pub(crate) node: &'a Node,
    pub(crate) global: &'a BGPConfigurationSpec,
    pub(crate) own: Option<&'a BGPConfigurationSpec>,
    pub(crate) global_as: u32,
    pub(crate) local_as: u32,
    pub(crate) router_id: Ipv4Addr,
    pub(crate) priority_v4: u32,
    pub(crate) priority_v6: u32,
    pub(crate) cluster_id: Option<Ipv4Addr>,
}

impl<'a> Local<'a> {
    /// `None` when the node is not known.
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        name: &'a str,
        empty: &'a BGPConfigurationSpec,
        problems: &mut Problems,
    ) -> Option<Self> {
        let node = snapshot.nodes.get(name)?;
        let global = snapshot.configurations.get("default").unwrap_or(empty);
        let own = snapshot.configurations.get(&format!("node.{name}"));
        if let Some(own) = own {
            check_own(name, own, problems);
        }
        let global_as = global.as_number.map_or(DEFAULT_AS, |number| number.0);
        let ipv4 = node.ipv4().map(|net| net.addr());
        let router_id = match (&snapshot.router_id, ipv4) {
            (RouterIdRule::Literal(id), _) => *id,
            (RouterIdRule::NodeAddress, Some(IpAddr::V4(address))) => address,
            (RouterIdRule::NodeAddress | RouterIdRule::Hash, _) => hashed_id(name),
        };
        Some(Self {
            name,
            node,
            global,
            own,
            global_as,
            local_as: node.as_number().map_or(global_as, |number| number.0),
            router_id,
            priority_v4: priority(
                global.ipv4_normal_route_priority,
                "spec.ipv4NormalRoutePriority",
                problems,
            ),
            priority_v6: priority(
                global.ipv6_normal_route_priority,
                "spec.ipv6NormalRoutePriority",
                problems,
            ),
            cluster_id: node.route_reflector_cluster_id(),
        })
    }

    /// The node's address of a family, with the prefix length of its network.
    pub(crate) fn network(&self, v4: bool) -> Option<IpNet> {
        if v4 { self.node.ipv4() } else { self.node.ipv6() }
    }

    pub(crate) fn address(&self, v4: bool) -> Option<IpAddr> {
        self.network(v4).map(|net| net.addr())
    }

    pub(crate) fn priority(&self, v4: bool) -> u32 {
        if v4 { self.priority_v4 } else { self.priority_v6 }
    }

    /// The port that a node's speaker listens on: its own setting, else everybody's.
    pub(crate) fn port_of(&self, snapshot: &Snapshot, node: &str) -> u16 {
        let own = snapshot
            .configurations
            .get(&format!("node.{node}"))
            .and_then(|spec| spec.listen_port);
        own.or(self.global.listen_port)
            .filter(|port| *port != 0)
            .unwrap_or(DEFAULT_PORT)
    }

    /// Whether the node's annotation says that its speaker is about to go.
    pub(crate) fn is_draining(&self, problems: &mut Problems) -> bool {
        let annotations = self.node.metadata.annotations.as_ref();
        match annotations
            .and_then(|annotations| annotations.get(DRAIN))
            .map(String::as_str)
        {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                let object = format!("Node {}", self.name);
                let field = format!("metadata.annotations[{DRAIN}]");
                problems.add(
                    &object,
                    &field,
                    other,
                    "is no answer",
                    "use true or false; false is taken meanwhile",
                );
                false
            }
        }
    }

    /// AS number of another node.
    pub(crate) fn as_of(&self, node: &Node) -> u32 {
        node.as_number().map_or(self.global_as, |number| number.0)
    }
}

/// Who programs cluster routes, as the two configurations say: felix's setting and BGP's.
pub(crate) fn program_cluster_routes(
    snapshot: &Snapshot,
    node: &str,
) -> (Option<ProgramClusterRoutes>, Option<ProgramClusterRoutes>) {
    let of = |name: &str| {
        snapshot
            .felix
            .get(name)
            .and_then(|spec| spec.program_cluster_routes.as_deref())
    };
    let felix = of(&format!("node.{node}")).or_else(|| of("default"));
    let bgp = snapshot
        .configurations
        .get("default")
        .and_then(|spec| spec.program_cluster_routes.clone());
    (felix.map(ProgramClusterRoutes::from), bgp)
}

/// The first four octets of the name's SHA-256, kept out of the range above unicast addresses.
fn hashed_id(name: &str) -> Ipv4Addr {
    let digest = Sha256::digest(name.as_bytes());
    let mut octets = [0; 4];
    for (octet, value) in octets.iter_mut().zip(digest) {
        *octet = value;
    }
    if let [first, ..] = &mut octets
        && *first > 223
    {
        *first -= 32;
    }
    // RFC 6286 §2.1: zero is no identifier.
    if octets == [0; 4] {
        Ipv4Addr::LOCALHOST
    } else {
        octets.into()
    }
}

fn priority(value: Option<i32>, field: &str, problems: &mut Problems) -> u32 {
    let value = value.filter(|value| *value != 0).unwrap_or(DEFAULT_PRIORITY);
    match u32::try_from(value) {
        Ok(number @ 1..=2_147_483_646) => number,
        _ => {
            let remedy = "use 1 to 2147483646; 1024 is used meanwhile";
            problems.add("BGPConfiguration default", field, value, "is no metric", remedy);
            DEFAULT_PRIORITY.unsigned_abs()
        }
    }
}

fn check_own(name: &str, own: &BGPConfigurationSpec, problems: &mut Problems) {
    let object = format!("BGPConfiguration node.{name}");
    let mut global_only = |field: &str, value: Option<String>| {
        if let Some(value) = value {
            let remedy = "set it in the BGPConfiguration named default";
            problems.add(
                &object,
                field,
                value,
                "holds for all nodes and is ignored here",
                remedy,
            );
        }
    };
    global_only("spec.asNumber", own.as_number.map(|number| number.to_string()));
    global_only(
        "spec.nodeToNodeMeshEnabled",
        own.node_to_node_mesh_enabled.map(|on| on.to_string()),
    );
    global_only(
        "spec.nodeMeshMaxRestartTime",
        own.node_mesh_max_restart_time.as_ref().map(ToString::to_string),
    );
    global_only(
        "spec.nodeMeshPassword",
        own.node_mesh_password.as_ref().map(|_| "***".to_owned()),
    );
}

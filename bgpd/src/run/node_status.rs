//! The speaker's state as a CalicoNodeStatus has it; pure.
//!
//! Source: Calico `node/pkg/status/populators`.

use std::net::IpAddr;

use caracal_api::v3::{
    BGPDaemonStatus, CalicoNodeAgentStatus, CalicoNodeBGPStatus, CalicoNodePeer, CalicoNodeRoute,
    CalicoNodeRouteLearnedFrom, CalicoNodeRouteStatus, CalicoNodeStatusSpec, CalicoNodeStatusStatus,
    NodeStatusClass,
};
use caracal_bgpd_core::Config;
use caracal_bgpd_core::policy::Source;
use caracal_bgpd_core::snapshot::{PeerStatus, RouteStatus, SessionState, SpeakerStatus};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use crate::metrics::state_name;

/// Routes of one family in an answer: an object has to stay below the size that the API stores.
const ROUTES_MAX: usize = 3000;

/// What an answer is made of.
pub(super) struct State<'a> {
    /// The time.
    pub(super) now: Timestamp,
    /// When this process started.
    pub(super) started: Timestamp,
    /// When the configuration last changed.
    pub(super) configured: Timestamp,
    /// The configuration in use.
    pub(super) config: Option<&'a Config>,
    /// The speaker's status.
    pub(super) status: &'a SpeakerStatus,
    /// All usable paths; needed for the class Routes only.
    pub(super) routes: &'a [RouteStatus],
}

/// Whether an answer to this question needs the routes.
pub(super) fn wants_routes(spec: &CalicoNodeStatusSpec) -> bool {
    spec.classes.contains(&NodeStatusClass::Routes)
}

/// The answer to a question: the classes that it asks for.
pub(super) fn answer(spec: &CalicoNodeStatusSpec, state: &State<'_>) -> CalicoNodeStatusStatus {
    let asks = |class| spec.classes.contains(&class);
    CalicoNodeStatusStatus {
        last_updated: Some(state.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        agent: asks(NodeStatusClass::Agent).then(|| agent(state)),
        bgp: asks(NodeStatusClass::Bgp).then(|| bgp(state)),
        routes: wants_routes(spec).then(|| CalicoNodeRouteStatus {
            routes_v4: routes(state.routes, true),
            routes_v6: routes(state.routes, false),
        }),
    }
}

fn agent(state: &State<'_>) -> CalicoNodeAgentStatus {
    let daemon = |v4: bool| {
        let listens = |config: &&Config| config.listen.iter().any(|listen| listen.address.is_ipv4() == v4);
        let is_ready = state.config.filter(listens).is_some();
        Some(BGPDaemonStatus {
            state: if is_ready { "Ready" } else { "NotReady" }.to_owned(),
            version: concat!("v", env!("CARGO_PKG_VERSION"), "+caracal").to_owned(),
            router_id: state.status.router_id.to_string(),
            last_boot_time: text(state.started),
            last_reconfiguration_time: text(state.configured),
        })
    };
    CalicoNodeAgentStatus {
        bird_v4: daemon(true),
        bird_v6: daemon(false),
    }
}

fn text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn bgp(state: &State<'_>) -> CalicoNodeBGPStatus {
    let of = |v4: bool| {
        let peers = state.status.peers.iter();
        peers.filter(move |peer| peer.address.is_ipv4() == v4)
    };
    let count = |v4: bool, up: bool| {
        let counted = of(v4).filter(|peer| (peer.state == SessionState::Established) == up);
        i32::try_from(counted.count()).ok()
    };
    let list = |v4: bool| of(v4).map(|peer| session(peer, state.now)).collect();
    CalicoNodeBGPStatus {
        number_established_v4: count(true, true),
        number_not_established_v4: count(true, false),
        number_established_v6: count(false, true),
        number_not_established_v6: count(false, false),
        peers_v4: list(true),
        peers_v6: list(false),
    }
}

fn session(peer: &PeerStatus, now: Timestamp) -> CalicoNodePeer {
    let seconds = i64::try_from(peer.state_seconds).unwrap_or(i64::MAX);
    let since = now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(now);
    CalicoNodePeer {
        peer_ip: peer.address.to_string(),
        type_: kind(&peer.name).to_owned(),
        state: state_name(peer.state).to_owned(),
        since: text(since),
    }
}

/// Type of a session by the name that it was compiled with.
fn kind(name: &str) -> &'static str {
    match name.split_once('_') {
        Some(("Mesh", _)) => "NodeMesh",
        Some(("Global", _)) => "GlobalPeer",
        _ => "NodePeer",
    }
}

fn routes(all: &[RouteStatus], v4: bool) -> Vec<CalicoNodeRoute> {
    let of_family = all
        .iter()
        .filter(|route| matches!(route.prefix, IpNet::V4(_)) == v4);
    of_family.take(ROUTES_MAX).map(route).collect()
}

fn route(route: &RouteStatus) -> CalicoNodeRoute {
    let in_use = route.best || route.multipath;
    let source_type = match (route.source, route.peer.as_deref().map(kind)) {
        (Source::Kernel, _) => "Kernel",
        (Source::Static, _) => "Static",
        (Source::Direct, _) => "Direct",
        (Source::Bgp, Some("NodeMesh")) => "NodeMesh",
        (Source::Bgp, _) => "BGPPeer",
    };
    let text = |address: Option<IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    CalicoNodeRoute {
        type_: if in_use { "FIB" } else { "RIB" }.to_owned(),
        destination: route.prefix.to_string(),
        gateway: text(route.next_hop),
        interface: route.interface.clone().unwrap_or_default(),
        learned_from: Some(CalicoNodeRouteLearnedFrom {
            source_type: source_type.to_owned(),
            peer_ip: text(route.peer_address),
        }),
    }
}

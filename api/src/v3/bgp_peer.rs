//! BGPPeer: who the nodes hold BGP sessions with, beside the mesh. Three fields are those of Calico Enterprise.

use std::collections::BTreeMap;

use super::bgp_configuration::BGPPassword;
use super::scalar::{AsNumber, GoDuration};

string_enum! {
    /// Where a session's source address comes from.
    pub enum SourceAddress {
        /// The node's BGP address.
        UseNodeIP = "UseNodeIP",
        /// The kernel's choice.
        None = "None",
    }
}

string_enum! {
    /// What becomes of the next hop of advertised routes.
    pub enum NextHopMode {
        /// By the type of the session.
        Auto = "Auto",
        /// Our own address.
        Self_ = "Self",
        /// As it was learned.
        Keep = "Keep",
    }
}

string_enum! {
    /// How a lost peer is noticed, beside the hold time of the session.
    pub enum FailureDetectionMode {
        /// Not at all.
        None = "None",
        /// By BFD, where the peer is on a connected network.
        BFDIfDirectlyConnected = "BFDIfDirectlyConnected",
    }
}

string_enum! {
    /// Whether the other side of a peerSelector gets its session without asking.
    pub enum ReversePeering {
        /// Yes.
        Auto = "Auto",
        /// No, it has a BGPPeer of its own.
        Manual = "Manual",
    }
}

string_enum! {
    /// What becomes of routes while a peer restarts.
    pub enum RestartMode {
        /// They are kept for the restart time.
        GracefulRestart = "GracefulRestart",
        /// They are kept for long after that, as the last choice.
        LongLivedGracefulRestart = "LongLivedGracefulRestart",
    }
}

resource! {
    #[kube(
        kind = "BGPPeer",
        plural = "bgppeers",
        shortname = "bgpp",
        doc = "A peer, or a class of peers, that nodes hold BGP sessions with."
    )]
    /// Spec of a BGPPeer.
    pub struct BGPPeerSpec {
        /// The node that holds the session; empty with an empty nodeSelector = all.
        pub node: String,
        /// The nodes that hold the session; excludes node.
        #[schemars(length(max = 1024))]
        pub node_selector: String,
        /// Address of the peer, with an optional port: `192.0.2.1:1179`, `[2001:db8::1]:1179`.
        #[serde(rename = "peerIP")]
        pub peer_ip: String,
        /// AS number of the peer.
        pub as_number: Option<AsNumber>,
        /// AS number that we show this peer instead of the node's.
        #[serde(rename = "localASNumber")]
        pub local_as_number: Option<AsNumber>,
        /// Nodes to peer with; excludes peerIP.
        #[schemars(length(max = 1024))]
        pub peer_selector: String,
        /// Workloads of the node to peer with; excludes peerIP and peerSelector.
        #[schemars(length(max = 1024))]
        pub local_workload_selector: String,
        /// Older form of nextHopMode Keep.
        pub keep_original_next_hop: bool,
        /// What becomes of the next hop of advertised routes.
        pub next_hop_mode: Option<NextHopMode>,
        /// Password of the session.
        pub password: Option<BGPPassword>,
        /// Where the session's source address comes from (default UseNodeIP).
        pub source_address: Option<SourceAddress>,
        /// Restart time that the session advertises.
        pub max_restart_time: Option<GoDuration>,
        /// Keepalive interval of the session.
        pub keepalive_time: Option<GoDuration>,
        /// How often our own AS number may be in a received path.
        #[serde(rename = "numAllowedLocalASNumbers")]
        pub num_allowed_local_as_numbers: Option<i32>,
        /// Time-to-live security (RFC 5082): number of hops to the peer.
        pub ttl_security: Option<u8>,
        /// How a lost peer is noticed, beside the hold time (default None). The name is Calico Enterprise's.
        pub failure_detection_mode: Option<FailureDetectionMode>,
        /// Gateway through which the peer is reached.
        pub reachable_by: String,
        /// BGPFilters, in order.
        pub filters: Vec<String>,
        /// Whether the other side of a peerSelector gets its session without asking (default Auto).
        pub reverse_peering: Option<ReversePeering>,
        /// What becomes of routes while the peer restarts (default GracefulRestart).
        pub restart_mode: Option<RestartMode>,
        /// Settings of the session that have no field of their own, by name.
        pub extensions: BTreeMap<String, String>,
    }
}

//! CalicoNodeStatus: a question to a node about its agent, sessions and routes, and the node's answer.

string_enum! {
    /// What a CalicoNodeStatus asks for.
    pub enum NodeStatusClass {
        /// State of the BGP daemon.
        Agent = "Agent",
        /// State of the sessions.
        Bgp = "BGP",
        /// Routes known and programmed.
        Routes = "Routes",
    }
}

model! {
    /// State of a BGP daemon for one family.
    pub struct BGPDaemonStatus {
        /// `Ready` or `NotReady`.
        pub state: String,
        /// Version.
        pub version: String,
        /// BGP Identifier.
        #[serde(rename = "routerID")]
        pub router_id: String,
        /// Time of the last start.
        pub last_boot_time: String,
        /// Time of the last change of configuration.
        pub last_reconfiguration_time: String,
    }
}

model! {
    /// State of the agent.
    pub struct CalicoNodeAgentStatus {
        /// The daemon for IPv4.
        #[serde(rename = "birdV4")]
        pub bird_v4: Option<BGPDaemonStatus>,
        /// The daemon for IPv6.
        #[serde(rename = "birdV6")]
        pub bird_v6: Option<BGPDaemonStatus>,
    }
}

model! {
    /// One session.
    pub struct CalicoNodePeer {
        /// Address of the peer.
        #[serde(rename = "peerIP")]
        pub peer_ip: String,
        /// `NodeMesh`, `NodePeer` or `GlobalPeer`.
        #[serde(rename = "type")]
        pub type_: String,
        /// State of the session.
        pub state: String,
        /// Since when.
        pub since: String,
    }
}

model! {
    /// Sessions.
    pub struct CalicoNodeBGPStatus {
        /// Established sessions over IPv4.
        #[serde(rename = "numberEstablishedV4")]
        pub number_established_v4: Option<i32>,
        /// Other sessions over IPv4.
        #[serde(rename = "numberNotEstablishedV4")]
        pub number_not_established_v4: Option<i32>,
        /// Established sessions over IPv6.
        #[serde(rename = "numberEstablishedV6")]
        pub number_established_v6: Option<i32>,
        /// Other sessions over IPv6.
        #[serde(rename = "numberNotEstablishedV6")]
        pub number_not_established_v6: Option<i32>,
        /// Sessions over IPv4.
        #[serde(rename = "peersV4")]
        pub peers_v4: Vec<CalicoNodePeer>,
        /// Sessions over IPv6.
        #[serde(rename = "peersV6")]
        pub peers_v6: Vec<CalicoNodePeer>,
    }
}

model! {
    /// Where a route was learned.
    pub struct CalicoNodeRouteLearnedFrom {
        /// `Kernel`, `Static`, `Direct`, `NodeMesh` or `BGPPeer`.
        pub source_type: String,
        /// Address of the peer.
        #[serde(rename = "peerIP")]
        pub peer_ip: String,
    }
}

model! {
    /// One route.
    pub struct CalicoNodeRoute {
        /// `FIB` or `RIB`.
        #[serde(rename = "type")]
        pub type_: String,
        /// Destination.
        pub destination: String,
        /// Gateway.
        pub gateway: String,
        /// Interface.
        pub interface: String,
        /// Where it was learned.
        pub learned_from: Option<CalicoNodeRouteLearnedFrom>,
    }
}

model! {
    /// Routes.
    pub struct CalicoNodeRouteStatus {
        /// IPv4.
        #[serde(rename = "routesV4")]
        pub routes_v4: Vec<CalicoNodeRoute>,
        /// IPv6.
        #[serde(rename = "routesV6")]
        pub routes_v6: Vec<CalicoNodeRoute>,
    }
}

model! {
    /// The node's answer; only the classes asked for are filled.
    pub struct CalicoNodeStatusStatus {
        /// When it was given, RFC 3339.
        pub last_updated: Option<String>,
        /// State of the agent.
        pub agent: Option<CalicoNodeAgentStatus>,
        /// Sessions.
        pub bgp: Option<CalicoNodeBGPStatus>,
        /// Routes.
        pub routes: Option<CalicoNodeRouteStatus>,
    }
}

resource! {
    #[kube(
        kind = "CalicoNodeStatus",
        plural = "caliconodestatuses",
        shortname = "nodestatus",
        status = "CalicoNodeStatusStatus",
        doc = "A question to a node about its agent, sessions and routes."
    )]
    /// Spec of a CalicoNodeStatus.
    pub struct CalicoNodeStatusSpec {
        /// The node asked.
        #[schemars(length(max = 253))]
        pub node: String,
        /// What is asked for.
        #[schemars(extend("x-kubernetes-list-type" = "set"))]
        pub classes: Vec<NodeStatusClass>,
        /// How often the answer is renewed, 0-86400; 0 stops it (default 10).
        #[schemars(range(min = 0, max = 86400))]
        pub update_period_seconds: Option<i32>,
    }
}

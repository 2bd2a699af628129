//! BGPFilter: which routes a BGPPeer may send us and which we send it.

string_enum! {
    /// How a route's prefix compares with a rule's CIDR.
    pub enum BGPFilterMatchOperator {
        /// The same prefix.
        Equal = "Equal",
        /// Another prefix.
        NotEqual = "NotEqual",
        /// The prefix or a part of it.
        In = "In",
        /// Neither.
        NotIn = "NotIn",
    }
}

string_enum! {
    /// What becomes of a route that matches.
    pub enum BGPFilterAction {
        /// It passes.
        Accept = "Accept",
        /// It does not.
        Reject = "Reject",
    }
}

string_enum! {
    /// Where a route was learned.
    pub enum BGPFilterMatchSource {
        /// From a BGP peer.
        RemotePeers = "RemotePeers",
    }
}

string_enum! {
    /// Kind of the session that a rule is for.
    pub enum BGPFilterPeerType {
        /// With another AS.
        EBgp = "eBGP",
        /// Within the AS.
        IBgp = "iBGP",
    }
}

model! {
    /// Lengths that a prefix may have.
    pub struct BGPFilterPrefixLength {
        /// Shortest; by default the length of the rule's CIDR.
        #[schemars(range(min = 0, max = 128))]
        pub min: Option<i32>,
        /// Longest; by default that of an address.
        #[schemars(range(min = 0, max = 128))]
        pub max: Option<i32>,
    }
}

model! {
    /// Communities that a route must carry.
    pub struct BGPFilterCommunityMatch {
        /// Exactly one community: `aa:nn`, or `aa:nn:mm` for a large one.
        #[schemars(length(min = 1, max = 1))]
        pub values: Vec<String>,
    }
}

model! {
    /// Adds a community.
    pub struct BGPFilterAddCommunity {
        /// `aa:nn`, or `aa:nn:mm` for a large community.
        pub value: String,
    }
}

model! {
    /// Lengthens the AS path.
    pub struct BGPFilterPrependASPath {
        /// AS numbers to put in front, in this order.
        #[schemars(length(min = 1, max = 10))]
        pub prefix: Vec<super::AsNumber>,
    }
}

model! {
    /// Sets the metric of a route.
    pub struct BGPFilterSetPriority {
        /// The metric.
        #[schemars(range(min = 1, max = 2_147_483_646))]
        pub value: Option<i32>,
    }
}

model! {
    /// One change of a route that passes: one of the fields.
    pub struct BGPFilterOperation {
        /// Adds a community.
        pub add_community: Option<BGPFilterAddCommunity>,
        /// Lengthens the AS path.
        #[serde(rename = "prependASPath")]
        pub prepend_as_path: Option<BGPFilterPrependASPath>,
        /// Sets the metric.
        pub set_priority: Option<BGPFilterSetPriority>,
    }
}

model! {
    /// One rule; all criteria must hold, the first rule that matches decides.
    pub struct BGPFilterRule {
        /// Prefix to compare with; needs matchOperator.
        #[schemars(length(max = 48))]
        pub cidr: String,
        /// Lengths that the prefix may have; needs cidr.
        pub prefix_length: Option<BGPFilterPrefixLength>,
        /// Where the route was learned.
        pub source: Option<BGPFilterMatchSource>,
        /// Interface of the route; `*` stands for any text.
        pub interface: String,
        /// How the prefix compares with cidr.
        pub match_operator: Option<BGPFilterMatchOperator>,
        /// Kind of the session.
        pub peer_type: Option<BGPFilterPeerType>,
        /// Communities of the route.
        pub communities: Option<BGPFilterCommunityMatch>,
        /// AS numbers that the path begins with.
        pub as_path_prefix: Vec<super::AsNumber>,
        /// Metric of the route.
        #[schemars(range(min = 1, max = 2_147_483_646))]
        pub priority: Option<i32>,
        /// What becomes of the route.
        pub action: Option<BGPFilterAction>,
        /// Changes, for Accept.
        #[schemars(length(min = 1, max = 10))]
        pub operations: Vec<BGPFilterOperation>,
    }
}

resource! {
    #[kube(
        kind = "BGPFilter",
        plural = "bgpfilters",
        shortname = "bgpf",
        shortname = "bf",
        doc = "Which routes a BGPPeer may send and is sent."
    )]
    /// Spec of a BGPFilter.
    pub struct BGPFilterSpec {
        /// Rules for IPv4 routes sent.
        pub export_v4: Vec<BGPFilterRule>,
        /// Rules for IPv4 routes received.
        pub import_v4: Vec<BGPFilterRule>,
        /// Rules for IPv6 routes sent.
        pub export_v6: Vec<BGPFilterRule>,
        /// Rules for IPv6 routes received.
        pub import_v6: Vec<BGPFilterRule>,
    }
}

//! NetworkSet and GlobalNetworkSet: addresses with labels that selectors of rules can match.

resource! {
    #[kube(
        kind = "NetworkSet",
        plural = "networksets",
        shortname = "netsets",
        namespaced,
        doc = "Addresses with labels, matched by rules within the namespace's reach."
    )]
    /// Spec of a NetworkSet.
    pub struct NetworkSetSpec {
        /// CIDRs and addresses.
        pub nets: Vec<String>,
    }
}

resource! {
    #[kube(
        kind = "GlobalNetworkSet",
        plural = "globalnetworksets",
        shortname = "gns",
        doc = "Addresses with labels, matched by rules of any policy."
    )]
    /// Spec of a GlobalNetworkSet.
    pub struct GlobalNetworkSetSpec {
        /// CIDRs and addresses.
        pub nets: Vec<String>,
    }
}

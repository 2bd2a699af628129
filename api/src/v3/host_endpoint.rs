//! HostEndpoint: an interface of a node, or all of them, that policy applies to.

use super::rule::Protocol;

model! {
    /// A named port of a host endpoint.
    pub struct EndpointPort {
        /// Name that rules refer to.
        pub name: String,
        /// Its protocol.
        pub protocol: Option<Protocol>,
        /// Its number.
        pub port: u16,
    }
}

impl super::model::Unset for u16 {
    fn is_unset(&self) -> bool {
        false
    }
}

resource! {
    #[kube(
        kind = "HostEndpoint",
        plural = "hostendpoints",
        shortname = "hep",
        shortname = "heps",
        doc = "An interface of a node that policy applies to."
    )]
    /// Spec of a HostEndpoint.
    pub struct HostEndpointSpec {
        /// The node.
        #[schemars(length(max = 253))]
        pub node: String,
        /// The interface, or `*` for all.
        pub interface_name: String,
        /// Addresses that identify the interface when it is not named, and that stand for the endpoint in sets.
        #[serde(rename = "expectedIPs")]
        pub expected_ips: Vec<String>,
        /// Profiles, in order.
        pub profiles: Vec<String>,
        /// Named ports.
        pub ports: Vec<EndpointPort>,
    }
}

//! BGPConfiguration: BGP settings of all nodes (`default`) or of one (`node.<name>`).

use k8s_openapi::api::core::v1::SecretKeySelector;

use super::scalar::{AsNumber, GoDuration, LogLevel};

string_enum! {
    /// Which addresses the BGP listener binds to.
    pub enum BGPBindMode {
        /// All addresses.
        None = "None",
        /// The node's own address.
        NodeIP = "NodeIP",
    }
}

string_enum! {
    /// Whether addresses of LoadBalancer Services are advertised as their range or one by one.
    pub enum ServiceLoadBalancerAggregation {
        /// The range.
        Enabled = "Enabled",
        /// One host route for each Service.
        Disabled = "Disabled",
    }
}

string_enum! {
    /// Which cluster routes a component programs into the kernel.
    pub enum ProgramClusterRoutes {
        /// All.
        Enabled = "Enabled",
        /// None.
        Disabled = "Disabled",
        /// Those of pools with IP-in-IP.
        EnabledIPIPOnly = "EnabledIPIPOnly",
        /// Those of pools without encapsulation.
        EnabledNoEncapOnly = "EnabledNoEncapOnly",
    }
}

model! {
    /// A range of service addresses.
    pub struct ServiceCIDR {
        /// The range.
        #[schemars(length(max = 48))]
        pub cidr: String,
    }
}

model! {
    /// A named community.
    pub struct Community {
        /// Name that prefix advertisements refer to.
        #[schemars(length(max = 253))]
        pub name: String,
        /// `aa:nn`, or `aa:nn:mm` for a large community.
        #[schemars(regex(pattern = r"^(\d+):(\d+)$|^(\d+):(\d+):(\d+)$"))]
        pub value: String,
    }
}

model! {
    /// Communities for advertised prefixes.
    pub struct PrefixAdvertisement {
        /// Prefixes within this one get the communities.
        #[schemars(length(max = 48))]
        pub cidr: String,
        /// Communities by name or value.
        #[schemars(length(max = 50))]
        pub communities: Vec<String>,
    }
}

model! {
    /// A password for BGP sessions.
    pub struct BGPPassword {
        /// Key of a Secret in the namespace of the node agent.
        pub secret_key_ref: Option<SecretKeySelector>,
    }
}

resource! {
    #[kube(
        kind = "BGPConfiguration",
        plural = "bgpconfigurations",
        shortname = "bgpconfig",
        shortname = "bgpconfigs",
        doc = "BGP settings of all nodes (default) or of one (node.<name>)."
    )]
    /// Spec of a BGPConfiguration.
    pub struct BGPConfigurationSpec {
        /// Log level of the BGP speaker.
        #[schemars(extend("default" = "Info"))]
        pub log_severity_screen: Option<LogLevel>,
        /// Peer all nodes with each other (default true).
        pub node_to_node_mesh_enabled: Option<bool>,
        /// AS number of nodes that have none of their own (default 64512).
        pub as_number: Option<AsNumber>,
        /// Ranges of load balancer addresses to advertise.
        #[serde(rename = "serviceLoadBalancerIPs")]
        pub service_load_balancer_ips: Vec<ServiceCIDR>,
        /// Advertise load balancer ranges as a whole or each address on its own.
        pub service_load_balancer_aggregation: Option<ServiceLoadBalancerAggregation>,
        /// Ranges of external service addresses to advertise.
        #[serde(rename = "serviceExternalIPs")]
        pub service_external_ips: Vec<ServiceCIDR>,
        /// Ranges of cluster service addresses to advertise.
        #[serde(rename = "serviceClusterIPs")]
        pub service_cluster_ips: Vec<ServiceCIDR>,
        /// Communities by name.
        #[schemars(length(max = 500))]
        pub communities: Vec<Community>,
        /// Communities of advertised prefixes.
        #[schemars(length(max = 500))]
        pub prefix_advertisements: Vec<PrefixAdvertisement>,
        /// Port that the speaker listens on (default 179).
        #[schemars(range(min = 1, max = 65535))]
        pub listen_port: Option<u16>,
        /// Password of the sessions of the mesh.
        pub node_mesh_password: Option<BGPPassword>,
        /// Restart time that the sessions of the mesh advertise.
        pub node_mesh_max_restart_time: Option<GoDuration>,
        /// Which addresses the listener binds to.
        pub bind_mode: Option<BGPBindMode>,
        /// Interfaces whose addresses are not advertised; `*` stands for any text.
        pub ignored_interfaces: Vec<String>,
        /// Address under which local workloads reach the speaker, IPv4.
        #[serde(rename = "localWorkloadPeeringIPV4")]
        pub local_workload_peering_ip_v4: String,
        /// Address under which local workloads reach the speaker, IPv6.
        #[serde(rename = "localWorkloadPeeringIPV6")]
        pub local_workload_peering_ip_v6: String,
        /// Which cluster routes the BGP speaker programs (default EnabledNoEncapOnly).
        pub program_cluster_routes: Option<ProgramClusterRoutes>,
        /// Metric of IPv4 routes (default 1024).
        #[schemars(range(min = 1, max = 2_147_483_646))]
        pub ipv4_normal_route_priority: Option<i32>,
        /// Metric of IPv6 routes (default 1024).
        #[schemars(range(min = 1, max = 2_147_483_646))]
        pub ipv6_normal_route_priority: Option<i32>,
    }
}

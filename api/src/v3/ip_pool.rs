//! IPPool: a range of addresses and how traffic to and from it is carried.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

string_enum! {
    /// When traffic of a pool is encapsulated (IP-in-IP or VXLAN).
    pub enum EncapsulationMode {
        /// Never.
        Never = "Never",
        /// Always.
        Always = "Always",
        /// Between nodes that share no subnet.
        CrossSubnet = "CrossSubnet",
    }
}

string_enum! {
    /// What addresses of a pool may be used for.
    pub enum IPPoolAllowedUse {
        /// Pods.
        Workload = "Workload",
        /// Tunnel devices of nodes.
        Tunnel = "Tunnel",
        /// Services of type LoadBalancer.
        LoadBalancer = "LoadBalancer",
    }
}

string_enum! {
    /// Whether a pool is used without being asked for.
    pub enum AssignmentMode {
        /// Used by automatic assignment.
        Automatic = "Automatic",
        /// Used on explicit request only.
        Manual = "Manual",
    }
}

resource! {
    #[kube(
        kind = "IPPool",
        plural = "ippools",
        shortname = "ipp",
        shortname = "ipps",
        shortname = "pool",
        shortname = "pools",
        status = "IPPoolStatus",
        doc = "A range of addresses and how its traffic is carried."
    )]
    #[schemars(extend("required" = ["cidr"]))]
    /// Spec of an IPPool.
    pub struct IPPoolSpec {
        /// The addresses, without host bits. Cannot be changed.
        #[schemars(length(max = 48))]
        pub cidr: String,
        /// When traffic is encapsulated in VXLAN.
        pub vxlan_mode: Option<EncapsulationMode>,
        /// When traffic is encapsulated in IP-in-IP; IPv4 only.
        pub ipip_mode: Option<EncapsulationMode>,
        /// Translate the source address of traffic that leaves the pools.
        pub nat_outgoing: bool,
        /// Assign no further addresses from the pool.
        pub disabled: bool,
        /// Do not advertise the blocks of the pool over BGP.
        #[serde(rename = "disableBGPExport")]
        pub disable_bgp_export: bool,
        /// Prefix length of the blocks that nodes claim: 20-32 (default 26) or 116-128 (default 122). Cannot be changed.
        pub block_size: Option<i32>,
        /// Nodes that may take addresses from the pool.
        #[schemars(length(max = 1024), extend("default" = "all()"))]
        pub node_selector: String,
        /// Namespaces whose pods may take addresses from the pool; empty = all.
        #[schemars(length(max = 1024))]
        pub namespace_selector: Option<String>,
        /// What the addresses may be used for; by default Workload and Tunnel.
        #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "set"))]
        pub allowed_uses: Vec<IPPoolAllowedUse>,
        /// Whether the pool is used without being asked for.
        #[schemars(extend("default" = "Automatic"))]
        pub assignment_mode: Option<AssignmentMode>,
    }
}

model! {
    /// Status of an IPPool.
    pub struct IPPoolStatus {
        /// Conditions; `Allocatable` is known.
        pub conditions: Vec<Condition>,
    }
}

impl IPPoolSpec {
    /// The pool's prefix without host bits, if `cidr` parses.
    #[must_use]
    pub fn network(&self) -> Option<IpNet> {
        self.cidr.parse::<IpNet>().ok().map(|net| net.trunc())
    }

    /// Prefix length of a block: `blockSize`, or 26 for IPv4 and 122 for IPv6. `None` when `cidr` or `blockSize` is
    /// unusable.
    #[must_use]
    pub fn effective_block_size(&self) -> Option<u8> {
        let net = self.network()?;
        let default = if matches!(net.addr(), IpAddr::V4(_)) {
            26
        } else {
            122
        };
        match self.block_size {
            None | Some(0) => Some(default),
            Some(size) => u8::try_from(size)
                .ok()
                .filter(|size| *size <= net.max_prefix_len()),
        }
    }

    /// The IP-in-IP mode, `Never` by default.
    #[must_use]
    pub fn effective_ipip_mode(&self) -> EncapsulationMode {
        self.ipip_mode
            .clone()
            .filter(|mode| !mode.as_str().is_empty())
            .unwrap_or(EncapsulationMode::Never)
    }

    /// The VXLAN mode, `Never` by default.
    #[must_use]
    pub fn effective_vxlan_mode(&self) -> EncapsulationMode {
        self.vxlan_mode
            .clone()
            .filter(|mode| !mode.as_str().is_empty())
            .unwrap_or(EncapsulationMode::Never)
    }

    /// The node selector, `all()` by default.
    #[must_use]
    pub fn effective_node_selector(&self) -> &str {
        if self.node_selector.trim().is_empty() {
            "all()"
        } else {
            &self.node_selector
        }
    }

    /// True when addresses may be used for `usage`; without a list that is Workload and Tunnel.
    #[must_use]
    pub fn allows(&self, usage: &IPPoolAllowedUse) -> bool {
        if self.allowed_uses.is_empty() {
            return matches!(usage, IPPoolAllowedUse::Workload | IPPoolAllowedUse::Tunnel);
        }
        self.allowed_uses.contains(usage)
    }

    /// True when addresses are assigned without being asked for.
    #[must_use]
    pub fn is_automatic(&self) -> bool {
        !matches!(self.assignment_mode, Some(AssignmentMode::Manual))
    }
}

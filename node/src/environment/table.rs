//! What the variables are, for people. A test holds the code and the documentation to this list.

/// A variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What counts when it is not set.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

const fn variable(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable {
        name,
        default,
        meaning,
    }
}

/// Every variable that is read.
pub const VARIABLES: &[Variable] = &[
    variable(
        "NODENAME",
        "`HOSTNAME`, else the host name, in lower case",
        "name of this node",
    ),
    variable(
        "HOSTNAME",
        "the host name",
        "name of this node, when `NODENAME` is not set",
    ),
    variable(
        "CALICO_K8S_NODE_REF",
        "`NODENAME`",
        "name of the Node object, where it differs",
    ),
    variable(
        "CALICO_NETWORKING_BACKEND",
        "`bird`",
        "`bird`: BGP; `vxlan`: no BGP; `none`: policy only, another network routes",
    ),
    variable(
        "IP",
        "kept, or detected when the Node has none",
        "IPv4 address with or without prefix length, `autodetect` or `none`",
    ),
    variable(
        "IP6",
        "kept",
        "IPv6 address with or without prefix length, `autodetect` or `none`",
    ),
    variable(
        "IP_AUTODETECTION_METHOD",
        "the Node's InternalIP if this machine has it, else `first-found`",
        "`first-found`, `can-reach=HOST`, `interface=REGEX,…`, `skip-interface=REGEX,…`, `cidr=CIDR,…`, `kubernetes-internal-ip`",
    ),
    variable("IP6_AUTODETECTION_METHOD", "as for IPv4", "the same for IPv6"),
    variable(
        "AUTODETECT_POLL_INTERVAL",
        "`60s`",
        "how often a detected address is looked at again",
    ),
    variable(
        "DISABLE_NODE_IP_CHECK",
        "`false`",
        "`true`: two nodes may have one address",
    ),
    variable("AS", "the cluster's", "AS number of this node"),
    variable(
        "CLUSTER_TYPE",
        "",
        "words added to the ClusterInformation's `clusterType`",
    ),
    variable("NO_DEFAULT_POOLS", "`false`", "`true`: no pool is made"),
    variable(
        "CALICO_IPV4POOL_CIDR",
        "kubeadm's podSubnet, else 192.168.0.0/16 or another private range that this machine does not use",
        "range of the IPv4 pool that is made when there is none, or `none`",
    ),
    variable(
        "CALICO_IPV4POOL_IPIP",
        "`Never`",
        "its IP-in-IP mode: `Never`, `CrossSubnet`, `Always`",
    ),
    variable("CALICO_IPV4POOL_VXLAN", "`Never`", "its VXLAN mode"),
    variable(
        "CALICO_IPV4POOL_BLOCK_SIZE",
        "`26`",
        "prefix length of its blocks, 20 to 32",
    ),
    variable(
        "CALICO_IPV4POOL_NODE_SELECTOR",
        "`all()`",
        "nodes that take addresses from it",
    ),
    variable(
        "CALICO_IPV4POOL_NAT_OUTGOING",
        "`true`",
        "translate source addresses of what leaves the pools",
    ),
    variable(
        "CALICO_IPV4POOL_DISABLE_BGP_EXPORT",
        "`false`",
        "do not advertise its blocks",
    ),
    variable(
        "CALICO_IPV6POOL_CIDR",
        "kubeadm's podSubnet, else a random unique local /48",
        "range of the IPv6 pool, or `none`",
    ),
    variable("CALICO_IPV6POOL_VXLAN", "`Never`", "its VXLAN mode"),
    variable(
        "CALICO_IPV6POOL_BLOCK_SIZE",
        "`122`",
        "prefix length of its blocks, 116 to 128",
    ),
    variable(
        "CALICO_IPV6POOL_NODE_SELECTOR",
        "`all()`",
        "nodes that take addresses from it",
    ),
    variable(
        "CALICO_IPV6POOL_NAT_OUTGOING",
        "`false`",
        "translate source addresses of what leaves the pools",
    ),
    variable(
        "CALICO_IPV6POOL_DISABLE_BGP_EXPORT",
        "`false`",
        "do not advertise its blocks",
    ),
    variable(
        "BGPD_METRICS",
        "`127.0.0.1:9900`",
        "where bgpd serves its metrics, or `none`",
    ),
    variable(
        "CALICO_MANAGE_CNI",
        "`true`",
        "keep the token in the CNI plugins' kubeconfig fresh, where its folder is mounted",
    ),
    variable(
        "CALICO_CNI_SERVICE_ACCOUNT",
        "`calico-cni-plugin`",
        "service account of the CNI plugins, in the pod's namespace",
    ),
    variable(
        "CNI_TOKEN_REFRESH_INTERVAL",
        "a quarter of the token's life",
        "how often the token is made anew",
    ),
];

/// The list as a table of the documentation.
#[must_use]
pub fn markdown() -> String {
    let mut text = "| Variable | Without it | Meaning |\n|---|---|---|\n".to_owned();
    for variable in VARIABLES {
        let default = if variable.default.is_empty() {
            "-"
        } else {
            variable.default
        };
        text.push_str(&format!(
            "| `{}` | {default} | {} |\n",
            variable.name, variable.meaning
        ));
    }
    text
}

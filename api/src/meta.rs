//! Well-known names: annotations, labels, finalizers, tiers, label prefixes.
//!
//! Every string here is read or written by other software too; none may be changed.

/// Prefix of all annotations and labels of the group.
pub const PREFIX: &str = "projectcalico.org/";

/// Label that every namespaced endpoint and network set carries: its namespace.
pub const LABEL_NAMESPACE: &str = "projectcalico.org/namespace";
/// Label of endpoints: what made them.
pub const LABEL_ORCHESTRATOR: &str = "projectcalico.org/orchestrator";
/// Label of endpoints: their service account.
pub const LABEL_SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";
/// Label of policies: their tier.
pub const LABEL_TIER: &str = "projectcalico.org/tier";
/// Label of the profile of a namespace or service account: its name.
pub const LABEL_NAME: &str = "projectcalico.org/name";
/// Label of objects that a controller made.
pub const LABEL_CREATED_BY: &str = "projectcalico.org/created-by";
/// Value of [`LABEL_ORCHESTRATOR`] for pods.
pub const ORCHESTRATOR_K8S: &str = "k8s";
/// Prefix of labels inherited from the namespace.
pub const NAMESPACE_LABEL_PREFIX: &str = "pcns.";
/// Prefix of labels inherited from the service account.
pub const SERVICE_ACCOUNT_LABEL_PREFIX: &str = "pcsa.";
/// Prefix of the names of namespace profiles.
pub const NAMESPACE_PROFILE_PREFIX: &str = "kns.";
/// Prefix of the names of service account profiles.
pub const SERVICE_ACCOUNT_PROFILE_PREFIX: &str = "ksa.";
/// The profile that allows everything and is never stored.
pub const PROFILE_DEFAULT_ALLOW: &str = "projectcalico-default-allow";

/// Label of block affinities: hash of the node's name.
pub const LABEL_HOSTNAME_HASH: &str = "projectcalico.org/hostname-hash";
/// Label of block affinities: `host` or `virtual`.
pub const LABEL_AFFINITY_TYPE: &str = "projectcalico.org/affinity-type";
/// Label of block affinities: `4` or `6`.
pub const LABEL_IP_VERSION: &str = "projectcalico.org/ip-version";

/// Tier of ClusterNetworkPolicies of tier Admin.
pub const TIER_KUBE_ADMIN: &str = "kube-admin";
/// Tier of Calico's and Kubernetes' NetworkPolicies.
pub const TIER_DEFAULT: &str = "default";
/// Tier of ClusterNetworkPolicies of tier Baseline.
pub const TIER_KUBE_BASELINE: &str = "kube-baseline";
/// Order of [`TIER_KUBE_ADMIN`].
pub const TIER_KUBE_ADMIN_ORDER: f64 = 1_000.0;
/// Order of [`TIER_DEFAULT`].
pub const TIER_DEFAULT_ORDER: f64 = 1_000_000.0;
/// Order of [`TIER_KUBE_BASELINE`].
pub const TIER_KUBE_BASELINE_ORDER: f64 = 10_000_000.0;
/// Order of Kubernetes NetworkPolicies.
pub const KUBERNETES_POLICY_ORDER: f64 = 1_000.0;

/// Finalizer of tiers in use.
pub const FINALIZER_TIER: &str = "projectcalico.org/tier-controller";
/// Finalizer of pools with addresses.
pub const FINALIZER_IP_POOL: &str = "projectcalico.org/ippool-finalizer";

/// Pod: first address with its mask, written by the CNI plugin; empty after DEL.
pub const POD_IP: &str = "cni.projectcalico.org/podIP";
/// Pod: all addresses, comma separated.
pub const POD_IPS: &str = "cni.projectcalico.org/podIPs";
/// Pod: container id of the sandbox that holds the address.
pub const POD_CONTAINER_ID: &str = "cni.projectcalico.org/containerID";
/// Pod: addresses as written by the AWS CNI plugin.
pub const POD_IPS_AWS: &str = "vpc.amazonaws.com/pod-ips";
/// Pod or namespace: IPv4 pools to take addresses from, JSON list.
pub const IPV4_POOLS: &str = "cni.projectcalico.org/ipv4pools";
/// Pod or namespace: IPv6 pools to take addresses from, JSON list.
pub const IPV6_POOLS: &str = "cni.projectcalico.org/ipv6pools";
/// Pod: addresses to assign, JSON list.
pub const IP_ADDRS: &str = "cni.projectcalico.org/ipAddrs";
/// Pod: addresses to use without address management, JSON list.
pub const IP_ADDRS_NO_IPAM: &str = "cni.projectcalico.org/ipAddrsNoIpam";
/// Pod: floating addresses, JSON list.
pub const FLOATING_IPS: &str = "cni.projectcalico.org/floatingIPs";
/// Pod: hardware address of the container side.
pub const HW_ADDR: &str = "cni.projectcalico.org/hwAddr";
/// Pod: prefixes that it may send from beside its addresses, JSON list.
pub const ALLOWED_SOURCE_PREFIXES: &str = "cni.projectcalico.org/allowedSourcePrefixes";
/// Prefix of the annotations for quality of service.
pub const QOS_PREFIX: &str = "qos.projectcalico.org/";

/// Node: IPv4 BGP address with its mask.
pub const NODE_IPV4_ADDRESS: &str = "projectcalico.org/IPv4Address";
/// Node: IPv6 BGP address with its mask.
pub const NODE_IPV6_ADDRESS: &str = "projectcalico.org/IPv6Address";
/// Node: AS number.
pub const NODE_AS_NUMBER: &str = "projectcalico.org/ASNumber";
/// Node: cluster id as a route reflector, in the form of an IPv4 address.
pub const NODE_ROUTE_REFLECTOR_CLUSTER_ID: &str = "projectcalico.org/RouteReflectorClusterID";
/// Node: address of the IP-in-IP device.
pub const NODE_IPV4_IPIP_TUNNEL_ADDR: &str = "projectcalico.org/IPv4IPIPTunnelAddr";
/// Node: address of the IPv4 VXLAN device.
pub const NODE_IPV4_VXLAN_TUNNEL_ADDR: &str = "projectcalico.org/IPv4VXLANTunnelAddr";
/// Node: address of the IPv6 VXLAN device.
pub const NODE_IPV6_VXLAN_TUNNEL_ADDR: &str = "projectcalico.org/IPv6VXLANTunnelAddr";
/// Node: hardware address of the IPv4 VXLAN device.
pub const NODE_VXLAN_TUNNEL_MAC_ADDR: &str = "projectcalico.org/VXLANTunnelMACAddr";
/// Node: hardware address of the IPv6 VXLAN device.
pub const NODE_VXLAN_TUNNEL_MAC_ADDR_V6: &str = "projectcalico.org/VXLANTunnelMACAddrV6";
/// Node: address of the IPv4 WireGuard device.
pub const NODE_IPV4_WIREGUARD_INTERFACE_ADDR: &str = "projectcalico.org/IPv4WireguardInterfaceAddr";
/// Node: address of the IPv6 WireGuard device.
pub const NODE_IPV6_WIREGUARD_INTERFACE_ADDR: &str = "projectcalico.org/IPv6WireguardInterfaceAddr";
/// Node: public key of the IPv4 WireGuard device.
pub const NODE_WIREGUARD_PUBLIC_KEY: &str = "projectcalico.org/WireguardPublicKey";
/// Node: public key of the IPv6 WireGuard device.
pub const NODE_WIREGUARD_PUBLIC_KEY_V6: &str = "projectcalico.org/WireguardPublicKeyV6";
/// Node: interfaces with their addresses, JSON.
pub const NODE_INTERFACES: &str = "projectcalico.org/Interfaces";
/// Node: labels that only we see, JSON.
pub const NODE_LABELS: &str = "projectcalico.org/labels";
/// Node: annotations that only we see, JSON.
pub const NODE_ANNOTATIONS: &str = "projectcalico.org/annotations";
/// Node: copy of the Kubernetes labels, JSON; on our Node objects only, never stored.
pub const NODE_KUBE_LABELS: &str = "projectcalico.org/kube-labels";

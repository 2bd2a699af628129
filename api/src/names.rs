//! Names derived from other names: interfaces, resources, chains, IP sets, tunnel addresses.
//!
//! Other components and the state of upgraded clusters know these names; the rules are Calico's
//! (`libcalico-go/lib/names`, `libcalico-go/lib/hash`, `felix/rules`).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ipnet::IpNet;
use sha1::Sha1;
use sha2::{Digest as _, Sha224, Sha256};
use sha3::Sha3_256;

/// Longest name of an iptables chain.
pub const IPTABLES_CHAIN_NAME_MAX: usize = 28;
/// Longest name of an nftables chain.
pub const NFTABLES_CHAIN_NAME_MAX: usize = 256;
/// Longest name of a kernel IP set.
pub const IP_SET_NAME_MAX: usize = 31;
/// Longest name of a Kubernetes object.
const RESOURCE_NAME_MAX: usize = 253;

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Name of the host's end of a pod's veth pair: `prefix` (normally `cali`) and 11 digits of a hash.
#[must_use]
pub fn veth_name_with_prefix(prefix: &str, namespace: &str, pod: &str) -> String {
    let digits = hex(&Sha1::digest(format!("{namespace}.{pod}")));
    format!("{prefix}{}", digits.get(..11).unwrap_or(&digits))
}

/// Name of the host's end of a pod's veth pair.
#[must_use]
pub fn veth_name(namespace: &str, pod: &str) -> String {
    veth_name_with_prefix("cali", namespace, pod)
}

/// Name of the WorkloadEndpoint of a pod: `<node>-k8s-<pod>-eth0`, dashes within node and pod doubled.
#[must_use]
pub fn workload_endpoint_name(node: &str, pod: &str) -> String {
    let escape = |text: &str| text.replace('-', "--");
    format!("{}-k8s-{}-eth0", escape(node), escape(pod))
}

/// A CIDR as part of a resource name: at most 3 dots, 7 colons and a slash become dashes.
#[must_use]
pub fn cidr_name(cidr: &IpNet) -> String {
    cidr.to_string()
        .replacen('.', "-", 3)
        .replacen(':', "-", 7)
        .replacen('/', "-", 1)
}

/// Name of the IPAMBlock of a CIDR.
#[must_use]
pub fn block_name(cidr: &IpNet) -> String {
    cidr_name(cidr)
}

/// Name of the BlockAffinity of an owner and a CIDR. Too long ones are cut and get a hash; the owner can therefore
/// not be read back from the name.
#[must_use]
pub fn affinity_name(host: &str, cidr: &IpNet) -> String {
    const HASH_DIGITS: usize = 11;
    let cidr = cidr_name(cidr);
    let name = format!("{host}-{cidr}");
    if name.len() < RESOURCE_NAME_MAX {
        return name;
    }
    let digits = hex(&Sha256::digest(format!("{host}+{cidr}")));
    let keep = (RESOURCE_NAME_MAX - 1).saturating_sub(cidr.len() + HASH_DIGITS + 2);
    let host = cut(host, keep);
    format!("{host}-{cidr}-{}", cut(&digits, HASH_DIGITS))
}

/// The first `max` bytes of a text, fewer where that would split a character.
fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}

/// Handle of the addresses of a container: `<network>.<container id>`.
#[must_use]
pub fn handle_id(network: &str, container_id: &str) -> String {
    format!("{network}.{container_id}")
}

/// Name of the IPAMHandle of a handle: lower case.
#[must_use]
pub fn handle_name(handle_id: &str) -> String {
    handle_id.to_lowercase()
}

/// Value of the label `projectcalico.org/hostname-hash`: base32 of SHA3-256, without padding.
#[must_use]
pub fn hostname_hash(host: &str) -> String {
    data_encoding::BASE32_NOPAD.encode(&Sha3_256::digest(host))
}

/// `prefix` followed by `suffix`, or by `_` and a hash of `suffix` when that is longer than `max` bytes. A suffix
/// that fits exactly and looks like a hash is hashed too, so that the two cannot collide.
#[must_use]
pub fn limit_length(prefix: &str, suffix: &str, max: usize) -> String {
    let suffix = if suffix.is_empty() { "_" } else { suffix };
    let length = prefix.len() + suffix.len();
    if length < max || (length == max && !suffix.starts_with('_')) {
        return format!("{prefix}{suffix}");
    }
    let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(suffix));
    format!("{prefix}_{}", cut(&hash, max.saturating_sub(prefix.len() + 1)))
}

/// Kind of a policy, as it appears in its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// Calico's NetworkPolicy.
    NetworkPolicy,
    /// GlobalNetworkPolicy.
    GlobalNetworkPolicy,
    /// StagedNetworkPolicy.
    StagedNetworkPolicy,
    /// StagedGlobalNetworkPolicy.
    StagedGlobalNetworkPolicy,
    /// StagedKubernetesNetworkPolicy.
    StagedKubernetesNetworkPolicy,
    /// Kubernetes' NetworkPolicy.
    KubernetesNetworkPolicy,
    /// Kubernetes' ClusterNetworkPolicy.
    KubernetesClusterNetworkPolicy,
    /// Kubernetes' older AdminNetworkPolicy.
    KubernetesAdminNetworkPolicy,
    /// Kubernetes' older BaselineAdminNetworkPolicy.
    KubernetesBaselineAdminNetworkPolicy,
}

impl PolicyKind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::NetworkPolicy,
        Self::GlobalNetworkPolicy,
        Self::StagedNetworkPolicy,
        Self::StagedGlobalNetworkPolicy,
        Self::StagedKubernetesNetworkPolicy,
        Self::KubernetesNetworkPolicy,
        Self::KubernetesClusterNetworkPolicy,
        Self::KubernetesAdminNetworkPolicy,
        Self::KubernetesBaselineAdminNetworkPolicy,
    ];

    /// The name of the kind.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::GlobalNetworkPolicy => "GlobalNetworkPolicy",
            Self::StagedNetworkPolicy => "StagedNetworkPolicy",
            Self::StagedGlobalNetworkPolicy => "StagedGlobalNetworkPolicy",
            Self::StagedKubernetesNetworkPolicy => "StagedKubernetesNetworkPolicy",
            Self::KubernetesNetworkPolicy => "KubernetesNetworkPolicy",
            Self::KubernetesClusterNetworkPolicy => "KubernetesClusterNetworkPolicy",
            Self::KubernetesAdminNetworkPolicy => "KubernetesAdminNetworkPolicy",
            Self::KubernetesBaselineAdminNetworkPolicy => "KubernetesBaselineAdminNetworkPolicy",
        }
    }

    /// The short name that policy ids begin with.
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "np",
            Self::GlobalNetworkPolicy => "gnp",
            Self::StagedNetworkPolicy => "snp",
            Self::StagedGlobalNetworkPolicy => "sgnp",
            Self::StagedKubernetesNetworkPolicy => "sknp",
            Self::KubernetesNetworkPolicy => "knp",
            Self::KubernetesClusterNetworkPolicy => "kcnp",
            Self::KubernetesAdminNetworkPolicy => "kanp",
            Self::KubernetesBaselineAdminNetworkPolicy => "kbanp",
        }
    }

    /// True for the kinds that are never enforced.
    #[must_use]
    pub const fn is_staged(self) -> bool {
        matches!(
            self,
            Self::StagedNetworkPolicy | Self::StagedGlobalNetworkPolicy | Self::StagedKubernetesNetworkPolicy
        )
    }
}

/// Id of a policy: `<short kind>/<namespace>/<name>`, without the namespace for cluster-wide kinds.
#[must_use]
pub fn policy_id(kind: PolicyKind, namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        return format!("{}/{name}", kind.short());
    }
    format!("{}/{namespace}/{name}", kind.short())
}

/// Name of an iptables chain for an id, such as `cali-pi-` and a policy id, or `cali-tw-` and an interface.
#[must_use]
pub fn chain_name(prefix: &str, id: &str) -> String {
    limit_length(prefix, id, IPTABLES_CHAIN_NAME_MAX)
}

/// Name of an nftables chain for an id.
#[must_use]
pub fn nft_chain_name(prefix: &str, id: &str) -> String {
    limit_length(prefix, id, NFTABLES_CHAIN_NAME_MAX)
}

/// Id with a hash: `<prefix>:` and URL-safe base64 of SHA-224 over `<prefix>:<content>`.
#[must_use]
pub fn unique_id(prefix: &str, content: &str) -> String {
    format!(
        "{prefix}:{}",
        URL_SAFE_NO_PAD.encode(Sha224::digest(format!("{prefix}:{content}")))
    )
}

/// Id of the IP set of a selector, given the selector's canonical text.
#[must_use]
pub fn selector_ip_set_id(canonical: &str) -> String {
    unique_id("s", canonical)
}

/// Id of the IP set of a named port of the endpoints of a selector.
#[must_use]
pub fn named_port_ip_set_id(canonical: &str, protocol: &str, port: &str) -> String {
    unique_id(
        "n",
        &format!("{},{protocol},{port}", selector_ip_set_id(canonical)),
    )
}

/// Id of the IP set of a Service, with its ports or without.
#[must_use]
pub fn service_ip_set_id(namespace: &str, name: &str, with_ports: bool) -> String {
    unique_id(
        if with_ports { "svc" } else { "svcnoport" },
        &format!("{namespace}/{name}"),
    )
}

/// IP version of a kernel IP set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Name of the kernel IP set of an id, cut to the kernel's limit.
#[must_use]
pub fn ip_set_name(version: IpVersion, id: &str) -> String {
    let prefix = match version {
        IpVersion::V4 => "cali40",
        IpVersion::V6 => "cali60",
    };
    let name = format!("{prefix}{id}");
    cut(&name, IP_SET_NAME_MAX).to_owned()
}

/// Hardware address of a node's VXLAN device when none is configured.
#[must_use]
pub fn vtep_mac(node: &str, version: IpVersion) -> [u8; 6] {
    let digest = match version {
        IpVersion::V4 => Sha1::digest(node),
        IpVersion::V6 => Sha1::digest(format!("{node}-v6")),
    };
    let mut mac = [b'f'; 6];
    for (target, source) in mac.iter_mut().skip(1).zip(digest) {
        *target = source;
    }
    mac
}

/// UID of an object derived from a Kubernetes object: the bits of every byte reversed, except in the two bytes that
/// carry version and variant. Its own inverse. `None` when the text is no UUID.
#[must_use]
pub fn convert_uid(uid: &str) -> Option<String> {
    let dashes_at = [8, 13, 18, 23];
    let is_uuid = uid.len() == 36
        && uid.bytes().enumerate().all(|(at, byte)| {
            if dashes_at.contains(&at) {
                byte == b'-'
            } else {
                byte.is_ascii_hexdigit()
            }
        });
    if !is_uuid {
        return None;
    }
    let digits: String = uid.chars().filter(|c| *c != '-').collect();
    let mut text = String::with_capacity(36);
    for index in 0..16 {
        let byte = u8::from_str_radix(digits.get(index * 2..index * 2 + 2)?, 16).ok()?;
        let byte = if index == 6 || index == 8 {
            byte
        } else {
            byte.reverse_bits()
        };
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Some(text)
}

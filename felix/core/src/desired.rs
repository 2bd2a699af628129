//! The whole wanted kernel state of this node as plain data, and what of it changed.
//!
//! Owns the contract between the calculation and those who program the kernel. Drivers read [`Desired`], and use
//! [`Dirty`] to look only where something changed. At every flush the state is complete in itself: each set that a
//! rule names and each chain that a rule jumps to is there. Therefore a driver creates and extends sets first, writes
//! tables next, and deletes sets last.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use caracal_api::names;
pub use caracal_api::names::IpVersion;
use caracal_api::net::MacAddress;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::rules::{PortRange, Rule};

/// The wanted state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// IP sets by kernel name (`cali40…`, `cali60…`, at most 31 characters). All of ours; others with our prefixes
    /// (`cali4`, `cali6`) are left-overs.
    pub ip_sets: BTreeMap<String, IpSet>,
    /// Sets of port ranges by [`port_set_name`]: one for each list of several ranges that some criterion
    /// [`Match::Ports`](crate::rules::Match::Ports) has. Ranges of a set are sorted and apart. Only filled for
    /// [`Backend::Nftables`]; all families share them.
    pub port_sets: BTreeMap<String, Vec<PortRange>>,
    /// Tables. All tables of all enabled IP versions are present, also when they are empty.
    pub tables: BTreeMap<TableKey, Table>,
    /// Routes of the main table by destination.
    pub routes: BTreeMap<IpNet, Route>,
    /// Permanent neighbour entries: on which interface, which address, whose hardware address.
    pub neighbours: BTreeMap<(String, IpAddr), MacAddress>,
    /// Workload interfaces that are known, with what each needs when it is up.
    pub interfaces: BTreeMap<String, Interface>,
    /// Kernel parameters of the node.
    pub sysctls: Vec<Sysctl>,
    /// Status files of endpoints by file name (below `<prefix>/endpoint-status/`). To be written once everything of
    /// the flush that made the entry is in the kernel, and removed when the entry goes.
    pub endpoint_statuses: BTreeMap<String, EndpointStatus>,
}

/// A kernel table of one IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableKey {
    /// IP version: `iptables` or `ip6tables`.
    pub version: IpVersion,
    /// The table.
    pub name: TableName,
}

/// Name of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableName {
    /// Before connection tracking.
    Raw,
    /// Before translation.
    Mangle,
    /// Translation.
    Nat,
    /// Filtering.
    Filter,
}

impl TableName {
    /// All tables, in the order in which packets meet them.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Mangle, Self::Nat, Self::Filter];

    /// The name that iptables knows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Filter => "filter",
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wanted in one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Our chains with their rules in order; all names begin with `cali-`. Rules of chains with our prefixes that are
    /// not here are left-overs.
    pub chains: BTreeMap<String, Vec<Rule>>,
    /// Our rules in chains of the kernel (`INPUT`, `FORWARD`, …).
    pub kernel_chains: BTreeMap<String, KernelChain>,
    /// Maps from interface name to the chain that its packets go to, for [`Action::Dispatch`]. Only for backends that
    /// have verdict maps ([`Backend::Nftables`]); the others get trees of chains.
    ///
    /// [`Action::Dispatch`]: crate::rules::Action::Dispatch
    pub maps: BTreeMap<String, BTreeMap<String, String>>,
}

/// What the kernel's tables are written with. Rules, names and verdicts are the same; limits and dispatch differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// iptables, by either of its variants, and IP sets.
    #[default]
    Iptables,
    /// nftables, with its own sets and maps.
    Nftables,
}

impl Backend {
    /// Name of a chain: as written if it fits, otherwise with a hash.
    #[must_use]
    pub fn chain_name(self, prefix: &str, id: &str) -> String {
        match self {
            Self::Iptables => names::chain_name(prefix, id),
            Self::Nftables => names::nft_chain_name(prefix, id),
        }
    }

    /// Ports that one criterion may list (a range counts as two), if there is a limit.
    #[must_use]
    pub const fn port_slots(self) -> Option<usize> {
        match self {
            Self::Iptables => Some(15),
            Self::Nftables => None,
        }
    }
}

/// Name of the set of port ranges that stands for a criterion with several ([`Desired::port_sets`]). The same ranges
/// have the same name.
#[must_use]
pub fn port_set_name(ranges: &[PortRange]) -> String {
    let text: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    let mut name = names::unique_id("ports", &text.join(",")).replace(':', "-");
    // Cut to the length that set names of every backend may have.
    name.truncate(IP_SET_NAME_LEN_MAX);
    name
}

/// Longest name of an IP set.
const IP_SET_NAME_LEN_MAX: usize = 31;

/// Our rules in a chain that is not ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelChain {
    /// Rules at the beginning of the chain.
    pub inserted: Vec<Rule>,
    /// Rules at the end of the chain.
    pub appended: Vec<Rule>,
}

/// Kind of an IP set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpSetKind {
    /// Addresses.
    HashIp,
    /// Prefixes.
    HashNet,
    /// Address, protocol and port.
    HashIpPort,
    /// Prefix, protocol and port.
    HashNetPort,
}

impl IpSetKind {
    /// The kernel's name of the type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HashIp => "hash:ip",
            Self::HashNet => "hash:net",
            Self::HashIpPort => "hash:ip,port",
            Self::HashNetPort => "hash:net,port",
        }
    }
}

impl fmt::Display for IpSetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An IP set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpSet {
    /// Kind of its members.
    pub kind: IpSetKind,
    /// Family of its members.
    pub version: IpVersion,
    /// Most members that the kernel is to admit.
    pub max_members: u32,
    /// Members, all of that kind and family. No prefix has length 0, which the kernel refuses: the two halves stand
    /// for it. Prefixes of one set may contain each other ([`Cover`](crate::cover::Cover) helps those who may not
    /// write such sets).
    pub members: BTreeSet<IpSetMember>,
}

/// A member of an IP set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpSetMember {
    /// Of `hash:ip`.
    Ip(IpAddr),
    /// Of `hash:net`.
    Net(IpNet),
    /// Of `hash:ip,port`.
    IpPort {
        /// Address.
        address: IpAddr,
        /// IP protocol number: 6, 17, 132 or 136.
        protocol: u8,
        /// Port.
        port: u16,
    },
    /// Of `hash:net,port`.
    NetPort {
        /// Prefix.
        net: IpNet,
        /// IP protocol number: 6, 17, 132 or 136.
        protocol: u8,
        /// Port.
        port: u16,
    },
}

impl IpSetMember {
    /// Family of the member.
    #[must_use]
    pub const fn version(&self) -> IpVersion {
        let is_v4 = match self {
            Self::Ip(address) | Self::IpPort { address, .. } => address.is_ipv4(),
            Self::Net(net) | Self::NetPort { net, .. } => matches!(net, IpNet::V4(_)),
        };
        if is_v4 { IpVersion::V4 } else { IpVersion::V6 }
    }
}

impl fmt::Display for IpSetMember {
    /// The form that the `ipset` program reads and writes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Self::Net(net) => net.fmt(f),
            Self::IpPort {
                address,
                protocol,
                port,
            } => write!(f, "{address},{}:{port}", protocol_word(*protocol)),
            Self::NetPort { net, protocol, port } => {
                write!(f, "{},{}:{port}", Self::Net(*net), protocol_word(*protocol))
            }
        }
    }
}

/// A protocol as the `ipset` program has it.
fn protocol_word(number: u8) -> Cow<'static, str> {
    match number {
        6 => "tcp".into(),
        17 => "udp".into(),
        132 => "sctp".into(),
        136 => "udplite".into(),
        other => other.to_string().into(),
    }
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What it does.
    pub target: RouteTarget,
    /// Route protocol number.
    pub protocol: u8,
    /// Metric; `None` = the kernel's default.
    pub metric: Option<u32>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// To an interface of ours, scope link. Waits until that interface is up.
    Interface(String),
    /// Nowhere: packets to unassigned addresses of an own block must not leave by the default route.
    Blackhole,
    /// To another node, `onlink`, by the interface that has the given address of this node.
    ViaNode {
        /// The other node.
        gateway: IpAddr,
        /// An address of this node.
        own_address: IpAddr,
    },
    /// To another node through a tunnel device, `onlink`.
    ViaTunnel {
        /// Next hop: the other node for `tunl0`, the other tunnel end for VXLAN.
        gateway: IpAddr,
        /// Name of the device.
        device: String,
    },
}

/// What an interface needs when it is up, again after each time it comes up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Kernel parameters.
    pub sysctls: Vec<Sysctl>,
    /// Limit of the bandwidth to the workload: to be shaped on the host's end.
    pub to_workload: Option<Bandwidth>,
    /// Limit of the bandwidth from the workload: to be shaped behind a redirection.
    pub from_workload: Option<Bandwidth>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Bits per second.
    pub rate: u64,
    /// Bits that may pass at once.
    pub burst: u64,
    /// Bits per second within a burst; none = no limit.
    pub peak_rate: Option<u64>,
    /// Bytes that may pass at once at peak rate.
    pub min_burst: Option<u64>,
}

/// A kernel parameter below `/proc/sys`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sysctl {
    /// Path components: device names may contain dots.
    pub path: Vec<String>,
    /// The value to write.
    pub value: String,
    /// True when the node works without it (say it once, go on).
    pub is_optional: bool,
}

/// Content of an endpoint's status file, in Calico's form (`libcalico-go/lib/epstatusfile`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointStatus {
    /// Interface name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub iface_name: String,
    /// Hardware address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// IPv4 addresses, as /32.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ipv4_nets: Vec<String>,
    /// IPv6 addresses, as /128.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ipv6_nets: Vec<String>,
    /// Name of the BGP peer resource that the workload is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bgp_peer_name: String,
}

/// What changed in [`Desired`] since the flush before. A key that is named here and not in `Desired` was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Sets with what became of their members.
    pub ip_sets: BTreeMap<String, IpSetChange>,
    /// Chains of ours that are new, different or gone.
    pub chains: BTreeMap<TableKey, BTreeSet<String>>,
    /// Maps with the interfaces whose entry is new, different or gone.
    pub maps: BTreeMap<TableKey, BTreeMap<String, BTreeSet<String>>>,
    /// Sets of port ranges that are new or gone.
    pub port_sets: BTreeSet<String>,
    /// Kernel chains in which our rules changed.
    pub kernel_chains: BTreeMap<TableKey, BTreeSet<String>>,
    /// Destinations.
    pub routes: BTreeSet<IpNet>,
    /// Neighbour entries.
    pub neighbours: BTreeSet<(String, IpAddr)>,
    /// Interfaces.
    pub interfaces: BTreeSet<String>,
    /// Kernel parameters of the node.
    pub sysctls: bool,
    /// Status files.
    pub endpoint_statuses: BTreeSet<String>,
    /// Addresses that no longer belong to the workload interface they were routed to. Connection tracking entries
    /// with them go before the address is routed anew.
    pub released_addresses: BTreeSet<IpAddr>,
    /// The effective configuration ([`Core::configuration`](crate::Core::configuration)).
    pub configuration: bool,
    /// The list of problems ([`Core::problems`](crate::Core::problems)).
    pub problems: bool,
}

impl Dirty {
    /// True when nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What became of an IP set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpSetChange {
    /// It is new, or its kind or size changed: replace it as a whole.
    Replaced,
    /// Its members changed.
    Members {
        /// Members that are new.
        added: BTreeSet<IpSetMember>,
        /// Members that are gone.
        removed: BTreeSet<IpSetMember>,
    },
    /// It is gone.
    Removed,
}

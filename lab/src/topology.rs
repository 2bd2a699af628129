//! What a lab consists of: the machines, their names and their addresses.
//!
//! Pure: options in, a plan out. It never touches the kernel or a file, so that every refusal happens before
//! anything is changed. The plan is stored in the lab's directory and read by every later verb.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// AS number of the nodes.
pub const CLUSTER_AS: u32 = 64512;
/// AS number of the top-of-rack router.
pub const TOR_AS: u32 = 64601;
/// The pool from which pods get addresses.
pub const POD_POOL: &str = "10.244.0.0/16";
/// Port of the API server in the fabric.
pub const API_FABRIC_PORT: u16 = 6443;
/// Most nodes one lab may have: the rack's /24 holds no more beside the router and the API.
pub const NODES_MAX: u16 = 100;

const RACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(172, 30, 0, 0), 24);
const BEHIND: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(172, 31, 0, 0), 24);

/// The top-of-rack router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tor {
    /// BIRD 2.
    Bird,
    /// FRRouting.
    Frr,
    /// No BGP router: the rack only forwards to addresses it is given.
    None,
}

/// What felix programs policy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// iptables with ipsets.
    Iptables,
    /// nftables.
    Nftables,
}

/// The address families pods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Families {
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// Both.
    Dual,
}

/// Which API server the lab starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kube {
    /// Caracal's own.
    Embedded,
    /// kube-apiserver and etcd.
    Real,
}

/// The daemons of a node, which a developer may leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Component {
    /// caracal-felix.
    Felix,
    /// caracal-bgpd.
    Bgpd,
}

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Number of nodes.
    pub nodes: u16,
    /// The top-of-rack router.
    pub tor: Tor,
    /// Policy backend.
    pub backend: Backend,
    /// Address families.
    pub families: Families,
    /// API server.
    pub kube: Kube,
    /// Port of the API server on the host's loopback; a free one when absent.
    pub api_port: Option<u16>,
    /// Daemons left out (for development).
    pub without: Vec<Component>,
    /// Seconds `up` waits for everything to be ready.
    pub timeout_seconds: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 3,
            tor: Tor::Bird,
            backend: Backend::Iptables,
            families: Families::Ipv4,
            kube: Kube::Embedded,
            api_port: None,
            without: Vec::new(),
            timeout_seconds: 60,
        }
    }
}

/// An option that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// The number of nodes is out of range.
    #[error("--nodes {0}: a lab has 1 to {NODES_MAX} nodes")]
    Nodes(u16),
    /// The choice is known but not built.
    #[error("{option} {value}: not built yet; use {option} {instead}")]
    NotBuilt {
        /// The option.
        option: &'static str,
        /// The value asked for.
        value: &'static str,
        /// What works today.
        instead: &'static str,
    },
}

/// What kind of machine a namespace plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A Kubernetes node.
    Node,
    /// The top-of-rack router, which also carries the API server's fabric address.
    Tor,
    /// The host behind the router.
    Outside,
}

/// One machine: a set of namespaces with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Name, which is its host name too.
    pub name: String,
    /// What it plays.
    pub role: Role,
    /// Name of its network namespace under /run/netns.
    pub netns: String,
    /// Its address in the fabric.
    pub address: Ipv4Addr,
}

/// The whole lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Short identity, derived from the directory; part of every name outside it.
    pub id: String,
    /// Directory that holds the lab's state.
    pub dir: PathBuf,
    /// What was asked for.
    pub options: Options,
    /// Nodes in order, then the router and the outside host.
    pub machines: Vec<Machine>,
    /// Port of the API server on the host's loopback.
    pub api_port: u16,
    /// Path of each program the lab starts.
    pub programs: BTreeMap<String, PathBuf>,
}

impl Options {
    /// Refuses what is not built, one option at a time.
    ///
    /// # Errors
    /// The first option that cannot be served.
    pub fn validate(&self) -> Result<(), OptionError> {
        if self.nodes == 0 || self.nodes > NODES_MAX {
            return Err(OptionError::Nodes(self.nodes));
        }
        let not_built = |option, value, instead| {
            Err(OptionError::NotBuilt {
                option,
                value,
                instead,
            })
        };
        match self.tor {
            Tor::Bird | Tor::None => {}
            Tor::Frr => return not_built("--tor", "frr", "bird"),
        }
        match self.families {
            Families::Ipv4 => {}
            Families::Ipv6 => return not_built("--families", "ipv6", "ipv4"),
            Families::Dual => return not_built("--families", "dual", "ipv4"),
        }
        Ok(())
    }

    /// Whether a daemon is started.
    #[must_use]
    pub fn runs(&self, component: Component) -> bool {
        !self.without.contains(&component)
    }
}

impl Plan {
    /// Lays out the lab of a directory.
    ///
    /// # Errors
    /// An option that cannot be served.
    pub fn new(dir: &Path, options: &Options) -> Result<Self, OptionError> {
        options.validate()?;
        let id = short_id(dir);
        let machine = |name: String, role, address| Machine {
            netns: netns_name(&id, &name),
            name,
            role,
            address,
        };
        let mut machines: Vec<Machine> = (1..=options.nodes)
            .map(|n| machine(format!("node-{n}"), Role::Node, node_address(n)))
            .collect();
        machines.push(machine("tor".to_owned(), Role::Tor, tor_address()));
        machines.push(machine("outside".to_owned(), Role::Outside, outside_address()));
        Ok(Self {
            id: id.clone(),
            dir: dir.to_owned(),
            options: options.clone(),
            machines,
            api_port: options.api_port.unwrap_or(0),
            programs: BTreeMap::new(),
        })
    }

    /// The nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = &Machine> {
        self.machines.iter().filter(|m| m.role == Role::Node)
    }

    /// A machine by name.
    #[must_use]
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        self.machines.iter().find(|m| m.name == name)
    }

    /// The machine that owns an address of the fabric or of the outside host.
    #[must_use]
    pub fn machine_at(&self, address: IpAddr) -> Option<&Machine> {
        self.machines.iter().find(|m| IpAddr::V4(m.address) == address)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Felix => "felix",
            Self::Bgpd => "bgpd",
        })
    }
}

/// The rack's network.
#[must_use]
pub const fn rack() -> Ipv4Net {
    RACK
}

/// The network behind the router.
#[must_use]
pub const fn behind() -> Ipv4Net {
    BEHIND
}

/// The router's address in the rack.
#[must_use]
pub const fn tor_address() -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, 1)
}

/// The router's address toward the outside host.
#[must_use]
pub const fn tor_outside_address() -> Ipv4Addr {
    Ipv4Addr::new(172, 31, 0, 1)
}

/// The outside host's own address.
#[must_use]
pub const fn outside_address() -> Ipv4Addr {
    Ipv4Addr::new(172, 31, 0, 10)
}

/// The API server's address in the fabric.
#[must_use]
pub const fn api_address() -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, 254)
}

fn node_address(n: u16) -> Ipv4Addr {
    // `validate` keeps n at NODES_MAX or below, so the last octet does not overflow.
    Ipv4Addr::new(172, 30, 0, 10 + u8::try_from(n).unwrap_or(u8::MAX - 10))
}

/// Why a further address cannot be given to the outside host; `None` when it can.
#[must_use]
pub fn refuse_outside_address(address: IpAddr, pools: &[ipnet::IpNet]) -> Option<String> {
    let IpAddr::V4(v4) = address else {
        return Some(format!(
            "outside:{address}: the lab has IPv4 only; give an IPv4 address"
        ));
    };
    if v4.is_loopback() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() || v4.is_link_local()
    {
        return Some(format!(
            "outside:{address}: not a unicast address a host can have; give another"
        ));
    }
    if RACK.contains(&v4) {
        return Some(format!(
            "outside:{address}: belongs to the fabric {RACK}; give an address outside it"
        ));
    }
    if v4 == tor_outside_address() || v4 == BEHIND.network() || v4 == BEHIND.broadcast() {
        return Some(format!(
            "outside:{address}: taken in the router's network {BEHIND}; give another"
        ));
    }
    if let Some(pool) = pools.iter().find(|pool| pool.contains(&address)) {
        return Some(format!(
            "outside:{address}: belongs to the pod pool {pool}; give an address outside it"
        ));
    }
    None
}

/// Six hexadecimal digits that stand for a directory.
#[must_use]
pub fn short_id(dir: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let digest = Sha256::digest(dir.as_os_str().as_bytes());
    digest.iter().take(3).map(|byte| format!("{byte:02x}")).collect()
}

/// Prefix of every network namespace of a lab.
#[must_use]
pub fn netns_prefix(id: &str) -> String {
    format!("caracal-{id}-")
}

fn netns_name(id: &str, machine: &str) -> String {
    format!("{}{machine}", netns_prefix(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(nodes: u16) -> Plan {
        Plan::new(
            Path::new("/run/x"),
            &Options {
                nodes,
                ..Options::default()
            },
        )
        .unwrap()
    }

    #[test]
    fn three_nodes_get_consecutive_addresses_and_names_with_the_labs_id() {
        let plan = plan(3);
        let seen: Vec<_> = plan
            .nodes()
            .map(|m| (m.name.as_str(), m.address.to_string()))
            .collect();
        assert_eq!(
            seen,
            [
                ("node-1", "172.30.0.11".to_owned()),
                ("node-2", "172.30.0.12".to_owned()),
                ("node-3", "172.30.0.13".to_owned())
            ]
        );
        let id = short_id(Path::new("/run/x"));
        assert_eq!(plan.machine("tor").unwrap().netns, format!("caracal-{id}-tor"));
        assert_eq!(
            plan.machine_at("172.31.0.10".parse().unwrap()).unwrap().name,
            "outside"
        );
    }

    #[test]
    fn two_directories_have_different_ids() {
        assert_ne!(short_id(Path::new("/run/a")), short_id(Path::new("/run/b")));
    }

    #[test]
    fn what_is_not_built_is_refused_in_one_line() {
        let cases = [
            (
                Options {
                    nodes: 0,
                    ..Options::default()
                },
                "--nodes 0: a lab has 1 to 100 nodes",
            ),
            (
                Options {
                    nodes: 101,
                    ..Options::default()
                },
                "--nodes 101: a lab has 1 to 100 nodes",
            ),
            (
                Options {
                    tor: Tor::Frr,
                    ..Options::default()
                },
                "--tor frr: not built yet; use --tor bird",
            ),
            (
                Options {
                    families: Families::Dual,
                    ..Options::default()
                },
                "--families dual: not built yet; use --families ipv4",
            ),
        ];
        for (options, message) in cases {
            assert_eq!(options.validate().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn the_highest_node_stays_below_the_api_address() {
        assert_eq!(
            plan(NODES_MAX).nodes().last().unwrap().address.to_string(),
            "172.30.0.110"
        );
    }

    #[test]
    fn outside_addresses_of_the_fabric_and_the_pools_are_refused() {
        let pools = [POD_POOL.parse().unwrap()];
        for bad in [
            "172.30.0.77",
            "172.31.0.1",
            "10.244.3.4",
            "127.0.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "::1",
        ] {
            assert!(
                refuse_outside_address(bad.parse().unwrap(), &pools).is_some(),
                "{bad}"
            );
        }
        for good in [
            "172.31.0.10",
            "172.31.0.20",
            "203.0.113.7",
            "8.8.8.8",
            "10.10.0.1",
        ] {
            assert_eq!(
                refuse_outside_address(good.parse().unwrap(), &pools),
                None,
                "{good}"
            );
        }
    }
}

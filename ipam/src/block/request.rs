//! What is asked of a block, and for whom.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// Addresses that may not be assigned although they are free.
pub trait Reserved {
    /// True when the address is reserved.
    fn is_reserved(&self, address: IpAddr) -> bool;
}

impl Reserved for [IpNet] {
    fn is_reserved(&self, address: IpAddr) -> bool {
        self.iter().any(|net| net.contains(&address))
    }
}

/// Who takes addresses, as blocks name their owners: `host:<node>` or `virtual:<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(pub String);

impl Owner {
    /// A node.
    #[must_use]
    pub fn host(node: &str) -> Self {
        Self(format!("host:{node}"))
    }

    /// An owner that is no node, such as `load-balancer`.
    #[must_use]
    pub fn virtual_(name: &str) -> Self {
        Self(format!("virtual:{name}"))
    }

    /// Kind of owner and its name.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        self.0.split_once(':').unwrap_or(("host", &self.0))
    }
}

/// For whom addresses are taken.
#[derive(Clone, Debug)]
pub struct Assignment<'a> {
    /// The owner that asks.
    pub owner: &'a Owner,
    /// The handle.
    pub handle: Option<&'a str>,
    /// Attributes stored with the addresses.
    pub attributes: &'a BTreeMap<String, String>,
    /// Refuse blocks of other owners.
    pub strict: bool,
}

/// An address to release, and what must hold for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The address.
    pub address: IpAddr,
    /// The handle that must hold it.
    pub handle: Option<String>,
    /// The sequence number that it must have been assigned with.
    pub sequence_number: Option<u64>,
}

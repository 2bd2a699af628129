//! What can go wrong with addresses; each message names the address or block and what to do.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

/// Result of an operation on addresses.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A refused operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stored block cannot be used.
    #[error("block {cidr:?} is damaged: {problem}; see `caracalctl ipam check`")]
    DamagedBlock {
        /// The block's CIDR as stored.
        cidr: String,
        /// What is wrong.
        problem: String,
    },
    /// Strict affinity forbids this node to take addresses from the block.
    #[error(
        "block affinity ({affinity}) of {cidr} does not match provided ({owner}); turn strictAffinity off, or add an IPPool"
    )]
    WrongAffinity {
        /// The block.
        cidr: IpNet,
        /// Its affinity; `none` without one.
        affinity: String,
        /// Who asked.
        owner: String,
    },
    /// Somebody holds the address.
    #[error(
        "address {address} is already assigned in block {cidr}; ask for another one, or release it first"
    )]
    AlreadyAssigned {
        /// The address.
        address: IpAddr,
        /// Its block.
        cidr: IpNet,
    },
    /// The address is of another block.
    #[error("address {address} is not in block {cidr}")]
    OutsideBlock {
        /// The address.
        address: IpAddr,
        /// The block.
        cidr: IpNet,
    },
    /// The address is held under another handle than the release named.
    #[error(
        "address {address} is held by handle {held:?}, not {wanted:?}; it was assigned anew and is left alone"
    )]
    BadHandle {
        /// The address.
        address: IpAddr,
        /// The handle in the block.
        held: String,
        /// The handle of the request.
        wanted: String,
    },
    /// The address was assigned anew since the caller looked.
    #[error(
        "address {address} has sequence number {held}, not {wanted}; it was assigned anew and is left alone"
    )]
    BadSequenceNumber {
        /// The address.
        address: IpAddr,
        /// The number in the block.
        held: u64,
        /// The number of the request.
        wanted: u64,
    },
    /// The handle holds fewer addresses of the block than should be taken off.
    #[error(
        "handle {handle:?} counts {held} addresses in block {block}, fewer than {wanted}; see `caracalctl ipam check`"
    )]
    HandleUnderflow {
        /// The handle.
        handle: String,
        /// The block.
        block: IpNet,
        /// The stored count.
        held: i32,
        /// The count to take off.
        wanted: i32,
    },
    /// A request to the API server failed.
    #[error(transparent)]
    Datastore(#[from] caracal_datastore::Error),
    /// Others changed the same objects each time that this program tried.
    #[error(
        "max retries hit - excessive concurrent IPAM requests: {what} changed {attempts} times while it was written; try again"
    )]
    Contended {
        /// The object that could not be written.
        what: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The node is not in the cluster.
    #[error(
        "node {node:?} does not exist; check the node name of the CNI configuration against `kubectl get nodes`"
    )]
    UnknownNode {
        /// The name.
        node: String,
    },
    /// No pool of the family is there, or none may be used.
    #[error(
        "cannot find a qualified ippool: no enabled IPPool for {family}; make one, or see `caracalctl get ippool -o wide` for disabled ones"
    )]
    NoPools {
        /// The address family.
        family: Family,
    },
    /// Pools exist, but none is for this node and namespace.
    #[error(
        "no configured Calico pools for node {node}: of {pools}, none selects the node and the pod's namespace for automatic assignment; check nodeSelector, namespaceSelector and assignmentMode"
    )]
    NoPoolSelected {
        /// The node.
        node: String,
        /// The pools that exist.
        pools: String,
    },
    /// Pools are there, but not for this use.
    #[error(
        "cannot find a qualified ippool, no pools match the required use ({use_}): {pools}; add {use_} to allowedUses of one of them, or make another pool"
    )]
    WrongUse {
        /// The use.
        use_: String,
        /// The pools that exist.
        pools: String,
    },
    /// A pool that was asked for cannot be used.
    #[error("the given pool ({pool}) does not exist, or is not enabled; the enabled ones are: {known}")]
    UnknownPool {
        /// The pool as asked for: name or CIDR.
        pool: String,
        /// The pools that could have been asked for.
        known: String,
    },
    /// A pool of the other family was asked for.
    #[error("provided {family} IPPools list contains one or more {} IPPools: {pool}; name it in the other list", family.other())]
    WrongFamily {
        /// The family of the list.
        family: Family,
        /// The pool.
        pool: String,
    },
    /// A selector of a pool cannot be read.
    #[error("IPPool {pool}: {field} {value:?} is no selector: {problem}")]
    BadSelector {
        /// The pool's name.
        pool: String,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        problem: String,
    },
    /// Not enough free addresses.
    #[error(
        "Assigned {assigned} out of {requested} requested {family} addresses; {}; {fullness}; add an IPPool, release addresses, or see `caracalctl ipam show --show-blocks`",
        reasons.join("; ")
    )]
    Short {
        /// The address family.
        family: Family,
        /// How many were free; they were given back.
        assigned: usize,
        /// How many were asked for.
        requested: usize,
        /// Why there were no more.
        reasons: Vec<String>,
        /// How full each pool is.
        fullness: String,
    },
    /// The node has as many blocks as it may.
    #[error(
        "cannot allocate new block due to per host block limit: node {node} has {limit} {family} blocks, which are full; raise maxBlocksPerHost of the IPAMConfiguration, or use larger blocks"
    )]
    BlockLimit {
        /// The node.
        node: String,
        /// The most blocks of the family.
        limit: usize,
        /// The address family.
        family: Family,
    },
    /// The address is in no pool.
    #[error("the provided IP address {address} is not in a configured pool; the enabled ones are: {known}")]
    NotInPool {
        /// The address.
        address: IpAddr,
        /// The pools.
        known: String,
    },
    /// The address's pool is not for this use.
    #[error(
        "IP address {address} is in IP pool {pool:?}, which is not allowed for use {use_} (allowedUses: {allowed}); ask for an address of another pool, or change allowedUses"
    )]
    AddressWrongUse {
        /// The address.
        address: IpAddr,
        /// The pool's name.
        pool: String,
        /// The use.
        use_: String,
        /// What the pool may be used for.
        allowed: String,
    },
    /// Nobody made the handle, or everything under it was released.
    #[error("handle {handle:?} holds no addresses")]
    UnknownHandle {
        /// The handle.
        handle: String,
    },
    /// The block is of another owner.
    #[error("{cidr} already claimed by {owner}")]
    Claimed {
        /// The block.
        cidr: IpNet,
        /// Its owner; `none` without one.
        owner: String,
    },
    /// The block has addresses and was to be released only without.
    #[error("block '{cidr}' is not empty; release its addresses first")]
    NotEmpty {
        /// The block.
        cidr: IpNet,
    },
    /// A block outside all pools, or not of their block size, was to be claimed.
    #[error(
        "the requested CIDR ({cidr}) is not a block of any configured pool; the enabled ones are: {known}"
    )]
    NoSuchBlock {
        /// The block asked for.
        cidr: IpNet,
        /// The pools.
        known: String,
    },
    /// A release by address alone was asked for of an address that a node may give out while nobody can tell it.
    #[error(
        "address {address} is set aside by node {node} for pods that start while the API server is away; drain the node's reserve, or delete the Node and run `caracalctl ipam check --fix`"
    )]
    SetAside {
        /// The address.
        address: IpAddr,
        /// The node.
        node: String,
    },
    /// The node has not enough addresses set aside.
    #[error(
        "the API server is away, and node {node} has {available} of {requested} {family} addresses set aside for that time; try again when it is back, or raise the reserve"
    )]
    ReserveShort {
        /// The address family.
        family: &'static str,
        /// How many are set aside.
        available: usize,
        /// How many were asked for.
        requested: usize,
        /// The node.
        node: String,
    },
    /// What the node notes about addresses that it set aside cannot be read or written.
    #[error("cannot use the reserve's journal {}: {problem}; check that the disk has room and the folder may be written", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file that orders the plugins of one host cannot be used.
    #[error("cannot lock {}: {problem}; check that the directory exists and may be written", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl Error {
    /// What was asked for does not exist: for a release, nothing is left to do.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::UnknownHandle { .. } => true,
            Self::Datastore(error) => error.is_not_found() && !error.is_unknown_kind(),
            _ => false,
        }
    }

    /// The same call may succeed later without anybody doing something.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Contended { .. } => true,
            Self::Datastore(error) => error.is_transient(),
            _ => false,
        }
    }

    /// No address, or no further block, can be had from the pools that may be used.
    #[must_use]
    pub const fn is_exhausted(&self) -> bool {
        matches!(self, Self::Short { .. } | Self::BlockLimit { .. })
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of a prefix.
    #[must_use]
    pub const fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }

    /// The other family.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// The version as labels have it.
    #[must_use]
    pub const fn digit(self) -> &'static str {
        match self {
            Self::V4 => "4",
            Self::V6 => "6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPv{}", self.digit())
    }
}

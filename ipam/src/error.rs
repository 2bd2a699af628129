//! What can go wrong with addresses; each message names the address or block and what to do.

use std::net::IpAddr;

use ipnet::IpNet;

/// Result of an operation on addresses.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A refused operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
}

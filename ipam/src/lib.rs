//! Blocks, affinities, handles: the address allocator.
//!
//! Owns who has which address, in the form in which Calico stores it. The arithmetic of blocks and handles and the
//! choice of pools are pure; around them are compare-and-swap loops with a bound. Never touches the kernel.
//! Source of the rules: Calico's `libcalico-go/lib/ipam`.

mod affinities;
mod ahead;
mod assign_ip;
mod attempts;
mod auto_assign;
mod block;
mod blocks;
pub mod check;
mod claim;
mod client;
mod clock;
mod error;
mod express;
mod handle;
mod handles;
mod job;
mod lock;
mod pools;
mod release;
pub mod reserve;
#[cfg(test)]
mod sim;
mod step;
mod store;
mod take;
mod utilization;

pub use affinities::ReleasedAffinities;
pub use block::{Assignment, Block, Owner, Release, Reserved};
pub use client::{AddressOwner, AssignIp, Assigned, AutoAssign, Ipam};
pub use error::{Error, Family, Result};
pub use express::{Express, Known, Quick, Snapshot};
pub use handle::Handle;
pub use lock::HostLock;
pub use release::Released;
pub use utilization::{BlockUsage, Borrowed, PoolUsage, Usage, Utilization};

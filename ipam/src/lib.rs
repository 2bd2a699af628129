//! Blocks, affinities, handles: the address allocator.
//!
//! Owns the arithmetic of blocks and handles in the form in which Calico stores them. The arithmetic is pure: no
//! request, no clock; the time is an argument.
//! Source of the rules: Calico's `libcalico-go/lib/ipam`.

mod block;
mod error;
mod handle;

pub use block::{Assignment, Block, Owner, Release, Reserved};
pub use error::{Error, Result};
pub use handle::Handle;

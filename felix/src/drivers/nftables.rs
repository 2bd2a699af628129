//! The table `calico` of each family: what is wanted of it, compared with what the kernel has, in transactions.
//!
//! Owns how rules and sets of the model are said in the kernel's expressions and elements ([`lower`], [`elements`]),
//! and the order of a change ([`round`]). No program is started.
//!
//! # Ownership
//! The table `calico` of the families ip and ip6 is ours with all that is in it; no other table is read or changed. A
//! rule is recognised by the hash in its comment, sets and maps by their elements, chains by their names.

pub mod elements;
pub mod lower;
pub mod round;
pub mod wanted;
pub mod writer;

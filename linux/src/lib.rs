//! The kernel: links, addresses, routes, rules, neighbours, sets, namespaces, sysctls.
//!
//! Owns every netlink message and every `/proc/sys` access of the project; nobody else speaks to the kernel's
//! configuration interfaces. It knows nothing about Kubernetes or Calico: plain data in, plain data out.
//! Sources: `linux/rtnetlink.h`, `linux/netfilter/ipset/ip_set.h`, `linux/netfilter/nfnetlink_conntrack.h`, `linux/tcp.h`.

pub mod conntrack;
pub mod datagram;
pub mod error;
pub mod handover;
pub mod ipset;
pub mod netlink;
pub mod netns;
pub mod nflog;
mod nfnetlink;
pub mod nftables;
pub mod sys;
pub mod sysctl;

pub use error::{Errno, Error, Result};
pub use ipnet;

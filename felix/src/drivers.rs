//! One module for each kind of kernel object, each with its ownership test.

pub mod ipsets;
pub mod iptables;
pub mod nftables;
pub mod refused;
pub mod routes;
pub mod sysctls;

//! The kinds of `projectcalico.org/v3`, in the JSON shape that users and other components write.
//!
//! Reading is tolerant: a value this build does not know (a newer enum member, a port that does not parse) is kept
//! and written back as it was. Refusing bad values is the business of [`validate`](crate::validate) and of the CRD
//! schemas.
//!
//! In every struct an optional field that is absent, empty, zero or false is left out of the output, as the Go
//! types do with `omitempty`; `null` reads as absent.

#[macro_use]
mod model;

mod bgp_configuration;
mod bgp_peer;
mod cluster_information;
mod felix_configuration;
mod ip_pool;
mod ipam;
mod network_policy;
mod network_set;
pub mod rule;
mod scalar;
mod tier;

pub use bgp_configuration::*;
pub use bgp_peer::*;
pub use cluster_information::*;
pub use felix_configuration::*;
pub use ip_pool::*;
pub use ipam::*;
pub use network_policy::*;
pub use network_set::*;
pub use rule::{
    Action, EntityRule, HttpMatch, HttpPath, Icmp, Port, Protocol, Rule, RuleMetadata, ServiceAccountMatch,
    ServiceMatch,
};
pub use scalar::{AsNumber, GoDuration, LogLevel};
pub use tier::*;

/// The API group of all kinds.
pub const GROUP: &str = "projectcalico.org";
/// The API version of all kinds.
pub const VERSION: &str = "v3";
/// `apiVersion` of all kinds.
pub const API_VERSION: &str = "projectcalico.org/v3";

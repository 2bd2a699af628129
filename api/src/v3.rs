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
mod bgp_filter;
mod bgp_peer;
mod cluster_information;
mod felix_configuration;
mod host_endpoint;
mod ip_pool;
mod ip_reservation;
mod ipam;
mod kube_controllers_configuration;
mod network_policy;
mod network_set;
mod node_status;
pub mod rule;
mod scalar;
mod staged_policy;
mod tier;

pub use bgp_configuration::*;
pub use bgp_filter::*;
pub use bgp_peer::*;
pub use cluster_information::*;
pub use felix_configuration::*;
pub use host_endpoint::*;
pub use ip_pool::*;
pub use ip_reservation::*;
pub use ipam::*;
pub use kube_controllers_configuration::*;
pub use network_policy::*;
pub use network_set::*;
pub use node_status::*;
pub use rule::{
    Action, EntityRule, HttpMatch, HttpPath, Icmp, Port, Protocol, Rule, RuleMetadata, ServiceAccountMatch,
    ServiceMatch,
};
pub use scalar::{AsNumber, GoDuration, LogLevel};
pub use staged_policy::*;
pub use tier::*;

/// The API group of all kinds.
pub const GROUP: &str = "projectcalico.org";
/// The API version of all kinds.
pub const VERSION: &str = "v3";
/// `apiVersion` of all kinds.
pub const API_VERSION: &str = "projectcalico.org/v3";

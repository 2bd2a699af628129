//! The resource model: kinds, defaults, validation, selectors, names and conversions.
//!
//! Owns what every other package agrees on: the `projectcalico.org/v3` types with their exact JSON shapes, the
//! objects derived from Pods, Nodes, Namespaces and ServiceAccounts, the selector language, and names.
//! Never does I/O, never reads a clock.

pub mod admission;
pub mod confirmation;
pub mod crd;
pub mod k8s_policy;
pub mod kinds;
pub mod meta;
pub mod names;
pub mod net;
pub mod policy_selector;
pub mod routing;
pub mod selector;
pub mod v3;
pub mod validate;
pub mod virtual_;
pub mod yaml;

//! From objects to what concerns this node: labels, sets, policies, endpoints.

pub mod compile;
pub mod label_index;
pub mod model;
pub mod sets;
